// The pages beside the overview: which one is shown, and how it stays fresh.

import { parameters, remember } from "./address.js";
import { buildAlerts } from "./alerts.js";
import { buildCosts } from "./costs.js";
import { $, $$ } from "./dom.js";
import { buildDrift } from "./drift.js";
import { buildSlos } from "./slos.js";

const REFRESH_MS = 5000;
const OVERVIEW = "overview";

/**
 * Build every page and follow the address.
 * @param guarded wraps a load, so that what fails is said in a panel
 * @param isLocked whether the server asks for a key first
 * @param openRequest opens the detail of a request
 * @returns `load`, which loads what is shown now
 */
export function buildPages({ guarded, isLocked, openRequest }) {
  const hooks = { guarded, openRequest };
  const loads = {
    alerts: buildAlerts(hooks), slos: buildSlos(hooks), costs: buildCosts(hooks), drift: buildDrift(hooks),
  };
  const asked = () => {
    const page = parameters().get("page");
    return page in loads ? page : OVERVIEW;
  };
  const load = () => loads[document.body.dataset.page]?.();
  const show = () => {
    const page = asked();
    document.body.dataset.page = page;
    for (const node of $$("[data-page-of]")) node.hidden = node.dataset.pageOf !== page;
    for (const link of $$(".tabs a")) {
      if (link.dataset.page === page) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    load();
  };
  const open = (page) => {
    remember({ page: page === OVERVIEW ? null : page, alert: null }, true);
    show();
    scrollTo(0, 0);
  };
  for (const link of $$(".tabs a")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      open(link.dataset.page);
    });
  }
  $("#alert-summary").addEventListener("click", () => open("alerts"));
  addEventListener("popstate", show);
  addEventListener("hashchange", show);
  show();
  setInterval(() => {
    if (!document.hidden && !isLocked() && !$("dialog[open]")) load();
  }, REFRESH_MS);
  return load;
}
