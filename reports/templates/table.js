// The kernel table: sorted and filtered over columns, drawn a few rows at a time.

const PAGE_ROWS = 30;
const MORE_ROWS = 200;

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

/** Rows of the table: {size, get(key, row), matching(filter)}. */
function kernelRows(data) {
  const get = (key, row) => {
    if (key === "roof") return data.numbers.roof_fraction[row] > 1 ? "above" : "below";
    const text = data.texts[key];
    return text ? text.labels[text.codes[row]] : data.numbers[key][row];
  };
  let haystacks = null; // made for the first search
  const haystack = (row) => {
    haystacks ||= Array.from({ length: data.rows }, (_, index) =>
      SEARCHED.map((key) => get(key, index))
        .join("\n")
        .toLowerCase(),
    );
    return haystacks[row];
  };
  const matching = ({ facets, query }) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = Object.entries(facets);
    const rows = [];
    for (let row = 0; row < data.rows; row += 1)
      if (wanted.every(([key, value]) => get(key, row) === value) && words.every((word) => haystack(row).includes(word)))
        rows.push(row);
    return rows;
  };
  return { size: data.rows, get, matching };
}

/**
 * The kernel table. `nodes` has table, more and left; `onPoint(row)` is told the row pointed at, or null. Returns
 * {show(rows)}.
 */
function kernelTable(rows, nodes, onPoint) {
  const state = { rows: [], sort: "time_us", descending: true, limit: PAGE_ROWS };
  const largest = Array.from({ length: rows.size }, (_, row) => rows.get("share", row) || 0).reduce(
    (a, b) => Math.max(a, b),
    1e-9,
  );

  function sorted() {
    const { sort, descending } = state;
    const sign = descending ? -1 : 1;
    return [...state.rows].sort((a, b) => {
      const [left, right] = [rows.get(sort, a), rows.get(sort, b)];
      if (left === null || right === null) return (left === null) - (right === null);
      if (left === right) return a - b;
      return left < right ? -sign : sign;
    });
  }

  function render() {
    const shown = sorted().slice(0, state.limit);
    const left = state.rows.length - shown.length;
    nodes.table.tBodies[0].replaceChildren(...shown.map((row) => tableRow(row, rows.get, largest, onPoint)));
    nodes.more.hidden = !left;
    nodes.more.textContent = `Show ${count(Math.min(MORE_ROWS, left))} more of ${count(left)}`;
    nodes.left.textContent = left ? `${count(left)} more rows are in the file.` : "";
    for (const head of nodes.table.tHead.rows[0].cells) {
      const active = head.dataset.key === state.sort;
      if (active) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  function sortBy(column) {
    const same = state.sort === column.key;
    Object.assign(state, { sort: column.key, descending: same ? !state.descending : !column.text });
    render();
  }

  nodes.table.replaceChildren(
    el("caption", { class: "hidden", text: "Kernels grouped by op, kernel, shapes and module" }),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        COLUMNS.map((column) => headCell(column, sortBy)),
      ),
    ),
    el("tbody"),
  );
  nodes.more.addEventListener("click", () => {
    const next = state.limit;
    state.limit += MORE_ROWS;
    render();
    nodes.table.tBodies[0].rows[next]?.querySelector("button").focus(); // go on reading where the table ended
  });
  return {
    show(matching) {
      Object.assign(state, { rows: matching, limit: PAGE_ROWS });
      render();
    },
  };
}

function headCell(column, sortBy) {
  const classes = [column.text ? null : "number", column.priority].filter(Boolean).join(" ");
  return el(
    "th",
    { scope: "col", class: classes || null, "data-key": column.key },
    el("button", { type: "button", text: column.title, title: column.help, on: { click: () => sortBy(column) } }),
  );
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
