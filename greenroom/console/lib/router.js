// Which page an address shows. Addresses are real paths below the console, so that they can be
// sent to somebody; a page gets what the path and the query name.

import { HOME, STATIC } from "./api.js";
import { put, h } from "./dom.js";
import { PAGES } from "../pages.js";

/** Returns the address of a place in the console, such as `threads/1?tab=runs`. */
export const href = (place) => HOME.replace(/\/$/, "") + (place ? `/${place}` : "");

/** A part of a path. Below `/api` the id of a thread may be any text. */
export const segment = encodeURIComponent;

/** Makes a link within the console; arguments as of `h`. */
export const link = (place, props, ...children) => h("a", { href: href(place), ...props }, ...children);

/** Goes to a place. `replace` leaves no entry in the history. */
export function go(place, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href(place));
  return show();
}

/** Changes the query of the address without showing the page anew. */
export function note(query) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  if (url.href !== location.href) history.replaceState(null, "", url);
}

/** Returns the page for a path below the console, and the parameters that the path names. */
export function match(path) {
  const segments = path.split("/").filter(Boolean).map(plain);
  for (const page of PAGES) {
    const pattern = page.path.split("/").filter(Boolean);
    if (pattern.length !== segments.length) continue;
    const params = {};
    const fits = pattern.every((each, index) =>
      each.startsWith(":") ? ((params[each.slice(1)] = segments[index]), true) : each === segments[index]);
    if (fits) return { page, params };
  }
  return null;
}

function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a percent sign that somebody typed
  }
}

let shown = null;
let outlet = null;
let told = () => {};

/** Shows pages in an element from now on; `tell` hears of each page that is shown. */
export function start(element, tell) {
  outlet = element;
  told = tell;
  addEventListener("popstate", () => show());
  addEventListener("click", (event) => {
    const anchor = event.target.closest?.("a[href]");
    if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const url = new URL(anchor.href);
    if (anchor.target || url.origin !== location.origin || !`${url.pathname}/`.startsWith(HOME)) return;
    event.preventDefault();
    if (url.href !== location.href) history.pushState(null, "", url);
    show();
  });
  return show();
}

async function show() {
  const asked = (shown = Symbol("page"));
  delete document.documentElement.dataset.page;
  const found = match(location.pathname.slice(HOME.length - 1));
  told(found?.page ?? null);
  if (!found) {
    put(outlet, h("div.empty", h("p.title", "There is no such page."), link("", { class: "link" }, "Go to the start")));
    return;
  }
  const { page, params } = found;
  let module;
  try {
    [module] = await Promise.all([import(new URL(page.module, STATIC)), ...(page.css ?? []).map(styled)]);
  } catch (error) {
    if (asked !== shown) return;
    console.error(error);
    put(outlet, h("div.empty", h("p.title", "This page cannot be loaded."), h("p", "The server may have been updated, or is away. Load the page again.")));
    return;
  }
  if (asked !== shown) return;
  const name = `gr-${page.name}-page`;
  if (!customElements.get(name)) customElements.define(name, module.default);
  const element = document.createElement(name);
  element.className = "page";
  element.params = params;
  element.query = Object.fromEntries(new URLSearchParams(location.search));
  put(outlet, element);
  document.title = `${element.title || page.title} · Greenroom`;
  outlet.focus({ preventScroll: true });
  scrollTo(0, 0);
}

const styles = new Map();
/** Loads a stylesheet of a page once, before the page is shown. */
function styled(path) {
  if (!styles.has(path)) {
    styles.set(path, new Promise((done, fail) => {
      document.head.append(h("link", { rel: "stylesheet", href: new URL(path, STATIC).href, onload: done, onerror: fail }));
    }));
  }
  return styles.get(path);
}
