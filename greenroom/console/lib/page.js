// The base of every page.

import { ApiError } from "./api.js";
import { h, put } from "./dom.js";

export class Page extends HTMLElement {
  /** What the path and the query of the address name. Set before the page is shown. */
  params = {};
  query = {};

  #gone = new AbortController();

  /** Aborted when the page is left: give it to requests, streams, polls and listeners. */
  get signal() {
    return this.#gone.signal;
  }

  connectedCallback() {
    this.run(() => this.open());
  }

  disconnectedCallback() {
    this.#gone.abort();
    this.close();
  }

  /** Shows the page; it may be async. Pages override it. */
  open() {}

  /** Says that the page shows its first data: `data-page` of the document is its name from now on,
   * until another page is asked for. */
  ready() {
    if (!this.signal.aborted) document.documentElement.dataset.page = this.localName.slice(3, -5);
  }

  /** Called when the page is left. */
  close() {}

  /**
   * Does something that may fail; what the server refuses is shown, by `failed`. Returns its
   * result, or undefined if it failed or the page was left.
   */
  async run(work) {
    try {
      return await work();
    } catch (error) {
      if (this.signal.aborted || error.name === "AbortError") return undefined;
      if (!(error instanceof ApiError)) console.error(error);
      this.failed(error);
      return undefined;
    }
  }

  /** Shows that something failed, in place of the page's body. Pages may override it. */
  failed(error) {
    const body = this.querySelector(".body") ?? this.appendChild(h("div.body"));
    put(body, h("div.notice.bad", { role: "alert" }, error.message));
  }

  /** Listens to the window until the page is left. */
  listen(name, listener, target = window) {
    target.addEventListener(name, listener, { signal: this.signal });
  }
}

/**
 * The head of a page.
 *
 * @param {{crumbs?: any, title: any, actions?: any}} parts
 */
export function head({ crumbs, title, actions }) {
  return h("header.head",
    h("div.where", crumbs && h("div.crumbs", crumbs), h("h1", title)),
    h("div.actions", actions));
}

/** An empty state: what is missing, and what to do about it. */
export function empty(title, sentence, action) {
  return h("div.empty", h("p.title", title), sentence && h("p", sentence), action);
}
