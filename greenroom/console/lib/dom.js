// Makes elements. Text is always set as text: nothing here, and nothing in the console, parses a
// string as HTML, so what a message says can never become markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element.
 *
 * @param {string} tag such as "div" or "div.card.wide" (the rest are classes)
 * @param {object} [props] attributes; `onclick` and its kin are listeners, `class` is added, other
 *     properties that need no string (`value`, `checked`, `data`) are set as properties; a value of
 *     null, undefined or false leaves the attribute out
 * @param {...any} children nodes, strings, numbers, arrays of them; null and false are left out
 */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag.split(".")[0]), tag, props, children);
}

/** Makes an element of SVG; arguments as of `h`. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag.split(".")[0]), tag, props, children);
}

function fill(element, tag, props, children) {
  const classes = tag.split(".").slice(1);
  if (props !== null && typeof props === "object" && !(props instanceof Node) && !Array.isArray(props)) {
    for (const [name, value] of Object.entries(props)) set(element, name, value, classes);
  } else if (props !== undefined) {
    children = [props, ...children];
  }
  if (classes.length) element.setAttribute("class", classes.join(" "));
  element.append(...nodes(children));
  return element;
}

function set(element, name, value, classes) {
  if (value === undefined || value === null || value === false) return;
  if (name === "class") classes.push(...String(value).split(" ").filter(Boolean));
  else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  // A style attribute would be refused by the page's policy; properties of it are not.
  else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
  else if (name.startsWith("data-") || name.startsWith("aria-")) element.setAttribute(name, value);
  else if (name === "value" || (typeof value !== "string" && name in element && element instanceof HTMLElement)) element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function nodes(children) {
  return children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false)
    .map((each) => (each instanceof Node ? each : String(each)));
}

/** Replaces what an element contains. */
export function put(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Calls `draw` once in the next frame, however often it is asked for. */
export function perFrame(draw) {
  let asked = 0;
  return () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw();
    });
  };
}

const ICONS = {
  chat: "M2.5 3.5h11v7.5h-6l-3 2.5v-2.5h-2z",
  threads: "M3 4h10M3 8h10M3 12h6",
  inbox: "M2.5 9l2-5.5h7l2 5.5v3.5h-11zM2.5 9h3l1 1.5h3l1-1.5h3",
  now: "M1.5 8h3l2-5 3 10 2-5h3",
  runs: "M5 3.5l7.5 4.5-7.5 4.5z",
  clock: "M8 2.2a5.8 5.8 0 1 0 0 11.6a5.8 5.8 0 1 0 0-11.6M8 5v3l2 1.5",
  send: "M8 13V3M4 7l4-4 4 4",
  stop: "M4.5 4.5h7v7h-7z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  step: "M4 3.5l6 4.5-6 4.5zM12.5 3.5v9",
  plus: "M8 3v10M3 8h10",
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  key: "M6 6.5a3 3 0 1 0-.01 3.5h3.5v2h2v-2h2v-2.5h-7.5",
  help: "M6 6a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6 1v.6M8 12v.1",
  fork: "M4 3v4a3 3 0 0 0 3 3h5M9.5 7.5L12 10l-2.5 2.5M4 7v6",
  edit: "M3 13l.7-2.8 7-7 2.1 2.1-7 7z",
  search: "M7 2.8a4.2 4.2 0 1 0 0 8.4a4.2 4.2 0 1 0 0-8.4M10.2 10.2l3.3 3.3",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  close: "M4 4l8 8M12 4l-8 8",
  hook: "M8 2.5v6a3 3 0 1 1-3-3M8 4.5h4",
  graph: "M3 3h4v3h-4zM9 10h4v3h-4zM5 6v2.5h6v1.5",
  check: "M3 8.5l3.2 3.2 6.8-7",
  back: "M10 3.5l-4.5 4.5 4.5 4.5",
};

/** An icon of 16 px; the names are those of `ICONS`. It is decoration: its button has a label. */
export function icon(name) {
  return s(
    "svg",
    { viewBox: "0 0 16 16", fill: "none", stroke: "currentColor", "stroke-width": "1.5",
      "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" },
    s("path", { d: ICONS[name] ?? ICONS.more }),
  );
}

/**
 * Makes a button. `props.primary`, `.danger`, `.quiet`, `.small` are its looks, `props.icon` its
 * icon; without a text it needs `props.label`, for people who hear the page and as its tooltip.
 */
export function button(text, { primary, danger, quiet, small, icon: name, label, ...props } = {}) {
  const looks = Object.entries({ primary, danger, quiet, small, icon: !text }).filter(([, on]) => on).map(([look]) => look);
  return h(`button.button.${looks.join(".")}`.replace(/\.$/, ""), { type: "button", "aria-label": label, title: label, ...props },
    name && icon(name), text);
}
