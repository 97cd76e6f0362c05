// The chart cards: what each shows, its legend, its table, and the uPlot inside.

import { lonely } from "./curve.js";
import { el, setText, table as makeTable } from "./dom.js";
import { clock, dateTime, show } from "./format.js";
import { markerPlugin } from "./markers.js";

const QUANTILES = ["p50", "p95", "p99"];
const QUANTILE_DASH = { p50: [2, 3], p95: [], p99: [7, 4] };

export const CHARTS = [
  { id: "request_rate", title: "Request rate", unit: "requests/s", kind: "rate", metric: "request_rate" },
  { id: "error_rate", title: "Error rate by type", unit: "of requests", kind: "ratio", metric: "error_rate", errors: true },
  { id: "ttft", title: "Time to first token", kind: "ms", quantiles: "ttft_ms" },
  { id: "latency", title: "End-to-end latency", kind: "ms", quantiles: "latency_ms" },
  { id: "tokens", title: "Generated tokens", unit: "tokens/s", kind: "tokens", metric: "tokens_per_s" },
  { id: "queue", title: "Queue depth", unit: "requests waiting, mean", kind: "requests", metric: "queue_depth_mean" },
  { id: "kv", title: "KV cache use", unit: "mean", kind: "ratio", metric: "kv_cache_usage_mean", max: 1 },
  { id: "cost", title: "Cost", unit: "USD per hour", kind: "usd_per_hour", cost: true },
  { id: "cost_per_1k", title: "Cost per 1k tokens", unit: "USD", kind: "usd_per_1k", metric: "cost_per_1k_tokens_usd" },
];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (i) => css(`--series-${(i % 8) + 1}`);
const column = (rows, pick) => rows.map((row) => (row === undefined ? null : (pick(row) ?? null)));

/** An axis value: the unit stands in the card's head where it does not change with the size. */
function axisText(value, chart) {
  return chart.kind === "ms" || chart.kind === "ratio" ? show(value, chart.kind)
    : show(value, chart.kind).replace(/ (req\/s|tok\/s|waiting|\/h|\/ 1k tok)$/, "");
}

/** Lines of one chart: `[{label, values, colour, dash}]`, without those that have nothing to say. */
function linesOf(chart, data, options) {
  return allLines(chart, data, options)
    .filter(({ values, idle }) => values.some((v) => v !== null && !(idle && v === 0)));
}

function allLines(chart, data, options) {
  const single = options.grouping === "fleet";
  if (chart.errors && single) return errorLines(data);
  return data.slices.flatMap((slice, i) => {
    if (!chart.quantiles) {
      const pick = chart.cost
        ? (row) => (row.cost_usd === null ? null : (row.cost_usd / options.window_s) * 3600)
        : (row) => row[chart.metric];
      const label = single ? chart.cost ? "cost" : "fleet" : slice.label;
      return [{ label, values: column(slice.rows, pick), idle: slice.idle, colour: colour(i), dash: i > 5 ? [3, 3] : [] }];
    }
    return QUANTILES.filter((q) => options.quantiles.has(q)).map((q) => ({
      label: single ? q : `${slice.label} ${q}`,
      values: column(slice.rows, (row) => row[`${chart.quantiles}_${q}`]),
      colour: colour(single ? QUANTILES.indexOf(q) : i),
      dash: single ? [] : QUANTILE_DASH[q],
    }));
  });
}

/** The fleet's error rate, whole and by type; a type's share is of the same requests. */
function errorLines(data) {
  const rows = data.slices[0]?.rows ?? [];
  const totals = new Map();
  for (const row of rows) {
    for (const [type, n] of Object.entries(row?.errors_by_type ?? {})) {
      totals.set(type, (totals.get(type) ?? 0) + n);
    }
  }
  const types = [...totals].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([type]) => type);
  const share = (type) => (row) => {
    const all = Object.values(row.errors_by_type ?? {}).reduce((sum, n) => sum + n, 0);
    if (row.error_rate === null || row.error_rate === undefined) return null;
    return all ? (row.error_rate * (row.errors_by_type[type] ?? 0)) / all : 0;
  };
  return [
    { label: "all types", values: column(rows, (row) => row.error_rate), colour: css("--ink-2"), dash: [] },
    ...types.map((type, i) => ({
      label: type, values: column(rows, share(type)), colour: colour(i), dash: [],
    })),
  ];
}

