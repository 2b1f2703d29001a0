// The parts that are not about single layers: figures, accuracy, steps, files, and what the archive lacks.

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

const signed = (value) => (value > 0 ? "+" : "") + fixed(value, 2);
const interval = (bounds) => (bounds ? `${fixed(bounds[0], 2)} .. ${fixed(bounds[1], 2)}` : "");
const lost = (loss) =>
  loss.low === undefined || loss.high === undefined ? "" : `(${signed(-loss.high)} .. ${signed(-loss.low)})`;

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

function accuracySection() {
  if (!profile.accuracy) return null;
  const labels = { full_precision: "full precision", fp_optimized: "optimized float", emulator: "integers" };
  const blocks = profile.accuracy.map((entry) => {
    const rows = [];
    if (entry.baseline) rows.push(["full precision", entry.baseline]);
    rows.push([entry.target === "emulator" ? integers(entry.precision) : labels[entry.target], entry]);
    const metrics = Object.keys(entry.metrics);
    const closeness = [
      entry.agreement !== undefined && `${fixed(entry.agreement, 2)} % agree with float`,
      entry.snr_db !== undefined && `output SNR ${decibel(entry.snr_db)}`,
    ]
      .filter(Boolean)
      .join(", ");
    return el(
      "div",
      { class: "measured" },
      el(
        "p",
        { class: "about" },
        `${labels[entry.target]}: ${count(entry.count)} images of ${entry.dataset}${entry.damaged ? `, ${entry.damaged} damaged and left out` : ""}${closeness ? `; ${closeness}` : ""}`,
      ),
      metrics.map((metric) => whiskers(metric, rows, entry.degradation?.[metric])),
    );
  });
  return section("accuracy", "Accuracy", "Bars are 95 % intervals.", blocks);
}

// `a8_w8+` says that some layers have another precision.
const integers = (precision) =>
  `integers, ${precision.endsWith("+") ? `mostly ${precision.slice(0, -1)}` : precision}`.replace("_", " ");

function whiskers(metric, rows, loss) {
  const known = rows.filter(([, one]) => one.metrics[metric] !== undefined);
  const box = el("div", { class: "whiskers" });
  const line = 30,
    top = 8,
    height = top + known.length * line + 22;
  const ends = known.flatMap(([, one]) => [one.metrics[metric], ...(one.ci95[metric] ?? [])]);
  const room = Math.max(Math.max(...ends) - Math.min(...ends), 0.2) * 0.12;
  const [low, high] = [Math.min(...ends) - room, Math.max(...ends) + room];
  box.style.height = `${height}px`;
  const draw = (width) => {
    const left = width < 560 ? 8 : 168,
      right = width < 560 ? 8 : 190;
    const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      role: "img",
      "aria-label": known
        .map(([name, one]) => `${name} ${fixed(one.metrics[metric], 2)} (${interval(one.ci95[metric])})`)
        .join("; "),
    });
    for (const value of ticks(low, high, width < 560 ? 4 : 6)) {
      picture.append(
        svg("line", { class: "rule", x1: x(value), x2: x(value), y1: top, y2: height - 20 }),
        svg("text", { class: "tick", x: x(value), y: height - 6, "text-anchor": "middle" }, String(value)),
      );
    }
    known.forEach(([name, one], index) => {
      const y = top + (index + 0.5) * line;
      const bounds = one.ci95[metric];
      const kind = index === known.length - 1 && known.length > 1 ? "now" : "before";
      const text = fixed(one.metrics[metric], 2) + (bounds ? `  (${interval(bounds)})` : "");
      if (bounds)
        picture.append(svg("line", { class: `whisker ${kind}`, x1: x(bounds[0]), x2: x(bounds[1]), y1: y, y2: y }));
      picture.append(svg("circle", { class: `middle ${kind}`, cx: x(one.metrics[metric]), cy: y, r: 5 }));
      if (width < 560) picture.append(svg("text", { class: "label small", x: left, y: y - 8 }, `${name} ${text}`));
      else
        picture.append(
          svg("text", { class: "label", x: 0, y: y + 4 }, name),
          svg("text", { class: "label", x: width, y: y + 4, "text-anchor": "end" }, text),
        );
    });
    box.replaceChildren(picture);
  };
  queueMicrotask(atWidth(box, draw));
  return el(
    "div",
    { class: "metric" },
    el(
      "h3",
      {},
      metricName(metric),
      loss?.value !== undefined &&
        el(
          "span",
          { class: loss.low > 0 ? "worse" : loss.high < 0 ? "better" : "same" },
          ` ${signed(-loss.value)} points ${lost(loss).replace(")", ", paired)")}`,
        ),
    ),
    box,
  );
}

