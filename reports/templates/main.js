// Puts the page together: sections, the roofline with its controls, and the table that everything links to.

const data = JSON.parse(byId("data").textContent);

/** Show only some kernels in the table and go there. */
function showKernels(facets) {
  table.filter(facets);
  byId("kernels").scrollIntoView({ block: "start" });
  byId("kernels-search").focus({ preventScroll: true });
}

/** A tooltip beside an element, kept inside the window. */
const tooltip = {
  show(node, group, others) {
    const box = byId("tooltip");
    box.replaceChildren(
      el("b", { text: shorten(opName(group.op), 60) }),
      el("span", { class: "bound-chip" }, el("span", { class: `swatch ${boundClass(group.bound)}` }), group.bound),
      facts(groupFacts(group)),
      alsoHere(others),
    );
    box.hidden = false;
    const at = node.getBoundingClientRect();
    const size = box.getBoundingClientRect();
    const right = at.right + 12 + size.width < document.documentElement.clientWidth;
    const left = right ? at.right + 12 : Math.max(8, at.left - size.width - 12);
    box.style.setProperty("left", `${left}px`);
    box.style.setProperty(
      "top",
      `${Math.min(Math.max(8, at.top - size.height / 2), window.innerHeight - size.height - 8)}px`,
    );
  },
  hide() {
    byId("tooltip").hidden = true;
  },
  text(group) {
    return `${opName(group.op)} in ${phaseName(group.phase)}, ${group.bound}, ${duration(group.time_us)}, ${percent(group.share)} of kernel time, ${percent(group.roof_fraction)} of its roof`;
  },
};

/** Groups whose circles lie under or over the one pointed at. */
function alsoHere(others) {
  if (!others.length) return null;
  const listed = others
    .slice(0, 4)
    .map((group) =>
      el(
        "li",
        {},
        el("span", { class: `swatch ${boundClass(group.bound)}` }),
        `${shorten(opName(group.op), 28)} in ${phaseName(group.phase)}, ${duration(group.time_us)}`,
      ),
    );
  if (others.length > 4) listed.push(el("li", { text: `and ${count(others.length - 4)} more` }));
  return el("div", { class: "also" }, "Also here", el("ul", {}, listed));
}

function groupFacts(group) {
  const over = known(group.roof_fraction) && group.roof_fraction > 1;
  return [
    ["phase", phaseName(group.phase)],
    ["shapes", shorten(group.shapes || "not known", 60)],
    ["arithmetic", group.unit === "none" ? "none" : `${group.dtype || UNKNOWN} ${group.unit}`],
    ["time", duration(group.time_us), `${percent(group.share)}, ${counted(group.kernels, "kernel")} a step`],
    [
      "roof",
      percent(group.roof_fraction),
      over ? "above the roof: cache reuse or a wrong count" : `${duration(group.headroom_us)} could be won`,
    ],
    ["intensity", `${number(group.intensity)} FLOP/byte`],
    [
      "speed",
      si(known(group.gflops) ? group.gflops * 1e9 : null, "FLOP/s"),
      si(known(group.bandwidth_gbs) ? group.bandwidth_gbs * 1e9 : null, "B/s"),
    ],
  ];
}

