// The roofline: FLOP/s over FLOP/byte, both logarithmic, with a strip at the left for kernels that only move data.

const PLOT = { height: 520, top: 16, bottom: 46, left: 62, right: 18, strip: 92, gap: 58 };

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

/**
 * Draw a roofline into `figure` and keep it drawn as the page changes width.
 *
 * `data` holds points, movement and roofs as reports/figures.py makes them. `onSelect(group)` is called for a click or
 * Enter on a point. Returns {update(filter)}: show only groups for which `filter(group)` holds.
 */
function roofline(figure, data, { onSelect, describe, watermark }) {
  let visible = () => true;
  let width = 0;
  const draw = () => {
    const groups = [...data.points, ...data.movement].filter(visible);
    figure.replaceChildren(drawPlot(data, groups, width, watermark));
    listen(figure, groups, onSelect, describe);
  };
  new ResizeObserver(() => {
    const now = Math.round(figure.clientWidth);
    if (now && now !== width) {
      width = now;
      draw();
    }
  }).observe(figure);
  return {
    update(filter) {
      visible = filter;
      if (width) draw();
    },
  };
}

function drawPlot(data, groups, width, watermark) {
  const narrow = width < 640;
  const height = narrow ? 440 : PLOT.height;
  const strip = data.movement.length ? (narrow ? 44 : PLOT.strip) : 0;
  const left = narrow ? 46 : PLOT.left;
  const x0 = left + (strip ? strip + (narrow ? 44 : PLOT.gap) : 0);
  const box = { x0, x1: width - PLOT.right, y0: height - PLOT.bottom, y1: PLOT.top };
  const roofs = data.roofs.filter((roof) => known(roof.bandwidth_gbs) && roof.bandwidth_gbs > 0);
  const ceilings = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops));
  const ridges = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops / roof.bandwidth_gbs));
  const x = logScale(
    [...data.points.map((point) => point.intensity), ...ridges.map((ridge) => ridge * 4)],
    box.x0,
    box.x1,
    [0.1, 100],
  );
  const y = logScale([...data.points.map((point) => point.gflops), ...ceilings], box.y0, box.y1, [1, 1e4]);
  const longest = Math.max(...data.points.concat(data.movement).map((group) => group.time_us), 1e-9);
  const radius = (group) => Math.max(narrow ? 2.5 : 3, Math.sqrt(group.time_us / longest) * (narrow ? 17 : 26));

  const root = svg("svg", {
    class: "plot",
    viewBox: `0 0 ${width} ${height}`,
    width: "100%",
    role: "group",
    "aria-label": `Roofline with ${groups.length} groups of kernels`,
  });
  root.append(axes(x, y, box, height, narrow));
  if (watermark)
    root.append(
      svg("text", { class: "watermark", x: (box.x0 + box.x1) / 2, y: (box.y0 + box.y1) / 2, text: watermark }),
    );
  root.append(
    svg(
      "g",
      { class: "roofs" },
      roofs.map((roof) => drawRoof(roof, x, y, box)),
    ),
  );
  const place = { x: (group) => x(group.intensity), y: (group) => y(group.gflops) };
  const marks = groups
    .filter((group) => group.flops > 0)
    .map((group) => circle(group, place.x(group), place.y(group), radius(group)));
  if (strip) marks.push(...drawStrip(root, data, groups, roofs, { left, strip, box, narrow, radius }));
  // Large circles first, so that small ones lie on top and can be reached.
  marks.sort((a, b) => b.radius - a.radius);
  root.append(
    svg(
      "g",
      { class: "points" },
      marks.map((mark) => mark.node),
    ),
    roofLabels(roofs, x, y, box, narrow),
  );
  return root;
}

function circle(group, cx, cy, r) {
  const node = svg("circle", {
    class: `point ${boundClass(group.bound)}`,
    cx: cx.toFixed(1),
    cy: cy.toFixed(1),
    r: r.toFixed(1),
    tabindex: -1,
    role: "button",
  });
  return { node: Object.assign(node, { group }), radius: r };
}

