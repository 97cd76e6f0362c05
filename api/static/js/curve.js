// A small line chart for the pages: a few lines over time, one limit, no cursor to sync.

import { el } from "./dom.js";
import { show } from "./format.js";

const HEIGHT = 120;
/** Points without a neighbour: no line shows them. */
export const lonely = (values) => values.flatMap((v, i) =>
  (v !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null ? [i] : []));

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart that draws itself when it has a width.
 * @param label what it shows, for those who cannot see it
 * @param times epoch seconds, ascending
 * @param lines `[{values, colour, dash}]`, colour is the name of a CSS variable
 * @param kind of the values, as in format.js
 * @param range `[low, high]` of the values; null for their own
 */
export function curve(label, times, lines, kind, range = null) {
  const root = el("div", { class: "curve", role: "img", "aria-label": label });
  let plot = null;
  const axis = (more) => ({ stroke: css("--ink-2"), font: "11px system-ui, sans-serif",
    grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, ...more });
  const time = globalThis.uPlot.fmtDate("{HH}:{mm}");
  const day = globalThis.uPlot.fmtDate("{D} {MMM}");
  const build = (width) => new globalThis.uPlot({
    width, height: HEIGHT, padding: [8, 20, 0, 0], legend: { show: false },
    cursor: { show: false }, tzDate: (t) => globalThis.uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
    scales: { x: { time: true }, y: range ? { range: () => range } : { range: (_u, low, high) => [Math.min(0, low), high > 0 ? high * 1.15 : 1] } },
    axes: [
      axis({ size: 24, space: 70, values: (_u, splits, _a, _s, step) => splits.map((t) => {
        const at = globalThis.uPlot.tzDate(new Date(t * 1000), "Etc/UTC");
        return step >= 86_400 || t % 86_400 === 0 ? day(at) : time(at);
      }) }),
      axis({ size: 52, space: 28, gap: 4, values: (_u, splits) => splits.map((v) => show(v, kind)) }),
    ],
    series: [{}, ...lines.map((line) => ({ stroke: css(line.colour), width: 1.6, dash: line.dash ?? [],
      points: { show: true, size: 5, filter: (u, i) => lonely(u.data[i]) } }))],
  }, [times, ...lines.map((line) => line.values)], root);
  new ResizeObserver(() => {
    const width = root.clientWidth;
    if (!width) return;
    if (plot) plot.setSize({ width, height: HEIGHT });
    else plot = build(width);
  }).observe(root);
  return root;
}
