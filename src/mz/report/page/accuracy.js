// What was measured, with its intervals, and what the integers lost.

const signed = (value) => (value > 0 ? "+" : "") + fixed(value, 2);
const interval = (bounds) => (bounds ? `${fixed(bounds[0], 2)} .. ${fixed(bounds[1], 2)}` : "");
const lost = (loss) =>
  loss.low === undefined || loss.high === undefined ? "" : `(${signed(-loss.high)} .. ${signed(-loss.low)})`;

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
