// The alerts page: what is wrong, why it fired, and what people said about it.

import { openAlert } from "./alert_detail.js";
import { acknowledgeDialog, silenceDialog } from "./alert_forms.js";
import { runbook, severityBadge, sliceText, stateBadge } from "./alert_words.js";
import { get, send } from "./api.js";
import { parameters, remember } from "./address.js";
import { $, badge, el, radios, table } from "./dom.js";
import { dateTime, seconds, span } from "./format.js";

const VIEWS = { open: "Open", firing: "Firing", pending: "Pending", resolved: "Resolved", all: "All" };
const NOBODY = {
  open: "Nothing is wrong: no alert is pending or firing.", firing: "No alert is firing.",
  pending: "No alert is pending.", resolved: "No alert was resolved yet.", all: "No alert was raised yet.",
};

const RANKS = ["firing", "pending", "emergency", "critical", "warning", "info"];

/** What fires before what is pending, the worst before the rest; the newest first where both are equal. */
const worstFirst = (a, b) => RANKS.indexOf(a.state) - RANKS.indexOf(b.state) || RANKS.indexOf(a.severity) - RANKS.indexOf(b.severity);

const quietText = (alert) => [
  alert.quiet ? `nobody is told: ${alert.quiet.replace(":", " ")}` : "",
  alert.acknowledged ? `taken by ${alert.acknowledged.who}` : "",
].filter(Boolean).join(" · ");

function times(alert) {
  const started = seconds(alert.started);
  const ended = seconds(alert.ended);
  if (ended !== null) return `${dateTime(started)} UTC, for ${span(ended - started)}`;
  return `since ${dateTime(started)} UTC`;
}

function card(alert, actions) {
  const isOpen = alert.ended === null;
  const button = (text, onclick) => el("button", { type: "button", class: "quiet",
    "aria-label": `${text} ${alert.rule}, ${sliceText(alert.labels)}`, onclick }, text);
  return el("article", { class: `card alert ${isOpen ? alert.severity : "ended"}`, "data-alert": alert.id,
    "data-state": alert.state },
  el("header", {}, stateBadge(alert.state), severityBadge(alert.severity),
    el("h3", {}, alert.annotations.summary || alert.rule),
    el("p", { class: "muted num" }, times(alert))),
  el("p", {}, alert.annotations.summary ? el("span", {}, el("code", {}, alert.rule), " · ") : null, sliceText(alert.labels),
    alert.annotations.summary || !alert.text ? null : ` · ${alert.text}`),
  alert.explanation ? el("p", { class: "why" }, el("strong", {}, "What changed: "), alert.explanation) : null,
  alert.amended_text ? el("p", { class: "muted" }, `Late rows changed it to ${alert.amended_text}`) : null,
  el("footer", {}, button("Details", () => actions.open(alert.id)),
    isOpen ? button("Acknowledge", () => actions.acknowledge(alert)) : null,
    isOpen ? button("Silence", () => actions.silence(alert)) : null,
    runbook(alert.runbook), el("span", { class: "muted" }, quietText(alert))));
}

function silences(list, end) {
  if (!list.length) return el("p", { class: "hint" }, "No silences. “Silence” on an alert sets one; penstock.yaml may hold others.");
  const head = [["State"], ["Matches"], ["Reason"], ["Author"], ["Ends, UTC"], [""]];
  return table("Silences", head, list.map((s) => [
    badge(s.state === "active" ? "warn" : "none", s.state),
    el("code", {}, s.matchers.map((m) => `${m.label}${m.op}${m.value}`).join(" ")), s.reason, s.author,
    dateTime(seconds(s.ends_at)),
    s.source === "api" ? el("button", { type: "button", class: "quiet", "aria-label": `End silence ${s.id}`,
      onclick: () => end(s.id) }, "End") : "in penstock.yaml",
  ]));
}

/** How many fire, in the head of every page; the worst colour is that of the worst severity. */
function summarise(counts) {
  const node = $("#alert-summary");
  const some = Object.entries(counts).reverse().filter(([, n]) => n);
  node.hidden = some.length === 0;
  node.replaceChildren("Alerts", ...some.map(([name, n]) => severityBadge(name, `${n} ${name}`)));
}

/** Redraw a panel only where something changed, and never below somebody's hands. */
function redraw(root, data, build) {
  const signature = JSON.stringify(data);
  if (root.dataset.signature === signature) return;
  if (root.contains(document.activeElement) && root.dataset.signature) return;
  root.dataset.signature = signature;
  root.replaceChildren(...build());
}

/** Build the page; the function that loads it. */
export function buildAlerts({ guarded }) {
  let state = parameters().get("state") in VIEWS ? parameters().get("state") : "open";
  const list = $("#alerts");
  const load = guarded("#alerts", async () => {
    const [body, said] = await Promise.all([get("v1/alerts", { state, limit: 100 }), get("v1/silences")]);
    summarise(body.counts);
    const found = state === "resolved" || state === "all" ? body.alerts : body.alerts.toSorted(worstFirst);
    redraw(list, [state, found], () => (found.length ? found.map((a) => card(a, actions))
      : [el("p", { class: "card hint" }, NOBODY[state])]));
    redraw($("#silences"), said.silences, () => [silences(said.silences, end)]);
    const wanted = parameters().get("alert");
    if (wanted && !$("dialog[open]")) actions.open(wanted);
  });
  const afresh = () => {
    delete list.dataset.signature;
    delete $("#silences").dataset.signature;
    load();
  };
  const actions = {
    open: (id) => openAlert(id, actions, () => remember({ alert: null })),
    acknowledge: (alert) => acknowledgeDialog(alert, afresh),
    silence: (alert) => silenceDialog(alert, afresh),
  };
  const end = guarded("#silences", (id) => send("DELETE", `v1/silences/${encodeURIComponent(id)}`).then(afresh));
  radios($("#alert-view"), "alert-state", "", VIEWS, () => state, (value) => {
    state = value;
    remember({ state });
    delete list.dataset.signature;
    load();
  });
  // The head of every page counts what fires; on the alerts page `load` does.
  const count = guarded("#alerts", async () => summarise((await get("v1/alerts", { limit: 1 })).counts));
  count();
  setInterval(() => {
    if (!document.hidden && document.body.dataset.page !== "alerts") count();
  }, 5000);
  return load;
}
