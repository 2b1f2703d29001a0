// One row a layer: sorted by any column, narrowed by the search and by kind, walked with the arrow keys.

function tableSection() {
  const columns = [
    { key: "index", label: "#", value: (l) => l.index, text: (v) => String(v), number: true },
    { key: "name", label: "Layer", value: (l) => l.name, text: (v) => v },
    { key: "kind", label: "Kind", value: kindOf, text: (v) => v },
    {
      key: "shape",
      label: "Output shape",
      value: (l) => l.shape.reduce((a, b) => a * b, 1),
      text: (v, l) => shape(l.shape),
      number: true,
    },
    { key: "bits", label: "Bits", value: bitsOf, text: (v) => v },
    ...MEASURES.map((one) => ({
      ...one,
      number: true,
      bar: one.unit === "MACs" || one.unit === "bytes" || one.unit === "cycles",
    })),
  ];
  for (const column of columns.filter((one) => one.bar))
    column.most = Math.max(...layers.map((l) => column.value(l) ?? 0), 1);
  let order = { key: "index", up: true };
  let sorted = [];
  let family = "";
  let shown = layers;

  const heads = columns.map((column) => {
    const button = el("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      sorted = [];
      order = {
        key: column.key,
        up:
          order.key === column.key
            ? !order.up
            : !column.number || column.key === "index" || Boolean(column.lessIsWorse),
      };
      arrange();
    });
    return el("th", { scope: "col", class: column.number ? "number" : null }, button);
  });
  const rows = new Map(layers.map((layer) => [layer.name, row(layer)]));
  const body = el("tbody", {});
  const empty = el("p", { class: "empty" }, "No layer matches. Escape clears the search.");
  const table = el(
    "table",
    { class: "layers" },
    el(
      "caption",
      { class: "hidden" },
      "Layers; up and down arrow keys go from row to row, Enter shows the layer in the graph",
    ),
    el("thead", {}, el("tr", {}, heads)),
    body,
  );
  const scroll = el(
    "div",
    { class: "scroll", role: "region", "aria-label": "Table of layers", tabindex: "-1" },
    table,
    empty,
  );
  const kinds = el(
    "select",
    {
      "aria-label": "Kinds shown",
      onchange: (event) => {
        family = event.target.value;
        arrange();
      },
    },
    el("option", { value: "" }, "all kinds"),
    FAMILIES.map((one) => el("option", { value: one }, one)),
  );
  const how = el("p", { class: "about" });

  function row(layer) {
    const cells = columns.map((column) => {
      const value = column.value(layer);
      const text = value === undefined || (value === 0 && column.zero !== undefined) ? "" : column.text(value, layer);
      const cell = el(column.key === "name" ? "th" : "td", {
        class: column.number ? "number" : null,
        scope: column.key === "name" ? "row" : null,
      });
      if (column.key === "name") cell.append(el("i", { class: `dot-key f-${layer.family}` }));
      cell.append(el("span", { class: "value", title: column.key === "name" ? layer.name : null }, text));
      if (column.bar && value) {
        cell.classList.add("barred");
        cell.style.setProperty("--part", `${(100 * value) / column.most}%`);
      }
      return cell;
    });
    return el(
      "tr",
      { tabindex: "-1", class: layer.host ? "host" : null, onclick: () => select(layer.name, "table") },
      cells,
    );
  }

  function arrange() {
    if (!sorted.length) sort();
    shown = sorted.filter(
      (layer) => (!family || layer.family === family) && (!state.matches || state.matches.has(layer.name)),
    );
    const visible = new Set(shown);
    for (const layer of layers) rows.get(layer.name).hidden = !visible.has(layer);
    empty.hidden = shown.length > 0;
    how.textContent =
      shown.length === layers.length
        ? `${count(layers.length)} layers.`
        : `${count(shown.length)} of ${count(layers.length)} layers.`;
    rove();
  }

  function sort() {
    const column = columns.find((one) => one.key === order.key);
    const sign = order.up ? 1 : -1;
    sorted = [...layers].sort((a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) || a.index - b.index;
    });
    body.replaceChildren(...sorted.map((layer) => rows.get(layer.name)));
    heads.forEach((head, index) => {
      if (columns[index].key === order.key) head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  }

  // Columns keep the widths that all rows together need: rows that come and go move nothing, and cost no layout.
  function settle() {
    table.style.width = "max-content";
    const widths = heads.map((head) => Math.ceil(head.getBoundingClientRect().width) + 1);
    heads.forEach((head, index) => (head.style.width = `${widths[index]}px`));
    table.style.minWidth = `${widths.reduce((a, b) => a + b, 0)}px`;
    table.style.width = "";
    table.style.tableLayout = "fixed";
  }

  // One row takes the tab key: the selected one, else the first.
  function rove() {
    const target = shown.find((layer) => layer.name === state.selected) ?? shown[0];
    for (const [name, tr] of rows) {
      const on = name === state.selected;
      tr.classList.toggle("selected", on);
      if (on) tr.setAttribute("aria-current", "true");
      else tr.removeAttribute("aria-current");
      tr.tabIndex = target && name === target.name ? 0 : -1;
    }
  }

  function bring(smooth) {
    const tr = rows.get(state.selected);
    if (!tr?.isConnected) return;
    const head = scroll.querySelector("thead").offsetHeight;
    const [top, end] = [tr.offsetTop - head, tr.offsetTop + tr.offsetHeight];
    if (top < scroll.scrollTop) scroll.scrollTo({ top: top - 4, behavior: smooth });
    else if (end > scroll.scrollTop + scroll.clientHeight)
      scroll.scrollTo({ top: end - scroll.clientHeight + 4, behavior: smooth });
  }

  body.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) {
      const place = shown.findIndex((layer) => rows.get(layer.name) === document.activeElement);
      const next = shown[Math.min(Math.max(place + by, 0), shown.length - 1)];
      select(next.name, "table");
      rows.get(next.name).focus({ preventScroll: true });
      bring("instant");
    } else if (event.key === "Enter" || event.key === " ") {
      const layer = shown.find((one) => rows.get(one.name) === document.activeElement);
      if (layer) {
        select(layer.name, "table");
        tell("selected", "keys");
      }
    } else return;
    event.preventDefault();
  });
  watchers.push((change, from) => {
    if (change === "matches") arrange();
    else {
      rove();
      if (from !== "table") bring("smooth");
    }
  });
  arrange();
  queueMicrotask(settle);
  const frame = el("div", { class: "edge-of" }, scroll);
  const hint = () => frame.classList.toggle("more", scroll.scrollWidth - scroll.clientWidth - scroll.scrollLeft > 4);
  scroll.addEventListener("scroll", hint, { passive: true });
  new ResizeObserver(hint).observe(scroll);
  return section(
    "layers",
    "Layers",
    null,
    el("div", { class: "row" }, how, el("label", { class: "filter" }, "Show ", kinds)),
    frame,
  );
}
