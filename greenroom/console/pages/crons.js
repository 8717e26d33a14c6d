// Crons: when each fires next; switched on and off, deleted.

import { api } from "../lib/api.js";
import { assistantLink } from "../lib/assistants.js";
import { button, h } from "../lib/dom.js";
import { confirmed } from "../lib/dialogs.js";
import { id, time } from "../lib/elements.js";
import { ListPage } from "../lib/list-page.js";
import { link, note, segment } from "../lib/router.js";

const COLUMNS = [
  ["Schedule", "schedule"], ["Assistant", "who"], ["Thread", "rest thread"], ["Next run", "when"], ["On", "state"], ["", "rest act number"],
];

export default class Crons extends ListPage {
  open() {
    this.choice = h("select.field", { "aria-label": "Which crons", onchange: () => this.load(0) },
      [["", "All"], ["true", "Switched on"], ["false", "Switched off"]].map(([value, text]) =>
        h("option", { value, selected: value === (this.query.enabled ?? "") }, text)));
    return this.list({
      title: "Crons", name: "crons", columns: COLUMNS, every: 5000, filters: [this.choice, h("div.grow"), this.count],
    }, { key: (cron) => cron.cron_id, cells: (cron) => this.#cells(cron), none: () => this.#none() });
  }

  rowsFrom(offset) {
    const where = this.choice.value ? { enabled: this.choice.value === "true" } : {};
    note({ enabled: this.choice.value });
    return this.searched("runs/crons", "cron", where, "next_run_date", offset);
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

  #change(cron, toggle) {
    return this.change(async () => {
      await api.patch(`runs/crons/${cron.cron_id}`, { enabled: toggle.checked }, { signal: this.signal });
      return toggle.checked ? "The cron is on." : "The cron is off. It keeps its schedule.";
    }, { control: toggle, undo: () => (toggle.checked = !toggle.checked) });
  }

  async #delete(cron) {
    const sentence = `The cron “${cron.schedule}” makes no more runs. Those that it has made stay.`;
    if (!(await confirmed("Delete this cron?", sentence, "Delete"))) return;
    await this.change(async () => {
      await api.delete(`runs/crons/${cron.cron_id}`, { signal: this.signal });
      return "The cron is deleted.";
    });
  }
}
