// The parts that are not about single layers: steps, files, and what the archive lacks.

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
