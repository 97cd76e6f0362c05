// The SLOs page: how much of each error budget is left, how fast it burns, and when it was spent.

import { get } from "./api.js";
import { curve } from "./curve.js";
import { $, badge, el, meter, radios, setText, table } from "./dom.js";
import { dateTime, seconds, show, significant, span } from "./format.js";
import { parameters, remember } from "./address.js";

const RANGES = { 21600: "6 h", 86400: "1 d", 604800: "7 d", 2592000: "30 d" };
const LOOK = { met: "good", at_risk: "warn", breached: "bad", unknown: "unsure", no_data: "none" };

const word = (state) => state.replace("_", " ");
const stateBadge = (state) => badge(LOOK[state] ?? "unsure", word(state));
const factor = (v) => (v === null ? "–" : `${significant(v)}×`);

/** Shares near 1 need more digits than three. */
const exact = (v) => (v === null || v === undefined ? "–" : `${(v * 100).toFixed(v > 0.99 && v < 1 ? 3 : 2).replace(/\.?0+$/, "")} %`);

function budget(latest) {
  const left = latest.consumed === null ? null : 1 - latest.consumed;
  const text = left === null ? "budget unknown"
    : left <= 0 ? `overspent by ${show(-left, "ratio")}` : `${show(left, "ratio")} of the budget left`;
  const minutes = latest.left_minutes === null ? "" : `${significant(Math.abs(latest.left_minutes))} of ${significant(latest.budget_minutes)} min`;
  return el("div", { class: "budget" }, meter(left !== null && left <= 0 ? 1 : left, left === null ? "" : left <= 0 ? "bad" : left < 0.25 ? "warn" : "good"),
    el("p", {}, el("strong", {}, text), minutes ? el("span", { class: "muted" }, ` · ${left < 0 ? "beyond " : ""}${minutes}`) : null));
}

