// The kernel table: sorted, searched and filtered over columns, drawn a few rows at a time.

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

/** Facets that are not a select box are shown as a removable chip. */
const SELECTS = ["phase", "bound", "module_group"];

/**
 * The kernel table. `nodes` has table, status, more and controls. Returns {filter(facets), rows()}: `filter` replaces all
 * facets, such as {op: "aten::mm", phase: "backward"}.
 */
function kernelTable(data, nodes) {
  const state = { sort: "time_us", descending: true, query: "", facets: {}, limit: PAGE_ROWS };
  const get = (key, row) => {
    const text = data.texts[key];
    return text ? text.labels[text.codes[row]] : data.numbers[key][row];
  };
  const searchable = ["op", "name", "shapes", "module_group", "phase", "bound", "dtype"];
  const haystacks = Array.from({ length: data.rows }, (_, row) =>
    searchable
      .map((key) => get(key, row))
      .join("\n")
      .toLowerCase(),
  );
  const largest = Math.max(...data.numbers.share, 1e-9);
  const api = { get, largest, rows: matching, filter };

  function matching() {
    const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
    const facets = Object.entries(state.facets);
    const rows = [];
    for (let row = 0; row < data.rows; row += 1) {
      if (
        facets.every(([key, value]) => get(key, row) === value) &&
        words.every((word) => haystacks[row].includes(word))
      )
        rows.push(row);
    }
    return rows;
  }

  function sorted(rows) {
    const { sort, descending } = state;
    const sign = descending ? -1 : 1;
    return rows.sort((a, b) => {
      const [left, right] = [get(sort, a), get(sort, b)];
      if (left === null || right === null) return (left === null) - (right === null);
      if (left === right) return a - b;
      return left < right ? -sign : sign;
    });
  }

  function render() {
    const rows = sorted(matching());
    const shown = rows.slice(0, state.limit);
    nodes.table.tBodies[0].replaceChildren(...shown.map((row) => tableRow(row, api)));
    const time = rows.reduce((sum, row) => sum + data.numbers.time_us[row], 0);
    const share = rows.reduce((sum, row) => sum + (data.numbers.share[row] || 0), 0);
    const kernels = rows.reduce((sum, row) => sum + data.numbers.kernels[row], 0);
    nodes.status.textContent = rows.length
      ? `${count(rows.length)} of ${count(data.rows)} rows · ${counted(kernels, "kernel")} · ${duration(time)} a step (${percent(share)} of kernel time)`
      : "No kernel matches. Remove a filter or search for something else.";
    nodes.more.hidden = shown.length === rows.length;
    nodes.more.textContent = `Show ${count(Math.min(MORE_ROWS, rows.length - shown.length))} more of ${count(rows.length - shown.length)}`;
    for (const head of nodes.table.tHead.rows[0].cells) {
      const active = head.dataset.key === state.sort;
      if (active) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    nodes.controls.sync(state);
  }

  function filter(facets, query = "") {
    Object.assign(state, { facets: { ...facets }, query, limit: PAGE_ROWS });
    render();
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
    state.limit += MORE_ROWS;
    render();
  });
  nodes.controls = tableControls(
    nodes.controls,
    data,
    state,
    () => {
      state.limit = PAGE_ROWS;
      render();
    },
    filter,
  );
  render();
  return api;
}

function headCell(column, sortBy) {
  const classes = [column.text ? null : "number", column.priority].filter(Boolean).join(" ");
  return el(
    "th",
    { scope: "col", class: classes, "data-key": column.key },
    el("button", { type: "button", text: column.title, title: column.help, on: { click: () => sortBy(column) } }),
  );
}

function tableRow(row, { get, largest }) {
  const line = el("tr");
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

function rowFacts(row, get) {
  const rate = (key, unit) => si(known(get(key, row)) ? get(key, row) * 1e9 : null, unit);
  return facts([
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
}

/** Search box, select boxes and chips. Returns {sync(state)}. */
function tableControls(host, data, state, changed, filter) {
  const search = el("input", {
    type: "search",
    id: "kernels-search",
    placeholder: "Search op, kernel, module, shapes",
    "aria-label": "Search kernels",
    on: {
      input: () => {
        state.query = search.value;
        changed();
      },
    },
  });
  const titles = { phase: "All phases", bound: "All bounds", module_group: "All modules" };
  const selects = Object.fromEntries(SELECTS.map((key) => [key, facetSelect(key, titles[key], data, state, changed)]));
  const chips = el("span", { class: "chips" });
  const clear = el("button", {
    type: "button",
    class: "quiet",
    text: "Clear filters",
    on: { click: () => filter({}) },
  });
  host.replaceChildren(search, ...Object.values(selects), chips, clear);
  return {
    sync(now) {
      if (search.value !== now.query) search.value = now.query;
      for (const [key, select] of Object.entries(selects))
        select.value = now.facets[key] === undefined ? "*" : `=${now.facets[key]}`;
      const others = Object.entries(now.facets).filter(([key]) => !SELECTS.includes(key));
      chips.replaceChildren(...others.map(([key, value]) => facetChip(key, value, now, changed)));
      clear.hidden = !now.query && !Object.keys(now.facets).length;
    },
  };
}

function facetSelect(key, title, data, state, changed) {
  const labels = [...data.texts[key].labels].sort();
  const names = { phase: phaseName, module_group: (name) => shorten(name, 48) || "no module" };
  const options = labels.map((label) => el("option", { value: `=${label}`, text: (names[key] || String)(label) }));
  const select = el(
    "select",
    { id: `kernels-${key}`, "aria-label": title.replace("All", "Filter by").replace(/s$/, "") },
    el("option", { value: "*", text: title }),
    options,
  );
  select.addEventListener("change", () => {
    if (select.value === "*") delete state.facets[key];
    else state.facets[key] = select.value.slice(1);
    changed();
  });
  return select;
}

function facetChip(key, value, state, changed) {
  const text = `${key}: ${key === "op" ? opName(value) : shorten(value || UNKNOWN, 40)}`;
  return el("button", {
    type: "button",
    class: "chip",
    "aria-label": `Remove filter ${text}`,
    text: `${text} ×`,
    on: {
      click: () => {
        delete state.facets[key];
        changed();
      },
    },
  });
}
