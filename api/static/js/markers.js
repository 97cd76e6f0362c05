// Release markers: a vertical line with a flag on every chart; the label shows near the cursor.

import { el } from "./dom.js";
import { clock, significant } from "./format.js";

const NEAR_PX = 10;

/** One line of text for a release marker. */
export function releaseText(r) {
  const share = r.share === null || r.share === undefined ? "" : `${significant(r.share * 100)} %`;
  const what = [r.stage, r.variant === r.stage ? "" : r.variant, share].filter(Boolean).join(" ");
  const model = [r.model, r.model_version].filter(Boolean).join(" ");
  return [r.release || "release", what, model, r.note, `${clock(r.t)} UTC`].filter(Boolean).join(" · ");
}

/** A uPlot plugin; `releases()` gives `[{t, release, model, ...}]` with t in epoch seconds. */
export function markerPlugin(releases) {
  let layer;
  let marks = [];
  const place = (u) => {
    const { min, max } = u.scales.x;
    const width = u.over.clientWidth;
    const shown = (releases() ?? []).filter((r) => r.t >= min && r.t <= max);
    const groups = [];
    for (const r of shown) {
      const x = Math.round(u.valToPos(r.t, "x"));
      const last = groups.at(-1);
      if (last && x - last.x < NEAR_PX) last.items.push(r);
      else groups.push({ x, items: [r] });
    }
    marks = groups.map(({ x, items }) => {
      const text = items.map(releaseText);
      const label = el("span", { class: "label" }, text.map((line) => el("span", {}, line)));
      const node = el("div", { class: "marker", "data-release": items.map((r) => r.release).join(" ") },
        el("span", { class: "flag", "aria-hidden": "true" }, items.length > 1 ? String(items.length) : ""),
        label);
      node.style.left = `${x}px`;
      node.classList.toggle("flip", x > width / 2);
      label.style.maxWidth = `${Math.max(x, width - x) - 8}px`;
      return { x, node };
    });
    layer.replaceChildren(...marks.map((m) => m.node));
  };
  const point = (u) => {
    const here = u.over.matches(":hover");
    for (const { x, node } of marks) {
      node.classList.toggle("near", here && Math.abs(u.cursor.left - x) <= NEAR_PX);
    }
  };
  return {
    hooks: {
      init: (u) => {
        layer = el("div", { class: "markers" });
        u.over.append(layer);
      },
      draw: (u) => { place(u); point(u); },
      setCursor: point,
    },
  };
}
