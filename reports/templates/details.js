// The lower half of the report of a run: optimizer, timing, metrics, coverage, device.

/** opt.step() in detail. */
function optimizerSection({ summary }) {
  const optimizer = summary.optimizer || {};
  const body = byId("optimizer-body");
  if (!optimizer.found) {
    body.append(el("p", { text: optimizer.reason || "No optimizer step was found." }));
    return;
  }
  const { floor_bytes_per_parameter: floor, bytes_per_parameter: moved } = optimizer;
  const against = known(floor) ? ` ${optimizer.floor_name || "The floor"} needs ${number(floor)}.` : "";
  const passes = known(optimizer.passes) ? ` Its ops go over all parameters ${number(optimizer.passes)} times.` : "";
  const traffic = known(moved)
    ? [
        " It moves ",
        el("b", { text: `${number(moved)} bytes per parameter` }),
        ` for ${count(optimizer.parameters)} parameters.${against}${passes}`,
      ]
    : [" What it moves per parameter is not known."];
  body.append(
    el(
      "p",
      { class: "lead" },
      kernelLink({ phase: "optimizer" }, { text: "opt.step()" }),
      " takes ",
      el("b", { text: duration(optimizer.dur_us) }),
      `, ${percent(optimizer.share)} of kernel time.`,
      ...traffic,
    ),
  );
  const times = [
    ["now", optimizer.dur_us, "b-memory"],
    ["same bytes at the roof", optimizer.time_at_roof_us, "quiet"],
    ["floor at the roof", optimizer.time_at_floor_us, "quiet"],
  ];
  const longest = Math.max(...times.map(([, value]) => value || 0), 1e-9);
  body.append(
    barRows(
      times
        .filter(([, value]) => value)
        .map(([name, value, cls]) => ({
          name,
          bar: singleBar(value / longest, cls),
          value: el("b", { text: duration(value) }),
        })),
    ),
  );
  body.append(
    simpleTable(
      "Ops of the optimizer step",
      ["Op", "#Kernels", "#Time", "#Reads", "#Writes", "#Bytes per parameter", "#Roof", "Bound"],
      (optimizer.ops || []).map((op) => [
        kernelLink({ op: op.op, phase: "optimizer" }, { title: op.op }, el("code", { text: shorten(opName(op.op), 48) })),
        count(op.kernels),
        duration(op.dur_us),
        si(op.bytes_read || null, "B"),
        si(op.bytes_written || null, "B"),
        number(op.bytes_per_parameter),
        percent(op.roof_fraction || null),
        el("span", {}, el("span", { class: `swatch ${boundClass(op.bound)}` }), op.bound || "unknown"),
      ]),
    ),
  );
}

/** What three ways of timing say. */
function timingSection({ summary, timing }) {
  const body = byId("timing-body");
  const said = summary.timing || {};
  if (!timing.length) {
    body.append(
      el("p", {
        text: said.verdict || "Not known: an imported trace has no bare steps that could be timed in other ways.",
      }),
    );
    return;
  }
  if (said.verdict) body.append(el("p", { class: "verdict", text: said.verdict }));
  const scale = Math.max(...timing.map((entry) => entry.total_ms));
  body.append(
    barRows(
      timing.map((entry) => {
        const parts = entry.parts.map((part) => ({
          label: phaseName(part.phase),
          value: part.ms,
          class: part.phase === "optimizer" ? "phase-optimizer" : "phase",
        }));
        const share = entry.parts
          .filter((part) => part.phase === "optimizer")
          .reduce((sum, part) => sum + part.share, 0);
        return {
          name: entry.name,
          note: entry.note,
          bar: stackedBar(parts, scale, (ms) => duration(ms * 1e3)),
          value: [el("b", { text: percent(share) }), el("span", { text: " opt.step()" })],
        };
      }),
    ),
  );
  if (said.semantics) body.append(el("p", { class: "note", text: said.semantics }));
}

