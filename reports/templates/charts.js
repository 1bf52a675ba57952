// Figures of a report of sections: stacked bars, lines with intervals, and grids in colour.

const SERIES = 6;

/** Stacked bars on a common scale, with a legend where labels in the bars are not enough. */
function barsFigure(block) {
  const total = (bar) => bar.parts.reduce((sum, part) => sum + part.value, 0);
  const scale = Math.max(...block.bars.map(total), 1e-12);
  const describe = (value) => `${number(value)}${block.unit ? ` ${block.unit}` : ""}`;
  const rows = block.bars.map((bar) => ({
    name: bar.name,
    note: bar.note,
    bar: stackedBar(
      bar.parts.map((part) => ({ label: part.label, value: part.value, class: partClass(part.style) })),
      scale,
      describe,
    ),
    value: unbroken(bar.text),
    href: bar.href,
  }));
  const legend = block.legend.length
    ? el(
        "ul",
        { class: "legend" },
        block.legend.map(([style, name]) => el("li", {}, el("span", { class: `swatch ${partClass(style)}` }), name)),
      )
    : null;
  return el("div", { class: "captioned" }, el("p", { class: "caption", text: block.caption }), barRows(rows), legend, boardNote(block));
}

/** What only the device itself can tell about a figure. */
function boardNote(block) {
  return block.board ? el("p", { class: "note", text: `Only a board can tell: ${block.board}.` }) : null;
}

function partClass(style) {
  return BOUNDS.includes(style) ? boundClass(style) : style;
}

/** A grid whose cells are shaded; the numbers stand in them, so colour is never all there is. */
function heatmapTable(block) {
  const rows = block.rows.map((name, row) => [
    name,
    ...block.texts[row].map((text, column) => {
      const shade = block.shades[row][column];
      const style = known(shade) ? { "--shade": `${Math.round(Math.min(Math.max(shade, 0), 1) * 100)}%` } : {};
      return el("span", { class: known(shade) ? "shade" : "shade none", style, text });
    }),
  ]);
  const table = simpleTable(block.caption, ["", ...block.columns.map((name) => `#${name}`)], rows);
  return el("div", { class: "captioned heatmap" }, el("p", { class: "caption", "aria-hidden": "true", text: block.caption }), table, boardNote(block));
}

/** Lines with their legend; drawn again whenever the figure changes width. The numbers follow as a table to unfold. */
function linesFigure(block) {
  const plot = el("div", { class: "plot-place" });
  const figure = el(
    "figure",
    { class: "lines" },
    el("figcaption", { text: block.caption }),
    plot,
    el(
      "ul",
      { class: "legend" },
      block.lines.map((line, index) =>
        el("li", {}, el("span", { class: `swatch s-${index % SERIES}` }), line.kind === "measured" ? line.name : `${line.name} (${line.kind})`),
      ),
    ),
    boardNote(block),
    el("details", {}, el("summary", { text: "Numbers" }), pointsTable(block)),
  );
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(plot.clientWidth);
    if (!now || now === width) return;
    width = now;
    plot.replaceChildren(linePlot(block, width));
  }).observe(plot);
  return figure;
}

function pointsTable(block) {
  const rows = block.lines.flatMap((line) =>
    line.points.map((point) => [
      line.name,
      number(point.x),
      number(point.y),
      known(point.low) ? `${number(point.low)} to ${number(point.high)}` : UNKNOWN,
    ]),
  );
  return simpleTable(block.caption, ["Line", `#${block.x_title}`, `#${block.y_title}`, "#Interval"], rows);
}

function linePlot(block, width) {
  const height = Math.round(Math.min(360, Math.max(240, width * 0.5)));
  const box = { x0: 62, x1: width - 14, y0: height - 46, y1: 12 };
  const points = block.lines.flatMap((line) => line.points);
  const ys = points.flatMap((point) => [point.y, point.low, point.high]).filter(known);
  const x = (block.x_log ? logAxis : linearAxis)(points.map((point) => point.x), box.x0, box.x1);
  const y = (block.y_log ? logAxis : linearAxis)(ys, box.y0, box.y1);
  const root = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img" });
  root.setAttribute("aria-label", `${block.caption}: ${block.y_title} over ${block.x_title}; the numbers follow as a table${block.flags.map((flag) => `; ${flag.text}`).join("")}`);
  drawAxes(root, x, y, box, block, height);
  root.append(...block.flags.map((flag, place) => drawFlag(flag, place, x, box)));
  [...block.lines].reverse().forEach((line, index) => {
    const shown = line.points.filter((point) => known(point.x) && known(point.y));
    const series = `s-${(block.lines.length - 1 - index) % SERIES}`;
    root.append(drawLine(line, shown, x, y, series, line.joined ?? block.joined));
  });
  return root;
}

