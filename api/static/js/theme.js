// Runs before the first paint (a plain script in the head), so that the page never flashes.
(() => {
  let saved = null;
  try {
    saved = localStorage.getItem("penstock.theme");
  } catch {
    // Storage may be forbidden; the system's preference is used then.
  }
  const dark = saved ? saved === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
