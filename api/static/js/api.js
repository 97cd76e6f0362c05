// Talking to the API: keys, errors, JSON and the live stream. All addresses are relative to the page.

const KEY = "penstock.key";
const TIMEOUT_MS = 30_000;
let key = null;

for (const storage of ["sessionStorage", "localStorage"]) {
  try {
    key ??= globalThis[storage].getItem(KEY);
  } catch {
    // Storage may be forbidden; the key lives in memory then.
  }
}

export class ApiError extends Error {
  /** @param {number} status HTTP status, 0 when nothing answered. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Remember a key for this tab, or for this browser; an empty one is forgotten. */
export function setKey(value, remember) {
  key = value || null;
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    if (key) (remember ? localStorage : sessionStorage).setItem(KEY, key);
  } catch {
    // See above.
  }
}

export const hasKey = () => key !== null;

const headers = (accept) => ({ accept, ...(key ? { authorization: `Bearer ${key}` } : {}) });

async function problem(response) {
  let text = "";
  try {
    const body = await response.json();
    text = body.detail || body.title || "";
  } catch {
    // A proxy may answer with something else than JSON.
  }
  return new ApiError(response.status, text || `HTTP ${response.status}`);
}

async function open(path, accept, signal, more = {}) {
  let response;
  try {
    response = await fetch(path, { ...more, headers: { ...headers(accept), ...more.headers }, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new ApiError(0, "The server took too long.");
    throw new ApiError(0, "The server does not answer.");
  }
  if (!response.ok) throw await problem(response);
  return response;
}

/** GET JSON. `query` values may be lists; empty ones are left out. Throws ApiError. */
export async function get(path, query = {}, signal = undefined) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== "") search.append(name, one);
    }
  }
  const text = search.toString();
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal ? AbortSignal.any([signal, limit]) : limit;
  const response = await open(text ? `${path}?${text}` : path, "application/json", either);
  return response.json();
}

/** POST, or another method, with a JSON body; the answer's JSON. Throws ApiError. */
export async function send(method, path, body = undefined) {
  const more = body === undefined ? { method }
    : { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  return (await open(path, "application/json", AbortSignal.timeout(TIMEOUT_MS), more)).json();
}

/** Read server-sent events until the stream ends; `onData` gets each parsed `data:`. */
export async function stream(path, onData, signal) {
  const response = await open(path, "text/event-stream", signal);
  const type = response.headers.get("content-type") ?? "";
  if (!type.includes("event-stream")) throw new ApiError(response.status, "No event stream here.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5));
      if (data.length) onData(JSON.parse(data.join("\n")));
    }
  }
}
