// The roofline: FLOP/s over FLOP/byte, both logarithmic, with a strip at the left for kernels that only move data.

const PLOT = { height: 430, top: 30, bottom: 46, left: 62, right: 18, strip: 118, gap: 58 };
const NARROW = { height: 420, top: 28, bottom: 46, left: 46, right: 10, strip: 44, gap: 46 };

/** Groups that together take less than this share of the time do not stretch the axes; they stand at the edge. */
const NEGLIGIBLE = 0.005;

const PHASE_SHORT = { forward: "fwd", backward: "bwd", optimizer: "opt", communication: "comm", zero_grad: "zero" };

/**
 * Draw a roofline into `figure` and keep it drawn as the page changes width.
 *
 * `data` holds points, movement and roofs as reports/figures.py makes them. `onSelect(group)` is called for a click or
 * Enter on a mark; `describe` shows and hides what is known about a group. Returns {highlight(isShown), light(group)}:
 * dim all groups for which `isShown` fails, and mark one group that is pointed at elsewhere.
 */
function roofline(figure, data, { onSelect, describe, watermark }) {
  let isShown = () => true;
  let width = 0;
  let marks = [];
  const dim = () => {
    const focused = marks.find((mark) => mark.node === document.activeElement);
    for (const { node } of marks) {
      node.classList.toggle("dim", !isShown(node.group));
      node.setAttribute("tabindex", "-1");
    }
    const first = focused || reachable(marks)[0];
    first?.node.setAttribute("tabindex", "0");
  };
  const draw = () => {
    const plot = drawPlot(data, width, watermark);
    marks = plot.marks;
    figure.replaceChildren(plot.root);
    listen(plot, onSelect, describe);
    dim();
  };
  new ResizeObserver(() => {
    const now = Math.round(figure.clientWidth);
    if (now && now !== width) {
      width = now;
      draw();
    }
  }).observe(figure);
  return {
    highlight(shown) {
      isShown = shown;
      dim();
    },
    light(group) {
      for (const { node } of marks) node.classList.toggle("lit", node.group === group);
    },
  };
}

/** Marks that are not dimmed, the largest first: the order of the keyboard. */
function reachable(marks) {
  return marks
    .filter((mark) => !mark.node.classList.contains("dim"))
    .sort((a, b) => b.node.group.time_us - a.node.group.time_us);
}

/** Values of `key` that an axis must reach: all but those of groups that take next to no time, lowest first. */
function essential(groups, key) {
  const ordered = groups.filter((group) => group[key] > 0).sort((a, b) => a[key] - b[key]);
  let allowance = NEGLIGIBLE * ordered.reduce((sum, group) => sum + group.time_us, 0);
  while (ordered.length > 1 && ordered[0].time_us <= allowance) allowance -= ordered.shift().time_us;
  return ordered.map((group) => group[key]);
}

function drawPlot(data, width, watermark) {
  const narrow = width < 640;
  const size = narrow ? NARROW : PLOT;
  const strip = data.movement.length ? size.strip : 0;
  const x0 = size.left + (strip ? strip + size.gap : 0);
  const box = { x0, x1: width - size.right, y0: size.height - size.bottom, y1: size.top };
  const roofs = data.roofs.filter((roof) => known(roof.bandwidth_gbs) && roof.bandwidth_gbs > 0);
  const ceilings = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops));
  const ridges = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops / roof.bandwidth_gbs));
  const x = logScale(
    [...essential(data.points, "intensity"), ...ridges.map((ridge) => ridge * 4)],
    box.x0,
    box.x1,
    [0.1, 100],
  );
  const y = logScale([...essential(data.points, "gflops"), ...ceilings], box.y0, box.y1, [1, 1e4]);
  const longest = Math.max(...data.points.concat(data.movement).map((group) => group.time_us), 1e-9);
  const radius = (group) => Math.max(narrow ? 2.5 : 3, Math.sqrt(group.time_us / longest) * (narrow ? 17 : 26));

  const root = svg("svg", {
    class: "plot",
    viewBox: `0 0 ${width} ${size.height}`,
    width: "100%",
    role: "group",
    "aria-label": `Roofline with ${count(data.points.length + data.movement.length)} groups of kernels; arrow keys walk through them`,
  });
  root.append(axes(x, y, box, size.height, narrow));
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
  const marks = data.points.map((group) => mark(group, x(group.intensity), y(group.gflops), radius(group), box));
  for (const entry of marks) entry.roofAt = y(entry.node.group.gflops / entry.node.group.roof_fraction);
  if (strip) marks.push(...drawStrip(root, data, roofs, { left: size.left, strip, box, narrow, radius }));
  // Large marks first, so that small ones lie on top and can be reached.
  marks.sort((a, b) => b.radius - a.radius);
  root.append(
    svg(
      "g",
      { class: "points" },
      marks.map((entry) => entry.node),
    ),
    roofLabels(roofs, x, y, box, narrow),
  );
  return { root, marks };
}

