// What people say about alerts: taking one, and silences, each with who, why and until when.

import { ApiError, send } from "./api.js";
import { $, el } from "./dom.js";
import { iso } from "./format.js";

const WHO = "penstock.who";
const LENGTHS = { 1800: "30 min", 7200: "2 h", 28800: "8 h", 86400: "1 day", 604800: "7 days" };

function saved() {
  try {
    return localStorage.getItem(WHO) ?? "";
  } catch {
    return ""; // Storage may be forbidden; the name is asked for again.
  }
}

function save(who) {
  try {
    localStorage.setItem(WHO, who);
  } catch {
    // See above.
  }
}

const field = (id, text, node) => el("p", { class: "field" }, el("label", { for: id }, text), node);
const input = (id, more = {}) => el("input", { id, name: id, type: "text", autocomplete: "off", ...more });
const lengths = (id, chosen, first = {}) => el("select", { id, name: id }, Object.entries({ ...first, ...LENGTHS })
  .map(([value, text]) => el("option", { value, selected: value === chosen }, text)));

/** A dialog with a form; `submit(values)` may throw an ApiError, which is shown in it. */
function ask(title, text, fields, verb, submit) {
  const dialog = $("#say");
  const wrong = el("p", { class: "notice bad", role: "alert", hidden: true });
  const form = el("form", { method: "dialog" }, el("h2", { id: "say-title" }, title), el("p", { class: "muted" }, text),
    ...fields, wrong, el("p", { class: "dialog-actions" },
      el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
      el("button", { type: "submit", class: "primary" }, verb)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = new FormData(form);
    save(values.get("who"));
    try {
      await submit(values);
      dialog.close();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong.hidden = false;
      wrong.textContent = error.status === 403 || error.status === 401
        ? "This needs a key with the scope admin: penstock keys create --name me --scope admin. Enter it with the Key button."
        : error.message;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}

/** Take an alert: it is neither repeated nor escalated. */
export function acknowledgeDialog(alert, done) {
  ask("Acknowledge", `${alert.annotations.summary || alert.rule}. Nobody is told of it again, and it is not escalated; its end is told.`, [
    field("who", "Who", input("who", { required: true, maxlength: 200, value: saved() })),
    field("reason", "What is being done", input("reason", { maxlength: 1000 })),
    field("until", "Until", lengths("until", "", { "": "it ends" })),
  ], "Acknowledge", async (values) => {
    const until_s = Number(values.get("until"));
    await send("POST", `v1/alerts/${encodeURIComponent(alert.id)}/acknowledge`, {
      who: values.get("who"), reason: values.get("reason"),
      ...(until_s ? { until: iso(Math.round(Date.now() / 1000) + until_s) } : {}),
    });
    done();
  });
}

/** Silence what has the labels that are chosen. */
export function silenceDialog(alert, done) {
  const labels = Object.entries(alert.labels).filter(([name, value]) => value && !["group", "severity"].includes(name));
  const boxes = el("fieldset", {}, el("legend", {}, "Alerts with all of"), labels.map(([name, value]) =>
    el("label", { class: "check" }, el("input", { type: "checkbox", name: "label", value: name, checked: true }),
      el("code", {}, `${name}=${value}`))));
  ask("Silence", "Nobody is told of what matches. It is evaluated and stored all the same; what still fires afterwards is told then.", [
    boxes,
    field("reason", "Why", input("reason", { required: true, maxlength: 1000 })),
    field("who", "Who", input("who", { required: true, maxlength: 200, value: saved() })),
    field("duration", "For", lengths("duration", "7200")),
  ], "Silence", async (values) => {
    const chosen = new Set(values.getAll("label"));
    if (!chosen.size) throw new ApiError(422, "Choose at least one label: a silence of everything hides too much.");
    await send("POST", "v1/silences", {
      matchers: labels.filter(([name]) => chosen.has(name)).map(([label, value]) => ({ label, op: "=", value })),
      reason: values.get("reason"), author: values.get("who"), duration_s: Number(values.get("duration")),
    });
    done();
  });
}
