// The upper half of the page: title, answer, phases, headroom. Each takes the data and fills its place.

const KIND_NOTES = {
  imported: "Imported: read from a trace made elsewhere. Only what the trace recorded is known.",
  projected: "Projected: computed from op records and roofs. Nothing on this page was measured on this device.",
};
const IDLE = { label: "idle (waiting for the host)", class: "idle" };

/** Title, kind and what was run. */
function masthead({ summary }) {
  const kind = summary.kind || "measured";
  document.documentElement.dataset.kind = kind;
  byId("kind").textContent = `edgeroof · ${kind}`;
  byId("title").textContent = summary.title || "Untitled run";
  byId("setting").textContent = setting(summary.workload);
  if (KIND_NOTES[kind]) {
    byId("banner").textContent = KIND_NOTES[kind];
    byId("banner").hidden = false;
  }
  if (kind === "projected") {
    document.title = `[projected] ${document.title}`;
    for (const heading of document.querySelectorAll("main h2"))
      heading.append(el("span", { class: "tag", text: "projected" }));
  }
  byId("footer").textContent = [
    summary.command,
    summary.created,
    `edgeroof ${(summary.environment || {}).edgeroof || ""}`,
  ]
    .filter(Boolean)
    .join(" · ");
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
function answer({ summary, bounds, totals }, show) {
  const said = summary.answer || {};
  byId("headline").prepend(said.headline || "This run has no summary.");
  byId("details").append(...(said.details || []).map((detail) => el("li", { text: detail })));
  byId("tiles").append(
    ...tiles(summary.metrics, totals).map(([name, value, remark]) =>
      el(
        "div",
        { class: "tile" },
        el("dt", { text: name }),
        el("dd", {}, el("b", { text: value }), remark ? el("span", { text: remark }) : null),
      ),
    ),
  );
  const parts = bounds.map((entry) => ({ label: entry.bound, value: entry.dur_us, class: boundClass(entry.bound) }));
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
          el(
            "button",
            {
              type: "button",
              class: "quiet",
              title: `${BOUND_MEANINGS[entry.bound] || ""}; show these kernels`,
              on: { click: () => show({ bound: entry.bound }) },
            },
            el("span", { class: `swatch ${boundClass(entry.bound)}` }),
            `${entry.bound} ${percent(entry.share)}`,
          ),
        ),
      ),
    ),
  );
  const warnings = summary.warnings || [];
  if (warnings.length) {
    byId("warnings").append(
      el(
        "div",
        { class: "warnings", role: "note" },
        el("h3", { text: warnings.length === 1 ? "Warning" : "Warnings" }),
        el(
          "ul",
          {},
          warnings.map((warning) => el("li", { text: warning })),
        ),
      ),
    );
  }
}

function tiles(metrics, totals) {
  const result = [];
  const { step_time_ms: step, mfu, tokens_per_s: tokens, peak_memory: memory, power } = metrics || {};
  if (step) result.push(["Step time", duration(step.median * 1e3), spread(step)]);
  else result.push(["Kernel time", duration(totals.kernel_us), counted(totals.kernels, "kernel")]);
  if (known(totals.headroom_us))
    result.push([
      "Above the roof",
      duration(totals.headroom_us),
      `${percent(totals.headroom_us / totals.kernel_us)} of kernel time`,
    ]);
  if (mfu && known(mfu.value)) result.push(["MFU", percent(mfu.value), `of ${mfu.denominator || "an unnamed peak"}`]);
  if (tokens) result.push(["Tokens/s", number(tokens.non_padding), `${number(tokens.padded)} with padding`]);
  if (power && power.available)
    result.push(["Tokens/s/W", number(power.tokens_per_s_per_w), `${number(power.mean_w)} W`]);
  if (memory) result.push(["Peak memory", bytes(memory.bytes), ""]);
  return result;
}

