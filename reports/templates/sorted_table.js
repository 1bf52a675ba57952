// A table that is sorted and filtered over columns, and drawn a few rows at a time.

const PAGE_ROWS = 30;
const MORE_ROWS = 200;

/** Rows of columns: {size, get(key, row), matching(filter)}. A search looks into the columns `searched`. */
function columnRows(data, searched) {
  const get = (key, row) => {
    const text = data.texts[key];
    return text ? text.labels[text.codes[row]] : data.numbers[key][row];
  };
  let haystacks = null; // made for the first search
  const haystack = (row) => {
    haystacks ||= Array.from({ length: data.rows }, (_, index) =>
      searched.map((key) => get(key, index))
        .join("\n")
        .toLowerCase(),
    );
    return haystacks[row];
  };
  const matching = ({ facets, query }, valueOf = get) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = Object.entries(facets);
    const rows = [];
    for (let row = 0; row < data.rows; row += 1)
      if (wanted.every(([key, value]) => valueOf(key, row) === value) && words.every((word) => haystack(row).includes(word)))
        rows.push(row);
    return rows;
  };
  return { size: data.rows, get, matching };
}

/**
 * A table over columns. `nodes` has table, more and left; `columns` are those shown, `sort` is the key of the first order
 * (null for that of the rows), and `drawRow(row)` makes a line. Returns {show(rows)}.
 */
function sortedTable(rows, nodes, { caption, columns, sort, drawRow }) {
  const state = { rows: [], sort, descending: true, limit: PAGE_ROWS };

  function sorted() {
    const { sort, descending } = state;
    if (sort === null) return state.rows;
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
    nodes.table.tBodies[0].replaceChildren(...shown.map(drawRow));
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
    el("caption", { class: "hidden", text: caption }),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        columns.map((column) => headCell(column, sortBy)),
      ),
    ),
    el("tbody"),
  );
  nodes.more.addEventListener("click", () => {
    const next = state.limit;
    state.limit += MORE_ROWS;
    render();
    nodes.table.tBodies[0].rows[next]?.querySelector("button, th[tabindex]").focus(); // go on reading where the table ended
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
