// An assistant: the drawing of its graph, with the nodes that run now, and what it consists of.

import { api, ApiError, poll } from "../lib/api.js";
import { drawing } from "../drawing/graph.js";
import { h, icon, put } from "../lib/dom.js";
import { copier, id, status, time, tree } from "../lib/elements.js";
import { empty, head, Page } from "../lib/page.js";
import { link, segment } from "../lib/router.js";

const EVERY_MS = 1500;

export default class Assistant extends Page {
  async open() {
    const name = encodeURIComponent(this.params.assistant);
    this.append(
      head({ crumbs: link("assistants", {}, "Graphs and assistants"), title: "…" }),
      h("div.body", h("div.card.drawn", h("div.inside", h("div.bone")))));
    const [assistant, graph] = await Promise.all([
      api.get(`assistants/${name}`, { signal: this.signal }),
      api.get(`assistants/${name}/graph`, { query: { xray: true }, signal: this.signal }).catch(notDrawn),
    ]);
    this.assistant = assistant;
    this.runs = h("ul.runs");
    document.title = `${assistant.name} · Greenroom`;
    put(this.querySelector("h1"), assistant.name || "Untitled");
    put(this.querySelector(".actions"), link(`?assistant=${assistant.assistant_id}`, { class: "button primary" }, icon("chat"), "Run it"));
    put(this.querySelector(".body"),
      h("div.columns",
        h("section.card.drawn", { "aria-label": "Graph" }, h("header", h("h2", "Graph"), h("span.dim", "dashed lines are decided at run time")), this.#drawn(graph)),
        h("div.stack.about",
          h("section.card", { "aria-label": "Runs now" }, h("header", h("h2", "Runs now")), this.runs),
          h("section.card", { "aria-label": "About" }, h("header", h("h2", "About")), h("div.inside", facts(assistant))),
          more("Config", assistant.config), more("Context", assistant.context), more("Metadata", assistant.metadata),
          this.#schemas(name))));
    this.ready();
    await poll(() => this.#look(), EVERY_MS, this.signal);
  }

  #drawn(graph) {
    if (graph instanceof ApiError) return empty("It cannot be drawn", graph.message);
    this.picture = drawing(graph);
    return h("div.inside.canvas", { tabIndex: 0, role: "group", "aria-label": "Drawing of the graph" }, this.picture);
  }

  /** The runs of this assistant that are executed now, and the nodes that they are in. */
  async #look() {
    const now = await api.get("runtime", { signal: this.signal });
    const runs = now.actors.flatMap((actor) => actor.runs.filter((run) => run.assistant_id === this.assistant.assistant_id));
    const lit = new Map();
    for (const { node } of runs) if (node) lit.set(node, (lit.get(node) ?? 0) + 1);
    if (this.picture) this.picture.lit = lit;
    put(this.runs, runs.length ? runs.map(runRow) : h("li.dim", "No run of it is executed at this moment."));
  }

  /** Schemas are asked for when somebody opens them: the graph has to be loaded for them. */
  #schemas(name) {
    const content = h("div.inside", h("div.bone"));
    const made = h("details.card.more", h("summary", "Schemas"), content);
    made.addEventListener("toggle", async () => {
      if (!made.open || made.asked) return;
      made.asked = true;
      try {
        put(content, tree(await api.get(`assistants/${name}/schemas`, { signal: this.signal }), 1));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        put(content, h("p.problem", error.message));
      }
    });
    return made;
  }
}

/** A graph that fails to load is said, and the rest of the page is shown. */
function notDrawn(error) {
  if (error instanceof ApiError) return error;
  throw error;
}

function facts({ assistant_id: assistant, graph_id: graph, version, description, created_at: made, updated_at: changed }) {
  return h("dl.facts",
    h("dt", "Id"), h("dd.row", id(assistant), copier(assistant, "Copy the id")),
    h("dt", "Graph"), h("dd", h("span.tag", graph)),
    description && [h("dt", "Description"), h("dd", description)],
    h("dt", "Version"), h("dd", version),
    h("dt", "Made"), h("dd", time(made)),
    h("dt", "Changed"), h("dd", time(changed)));
}

function more(title, value) {
  if (!value || !Object.keys(value).length) return null;
  return h("details.card.more", h("summary", title), h("div.inside", tree(value, 2)));
}

function runRow({ run_id: run, thread_id: thread, node, paused, since }) {
  return h("li.row",
    link(`threads/${segment(thread)}/runs/${run}`, { class: "link" }, id(run)),
    paused ? status("paused") : status("running"),
    node && h("span.tag", node),
    h("span.dim.grow.number", time(since)));
}
