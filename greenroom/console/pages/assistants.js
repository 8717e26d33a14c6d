// All assistants: graphs, and what clients have made of them.

import { api, ApiError, poll } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { time } from "../lib/elements.js";
import { number } from "../lib/format.js";
import { listKeys } from "../lib/keys.js";
import { Listing, ROWS } from "../lib/listing.js";
import { head, Page } from "../lib/page.js";
import { link, note } from "../lib/router.js";

const COLUMNS = [["Assistant", "who"], ["Graph", "graph"], ["Description", "rest about"], ["Version", "rest version number"], ["Changed", "when number"]];

export default class Assistants extends Page {
  #asked = null;

  open() {
    this.search = h("input.field", { type: "search", value: this.query.q ?? "", placeholder: "Name", "aria-label": "Search by name", oninput: () => this.#typed() });
    this.count = h("span.dim.number");
    this.problem = h("p.problem", { role: "alert" });
    const how = { key: (each) => each.assistant_id, cells, none: () => this.#none() };
    this.listing = new Listing("assistants", COLUMNS, how, (offset) => this.#load(offset), Number(this.query.offset) || 0);
    this.append(
      head({ title: "Graphs and assistants" }),
      h("div.body", h("div.row.filters", h("div.grow", this.search), this.count), this.problem, this.listing.element));
    listKeys(() => [...this.listing.rows.querySelectorAll("tr[data-key]")], this.signal);
    return poll(() => this.#load(this.listing.offset), 10_000, this.signal);
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(() => this.#load(0)), 250);
  }

  async #load(offset) {
    const asked = (this.#asked = Symbol("asked"));
    const name = this.search.value.trim();
    const where = name ? { name } : {};
    note({ q: name });
    try {
      const [found, count] = await Promise.all([
        api.page("assistants/search", { ...where, limit: ROWS, offset, sort_by: "name", sort_order: "asc" }, { signal: this.signal }),
        api.post("assistants/count", where, { signal: this.signal }),
      ]);
      if (asked !== this.#asked) return;
      put(this.problem);
      put(this.count, `${number(count)} assistant${count === 1 ? "" : "s"}`);
      this.listing.show(found.items, offset, found.next);
      this.ready();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put(this.problem, error.message);
    }
  }

  #none() {
    if (this.search.value.trim()) return ["No assistant has this name", "Fewer letters may find it."];
    return ["No assistants", "Each graph of langgraph.json has one. Name a graph there, and start the server again."];
  }
}

function cells({ assistant_id: assistant, name, graph_id: graph, description, version, updated_at: changed }) {
  return [
    link(`assistants/${assistant}`, { title: assistant }, name || "Untitled"),
    h("span.tag", graph),
    h("span.dim", { title: description ?? "" }, description ?? ""),
    version,
    h("span.dim", time(changed)),
  ];
}
