// Figures of the A/B report: ratios with their intervals, and every provider under the roof.

const VERDICTS = ["FASTER", "SAME", "SLOWER", "UNCLEAR", "WRONG", "FAILED", "BASE"];

/** Class name of a verdict. */
function verdictClass(verdict) {
  return `v-${(VERDICTS.includes(verdict) ? verdict : "BASE").toLowerCase()}`;
}

/** Call `draw(width)` now and whenever the figure changes width. */
function drawnAtWidth(figure, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(figure.clientWidth);
    if (now && now !== width) {
      width = now;
      figure.querySelector("svg")?.remove();
      figure.append(draw(width));
    }
  }).observe(figure);
}

/** Ratio of every provider to the base, on a logarithmic scale; the band is the noise of the A/A run. */
function intervalPlot(problem, width) {
  const rows = problem.intervals;
  const box = { left: Math.min(158, width * 0.34), right: width - 132, top: 12, row: 28 };
  const height = box.top + rows.length * box.row + 44;
  const ends = rows.flatMap((row) => [row.low, row.high]);
  const x = logScale([...ends, 1 / problem.floor ** 2, problem.floor ** 2], box.left, box.right, [0.5, 2]);
  const bottom = box.top + rows.length * box.row;
  const root = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img" });
  root.setAttribute(
    "aria-label",
    rows.map((row) => `${row.name} ${number(row.ratio)} times as fast as the base, ${row.verdict}`).join("; "),
  );
  let labelled = -Infinity;
  for (const value of x.ticks) {
    const at = x(value);
    root.append(svg("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: bottom }));
    if (at - labelled < 40) continue; // too close to the label before
    labelled = at;
    root.append(svg("text", { x: at, y: bottom + 16, "text-anchor": "middle", text: `${number(value, 1)}×` }));
  }
  const [from, to] = [x(1 / problem.floor), x(problem.floor)];
  root.append(
    svg("rect", { class: "band", x: from, width: Math.max(to - from, 1), y: box.top, height: bottom - box.top }),
    svg("line", { class: "unity", x1: x(1), x2: x(1), y1: box.top, y2: bottom }),
    svg("text", {
      class: "axis-title",
      x: (box.left + box.right) / 2,
      y: bottom + 36,
      "text-anchor": "middle",
      text: "base time / provider time, above 1 is faster",
    }),
  );
  rows.forEach((row, index) => {
    const y = box.top + (index + 0.5) * box.row;
    root.append(
      svg(
        "g",
        { class: `ratio ${verdictClass(row.verdict)}` },
        svg("text", { class: "label", x: box.left - 8, y: y + 4, "text-anchor": "end", text: shorten(row.name, Math.floor(box.left / 8)) }),
        svg("line", { class: "interval", x1: x(row.low), x2: x(row.high), y1: y, y2: y }),
        svg("circle", { class: "median", cx: x(row.ratio), cy: y, r: 5 }),
        svg("text", { x: box.right + 12, y: y + 4, text: `${number(row.ratio)}× ${row.verdict}` }),
      ),
    );
  });
  return root;
}

/** Providers as points under the roofs, each with its name. */
function providerRoofline(problem, width) {
  const height = 372;
  const box = { x0: 52, x1: width - 16, y0: height - 46, y1: 30 };
  const roofs = problem.roofs.filter((roof) => known(roof.bandwidth_gbs));
  const ridges = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops / roof.bandwidth_gbs));
  const ceilings = roofs.flatMap((roof) => roof.ceilings.map((ceiling) => ceiling.gflops));
  const points = problem.points;
  const x = logScale([...points.map((point) => point.intensity), ...ridges], box.x0, box.x1, [0.1, 10]);
  const y = logScale([...points.map((point) => point.gflops), ...ceilings], box.y0, box.y1, [1, 100]);
  const root = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width: "100%", role: "group" });
  root.setAttribute("aria-label", `Roofline with ${points.length} providers`);
  root.append(
    axes(x, y, box, height, width < 520),
    svg(
      "g",
      {},
      roofs.map((roof) => drawRoof(roof, x, y, box)),
    ),
    roofLabels(roofs, x, y, box, true),
  );
  for (const label of namedPoints(points, x, y, box)) root.append(...label);
  return root;
}

/** About the width of a character of a label, in pixels. */
const LABEL_WIDTH = 6.6;

/** A circle and a name for each point; names are pushed apart and lead back to their circle. */
function namedPoints(points, x, y, box) {
  let last = -Infinity;
  return [...points]
    .sort((a, b) => b.gflops - a.gflops)
    .map((point) => {
      const [cx, cy] = [x(point.intensity), y(point.gflops)];
      const at = Math.min(Math.max(cy, last + 14), box.y0);
      last = at;
      const label = `${shorten(point.name, 18)} ${percent(point.roof_fraction)}`;
      const left = cx + 18 + label.length * LABEL_WIDTH > box.x1;
      const text = `${point.name}: ${duration(point.time_us)}, ${si(point.bandwidth_gbs * 1e9, "B/s")}, ${percent(point.roof_fraction)} of the roof`;
      return [
        svg("line", { class: "leader", x1: cx, y1: cy, x2: cx + (left ? -14 : 14), y2: at }),
        svg(
          "circle",
          { class: `point ${verdictClass(point.verdict)}`, cx, cy, r: 6, tabindex: 0, role: "img", "aria-label": text },
          svg("title", { text }),
        ),
        svg("text", {
          class: "label",
          x: cx + (left ? -18 : 18),
          y: at + 4,
          "text-anchor": left ? "end" : "start",
          text: label,
        }),
      ];
    });
}
