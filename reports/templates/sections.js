// The upper half of the report of a run: title, answer, what to win, where the time goes. Each fills its place.

const KIND_NOTES = {
  imported: "Imported: read from a trace made elsewhere. Only what the trace recorded is known.",
  projected: "Projected: computed from op records and roofs. Nothing on this page was measured on this device.",
};
const IDLE = { label: "idle (waiting for the host)", class: "idle" };

/** Title, kind and what was run. */
function runMasthead({ summary }) {
  const kind = summary.kind || "measured";
  document.documentElement.dataset.kind = kind;
  masthead({
    kind,
    title: summary.title || "Untitled run",
    setting: setting(summary.workload),
    note: KIND_NOTES[kind],
  });
  if (kind === "projected") {
    document.title = `[projected] ${document.title}`;
    tagHeadings("projected");
  }
  const { edgeroof } = summary.environment || {};
  footer(summary.command, summary.created, edgeroof ? `edgeroof ${edgeroof}` : "");
}

function setting(work) {
  if (!work) return "";
  const lengths = work.source_length ? `${work.source_length}/${work.target_length ?? UNKNOWN} tokens` : "";
  return [
    work.model,
    work.batch_size ? `batch ${work.batch_size}` : "",
    lengths,
    work.precision,
    work.optimizer,
    work.attention,
    work.data,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** Headline, details, the key figures, time by bound, warnings. */
function answer({ summary, bounds, totals, table }) {
  const said = summary.answer || {};
  const claims = (said.claims || []).map(({ text, kernels }) => ({ text, href: addressOf(kernels) }));
  byId("headline").prepend(...withClaims(said.headline || "This run has no summary.", claims));
  byId("details").append(...(said.details || []).map((detail) => el("li", {}, withClaims(detail, claims))));
  byId("tiles").append(
    ...tiles(summary, totals).map(([name, value, remark]) =>
      el(
        "div",
        { class: "tile" },
        el("dt", { text: name }),
        el("dd", {}, el("b", { text: value }), remark ? el("span", { text: remark }) : null),
      ),
    ),
  );
  const parts = bounds.map((entry) => ({
    label: entry.bound,
    value: entry.dur_us,
    class: boundClass(entry.bound),
    href: addressOf({ bound: entry.bound }),
  }));
  byId("bound-bar").append(
    el("h3", { text: "Kernel time by what holds it" }),
    stackedBar(parts, totals.kernel_us || 1, duration),
    el(
      "ul",
      { class: "legend" },
      bounds.map((entry) =>
        el(
          "li",
          {},
          kernelLink(
            { bound: entry.bound },
            { title: `${BOUND_MEANINGS[entry.bound] || ""}; show these kernels` },
            el("span", { class: `swatch ${boundClass(entry.bound)}` }),
            `${entry.bound} ${percent(entry.share)}`,
          ),
        ),
      ),
    ),
  );
  const above = table.numbers.roof_fraction.filter((fraction) => fraction > 1).length;
  const link = above
    ? el("p", {}, kernelLink({ roof: "above" }, { text: `Show the ${counted(above, "row")} of the table above their roof` }))
    : null;
  const box = warningsBox("", summary.warnings || [], link);
  if (box) byId("warnings").append(box);
}

function tiles({ metrics, projection }, totals) {
  const result = [];
  const { step_time_ms: step, mfu, tokens_per_s: tokens, peak_memory: memory, power } = metrics || {};
  if (step) result.push(["Step time", duration(step.median * 1e3), spread(step, (projection || {}).step_time_ms)]);
  else result.push(["Kernel time", duration(totals.kernel_us), counted(totals.kernels, "kernel")]);
  if (known(totals.headroom_us))
    result.push([
      "Could be won",
      duration(totals.headroom_us),
      `${percent(totals.headroom_us / totals.kernel_us)} of kernel time lies above the roofs`,
    ]);
  if (mfu && known(mfu.value)) result.push(["MFU", percent(mfu.value), `of ${mfu.denominator || "an unnamed peak"}`]);
  if (tokens) result.push(["Tokens/s", number(tokens.non_padding), `${number(tokens.padded)} with padding`]);
  if (power && power.available)
    result.push(["Tokens/s/W", number(power.tokens_per_s_per_w), `${number(power.mean_w)} W`]);
  if (memory) result.push(["Peak memory", bytes(memory.bytes), ""]);
  return result;
}

/** How sure a step time is: the interval of a projection, or the spread of what was measured. */
function spread(step, estimate) {
  if (estimate && known(estimate.low) && known(estimate.high))
    return `${duration(estimate.low * 1e3)} to ${duration(estimate.high * 1e3)} (90 % interval)`;
  const samples = (step.samples || []).length;
  return samples > 1
    ? `${duration(step.p25 * 1e3)} to ${duration(step.p75 * 1e3)} (middle half of ${samples})`
    : "no repetitions, so no spread";
}

/** Bars of phases, parted by bound; names and parts lead to their kernels. */
function phasesFigure({ phases }) {
  const scale = Math.max(...phases.map((phase) => phase.kernel_ms + (phase.idle_ms || 0)), 1e-12);
  const used = BOUNDS.filter((bound) => phases.some((phase) => phase.bounds[bound]));
  const worthSaying = (idle) => idle > 0.0005 * scale;
  const rows = phases.map((phase) => {
    const parts = boundParts(phase.bounds, { phase: phase.phase });
    if (phase.idle_ms) parts.push({ label: "idle", value: phase.idle_ms * 1e3, class: "idle" });
    return {
      name: phaseName(phase.phase),
      href: addressOf({ phase: phase.phase }),
      note: counted(phase.kernels, "kernel"),
      bar: stackedBar(parts, scale * 1e3, duration),
      value: [
        el("b", { text: duration(phase.kernel_ms * 1e3) }),
        worthSaying(phase.idle_ms) ? el("span", { text: ` + ${duration(phase.idle_ms * 1e3)} idle` }) : null,
      ],
    };
  });
  const idle = phases.some((phase) => worthSaying(phase.idle_ms));
  byId("phases-figure").append(barRows(rows), boundLegend(used, idle ? [IDLE] : []));
}

/** The same for modules, those with the most time. */
function modulesFigure({ modules, totals }) {
  const scale = Math.max(...modules.largest.map((module) => module.kernel_ms), 1e-12);
  const rows = modules.largest.map((module) => ({
    name: shorten(module.module, 60) || NO_MODULE,
    mono: Boolean(module.module),
    href: addressOf({ module_group: module.module }),
    bar: stackedBar(boundParts(module.bounds, { module_group: module.module }), scale * 1e3, duration),
    value: [
      el("b", { text: duration(module.kernel_ms * 1e3) }),
      el("span", { text: ` ${percent((module.kernel_ms * 1e3) / totals.kernel_us)}` }),
    ],
  }));
  byId("modules-figure").append(barRows(rows));
  if (modules.others.count)
    byId("modules-figure").append(
      el("p", {
        class: "note",
        text: `${count(modules.others.count)} smaller modules take ${duration(modules.others.kernel_ms * 1e3)} together; the table has them.`,
      }),
    );
}

function boundParts(bounds, facets) {
  return Object.entries(bounds).map(([bound, ms]) => ({
    label: bound,
    value: ms * 1e3,
    class: boundClass(bound),
    href: addressOf({ ...facets, bound }),
  }));
}

/** Entries of the headroom ranking that are shown at once. */
const HEADROOM_FIRST = 6;

/** Headroom ranking; each entry leads to its kernels. */
function headroomList({ summary, totals }) {
  const entries = summary.headroom || [];
  const longest = Math.max(...entries.map((entry) => entry.dur_us || 0), 1e-9);
  const told = new Map();
  const cards = entries.map((entry) => {
    const advice = entry.advice || "";
    if (!told.has(advice)) told.set(advice, entry.rank);
    return headroomCard(entry, told.get(advice), longest, totals);
  });
  byId("headroom-list").append(...cards.slice(0, HEADROOM_FIRST));
  const rest = cards.slice(HEADROOM_FIRST);
  byId("headroom-more").hidden = !rest.length;
  byId("headroom-more").querySelector("summary").textContent = `${count(rest.length)} more`;
  byId("headroom-more").querySelector("ol").append(...rest);
  if (!entries.length)
    byId("headroom-list").replaceWith(el("p", { text: "No kernel has a known cost, so no headroom can be computed." }));
}

/** One entry; `first` is the rank of the first entry with the same advice. */
function headroomCard(entry, first, longest, totals) {
  const won = Math.max(entry.headroom_us, 0);
  const bar = stackedBar(
    [
      { label: "could be won", value: won, class: `${boundClass(entry.bound)} won` },
      { label: "at the roof", value: entry.dur_us - won, class: `${boundClass(entry.bound)} kept` },
    ],
    longest,
    duration,
  );
  const advice = first === entry.rank ? entry.advice : `Same advice as for ${first}.`;
  const where = `${opName(entry.op)} in ${phaseName(entry.phase)}`;
  return el(
    "li",
    { "data-rank": entry.rank },
    el(
      "div",
      { class: "headroom-head" },
      el(
        "span",
        {},
        el("span", { class: "rank", text: `${entry.rank}. ` }),
        el("b", { text: opName(entry.op) }),
        ` in ${phaseName(entry.phase)}`,
        el("span", { class: "bound-chip" }, el("span", { class: `swatch ${boundClass(entry.bound)}` }), entry.bound),
      ),
      el("span", { class: "won-value" }, el("b", { text: duration(entry.headroom_us) }), ` of ${duration(entry.dur_us)}`),
    ),
    bar,
    entry.advice ? el("p", { class: "advice", text: advice }) : null,
    el(
      "p",
      { class: "headroom-foot" },
      `${percent(entry.headroom_us / totals.kernel_us)} of kernel time · at ${percent(entry.roof_fraction)} of its roof · `,
      kernelLink(
        { op: entry.op, phase: entry.phase },
        { "aria-label": `show ${counted(entry.kernels, "kernel")} of ${where}`, text: `show ${counted(entry.kernels, "kernel")}` },
      ),
    ),
  );
}

/** Intervals, memory and power modes of a projected run. */
function projectionSection({ projection }) {
  byId("projection").hidden = !projection.length;
  byId("projection-body").append(...drawBlocks(projection));
}
