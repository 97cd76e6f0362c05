// The tiles: the fleet's newest window. Each number carries the raw value as the API gave it.

import { badge, el, setText } from "./dom.js";
import { parts } from "./format.js";

const GROUPS = [
  { title: "Requests", numbers: [["request_rate", "rate"]], area: "w4" },
  { title: "Error rate", numbers: [["error_rate", "ratio"]], area: "w4" },
  { title: "Time to first token", area: "w8",
    numbers: [["ttft_ms_p50", "ms", "p50"], ["ttft_ms_p95", "ms", "p95"], ["ttft_ms_p99", "ms", "p99"]] },
  { title: "End-to-end latency", area: "w8",
    numbers: [["latency_ms_p50", "ms", "p50"], ["latency_ms_p95", "ms", "p95"], ["latency_ms_p99", "ms", "p99"]] },
  { title: "Generated tokens", numbers: [["tokens_per_s", "tokens"]], area: "w4" },
  { title: "Queue depth", numbers: [["queue_depth_mean", "requests"]], area: "w4" },
  { title: "KV cache use", numbers: [["kv_cache_usage_mean", "ratio"]], area: "w3" },
  { title: "Workers", numbers: [["workers", "count"]], area: "w3" },
  { title: "Cost", area: "w5",
    numbers: [["cost_usd", "usd", "last minute"], ["cost_per_1k_tokens_usd", "usd", "per 1k tokens"]] },
  { title: "Coverage", numbers: [["coverage", "ratio"]], area: "w5", coverage: true },
];

export const TILE_METRICS = GROUPS.flatMap((g) => g.numbers.map(([metric]) => metric));

const STATES = {
  ok: ["good", "ok", "Every event that was sent has arrived."],
  partial: ["warn", "partial", "Some events have not arrived."],
  unknown: ["unsure", "unknown", "A worker vanished; loss is unknown."],
  no_data: ["none", "no data", "No worker has sent in this window."],
};

/** Badge and sentence of a coverage state; anything unexpected reads as unknown. */
export function coverageState(state) {
  const [look, word, text] = STATES[state] ?? STATES[state ? "unknown" : "no_data"];
  return { badge: badge(look, word), text, word };
}

const cells = new Map();
let stateCell;
let stateText;

export function buildTiles(root) {
  root.replaceChildren(...GROUPS.map((group) => {
    const numbers = group.numbers.map(([metric, kind, name]) => {
      const value = el("span", { class: "v" }, "–");
      const unit = el("span", { class: "u" });
      const cell = el("dd", { "data-metric": metric, "data-value": "" }, value, unit);
      cells.set(metric, { cell, value, unit, kind });
      return el("div", {}, el("dt", { class: name ? "" : "sr-only" }, name ?? group.title), cell);
    });
    const tile = el("article", { class: `card tile ${group.area}` },
      el("h3", {}, group.title), el("dl", {}, numbers));
    if (group.coverage) {
      stateCell = el("span", { "data-metric": "coverage_state", "data-value": "" }, badge("none", "no data"));
      stateText = el("p", { class: "tile-note" }, STATES.no_data[2]);
      tile.querySelector("dl").append(el("div", {}, el("dt", { class: "sr-only" }, "State"), el("dd", {}, stateCell)));
      tile.append(stateText);
    }
    return tile;
  }));
}

/** Show one window of the fleet: raw values by metric, `coverage` and `coverage_state` included. */
export function updateTiles(values) {
  for (const [metric, { cell, value, unit, kind }] of cells) {
    const raw = values?.[metric] ?? null;
    cell.setAttribute("data-value", raw === null ? "" : String(raw));
    const [text, u] = parts(raw, kind);
    setText(value, text);
    setText(unit, u);
  }
  const state = values?.coverage_state ?? "";
  if (stateCell.getAttribute("data-value") !== state) {
    const look = coverageState(state);
    stateCell.setAttribute("data-value", state);
    stateCell.replaceChildren(look.badge);
    setText(stateText, look.text);
  }
}
