// What a roofline is drawn on: logarithmic axes and the roofs, with their labels.

/** A logarithmic scale with a little room at both ends, and its ticks: powers of ten, or 1-2-5 where there are few. */
function logScale(values, from, to, fallback) {
  const positive = values.filter((value) => known(value) && value > 0);
  const used = positive.length ? positive : fallback;
  const low = Math.log10(Math.min(...used)) - 0.3;
  const high = Math.max(Math.log10(Math.max(...used)) + 0.3, low + 1);
  const position = (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  const ticks = [];
  const steps = high - low < 3 ? [1, 2, 5] : [1];
  for (let power = Math.floor(low); power <= high; power += 1) {
    ticks.push(
      ...steps
        .map((step) => step * 10 ** power)
        .filter((value) => Math.log10(value) >= low && Math.log10(value) <= high),
    );
  }
  return Object.assign(position, { ticks, low: 10 ** low, high: 10 ** high });
}

/** Axes with a line per decade. */
function axes(x, y, box, height, narrow) {
  const layer = svg("g", { class: "axes" });
  let labelled = -Infinity;
  for (const value of x.ticks) {
    const at = x(value);
    const anchor = at > box.x1 - 20 ? "end" : "middle";
    layer.append(svg("line", { class: "grid", x1: at, x2: at, y1: box.y0, y2: box.y1 }));
    const room = (anchor === "end" ? 58 : 40) + (tick(value).length > 4 ? 8 : 0);
    if (at - labelled < room) continue;
    labelled = at;
    layer.append(svg("text", { x: at, y: box.y0 + 17, "text-anchor": anchor, text: tick(value) }));
  }
  for (const value of y.ticks) {
    const at = y(value);
    layer.append(svg("line", { class: "grid", x1: box.x0, x2: box.x1, y1: at, y2: at }));
    layer.append(svg("text", { x: box.x0 - 7, y: at + 4, "text-anchor": "end", text: tick(value * 1e9, true) }));
  }
  layer.append(
    svg("text", {
      class: "axis-title",
      x: (box.x0 + box.x1) / 2,
      y: height - 8,
      "text-anchor": "middle",
      text: narrow ? "FLOP per byte" : "arithmetic intensity, FLOP per byte",
    }),
    svg("text", { class: "axis-title", x: box.x0, y: box.y1 - 10, "text-anchor": "middle", text: "FLOP/s" }),
  );
  return layer;
}

/** One roof: the bandwidth diagonal up to its highest ceiling, and a ceiling per peak from its ridge to the right. */
function drawRoof(roof, x, y, box) {
  const layer = svg("g", { class: roofClass(roof.source) });
  const top = Math.max(...roof.ceilings.map((ceiling) => ceiling.gflops), 0) || y.high;
  const start = Math.max(x.low, y.low / roof.bandwidth_gbs);
  const end = Math.min(x.high, top / roof.bandwidth_gbs);
  if (end > start) {
    layer.append(
      svg("line", { x1: x(start), y1: y(start * roof.bandwidth_gbs), x2: x(end), y2: y(end * roof.bandwidth_gbs) }),
    );
  }
  for (const ceiling of roof.ceilings) {
    const ridge = Math.max(x.low, ceiling.gflops / roof.bandwidth_gbs);
    layer.append(svg("line", { x1: x(ridge), y1: y(ceiling.gflops), x2: box.x1, y2: y(ceiling.gflops) }));
  }
  return layer;
}

function roofClass(source) {
  return `roof ${source === "spec" ? "spec" : "measured"}`;
}

/** Labels of ceilings and diagonals: spec above its line, measured below; pushed apart where they would overlap. */
function roofLabels(roofs, x, y, box, narrow) {
  const layer = svg("g", { class: "roof-labels", "aria-hidden": "true" });
  const below = (roof) => roofs.length > 1 && roof.source !== "spec";
  const labels = roofs.flatMap((roof) =>
    roof.ceilings.map((ceiling) => ({
      at: y(ceiling.gflops) + (below(roof) ? 13 : -5),
      text: `${ceiling.label} ${si(ceiling.gflops * 1e9, "FLOP/s")}${narrow ? "" : ` ${roof.source}`}`,
    })),
  );
  labels.sort((a, b) => a.at - b.at);
  let last = -Infinity;
  for (const label of labels) {
    last = Math.max(label.at, last + 13);
    layer.append(svg("text", { x: box.x1 - 2, y: last, "text-anchor": "end", text: label.text }));
  }
  for (const roof of roofs) {
    const at = Math.max(x.low, y.low / roof.bandwidth_gbs) * (narrow ? 1.4 : 1.6);
    const [px, py] = [x(at), y(at * roof.bandwidth_gbs)];
    const angle = (Math.atan((y(at * 10 * roof.bandwidth_gbs) - py) / (x(at * 10) - px)) * 180) / Math.PI;
    layer.append(
      svg("text", {
        x: px,
        y: py,
        dy: below(roof) ? 14 : -6,
        transform: `rotate(${angle.toFixed(2)} ${px.toFixed(1)} ${py.toFixed(1)})`,
        text: `${number(roof.bandwidth_gbs, 4)} GB/s ${roof.source}`,
      }),
    );
  }
  return layer;
}
