// The dashboard: wires the live stream, the charts and the panels together.

import { ApiError, get, hasKey, setKey, stream } from "./api.js";
import { CHARTS, ChartCard } from "./charts.js";
import { buildControls, view } from "./controls.js";
import { RANGES, SeriesStore, newestEnd, newestRows } from "./data.js";
import { fillDetail } from "./detail.js";
import { $, el, setText } from "./dom.js";
import { showEmpty } from "./empty.js";
import { clock, dateTime, seconds, show, span } from "./format.js";
import { showGates } from "./gates.js";
import { HEALTH_METRICS, readReleases, showHealth, showReleases } from "./health.js";
import { buildPages } from "./pages.js";
import { findRequests, showRequests } from "./requests.js";
import { TILE_METRICS, buildTiles, updateTiles } from "./tiles.js";

const REFRESH_MS = 2000;
const SILENT_MS = 10_000;
const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

const store = new SeriesStore();
const state = {
  newest: null, releases: [], live: false, loading: null, failures: 0,
  asked: false, locked: false, reconnect: false, wake: null,
};
let cards = [];
let loadPage = () => {};

// ---- connection, keys and errors

const WORDS = { live: "Live", polling: "Polling every 2 s", offline: "No connection, retrying",
  failing: "Server error, retrying", key: "Key needed" };

function connection(kind) {
  const pill = $("#connection");
  if (pill.dataset.state === kind) return;
  pill.dataset.state = kind;
  setText($(".text", pill), WORDS[kind]);
}

function askForKey(text) {
  state.locked = true;
  connection("key");
  $("#key-open").hidden = false;
  if (text) setText($("#key-text"), text);
  if (!state.asked && !$("#key-dialog").open) {
    state.asked = true;
    $("#key-dialog").showModal();
  }
}

/** Say what went wrong and what to do; a second failure in a row is shown on the page. */
function report(error) {
  if (error.name === "AbortError") return;
  if (error instanceof ApiError && error.status === 401) {
    askForKey(hasKey() ? "The server does not know this key, or it was revoked. Enter another one." : "");
    problem("This server asks for an API key with the scope read. Use the Key button to enter one.");
    return;
  }
  if (!(error instanceof ApiError)) {
    console.error(error);
    problem("This page met an answer it does not understand; the browser's console has the details.");
    return;
  }
  state.failures += 1;
  if (!state.live) connection(error.status === 0 ? "offline" : "failing");
  if (error.status === 403) problem("This key lacks the scope read. Enter another one with the Key button.");
  else if (state.failures > 1) {
    problem(error.status === 0
      ? "The server does not answer. What you see is the last that arrived; trying again every 2 seconds."
      : `The server answered: ${error.message} (HTTP ${error.status}). Trying again.`);
  }
}

function problem(text) {
  $("#error").hidden = !text;
  setText($("#error"), text);
  document.body.classList.toggle("stale", Boolean(text));
}

function fine() {
  state.failures = 0;
  if (!$("#error").hidden) problem("");
}

function wireKeys() {
  const dialog = $("#key-dialog");
  $("#key-open").hidden = !hasKey();
  $("#key-open").addEventListener("click", () => dialog.showModal());
  $("#key-cancel").addEventListener("click", () => dialog.close());
  $("#key-form").addEventListener("submit", () => {
    setKey($("#key-input").value.trim(), $("#key-remember").checked);
    $("#key-input").value = "";
    state.asked = false;
    state.locked = false;
    liveAbort?.abort();
    state.reconnect = true;
    state.wake?.();
    refreshAll();
  });
}

// ---- the newest window

function onLive(message) {
  document.body.dataset.watermark = message.watermark ?? "";
  state.live = true;
  fine();
  connection("live");
  showNow(message.fleet, seconds(message.watermark), seconds(message.now));
}

