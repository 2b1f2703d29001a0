// Puts the page together: header, sections, search, colours, keys.

byId("name").textContent = profile.network.name;
const precisions = Object.entries(profile.network.precision).map(
  ([precision, many]) => `${many}\u00d7 ${precision.replace("_", " ")}`,
);
byId("pills").append(
  ...[
    [profile.network.state.replace("_", " "), "pill state"],
    [profile.network.hw_arch, "pill"],
    profile.network.task && [profile.network.task.replaceAll("_", " "), "pill"],
    precisions.length && [precisions.join(", "), "pill"],
  ]
    .filter(Boolean)
    .map(([text, kind]) => el("span", { class: kind }, text)),
);

const parts = [
  tilesSection(),
  accuracySection(),
  depthSection(),
  scheduleSection(),
  memorySection(),
  tableSection(),
  histogramSection(),
  stepsSection(),
  filesSection(),
  missingSection(),
].filter(Boolean);
byId("main").append(
  ...parts,
  el("footer", {}, `mz ${profile.tool_version} \u00b7 this page loads nothing and sends nothing`),
);
inspector();
drawGraph();

const search = byId("search");
const said = new Map(
  layers.map((layer) => [
    layer.name,
    [layer.name, layer.kind, layer.family, kindOf(layer), shape(layer.shape), bitsOf(layer), ...layer.origin]
      .join(" ")
      .toLowerCase(),
  ]),
);

search.addEventListener("input", () => {
  const words = search.value
    .toLowerCase()
    .replaceAll(/(\d)x(?=\d)/g, "$1\u00d7")
    .split(/\s+/)
    .filter(Boolean);
  state.matches = words.length
    ? new Set(
        layers.filter((layer) => words.every((word) => said.get(layer.name).includes(word))).map((layer) => layer.name),
      )
    : null;
  byId("found").textContent = state.matches ? `${count(state.matches.size)} of ${count(layers.length)}` : "";
  tell("matches", "search");
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && state.matches?.size) {
    const found = layers.filter((layer) => state.matches.has(layer.name));
    const place = found.findIndex((layer) => layer.name === state.selected);
    select(found[(place + (event.shiftKey ? found.length - (place < 0 ? 0 : 1) : 1)) % found.length].name, "search");
    event.preventDefault();
  } else if (event.key === "Escape") {
    event.stopPropagation();
    if (search.value) clearSearch();
    else search.blur();
  }
});
function clearSearch() {
  search.value = "";
  search.dispatchEvent(new Event("input"));
}

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  } else if (event.key === "Escape" && !typing) {
    hideTip();
    if (state.selected !== null) select(null, "keys");
    else if (state.matches) clearSearch();
  }
});

const theme = byId("theme");
const THEMES = [
  ["", "\u25d0", "as the system has them"],
  ["light", "\u2600", "light"],
  ["dark", "\u263e", "dark"],
];
let worn = 0;
function wear(index) {
  worn = index;
  const [name, sign, words] = THEMES[index];
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  theme.textContent = sign;
  theme.setAttribute("aria-label", `Colours: ${words}`);
  theme.title = `Colours: ${words}`;
}
theme.addEventListener("click", () => wear((worn + 1) % THEMES.length));
wear(0);
