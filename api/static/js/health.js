// What is serving now: one row per release, and the list of release markers.

import { el, setText, table } from "./dom.js";
import { clock, dateTime, seconds, show, significant } from "./format.js";
import { coverageState } from "./tiles.js";

export const HEALTH_METRICS = ["requests", "request_rate", "error_rate", "ttft_ms_p95", "latency_ms_p95", "workers"];

const change = (value, base) => {
  if (!base || value === null || value === undefined) return null;
  const ratio = (value / base - 1) * 100;
  const sign = ratio > 0 ? "+" : ratio < 0 ? "−" : "±";
  return el("span", { class: "delta" }, `${sign}${significant(Math.abs(ratio), 2)} % vs control`);
};

/**
 * Rows as `newestRows` gives them. Slices that fell silent more than a minute before the last one
 * are left out; when all are silent, the note says when traffic last came.
 * @param {number|null} end newest window of the fleet, epoch seconds
 */
export function showHealth(root, note, rows, end) {
  const busy = rows.filter((r) => r.values.requests > 0);
  const newest = Math.max(...busy.map((r) => r.end));
  const now = busy.filter((r) => r.end > newest - 60);
  const stale = busy.length > 0 && end !== null && end - newest > 60;
  setText(note, stale ? `No traffic now; the last came in the minute to ${clock(newest)} UTC` : "Last minute of event time");
  if (!now.length) {
    root.replaceChildren(el("p", { class: "hint" }, "No requests in the last hour of event time."));
    return;
  }
  const total = now.reduce((sum, r) => sum + r.values.requests, 0);
  const control = (r) => (r.slice.variant === "control" ? undefined
    : now.find((c) => c.slice.variant === "control" && c.slice.model === r.slice.model));
  now.sort((a, b) => `${a.slice.model}`.localeCompare(b.slice.model) || b.values.requests - a.values.requests);
  const head = [["Model"], ["Version"], ["Release"], ["Variant"], ["Share", 1], ["Requests", 1], ["Error rate", 1],
    ["TTFT p95", 1], ["Latency p95", 1], ["Workers", 1], ["Coverage"]];
  const cells = now.map((r) => {
    const v = r.values;
    const base = control(r)?.values;
    return [r.slice.model || "–", r.slice.model_version || "–", r.slice.release || "–", r.slice.variant || "–",
      show(v.requests / total, "ratio"), show(v.request_rate, "rate"), show(v.error_rate, "ratio"),
      el("span", {}, show(v.ttft_ms_p95, "ms"), change(v.ttft_ms_p95, base?.ttft_ms_p95)),
      el("span", {}, show(v.latency_ms_p95, "ms"), change(v.latency_ms_p95, base?.latency_ms_p95)),
      show(v.workers, "count"), coverageState(r.state).badge];
  });
  root.replaceChildren(table("Models and releases that serve now", head, cells));
}

/** Release markers with their time in epoch seconds (`t`) and share, oldest first. */
export function readReleases(body) {
  return (body.releases ?? [])
    .map((r) => ({ ...r, t: seconds(r.ts), share: r.variant_share }))
    .filter((r) => r.t !== null)
    .sort((a, b) => a.t - b.t);
}

export function showReleases(root, releases) {
  if (!releases.length) {
    root.replaceChildren(el("div", { class: "hint" },
      el("p", {}, "No release markers yet. Mark a deployment, so that charts show it:"),
      el("pre", { tabindex: "0" }, 'emit.release(release="r42", model="chat", variant="canary",\n             variant_share=0.2, stage="canary")')));
    return;
  }
  root.replaceChildren(table("Release markers",
    [["Time, UTC"], ["Release"], ["Model"], ["Variant"], ["Share", 1], ["Stage"], ["Note"]],
    releases.slice(-50).reverse().map((r) => [dateTime(r.t), r.release || "–",
      [r.model, r.model_version].filter(Boolean).join(" ") || "–", r.variant || "–",
      show(r.share, "ratio"), r.stage || "–", r.note || ""])));
}