/** One card. `update` may be called as often as wanted; it redraws only what changed. */
export class ChartCard {
  constructor(chart, hooks) {
    this.chart = chart;
    this.hooks = hooks;
    this.hidden = new Set();
    this.signature = "";
    this.plot = null;
    this.when = el("span", { class: "when num" });
    this.legend = el("div", { class: "legend", role: "group", "aria-label": `${chart.title}: lines` });
    this.canvas = el("div", { class: "plot", role: "img",
      "aria-label": `${chart.title}, no data yet` });
    this.grid = el("div", { class: "plot-table", hidden: true, tabindex: "0", role: "region",
      "aria-label": `${chart.title} as a table` });
    this.toggle = el("button", { type: "button", class: "quiet", "aria-pressed": "false",
      "aria-label": `Show ${chart.title} as a table`, onclick: () => this.#flip() }, "Table");
    this.note = el("p", { class: "plot-note" }, "Loading…");
    this.root = el("article", { class: "card chart", "data-chart": chart.id,
      "aria-labelledby": `chart-${chart.id}` },
      el("header", {}, el("h3", { id: `chart-${chart.id}` }, chart.title),
        chart.unit ? el("span", { class: "unit" }, chart.unit) : null,
        this.when, this.toggle),
      el("div", { class: "plot-box" }, this.canvas, this.grid, this.note), this.legend);
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
  }

  update(data, options) {
    this.data = data;
    this.options = options;
    this.lines = linesOf(this.chart, data, options);
    const any = this.lines.some((line) => line.values.some((v) => v !== null));
    this.note.hidden = any;
    setText(this.note, any ? "" : options.empty);
    const signature = JSON.stringify([this.lines.map((l) => [l.label, l.colour, l.dash]), options.theme]);
    if (signature !== this.signature) {
      this.signature = signature;
      this.#build();
    } else {
      this.plot.batch(() => {
        this.plot.setData(this.#columns(), false);
        this.plot.setScale("x", { min: options.start, max: options.end });
      });
    }
    this.#describe();
    this.#values(this.plot.cursor.idx ?? null);
    if (!this.grid.hidden) this.#fillTable();
  }

  /** Say why there is nothing to draw. */
  blank(text) {
    if (this.plot) return;
    setText(this.note, text);
  }

  #columns() {
    return [this.data.times, ...this.lines.map((line) => line.values)];
  }

  #build() {
    this.plot?.destroy();
    const { chart, lines } = this;
    this.plot = new globalThis.uPlot({
      width: Math.max(200, this.canvas.clientWidth), height: 190,
      padding: [14, 16, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "penstock" }, points: { size: 6 }, y: false,
        drag: { x: true, y: false, setScale: false, dist: 8 } },
      tzDate: (t) => globalThis.uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
      scales: {
        x: { time: true, range: () => [this.options.start, this.options.end] },
        y: { range: (_u, _low, high) => [0, chart.max ?? (high > 0 ? high * 1.12 : 1)] },
      },
      axes: [this.#xAxis(), this.#yAxis()],
      series: [{}, ...lines.map((line) => ({
        label: line.label, stroke: line.colour, width: 1.6, dash: line.dash, spanGaps: false,
        show: !this.hidden.has(line.label),
        points: { show: false, size: 5, filter: (u, i) => lonely(u.data[i]) },
      }))],
      hooks: {
        setCursor: [(u) => this.#values(u.cursor.idx ?? null)],
        setSelect: [(u) => this.#zoom(u)],
      },
      plugins: [markerPlugin(() => this.options.releases)],
    }, this.#columns(), this.canvas);
    this.#buildLegend();
  }

  #axis() {
    return { stroke: css("--ink-2"), font: "11px system-ui, sans-serif",
      grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false } };
  }

  #xAxis() {
    const fmt = globalThis.uPlot.fmtDate;
    const time = fmt("{HH}:{mm}");
    const day = fmt("{D} {MMM}");
    const exact = fmt("{HH}:{mm}:{ss}");
    return { ...this.#axis(), size: 26, space: 64, values: (u, splits, _axis, _space, step) =>
      splits.map((t) => {
        const at = globalThis.uPlot.tzDate(new Date(t * 1000), "Etc/UTC");
        if (step >= 86_400 || t % 86_400 === 0) return day(at);
        return step < 60 ? exact(at) : time(at);
      }) };
  }

  #yAxis() {
    return { ...this.#axis(), size: 54, space: 34, gap: 4,
      values: (_u, splits) => splits.map((v) => axisText(v, this.chart)) };
  }