/** Outlines of marks of area π r², so that a bound can be told without its colour. */
const OUTLINES = {
  compute: (r) => polygon([[-1, -1], [1, -1], [1, 1], [-1, 1]], r * 0.886), // square
  inefficient: (r) => polygon([[0, -1], [1, 0], [0, 1], [-1, 0]], r * 1.253), // diamond
  latency: (r) => polygon([[0, -1.155], [1, 0.577], [-1, 0.577]], r * 1.347), // triangle
  communication: (r) => polygon([[-0.4, -1], [0.4, -1], [0.4, 1], [-0.4, 1]], r * 1.4), // bar
};

function outline(bound, r) {
  const circle = `M${(-r).toFixed(1)} 0a${r.toFixed(1)} ${r.toFixed(1)} 0 1 0 ${(2 * r).toFixed(1)} 0a${r.toFixed(1)} ${r.toFixed(1)} 0 1 0 ${(-2 * r).toFixed(1)} 0Z`;
  return OUTLINES[bound]?.(r) || circle;
}

function polygon(corners, r) {
  return `M${corners.map(([x, y]) => `${(x * r).toFixed(1)} ${(y * r).toFixed(1)}`).join("L")}Z`;
}

/** A small mark for legends. */
function symbol(bound) {
  return svg(
    "svg",
    { class: `symbol ${boundClass(bound)}`, viewBox: "-6 -6 12 12", "aria-hidden": "true" },
    svg("path", { d: outline(bound, 4.6) }),
  );
}

/** A mark of a group; one that lies beyond the axes stands at their edge. */
function mark(group, x, y, radius, box) {
  const [cx, cy] = [Math.min(Math.max(x, box.x0), box.x1), Math.min(Math.max(y, box.y1), box.y0)];
  const beyond = Math.hypot(cx - x, cy - y) > 1 ? " beyond" : "";
  const node = svg("path", {
    class: `point ${boundClass(group.bound)}${beyond}`,
    d: outline(group.bound, radius),
    transform: `translate(${cx.toFixed(1)} ${cy.toFixed(1)})`,
    tabindex: -1,
    role: "button",
  });
  return { node: Object.assign(node, { group }), radius, cx, cy };
}

