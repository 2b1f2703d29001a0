// The network as a drawing: pan by drag or wheel, zoom by pinch or keys, one click for a layer.

function drawGraph() {
  const canvas = byId("canvas");
  const { nodes, edges, width, height, node: size } = profile.drawing;
  const view = { x: 0, y: 0, scale: 1 };
  const groups = new Map();
  const paths = [];

  const world = svg("g", {});
  const picture = svg("svg", { class: "network", role: "presentation" }, world);
  canvas.append(picture);
  for (const [from, to, points] of edges) {
    const path = svg("path", { class: "edge", d: curve(points) });
    paths.push([from, to, path]);
    world.append(path);
  }
  const outputs = new Set(profile.network.outputs);
  for (const layer of layers) {
    const [x, y] = nodes[layer.name];
    const sub = svg("text", { class: "sub", x: 14, y: 30 });
    const group = svg(
      "g",
      {
        class: `node f-${layer.family}${outputs.has(layer.name) ? " output" : ""}`,
        id: `node-${layer.index}`,
        role: "option",
        "aria-selected": "false",
        "aria-label": `${layer.name}, ${layer.kind}`,
        transform: `translate(${x - size[0] / 2} ${y - size[1] / 2})`,
      },
      svg("rect", { class: "body", width: size[0], height: size[1], rx: 7 }),
      svg("rect", { class: "stripe", x: 0, y: 7, width: 4, height: size[1] - 14, rx: 2 }),
      svg("text", { class: "title", x: 14, y: 17 }, shortened(layer.name, 22)),
      sub,
    );
    group.addEventListener("pointerenter", (event) => showTip(event, summary(layer)));
    group.addEventListener("pointerleave", hideTip);
    groups.set(layer.name, { group, sub, x, y });
    world.append(group);
  }

  function curve(points) {
    let d = `M${points[0][0]} ${points[0][1]}`;
    for (let i = 1; i < points.length; i += 1) {
      const [[a, b], [x, y]] = [points[i - 1], points[i]];
      d += a === x ? `V${y}` : `C${a} ${(b + y) / 2} ${x} ${(b + y) / 2} ${x} ${y}`;
    }
    return d;
  }

  function show() {
    const box = canvas.getBoundingClientRect();
    const margin = 60;
    view.x = within(view.x, box.width, width);
    view.y = within(view.y, box.height, height);
    world.setAttribute(
      "transform",
      `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.scale.toFixed(4)})`,
    );
    canvas.classList.toggle("far", view.scale < 0.5);
    function within(place, room, length) {
      const drawn = length * view.scale;
      return Math.min(Math.max(place, margin - drawn), room - margin);
    }
  }

  function zoom(factor, at) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = at ?? [box.width / 2, box.height / 2];
    const smallest = Math.min(0.2, (0.9 * box.height) / height, (0.9 * box.width) / width);
    const scale = Math.min(Math.max(view.scale * factor, smallest), 2.5);
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    show();
  }

  function fit() {
    const box = canvas.getBoundingClientRect();
    view.scale = Math.min((box.width - 32) / width, (box.height - 32) / height, 1);
    view.x = (box.width - width * view.scale) / 2;
    view.y = (box.height - height * view.scale) / 2;
    show();
  }

  // As large as reads well, from the top.
  function begin() {
    const box = canvas.getBoundingClientRect();
    view.scale = Math.min(1, Math.max(0.75, (box.width - 40) / width));
    const first = groups.get(layers[0].name);
    view.x =
      width * view.scale <= box.width - 24
        ? (box.width - width * view.scale) / 2
        : box.width / 2 - first.x * view.scale;
    view.y = 16;
    show();
  }

  function bring(name) {
    const box = canvas.getBoundingClientRect();
    const place = groups.get(name);
    const [x, y] = [place.x * view.scale + view.x, place.y * view.scale + view.y];
    const [wide, high] = [(size[0] / 2) * view.scale + 12, (size[1] / 2) * view.scale + 8];
    view.x += Math.max(wide - x, 0) || Math.min(box.width - wide - x, 0);
    if (y < high || y > box.height - high) view.y += box.height / 2 - y;
    show();
  }

  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (moved > 4 && !canvas.hasPointerCapture(event.pointerId)) canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const box = canvas.getBoundingClientRect();
      const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
      zoom(apart(now) / Math.max(apart(before), 1), [
        (now[0] + other[0]) / 2 - box.left,
        (now[1] + other[1]) / 2 - box.top,
      ]);
    } else {
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
      hideTip();
      show();
    }
    fingers.set(event.pointerId, now);
  });
  const lift = (event) => fingers.delete(event.pointerId);
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(name, lift);
  canvas.addEventListener("click", (event) => {
    if (moved > 4) return;
    const node = event.target.closest(".node");
    if (node) select(layers[Number(node.id.slice(5))].name, "graph");
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      if (event.ctrlKey || event.metaKey) {
        zoom(Math.exp(-event.deltaY / 240), [event.clientX - box.left, event.clientY - box.top]);
        return;
      }
      view.x -= event.shiftKey ? event.deltaY : event.deltaX;
      view.y -= event.shiftKey ? 0 : event.deltaY;
      hideTip();
      show();
    },
    { passive: false },
  );

  canvas.addEventListener("keydown", (event) => {
    const layer = byName.get(state.selected);
    const beside = (by) => {
      const row = layers
        .filter((other) => nodes[other.name][1] === nodes[layer.name][1])
        .sort((a, b) => nodes[a.name][0] - nodes[b.name][0]);
      return row[row.indexOf(layer) + by]?.name;
    };
    const pan = { ArrowUp: [0, 60], ArrowDown: [0, -60], ArrowLeft: [60, 0], ArrowRight: [-60, 0] }[event.key];
    const go = {
      ArrowDown: () => readers.get(layer.name)[0],
      ArrowUp: () => layer.inputs[0],
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
    }[event.key];
    if (pan && event.shiftKey) {
      view.x += pan[0];
      view.y += pan[1];
      show();
    } else if (go) {
      const next = layer ? go() : layers[0].name;
      if (next) select(next, "keys");
    } else if (event.key === "Home") select(layers[0].name, "keys");
    else if (event.key === "End") select(layers[layers.length - 1].name, "keys");
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });

  byId("zoom-in").addEventListener("click", () => zoom(1.25));
  byId("zoom-out").addEventListener("click", () => zoom(0.8));
  byId("zoom-fit").addEventListener("click", fit);

  const colour = byId("colour");
  const choices = MEASURES.filter((one) => one.key !== "sensitivity" || layers.some((l) => l.sensitivity));
  colour.append(
    el("option", { value: "" }, "by kind"),
    ...choices.map((one) => el("option", { value: one.key }, `by ${one.label}`)),
  );
  colour.addEventListener("change", () => paint(measure(colour.value)));
  paint(undefined);

  function paint(by) {
    const scale = by?.key === "snr_db" ? layers.filter((layer) => layer.family !== "input") : layers;
    const values = by ? scale.map(by.value).filter((value) => value !== undefined) : [];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    canvas.classList.toggle("heat", Boolean(by));
    for (const layer of layers) {
      const { group, sub } = groups.get(layer.name);
      const value = by?.value(layer);
      const part = value === undefined || high === low ? 0 : Math.min((value - low) / (high - low), 1);
      group.style.setProperty("--t", value === undefined ? 0 : by.lessIsWorse ? 1 - part : part);
      sub.textContent = !by
        ? shortened(`${kindOf(layer)} · ${shape(layer.shape)}`, 29)
        : value === undefined
          ? "–"
          : by.text(value);
    }
    const legend = by
      ? el(
          "span",
          { class: "ramp" },
          by.text(by.lessIsWorse ? high : low),
          el("i", {}),
          by.text(by.lessIsWorse ? low : high),
        )
      : FAMILIES.map((family) => el("span", { class: `key f-${family}` }, el("i", {}), family));
    byId("legend").replaceChildren(...[legend].flat());
  }

  watchers.push((change, from) => {
    if (change === "matches") {
      canvas.classList.toggle("searching", state.matches !== null);
      for (const [name, { group }] of groups) group.classList.toggle("match", state.matches?.has(name) ?? false);
      const first = layers.find((layer) => state.matches?.has(layer.name));
      if (first && !state.matches.has(state.selected)) bring(first.name);
      return;
    }
    for (const [name, { group }] of groups) {
      const on = name === state.selected;
      if (on !== group.classList.contains("selected")) {
        group.classList.toggle("selected", on);
        group.setAttribute("aria-selected", on);
      }
    }
    for (const [a, b, path] of paths) path.classList.toggle("near", a === state.selected || b === state.selected);
    const layer = byName.get(state.selected);
    if (layer) canvas.setAttribute("aria-activedescendant", `node-${layer.index}`);
    else canvas.removeAttribute("aria-activedescendant");
    if (layer && from !== "graph") bring(layer.name);
  });
  atWidth(canvas, begin)();
  // Paper has another size than the canvas: there the whole network fills what it gets.
  addEventListener("beforeprint", () => {
    picture.setAttribute("viewBox", `-8 -8 ${width + 16} ${height + 16}`);
    world.removeAttribute("transform");
    canvas.classList.toggle("far", height > 2400);
  });
  addEventListener("afterprint", () => {
    picture.removeAttribute("viewBox");
    show();
  });
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function kindOf(layer) {
  const kernel = layer.settings.kernel_shape;
  const word =
    layer.kind === "host_op"
      ? layer.settings.operator
      : layer.kind === "activation"
        ? layer.settings.function
        : layer.kind;
  return (layer.family === "depthwise" ? "dw conv" : word.replaceAll("_", " ")) + (kernel ? ` ${shape(kernel)}` : "");
}

function summary(layer) {
  const known = MEASURES.map((one) => [one, one.value(layer)]).filter(
    ([, value]) => value !== undefined && value !== 0,
  );
  return [
    layer.name,
    `${kindOf(layer)} · ${shape(layer.shape)} · ${bitsOf(layer)}`,
    ...known.map(([one, value]) => `${one.label} ${one.text(value)}`),
  ];
}
