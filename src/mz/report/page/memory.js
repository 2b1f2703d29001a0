// The arena over time: every tensor a rectangle from its first step to its last, at its offset.

function memorySection() {
  const plan = profile.memory_plan;
  if (!plan) return null;
  const tensors = plan.tensors;
  const steps = 1 + Math.max(...tensors.map((tensor) => tensor.last_step));
  const roof = Math.max(plan.arena_bytes, ...tensors.map((tensor) => tensor.offset + tensor.bytes));
  const box = el("div", {
    class: "chart",
    role: "group",
    "aria-label": "Memory map: left and right arrow keys go from layer to layer",
  });
  const height = 320,
    top = 22,
    bottom = 34;
  box.style.height = `${height}px`;
  let at = () => undefined,
    shapes = new Map();

  const draw = (width) => {
    const x = (value) => LEFT + (value / steps) * (width - LEFT - RIGHT);
    const y = (value) => height - bottom - (value / roof) * (height - bottom - top);
    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": `Memory map: ${tensors.length} tensors in an arena of ${bytes(plan.arena_bytes)} over ${steps} steps`,
    });
    for (const value of byteTicks(roof, 5)) {
      picture.append(
        svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { class: "tick", x: LEFT - 7, y: y(value) + 3.5, "text-anchor": "end" }, bytes(value)),
      );
    }
    shapes = new Map();
    for (const tensor of tensors) {
      const family = byName.get(tensor.name)?.family ?? "movement";
      const [left, wide, high] = [
        x(tensor.first_step),
        x(tensor.last_step + 1) - x(tensor.first_step),
        y(tensor.offset) - y(tensor.offset + tensor.bytes),
      ];
      const rect = svg("rect", {
        class: `tensor f-${family}${tensor.shares ? " shares" : ""}`,
        x: left,
        y: y(tensor.offset + tensor.bytes),
        width: Math.max(1, wide),
        height: Math.max(1, high),
      });
      shapes.set(tensor.name, rect);
      picture.append(rect);
      if (wide > 7 * tensor.name.length + 8 && high > 13 && !tensor.shares)
        picture.append(
          svg("text", { class: "within", x: left + 5, y: y(tensor.offset + tensor.bytes) + 12 }, tensor.name),
        );
    }
    if (plan.lower_bound < plan.arena_bytes) {
      const at = y(plan.lower_bound);
      picture.append(
        svg("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
        svg(
          "text",
          { class: "limit-name", x: width - RIGHT - 2, y: 13, "text-anchor": "end" },
          `lower bound ${bytes(plan.lower_bound)} (dashed)`,
        ),
      );
    }
    picture.append(svg("text", { class: "name", x: LEFT + 2, y: 13 }, `Arena ${bytes(plan.arena_bytes)}`));
    for (const value of ticks(0, steps - 1, width < 600 ? 5 : 10).filter(Number.isInteger))
      picture.append(
        svg(
          "text",
          { class: "tick", x: (x(value) + x(value + 1)) / 2, y: height - bottom + 16, "text-anchor": "middle" },
          String(value),
        ),
      );
    picture.append(
      svg(
        "text",
        { class: "name", x: (LEFT + width - RIGHT) / 2, y: height - 3, "text-anchor": "middle" },
        "step of the schedule",
      ),
    );
    box.replaceChildren(picture);
    at = (px, py) =>
      [...tensors]
        .reverse()
        .find(
          (tensor) =>
            px >= x(tensor.first_step) &&
            px < x(tensor.last_step + 1) &&
            py >= y(tensor.offset + tensor.bytes) &&
            py <= y(tensor.offset),
        );
    marked();
  };
  const marked = () => {
    for (const [name, rect] of shapes) rect.classList.toggle("selected", name === state.selected);
  };

  overLayers(
    box,
    (x, y) => at(x, y),
    (tensor) =>
      [
        tensor.name,
        `${bytes(tensor.bytes)} (${count(tensor.bytes)} bytes)`,
        `offset ${count(tensor.offset)}`,
        `steps ${tensor.first_step} to ${tensor.last_step}`,
        tensor.shares && `written over ${tensor.shares}`,
      ].filter(Boolean),
  );
  watchers.push((change) => change === "selected" && marked());
  queueMicrotask(atWidth(box, draw));
  const over = plan.lower_bound ? plan.arena_bytes / plan.lower_bound - 1 : 0;
  const about = `${count(plan.arena_bytes)} bytes hold every activation${plan.lower_bound ? (over > 0 ? `, ${share(over)} above the lower bound` : ", which is the lower bound") : ""}.`;
  return section("memory", "Memory over time", about, box);
}