/** All metrics, with what each is a ratio of. */
function metricsSection({ summary }) {
  const metrics = summary.metrics;
  const body = byId("metrics-body");
  if (!metrics) {
    body.append(
      el("p", { text: "Not known: an imported trace has no bare steps to take step time, memory or energy from." }),
    );
    return;
  }
  const { step_time_ms: step, mfu, hfu, tokens_per_s: tokens, peak_memory: memory, power } = metrics;
  const rows = [];
  if (step)
    rows.push([
      "Step time",
      duration(step.median * 1e3),
      `median; p25 ${duration(step.p25 * 1e3)}, p75 ${duration(step.p75 * 1e3)}, min ${duration(step.min * 1e3)}, max ${duration(step.max * 1e3)}`,
    ]);
  if (mfu && !known(mfu.value)) rows.push(["MFU", "not known", mfu.reason || ""]);
  else if (mfu)
    rows.push([
      "MFU",
      percent(mfu.value),
      `${si(mfu.model_flops, "FLOP")} a step without recomputation, of ${mfu.denominator || "an unnamed peak"}`,
    ]);
  if (hfu && known(hfu.value))
    rows.push(["HFU", percent(hfu.value), `${si(hfu.hardware_flops, "FLOP")} a step with recomputation`]);
  if (tokens) rows.push(["Tokens/s", number(tokens.non_padding), `non-padding; ${number(tokens.padded)} with padding`]);
  if (memory) rows.push(["Peak memory", bytes(memory.bytes), memory.what || ""]);
  if (power && power.available) {
    rows.push(["Power", `${number(power.mean_w)} W`, `${power.domain || "unnamed domain"}; ${power.method || ""}`]);
    rows.push(
      ["Energy", `${number(power.energy_per_step_j)} J`, "a step"],
      ["Tokens/s/W", number(power.tokens_per_s_per_w), "non-padding tokens"],
    );
  } else rows.push(["Power", "not known", (power || {}).reason || "no energy meter was read"]);
  body.append(facts(rows));
}

const PRICED = {
  exact: ["priced exactly", "good"],
  inferred: ["priced from recorded shapes", "good"],
  counter: ["priced by hardware counters", "good"],
  estimated: ["priced by estimate", "fair"],
  unknown: ["cost unknown", "b-unknown"],
};

/** Coverage ledger and alignment. */
function trustSection({ summary }) {
  const ledger = summary.ledger || {};
  const rows = [["linked to an op", ledger.linked_share, "good"]];
  for (const [name, share] of Object.entries(ledger.priced_share || {}))
    if (share) rows.push([PRICED[name]?.[0] || name, share, PRICED[name]?.[1] || "quiet"]);
  if (ledger.communication_share) rows.push(["communication", ledger.communication_share, "b-communication"]);
  byId("ledger-body").append(
    el("p", { text: `${counted(ledger.kernels, "kernel")}, ${duration(ledger.kernel_us)} a step.` }),
    barRows(rows.map(([name, share, cls]) => ({ name, bar: singleBar(share, cls), value: percent(share) }))),
  );
  const unknown = ledger.unknown_ops || [];
  if (unknown.length) {
    byId("ledger-body").append(
      el("h4", { text: "Ops without a cost model" }),
      simpleTable(
        "Ops without a cost model",
        ["Op", "#Time", "#Share", "#Kernels"],
        unknown
          .slice(0, 30)
          .map((entry) => [
            kernelLink({ op: entry.op }, { title: entry.op }, el("code", { text: shorten(entry.op || NO_OP, 44) })),
            duration(entry.dur_us),
            percent(entry.share),
            count(entry.kernels),
          ]),
      ),
    );
  }
  const alignment = summary.alignment;
  const body = byId("alignment-body");
  if (!alignment) {
    body.append(el("p", { text: "Not applicable: there was one pass only, so there is nothing to align." }));
    return;
  }
  body.append(
    el(
      "p",
      {},
      el("b", { class: alignment.ok ? "ok" : "bad", text: alignment.ok ? "Matched. " : "Mismatch. " }),
      alignment.message || "",
    ),
  );
  body.append(
    simpleTable(
      "Alignment per step",
      ["Step", "#Recorded", "#Profiled", "#Matched"],
      (alignment.steps || []).map((step) => [
        String(step.step),
        count(step.recorded),
        count(step.profiled),
        count(step.matched),
      ]),
    ),
  );
}

