// Tracks over the layers in their order, one under the other on one axis: noise, work, sizes.

function depthSection() {
  const tracks = ["snr_db", "macs", "weight_bytes", "activation_bytes", "clipped", "cycles", "utilization"]
    .map(measure)
    .filter((one) => one && layers.some((layer) => one.value(layer)));
  if (!tracks.length) return null;
  const box = el("div", {
    class: "chart",
    role: "group",
    "aria-label": "Charts along the depth: left and right arrow keys go from layer to layer",
  });
  const heights = tracks.map((one) => (one.key === "snr_db" ? 132 : 74));
  const bottom = 34;
  const total = heights.reduce((a, b) => a + b, 0) + bottom;
  box.style.height = `${total}px`;
  let place = () => 0,
    slot = 1,
    mark,
    cross;

  const draw = (width) => {
    slot = (width - LEFT - RIGHT) / layers.length;
    place = (index) => LEFT + (index + 0.5) * slot;
    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${total}`,
      width,
      height: total,
      role: "img",
      "aria-label": `${tracks.map((one) => one.label).join(", ")} of ${layers.length} layers in their order`,
    });
    mark = svg("rect", { class: "mark", y: 0, height: total - bottom, width: Math.max(slot, 2) });
    cross = svg("line", { class: "cross", y1: 0, y2: total - bottom });
    picture.append(mark);
    let top = 0;
    tracks.forEach((one, index) => {
      picture.append(track(one, top, heights[index], width));
      top += heights[index];
    });
    const axis = svg("g", { class: "axis" });
    for (const index of ticks(0, layers.length - 1, width < 600 ? 5 : 10).filter(Number.isInteger)) {
      axis.append(
        svg("line", { x1: place(index), x2: place(index), y1: top, y2: top + 4 }),
        svg("text", { x: place(index), y: top + 16, "text-anchor": "middle" }, String(index)),
      );
    }
    axis.append(
      svg(
        "text",
        { class: "name", x: (LEFT + width - RIGHT) / 2, y: top + 31, "text-anchor": "middle" },
        "layer, in the graph's order",
      ),
    );
    for (const layer of layers.slice(1)) {
      const before = layers[layer.index - 1].context;
      if (before !== undefined && layer.context !== undefined && before !== layer.context)
        picture.append(
          svg("line", { class: "border", x1: place(layer.index - 0.5), x2: place(layer.index - 0.5), y1: 20, y2: top }),
        );
    }
    picture.append(axis, cross);
    box.replaceChildren(picture);
    marked();
  };

  function track(one, top, height, width) {
    const g = svg("g", { class: "track" });
    const values = layers.map(one.value);
    const known = values.filter((value) => value !== undefined);
    const noise = one.key === "snr_db";
    const [roof, floor] = [top + 22, top + height - 8];
    const low = noise ? Math.floor(Math.min(...known) / 5) * 5 : 0;
    // An input is nearly exact: on its scale no layer's noise could be told from another's.
    const inside = noise
      ? layers
          .filter((layer) => layer.family !== "input")
          .map(one.value)
          .filter((value) => value !== undefined)
      : known;
    const high = Math.max(...inside, low + 1e-12);
    const marks = one.unit === "bytes" ? byteTicks(high, 2.99) : ticks(low, high, noise ? 4 : 2);
    const y = (value) => floor - ((value - low) / (high - low)) * (floor - roof);
    for (const value of marks) {
      const at = Math.round(y(value)) + 0.5;
      g.append(
        svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        svg("text", { x: LEFT - 7, y: at + 3.5, "text-anchor": "end" }, tickText(one, value)),
      );
    }
    g.append(
      svg(
        "text",
        { class: "name", x: LEFT + 2, y: top + 14 },
        width < 640 && noise ? "Signal to noise, dB" : titleOf(one),
      ),
    );
    if (noise) {
      const points = layers
        .filter((layer) => one.value(layer) !== undefined)
        .map((layer) => [place(layer.index), y(Math.min(one.value(layer), high)), layer]);
      g.append(
        svg("polyline", { class: "line", points: points.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ") }),
      );
      const radius = Math.max(1.4, Math.min(3.4, slot * 0.32));
      for (const [a, b, layer] of points) {
        if (one.value(layer) > high)
          g.append(svg("path", { class: `dot f-${layer.family}`, d: `M${(a - 4).toFixed(1)} ${b + 3}h8l-4 -7z` }));
        else g.append(svg("circle", { class: `dot f-${layer.family}`, cx: a.toFixed(1), cy: b.toFixed(1), r: radius }));
      }
      const output = profile.noise?.output_db;
      if (output !== undefined && output <= high) {
        g.append(
          svg("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(output), y2: y(output) }),
          svg(
            "text",
            { class: "limit-name", x: width - RIGHT - 2, y: top + 14, "text-anchor": "end" },
            `outputs ${width < 640 ? "" : "together "}${decibel(output)} (dashed)`,
          ),
        );
      }
      return g;
    }
    const wide = Math.max(0.7, slot * (slot > 3 ? 0.72 : 0.9));
    for (const family of FAMILIES) {
      let d = "";
      for (const layer of layers) {
        const value = one.value(layer);
        if (layer.family !== family || !value) continue;
        const tall = Math.max(1, floor - y(value));
        d += `M${(place(layer.index) - wide / 2).toFixed(1)} ${floor}v${(-tall).toFixed(1)}h${wide.toFixed(1)}v${tall.toFixed(1)}z`;
      }
      if (d) g.append(svg("path", { class: `bars f-${family}`, d }));
    }
    return g;
  }

  const titleOf = (one) =>
    ({
      snr_db: "Signal to noise of each layer in the whole integer network, dB (higher is better)",
      macs: "Multiply-accumulates an image",
      weight_bytes: "Weights",
      activation_bytes: "Output tensor",
      clipped: "Integers clipped by the range's ends",
      cycles: "Cycles an image",
      utilization: "Utilization",
    })[one.key];
  const tickText = (one, value) =>
    one.key === "snr_db"
      ? fixed(value, 0)
      : one.unit === "bytes"
        ? bytes(value)
        : one.unit === "share"
          ? share(value)
          : quantity(value);

  function marked() {
    const layer = byName.get(state.selected);
    mark.style.display = layer ? "" : "none";
    if (layer) mark.setAttribute("x", place(layer.index) - Math.max(slot, 2) / 2);
    cross.style.display = "none";
  }

  overLayers(box, (x) => (x < LEFT ? undefined : layers[Math.floor((x - LEFT) / slot)]), summary);
  box.addEventListener("over", ({ detail }) => {
    cross.style.display = detail ? "" : "none";
    if (detail) for (const side of ["x1", "x2"]) cross.setAttribute(side, place(detail.index));
  });
  watchers.push((change) => change === "selected" && mark && marked());
  queueMicrotask(atWidth(box, draw));
  const contexts = new Set(layers.map((layer) => layer.context).filter((context) => context !== undefined)).size;
  const about = [
    profile.noise && `Noise was measured on ${count(profile.noise.images)} calibration images.`,
    contexts > 1 && "Dotted: a new context begins.",
  ]
    .filter(Boolean)
    .join(" ");
  return section("depth", "Along the depth", about, box);
}
