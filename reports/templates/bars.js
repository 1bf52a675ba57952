// Horizontal stacked bars with direct labels, in plain HTML so that they reflow and print.

/**
 * One stacked bar. `parts` are {label, value, class, title, href}; `scale` is the value of the full width. A part wide
 * enough carries its label. What `href` of a part
 * leads to is for the pointer: names and legends lead there too.
 */
function stackedBar(parts, scale, describe) {
  const segments = parts
    .filter((part) => part.value > 0)
    .map((part) => {
      const share = (part.value / scale) * 100;
      const text = `${part.label}: ${describe(part.value)}`;
      return el(
        "span",
        {
          class: `segment ${part.class}${part.href ? " linked" : ""}`,
          title: part.title || text,
          style: { width: `${share}%` },
          on: part.href ? { click: () => (location.hash = part.href) } : {},
        },
        share > 9 ? el("span", { class: "segment-label", text: part.label }) : null,
      );
    });
  const label = parts
    .filter((part) => part.value > 0)
    .map((part) => `${part.label} ${describe(part.value)}`)
    .join(", ");
  return el("div", { class: "stack", role: "img", "aria-label": label || "nothing" }, segments);
}

/** Rows of labelled bars: {name, note, bar, value, href, mono}; `href` makes the name a link, `mono` sets it as code. */
function barRows(rows) {
  const nameOf = (row) => {
    const name = row.mono ? el("code", {}, breakable(row.name)) : el("b", { text: row.name });
    return row.href ? el("a", { href: row.href }, name) : name;
  };
  return el(
    "div",
    { class: "bar-rows" },
    rows.map((row) =>
      el(
        "div",
        { class: "bar-row", "data-name": row.name },
        el("div", { class: "bar-name" }, nameOf(row), row.note ? el("span", { text: row.note }) : null),
        row.bar,
        el("div", { class: "bar-value" }, row.value),
      ),
    ),
  );
}

/** A dotted name that may be broken after its dots. */
function breakable(name) {
  return name.split(/(?<=\.)/).flatMap((part, index) => (index ? [el("wbr"), part] : [part]));
}

/** A single bar of `share` of the width. */
function singleBar(share, cls = "") {
  const width = Math.min(Math.max(share || 0, 0), 1) * 100;
  return el(
    "div",
    { class: "stack single", "aria-hidden": "true" },
    el("span", { class: `segment ${cls}`, style: { width: `${width}%` } }),
  );
}

/** Legend of bounds: coloured squares with names, plus extra entries of {label, class}. */
function boundLegend(bounds, extra = []) {
  const entries = [...bounds.map((bound) => ({ label: bound, class: boundClass(bound) })), ...extra];
  return el(
    "ul",
    { class: "legend" },
    entries.map((entry) => el("li", {}, el("span", { class: `swatch ${entry.class}` }), entry.label)),
  );
}
