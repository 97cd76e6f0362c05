// The detail of one request: where its time went, the engine steps that served it, spans, feedback.

import { el, table } from "./dom.js";
import { DASH, clockMs, dateTime, seconds, show } from "./format.js";
import { statusBadge } from "./requests.js";

const PHASES = ["queue_ms", "batch_wait_ms", "preprocess_ms", "tokenize_ms", "transport_ms", "prefill_ms",
  "decode_ms", "detokenize_ms", "postprocess_ms"];
const MAX_STEPS = 200;

const NAMES = { ts: "completed", ttft_ms: "time to first token", tpot_ms: "time per output token",
  latency_ms: "end to end", cost_usd: "cost" };
const words = (name) => NAMES[name] ?? name.replace(/_(ms|us|usd)$/, "").replaceAll("_", " ");
const isEmpty = (v) => v === null || v === undefined || v === "" ||
  (typeof v === "object" && Object.keys(v).length === 0);

function fact(name, value) {
  let text = value;
  if (name === "ts" || name.endsWith("_ts")) text = `${dateTime(seconds(value))} UTC`;
  else if (name.endsWith("_ms")) text = show(value, "ms");
  else if (name.endsWith("_usd")) text = show(value, "usd");
  else if (typeof value === "object") text = JSON.stringify(value);
  return el("div", {}, el("dt", {}, words(name)), el("dd", {}, String(text)));
}

/** Phases of the request as parts of its end-to-end latency; what no phase explains is "other". */
function phases(r) {
  const known = PHASES.map((name) => [words(name), r[name]]).filter(([, v]) => v > 0);
  if (!known.length || !r.latency_ms) return null;
  const rest = r.latency_ms - known.reduce((sum, [, v]) => sum + v, 0);
  if (rest > r.latency_ms * 0.005) known.push(["other", rest]);
  const total = Math.max(r.latency_ms, r.latency_ms - rest);
  const bar = el("div", { class: "phases", "aria-hidden": "true" });
  const list = el("ul", { class: "phase-list" });
  known.forEach(([name, value], i) => {
    const part = el("span", { title: `${name} ${show(value, "ms")}` });
    part.style.width = `${(value / total) * 100}%`;
    const tone = name === "other" ? "var(--line)" : `var(--series-${(i % 8) + 1})`;
    part.style.background = tone;
    bar.append(part);
    const key = el("span", { class: "key", "aria-hidden": "true" });
    key.style.setProperty("--key", tone);
    list.append(el("li", {}, key, `${name} `, el("span", { class: "num" }, show(value, "ms"))));
  });
  return el("section", {}, el("h3", {}, "Where the time went"), bar, list);
}

function steps(list, total) {
  const head = [["Time, UTC"], ["Worker"], ["Step", 1], ["Duration", 1], ["Batch", 1], ["Prefill", 1], ["Decode", 1],
    ["Queue", 1], ["Running", 1], ["KV use", 1], ["Preempted", 1]];
  const rows = list.slice(0, MAX_STEPS).map((s) => {
    const queue = isEmpty(s.queue_prefill) && isEmpty(s.queue_decode)
      ? DASH : (s.queue_prefill ?? 0) + (s.queue_decode ?? 0);
    return [clockMs(seconds(s.ts)), s.worker_id ?? DASH, String(s.step ?? DASH), show(s.step_ms, "ms"),
      isEmpty(s.batch_size) ? DASH : `${s.batch_size}${isEmpty(s.batch_capacity) ? "" : ` / ${s.batch_capacity}`}`,
      show(s.prefill_tokens, "count"), show(s.decode_tokens, "count"), String(queue), show(s.running, "count"),
      show(s.kv_cache_usage, "ratio"), show(s.preemptions, "count")];
  });
  const more = total > rows.length ? `, the first ${rows.length} of ${total}` : ` (${total})`;
  return section(`Engine steps that served it${list.length ? more : ""}`, rows.length
    ? scroll("Engine steps", table("Engine steps", head, rows))
    : hint("No steps are recorded for it. Emit step events, and set first_step and last_step on the request."));
}

function spans(list) {
  const starts = list.map((s) => seconds(s.start_us ?? s.ts));
  const base = Math.min(...starts);
  const rows = list.map((s, i) => [s.name || DASH, show((starts[i] - base) * 1000, "ms"),
    show(s.duration_ms, "ms"), s.span_id || DASH, s.parent_span_id || DASH]);
  return section(`Spans (${list.length})`, rows.length
    ? scroll("Spans", table("Spans", [["Name"], ["Starts at", 1], ["Duration", 1], ["Span"], ["Parent"]], rows))
    : hint("No spans share its trace id."));
}

function feedback(list) {
  if (!list.length) return null;
  return section(`Feedback (${list.length})`, scroll("Feedback", table("Feedback",
    [["Time, UTC"], ["Source"], ["Label"], ["Predicted"], ["Accepted"], ["Quality", 1], ["Value", 1]],
    list.map((f) => [dateTime(seconds(f.ts)), f.source || DASH, f.label || DASH, f.predicted || DASH,
      isEmpty(f.accepted) ? DASH : f.accepted ? "yes" : "no", show(f.quality, "count"), show(f.value, "count")]))));
}

const section = (title, ...content) => el("section", {}, el("h3", {}, title), ...content);
const hint = (text) => el("p", { class: "hint" }, text);
const scroll = (label, node) =>
  el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": label }, node);

const FIRST = ["status", "error_type", "error_message", "ts", "model", "model_version", "adapter", "release",
  "variant", "route", "tenant", "latency_ms", "ttft_ms", "tpot_ms", "input_tokens", "output_tokens",
  "cached_tokens", "cost_usd", "worker_id", "trace_id", "session_id", "first_step", "last_step"];

/** Fill the dialog with the body of GET /v1/requests/{id}; null while it loads. */
export function fillDetail(dialog, id, body, failure) {
  const close = el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const r = body?.request;
  const head = el("header", {}, el("h2", { id: "detail-title" }, "Request ", el("code", {}, id)),
    r ? statusBadge(r.status) : null, close);
  if (!r) {
    dialog.replaceChildren(head, hint(failure || "Loading…"));
    return;
  }
  const main = FIRST.filter((name) => name !== "status" && !isEmpty(r[name]));
  const others = Object.keys(r).filter((name) => !FIRST.includes(name) && !isEmpty(r[name]));
  dialog.replaceChildren(head,
    el("dl", { class: "facts" }, main.map((name) => fact(name, r[name]))),
    phases(r) ?? "", steps(body.steps, body.steps_total), spans(body.spans), feedback(body.feedback) ?? "",
    el("details", {}, el("summary", {}, "All other fields"),
      el("dl", { class: "facts" }, others.map((name) => fact(name, r[name])))));
}