/** Axes with a line per decade. */
function axes(x, y, box, height, narrow) {
  const layer = svg("g", { class: "axes" });
  const room = x.ticks.length > 1 ? x(x.ticks[1]) - x(x.ticks[0]) : Infinity;
  for (const [index, value] of x.ticks.entries()) {
    const at = x(value);
    const label = room > 44 || index % 2 === 0 ? tick(value) : "";
    layer.append(svg("line", { class: "grid", x1: at, x2: at, y1: box.y0, y2: box.y1 }));
    layer.append(
      svg("text", { x: at, y: box.y0 + 17, "text-anchor": at > box.x1 - 20 ? "end" : "middle", text: label }),
    );
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
  );
  layer.append(svg("text", { class: "axis-title", x: box.x0 + 6, y: box.y1 + 10, text: "FLOP/s" }));
  return layer;
}

/** One roof: the bandwidth diagonal up to its highest ceiling, and a ceiling per peak from its ridge to the right. */
function drawRoof(roof, x, y, box) {
  const layer = svg("g", { class: `roof ${roof.source === "spec" ? "spec" : "measured"}` });
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

/** The strip of kernels without arithmetic: achieved bandwidth upwards, phases side by side. */
function drawStrip(root, data, groups, roofs, { left, strip, box, narrow, radius }) {
  const bandwidths = [...data.movement.map((group) => group.bandwidth_gbs), ...roofs.map((roof) => roof.bandwidth_gbs)];
  const y = logScale(bandwidths, box.y0, box.y1, [1, 1000]);
  const layer = svg("g", { class: "axes strip" });
  layer.append(svg("rect", { class: "strip-ground", x: left, y: box.y1, width: strip, height: box.y0 - box.y1 }));
  for (const value of y.ticks) {
    layer.append(svg("line", { class: "grid", x1: left, x2: left + strip, y1: y(value), y2: y(value) }));
    layer.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", text: tick(value * 1e9, true) }));
  }
  layer.append(svg("text", { class: "axis-title", x: left + 4, y: box.y1 + 12, text: narrow ? "B/s" : "bytes/s" }));
  layer.append(
    svg("text", {
      class: "axis-title",
      x: left + strip / 2,
      y: box.y0 + 17,
      "text-anchor": "middle",
      text: narrow ? "moves" : "no arithmetic",
    }),
  );
  for (const roof of roofs) {
    layer.append(
      svg(
        "g",
        { class: `roof ${roof.source === "spec" ? "spec" : "measured"}` },
        svg("line", { x1: left, x2: left + strip, y1: y(roof.bandwidth_gbs), y2: y(roof.bandwidth_gbs) }),
      ),
    );
  }
  root.append(layer);
  const phases = [...new Set(data.movement.map((group) => group.phase))];
  return groups
    .filter((group) => group.flops === 0)
    .map((group) => {
      const column = (phases.indexOf(group.phase) + 0.5) / phases.length;
      return circle(group, left + column * strip, y(group.bandwidth_gbs), Math.min(radius(group), strip / 3));
    });
}

/** Hover, focus, arrow keys and selection. One circle at a time is a tab stop, the largest first. */
function listen(figure, groups, onSelect, describe) {
  const nodes = [...figure.querySelectorAll(".point")].sort((a, b) => b.group.time_us - a.group.time_us);
  if (!nodes.length) return;
  nodes[0].setAttribute("tabindex", "0");
  const move = (from, to) => {
    from.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  };
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  nodes.forEach((node, index) => {
    const show = () =>
      describe.show(
        node,
        node.group,
        nodes.filter((other) => other !== node && overlap(node, other)).map((other) => other.group),
      );
    node.setAttribute("aria-label", describe.text(node.group));
    node.addEventListener("pointerenter", show);
    node.addEventListener("pointerleave", describe.hide);
    node.addEventListener("focus", show);
    node.addEventListener("blur", describe.hide);
    node.addEventListener("click", () => onSelect(node.group));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") onSelect(node.group);
      else if (event.key === "Home") move(node, nodes[0]);
      else if (event.key === "End") move(node, nodes[nodes.length - 1]);
      else if (event.key in steps) move(node, nodes[(index + steps[event.key] + nodes.length) % nodes.length]);
      else if (event.key === "Escape") describe.hide();
      else return;
      event.preventDefault();
    });
  });
}

/** Whether two circles hide one another: the middle of the smaller lies within the larger. */
function overlap(a, b) {
  const at = (node, name) => Number(node.getAttribute(name));
  return Math.hypot(at(a, "cx") - at(b, "cx"), at(a, "cy") - at(b, "cy")) < Math.max(at(a, "r"), at(b, "r"));
}
