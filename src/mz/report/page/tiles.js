// The figures at the top.

function tilesSection() {
  const { totals, network, noise, accuracy, estimate, memory_plan: plan } = profile;
  const tile = (label, value, about, title) =>
    el(
      "div",
      { class: "tile" },
      el("dt", {}, label),
      el("dd", { class: "figure", title }, value),
      about && el("dd", { class: "about" }, about),
    );
  const tiles = [];
  const measured = accuracy?.[accuracy.length - 1];
  if (measured) {
    for (const [metric, value] of Object.entries(measured.metrics).slice(0, 1)) {
      const loss = measured.degradation?.[metric];
      const about =
        loss?.value !== undefined
          ? [`${signed(-loss.value)} points `, el("span", { class: "together" }, lost(loss))]
          : interval(measured.ci95[metric]);
      tiles.push(tile(metricName(metric), fixed(value, 2), about));
    }
  }
  if (noise?.output_db !== undefined)
    tiles.push(tile("Output SNR", decibel(noise.output_db), `on ${count(noise.images)} calibration images`));
  if (estimate) tiles.push(...estimateTiles(estimate, tile));
  tiles.push(
    tile(
      "MACs an image",
      quantity(totals.macs),
      totals.macs ? `${share(totals.accelerator_macs / totals.macs)} on the accelerator` : null,
      count(totals.macs),
    ),
  );
  if (totals.weight_bytes !== undefined)
    tiles.push(
      tile(
        "Weights",
        bytes(totals.weight_bytes + totals.bias_bytes),
        `${bytes(totals.float_bytes)} in float`,
        `${count(totals.weight_bytes)} bytes of kernels, ${count(totals.bias_bytes)} of biases`,
      ),
    );
  else
    tiles.push(
      tile(
        "Parameters",
        quantity(totals.parameters),
        `${bytes(totals.float_bytes)} in float`,
        count(totals.parameters),
      ),
    );
  if (plan)
    tiles.push(
      tile(
        "Activation arena",
        bytes(plan.arena_bytes),
        plan.heuristic && `${plan.heuristic.replaceAll("_", " ")}`,
        count(plan.arena_bytes),
      ),
    );
  else if (totals.activation_peak_bytes !== undefined)
    tiles.push(
      tile(
        "Peak activations",
        bytes(totals.activation_peak_bytes),
        "alive at once, in this order",
        count(totals.activation_peak_bytes),
      ),
    );
  tiles.push(
    tile(
      "Layers",
      count(totals.layers),
      totals.layers === totals.accelerator_layers
        ? "all on the accelerator"
        : `${count(totals.layers - totals.accelerator_layers)} on the host`,
    ),
  );
  const columns = tiles.length > 6 ? Math.ceil(tiles.length / 2) : tiles.length;
  return el(
    "section",
    { class: "tiles", id: "overview", "aria-label": "Overview" },
    el("dl", { style: `--columns: ${columns}` }, tiles),
  );
}

function estimateTiles(estimate, tile) {
  const tiles = [];
  tiles.push(
    tile(
      "Images a second",
      quantity(Math.round(estimate.fps)),
      estimate.fps_batch > 1.01 * estimate.fps
        ? `${quantity(Math.round(estimate.fps_batch))} at batch ${estimate.batch}, estimated`
        : `estimated for ${estimate.hw_arch}`,
    ),
  );
  tiles.push(
    tile(
      "Latency",
      duration(estimate.latency_ms),
      `estimated at ${count(estimate.clock_mhz)} MHz`,
      `${count(estimate.cycles)} cycles`,
    ),
  );
  return tiles;
}
