// One alert: what changed when it fired, what it is made of, the engine's evidence, release markers, its history.

import { ApiError, get } from "./api.js";
import { remember } from "./address.js";
import { runbook, severityBadge, sliceText, stateBadge } from "./alert_words.js";
import { $, el, meter, table } from "./dom.js";
import { DASH, clock, dateTime, seconds, show, significant, span } from "./format.js";

const NAMES = { worker_id: "worker", input_band: "input tokens" };
const GAUGES = { queue_depth: "Queue depth", batch_fill: "Batch fill", kv_cache_usage: "KV cache use",
  preemptions: "Preemptions per step", step_ms: "Step", input_tokens: "Input tokens", output_tokens: "Output tokens" };
const KINDS = { ratio: "ratio", ms: "ms", usd: "usd" };

const value = (v, unit) => (v === null ? DASH : KINDS[unit] ? show(v, KINDS[unit]) : significant(v));
const share = (v) => (v === null ? DASH : show(v, "ratio"));
const section = (title, ...content) => el("section", {}, el("h3", {}, title), ...content);
const scroll = (label, node) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, node);
const fact = (name, text) => (text ? el("div", {}, el("dt", {}, name), el("dd", {}, text)) : null);

function slices(found) {
  const head = [["Slice"], ["Explains", 1], [""], ["Before → now", 1], ["Share of the rows", 1]];
  return scroll("Slices that explain it", table("Slices that explain it", head, found.slices.map((s) => [
    el("span", {}, Object.entries(s.slice).map(([name, v]) =>
      el("code", { class: "chip" }, `${NAMES[name] ?? name.replaceAll("_", " ")} ${v || "(none)"}`))),
    share(Math.min(s.power, 9.99)), meter(s.power, "bad"),
    `${value(s.before, found.unit)} → ${value(s.now, found.unit)}`, `${share(s.traffic_before)} → ${share(s.traffic)}`,
  ])));
}

const markers = (list) => el("ul", { class: "plain" }, list.map((r) => el("li", {},
  el("strong", {}, r.release || "release"), ` ${[r.model, r.variant, r.stage !== r.variant ? r.stage : "", r.note].filter(Boolean).join(" · ")}`,
  el("span", { class: "muted" }, ` ${clock(seconds(r.at))} UTC, ${span(Math.abs(r.after_s))} ${r.after_s < 0 ? "after" : "before"} it began`))));

/** Phases, types of errors, categories: the few that explain the change. */
function parts(found) {
  const title = found.parts_of[0].toUpperCase() + found.parts_of.slice(1);
  const name = (p) => (found.parts_of === "phase" ? p.name.replace(/_ms$/, "").replaceAll("_", " ") : p.name) || "(none)";
  const head = [[title], ["Explains", 1], [""], ["Before → now", 1]];
  return scroll(title, table(title, head, found.parts.map((p) => [el("code", { class: "chip" }, name(p)),
    share(Math.min(p.power, 9.99)), meter(p.power, "bad"), `${value(p.before, p.unit)} → ${value(p.now, p.unit)}`])));
}

const gauges = (title, per, list) => (list.length ? [el("h4", {}, title), scroll(title, table(title,
  [[`Mean per ${per}`], ["Before", 1], ["Now", 1]],
  list.map((g) => [GAUGES[g.name] ?? g.name, value(g.before, g.unit), value(g.now, g.unit)])))] : []);

function why(found) {
  if (!found) return section("What changed", el("p", { class: "hint" }, "It is not found out yet."));
  const times = (stretch) => `${clock(seconds(stretch.start))}–${clock(seconds(stretch.end))}`;
  const compared = found.now ? el("p", { class: "muted num" },
    found.before ? `Compared: ${times(found.now)} with ${times(found.before)} UTC` : `Looked at: ${times(found.now)} UTC`) : null;
  const change = found.value === null ? null : el("p", { class: "change num" }, `${found.words}: `,
    found.before ? el("span", { class: "muted" }, `${value(found.value_before, found.unit)} → `) : null, el("strong", {}, value(found.value, found.unit)));
  return section("What changed", change, compared,
    found.note ? el("p", { class: "muted" }, `${found.note[0].toUpperCase()}${found.note.slice(1)}.`) : null,
    ...(found.slices.length ? [el("h4", {}, "Slices"), slices(found)] : []),
    ...(found.parts.length ? [el("h4", {}, "Parts"), parts(found)] : []),
    found.releases.length ? el("h4", {}, "Nearest release markers") : null,
    found.releases.length ? markers(found.releases) : null,
    ...gauges("Requests", "request", found.requests), ...gauges("Engine", "step", found.engine));
}

function history(list) {
  const head = [["Event time, UTC"], ["Change"], ["Reason"], ["What"]];
  return section("History", scroll("History", table("History", head, list.map((t) => [
    dateTime(seconds(t.at)), t.kind === "amended" ? "late rows" : stateBadge(t.kind), t.reason.replaceAll("_", " "), t.text]))));
}

function fill(dialog, id, alert, actions, failure) {
  const close = el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const act = (text, action) => el("button", { type: "button", class: "quiet", onclick: () => {
    dialog.close();
    action(alert);
  } }, text);
  const isOpen = alert?.ended === null;
  const head = el("header", {}, el("h2", { id: "detail-title" }, alert ? alert.annotations.summary || alert.rule : "Alert"),
    isOpen ? act("Acknowledge", actions.acknowledge) : null, isOpen ? act("Silence", actions.silence) : null, close);
  if (!alert) {
    dialog.replaceChildren(head, el("p", { class: "hint" }, failure || "Loading…"));
    return;
  }
  const taken = alert.acknowledged;
  const own = Object.entries(alert.annotations).filter(([name]) => name !== "summary");
  dialog.replaceChildren(head,
    el("p", { class: "badges" }, stateBadge(alert.state), severityBadge(alert.severity), runbook(alert.runbook)),
    el("dl", { class: "facts" }, fact("rule", alert.rule), fact("where", sliceText(alert.labels)), fact("value", alert.text),
      fact("as late rows left it", alert.amended_text), fact("rows behind it", alert.n.toLocaleString("en-US")),
      fact("since", `${dateTime(seconds(alert.started))} UTC`), fact("ended", alert.ended && `${dateTime(seconds(alert.ended))} UTC`),
      fact("nobody is told", alert.quiet), fact("taken by", taken && `${taken.who}${taken.reason ? `: ${taken.reason}` : ""}`),
      own.map(([name, text]) => fact(name, text)), fact("id", el("code", { class: "whole" }, id))),
    why(alert.explained), history(alert.transitions));
}

/** Open an alert; `onClose` runs when it is closed again. */
export async function openAlert(id, actions, onClose) {
  const dialog = $("#detail");
  fill(dialog, id, null, actions);
  dialog.addEventListener("close", onClose, { once: true });
  dialog.showModal();
  remember({ alert: id });
  try {
    fill(dialog, id, await get(`v1/alerts/${encodeURIComponent(id)}`), actions);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fill(dialog, id, null, actions, error.status === 404 ? "There is no such alert any more." : `Could not load it: ${error.message}`);
  }
}