function spread(step) {
  const samples = (step.samples || []).length;
  return samples > 1
    ? `${duration(step.p25 * 1e3)} to ${duration(step.p75 * 1e3)} (middle half of ${samples})`
    : "no repetitions, so no spread";
}

/** Stacked bars of phases by bound. */
function phasesFigure({ phases }, show) {
  const scale = Math.max(...phases.map((phase) => phase.kernel_ms + (phase.idle_ms || 0)), 1e-12);
  const used = BOUNDS.filter((bound) => phases.some((phase) => phase.bounds[bound]));
  const idle = phases.some((phase) => phase.idle_ms);
  const rows = phases.map((phase) => {
    const parts = Object.entries(phase.bounds).map(([bound, ms]) => ({
      label: bound,
      value: ms * 1e3,
      class: boundClass(bound),
    }));
    if (phase.idle_ms) parts.push({ label: "idle", value: phase.idle_ms * 1e3, class: "idle" });
    const value = [
      el("b", { text: duration(phase.kernel_ms * 1e3) }),
      known(phase.idle_ms) ? el("span", { text: ` + ${duration(phase.idle_ms * 1e3)} idle` }) : null,
    ];
    const row = barRows([
      {
        name: phaseName(phase.phase),
        note: counted(phase.kernels, "kernel"),
        bar: stackedBar(parts, scale * 1e3, duration),
        value,
      },
    ]);
    const name = row.querySelector("b");
    name.replaceWith(
      el("button", {
        type: "button",
        class: "link",
        text: phaseName(phase.phase),
        title: "Show its kernels",
        on: { click: () => show({ phase: phase.phase }) },
      }),
    );
    return row.firstElementChild;
  });
  byId("phases-figure").append(el("div", { class: "bar-rows" }, rows), boundLegend(used, idle ? [IDLE] : []));
}

/** Headroom ranking; each entry opens its kernels. */
function headroomList({ summary, totals }, show) {
  const entries = summary.headroom || [];
  const longest = Math.max(...entries.map((entry) => entry.dur_us || 0), 1e-9);
  const told = new Map();
  byId("headroom-list").append(
    ...entries.map((entry) => {
      const advice = entry.advice || "";
      if (!told.has(advice)) told.set(advice, entry.rank);
      const same = told.get(advice) !== entry.rank;
      const won = Math.max(entry.headroom_us, 0);
      const bar = stackedBar(
        [
          { label: "could be won", value: won, class: `${boundClass(entry.bound)} won` },
          { label: "at the roof", value: entry.dur_us - won, class: `${boundClass(entry.bound)} kept` },
        ],
        longest,
        duration,
      );
      const filter = { op: entry.op, phase: entry.phase };
      return el(
        "li",
        { "data-rank": entry.rank },
        el(
          "div",
          { class: "headroom-head" },
          el(
            "span",
            { class: "what" },
            el("b", { text: opName(entry.op) }),
            ` in ${phaseName(entry.phase)}`,
            el(
              "span",
              { class: "bound-chip" },
              el("span", { class: `swatch ${boundClass(entry.bound)}` }),
              entry.bound,
            ),
          ),
          el(
            "span",
            { class: "won-value" },
            el("b", { text: duration(entry.headroom_us) }),
            ` of ${duration(entry.dur_us)}`,
          ),
        ),
        bar,
        advice ? el("p", { class: "advice", text: same ? `Same advice as for ${told.get(advice)}.` : advice }) : null,
        el(
          "p",
          { class: "headroom-foot" },
          `${percent(entry.headroom_us / totals.kernel_us)} of kernel time · at ${percent(entry.roof_fraction)} of its roof · `,
          el("a", {
            href: "#kernels",
            text: `show ${counted(entry.kernels, "kernel")}`,
            on: {
              click: (event) => {
                event.preventDefault();
                show(filter);
              },
            },
          }),
        ),
      );
    }),
  );
  if (!entries.length)
    byId("headroom-list").replaceWith(el("p", { text: "No kernel has a known cost, so no headroom can be computed." }));
}
