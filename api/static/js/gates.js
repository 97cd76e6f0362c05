// The gates panel: each gate's newest verdict, one sentence of meaning, and its evidence.

import { badge, el, table } from "./dom.js";
import { dateTime, parts, seconds, show, significant } from "./format.js";

const LOOK = { PASS: "good", FAIL: "bad", UNDECIDED: "unsure", NO_DATA: "none", INVALID: "warn" };

/** One evidence row. Rates and latencies are tested as the share of requests beyond the limit. */
function readEvidence(row) {
  const kind = row.unit === "usd_per_request" ? "usd" : "ratio";
  const latency = kind === "ratio" && /ms$/.test(row.declared ?? "");
  return {
    metric: row.metric,
    kind,
    limit: latency ? `≤ ${row.declared} for ${show(1 - row.limit, kind)}` : `≤ ${row.declared?.replace(" per 1,000 tokens", " / 1k tok") ?? show(row.limit, kind)}`,
    estimate: row.estimate,
    note: latency ? " above" : kind === "usd" ? " vs plan" : "",
    interval: [row.low, row.high],
    confidence: row.confidence,
    n: row.n,
    decision: row.decision ?? "",
    critical: row.critical !== false,
  };
}

function readGate(gate) {
  const { verdict, text, action, reasons, n, as_of: at, evidence } = gate.latest;
  return {
    id: gate.id, kind: gate.kind, filter: gate.filter ?? {},
    verdict, action, reasons, n, at: seconds(at),
    text: text.replace(/^[A-Z_]+: /, "").replace(/^[a-z]+(?= )/, (word) => word[0].toUpperCase() + word.slice(1)),
    evidence: evidence.map(readEvidence),
  };
}

const decisionBadge = (text) => (text ? badge(LOOK[text] ?? "none", text.replace("_", " ")) : "");

function intervalText(e) {
  const [low, high] = e.interval;
  if (typeof low !== "number" || typeof high !== "number") return "–";
  const [a, unitA] = parts(low, e.kind);
  const [b, unitB] = parts(high, e.kind);
  return unitA === unitB || low === 0 ? `${a} to ${b} ${unitB}`.trim() : `${show(low, e.kind)} to ${show(high, e.kind)}`;
}

function card(gate) {
  const scope = Object.entries(gate.filter).filter(([, v]) => v).map(([k, v]) => `${k.replace("_", " ")} ${v}`);
  const facts = [
    gate.action ? `Action: ${gate.action}` : "",
    `${gate.n.toLocaleString("en-US")} requests seen`,
    gate.at > 0 ? `as of ${dateTime(gate.at)} UTC` : "",
    gate.reasons.length ? `Reasons: ${gate.reasons.map((r) => r.replaceAll("_", " ")).join(", ")}` : "",
  ].filter(Boolean);
  const sure = gate.evidence[0]?.confidence;
  const interval = sure ? `${significant(sure * 100)} % interval` : "Interval";
  const head = ["Metric", "Decision", "Limit", "Estimate", interval, "n"].map((h, i) => [h, i > 1]);
  const rows = gate.evidence.map((e) => [
    el("span", {}, e.metric, e.critical ? null : el("span", { class: "delta" }, "advisory")),
    decisionBadge(e.decision), e.limit,
    show(e.estimate, e.kind) + (e.estimate === null ? "" : e.note), intervalText(e),
    e.n?.toLocaleString("en-US") ?? "–",
  ]);
  return el("article", { class: "card gate", "data-gate": gate.id, "data-verdict": gate.verdict },
    el("header", {}, el("h3", {}, gate.id), decisionBadge(gate.verdict),
      el("p", { class: "muted" }, [gate.kind, ...scope].filter(Boolean).join(" · "))),
    el("p", { class: "gate-text" }, gate.text),
    el("p", { class: "muted" }, facts.join(" · ")),
    rows.length ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Evidence of gate ${gate.id}` },
      table(`Evidence of gate ${gate.id}`, head, rows)) : null);
}

/** Verdicts in order of urgency with how many gates have each: `[["FAIL", 1], ...]`. */
const tally = (gates) => ["FAIL", "INVALID", "NO_DATA", "UNDECIDED", "PASS"]
  .map((v) => [v, gates.filter((g) => g.verdict === v).length]).filter(([, n]) => n);

function summarise(button, gates) {
  button.hidden = gates.length === 0;
  button.replaceChildren("Gates", ...tally(gates).map(([v, n]) =>
    badge(LOOK[v], `${n} ${v.replace("_", " ")}`)));
}

/** Render the body of GET /v1/gates: the panel, its note and the summary in the page's head. */
export function showGates(root, note, summary, body) {
  const gates = body.gates.map(readGate);
  const signature = JSON.stringify(gates);
  if (root.dataset.signature === signature) return;
  root.dataset.signature = signature;
  note.textContent = tally(gates).map(([v, n]) => `${n} ${v.replace("_", " ")}`).join(", ")
    || "May this release go on?";
  summarise(summary, gates);
  root.replaceChildren(...(gates.length ? gates.map(card) : [
    el("div", { class: "card hint" },
      el("p", {}, "No gates are configured. A gate says whether a release stays within its limits. Add one to penstock.yaml:"),
      el("pre", { tabindex: "0" }, EXAMPLE)),
  ]));
}

const EXAMPLE = `gates:
  - id: canary
    filter: {variant: canary}
    metrics:
      - {metric: latency, field: ttft_ms, quantile: 0.95, max_ms: 1200}
      - {metric: error_rate, max_ratio: 0.01}`;
