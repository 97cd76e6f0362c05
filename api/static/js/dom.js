// Two helpers instead of a framework. Text is always set as text, never as markup.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** `el("td", { class: "num", title: "p95" }, "12 ms")`; null and false children are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** A table: `head` is a list of `[text, numeric?]`, `rows` a list of lists of cells. */
export function table(caption, head, rows, attributes = {}) {
  const numeric = head.map(([, isNumber]) => Boolean(isNumber));
  return el(
    "table",
    attributes,
    el("caption", { class: "sr-only" }, caption),
    el("thead", {}, el("tr", {}, head.map(([text], i) =>
      el("th", { scope: "col", class: numeric[i] ? "num" : null }, text)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, i) =>
      el("td", { class: numeric[i] ? "num" : null }, cell ?? "")))),
    ),
  );
}

/** Numbers with their names: a list of `[name, text]`. */
export const figures = (facts, look = "figures") =>
  el("dl", { class: look }, facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));

/** What a filter lets pass, in words. */
export const scope = (filter) => Object.entries(filter).map(([name, v]) => `${name} ${v}`).join(" · ") || "whole fleet";

/** A row of radio buttons; `caption` is shown before them. */
export function radios(root, name, caption, options, get, set) {
  root.replaceChildren(...(caption ? [el("span", { class: "caption", "aria-hidden": "true" }, caption)] : []),
    ...Object.entries(options).map(([value, text]) => el("label", {},
      el("input", { type: "radio", name, value, checked: get() === value, onchange: () => set(value) }),
      el("span", {}, text))));
}

/** A bar as long as a share; the number stands beside it. */
export function meter(part, look = "") {
  const bar = el("span", { class: `meter ${look}`, "aria-hidden": "true" }, el("span", {}));
  bar.firstChild.style.width = `${Math.min(Math.max(part ?? 0, 0), 1) * 100}%`;
  return bar;
}

/** Put text into a node only when it changed, so that screen readers are not woken for nothing. */
export function setText(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}

/** A state in words with a mark; colour comes on top of both. */
export function badge(state, text) {
  const mark = { good: "✓", bad: "✕", warn: "!", none: "–", unsure: "?" }[state] ?? "–";
  return el("span", { class: `badge ${state}` }, el("span", { "aria-hidden": "true" }, mark), text);
}
