// Forecasts of capacity: when is a fleet full, and how sure is that.

import { badge, el, figures, scope } from "./dom.js";
import { DASH, dateTime, seconds, show, span } from "./format.js";

const LOOK = { saturated: "bad", saturates: "warn", not_within_horizon: "good", unknown: "unsure" };
const WORDS = { saturated: "full now", saturates: "will be full", may: "may be full", not_within_horizon: "not within the horizon", unknown: "unknown" };
const SIGNALS = { batch_fill: "batch", kv_cache_usage: "KV cache", gpu_utilization: "GPU", queue_depth: "queue" };
const REASONS = { no_history: "there is no history yet", too_short: "less than 30 steps of history",
  gaps: "too many hours are unknown", no_utilisation: "the engine states no utilisation",
  load_does_not_move_utilisation: "utilisation does not follow the load",
  beyond_known_loads: "it would be full at more than twice the highest load seen",
  not_evaluated: "not evaluated yet" };

const words = (name) => SIGNALS[name] ?? name.replaceAll("_", " ");
const rate = (v) => (v === null ? DASH : `${show(v, "count")}/s`);
const ahead = (v) => (v === null ? DASH : span(v));

/** The horizon as a line, the interval as a band on it, the expected time as a mark. */
function line(f) {
  const at = (s) => `${Math.min(s / f.horizon_s, 1) * 100}%`;
  const band = el("span", { class: "band" });
  band.style.left = at(f.low_s ?? f.estimate_s);
  band.style.right = `calc(100% - ${f.high_s === null ? "100%" : at(f.high_s)})`;
  const mark = el("span", { class: "mark" });
  mark.style.left = at(f.estimate_s);
  return el("div", {}, el("div", { class: "ahead", "aria-hidden": "true" }, band, mark),
    el("p", { class: "muted ends" }, el("span", {}, "now"), el("span", {}, span(f.horizon_s))));
}

function sentence(f) {
  if (f.state === "saturated") return `Full now: ${words(f.reason)}.`;
  if (f.state === "unknown") return `Nobody can tell: ${REASONS[f.reason] ?? words(f.reason)}.`;
  if (f.estimate_s === null) {
    return `Not expected to be full within ${ahead(f.horizon_s)}${f.low_s === null ? "" : `, but it may be from ${span(f.low_s)} on`}.`;
  }
  return `Expected to be full on ${dateTime(seconds(f.history_end) + f.estimate_s)} UTC; ${words(f.signal)} first.`;
}

/** A card of one forecast. */
export function forecast(f) {
  const state = f.state === "saturates" && f.estimate_s === null ? "may" : f.state; // only the interval gets there
  const interval = f.low_s === null ? DASH : f.high_s === null ? `${span(f.low_s)} or later` : `${span(f.low_s)} to ${span(f.high_s)}`;
  const facts = [["Full in", ahead(f.estimate_s)], ["Interval", interval], ["Load now", rate(f.load)], ["Full at", rate(f.saturating_load)]];
  return el("article", { class: "card slo", "data-forecast": f.id, "data-state": f.state },
    el("header", {}, el("h3", {}, f.id), badge(LOOK[f.state] ?? "unsure", WORDS[state] ?? state), el("p", { class: "muted" }, scope(f.filter))),
    f.load === null ? null : figures(facts),
    f.estimate_s !== null && f.horizon_s ? line(f) : null,
    el("p", {}, sentence(f)),
    f.steps && f.load !== null ? el("p", { class: "muted" }, `From ${f.steps} ${f.daily ? "hours, with a daily cycle" : "minutes: read it as “if this goes on”"}.`) : null);
}

export const NO_FORECASTS = el("div", { class: "card hint" }, el("p", {}, "No forecasts are configured. Add one to penstock.yaml:"),
  el("pre", { tabindex: "0" }, `costs:
  forecasts: [{id: chat, filter: {model: chat}}]`));
