// Crons: when each fires next; switched on and off, deleted.

import { api, ApiError, poll } from "../lib/api.js";
import { assistantLink } from "../lib/assistants.js";
import { button, h, put } from "../lib/dom.js";
import { confirmed, toast } from "../lib/dialogs.js";
import { id, time } from "../lib/elements.js";
import { number } from "../lib/format.js";
import { listKeys } from "../lib/keys.js";
import { Listing, ROWS } from "../lib/listing.js";
import { head, Page } from "../lib/page.js";
import { link, note, segment } from "../lib/router.js";

const COLUMNS = [
  ["Schedule", "schedule"], ["Assistant", "who"], ["Thread", "rest thread"], ["Next run", "when"], ["On", "state"], ["", "rest act number"],
];

export default class Crons extends Page {
  #asked = null;

  open() {
    this.choice = h("select.field", { "aria-label": "Which crons", onchange: () => this.#load(0) },
      [["", "All"], ["true", "Switched on"], ["false", "Switched off"]].map(([value, text]) =>
        h("option", { value, selected: value === (this.query.enabled ?? "") }, text)));
    this.count = h("span.dim.number");
    this.problem = h("p.problem", { role: "alert" });
    const how = { key: (cron) => cron.cron_id, cells: (cron) => this.#cells(cron), none: () => this.#none() };
    this.listing = new Listing("crons", COLUMNS, how, (offset) => this.#load(offset), Number(this.query.offset) || 0);
    this.append(
      head({ title: "Crons" }),
      h("div.body", h("div.row.filters", this.choice, h("div.grow"), this.count), this.problem, this.listing.element));
    listKeys(() => [...this.listing.rows.querySelectorAll("tr[data-key]")], this.signal);
    return poll(() => this.#load(this.listing.offset), 5000, this.signal);
  }

  async #load(offset) {
    const asked = (this.#asked = Symbol("asked"));
    const where = this.choice.value ? { enabled: this.choice.value === "true" } : {};
    note({ enabled: this.choice.value });
    try {
      const [found, count] = await Promise.all([
        api.page("runs/crons/search", { ...where, limit: ROWS, offset, sort_by: "next_run_date", sort_order: "asc" }, { signal: this.signal }),
        api.post("runs/crons/count", where, { signal: this.signal }),
      ]);
      if (asked !== this.#asked) return;
      put(this.problem);
      put(this.count, `${number(count)} cron${count === 1 ? "" : "s"}`);
      this.listing.show(found.items, offset, found.next);
      this.ready();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put(this.problem, error.message);
    }
  }

  #none() {
    if (this.choice.value) return ["No cron is like that", "Choose “All” to see the others."];
    return ["No crons yet", "A cron makes a run at each date of its schedule. Make one with client.crons.create(assistant, schedule=\"0 9 * * *\")."];
  }

  #cells(cron) {
    const toggle = h("input.switch", { type: "checkbox", role: "switch", checked: cron.enabled, "aria-label": `${cron.schedule} is on`,
      onchange: () => this.#change(cron, toggle) });
    const remove = button("Delete", { small: true, quiet: true, danger: true, onclick: () => this.#delete(cron) });
    return [
      h("span.row", h("code.mono", cron.schedule), cron.timezone && h("span.dim.rest", cron.timezone)),
      assistantLink(cron.assistant_id),
      cron.thread_id ? link(`threads/${segment(cron.thread_id)}`, { class: "link" }, id(cron.thread_id)) : h("span.dim", "a new one each time"),
      cron.enabled && cron.next_run_date ? time(cron.next_run_date) : h("span.dim", "–"),
      toggle,
      remove,
    ];
  }

  async #change(cron, toggle) {
    toggle.disabled = true;
    try {
      await api.patch(`runs/crons/${cron.cron_id}`, { enabled: toggle.checked }, { signal: this.signal });
      toast(toggle.checked ? "The cron is on." : "The cron is off. It keeps its schedule.");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toggle.checked = !toggle.checked;
      toast(error.message, { bad: true });
    } finally {
      toggle.disabled = false;
    }
    await this.#load(this.listing.offset);
  }

  async #delete(cron) {
    const sentence = `The cron “${cron.schedule}” makes no more runs. Those that it has made stay.`;
    if (!(await confirmed("Delete this cron?", sentence, "Delete"))) return;
    try {
      await api.delete(`runs/crons/${cron.cron_id}`, { signal: this.signal });
      toast("The cron is deleted.");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { bad: true });
    }
    await this.#load(this.listing.offset);
  }
}