  #buildLegend() {
    this.outputs = this.lines.map(() => el("span", { class: "num" }));
    this.legend.replaceChildren(...this.lines.map((line, i) => {
      const key = el("span", { class: `key${line.dash.length ? " dashed" : ""}`, "aria-hidden": "true" });
      key.style.setProperty("--key", line.colour);
      return el("button", { type: "button", "aria-pressed": String(!this.hidden.has(line.label)),
        title: "Show or hide this line", onclick: (event) => this.#hide(event.currentTarget, i) },
        key, el("span", { class: "name" }, line.label), this.outputs[i]);
    }));
  }

  #hide(button, i) {
    const { label } = this.lines[i];
    const shown = this.hidden.has(label);
    if (shown) this.hidden.delete(label);
    else this.hidden.add(label);
    button.setAttribute("aria-pressed", String(shown));
    this.plot.setSeries(i + 1, { show: shown });
  }

  /** Legend values at the cursor, or the newest ones. */
  #values(idx) {
    const { times } = this.data;
    setText(this.when, idx === null || times[idx] === undefined ? "" : `${clock(times[idx])} UTC`);
    this.lines.forEach((line, i) => {
      const value = idx === null ? this.#newest(line) : line.values[idx];
      setText(this.outputs[i], show(value, this.chart.kind));
    });
  }

  #newest(line) {
    const from = Math.max(0, line.values.length - 2);
    return line.values.slice(from).reverse().find((v) => v !== null) ?? null;
  }

  #describe() {
    const words = this.lines.map((line) => `${line.label} ${show(this.#newest(line), this.chart.kind)}`);
    this.canvas.setAttribute("aria-label",
      `Line chart of ${this.chart.title}. Newest: ${words.join(", ") || "no data"}.`);
  }

  #zoom(u) {
    if (u.select.width < 8) return;
    const [low, high] = [u.select.left, u.select.left + u.select.width].map((x) => u.posToVal(x, "x"));
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.hooks.zoom(Math.floor(low / 10) * 10, Math.ceil(high / 10) * 10);
  }

  #resize() {
    const width = this.canvas.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: 190 });
  }

  #flip() {
    const on = this.grid.hidden;
    this.grid.hidden = !on;
    this.canvas.classList.toggle("away", on);
    this.toggle.setAttribute("aria-pressed", String(on));
    if (on) this.#fillTable();
  }

  #fillTable() {
    const { times } = this.data;
    const rows = times.map((t, i) => [dateTime(t), ...this.lines.map((l) => show(l.values[i], this.chart.kind))]);
    this.grid.replaceChildren(makeTable(`${this.chart.title}, newest first`,
      [["End of window, UTC"], ...this.lines.map((l) => [l.label, true])], rows.reverse().slice(0, 400)));
  }
}
