// One choice of kernels, shown twice: the roofline dims all others, the table lists the chosen ones.

/** Keys that make a group of the roofline; a row of the table has them too. */
const GROUP_KEYS = ["op", "phase", "bound", "dtype", "unit", "shapes"];

/** Most groups of the figure that are repeated as a table. */
const LISTED_GROUPS = 100;

/** The section with the filters, the roofline and the table. */
function explorer({ summary, roofline: figure, table: columns, bounds }) {
  const rows = kernelRows(columns);
  const groups = [...figure.points, ...figure.movement];
  const filter = rowFilter(comeHere);
  const plot = roofline(byId("roofline-figure"), figure, {
    onSelect: (group) => filter.change(groupFacets(group), ""),
    describe: tooltip,
    watermark: summary.kind === "projected" ? "PROJECTED" : "",
  });
  const groupOf = groupFinder(groups, rows);
  const nodes = { table: byId("kernels-table"), more: byId("kernels-more"), left: byId("kernels-left") };
  const table = kernelTable(rows, nodes, (row) => plot.light(row === null ? null : groupOf(row)));
  filterBar(byId("kernels-controls"), columns, filter);
  filter.onChange((chosen) => {
    const matching = rows.matching(chosen);
    const shown = new Set(matching.map(groupOf));
    const all = matching.length === rows.size;
    plot.highlight((group) => all || shown.has(group));
    table.show(matching);
    byId("kernels-status").replaceChildren(...statusText(matching, rows));
  });
  rooflineLegend(figure, bounds);
  rooflineNotes(figure, groups);
  filter.start();
  window.addEventListener("scroll", tooltip.hide, { passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && tooltip.hide());
}

/** After a link to kernels: the filters in sight, with the figure and as much of the table as there is room for. */
function comeHere() {
  const filters = byId("filters");
  // What sticks has no place of its own to scroll to; the figure follows right below it.
  const place = getComputedStyle(filters).position === "sticky" ? byId("roofline-figure") : filters;
  place.scrollIntoView({ block: "start" });
  byId("kernels-h").focus({ preventScroll: true });
}

function groupFacets(group) {
  return Object.fromEntries(GROUP_KEYS.map((key) => [key, group[key]]));
}

/**
 * The group that a row of the table belongs to. Rows of small kernels are merged over their shapes: such a row belongs to
 * no single group.
 */
function groupFinder(groups, rows) {
  const keyOf = (get) => GROUP_KEYS.map(get).join("\n");
  const found = new Map(groups.map((group) => [keyOf((key) => group[key]), group]));
  return (row) => found.get(keyOf((key) => rows.get(key, row)));
}

/** How many rows, kernels and how much time are chosen. */
function statusText(matching, rows) {
  if (!matching.length) return ["No kernel matches. Remove a filter or search for something else."];
  const sum = (key) => matching.reduce((total, row) => total + (rows.get(key, row) || 0), 0);
  const [time, won] = [sum("time_us"), sum("headroom_us")];
  const share = matching.length === rows.size ? 1 : sum("share");
  return [
    el("b", { text: `${count(matching.length)} of ${count(rows.size)} rows` }),
    ` · ${counted(sum("kernels"), "kernel")} · ${duration(time)} a step (${percent(share)} of kernel time)`,
    won > 0 ? ` · ${duration(won)} could be won` : "",
  ];
}

/** Marks of the bounds, each a link to its kernels, and the lines of the roofs. */
function rooflineLegend({ points, movement, roofs }, bounds) {
  const used = BOUNDS.filter((bound) => [...points, ...movement].some((group) => group.bound === bound));
  const shareOf = Object.fromEntries(bounds.map((entry) => [entry.bound, entry.share]));
  byId("roofline-legend").append(
    el(
      "ul",
      { class: "legend" },
      used.map((bound) =>
        el(
          "li",
          {},
          kernelLink({ bound }, { title: BOUND_MEANINGS[bound] }, symbol(bound), `${bound} ${percent(shareOf[bound])}`),
        ),
      ),
      roofs.map((roof) =>
        el(
          "li",
          { class: "roof-key" },
          svg(
            "svg",
            { width: 28, height: 8, "aria-hidden": "true" },
            svg("g", { class: roofClass(roof.source) }, svg("line", { x1: 0, x2: 28, y1: 4, y2: 4 })),
          ),
          `${roof.source} roof`,
        ),
      ),
    ),
  );
}

/** What the figure shows and leaves out, in words, and its groups as a table. */
function rooflineNotes({ unpriced, hidden, points, movement }, groups) {
  const notes = byId("roofline-notes");
  if (!groups.length) {
    byId("roofline-figure").before(
      el("p", { text: "No kernel has a known cost, so there is nothing to place under the roof." }),
    );
  } else {
    const time = groups.reduce((sum, group) => sum + group.time_us, 0);
    const near = groups.filter((group) => group.roof_fraction >= 0.5).reduce((sum, group) => sum + group.time_us, 0);
    byId("roofline-caption").textContent =
      `${counted(points.length, "group")} with arithmetic and ${count(movement.length)} that only move data, ${duration(time)} a step. ` +
      `${percent(near / time)} of that time runs at half of its roof or better. ` +
      "Hollow marks at an edge lie beyond it: groups that take next to no time do not stretch the axes.";
    notes.append(groupTable(groups));
  }
  if (hidden.groups)
    notes.append(
      el("p", {
        class: "note",
        text: `${count(hidden.groups)} smaller groups (${duration(hidden.time_us)} a step) are in the table but not drawn.`,
      }),
    );
  if (unpriced.length) notes.append(unpricedList(unpriced));
}

/** The figure as a table, made when it is unfolded. */
function groupTable(groups) {
  const largest = [...groups].sort((a, b) => b.time_us - a.time_us).slice(0, LISTED_GROUPS);
  const details = el(
    "details",
    { class: "screen", id: "roofline-numbers" },
    el("summary", { text: `The roofline as a table${groups.length > LISTED_GROUPS ? `: the ${LISTED_GROUPS} largest groups` : ""}` }),
  );
  details.addEventListener(
    "toggle",
    () =>
      details.append(
        simpleTable(
          "Groups of the roofline",
          ["Op", "Phase", "Bound", "Shapes", "#Time", "#FLOP/byte", "#FLOP/s", "#B/s", "#Roof"],
          largest.map((group) => [
            kernelLink(groupFacets(group), { text: shorten(opName(group.op), 40) }),
            phaseName(group.phase),
            group.bound,
            el("span", { class: "shapes", text: shorten(group.shapes || UNKNOWN, 48) }),
            duration(group.time_us),
            number(group.intensity),
            si(known(group.gflops) ? group.gflops * 1e9 : null, "FLOP/s"),
            si(known(group.bandwidth_gbs) ? group.bandwidth_gbs * 1e9 : null, "B/s"),
            percent(group.roof_fraction),
          ]),
        ),
      ),
    { once: true },
  );
  return details;
}

function unpricedList(unpriced) {
  const time = unpriced.reduce((sum, group) => sum + group.time_us, 0);
  return el(
    "details",
    { class: "screen" },
    el("summary", {
      text: `Not plotted: ${count(unpriced.length)} groups without a known cost, ${duration(time)} a step`,
    }),
    el(
      "ul",
      { class: "unpriced" },
      unpriced
        .slice(0, 40)
        .map((group) =>
          el(
            "li",
            {},
            kernelLink(groupFacets(group), { text: shorten(opName(group.op), 48), title: group.op }),
            ` in ${phaseName(group.phase)}: ${duration(group.time_us)}${group.bound === "communication" ? ", communication" : ""}`,
          ),
        ),
    ),
  );
}
