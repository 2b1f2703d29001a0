// How the target runs the network: its contexts, and the layers that set the pace.

function scheduleSection() {
  const { estimate } = profile;
  if (!estimate) return null;
  const heads = ["Context", "Layers", "Constants", "Line buffers", "Loading", "Interval", "Latency", "Bound by"];
  const rows = (estimate.contexts ?? []).map((context, index) =>
    el(
      "tr",
      {},
      [
        index,
        context.layers,
        bytes(context.constant_bytes),
        bytes(context.buffer_bytes),
        count(context.load_cycles),
        count(context.interval_cycles),
        count(context.latency_cycles),
      ].map((value, place) => el(place ? "td" : "th", { class: "number", scope: place ? null : "row" }, String(value))),
      el("td", {}, context.bound),
    ),
  );
  const slowest = estimate.bottlenecks.map((name) =>
    el(
      "button",
      { type: "button", class: "go", onclick: () => select(name, "schedule") },
      el("i", { class: `dot-key f-${byName.get(name)?.family}` }),
      el("span", {}, name),
    ),
  );
  const facts = el(
    "dl",
    { class: "facts wide" },
    el("dt", {}, "an image alone"),
    el("dd", {}, `${count(estimate.cycles)} cycles, ${duration(estimate.latency_ms)}`),
    el("dt", {}, "utilization"),
    el("dd", {}, share(estimate.utilization)),
    slowest.length > 0 && [el("dt", {}, "set the pace"), el("dd", {}, slowest)],
  );
  const table =
    rows.length > 0 &&
    el(
      "div",
      { class: "scroll plain" },
      el(
        "table",
        { class: "contexts" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            heads.map((head, place) =>
              el("th", { scope: "col", class: place < heads.length - 1 ? "number" : null }, head),
            ),
          ),
        ),
        el("tbody", {}, rows),
      ),
    );
  const about = `An estimate for ${estimate.hw_arch} at ${count(estimate.clock_mhz)} MHz, ${estimate.execution}; cycles of its clock.`;
  return section("schedule", "Schedule", about, facts, table);
}
