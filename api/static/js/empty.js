// What a new user sees: how to send the first event.

import { el } from "./dom.js";

const python = (url) => `from penstock import Emitter

with Emitter(url="${url}",
             worker_id="worker-1", model="my-model") as emit:
    emit.request(status="ok", latency_ms=840.0, ttft_ms=120.0,
                 input_tokens=512, output_tokens=128, cost_usd=0.0021)`;

const curl = (url) => `curl ${url}/v1/events -H 'content-type: application/json' -d '{
  "event": "request", "ts": '$(date +%s)'000000, "worker_id": "worker-1",
  "boot_id": "first-try", "seq": 0, "model": "my-model",
  "status": "ok", "latency_ms": 840, "ttft_ms": 120, "output_tokens": 128}'`;

function snippet(title, text) {
  const copy = el("button", { type: "button", class: "quiet", onclick: async () => {
    await navigator.clipboard?.writeText(text);
    copy.textContent = "Copied";
  } }, "Copy");
  return el("div", { class: "snippet" }, el("header", {}, el("h3", {}, title), copy),
    el("pre", { tabindex: "0", "aria-label": title }, text));
}

/** Show or hide the first-steps card. */
export function showEmpty(root, on) {
  if (on && !root.childElementCount) {
    const url = location.href.split(/[?#]/)[0].replace(/\/$/, "");
    root.append(el("h2", { id: "empty-title" }, "No events yet"),
      el("p", {}, "Penstock is running and waits for its first event. This page fills by itself within seconds. Emit one with:"),
      el("div", { class: "snippets" }, snippet("Python", python(url)), snippet("Any language (HTTP)", curl(url))),
      el("p", { class: "muted" }, "Or see it at work with an hour of real traffic: penstock demo --open"));
  }
  root.hidden = !on;
}
