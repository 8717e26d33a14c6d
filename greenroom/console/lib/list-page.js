// A page that is one list of records: filters above it, and its rows, read again while it is shown.

import { api, ApiError, poll } from "./api.js";
import { toast } from "./dialogs.js";
import { h, put } from "./dom.js";
import { number } from "./format.js";
import { listKeys } from "./keys.js";
import { Listing, ROWS } from "./listing.js";
import { head, Page } from "./page.js";

export class ListPage extends Page {
  #asked = null;

  count = h("span.dim.number");

  /**
   * Shows the page; `open` of a page calls it, and returns what it returns.
   *
   * @param {{title: string, name: string, columns: [string, string][], filters: any, every: number}} page
   *     `name` as of `Listing`, `every` in milliseconds
   * @param {object} how as of `Listing`
   */
  list({ title, name, columns, filters, every }, how) {
    this.problem = h("p.problem", { role: "alert" });
    this.listing = new Listing(name, columns, how, (offset) => this.load(offset), Number(this.query.offset) || 0);
    this.append(
      head({ title }),
      h("div.body", h("div.row.filters", filters), this.problem, this.listing.element));
    listKeys(() => [...this.listing.rows.querySelectorAll("tr[data-key]")], this.signal);
    return poll(() => this.load(this.listing.offset), every, this.signal);
  }

  /**
   * Asks for the rows from `offset` on, and notes the filters in the address. Pages override it.
   *
   * @returns {Promise<{items: any[], next: number | null, counted?: string}>} `counted` says how many
   *     there are in all
   */
  rowsFrom() {}

  /** The answer of a route that searches, and of the one beside it that counts. */
  async searched(path, noun, where, sortBy, offset) {
    const [found, count] = await Promise.all([
      api.page(`${path}/search`, { ...where, limit: ROWS, offset, sort_by: sortBy, sort_order: "asc" }, { signal: this.signal }),
      api.post(`${path}/count`, where, { signal: this.signal }),
    ]);
    return { ...found, counted: `${number(count)} ${noun}${count === 1 ? "" : "s"}` };
  }

  async load(offset) {
    const asked = (this.#asked = Symbol("asked"));
    try {
      const { items, next, counted = "" } = await this.rowsFrom(offset);
      if (asked !== this.#asked) return;
      put(this.problem);
      put(this.count, counted);
      this.listing.show(items, offset, next);
      this.ready();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put(this.problem, error.message);
    }
  }

  /**
   * Does what a control of a row is for, and shows the rows anew. What the server refuses is said.
   *
   * @param {() => Promise<string>} work returns what is said when it is done
   * @param {{control?: HTMLElement, undo?: () => void}} of `control` rests meanwhile, `undo` takes
   *     back what it shows
   */
  async change(work, { control = {}, undo = () => {} } = {}) {
    control.disabled = true;
    try {
      toast(await work());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      undo();
      toast(error.message, { bad: true });
    } finally {
      control.disabled = false;
    }
    await this.load(this.listing.offset);
  }
}
