// The requests table: slowest, failed or newest of the chosen range; a click opens the detail.

import { get } from "./api.js";
import { badge, el, table } from "./dom.js";
import { DASH, dateTime, iso, seconds, show } from "./format.js";

export const REQUEST_VIEWS = { slowest: "Slowest", failed: "Failed", newest: "Newest" };

const STATUS_LOOK = { ok: "good", error: "bad", timeout: "bad", rejected: "warn", cancelled: "none" };
const ROWS = 25;

export const statusBadge = (status) =>
  badge(STATUS_LOOK[status] ?? "unsure", status || "in flight");

/**
 * Requests of a view within `[start, end]` (epoch seconds).
 * Slowest asks for those at or above `slow_ms` (the range's p99) and sorts the newest 500 of them.
 */
export async function findRequests(view, { start, end, slow_ms }, signal) {
  const range = { start: start === null ? "" : iso(start), end: iso(end + 1) };
  const ask = async (query) => (await get("v1/requests", { ...range, ...query }, signal)).requests ?? [];
  if (view === "failed") {
    const found = await Promise.all(["error", "timeout"].map((status) => ask({ status, limit: ROWS })));
    return found.flat().sort((a, b) => seconds(b.ts) - seconds(a.ts)).slice(0, ROWS);
  }
  if (view === "newest") return ask({ limit: ROWS });
  let found = await ask({ limit: 500, min_latency_ms: slow_ms ? Math.floor(slow_ms) : "" });
  if (!found.length && slow_ms) found = await ask({ limit: 500 });
  return found.sort((a, b) => (b.latency_ms ?? 0) - (a.latency_ms ?? 0)).slice(0, ROWS);
}

const EMPTY = {
  slowest: "No requests in this range.",
  failed: "No failed requests in this range.",
  newest: "No requests in this range.",
};

/** A table of requests; a click on a row opens it. */
export function requestTable(caption, requests, onOpen) {
  const head = [["Completed, UTC"], ["Request"], ["Status"], ["Model"], ["Release"], ["Route"],
    ["TTFT", 1], ["Latency", 1], ["Tokens in", 1], ["Tokens out", 1], ["Cost", 1]];
  const rows = requests.map((r) => [
    dateTime(seconds(r.ts)),
    r.request_id ? el("button", { type: "button", class: "link", "data-request": r.request_id,
      "aria-label": `Open request ${r.request_id}`, onclick: () => onOpen(r.request_id) },
    r.request_id.length > 14 ? `${r.request_id.slice(0, 12)}…` : r.request_id) : DASH,
    el("span", {}, statusBadge(r.status), r.error_type ? el("span", { class: "muted" }, ` ${r.error_type}`) : null),
    [r.model, r.model_version].filter(Boolean).join(" ") || DASH,
    [r.release, r.variant].filter(Boolean).join(" · ") || DASH, r.route || DASH,
    show(r.ttft_ms, "ms"), show(r.latency_ms, "ms"),
    r.input_tokens?.toLocaleString("en-US") ?? DASH, r.output_tokens?.toLocaleString("en-US") ?? DASH,
    show(r.cost_usd, "usd"),
  ]);
  const node = table(caption, head, rows, { class: "rows" });
  node.addEventListener("click", (event) => {
    if (!event.target.closest("button")) event.target.closest("tbody tr")?.querySelector("button")?.click();
  });
  return node;
}

export function showRequests(root, view, requests, onOpen) {
  root.replaceChildren(requests.length ? requestTable(`${REQUEST_VIEWS[view]} requests`, requests, onOpen)
    : el("p", { class: "hint" }, EMPTY[view]));
}
