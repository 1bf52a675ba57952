// Numbers and names as people read them; the twin of reports/text.py.

const UNKNOWN = "–";
const PREFIXES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];
const BINARY = [
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
];
const NO_PHASE = "no phase";
const NO_MODULE = "outside any module";
const NO_OP = "(not linked to an op)";
const VARIOUS = "(various)";

/** Whether a value is a finite number. */
function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** About three significant digits, with thousands separators. */
function number(value, digits = 3) {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0";
  const decimals = Math.max(0, digits - Math.floor(Math.log10(Math.abs(value))) - 1);
  if (decimals > 6) return value.toPrecision(digits);
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** A number of things; a decimal only where steps differ. */
function count(value) {
  if (!known(value)) return UNKNOWN;
  const whole = Math.abs(value - Math.round(value)) < 0.05 || value >= 100;
  return value.toLocaleString("en-US", { minimumFractionDigits: whole ? 0 : 1, maximumFractionDigits: whole ? 0 : 1 });
}

/** A number of things with their name: 1 kernel, 16 kernels. */
function counted(value, name) {
  return `${count(value)} ${name}${value === 1 ? "" : "s"}`;
}

/** A power of ten as an axis shows it: 0.1, 1, 1,000, or 10 G with a prefix. */
function tick(value, prefixed = false) {
  if (!prefixed || value < 1e3) return value.toLocaleString("en-US", { maximumSignificantDigits: 1 });
  const [factor, prefix] = PREFIXES.find(([size]) => value >= size * 0.999);
  return `${Math.round(value / factor).toLocaleString("en-US")} ${prefix}`;
}

/** A quantity with a decimal prefix: 310 TFLOP/s. */
function si(value, unit) {
  if (!known(value)) return UNKNOWN;
  for (const [factor, prefix] of PREFIXES) {
    if (Math.abs(value) >= factor) return `${number(value / factor)} ${prefix}${unit}`;
  }
  return `${number(value)} ${unit}`;
}

/** A memory size. */
function bytes(value) {
  if (!known(value)) return UNKNOWN;
  for (const [limit, unit] of BINARY) if (Math.abs(value) >= limit) return `${number(value / limit)} ${unit}`;
  return `${number(value)} B`;
}

/** A time given in µs, in the unit that suits it. */
function duration(us) {
  if (!known(us)) return UNKNOWN;
  if (Math.abs(us) >= 1e6) return `${number(us / 1e6)} s`;
  if (Math.abs(us) >= 1e3) return `${number(us / 1e3)} ms`;
  return `${number(us)} µs`;
}

/** µs as milliseconds without the unit, for a column that names it. */
function milliseconds(us) {
  return number(known(us) ? us / 1e3 : null);
}

/** A share as a percentage; small but present reads <0.1 %. */
function percent(share) {
  if (!known(share)) return UNKNOWN;
  const value = share * 100;
  if (value !== 0 && Math.abs(value) < 0.1) return "<0.1 %";
  if (value >= 99.95 && value < 100) return ">99.9 %";
  return `${value.toFixed(Math.abs(value) >= 100 ? 0 : 1)} %`;
}

/** A sentence in which no number is torn from its unit. */
function unbroken(text) {
  return text.replace(/(?<=\d) (?=%|(?:ns|µs|ms|s|W|J|[KMGT]i?B|B|[kMGTP]?FLOP)\b)/g, "\u00a0");
}

/** Text cut in the middle: C++ template names differ at both ends. */
function shorten(text, width) {
  if (text.length <= width) return text;
  const tail = Math.floor((width - 1) / 2);
  return `${text.slice(0, width - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** A phase, an op and a bound as people read them. */
function phaseName(phase) {
  return phase || NO_PHASE;
}

function opName(op) {
  return (op.startsWith("aten::") ? op.slice(6) : op) || NO_OP;
}

/** Class name of a bound; a bound we do not know is drawn as unknown. */
const BOUNDS = ["memory", "compute", "latency", "inefficient", "communication", "unknown"];
function boundClass(bound) {
  return `b-${BOUNDS.includes(bound) ? bound : "unknown"}`;
}

const BOUND_MEANINGS = {
  memory: "held by memory bandwidth",
  compute: "held by arithmetic",
  latency: "too short: launch time dominates",
  inefficient: "far below both roofs",
  communication: "collectives between devices",
  unknown: "no known cost",
};
