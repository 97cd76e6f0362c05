// The series behind the charts: which windows to ask for, and how answers are kept up to date.

import { get } from "./api.js";
import { iso, seconds } from "./format.js";

const HOUR = 3600;
const DAY = 86_400;

export const RANGES = {
  "15m": { label: "15 m", words: "15 minutes", span_s: 900 },
  "1h": { label: "1 h", words: "hour", span_s: HOUR },
  "6h": { label: "6 h", words: "6 hours", span_s: 6 * HOUR },
  "24h": { label: "24 h", words: "24 hours", span_s: DAY },
  "7d": { label: "7 d", words: "7 days", span_s: 7 * DAY },
  all: { label: "All", words: "time on record", span_s: null },
};

export const GROUPINGS = { fleet: "Fleet", model: "Model", release: "Release" };

const DIMENSIONS = ["model", "model_version", "release", "variant"];

export const METRICS = [
  "requests", "request_rate", "error_rate", "errors_by_type", "tokens_per_s",
  "ttft_ms_p50", "ttft_ms_p95", "ttft_ms_p99",
  "latency_ms_p50", "latency_ms_p95", "latency_ms_p99",
  "queue_depth_mean", "kv_cache_usage_mean", "cost_usd", "cost_per_1k_tokens_usd", "workers",
];

/** The window and step for a span in seconds: no step is longer than its window, so nothing hides. */
export function resolution(span_s) {
  if (span_s <= 1.5 * HOUR) return { window: "1m", window_s: 60, step_s: 10 };
  if (span_s <= 7 * HOUR) return { window: "5m", window_s: 300, step_s: 60 };
  if (span_s <= 1.5 * DAY) return { window: "5m", window_s: 300, step_s: 300 };
  if (span_s <= 10 * DAY) return { window: "30m", window_s: 1800, step_s: 1800 };
  if (span_s <= 45 * DAY) return { window: "2h", window_s: 7200, step_s: 7200 };
  return { window: "1d", window_s: DAY, step_s: DAY };
}

/** End (epoch seconds) of the newest stored window of the fleet; null while there is none. */
export async function newestEnd(signal) {
  const body = await get("v1/windows",
    { metric: "request_rate", window: "1m", grouping: "fleet" }, signal);
  const ends = (body.series ?? []).flatMap((s) => s.points.map((p) => seconds(p.end)));
  return ends.length ? Math.max(...ends) : null;
}

/** Start (epoch seconds) of what is on record, to the hour, at most a year back. */
async function oldestStart(end, signal) {
  const body = await get("v1/windows", {
    metric: "request_rate", window: "1h", grouping: "fleet",
    start: iso(end - 365 * DAY), end: iso(end), step: HOUR,
  }, signal);
  const ends = (body.series ?? []).flatMap((s) => s.points.map((p) => seconds(p.end)));
  return ends.length ? Math.min(...ends) - HOUR : end - HOUR;
}

/** The newest row of each slice of a grouping: `[{slice, end, values, coverage, state}]`. */
export async function newestRows(grouping, metrics, signal) {
  const body = await get("v1/windows", { metric: metrics, window: "1m", grouping }, signal);
  return (body.series ?? []).flatMap((s) => s.points.slice(-1).map((p) => ({
    slice: s.slice, end: seconds(p.end), values: p.values,
    coverage: p.coverage, state: p.coverage_state,
  })));
}

/** Labels that tell slices apart: only the dimensions in which they differ. */
export function sliceLabels(slices) {
  const varying = DIMENSIONS.filter((d) => new Set(slices.map((s) => s[d] ?? "")).size > 1);
  const given = DIMENSIONS.filter((d) => slices.some((s) => s[d]));
  const used = varying.length ? varying : given;
  return slices.map((s) => used.map((d) => s[d]).filter(Boolean).join(" · ")
    || (used.length ? `no ${used.at(-1).replace("_", " ")} given` : "fleet"));
}

/** Series of one grouping over one range, kept current by asking only for what is new. */
export class SeriesStore {
  constructor() {
    this.reset();
  }

  reset() {
    this.key = "";
    this.slices = new Map();
    this.fetchedFull = 0;
  }

  /**
   * Bring the store to `[start, end]` of `view`.
   * @param {{grouping: string, start: number|null, end: number}} view epoch seconds;
   *   start null means everything on record.
   */
  async load(view, signal) {
    const start = view.start ?? (await oldestStart(view.end, signal));
    const grid = resolution(view.end - start);
    const key = [view.grouping, view.key, grid.window, grid.step_s].join();
    const fresh = key !== this.key || performance.now() - this.fetchedFull > 60_000;
    const overlap_s = Math.max(grid.window_s, 6 * grid.step_s); // late events amend recent windows
    const from = fresh ? start : Math.max(start, this.end - overlap_s);
    const body = await get("v1/windows", {
      metric: METRICS, window: grid.window, grouping: view.grouping,
      start: iso(from), end: iso(view.end), step: grid.step_s,
    }, signal);
    if (fresh) {
      this.slices = new Map();
      this.fetchedFull = performance.now();
    }
    Object.assign(this, { key, start, end: view.end, ...grid });
    for (const series of body.series ?? []) this.#merge(series);
    this.#trim();
  }

  #merge(series) {
    const key = JSON.stringify(series.slice);
    const kept = this.slices.get(key) ?? { slice: series.slice, rows: new Map() };
    for (const point of series.points) {
      kept.rows.set(seconds(point.end), { ...point.values, coverage_state: point.coverage_state });
    }
    this.slices.set(key, kept);
  }

  #trim() {
    for (const [key, { rows }] of this.slices) {
      for (const t of rows.keys()) if (t < this.start) rows.delete(t);
      if (rows.size === 0) this.slices.delete(key);
    }
  }

  /**
   * What charts draw: `times` (epoch seconds, ascending, with a hole where windows are missing)
   * and at most `limit` slices, the busiest, each with a row (or undefined) per time; a slice
   * without requests is idle.
   */
  table(limit = 8) {
    const weight = ({ rows }) => [...rows.values()].reduce((sum, r) => sum + (r.requests ?? 0), 0);
    const ranked = [...this.slices.values()].map((s) => [weight(s), s]).sort((a, b) => b[0] - a[0]);
    const kept = ranked.slice(0, limit);
    const all = kept.map(([, s]) => s);
    const labels = sliceLabels(all.map((s) => s.slice));
    const ends = [...new Set(all.flatMap((s) => [...s.rows.keys()]))].sort((a, b) => a - b);
    const times = [];
    for (const t of ends) {
      const last = times.at(-1);
      if (last !== undefined && t - last > 2.5 * this.step_s) times.push(last + this.step_s);
      times.push(t);
    }
    const order = all.map((s, i) => ({ label: labels[i], idle: kept[i][0] === 0, rows: times.map((t) => s.rows.get(t)) }));
    order.sort((a, b) => a.label.localeCompare(b.label));
    return { times, slices: order, omitted: ranked.length - all.length };
  }
}
