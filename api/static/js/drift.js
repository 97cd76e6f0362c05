// The drift page: each monitored series over time, and its two distributions side by side.

import { get } from "./api.js";
import { curve } from "./curve.js";
import { $, badge, el, figures, scope, setText, table } from "./dom.js";
import { openExamples } from "./examples.js";
import { DASH, dateTime, seconds, show, significant } from "./format.js";

const LOOK = { ok: "good", moderate: "warn", drift: "bad", no_reference: "unsure", no_data: "none" };
const BARS = 24;
const NAMED = 8; // more have no room for names below them
const MANY = ["(rest)", "(other)"]; // categories that stand for many: no request is of one of them
const KNOWN_PSI = [0.1, 0.2]; // moderate and drift, by default

const number = (v) => (v === null || v === undefined ? DASH : significant(v));
const probability = (p) => (p === null || p === undefined ? DASH : p < 0.0001 ? "< 0.0001" : significant(p, 2));

function barName(bar) {
  if (bar.name !== null) return bar.name || "(none)";
  if (bar.low === null && bar.high === null) return "no value";
  return `${number(bar.low)} to ${number(bar.high)}`;
}

/** Shares of each bar, reference above current; the table below says the same in numbers, and opens requests. */
function distribution(monitor, series, latest, openRequest) {
  const bars = latest.bars.slice(0, BARS);
  const sums = ["reference", "current"].map((side) => latest.bars.reduce((sum, bar) => sum + bar[side], 0) || 1);
  const shares = bars.map((bar) => [bar.reference / sums[0], bar.current / sums[1]]);
  const most = Math.max(...shares.flat(), 1e-9);
  const columns = bars.map((bar, i) => {
    const node = el("div", { class: "pair", title: `${barName(bar)}: reference ${show(shares[i][0], "ratio")}, current ${show(shares[i][1], "ratio")}` },
      el("span", { class: "reference" }), el("span", { class: "current" }));
    [...node.children].forEach((child, side) => { child.style.height = `${(shares[i][side] / most) * 100}%`; });
    return node;
  });
  const open = (bar) => openExamples({ monitor, series, bin: bar.bin, end: latest.end, name: barName(bar) }, openRequest);
  const link = (bar) => (bar.current && !MANY.includes(bar.name) ? el("button", { type: "button", class: "link", "data-bin": bar.bin,
    "aria-label": `Requests with ${series} ${barName(bar)}`, onclick: () => open(bar) }, "requests") : "");
  const head = [["Values"], ["Reference", 1], ["Current", 1], ["Examples"]];
  return el("figure", {},
    el("figcaption", { class: "muted" }, el("span", { class: "swatch reference" }), "reference ", el("span", { class: "swatch current" }), "current"),
    el("div", { class: "distribution", "aria-hidden": "true" }, columns),
    bars.length > NAMED ? null : el("div", { class: "bar-names", "aria-hidden": "true" }, bars.map((bar) => el("span", {}, barName(bar)))),
    el("details", {}, el("summary", {}, "As a table, with the requests behind each"),
      el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": `Distributions of ${series}` },
        table(`Distributions of ${series}`, head, bars.map((bar, i) => [barName(bar), show(shares[i][0], "ratio"), show(shares[i][1], "ratio"), link(bar)])))));
}

function over(series, points) {
  if (points.every((p) => p.psi === null)) return el("p", { class: "hint" }, "No score in the last seven days.");
  const times = points.map((p) => seconds(p.end));
  const values = points.map((p) => p.psi);
  return el("figure", {}, el("figcaption", { class: "muted" }, "PSI over time; dashed: moderate from 0.1, drift from 0.2"),
    curve(`PSI of ${series} over time, now ${number(values.at(-1))}`, times, [
      { values, colour: "--series-1" },
      ...KNOWN_PSI.map((limit) => ({ values: times.map(() => limit), colour: "--ink-2", dash: [4, 4] })),
    ], "count"));
}

function frame(monitor, item, title, facts, ...content) {
  const { latest } = item;
  return el("article", { class: "card slo", "data-series": `${monitor}/${item.series}`, "data-state": latest.state },
    el("header", {}, el("h3", {}, title), badge(LOOK[latest.state] ?? "unsure", latest.state.replace("_", " ")),
      latest.confirmed ? badge("bad", "confirmed") : null,
      el("p", { class: "muted" }, `${item.kind} · window to ${dateTime(seconds(latest.end))} UTC`)),
    figures(facts),
    ...content.filter(Boolean));
}

/** The relation between inputs and labels: whatever numbers its look has. */
function concept(monitor, item) {
  const facts = item.latest.state === "no_data" ? [] : Object.entries(item.latest.figures).filter(([, v]) => typeof v === "number").slice(0, 8)
    .map(([name, v]) => [name.replaceAll("_", " "), number(v)]);
  return frame(monitor, item, "Inputs and labels", facts,
    facts.length ? null : el("p", { class: "hint" }, "No labels in the window: feedback events bring them."));
}

function card(monitor, item, openRequest) {
  const { latest } = item;
  if (item.kind === "concept") return concept(monitor, item);
  const distance = item.kind === "category" ? ["Cramér's V", number(latest.cramers_v)] : ["KS distance", number(latest.ks)];
  const facts = [["PSI", number(latest.psi)], distance, ["p", probability(latest.p)],
    ["Rows, reference", show(latest.n_reference, "count")], ["now", show(latest.n_current, "count")],
    ["Missing", latest.missing_share === null ? DASH : show(latest.missing_share, "ratio")]];
  return frame(monitor, item, item.series, facts, latest.bars.length ? distribution(monitor, item.series, latest, openRequest) : null, over(item.series, item.points));
}

function section(monitor, openRequest) {
  return el("section", { "aria-label": `Monitor ${monitor.id}` },
    el("div", { class: "section-head" }, el("h3", {}, monitor.id), el("p", {}, scope(monitor.filter))),
    monitor.series.length ? el("div", { class: "cards" }, monitor.series.map((item) => card(monitor.id, item, openRequest)))
      : el("p", { class: "card hint" }, "No look yet: its first window of event time has not closed."));
}

const NOTHING = el("div", { class: "card hint" }, el("p", {}, "No drift monitors are configured; docs/drift.md shows how. Add one to penstock.yaml:"),
  el("pre", { tabindex: "0" }, `drift:
  monitors: [{id: chat, filter: {model: chat}}]`));

/** Build the page; the function that loads it. */
export function buildDrift({ guarded, openRequest }) {
  const root = $("#drift");
  return guarded("#drift", async () => {
    const body = await get("v1/drift");
    const signature = JSON.stringify([body, document.documentElement.dataset.theme]);
    if (root.dataset.signature === signature || root.querySelector("details[open]")) return;
    root.dataset.signature = signature;
    setText($("#drift-note"), body.as_of ? `As of ${dateTime(seconds(body.as_of))} UTC` : "");
    root.replaceChildren(...(body.monitors.length ? body.monitors.map((monitor) => section(monitor, openRequest)) : [NOTHING]));
  });
}