const burns = (list, id) => el("details", {}, el("summary", {}, "Burn-rate rules"),
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Burn-rate rules of ${id}` },
    table(`Burn-rate rules of ${id}`, [["Window"], ["Severity"], ["Fires above", 1], ["Long", 1], ["Short", 1], ["State"]],
      list.map((b) => [b.name, b.severity, factor(b.factor), factor(b.long_rate), factor(b.short_rate),
        b.firing ? badge("bad", "firing") : b.above ? badge("warn", "above") : badge("good", "quiet")]))));

/** How fast the budget burned; at 1 it lasts exactly its period. */
function burned(id, times, points) {
  const values = points.map((p) => p.burn_1h);
  return el("figure", {}, el("figcaption", { class: "muted" }, "Burn rate, last hour"),
    curve(`Burn rate of ${id} over time; now ${factor(values.at(-1))}`, times, [
      { values, colour: "--series-2" },
      { values: times.map(() => 1), colour: "--ink-2", dash: [4, 4] },
    ], "count"));
}

function curves(id, points) {
  if (points.length < 2) return el("p", { class: "hint" }, "Not enough history yet for a curve.");
  const times = points.map((p) => seconds(p.as_of));
  const left = points.map((p) => (p.consumed === null ? null : 1 - p.consumed));
  const known = left.filter((v) => v !== null);
  const low = Math.min(0, ...known);
  const now = known.at(-1);
  return el("div", { class: "curves" }, el("figure", {}, el("figcaption", { class: "muted" }, "Budget left"),
    curve(`Error budget of ${id} over time; now ${now === undefined ? "unknown" : show(now, "ratio")} is left`, times, [
      { values: left, colour: now > 0 ? "--series-3" : "--series-7" },
      { values: times.map(() => 0), colour: "--ink-2", dash: [4, 4] },
    ], "ratio", [low * 1.1, 1.05])), burned(id, times, points));
}

function card(slo, points) {
  const latest = slo.latest;
  const scope = Object.entries(slo.filter).map(([k, v]) => `${k.replace("_", " ")} ${v}`).join(" · ") || "whole fleet";
  const head = el("header", {}, el("h3", {}, slo.id), stateBadge(latest?.state ?? "no_data"),
    el("p", { class: "muted" }, [slo.service, scope, slo.window].filter(Boolean).join(" · ")));
  const attributes = { class: "card slo", "data-slo": slo.id, "data-state": latest?.state ?? "no_data" };
  if (!latest) {
    return el("article", attributes, head, el("p", { class: "hint" }, "Not evaluated yet; objectives are, at every full minute of event time."));
  }
  const spent = latest.exhaustion_s;
  return el("article", attributes, head,
    el("p", { class: "promise" }, latest.declared),
    el("dl", { class: "figures" },
      el("div", {}, el("dt", {}, "Attained"), el("dd", { "data-value": String(latest.attainment) }, exact(latest.attainment))),
      el("div", {}, el("dt", {}, "Burn rate, last hour"), el("dd", {}, factor(latest.burn_1h))),
      el("div", {}, el("dt", {}, "Budget spent in"), el("dd", {}, latest.consumed >= 1 ? "spent" : spent === null ? "not in sight" : span(spent))),
      el("div", {}, el("dt", {}, "Bad of all"), el("dd", {}, `${latest.bad.toLocaleString("en-US")} / ${latest.total.toLocaleString("en-US")}`))),
    budget(latest), curves(slo.id, points), latest.burns.length ? burns(latest.burns, slo.id) : null);
}

const overall = (list) => (list.length ? table("Several objectives as one", [["Together"], ["State"], ["Kept", 1], ["Asked for", 1], ["Objectives"]],
  list.map((o) => [o.id, stateBadge(o.state), `${o.kept} of ${o.total}`, show(o.target, "ratio"),
    el("span", { class: "badges" }, Object.entries(o.states).map(([name, state]) => badge(LOOK[state] ?? "unsure", name)))])) : null);

const NOTHING = el("div", { class: "card hint" }, el("p", {}, "No objectives are configured. Add one to penstock.yaml:"),
  el("pre", { tabindex: "0" }, `slos:
  - {id: chat-availability, filter: {model: chat}, sli: {kind: availability}, target: 99.9%, window: 30d}`));

/** Build the page; the function that loads it. */
export function buildSlos({ guarded }) {
  let range = parameters().get("slo_range") in RANGES ? parameters().get("slo_range") : "86400";
  const root = $("#slos");
  const load = guarded("#slos", async () => {
    const body = await get("v1/slos");
    const end = seconds(body.as_of);
    const signature = JSON.stringify([range, body, document.documentElement.dataset.theme]);
    setText($("#slos-note"), end === null ? "" : `As of ${dateTime(end)} UTC`);
    if (root.dataset.signature === signature) return;
    const histories = await Promise.all(body.slos.map(async (slo) => {
      if (!slo.latest) return [];
      const at = seconds(slo.latest.as_of);
      const query = { start: Math.round(at - range) * 1e6, end: Math.round(at) * 1e6, step: Math.max(60, Math.round(range / 300)) };
      return (await get(`v1/slos/${encodeURIComponent(slo.id)}`, query)).points;
    }));
    const opened = new Set([...root.querySelectorAll("details[open]")].map((d) => d.closest("[data-slo]").dataset.slo));
    root.dataset.signature = signature;
    root.replaceChildren(...(body.slos.length ? body.slos.map((slo, i) => card(slo, histories[i])) : [NOTHING]));
    for (const id of opened) root.querySelector(`[data-slo="${CSS.escape(id)}"] details`)?.setAttribute("open", "");
    const together = overall(body.overall);
    $("#slos-overall").hidden = !together;
    if (together) $("#slos-overall").replaceChildren(together);
  });
  radios($("#slo-range"), "slo-range", "History", RANGES, () => range, (value) => {
    range = value;
    remember({ slo_range: value });
    load();
  });
  return load;
}
