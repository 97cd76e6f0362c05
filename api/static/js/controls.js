// The bar of choices, kept in the address so that a view can be shared, and the theme.

import { parameters, remember } from "./address.js";
import { $, el, radios, setText } from "./dom.js";
import { GROUPINGS, RANGES } from "./data.js";
import { REQUEST_VIEWS } from "./requests.js";

const QUANTILES = ["p50", "p95", "p99"];

/** What is shown; `zoom` is `[start, end]` in epoch seconds or null, which follows the newest data. */
export const view = { range: "1h", group: "fleet", quantiles: new Set(QUANTILES), zoom: null, requests: "slowest" };

function readAddress() {
  const q = parameters();
  if (q.get("range") in RANGES) view.range = q.get("range");
  if (q.get("group") in GROUPINGS) view.group = q.get("group");
  if (q.get("requests") in REQUEST_VIEWS) view.requests = q.get("requests");
  const chosen = (q.get("quantiles") ?? "").split(",").filter((x) => QUANTILES.includes(x));
  if (chosen.length) view.quantiles = new Set(chosen);
  const [start, end] = ["start", "end"].map((name) => Number(q.get(name)));
  view.zoom = start > 0 && end > start ? [start, end] : null;
}

function writeAddress() {
  remember({ range: view.range, group: view.group, requests: view.requests,
    quantiles: [...view.quantiles].join(","), start: view.zoom?.[0] ?? null, end: view.zoom?.[1] ?? null });
}

/** Build everything; `onView` and `onRequests` are called after a change. */
export function buildControls({ onView, onRequests, onTheme }) {
  readAddress();
  const changed = () => { writeAddress(); render(); onView(); };
  const labels = Object.fromEntries(Object.entries(RANGES).map(([k, r]) => [k, r.label]));
  const render = () => {
    radiosChecked("range", view.zoom ? "" : view.range);
    $("#follow").hidden = !view.zoom;
  };
  radios($("#range"), "range", "", labels, () => view.range, (v) => { view.range = v; view.zoom = null; changed(); });
  radios($("#group"), "group", "By", GROUPINGS, () => view.group, (v) => {
    view.group = v;
    view.quantiles = new Set(v === "fleet" ? QUANTILES : ["p95"]);
    quantiles(changed);
    changed();
  });
  radios($("#request-view"), "requests", "", REQUEST_VIEWS, () => view.requests,
    (v) => { view.requests = v; writeAddress(); onRequests(); });
  quantiles(changed);
  $("#follow").addEventListener("click", () => { view.zoom = null; changed(); });
  $("#theme").addEventListener("click", () => { flipTheme(); onTheme(); });
  showTheme();
  render();
  return { zoom: (start, end) => { view.zoom = [start, end]; changed(); } };
}

function radiosChecked(name, value) {
  document.getElementsByName(name).forEach((input) => { input.checked = input.value === value; });
}

function quantiles(changed) {
  $("#quantiles").replaceChildren(el("span", { class: "caption", "aria-hidden": "true" }, "Quantiles"),
    ...QUANTILES.map((q) => el("label", {},
      el("input", { type: "checkbox", name: "quantile", value: q, checked: view.quantiles.has(q), onchange: (event) => {
        if (event.target.checked) view.quantiles.add(q);
        else if (view.quantiles.size > 1) view.quantiles.delete(q);
        else event.target.checked = true;
        changed();
      } }), el("span", {}, q))));
}

const theme = () => document.documentElement.dataset.theme;

function showTheme() {
  const other = theme() === "dark" ? "Light" : "Dark";
  setText($("#theme .text"), other);
  $("#theme").setAttribute("aria-label", `Switch to ${other.toLowerCase()} theme`);
}

function flipTheme() {
  document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("penstock.theme", theme());
  } catch {
    // Storage may be forbidden; the choice lasts until the page is left.
  }
  showTheme();
}