/** The roofline with its legend (buttons that show and hide bounds) and phase filter. */
function rooflineSection() {
  const all = [...data.roofline.points, ...data.roofline.movement];
  const hidden = new Set();
  let phase = "*";
  const kind = data.summary.kind === "projected" ? "PROJECTED" : "";
  const plot = roofline(byId("roofline-figure"), data.roofline, {
    onSelect: selectGroup,
    describe: tooltip,
    watermark: kind,
  });
  const update = () =>
    plot.update((group) => !hidden.has(group.bound) && (phase === "*" || `=${group.phase}` === phase));
  const bounds = BOUNDS.filter((bound) => all.some((group) => group.bound === bound));
  const toggles = bounds.map((bound) => {
    const button = el(
      "button",
      { type: "button", class: "toggle", "aria-pressed": "true", "data-bound": bound, title: BOUND_MEANINGS[bound] },
      el("span", { class: `swatch ${boundClass(bound)}` }),
      bound,
    );
    button.addEventListener("click", () => {
      const on = hidden.delete(bound);
      if (!on) hidden.add(bound);
      button.setAttribute("aria-pressed", String(on));
      update();
    });
    return button;
  });
  const phases = [...new Set(all.map((group) => group.phase))];
  const order = data.phases.map((entry) => entry.phase).filter((name) => phases.includes(name));
  const select = el(
    "select",
    { id: "roofline-phase", "aria-label": "Filter the roofline by phase" },
    el("option", { value: "*", text: "All phases" }),
    order.map((name) => el("option", { value: `=${name}`, text: phaseName(name) })),
  );
  select.addEventListener("change", () => {
    phase = select.value;
    update();
  });
  const sources = data.roofline.roofs.map((roof) => roof.source);
  byId("roofline-controls").append(
    ...toggles,
    select,
    el(
      "span",
      { class: "line-legend" },
      sources.map((source) =>
        el(
          "span",
          {},
          svg(
            "svg",
            { width: 28, height: 8, "aria-hidden": "true" },
            svg(
              "g",
              { class: `roof ${source === "spec" ? "spec" : "measured"}` },
              svg("line", { x1: 0, x2: 28, y1: 4, y2: 4 }),
            ),
          ),
          `${source} roof`,
        ),
      ),
    ),
  );
  rooflineNotes();
}

function selectGroup(group) {
  tooltip.hide();
  showKernels(Object.fromEntries(["op", "phase", "bound", "dtype", "unit", "shapes"].map((key) => [key, group[key]])));
}

/** What the figure leaves out, in words. */
function rooflineNotes() {
  const { unpriced, hidden, points, movement } = data.roofline;
  const notes = byId("roofline-notes");
  if (!points.length && !movement.length)
    byId("roofline-figure").before(
      el("p", { text: "No kernel has a known cost, so there is nothing to place under the roof." }),
    );
  if (hidden.groups)
    notes.append(
      el("p", {
        class: "note",
        text: `${count(hidden.groups)} smaller groups (${duration(hidden.time_us)} a step) are in the table but not drawn.`,
      }),
    );
  if (!unpriced.length) return;
  const time = unpriced.reduce((sum, group) => sum + group.time_us, 0);
  const list = el(
    "ul",
    { class: "unpriced" },
    unpriced
      .slice(0, 40)
      .map((group) =>
        el(
          "li",
          {},
          el("button", {
            type: "button",
            class: "link",
            text: shorten(opName(group.op), 48),
            title: group.op,
            on: { click: () => selectGroup(group) },
          }),
          ` in ${phaseName(group.phase)}: ${duration(group.time_us)}${group.bound === "communication" ? ", communication" : ""}`,
        ),
      ),
  );
  notes.append(
    el(
      "details",
      {},
      el("summary", {
        text: `Not plotted: ${count(unpriced.length)} groups without a known cost, ${duration(time)} a step`,
      }),
      list,
    ),
  );
}

function navigation() {
  byId("nav").append(
    ...[...document.querySelectorAll("main section:not([hidden])")].map((section) =>
      el("li", {}, el("a", { href: `#${section.id}`, text: section.dataset.nav })),
    ),
  );
}

/** Intervals, memory and power modes of a projected run. */
function projectionSection({ projection }) {
  byId("projection").hidden = !projection.length;
  byId("projection-body").append(...drawBlocks(projection));
}

masthead(data);
projectionSection(data);
navigation();
answer(data, showKernels);
phasesFigure(data, showKernels);
headroomList(data, showKernels);
const table = kernelTable(data.table, {
  table: byId("kernels-table"),
  status: byId("kernels-status"),
  more: byId("kernels-more"),
  controls: byId("kernels-controls"),
});
rooflineSection();
optimizerSection(data);
timingSection(data);
metricsSection(data);
trustSection(data);
deviceSection(data);
window.addEventListener("scroll", tooltip.hide, { passive: true });
document.documentElement.dataset.ready = String(Math.round(performance.now()));
