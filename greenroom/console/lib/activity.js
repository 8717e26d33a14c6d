// What the runs of a thread do: nodes, sub-graphs within them, tools and custom events, live.

import { h, put } from "./dom.js";
import { status, time, tree } from "./elements.js";
import { duration, oneLine, short } from "./format.js";
import { link, segment } from "./router.js";
import { sync } from "./messages.js";

/** Rows of one level that stay on screen: the newest. A run may have any number of events. */
const ROWS = 100;
const RUNS = 12;
/** Rows that are made at most in one frame, of all levels together. */
const MADE = 300;

export class Activity {
  element = h("div.activity");
  #runs = new Map();

  constructor(threadId) {
    this.threadId = threadId;
  }

  /** Draws what has changed since the last time. */
  draw(model) {
    const runs = [...model.runs.values()].reverse().slice(0, RUNS);
    sync(this.element, runs.map((run) => this.#run(run, model)));
  }

  #run(run) {
    let view = this.#runs.get(run.id);
    if (!view) {
      const rows = h("ol.rows");
      const headed = h("header");
      view = { element: h("section.run", { "data-run": run.id }, headed, rows), headed, list: new Rows(rows), nested: new Map(), mark: "", drawn: 0 };
      this.#runs.set(run.id, view);
    }
    const mark = `${run.status} ${run.began} ${run.ended} ${run.error} ${run.isGone} ${run.isLogged}`;
    if (view.mark !== mark) {
      view.mark = mark;
      const took = run.ended && run.began ? h("span.dim.number", duration(run.ended - run.began)) : null;
      const since = run.began ? time(new Date(run.began).toISOString()) : null;
      put(view.headed,
        h("div.row", run.isGone ? h("span.status", "rolled back") : status(run.status),
          run.isGone ? h("span.mono.dim", short(run.id)) : link(`threads/${segment(this.threadId)}/runs/${run.id}`, { class: "mono dim run-link", title: `Open the run ${run.id}` }, short(run.id)),
          h("span.grow"), took ?? since),
        run.error && h("p.problem", oneLine(run.error, 400)),
        !run.isLogged && run.ended && h("p.hint", "Its events are not kept."));
    }
    // Of what came since the last frame only what stays on screen is made.
    const total = run.dropped + run.rows.length;
    const first = Math.max(view.drawn, run.dropped, total - MADE);
    view.list.skip(first - view.drawn);
    for (let at = first; at < total; at += 1) this.#add(view, run, run.rows[at - run.dropped]);
    view.drawn = total;
    for (const list of [view.list, ...view.nested.values()]) list.refresh();
    return view.element;
  }

  #add(view, run, row) {
    const owner = row.namespace.length ? row.namespace.at(-1).split(":").at(-1) : null;
    let list = owner === null ? view.list : view.nested.get(owner);
    if (!list) {
      list = new Rows(h("ol.rows"));
      view.nested.set(owner, list);
      const above = [view.list, ...view.nested.values()].map((each) => each.find(owner)).find(Boolean);
      // Its task may be one of those that are not shown any more.
      if (above) above.append(list.element);
      else view.list.element.append(h("li", list.element));
    }
    list.add(row);
  }
}

/** The rows of one level. */
class Rows {
  #views = new Map();
  #live = new Set();
  #count = 0;
  #hides = false;

  constructor(element) {
    this.element = element;
    this.earlier = h("li.earlier.dim", { hidden: true });
    element.append(this.earlier);
  }

  /** The row of a task, whose sub-graph is shown within it. */
  find(id) {
    return this.#views.get(id)?.element;
  }

  /** Counts rows that are never shown. */
  skip(count) {
    this.#count += count;
    this.#hides ||= count > 0;
  }

  #tell() {
    put(this.earlier, `${this.#count - this.#views.size} earlier rows are not shown.`);
    this.earlier.hidden = false;
  }

  add(row) {
    const view = new RowView(row);
    this.#count += 1;
    this.#views.set(row.id ?? `row ${row.number}`, view);
    this.#live.add(view);
    this.element.append(view.element);
    if (this.#views.size > ROWS) {
      const [key, oldest] = this.#views.entries().next().value;
      this.#views.delete(key);
      this.#live.delete(oldest);
      oldest.element.remove();
    }
    if (this.#count > this.#views.size) this.#hides = true;
  }

  refresh() {
    if (this.#hides) this.#tell();
    this.#hides = false;
    for (const view of this.#live) {
      view.draw();
      if (view.row.ended !== null) this.#live.delete(view);
    }
  }
}

const KINDS = { task: "", tool: "tool", custom: "event", said: "input" };

class RowView {
  #mark = null;

  constructor(row) {
    this.row = row;
    this.state = h("span.status");
    this.took = h("span.dim.number");
    this.text = h("span.dim.cut.grow");
    this.inside = h("div.inside");
    const details = h("details.row-detail", { ontoggle: () => details.open && this.#open() },
      h("summary", this.state, this.text, this.took), this.inside);
    this.element = h("li", { "data-kind": row.kind, "data-name": row.name }, details);
    this.details = details;
  }

  draw() {
    const { row } = this;
    const mark = `${row.mark} ${row.ended} ${row.graph}`;
    if (this.#mark === mark) return;
    this.#mark = mark;
    const kind = KINDS[row.kind];
    const look = row.error ? "bad" : row.kind === "custom" || row.kind === "said" ? "none" : row.isInterrupted ? "warn" : row.ended === null ? "busy" : "ok";
    this.state.className = `status ${look}`;
    put(this.state, h("b", row.name), kind && h("span.tag", kind));
    put(this.text, row.error ? oneLine(row.error, 200) : row.kind === "custom" || row.kind === "said" ? oneLine(row.detail, 200) : "");
    put(this.took, row.kind === "custom" || row.kind === "said" ? "" : row.ended === null ? "…" : duration(row.ended - row.began));
    if (this.details.open) this.#open();
  }

  #open() {
    const { row } = this;
    const part = (name, value) => value !== undefined && value !== null && [h("h3", name), typeof value === "string" ? h("pre.code", value) : tree(value)];
    put(this.inside, h("p.hint", time(new Date(row.began).toISOString())), part("Input", row.input), part("Result", row.result), part("Error", row.error), part("Data", row.detail));
  }
}
