// All threads, page by page: the server filters and counts, so that a hundred thousand are as fast
// as ten.

import { api, poll } from "../lib/api.js";
import { button, h, icon, put } from "../lib/dom.js";
import { copier, id, status, time } from "../lib/elements.js";
import { number, oneLine, textOf } from "../lib/format.js";
import { listKeys, onKey } from "../lib/keys.js";
import { empty, head, Page } from "../lib/page.js";
import { go, link, note, segment } from "../lib/router.js";
import { keep } from "../lib/rows.js";
import { threadFilter } from "../lib/thread-filter.js";

const ROWS = 50;
const FIELDS = ["thread_id", "status", "updated_at", "created_at", "metadata"];
const EXTRACT = { last: "values.messages[-1].content" };
const COUNT_MS = 20_000;
const STATUSES = ["idle", "busy", "interrupted", "error"];

export default class Threads extends Page {
  #offset = 0;
  #next = null;
  #asked = null;

  open() {
    this.#offset = Number(this.query.offset) || 0;
    this.search = h("input.field", { type: "search", value: this.query.q ?? "", placeholder: "Id, or metadata as key=value",
      "aria-label": "Search by id, or by metadata as key=value", oninput: () => this.#typed() });
    this.choice = h("select.field", { "aria-label": "Status", onchange: () => this.#again() },
      h("option", { value: "" }, "All"), STATUSES.map((each) => h("option", { value: each, selected: each === this.query.status }, each)));
    this.count = h("span.dim.number");
    this.rows = h("tbody", bones());
    this.before = button("", { icon: "back", label: "Newer", onclick: () => this.#turn(-1) });
    this.after = button("", { icon: "back", label: "Older", class: "turned", onclick: () => this.#turn(1) });
    this.where = h("span.dim");
    this.problem = h("p.problem", { role: "alert" });
    this.append(
      head({ title: "Threads", actions: link("", { class: "button primary" }, icon("plus"), "New") }),
      h("div.body",
        h("div.row.filters", h("div.grow", this.search), this.choice, this.count),
        this.problem,
        h("div.card", h("table.list.threads",
          h("thead", h("tr", h("th.who", "Thread"), h("th.state", "Status"), h("th.rest", "Last message"), h("th.rest.meta", "Metadata"), h("th.when.number", "Changed"))),
          this.rows)),
        h("div.row.pages", this.where, h("div.grow"), this.before, this.after)));
    listKeys(() => [...this.rows.querySelectorAll("tr")], this.signal);
    onKey("n", "New thread", () => go(""), this.signal);
    return poll(() => this.#load(), 5000, this.signal);
  }

  #filter() {
    return { ...threadFilter(this.search.value), ...(this.choice.value && { status: this.choice.value }) };
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#again(), 250);
  }

  #again() {
    this.#offset = 0;
    this.run(() => this.#load());
  }

  #turn(by) {
    this.#offset = by > 0 ? (this.#next ?? this.#offset) : Math.max(0, this.#offset - ROWS);
    this.run(() => this.#load());
  }

  async #load() {
    const asked = (this.#asked = Symbol("asked"));
    note({ q: this.search.value.trim(), status: this.choice.value, offset: this.#offset || null });
    let where, found;
    try {
      where = this.#filter();
      found = await api.page("threads/search", { ...where, limit: ROWS, offset: this.#offset, select: FIELDS, extract: EXTRACT }, { signal: this.signal });
    } catch (error) {
      if (asked === this.#asked) put(this.problem, error.message);
      return;
    }
    if (asked !== this.#asked) return;
    put(this.problem);
    this.#next = found.next;
    this.#show(found.items, Object.keys(where).length > 0);
    this.ready();
    await this.#number(where);
  }

  /** How many there are. Counting all of very many takes longer than showing a page of them, so the
   * rows do not wait for it, and the same count is not asked for each time. */
  async #number(where) {
    const mark = JSON.stringify(where);
    if (this.counted?.mark === mark && performance.now() - this.counted.at < COUNT_MS) return;
    this.counted = { mark, at: performance.now() };
    const count = await api.post("threads/count", where, { signal: this.signal });
    if (this.counted.mark === mark) put(this.count, `${number(count)} thread${count === 1 ? "" : "s"}`);
  }

  #show(threads, filtered) {
    const last = this.#offset + threads.length;
    put(this.where, threads.length ? `${number(this.#offset + 1)}–${number(last)}` : "");
    this.before.disabled = this.#offset === 0;
    this.after.disabled = this.#next === null;
    if (!threads.length) {
      put(this.rows, h("tr.none", h("td", { colSpan: 5 }, filtered
        ? empty("No thread is like that", "Another status, or fewer words, may find it.")
        : empty("No threads yet", "A thread is a conversation with a graph, and keeps its state.", link("", { class: "button primary" }, "Start the first one")))));
      return;
    }
    keep(this.rows, threads, { key: (thread) => thread.thread_id, draw: row });
  }
}

function row(thread) {
  const { graph_id: graph, assistant_id: _assistant, ...rest } = thread.metadata ?? {};
  const told = Object.entries(rest).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return h("tr", { "data-id": thread.thread_id },
    h("td.who", h("span.row", link(`threads/${segment(thread.thread_id)}`, {}, id(thread.thread_id)), graph && h("span.tag", graph), copier(thread.thread_id, "Copy the id"))),
    h("td.state", status(thread.status)),
    h("td.rest", oneLine(textOf(thread.extracted?.last))),
    h("td.rest.meta.dim", { title: told.join("\n") }, oneLine(told.join(" "))),
    h("td.when.number.dim", time(thread.updated_at)));
}

function bones() {
  return Array.from({ length: 8 }, () => h("tr", Array.from({ length: 5 }, (_, at) => h("td", { class: at === 2 || at === 3 ? "rest" : "" }, h("div.bone")))));
}
