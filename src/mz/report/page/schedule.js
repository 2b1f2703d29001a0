// How the target runs the network: its contexts, and the layers that set the pace.

function scheduleSection() {
  const { estimate } = profile;
  if (!estimate) return null;
  const rows = (estimate.contexts ?? []).map((context, index) => {
    const figures = [
      count(context.layers),
      bytes(context.constant_bytes),
      bytes(context.buffer_bytes),
      count(context.load_cycles),
      count(context.interval_cycles),
      count(context.latency_cycles),
    ].map((value) => el("td", { class: "number" }, value));
    const number = el("th", { class: "number", scope: "row" }, String(index));
    return el("tr", {}, number, figures, el("td", {}, context.bound));
  });
  const heads = ["Context", "Layers", "Constants", "Line buffers", "Loading", "Interval", "Latency"];
  const slowest = estimate.bottlenecks.map((name) => {
    const dot = el("i", { class: `dot-key f-${byName.get(name)?.family}` });
    return el(
      "button",
      { type: "button", class: "go", onclick: () => select(name, "schedule") },
      dot,
      el("span", {}, name),
    );
  });
  const fact = (name, value) => [el("dt", {}, name), el("dd", {}, value)];
  const facts = el(
    "dl",
    { class: "facts wide" },
    fact("an image alone", `${count(estimate.cycles)} cycles, ${duration(estimate.latency_ms)}`),
    fact("utilization", share(estimate.utilization)),
    slowest.length > 0 && fact("set the pace", slowest),
  );
  const table = rows.length > 0 && plainTable("contexts", [...heads.map((head) => [head, "number"]), "Bound by"], rows);
  const about =
    `An estimate for ${estimate.hw_arch} at ${count(estimate.clock_mhz)} MHz, ${estimate.execution}; ` +
    "cycles of its clock.";
  return section("schedule", "Schedule", about, facts, table);
}
