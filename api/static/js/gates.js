// The gates panel: each gate's newest verdict, one sentence of meaning, and its evidence.

import { badge, el, table } from "./dom.js";
import { dateTime, parts, seconds, show, significant, span } from "./format.js";

const LOOK = { PASS: "good", FAIL: "bad", UNDECIDED: "unsure", NO_DATA: "none", INVALID: "warn" };

const SENTENCES = {
  PASS: "Every critical metric is shown to be within its limit.",
  UNDECIDED: "Neither good nor bad is shown yet.",
  NO_DATA: "Too little was measured to say anything. No data is never a pass.",
  INVALID: "The comparison itself is broken; the reasons say why.",
};

const first = (source, ...names) => names.map((n) => source?.[n]).find((v) => v !== undefined && v !== null);

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
  const nested = [gate.latest, gate.latest_verdict, gate.last_verdict, gate.verdict]
    .find((v) => v && typeof v === "object");
  const v = nested ?? gate;
  let evidence = v.evidence ?? [];
  if (typeof evidence === "string") evidence = evidence ? JSON.parse(evidence) : [];
  if (!Array.isArray(evidence)) evidence = evidence.metrics ?? [];
  return {
    id: first(gate, "id", "gate_id", "gate") ?? "gate",
    kind: gate.kind ?? v.kind ?? "",
    filter: gate.filter ?? gate.spec?.filter ?? {},
    verdict: typeof v.verdict === "string" ? v.verdict : "NO_DATA",
    text: v.text?.replace(/^[A-Z_]+: /, "").replace(/^[a-z]+(?= )/, (word) => word[0].toUpperCase() + word.slice(1)),
    action: v.action,
    reasons: v.reasons ?? [],
    n: v.n,
    needed: v.n_needed,
    eta_s: v.eta_s,
    at: seconds(first(v, "as_of", "watermark", "ts")),
    evidence: evidence.map(readEvidence),
  };
}

function sentence(gate) {
  if (gate.text) return gate.text;
  if (gate.verdict === "FAIL") {
    const bad = gate.evidence.filter((e) => e.decision === "FAIL").map((e) => e.metric);
    return bad.length ? `${bad.join(", ")} is shown to be over its limit.` : "A critical metric is shown to be over its limit.";
  }
  const more = gate.needed ? ` About ${significant(gate.needed)} more requests are needed` : "";
  const time = more && gate.eta_s ? `, some ${span(gate.eta_s)} at the present rate` : "";
  return (SENTENCES[gate.verdict] ?? "") + (more ? `${more}${time}.` : "");
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
    gate.n === undefined ? "" : `${(gate.n ?? 0).toLocaleString("en-US")} requests seen`,
    gate.at ? `as of ${dateTime(gate.at)} UTC` : "",
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
    el("p", { class: "gate-text" }, sentence(gate)),
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
  const gates = (Array.isArray(body) ? body : body.gates ?? []).map(readGate);
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
