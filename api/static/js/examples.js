// From a bar of a drift look to the requests behind it.

import { ApiError, get } from "./api.js";
import { $, el } from "./dom.js";
import { dateTime, seconds } from "./format.js";
import { requestTable } from "./requests.js";

const SOME = 20;

function fill(dialog, title, ...content) {
  dialog.replaceChildren(el("header", {}, el("h2", { id: "detail-title" }, title),
    el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")), ...content);
}

/**
 * Open the newest requests of a look's window whose value lies in a bar.
 * @param look `{monitor, series, bin, end, name}`: which bar, and what it is called
 * @param openRequest opens one of them
 */
export async function openExamples({ monitor, series, bin, end, name }, openRequest) {
  const dialog = $("#detail");
  const title = `Requests with ${series} ${name}`;
  fill(dialog, title, el("p", { class: "hint" }, "Loading…"));
  dialog.showModal();
  try {
    const found = await get(`v1/drift/${encodeURIComponent(monitor)}/examples`, { series, bin, end, limit: SOME });
    const note = el("p", { class: "muted" }, `The newest ${found.requests.length} of the window to ${dateTime(seconds(found.end))} UTC`);
    fill(dialog, title, note, found.requests.length
      ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, table` }, requestTable(title, found.requests, openRequest))
      : el("p", { class: "hint" }, "None are stored any more; raw rows are kept for 30 days by default."));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fill(dialog, title, el("p", { class: "hint" }, `Could not load them: ${error.message}`));
  }
}
