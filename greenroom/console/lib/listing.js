// A list that comes page by page: filters above it, a table, and the buttons that turn the page.

import { button, h, put } from "./dom.js";
import { empty } from "./page.js";
import { number } from "./format.js";
import { keep } from "./rows.js";
import { note } from "./router.js";

export const ROWS = 50;

/** What a page of records shows; `load` of its page asks for the rows. */
export class Listing {
  /**
   * @param {string} name the class of the table, and of its columns' widths
   * @param {[string, string][]} columns the head and the classes of each
   * @param {{key: (item) => string, cells: (item) => any[], none: () => [string, string, any?]}} how
   *     `none` says what is missing, and what to do, when there is no row
   * @param {(offset: number) => void} turned is told which rows are wanted
   * @param {number} offset of the first row
   */
  constructor(name, columns, how, turned, offset = 0) {
    this.offset = offset;
    this.columns = columns;
    this.how = how;
    this.next = null;
    this.rows = h("tbody", Array.from({ length: 6 }, () => h("tr", columns.map(([, look]) => h("td", { class: look }, h("div.bone"))))));
    this.table = h(`table.list.${name}`,
      h("thead", h("tr", columns.map(([title, look]) => h("th", { class: look, scope: "col" }, title)))), this.rows);
    this.where = h("span.dim");
    this.newer = button("", { icon: "back", label: "Before", onclick: () => turned(Math.max(0, this.offset - ROWS)) });
    this.older = button("", { icon: "back", label: "After", class: "turned", onclick: () => turned(this.next ?? this.offset) });
    this.pager = h("div.row.pages", { hidden: true }, this.where, h("div.grow"), this.newer, this.older);
    this.element = h("div.stack", h("div.card", this.table), this.pager);
  }

  /** Shows rows from `offset` on; `next` is the offset of those after them, or null. */
  show(items, offset, next) {
    this.offset = offset;
    this.next = next;
    note({ offset: offset || null });
    put(this.where, items.length ? `${number(offset + 1)}–${number(offset + items.length)}` : "");
    this.pager.hidden = offset === 0 && next === null;
    this.newer.disabled = offset === 0;
    this.older.disabled = next === null;
    if (!items.length) {
      put(this.rows, h("tr.none", h("td", { colSpan: this.columns.length }, empty(...this.how.none()))));
      return;
    }
    const draw = (item) => h("tr", this.how.cells(item).map((cell, at) => h("td", { class: this.columns[at][1] }, cell)));
    keep(this.rows, items, { key: this.how.key, draw });
  }
}