/** A named place on the x axis; names stand above each other at the axis, to the left where there is no room. */
function drawFlag({ x: value, text, line }, place, x, box) {
  const at = x(value);
  const left = at + 8 + text.length * 7 > box.x1;
  return svg(
    "g",
    { class: `flag s-${line % SERIES}` },
    svg("line", { x1: at, x2: at, y1: box.y1, y2: box.y0 }),
    svg("text", { class: "label", x: at + (left ? -6 : 6), y: box.y0 - 8 - 15 * place, "text-anchor": left ? "end" : "start", text }),
  );
}

function drawLine(line, points, x, y, series, joined) {
  const group = svg("g", { class: `series ${series} ${line.kind === "measured" ? "" : "dashed"}` });
  const banded = points.filter((point) => known(point.low) && known(point.high));
  if (joined && banded.length > 1) {
    const upper = banded.map((point) => `${x(point.x)},${y(point.high)}`);
    const lower = banded.map((point) => `${x(point.x)},${y(point.low)}`).reverse();
    group.append(svg("polygon", { class: "interval-band", points: [...upper, ...lower].join(" ") }));
  }
  if (joined && points.length > 1)
    group.append(svg("polyline", { points: points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ") }));
  for (const point of points) {
    const text = `${line.name}: ${number(point.y)} at ${number(point.x)}`;
    if (!joined && known(point.low))
      group.append(svg("line", { class: "whisker", x1: x(point.x), x2: x(point.x), y1: y(point.low), y2: y(point.high) }));
    group.append(svg("circle", { cx: x(point.x), cy: y(point.y), r: points.length > 60 ? 1.5 : 3.5 }, svg("title", { text })));
  }
  return group;
}

function drawAxes(root, x, y, box, block, height) {
  for (const value of y.ticks) {
    root.append(svg("line", { class: "grid", x1: box.x0, x2: box.x1, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: box.x0 - 7, y: y(value) + 4, "text-anchor": "end", text: axisNumber(value) }));
  }
  let labelled = -Infinity;
  for (const value of x.ticks) {
    root.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.y1, y2: box.y0 }));
    if (x(value) - labelled < 44) continue;
    labelled = x(value);
    root.append(svg("text", { x: x(value), y: box.y0 + 16, "text-anchor": "middle", text: axisNumber(value) }));
  }
  root.append(
    svg("text", { class: "axis-title", x: (box.x0 + box.x1) / 2, y: height - 8, "text-anchor": "middle", text: block.x_title }),
    svg("text", { class: "axis-title", transform: `translate(13 ${(box.y0 + box.y1) / 2}) rotate(-90)`, "text-anchor": "middle", text: block.y_title }),
  );
}

function axisNumber(value) {
  return Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3)
    ? value.toExponential(0).replace("e+", "e")
    : value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** A linear scale from zero, or from the least value where all lie far from zero, with round ticks. */
function linearAxis(values, from, to) {
  const finite = values.filter(known);
  let low = Math.min(...finite, Infinity);
  let high = Math.max(...finite, -Infinity);
  if (!finite.length) [low, high] = [0, 1];
  if (low > 0 && low < 0.6 * high) low = 0;
  if (high === low) [low, high] = [Math.min(low, 0), high || 1];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  low = Math.floor(low / step) * step;
  high = Math.ceil(high / step) * step;
  const scale = (value) => from + ((value - low) / (high - low)) * (to - from);
  scale.ticks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, index) => low + index * step);
  return scale;
}

/** A logarithmic scale; values that are not above zero have no place on it. */
function logAxis(values, from, to) {
  const finite = values.filter((value) => known(value) && value > 0);
  let low = Math.log10(Math.min(...finite, Infinity));
  let high = Math.log10(Math.max(...finite, -Infinity));
  if (!finite.length) [low, high] = [0, 1];
  [low, high] = [Math.floor(low * 3 + 1e-9) / 3, Math.ceil(high * 3 - 1e-9) / 3];
  if (high - low < 1 / 3) high = low + 1 / 3;
  const scale = (value) => from + ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (to - from);
  const steps = high - low > 3 ? [1] : [1, 2, 5];
  scale.ticks = [];
  for (let power = Math.floor(low); power <= high; power++)
    for (const factor of steps) {
      const value = factor * 10 ** power;
      if (Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9) scale.ticks.push(value);
    }
  return scale;
}
