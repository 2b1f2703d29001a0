// Data, elements, numbers, and the one selected layer that every part of the page shows.

const profile = JSON.parse(document.getElementById("data").textContent);
const layers = profile.layers;
const byName = new Map(layers.map((layer) => [layer.name, layer]));
const readers = new Map(layers.map((layer) => [layer.name, []]));
for (const layer of layers) for (const name of new Set(layer.inputs)) readers.get(name).push(layer.name);

const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Text is always a text node: a layer's name can hold whatever it likes.
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const grouped = new Intl.NumberFormat("en-US");
const count = (value) => grouped.format(value);
const fixed = (value, digits) =>
  value
    .toFixed(digits)
    .replace(/^-(?=0\.?0*$)/, "")
    .replace("-", "\u2212");

function scaled(value, units, step) {
  let power = 0;
  while (power < units.length - 1 && Math.abs(value) >= step ** (power + 1) * 0.9995) power += 1;
  const size = value / step ** power;
  const text = power === 0 ? String(value) : size.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
  return units[power] ? `${text}\u202f${units[power]}` : text;
}

const quantity = (value) => scaled(value, ["", "k", "M", "G", "T"], 1000);
const bytes = (value) => scaled(value, ["B", "KiB", "MiB", "GiB"], 1024);
const duration = (ms) =>
  ms >= 1000 ? `${real(ms / 1000)}\u202fs` : ms >= 1 ? `${real(ms)}\u202fms` : `${real(1000 * ms)}\u202f\u00b5s`;
const share = (part) =>
  part === 0 ? "0\u202f%" : part < 1e-4 ? "<0.01\u202f%" : `${(100 * part).toFixed(part < 0.1 ? 2 : 1)}\u202f%`;
const decibel = (value) => `${fixed(value, 1)}\u202fdB`;
const shape = (sizes) => sizes.join("\u00d7");

function real(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("-", "\u2212").replace("e\u2212", "e-");
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}

const ofMetric = { map: "mAP", ap50: "AP50", ap: "AP", miou: "mIoU" };
const metricName = (metric) => ofMetric[metric] ?? metric.replace(/^top(\d)/, "top-$1").replaceAll("_", " ");

function bitsOf(layer) {
  if (layer.host) return "host, f32";
  if (layer.activation_bits === undefined) return "f32";
  return layer.weight_bits === undefined
    ? `a${layer.activation_bits}`
    : `a${layer.activation_bits} w${layer.weight_bits}`;
}

const clippedOf = (layer) =>
  layer.saturation && layer.saturation.total
    ? (layer.saturation.low + layer.saturation.high) / layer.saturation.total
    : undefined;

// What a layer is measured by: used by the table, the graph's colours and the charts alike.
const MEASURES = [
  { key: "macs", label: "MACs", value: (l) => l.macs, text: quantity, unit: "MACs", zero: "" },
  { key: "weight_bytes", label: "Weights", value: (l) => l.weight_bytes, text: bytes, unit: "bytes" },
  { key: "activation_bytes", label: "Output", value: (l) => l.activation_bytes, text: bytes, unit: "bytes" },
  { key: "snr_db", label: "SNR", value: (l) => l.snr_db, text: decibel, unit: "dB", lessIsWorse: true },
  { key: "cycles", label: "Cycles", value: (l) => l.cycles, text: quantity, unit: "cycles" },
  {
    key: "utilization",
    label: "Utilization",
    value: (l) => l.utilization,
    text: share,
    unit: "share",
    lessIsWorse: true,
  },
  { key: "clipped", label: "Clipped", value: clippedOf, text: share, unit: "share" },
  {
    key: "line_buffer_bytes",
    label: "Line buffer",
    value: (l) => l.line_buffer_bytes || undefined,
    text: bytes,
    unit: "bytes",
  },
  { key: "sensitivity", label: "4-bit noise", value: (l) => l.sensitivity, text: real, unit: "" },
].filter((measure) => layers.some((layer) => measure.value(layer) !== undefined));
const measure = (key) => MEASURES.find((one) => one.key === key);

const FAMILIES = [
  "input",
  "convolution",
  "depthwise",
  "dense",
  "element-wise",
  "pooling",
  "activation",
  "movement",
  "host",
].filter((family) => layers.some((layer) => layer.family === family));

const watchers = [];
const state = { selected: null, matches: null };

// change: "selected" or "matches". from: the part of the page where it happened, which need not scroll.
function tell(change, from) {
  for (const watch of watchers) watch(change, from);
}

function select(name, from) {
  if (state.selected === name) return;
  state.selected = name;
  byId("said").textContent = name === null ? "no layer selected" : `${name}, ${byName.get(name).kind}`;
  tell("selected", from);
}

function step(by, from, among = layers) {
  const place = among.findIndex((layer) => layer.name === state.selected);
  const next = place < 0 ? (by > 0 ? 0 : among.length - 1) : Math.min(Math.max(place + by, 0), among.length - 1);
  if (among.length) select(among[next].name, from);
}

const tip = byId("tip");
function showTip(event, lines) {
  tip.replaceChildren(...lines.map((line, index) => el("span", { class: index ? null : "first" }, line)));
  tip.classList.add("shown");
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const top = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}
const hideTip = () => tip.classList.remove("shown");

// Draws into `box` at its present width, and again whenever that changes.
function atWidth(box, draw) {
  let width = 0;
  const again = () => {
    const now = Math.round(box.clientWidth);
    if (now && now !== width) draw((width = now));
  };
  new ResizeObserver(again).observe(box);
  return again;
}

function section(id, title, about, ...children) {
  return el(
    "section",
    { id, class: "panel", "aria-labelledby": `${id}-heading` },
    el(
      "div",
      { class: "panel-head" },
      el("h2", { id: `${id}-heading` }, title),
      about && el("p", { class: "about" }, about),
    ),
    children,
  );
}

// A table as it comes, neither sorted nor narrowed. heads: words, or [word, class].
function plainTable(kind, heads, rows) {
  const head = heads.map((one) =>
    el("th", { scope: "col", class: Array.isArray(one) ? one[1] : null }, [one].flat()[0]),
  );
  const table = el("table", { class: kind }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  return el("div", { class: "scroll plain" }, table);
}
