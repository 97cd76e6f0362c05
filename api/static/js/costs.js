// The costs page: where the money goes, whether it lasts until the end of the period, who spends too much, when
// the fleet is full.

import { get } from "./api.js";
import { NO_FORECASTS, forecast } from "./capacity.js";
import { $, badge, el, figures, meter, radios, scope, setText, table } from "./dom.js";
import { dateTime, seconds, show } from "./format.js";
import { NO_LIMITS, spendLimit } from "./limits.js";
import { parameters, remember } from "./address.js";

const WINDOWS = { "1h": "1 h", "1d": "1 d", "7d": "7 d", "30d": "30 d" };
const BY = { model: "By model", route: "By route", tenant: "By tenant" };
const ROWS = 10;
const LOOK = { ok: "good", projected: "warn", exceeded: "bad", unknown: "unsure" };
const WORDS = { ok: "within budget", projected: "too fast", exceeded: "exceeded", unknown: "unknown" };

const REASONS = { no_interval: "the projection has no interval yet: it needs complete periods",
  not_evaluated: "not evaluated yet" };

const usd = (value) => show(value, "usd");
const tokens = (row) => show(row.input_tokens + row.output_tokens, "count");

function budget(b) {
  const part = b.budget_usd && b.spent_usd !== null ? b.spent_usd / b.budget_usd : null;
  const ends = seconds(b.period_end);
  const facts = [["Spent", usd(b.spent_usd)], ["Budget", usd(b.budget_usd)],
    ["Projected", usd(b.projected_usd) + (b.low_usd === null ? "" : ` (${usd(b.low_usd)} to ${usd(b.high_usd)})`)],
    ["Last hour", usd(b.last_hour_usd)], ["Plan per hour", usd(b.budget_per_hour_usd)]];
  return el("article", { class: "card slo", "data-budget": b.id, "data-state": b.state },
    el("header", {}, el("h3", {}, b.id), badge(LOOK[b.state] ?? "unsure", WORDS[b.state] ?? b.state), el("p", { class: "muted" }, scope(b.filter))),
    figures(facts),
    el("div", { class: "budget" }, meter(part, LOOK[b.state] === "good" ? "good" : LOOK[b.state] === "bad" ? "bad" : "warn"),
      el("p", {}, el("strong", {}, part === null ? "not evaluated yet" : `${show(part, "ratio")} spent`),
        ends === null ? null : el("span", { class: "muted" }, ` · until ${dateTime(ends)} UTC`))),
    b.reasons.length ? el("p", { class: "muted" }, b.reasons.map((r) => REASONS[r] ?? r.replaceAll("_", " ")).join("; ")) : null);
}

function spend(name, rows) {
  const head = [[name.replace("By ", "").replace(/^./, (c) => c.toUpperCase())], ["Cost", 1], ["Share", 1], [""], ["Requests", 1], ["Tokens", 1], ["per 1k tokens", 1]];
  const shown = rows.slice(0, ROWS).map((r) => [
    Object.values(r.dimensions).join(" / ") || "(none)", usd(r.cost_usd), show(r.share, "ratio"), meter(r.share),
    show(r.requests, "count"), tokens(r), usd(r.cost_per_1k_tokens_usd)]);
  return el("section", { "aria-label": name }, el("h3", {}, name, rows.length > ROWS ? el("span", { class: "muted" }, ` (the dearest ${ROWS} of ${rows.length})`) : null),
    el("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": `${name}, table` },
      rows.length ? table(name, head, shown) : el("p", { class: "hint" }, "Nothing in this window.")));
}

const total = (t) => figures(
  [["Cost", usd(t?.cost_usd ?? null)], ["Requests", show(t?.requests ?? null, "count")], ["Tokens", t ? tokens(t) : "–"],
    ["per 1k tokens", usd(t?.cost_per_1k_tokens_usd ?? null)]], "figures card");

const NOTHING = el("div", { class: "card hint" }, el("p", {}, "No budgets are configured. Add one to penstock.yaml:"),
  el("pre", { tabindex: "0" }, `costs:
  budgets: [{id: fleet, period: week, usd: 5000}]`));

/** Build the page; the function that loads it. */
export function buildCosts({ guarded }) {
  let window = parameters().get("cost_window") in WINDOWS ? parameters().get("cost_window") : "1d";
  const root = $("#costs");
  const load = guarded("#costs", async () => {
    const body = await get("v1/costs", { window, by: Object.keys(BY).join(",") });
    const signature = JSON.stringify(body);
    if (root.dataset.signature === signature) return;
    root.dataset.signature = signature;
    setText($("#costs-note"), body.as_of ? `The ${WINDOWS[window]} up to ${dateTime(seconds(body.as_of))} UTC` : "No window of this length yet");
    root.replaceChildren(total(body.total), ...Object.entries(BY).map(([name, title]) => spend(title, body.spend[name])));
    for (const [id, list, card, nothing] of [["#budgets", body.budgets, budget, NOTHING],
      ["#limits", body.spend_limits, spendLimit, NO_LIMITS], ["#forecasts", body.forecasts, forecast, NO_FORECASTS]]) {
      $(id).replaceChildren(...(list.length ? list.map(card) : [nothing]));
    }
  });
  radios($("#cost-window"), "cost-window", "Window", WINDOWS, () => window, (value) => {
    window = value;
    remember({ cost_window: value });
    load();
  });
  return load;
}