/** The strip of kernels without arithmetic: achieved bandwidth upwards, phases side by side. */
function drawStrip(root, data, roofs, { left, strip, box, narrow, radius }) {
  const bandwidths = [...essential(data.movement, "bandwidth_gbs"), ...roofs.map((roof) => roof.bandwidth_gbs)];
  const y = logScale(bandwidths, box.y0, box.y1, [1, 1000]);
  const layer = svg("g", { class: "axes strip" });
  layer.append(svg("rect", { class: "strip-ground", x: left, y: box.y1, width: strip, height: box.y0 - box.y1 }));
  for (const value of y.ticks) {
    layer.append(svg("line", { class: "grid", x1: left, x2: left + strip, y1: y(value), y2: y(value) }));
    layer.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", text: tick(value * 1e9, true) }));
  }
  layer.append(
    svg("text", { class: "axis-title", x: left, y: box.y1 - 10, "text-anchor": "middle", text: narrow ? "B/s" : "bytes/s" }),
    svg("text", {
      class: "axis-title",
      x: left + strip / 2,
      y: box.y0 + 38,
      "text-anchor": "middle",
      text: narrow ? "moves" : "no arithmetic",
    }),
  );
  for (const roof of roofs) {
    layer.append(
      svg(
        "g",
        { class: roofClass(roof.source) },
        svg("line", { x1: left, x2: left + strip, y1: y(roof.bandwidth_gbs), y2: y(roof.bandwidth_gbs) }),
      ),
    );
  }
  root.append(layer);
  const phases = [...new Set(data.movement.map((group) => group.phase))];
  const middle = (phase) => left + ((phases.indexOf(phase) + 0.5) / phases.length) * strip;
  if (!narrow)
    layer.append(
      ...phases.map((phase) =>
        svg("text", {
          class: "strip-phase",
          x: middle(phase),
          y: box.y0 + 15,
          "text-anchor": "middle",
          text: (PHASE_SHORT[phase] || phase).slice(0, 5),
        }),
      ),
    );
  return data.movement.map((group) => {
    const within = { ...box, x0: left, x1: left + strip };
    const entry = mark(group, middle(group.phase), y(group.bandwidth_gbs), Math.min(radius(group), strip / 3), within);
    return Object.assign(entry, { roofAt: y(group.bandwidth_gbs / group.roof_fraction) });
  });
}

/** Hover, focus, arrow keys and selection. One mark at a time is a tab stop, the largest first. */
function listen({ root, marks }, onSelect, describe) {
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  const move = (from, to) => {
    from.node.setAttribute("tabindex", "-1");
    to.node.setAttribute("tabindex", "0");
    to.node.focus();
  };
  for (const entry of marks) {
    const { node } = entry;
    let gap = null;
    const show = () => {
      hide();
      const others = reachable(marks).filter((other) => other !== entry && overlap(entry, other));
      describe.show(node, node.group, others.map((other) => other.node.group));
      gap = gapLine(entry);
      if (gap) root.append(gap);
    };
    const hide = () => {
      gap?.remove();
      describe.hide();
    };
    node.setAttribute("aria-label", describe.text(node.group));
    node.addEventListener("pointerenter", show);
    node.addEventListener("pointerleave", hide);
    node.addEventListener("focus", show);
    node.addEventListener("blur", hide);
    node.addEventListener("click", () => onSelect(node.group));
    node.addEventListener("keydown", (event) => {
      const order = reachable(marks);
      const index = order.indexOf(entry);
      if (event.key === "Enter" || event.key === " ") onSelect(node.group);
      else if (event.key === "Escape") hide();
      else if (!order.length) return;
      else if (event.key === "Home") move(entry, order[0]);
      else if (event.key === "End") move(entry, order[order.length - 1]);
      else if (event.key in steps) move(entry, order[(index + steps[event.key] + order.length) % order.length]);
      else return;
      event.preventDefault();
    });
  }
}

/** From a mark up to its roof: what could be won. Nothing where the roof is close or unknown. */
function gapLine({ node, cx, cy, radius, roofAt }) {
  if (!known(roofAt) || cy - radius - roofAt < 14) return null;
  return svg(
    "g",
    {},
    svg("line", { class: "gap-line", x1: cx, x2: cx, y1: cy - radius, y2: roofAt }),
    svg("text", {
      class: "gap-text",
      x: cx + 6,
      y: (cy - radius + roofAt) / 2 + 4,
      text: `${number(1 / node.group.roof_fraction, 2)}× to its roof`,
    }),
  );
}

/** Whether two marks hide one another: the middle of the smaller lies within the larger. */
function overlap(a, b) {
  return Math.hypot(a.cx - b.cx, a.cy - b.cy) < Math.max(a.radius, b.radius);
}