/** Roofs, workload, environment. */
function deviceSection({ summary }) {
  const device = summary.device || {};
  const about = [
    device.title || device.name || "Unknown device",
    device.power_mode ? `power mode ${device.power_mode}` : "",
    device.sm_count ? `${device.sm_count} SMs` : "",
    known(device.memory_bytes) ? bytes(device.memory_bytes) : "",
    known(device.l2_bytes) ? `${bytes(device.l2_bytes)} L2` : "",
    device.unified_memory ? "memory shared with the host" : "",
  ];
  const body = byId("device-body");
  body.append(el("p", { text: about.filter(Boolean).join(" · ") }));
  const roofs = device.roofs || [];
  if (roofs.length) body.append(roofTable(device, roofs));
  else body.append(el("p", { text: "No roofs are known for this device." }));
  body.append(
    ...roofs
      .filter((roof) => roof.note)
      .map((roof) => el("p", { class: "note", text: `${roof.source}: ${roof.note}` })),
  );
  const sources = Object.entries(device.sources || {});
  if (sources.length) body.append(el("details", {}, el("summary", { text: "Sources of these figures" }), sourceList(sources)));
  byId("workload-body").append(
    summary.workload
      ? facts(plainPairs(summary.workload, "none"))
      : el("p", { text: "Not known: the trace does not say what was run." }),
  );
  byId("environment-body").append(
    summary.environment ? facts(plainPairs(summary.environment, "not known")) : el("p", { text: "Not known." }),
  );
}

/** Sources, each once, with the figures that come from it. */
function sourceList(sources) {
  const figuresOf = new Map();
  for (const [name, source] of sources) figuresOf.set(source, [...(figuresOf.get(source) || []), name]);
  return facts([...figuresOf].map(([source, names]) => [names.map((name) => name.replace("figures.", "")).join(", "), "", source]));
}

function roofTable(device, roofs) {
  const pairs = [
    ...new Set(
      roofs.flatMap((roof) =>
        Object.entries(roof.peaks_gflops || {}).flatMap(([unit, peaks]) =>
          Object.keys(peaks).map((dtype) => `${dtype}\t${unit}`),
        ),
      ),
    ),
  ];
  const ratio = (first, second) =>
    roofs.length === 2 ? [known(first) && known(second) && first ? percent(second / first) : ""] : [];
  const line = (name, values, show, compare = true) => [
    name,
    ...values.map(show),
    ...(compare ? ratio(values[0], values[1]) : ratio()),
  ];
  const rows = [
    line(
      "bandwidth",
      roofs.map((roof) => roof.bandwidth_gbs),
      (value) => `${number(value, 4)} GB/s`,
    ),
  ];
  for (const pair of pairs) {
    const [dtype, unit] = pair.split("\t");
    rows.push(
      line(
        `${dtype} ${unit}`,
        roofs.map((roof) => ((roof.peaks_gflops || {})[unit] || {})[dtype]),
        (value) => si(known(value) ? value * 1e9 : null, "FLOP/s"),
      ),
    );
  }
  rows.push(
    line(
      "launch floor",
      roofs.map((roof) => roof.launch_floor_us),
      duration,
      false,
    ),
  );
  const heads = roofs.map((roof) => `#${roof.source}${roof.source === device.roof_used ? " (used)" : ""}`);
  return simpleTable("Roofs", ["Roof", ...heads, ...(roofs.length === 2 ? ["#of spec"] : [])], rows);
}

/** Names and values of an object; `absent` is said of what is null. */
function plainPairs(object, absent) {
  return Object.entries(object).map(([key, value]) => [key.replaceAll("_", " "), plainValue(value, absent)]);
}

function plainValue(value, absent) {
  if (value === null) return absent;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (known(value)) return Number.isInteger(value) ? value.toLocaleString("en-US") : number(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
