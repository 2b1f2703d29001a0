// The parts that are not about single layers: steps, files, and what the archive lacks.

function stepsSection() {
  const { steps, recipe } = profile;
  if (!steps) return null;
  const yes = (is, what) => el("td", { class: is ? "yes" : "no", "data-what": what }, is ? "yes" : "no");
  const rows = steps.map((one) => {
    const name = el("th", { scope: "row" }, one.name);
    const refused = one.requested && !one.applied;
    const cells = [yes(one.requested, "requested"), yes(one.applied, "applied"), el("td", { class: "note" }, one.note)];
    return el("tr", { class: refused ? "refused" : null }, name, cells);
  });
  const { calibration, optimization_level: level, compression_level: compression } = recipe ?? {};
  const about = [
    calibration && `Calibrated on ${count(calibration.count)} images of ${calibration.dataset}`,
    level !== undefined && `optimization level ${level}`,
    compression !== undefined && `compression level ${compression}`,
  ].filter(Boolean);
  const table = plainTable("steps", ["Step", "Requested", "Applied", "Note"], rows);
  return section("steps", "Requested and applied", about.length ? `${about.join(", ")}.` : null, table);
}

function filesSection() {
  const { verify, artefacts, network, notes } = profile;
  const near = (found) =>
    [
      found.snr_db === undefined ? "equal" : decibel(found.snr_db),
      found.equal_percent !== undefined && `${fixed(found.equal_percent, 2)}\u202f% equal`,
      found.largest_difference_steps !== undefined &&
        `largest difference ${count(found.largest_difference_steps)} steps`,
    ].filter(Boolean);
  const forms = Object.entries(verify?.forms ?? {}).map(([form, found]) => {
    const kind = el("td", { class: found.exact ? "yes" : null }, found.exact ? "exact" : "own rounding");
    const differ = () => `${count(found.differing)} of ${count(found.integers)} integers differ`;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, form),
      kind,
      el("td", { class: "note" }, found.exact ? differ() : near(found).join(", ")),
    );
  });
  const verdict = () =>
    `${count(verify.differing)} of ${count(verify.integers)} output integers differ from the ${verify.against}'s, ` +
    `over ${count(verify.images)} images.`;
  const fact = (name, value, kind) => [el("dt", {}, name), el("dd", { class: kind }, value)];
  return section(
    "files",
    "Origin and files",
    null,
    verify && el("p", { class: verify.differing ? "worse" : "better" }, verdict()),
    forms.length > 0 && plainTable("forms", ["Form", "Against the emulator", "Measured"], forms),
    el(
      "dl",
      { class: "facts wide" },
      network.source_sha256 && fact("ONNX file, SHA-256", network.source_sha256, "hash"),
      network.parity_db && fact("parsed against original", decibel(network.parity_db)),
      (artefacts ?? []).map((one) => fact(one.path, `${count(one.bytes)} bytes`)),
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

function missingSection() {
  if (!profile.missing.length) return null;
  const lines = profile.missing.map((one) => el("li", {}, el("span", {}, one.what), el("code", {}, one.command)));
  const about = "Each of these commands adds what it names.";
  return section("missing", "Not in this archive", about, el("ul", { class: "missing" }, lines));
}
