// Elements, built without ever parsing text: names from a trace are only ever set as text.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/** The element with an id. */
function byId(id) {
  return document.getElementById(id);
}

/**
 * An HTML element. `options` may hold `class`, `text`, `on` (event → handler), `style` (custom properties and the like)
 * and attributes; children are nodes or text, and null is left out.
 */
function el(tag, options = {}, ...children) {
  return fill(document.createElement(tag), options, children);
}

/** The same for SVG. */
function svg(tag, options = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), options, children);
}

function fill(node, options, children) {
  for (const [key, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "class") node.setAttribute("class", value);
    else if (key === "on") for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (key === "style")
      for (const [name, setting] of Object.entries(value)) node.style.setProperty(name, setting);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * A table of plain cells; cells may be text, nodes, or {text, class}. The first cell of a row is its header. Rows may have
 * names for links to them.
 */
function simpleTable(caption, heads, rows, names = []) {
  const cell = (tag, content, index) => {
    const numeric = index > 0 && heads[index] && heads[index].startsWith("#");
    return el(tag, { class: numeric ? "number" : null, scope: tag === "th" ? "row" : null }, content);
  };
  const headCells = heads.map((head, index) =>
    el(head ? "th" : "td", { scope: head ? "col" : null, class: index > 0 && head.startsWith("#") ? "number" : null, text: head.replace("#", "") }),
  );
  const bodyRows = rows.map((row, index) =>
    el(
      "tr",
      { id: names[index] || null },
      row.map((content, index) => cell(index ? "td" : "th", content, index)),
    ),
  );
  return el(
    "div",
    { class: "scroll fitted", tabindex: 0, role: "region", "aria-label": caption },
    el(
      "table",
      { class: "simple" },
      el("caption", { class: "hidden", text: caption }),
      el("thead", {}, el("tr", {}, headCells)),
      el("tbody", {}, bodyRows),
    ),
  );
}

/** Names and values, one pair a line; a pair may carry a remark. */
function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value, remark] of pairs) {
    list.append(
      el("dt", { text: name }),
      el("dd", {}, el("b", { text: value }), remark ? el("span", { text: remark }) : null),
    );
  }
  return list;
}
