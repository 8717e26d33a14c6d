// All assistants: graphs, and what clients have made of them.

import { h } from "../lib/dom.js";
import { time } from "../lib/elements.js";
import { ListPage } from "../lib/list-page.js";
import { link, note } from "../lib/router.js";

const COLUMNS = [["Assistant", "who"], ["Graph", "graph"], ["Description", "rest about"], ["Version", "rest version number"], ["Changed", "when number"]];

export default class Assistants extends ListPage {
  open() {
    this.search = h("input.field", { type: "search", value: this.query.q ?? "", placeholder: "Name", "aria-label": "Search by name", oninput: () => this.#typed() });
    return this.list({
      title: "Graphs and assistants", name: "assistants", columns: COLUMNS, every: 10_000, filters: [h("div.grow", this.search), this.count],
    }, { key: (each) => each.assistant_id, cells, none: () => this.#none() });
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(() => this.load(0)), 250);
  }

  rowsFrom(offset) {
    const name = this.search.value.trim();
    note({ q: name });
    return this.searched("assistants", "assistant", name ? { name } : {}, "name", offset);
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
