// Small elements for every page: <gr-time>, <gr-id>, <gr-json>, and `status` of a run or thread.

import { h, put, button } from "./dom.js";
import { ago, exact, short } from "./format.js";

const times = new Set();
setInterval(() => {
  if (!document.hidden) for (const each of times) each.draw();
}, 1000);

/** `<gr-time at="ISO">`: how long ago, kept current; the exact time as tooltip. */
class Time extends HTMLElement {
  static observedAttributes = ["at"];

  connectedCallback() {
    times.add(this);
    this.draw();
  }

  disconnectedCallback() {
    times.delete(this);
  }

  attributeChangedCallback() {
    this.draw();
  }

  draw() {
    const at = this.getAttribute("at");
    const text = at ? ago(at) : "–";
    if (this.textContent !== text) this.textContent = text;
    if (at) this.title = exact(at);
  }
}
customElements.define("gr-time", Time);

/** A point in time. */
export const time = (at) => h("gr-time", { at });

/** An id: both its ends, the whole as tooltip. */
export const id = (value) => h("span.mono", { title: value }, short(value));

/** A button that copies a text. */
export function copier(text, label = "Copy") {
  const made = button("", { icon: "copy", quiet: true, small: true, label });
  made.addEventListener("click", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
    made.title = "Copied";
  });
  return made;
}

const LOOKS = {
  success: "ok", idle: "", running: "busy", busy: "busy", pending: "warn", interrupted: "warn", error: "bad",
  timeout: "bad", delivered: "ok", failed: "bad", paused: "warn", completed: "ok", started: "busy",
};

/** The status of a run, a thread or a delivery: a dot and its word. */
export const status = (word) => h(`span.status${LOOKS[word] ? `.${LOOKS[word]}` : ""}`, { "data-status": word }, word ?? "–");

/**
 * `<gr-json>`: JSON as a tree that opens and closes. Set `.data`; `open` is the depth to which it
 * is open at first. A level is made when it is opened, and long lists a hundred at a time, so that
 * a large state costs nothing until somebody looks.
 */
class Json extends HTMLElement {
  #data;
  #chosen = new Map();
  open = 1;

  set data(value) {
    this.#data = value;
    if (this.isConnected) this.draw();
  }

  get data() {
    return this.#data;
  }

  connectedCallback() {
    this.draw();
  }

  draw() {
    put(this, branch(null, this.#data, this.open, "", this.#chosen));
  }
}
customElements.define("gr-json", Json);

/** JSON as a tree. */
export function tree(data, open = 1) {
  const made = h("gr-json");
  made.open = open;
  made.data = data;
  return made;
}

const STEP = 100;

function branch(key, value, open, path, chosen) {
  const name = key === null ? null : h("span.key", `${key}: `);
  if (value === null || typeof value !== "object") return h("div.leaf", name, leaf(value));
  const entries = Array.isArray(value) ? value.map((each, index) => [index, each]) : Object.entries(value);
  if (!entries.length) return h("div.leaf", name, Array.isArray(value) ? "[]" : "{}");
  const summary = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  const members = h("div.members");
  const made = h("details", h("summary", name, h("span.dim", summary, " ", preview(value))), members);
  let drawn = 0;
  const more = () => {
    const next = entries.slice(drawn, drawn + STEP);
    members.append(...next.map(([each, inside]) => branch(each, inside, open - 1, `${path}/${each}`, chosen)));
    drawn += next.length;
    if (drawn < entries.length) {
      const rest = button(`Show ${Math.min(STEP, entries.length - drawn)} more of ${entries.length - drawn}`, { small: true, quiet: true });
      rest.addEventListener("click", () => (rest.remove(), more()));
      members.append(rest);
    }
  };
  // What a person has opened or closed stays so when newer data is drawn.
  made.firstChild.addEventListener("click", () => chosen.set(path, !made.open));
  made.addEventListener("toggle", () => made.open && !drawn && more());
  if (chosen.get(path) ?? open > 0) {
    made.open = true;
    more();
  }
  return made;
}

function leaf(value) {
  if (typeof value !== "string") return h("span.other", String(value));
  const cut = value.length > 2000;
  const shown = h("span.string", cut ? `${value.slice(0, 2000)}…` : value);
  if (!cut) return shown;
  const all = button(`Show all ${value.length} characters`, { small: true, quiet: true });
  all.addEventListener("click", () => (put(shown, value), all.remove()));
  return [shown, " ", all];
}

function preview(value) {
  if (Array.isArray(value)) return "";
  const told = ["type", "name", "id"].filter((each) => typeof value[each] === "string").map((each) => value[each].slice(0, 40));
  return told.join(" · ") || Object.keys(value).slice(0, 4).join(", ");
}
