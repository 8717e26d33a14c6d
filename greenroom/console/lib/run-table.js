// The runs of a thread as a table: status, attempts, on which actor, and why one was recovered.

import { api } from "./api.js";
import { button, h, put } from "./dom.js";
import { id as idOf, status, time } from "./elements.js";
import { duration } from "./format.js";
import { empty } from "./page.js";
import { link, segment } from "./router.js";

const ROWS = 25;
const OPEN = new Set(["running", "pending"]);

export class RunTable {
  #offset = 0;
  #attempts = new Map();

  constructor(threadId, signal) {
    this.threadId = threadId;
    this.signal = signal;
    this.rows = h("tbody");
    this.before = button("", { icon: "back", label: "Newer", onclick: () => this.#turn(-ROWS) });
    this.after = button("", { icon: "back", label: "Older", class: "turned", onclick: () => this.#turn(ROWS) });
    this.element = h("div.stack",
      h("div.card", h("table.list.runs",
        h("thead", h("tr", h("th.state", "Status"), h("th.who", "Run"), h("th.rest.small.number", "Attempt"), h("th.rest", "Actor"), h("th.rest.why", "Why recovered"), h("th.rest.number.took", "Took"), h("th.number.when", "Created"))),
        this.rows)),
      h("div.row", h("div.grow"), this.before, this.after));
  }

  #turn(by) {
    this.#offset = Math.max(0, this.#offset + by);
    return this.load();
  }

  async load() {
    const offset = this.#offset;
    const runs = await api.get(`threads/${segment(this.threadId)}/runs`, { query: { limit: ROWS + 1, offset }, signal: this.signal });
    if (offset !== this.#offset) return; // the page was turned meanwhile
    this.before.disabled = offset === 0;
    this.after.disabled = runs.length <= ROWS;
    const shown = runs.slice(0, ROWS);
    if (!shown.length) {
      put(this.rows, h("tr.none", h("td", { colSpan: 7 }, empty("No runs", "Runs of this thread are listed here.", link(`chat/${segment(this.threadId)}`, { class: "button" }, "Start one")))));
      return;
    }
    this.#draw(shown);
    // Attempts and actors are in each run's timeline. One that is over is asked for once.
    for (const run of shown.filter((each) => OPEN.has(each.status) || !this.#attempts.has(each.run_id))) {
      const told = await api.get(`threads/${segment(this.threadId)}/runs/${run.run_id}/timeline`, { signal: this.signal }).catch(() => null);
      if (this.signal.aborted || offset !== this.#offset) return;
      if (told) this.#attempts.set(run.run_id, told);
    }
    this.#draw(shown);
  }

  #draw(runs) {
    put(this.rows, runs.map((run) => this.#row(run)));
  }

  #row(run) {
    const told = this.#attempts.get(run.run_id);
    const last = told?.attempts?.at(-1);
    const whys = (told?.attempts ?? []).map((each) => each.why).filter(Boolean);
    const end = told?.ended_at ?? (OPEN.has(run.status) ? null : run.updated_at);
    return h("tr", { "data-run": run.run_id },
      h("td.state", status(run.paused ? "paused" : run.status)),
      h("td.who", link(`threads/${segment(this.threadId)}/runs/${run.run_id}`, {}, idOf(run.run_id))),
      h("td.rest.small.number", last?.attempt ?? "–"),
      h("td.rest", last?.actor ?? "–"),
      h("td.rest.why", { title: whys.join("\n") }, whys.at(-1) ?? ""),
      h("td.rest.number.took", end ? duration(Date.parse(end) - Date.parse(run.created_at)) : "…"),
      h("td.number.when.dim", time(run.created_at)));
  }
}
