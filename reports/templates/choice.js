// A table of a report whose rows can be sorted, searched and chosen, as the kernels of a run.

/** Choices of the page, to be started when everything is in its place. */
const choiceTables = [];

function choiceTable(block) {
  const { name, facets, rows: texts, values } = block.choice;
  const numeric = block.heads.filter((head) => head.startsWith("#"));
  const columns = block.heads.map((head) => ({ key: head.replace("#", ""), title: head.replace("#", ""), text: !head.startsWith("#") }));
  const data = columnsOf(columns, texts, numeric, values);
  const of = { place: name, facets: Object.fromEntries(facets.map((head) => [head, head])) };
  const words = columns.filter((column) => column.text).map((column) => column.key);
  const rows = columnRows(data, words);
  const host = {
    controls: el("div", { class: "controls" }),
    status: el("p", { class: "status", role: "status" }),
    table: el("table", { class: "simple" }),
    more: el("button", { type: "button", class: "more" }),
    left: el("p", { class: "note only-print" }),
  };
  const whole = el(
    "div",
    { class: "captioned choice", id: name, role: "group", "aria-label": block.caption, tabindex: -1 },
    el("p", { class: "caption", "aria-hidden": "true", text: block.caption }),
    host.controls,
    host.status,
    el("div", { class: "scroll fitted", tabindex: 0, role: "region", "aria-label": block.caption }, host.table),
    host.more,
    host.left,
  );
  const filter = rowFilter(() => {
    whole.scrollIntoView({ block: "start" });
    whole.focus({ preventScroll: true });
  }, of);
  const drawn = sortedTable(rows, host, {
    caption: block.caption,
    columns,
    sort: null,
    drawRow: (row) => choiceRow(columns, texts[row]),
  });
  filterBar(host.controls, data, filter, of, {
    what: block.caption,
    searched: words.join(", "),
    selects: Object.fromEntries(facets.map((head) => [head, [`All ${head}s`, (label) => shorten(label, 44) || UNKNOWN]])),
  });
  filter.onChange((chosen) => {
    const matching = rows.matching(chosen);
    drawn.show(matching);
    host.status.textContent = matching.length
      ? `${count(matching.length)} of ${counted(rows.size, "row")}`
      : "No row matches. Remove a filter or search for something else.";
  });
  choiceTables.push(filter);
  return whole;
}

/** Texts and numbers by column, each distinct text once. */
function columnsOf(columns, texts, numeric, values) {
  const found = { rows: texts.length, texts: {}, numbers: {} };
  columns.forEach((column, index) => {
    if (!column.text) return;
    const labels = [...new Set(texts.map((row) => row[index]))];
    const code = new Map(labels.map((label, place) => [label, place]));
    found.texts[column.key] = { labels, codes: texts.map((row) => code.get(row[index])) };
  });
  numeric.forEach((head, index) => (found.numbers[head.replace("#", "")] = values.map((row) => row[index])));
  return found;
}

/** Longest text of a cell that is shown whole, and longest that is not broken. */
const [WHOLE, UNBROKEN] = [56, 20];

function choiceRow(columns, cells) {
  return el(
    "tr",
    {},
    cells.map((text, index) =>
      el(
        index ? "td" : "th",
        {
          scope: index ? null : "row",
          tabindex: index ? null : -1,
          class: columns[index].text ? (text.length <= UNBROKEN ? "short" : "long") : "number",
        },
        wholeOnDemand(text),
      ),
    ),
  );
}

/** A text; a long one is short until it is unfolded. */
function wholeOnDemand(text) {
  return text.length <= WHOLE ? text : el("details", {}, el("summary", { text: shorten(text, WHOLE) }), text);
}