function stepsSection() {
  const { steps, recipe, notes } = profile;
  if (!steps && !notes) return null;
  const yes = (is, what) => el("td", { class: is ? "yes" : "no", "data-what": what }, is ? "yes" : "no");
  const rows = (steps ?? []).map((one) =>
    el(
      "tr",
      { class: one.requested && !one.applied ? "refused" : null },
      el("th", { scope: "row" }, one.name),
      yes(one.requested, "requested"),
      yes(one.applied, "applied"),
      el("td", { class: "note" }, one.note),
    ),
  );
  const about =
    recipe?.calibration &&
    `Calibrated on ${count(recipe.calibration.count)} images of ${recipe.calibration.dataset}, optimization level ${recipe.optimization_level}, compression level ${recipe.compression_level}.`;
  return section(
    "steps",
    "Requested and applied",
    about,
    rows.length > 0 &&
      el(
        "div",
        { class: "scroll plain" },
        el(
          "table",
          { class: "steps" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Step", "Requested", "Applied", "Note"].map((head) => el("th", { scope: "col" }, head)),
            ),
          ),
          el("tbody", {}, rows),
        ),
      ),
    notes &&
      el(
        "details",
        {},
        el("summary", {}, `${count(notes.length)} notes of the parser and the script`),
        el(
          "ul",
          { class: "notes" },
          notes.map((note) => el("li", {}, note)),
        ),
      ),
  );
}

function filesSection() {
  const { verify, artefacts, network } = profile;
  const forms = Object.entries(verify?.forms ?? {}).map(([form, found]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, form),
      el("td", { class: found.exact ? "yes" : null }, found.exact ? "exact" : "own rounding"),
      el(
        "td",
        { class: "note" },
        found.exact
          ? `${count(found.differing)} of ${count(found.integers)} integers differ`
          : [
              found.snr_db === undefined ? "equal" : decibel(found.snr_db),
              found.equal_percent !== undefined && `${fixed(found.equal_percent, 2)}\u202f% equal`,
              found.largest_difference_steps !== undefined &&
                `largest difference ${count(found.largest_difference_steps)} steps`,
            ]
              .filter(Boolean)
              .join(", "),
      ),
    ),
  );
  const proof =
    verify &&
    el(
      "p",
      { class: verify.differing ? "worse" : "better" },
      `${count(verify.differing)} of ${count(verify.integers)} output integers differ from the ${verify.against}'s, over ${count(verify.images)} images.`,
    );
  const origin = el(
    "dl",
    { class: "facts wide" },
    network.source_sha256 && [el("dt", {}, "ONNX file, SHA-256"), el("dd", { class: "hash" }, network.source_sha256)],
    network.parity_db !== null &&
      network.parity_db !== undefined && [
        el("dt", {}, "parsed against original"),
        el("dd", {}, decibel(network.parity_db)),
      ],
    artefacts && artefacts.flatMap((one) => [el("dt", {}, one.path), el("dd", {}, `${count(one.bytes)} bytes`)]),
  );
  return section(
    "files",
    "Origin and files",
    null,
    proof,
    forms.length > 0 &&
      el(
        "div",
        { class: "scroll plain" },
        el(
          "table",
          { class: "forms" },
          el(
            "thead",
            {},
            el(
              "tr",
              {},
              ["Form", "Against the emulator", "Measured"].map((head) => el("th", { scope: "col" }, head)),
            ),
          ),
          el("tbody", {}, forms),
        ),
      ),
    origin,
  );
}

function missingSection() {
  if (!profile.missing.length) return null;
  return section(
    "missing",
    "Not in this archive",
    "Each of these commands adds what it names.",
    el(
      "ul",
      { class: "missing" },
      profile.missing.map((one) => el("li", {}, el("span", {}, one.what), el("code", {}, one.command))),
    ),
  );
}