function showNow(values, watermark, now) {
  const any = Object.keys(values ?? {}).length > 0;
  document.body.dataset.phase = any ? "data" : "empty";
  updateTiles(any ? values : null);
  showEmpty($("#empty"), !any);
  setText($("#now-note"), values?.coverage_state === "no_data"
    ? "Whole fleet: no traffic in the last minute of event time" : "Whole fleet, last minute of event time");
  const behind = watermark === null ? 0 : (now ?? Date.now() / 1000) - watermark;
  setText($("#asof"), watermark === null ? ""
    : `Data to ${behind > 86_400 ? dateTime(watermark) : clock(watermark)} UTC${behind > 60 ? `, ${span(behind)} ago` : ""}`);
}

let liveAbort;

/** Follow /v1/live for ever; while it is away, poll the newest window every 2 s instead. */
async function follow() {
  for (;;) {
    liveAbort = new AbortController();
    let last = performance.now();
    const watch = setInterval(() => {
      if (performance.now() - last > SILENT_MS) liveAbort.abort();
    }, 1000);
    try {
      await stream("v1/live", (m) => { last = performance.now(); onLive(m); }, liveAbort.signal);
    } catch (error) {
      // A broken connection ends the stream with a TypeError; polling tells whether it is serious.
      if (error.status === 401 || error.status === 403) report(error);
      else if (error instanceof SyntaxError) report(error);
    } finally {
      clearInterval(watch);
    }
    state.live = false;
    state.reconnect = false;
    for (let i = 0; i < 3 && !state.reconnect; i += 1) {
      if (!state.locked) await poll();
      await Promise.race([sleep(REFRESH_MS), new Promise((wake) => { state.wake = wake; })]);
    }
  }
}

async function poll() {
  try {
    const [row] = await newestRows("fleet", TILE_METRICS.filter((m) => m !== "coverage"));
    fine();
    connection("polling");
    showNow(row && { ...row.values, coverage: row.coverage, coverage_state: row.state }, row?.end ?? null, null);
  } catch (error) {
    report(error);
  }
}

// ---- charts

function emptyText() {
  return state.newest === null ? "No events yet." : "No data in this range. Try a longer one, or All.";
}

function draw() {
  if (!store.key) return;
  const data = store.table();
  const newest = data.times.at(-1);
  const options = {
    grouping: view.group, quantiles: view.quantiles, window_s: store.window_s, releases: state.releases,
    start: view.range === "all" && !view.zoom ? (data.times[0] ?? store.end) - store.step_s : store.start,
    end: view.zoom ? store.end : (newest ?? store.end), empty: emptyText(),
    theme: document.documentElement.dataset.theme,
  };
  $("#charts").classList.toggle("by-release", view.group === "release");
  for (const card of cards) card.update(data, options);
  const more = data.omitted ? ` The ${data.slices.length} busiest of ${data.slices.length + data.omitted} are shown.` : "";
  setText($("#charts-note"), `Each point covers the ${store.window.replace(/\D/, " $&")} before it, every ${span(store.step_s)}.${more} Drag on a chart to zoom.`);
  const days = store.end - store.start > 80_000;
  const text = days ? dateTime : clock;
  setText($("#range-text"), `${text(options.start)} – ${text(options.end)} UTC`);
}

/** Load what the view asks for; a newer call cancels an older one. */
async function loadCharts() {
  state.loading?.abort();
  const abort = new AbortController();
  state.loading = abort;
  try {
    state.newest = await newestEnd(abort.signal);
    const end = view.zoom ? view.zoom[1] : state.newest;
    if (end === null) {
      for (const card of cards) card.blank(emptyText());
      return;
    }
    const span_s = RANGES[view.range].span_s;
    const start = view.zoom ? view.zoom[0] : span_s && end - span_s;
    const key = view.zoom ? view.zoom.join("-") : view.range;
    await store.load({ grouping: view.group, key, start, end }, abort.signal);
    fine();
    draw();
  } catch (error) {
    report(error);
    if (!(error instanceof ApiError)) return;
    for (const card of cards) card.blank("Could not be loaded.");
    setText($("#charts-note"), `Not up to date: ${error.message} Trying again.`);
  } finally {
    if (state.loading === abort) state.loading = null;
  }
}

// ---- panels

