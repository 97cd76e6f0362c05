// Numbers, units and times as people read them. Every function takes raw API values.

export const DASH = "–";

/** About `digits` significant digits, without exponent and with thousands separated. */
export function significant(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const decimals = Math.max(0, Math.min(8, digits - 1 - Math.floor(Math.log10(size))));
  const places = size >= 100 ? 0 : decimals;
  const text = value.toLocaleString("en-US", {
    minimumFractionDigits: 0,
    maximumFractionDigits: places,
  });
  return text;
}

const scaled = (value) => {
  const size = Math.abs(value);
  if (size >= 1e9) return [significant(value / 1e9), "G"];
  if (size >= 1e6) return [significant(value / 1e6), "M"];
  if (size >= 1e4) return [significant(value / 1e3), "k"];
  return [significant(value), ""];
};

const suffixed = (value, unit) => {
  const [text, prefix] = scaled(value);
  return [text + (prefix && ` ${prefix}`), unit];
};

const UNITS = {
  rate: (value) => suffixed(value, "req/s"),
  tokens: (value) => suffixed(value, "tok/s"),
  count: (value) => suffixed(value, ""),
  requests: (value) => suffixed(value, "waiting"),
  ratio: (value) => [significant(value * 100), "%"],
  ms: (value) => {
    if (Math.abs(value) >= 60_000) return [significant(value / 60_000), "min"];
    return Math.abs(value) >= 1000 ? [significant(value / 1000), "s"] : [significant(value), "ms"];
  },
  usd: (value) => [`${value < 0 ? "−" : ""}$${significant(Math.abs(value))}`, ""],
  usd_per_hour: (value) => [`$${significant(value)}`, "/h"],
  usd_per_1k: (value) => [`$${significant(value)}`, "/ 1k tok"],
};

/** `[text, unit]` of a raw value; a dash without a unit where there is none. */
export function parts(value, kind) {
  if (value === null || value === undefined || Number.isNaN(value)) return [DASH, ""];
  return UNITS[kind](value);
}

/** One string with its unit. */
export function show(value, kind) {
  const [text, unit] = parts(value, kind);
  return unit ? `${text} ${unit}` : text;
}

const pad = (n) => String(n).padStart(2, "0");

/** Epoch seconds of an ISO text or of integer microseconds; null where there is none. */
export function seconds(value) {
  if (value === null || value === undefined || value === "" || value === 0) return null;
  if (typeof value === "number") return value / 1e6;
  const ms = Date.parse(/[zZ]|[+-]\d\d:?\d\d$/.test(value) ? value : `${value.replace(" ", "T")}Z`);
  return Number.isNaN(ms) ? null : ms / 1000;
}

export const iso = (s) => new Date(s * 1000).toISOString();

/** `HH:MM:SS` in UTC. */
export function clock(s) {
  if (s === null || s === undefined) return DASH;
  const d = new Date(s * 1000);
  return `${pad(d.getUTCHours())}:${pad(d.getUTCMinutes())}:${pad(d.getUTCSeconds())}`;
}

/** `HH:MM:SS.mmm` in UTC. */
export function clockMs(s) {
  return s === null || s === undefined ? DASH : iso(s).slice(11, 23);
}

/** `YYYY-MM-DD HH:MM:SS` in UTC. */
export function dateTime(s) {
  return s === null || s === undefined ? DASH : `${iso(s).slice(0, 10)} ${clock(s)}`;
}

/** A length of time in words: `42 s`, `3 min`, `2.5 h`, `4 d`. */
export function span(s) {
  const size = Math.abs(s);
  if (size < 90) return `${Math.round(s)} s`;
  if (size < 5400) return `${significant(s / 60, 2)} min`;
  if (size < 129_600) return `${significant(s / 3600, 2)} h`;
  return `${significant(s / 86_400, 2)} d`;
}
