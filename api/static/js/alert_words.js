// Words and badges that the list of alerts and a single one share.

import { badge, el } from "./dom.js";

const SEVERITY = { emergency: "bad", critical: "bad", warning: "warn", info: "none" };
const STATE = { firing: "bad", pending: "warn", resolved: "good", cancelled: "none" };

export const severityBadge = (severity, text = severity) => badge(SEVERITY[severity] ?? "none", text);
export const stateBadge = (state) => badge(STATE[state] ?? "none", state);

/** Labels of an alert's slice; name, group and severity stand elsewhere. */
export function sliceText(labels) {
  const own = ["alertname", "group", "severity"];
  return Object.entries(labels).filter(([name]) => !own.includes(name))
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ") || "whole fleet";
}

/** A runbook: a link where it is one, else the name of the page. */
export function runbook(text) {
  if (!text) return null;
  return /^https?:\/\//.test(text)
    ? el("a", { href: text, target: "_blank", rel: "noopener noreferrer" }, "Runbook")
    : el("span", { class: "muted" }, "Runbook: ", el("code", {}, text));
}
