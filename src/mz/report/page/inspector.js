// Everything that is known of the selected layer; on a narrow page a sheet that Escape puts away.

function inspector() {
  const box = byId("inspector");
  const go = (name) =>
    el(
      "button",
      { type: "button", class: "go", onclick: () => select(name, "inspector") },
      el("i", { class: `dot-key f-${byName.get(name).family}` }),
      el("span", {}, name),
    );

  function none() {
    box.classList.remove("open");
    box.replaceChildren(
      el(
        "div",
        { class: "nothing" },
        el("p", {}, "Select a layer in the graph, a chart or the table to see all that is known of it."),
        el(
          "dl",
          { class: "keys" },
          [
            ["/", "search; Enter for the next match"],
            ["\u2191 \u2193", "walk through graph or table"],
            ["\u2190 \u2192", "walk along the charts"],
            ["+ \u2212 0", "zoom the graph, fit it"],
            ["Esc", "clear search, selection"],
          ].map(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)]),
        ),
      ),
    );
  }

  function fact(name, value, title) {
    return value === undefined || value === null || value === ""
      ? []
      : [el("dt", {}, name), el("dd", { title }, value)];
  }

  function rank(layer, one) {
    const values = layers.map(one.value).filter((value) => value !== undefined);
    const place = values.filter((value) =>
      one.lessIsWorse ? value < one.value(layer) : value > one.value(layer),
    ).length;
    return values.length > 1 ? `${place + 1} of ${values.length}` : "";
  }

  function measured(layer) {
    return MEASURES.filter(
      (one) => one.value(layer) !== undefined && !(one.value(layer) === 0 && one.zero !== undefined),
    ).map((one) => {
      const value = one.value(layer);
      const total = ["macs", "weight_bytes", "cycles"].includes(one.key)
        ? layers.reduce((sum, other) => sum + (one.value(other) ?? 0), 0)
        : 0;
      const about = total ? share(value / total) : one.key === "snr_db" ? `${rank(layer, one)} from the noisiest` : "";
      const exact = one.unit === "bytes" || one.unit === "MACs" ? `${count(value)} ${one.unit}` : null;
      return fact(one.label, [one.text(value), about && el("span", { class: "aside" }, about)], exact);
    });
  }

  function settings(layer) {
    return Object.entries(layer.settings).map(([key, value]) => {
      const text =
        key === "clip"
          ? value.map((v, i) => (v === null ? (i ? "\u221e" : "\u2212\u221e") : real(v))).join(" .. ")
          : Array.isArray(value)
            ? value
                .map((one) => (Array.isArray(one) ? JSON.stringify(one) : one))
                .join(key === "kernel_shape" ? "\u00d7" : ", ")
            : String(value);
      return fact(key.replaceAll("_", " "), text);
    });
  }

  function show(layer) {
    const { range, activations, weights, saturation } = layer;
    const clipped = saturation && [
      `${count(saturation.low)} below, ${count(saturation.high)} above`,
      el("span", { class: "aside" }, `of ${quantity(saturation.total)}`),
    ];
    box.replaceChildren(
      el(
        "div",
        { class: `inspector-head f-${layer.family}` },
        el(
          "div",
          {},
          el("h2", {}, layer.name),
          el("p", {}, `${kindOf(layer)} \u00b7 ${shape(layer.shape)} \u00b7 ${bitsOf(layer)}`),
        ),
        el(
          "div",
          { class: "walk" },
          el(
            "button",
            { type: "button", "aria-label": "Layer before", onclick: () => step(-1, "inspector") },
            "\u2039",
          ),
          el("button", { type: "button", "aria-label": "Layer after", onclick: () => step(1, "inspector") }, "\u203a"),
          el(
            "button",
            { type: "button", class: "close", "aria-label": "Close", onclick: () => select(null, "inspector") },
            "\u00d7",
          ),
        ),
      ),
      el(
        "div",
        { class: "inspector-body" },
        el(
          "dl",
          { class: "facts" },
          layer.inputs.length ? fact("reads", layer.inputs.map(go)) : [],
          readers.get(layer.name).length
            ? fact("read by", readers.get(layer.name).map(go))
            : fact("read by", "the network's output"),
          measured(layer),
          layer.clusters?.length ? fact("clusters", `${count(layer.clusters.length)}, context ${layer.context}`) : [],
          fact("bound by", layer.bound),
          settings(layer),
          range && fact("integers hold", `${real(range.low)} .. ${real(range.high)}`),
          range && fact("scale, zero point", `${real(range.scale)}, ${range.zero_point}`),
          activations && fact("calibration saw", `${real(activations.low)} .. ${real(activations.high)}`),
          fact("clipped", clipped),
          weights &&
            fact("weights", [
              `${real(weights.low)} .. ${real(weights.high)}`,
              el("span", { class: "aside" }, `${share(weights.count ? weights.zeros / weights.count : 0)} zeros`),
            ]),
          weights?.not_finite ? fact("not finite", `${count(weights.not_finite)} weights`) : [],
          weights?.scale_low !== undefined &&
            fact(
              "weight scales",
              weights.scale_low === weights.scale_high
                ? real(weights.scale_low)
                : `${real(weights.scale_low)} .. ${real(weights.scale_high)}`,
            ),
          layer.origin.length
            ? fact(
                "ONNX nodes",
                layer.origin.map((name) => el("span", { class: "origin" }, name)),
              )
            : [],
        ),
        weights && weights.count && histogramChart(layer, "weights"),
        activations && histogramChart(layer, "activations"),
      ),
    );
    box.classList.add("open");
    box.scrollTop = 0;
    box.querySelector(".inspector-body").scrollTop = 0;
  }

  watchers.push((change) => {
    if (change !== "selected") return;
    const layer = byName.get(state.selected);
    if (layer) show(layer);
    else none();
  });
  none();
}