/** A panel's load: what fails is said in the panel, while it has nothing better to show. */
const guarded = (selector, task) => async (...given) => {
  try {
    await task(...given);
  } catch (error) {
    report(error);
    const hint = $(`${selector} > p.hint`);
    if (hint && error instanceof ApiError) setText(hint, `Could not be loaded: ${error.message}`);
  }
};

const loadGates = guarded("#gates",
  async () => showGates($("#gates"), $("#gates-note"), $("#gate-summary"), await get("v1/gates")));

const loadReleases = guarded("#releases", async () => {
  const releases = readReleases(await get("v1/releases"));
  if (JSON.stringify(releases) === JSON.stringify(state.releases) && $("#releases table")) return;
  state.releases = releases;
  showReleases($("#releases"), releases);
  draw();
});

const loadHealth = guarded("#health", async () => {
  const rows = await newestRows("release", HEALTH_METRICS);
  showHealth($("#health"), $("#health-note"), rows, state.newest);
});

const loadRequests = guarded("#requests", async () => {
  const root = $("#requests");
  root.setAttribute("aria-busy", "true");
  const end = view.zoom?.[1] ?? state.newest ?? (await newestEnd());
  const p99s = store.key ? store.table().slices.flatMap((s) => s.rows.map((r) => r?.latency_ms_p99 ?? null)) : [];
  const known = p99s.filter((v) => v !== null).sort((a, b) => a - b);
  const range = { start: store.key ? store.start : null, end: end ?? Date.now() / 1000,
    slow_ms: known[Math.floor(known.length / 2)] };
  const found = await findRequests(view.requests, range);
  showRequests(root, view.requests, found, openDetail);
  root.removeAttribute("aria-busy");
  setText($("#requests-note"), found.length && view.requests === "slowest" && range.slow_ms
    ? `Newest of those above the range's p99 (${show(range.slow_ms, "ms")}), slowest first` : "");
});

async function openDetail(id) {
  const dialog = $("#detail");
  fillDetail(dialog, id, null);
  if (!dialog.open) dialog.showModal(); // it shows the requests that this one was chosen from
  try {
    fillDetail(dialog, id, await get(`v1/requests/${encodeURIComponent(id)}`));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    fillDetail(dialog, id, null, error.status === 404
      ? "This request is no longer stored; raw rows are kept for 30 days by default." : `Could not load it: ${error.message}`);
  }
}

function refreshAll() {
  return Promise.all([loadCharts().then(loadRequests), loadGates(), loadReleases(), loadHealth(), loadPage()]);
}

/** Nobody is reading the requests table right now, so that it may change under the pointer. */
const tableIsIdle = () => !$("#requests").matches(":hover, :focus-within") && !$("#detail").open;

async function keepFresh() {
  for (let turn = 1; ; turn += 1) {
    await sleep(REFRESH_MS);
    if (document.hidden || state.locked) continue;
    const jobs = turn % 2 === 0 ? [loadGates()] : [];
    if (document.body.dataset.page === "overview") {
      jobs.push(loadHealth());
      if (!view.zoom && !state.loading) jobs.push(loadCharts());
      if (turn % 2 === 0) jobs.push(loadReleases());
      if (turn % 8 === 0 && tableIsIdle()) jobs.push(loadRequests());
    }
    await Promise.all(jobs);
  }
}

function start() {
  buildTiles($("#tiles"));
  wireKeys();
  const controls = buildControls({
    onView: () => loadCharts().then(loadRequests),
    onRequests: loadRequests,
    onTheme: () => { draw(); loadPage(); },
  });
  cards = CHARTS.map((chart) => new ChartCard(chart, { zoom: controls.zoom }));
  $("#charts").replaceChildren(...cards.map((card) => card.root));
  $("#gate-summary").addEventListener("click", () => {
    $('.tabs a[data-page="overview"]').click();
    $("#gates-section").scrollIntoView({ block: "start" });
  });
  $("#requests-refresh").addEventListener("click", loadRequests);
  $("#detail").addEventListener("click", (event) => {
    if (event.target === $("#detail")) $("#detail").close();
  });
  loadPage = buildPages({ guarded, isLocked: () => state.locked, openRequest: openDetail });
  document.body.classList.add("ready");
  refreshAll();
  follow();
  keepFresh();
}

start();
