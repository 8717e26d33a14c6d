// The keyboard: single keys while nothing is being typed, `g` and a letter to go to a page.

import { h } from "./dom.js";
import { dialog } from "./dialogs.js";

const bound = new Map();

/**
 * Binds a key while a page is shown.
 *
 * @param {string} key as `KeyboardEvent.key` says it, or "g x" for two keys after one another
 * @param {string} what it does, for the help
 * @param {(event) => void} act
 * @param {AbortSignal} [signal] ends it
 */
export function onKey(key, what, act, signal) {
  const entry = { what, act };
  bound.set(key, [...(bound.get(key) ?? []), entry]);
  signal?.addEventListener("abort", () => {
    const rest = bound.get(key).filter((each) => each !== entry);
    if (rest.length) bound.set(key, rest);
    else bound.delete(key);
  });
}

const TYPING = "input, textarea, select, [contenteditable]";
const BETWEEN_MS = 1200;
let first = { key: "", at: 0 };

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.target.closest?.(`${TYPING}, dialog`)) return;
  // When the keys were pressed counts, not when a busy page hears of it.
  const key = first.key && event.timeStamp - first.at < BETWEEN_MS ? `${first.key} ${event.key}` : event.key;
  first = { key: "", at: 0 };
  const entry = bound.get(key)?.at(-1);
  if (entry) {
    event.preventDefault();
    entry.act(event);
  } else if (event.key === "g") {
    first = { key: "g", at: event.timeStamp };
  }
});

/** Shows all keys that do something now. */
export function help() {
  const rows = [...bound].map(([key, entries]) => [
    h("dt", key.split(" ").map((each) => h("kbd", each))), h("dd", entries.at(-1).what),
  ]);
  rows.push([h("dt", h("kbd", "⌘"), " ", h("kbd", "Enter")), h("dd", "Send what is being typed (or Ctrl Enter)")]);
  rows.push([h("dt", h("kbd", "Esc")), h("dd", "Close what is open, or leave a field")]);
  return dialog("Keys", h("dl.facts", rows));
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches?.(TYPING) && !event.target.closest("dialog")) event.target.blur();
});

/**
 * j and k (or the arrows) move through the rows of a list; Enter opens a row's first link.
 *
 * @param {() => HTMLElement[]} rows
 */
export function listKeys(rows, signal) {
  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    const now = all.findIndex((row) => row.getAttribute("aria-selected") === "true");
    const next = all[Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
    all.forEach((row) => row.toggleAttribute("aria-selected", false));
    next.setAttribute("aria-selected", "true");
    (next.querySelector("a, button") ?? next).focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };
  onKey("j", "Next row", () => move(1), signal);
  onKey("k", "Previous row", () => move(-1), signal);
}
