// What is shown is kept in the address, so that a view can be sent to somebody.

export const parameters = () => new URLSearchParams(location.hash.slice(1));

/** Set parameters of the address; null removes one. `step` makes an entry of the browser's history. */
export function remember(changes, step = false) {
  const q = parameters();
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") q.delete(name);
    else q.set(name, value);
  }
  const hash = `#${q}`;
  if (hash === location.hash) return;
  if (step) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}
