// Spend limits: who spent more than one may.

import { badge, el, figures, meter, table } from "./dom.js";
import { DASH, dateTime, seconds, show, span } from "./format.js";

const ROWS = 10;
const BY = { user_hash: "User", tenant: "Tenant" };

function state(limit) {
  if (limit.above === null) return badge("unsure", "not evaluated yet");
  return limit.above ? badge("bad", `${limit.above} above`) : badge("good", "nobody above");
}

function keys(limit) {
  const head = [[BY[limit.by] ?? "Key"], ["Spent", 1], ["Of the limit", 1], [""], ["Above since, UTC"]];
  const rows = limit.keys.slice(0, ROWS).map((k) => [el("code", {}, k.key), show(k.spent_usd, "usd"), show(k.share, "ratio"),
    meter(k.share, k.above_since ? "bad" : "warn"), k.above_since ? dateTime(seconds(k.above_since)) : DASH]);
  const label = `Near or above ${limit.id}`;
  return el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table(label, head, rows)),
    limit.keys.length > ROWS ? el("p", { class: "muted" }, `The first ${ROWS} of ${limit.keys.length}`) : null);
}

/** A card of one limit, with the keys that are near it or above it. */
export function spendLimit(limit) {
  const facts = [["Each may spend", show(limit.limit_usd, "usd")],
    ["Within", limit.window_s === null ? DASH : span(limit.window_s)], ["Above", show(limit.above, "count")]];
  return el("article", { class: "card slo", "data-limit": limit.id, "data-above": limit.above },
    el("header", {}, el("h3", {}, limit.id), state(limit),
      el("p", { class: "muted" }, limit.as_of ? `window to ${dateTime(seconds(limit.as_of))} UTC` : "")),
    figures(facts),
    limit.keys.length ? keys(limit)
      : el("p", { class: "muted" }, limit.above === null ? "Its first full minute of event time has not closed." : "Nobody has spent half of it."));
}

export const NO_LIMITS = el("div", { class: "card hint" }, el("p", {}, "No spend limits are configured. Add one to penstock.yaml:"),
  el("pre", { tabindex: "0" }, `costs:
  spend_limits: [{id: user-day, by: user_hash, usd: 20, window_s: 86400}]`));
