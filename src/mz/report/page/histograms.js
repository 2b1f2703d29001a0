// Distributions: of weights as the archive holds them, of activations as calibration saw them.

const tall = (value, most) => Math.sqrt(value / most);

// A closed outline of the bars; heights are square roots, so that thin tails show.
function outline({ start, width, counts }, low, high, wide, high_px) {
  const most = Math.max(...counts, 1);
  const step = width || (high - low) / 40 || 1;
  const x = (value) => ((value - low) / (high - low || 1)) * wide;
  let d = "";
  counts.forEach((value, index) => {
    if (!value) return;
    const left = x(start + index * step),
      size = Math.max(x(start + (index + 1) * step) - left, 0.6);
    const y = Math.max(tall(value, most) * high_px, 0.8);
    d += `M${left.toFixed(1)} ${high_px}v${(-y).toFixed(1)}h${size.toFixed(1)}v${y.toFixed(1)}z`;
  });
  return d;
}

function extent(layer, what) {
  if (what === "weights") {
    const { start, width, counts } = layer.weights.histogram;
    return [start, start + Math.max(width * counts.length, 1e-12)];
  }
  const { start, width, counts } = layer.activations;
  const ends = [start, start + width * counts.length];
  if (layer.range) ends.push(layer.range.low, layer.range.high);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}

const histogramOf = (layer, what) => (what === "weights" ? layer.weights?.histogram : layer.activations);

function histogramPicture(layer, what, wide, high) {
  const [low, top] = extent(layer, what);
  const x = (value) => ((value - low) / (top - low)) * wide;
  const picture = svg("svg", {
    class: "histogram",
    viewBox: `0 0 ${wide} ${high}`,
    width: wide,
    height: high,
    "aria-hidden": "true",
    preserveAspectRatio: "none",
  });
  if (what === "activations" && layer.range) {
    const [a, b] = [x(layer.range.low), x(layer.range.high)];
    if (a > 0.5) picture.append(svg("rect", { class: "outside", x: 0, width: a, height: high }));
    if (wide - b > 0.5) picture.append(svg("rect", { class: "outside", x: b, width: wide - b, height: high }));
  }
  picture.append(
    svg("path", { class: `bars f-${layer.family}`, d: outline(histogramOf(layer, what), low, top, wide, high) }),
  );
  return picture;
}

// The large form, with an axis and values under the pointer.
function histogramChart(layer, what) {
  const box = el("figure", { class: "large-histogram" });
  const high = 84;
  const histogram = histogramOf(layer, what);
  const [low, top] = extent(layer, what);
  const integer = what === "weights" && layer.weights.unit === "integer";
  const draw = (width) => {
    const picture = histogramPicture(layer, what, width, high);
    picture.setAttribute("viewBox", `0 0 ${width} ${high + 16}`);
    picture.setAttribute("height", high + 16);
    const x = (value) => ((value - low) / (top - low)) * width;
    picture.append(svg("line", { class: "base", x1: 0, x2: width, y1: high + 0.5, y2: high + 0.5 }));
    for (const value of ticks(low, top, 5)) {
      const place = x(value);
      const side = place < 16 ? "start" : place > width - 16 ? "end" : "middle";
      picture.append(
        svg(
          "text",
          { class: "tick", x: place, y: high + 13, "text-anchor": side },
          integer ? fixed(value, 0) : real(value),
        ),
      );
    }
    picture.addEventListener("pointermove", (event) => {
      const value = low + ((event.clientX - picture.getBoundingClientRect().left) / width) * (top - low);
      const index = Math.floor((value - histogram.start) / (histogram.width || 1));
      if (index < 0 || index >= histogram.counts.length) return hideTip();
      const from = histogram.start + index * histogram.width;
      const to = from + histogram.width;
      const where = integer
        ? histogram.width === 1
          ? fixed(from, 0)
          : `${fixed(from, 0)} .. ${fixed(to - 1, 0)}`
        : `${real(from)} .. ${real(to)}`;
      return showTip(event, [`${count(histogram.counts[index])} values`, where]);
    });
    picture.addEventListener("pointerleave", hideTip);
    box.replaceChildren(caption, picture);
  };
  const all = histogram.counts.reduce((a, b) => a + b, 0);
  const words = integer
    ? `Weights, ${layer.weight_bits}-bit integers`
    : what === "weights"
      ? "Weights, float32"
      : "Output values on the calibration set";
  const caption = el("figcaption", {}, words, el("span", {}, `${quantity(all)} values, \u221a heights`));
  box.append(caption);
  queueMicrotask(atWidth(box, draw));
  return box;
}

function histogramSection() {
  const kinds = ["weights", "activations"].filter((what) => layers.some((layer) => histogramOf(layer, what)));
  if (!kinds.length) return null;
  const grid = el("div", { class: "histograms", role: "list" });
  const cells = new Map();
  const about = el("p", { class: "about" });
  const words = {
    weights:
      "Every kernel as the archive holds it; integers over all that their bits can hold. Heights by square root.",
    activations:
      "Every output tensor on the calibration set. Shaded: beyond the integers' range, so clipped. Heights by square root.",
  };
  const pick = (what) => {
    about.textContent = words[what];
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.what === what);
    cells.clear();
    grid.replaceChildren(
      ...layers
        .filter((layer) => histogramOf(layer, what))
        .map((layer) => {
          const cell = el(
            "button",
            { type: "button", class: "cell", onclick: () => select(layer.name, "histograms"), title: layer.name },
            el("span", { class: "cell-name" }, layer.name),
            histogramPicture(layer, what, 112, 40),
          );
          cells.set(layer.name, cell);
          return el("div", { role: "listitem" }, cell);
        }),
    );
    marked();
  };
  const marked = () => {
    for (const [name, cell] of cells) cell.setAttribute("aria-pressed", name === state.selected);
  };
  const buttons = kinds.map((what) =>
    el(
      "button",
      { type: "button", "data-what": what, onclick: () => pick(what) },
      what === "weights" ? "Weights" : "Activations",
    ),
  );
  watchers.push((change) => change === "selected" && marked());
  pick(kinds[0]);
  const choice = el("div", { class: "choice", role: "group", "aria-label": "Distribution of" }, buttons);
  const head = el("div", { class: "row" }, about, kinds.length > 1 && choice);
  return section("distributions", "Distributions", null, head, grid);
}
