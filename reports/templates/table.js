// The kernel table of a run: its columns, its lines, and what is known of each.

/** Columns: key, title, kind, and from which page width on they are shown (p1 always, p3 only on wide pages). */
const COLUMNS = [
  { key: "op", title: "Kernel", text: true },
  { key: "phase", title: "Phase", text: true, priority: "p2" },
  { key: "bound", title: "Bound", text: true, priority: "p2" },
  { key: "kernels", title: "Count", show: count, priority: "p2" },
  { key: "time_us", title: "Time, ms", show: milliseconds },
  { key: "share", title: "Share", show: percent, bar: true, priority: "p2" },
  { key: "roof_fraction", title: "Roof", show: percent, help: "Share of the roof that was reached" },
  { key: "headroom_us", title: "Win, ms", show: milliseconds, priority: "p2", help: "Time above the roof" },
  { key: "intensity", title: "FLOP/B", show: number, priority: "p3", help: "Arithmetic intensity, FLOP per byte" },
  { key: "gflops", title: "GFLOP/s", show: number, priority: "p3", help: "Achieved arithmetic" },
  { key: "bandwidth_gbs", title: "GB/s", show: number, priority: "p3", help: "Achieved traffic, reads and writes" },
];

const SEARCHED = ["op", "name", "shapes", "module_group", "phase", "bound", "dtype"];

/** Rows of the kernel table, which can also be chosen by the side of their roof that they lie on. */
function kernelRows(data) {
  const rows = columnRows(data, SEARCHED);
  const facet = (key, row) =>
    key === "roof" ? (data.numbers.roof_fraction[row] > 1 ? "above" : "below") : rows.get(key, row);
  return { ...rows, matching: (chosen) => rows.matching(chosen, facet) };
}

/** The kernel table; `onPoint(row)` is told the row pointed at, or null. */
function kernelTable(rows, nodes, onPoint) {
  const largest = Array.from({ length: rows.size }, (_, row) => rows.get("share", row) || 0).reduce(
    (a, b) => Math.max(a, b),
    1e-9,
  );
  return sortedTable(rows, nodes, {
    caption: "Kernels grouped by op, kernel, shapes and module",
    columns: COLUMNS,
    sort: "time_us",
    drawRow: (row) => tableRow(row, rows.get, largest, onPoint),
  });
}

function tableRow(row, get, largest, onPoint) {
  const line = el("tr", {
    on: {
      pointerenter: () => onPoint(row),
      pointerleave: () => onPoint(null),
      focusin: () => onPoint(row),
      focusout: () => onPoint(null),
    },
  });
  const cells = COLUMNS.map((column) => {
    const classes = [column.text ? null : "number", column.priority, `c-${column.key}`].filter(Boolean).join(" ");
    if (column.key === "op") return el("th", { scope: "row", class: classes }, kernelCell(row, get, line));
    return el("td", { class: classes }, ...cellContent(column, get(column.key, row), largest));
  });
  line.append(...cells);
  return line;
}

function cellContent(column, value, largest) {
  if (column.key === "bound") return [el("span", { class: `swatch ${boundClass(value)}` }), value];
  if (column.key === "phase") return [phaseName(value)];
  if (column.key === "roof_fraction" && value > 1) {
    return [
      el("span", {
        class: "over",
        title: "Above the roof: data came from a cache, or bytes are counted wrongly",
        text: `${percent(value)} !`,
      }),
    ];
  }
  if (column.bar)
    return [el("span", { class: "cell-bar", style: { "--share": (value || 0) / largest } }), column.show(value)];
  return [column.text ? value || UNKNOWN : column.show(value)];
}

/** Op and shapes, under them kernel name and module; a click opens everything known about the row. */
function kernelCell(row, get, line) {
  const [op, name, module, shapes] = ["op", "name", "module_group", "shapes"].map((key) => get(key, row));
  const toggle = el(
    "button",
    { type: "button", class: "row-toggle", "aria-expanded": "false", title: op },
    el("span", { class: "op", text: shorten(opName(op), 44) }),
    shapes ? el("span", { class: "shapes", title: shapes, text: shorten(shapes, 56) }) : null,
  );
  toggle.addEventListener("click", () => {
    const open = toggle.getAttribute("aria-expanded") === "true";
    toggle.setAttribute("aria-expanded", String(!open));
    if (open) line.nextElementSibling.remove();
    else line.after(el("tr", { class: "row-details" }, el("td", { colspan: COLUMNS.length }, rowFacts(row, get))));
  });
  const bound = get("bound", row);
  const second = [el("span", { class: "phone-bound" }, el("span", { class: `swatch ${boundClass(bound)}` }), bound)];
  if (name && name !== op)
    second.push(el("span", { class: "name", title: name, text: shorten(name, module ? 21 : 46) }));
  if (module) second.push(el("span", { class: "module", title: module, text: shorten(module, name === op ? 46 : 24) }));
  return [toggle, el("div", { class: "second" }, second)];
}

/** Everything known about a row, and links to what is like it. */
function rowFacts(row, get) {
  const rate = (key, unit) => si(known(get(key, row)) ? get(key, row) * 1e9 : null, unit);
  const alike = { op: "every row of this op", module_group: "everything in this module", name: "this kernel everywhere" };
  const list = facts([
    ["kernel", get("name", row) || UNKNOWN],
    ["op", get("op", row) || NO_OP],
    ["module", get("module_group", row) || "not known"],
    ["shapes", get("shapes", row) || "not known"],
    [
      "phase",
      phaseName(get("phase", row)),
      get("autograd", row) === "none" ? "" : `autograd: ${get("autograd", row) || "not known"}`,
    ],
    ["bound", get("bound", row), BOUND_MEANINGS[get("bound", row)] || ""],
    [
      "arithmetic",
      get("dtype", row) || UNKNOWN,
      get("unit", row) === "none" ? "no arithmetic" : `${get("unit", row)} unit`,
    ],
    [
      "time",
      duration(get("time_us", row)),
      `${percent(get("share", row))} of kernel time, ${counted(get("kernels", row), "kernel")} a step`,
    ],
    ["roof", percent(get("roof_fraction", row)), `${duration(get("headroom_us", row))} could be won`],
    [
      "work",
      si(get("flops", row), "FLOP"),
      `reads ${si(get("bytes_read", row), "B")}, writes ${si(get("bytes_written", row), "B")}; cost is ${get("provenance", row)}`,
    ],
    [
      "speed",
      rate("gflops", "FLOP/s"),
      `${rate("bandwidth_gbs", "B/s")} at ${number(get("intensity", row))} FLOP/byte`,
    ],
  ]);
  const links = Object.entries(alike)
    .filter(([key]) => get(key, row) && get(key, row) !== VARIOUS && (key !== "name" || get("name", row) !== get("op", row)))
    .map(([key, text]) => kernelLink({ [key]: get(key, row) }, { text: `Show ${text}` }));
  return [list, el("p", { class: "links" }, links)];
}
