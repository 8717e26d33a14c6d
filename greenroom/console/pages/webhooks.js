// Webhooks: what was sent to whom, what became of it, and sending it again.

import { api } from "../lib/api.js";
import { button, h } from "../lib/dom.js";
import { id, status, time } from "../lib/elements.js";
import { ListPage } from "../lib/list-page.js";
import { ROWS } from "../lib/listing.js";
import { link, note, segment } from "../lib/router.js";

const COLUMNS = [
  ["Status", "state"], ["Receiver", "who"], ["Run", "rest run"], ["Its end", "rest end"], ["Attempts", "rest tries number"],
  ["Last answer", "rest answer"], ["When", "rest when"], ["", "act number"],
];
const STATUSES = ["pending", "delivered", "failed"];

export default class Webhooks extends ListPage {
  open() {
    this.choice = h("select.field", { "aria-label": "Status", onchange: () => this.load(0) },
      h("option", { value: "" }, "All"), STATUSES.map((each) => h("option", { value: each, selected: each === this.query.status }, each)));
    return this.list({
      title: "Webhooks", name: "webhooks", columns: COLUMNS, every: 5000, filters: this.choice,
    }, { key: (each) => each.delivery_id, cells: (each) => this.#cells(each), none: () => this.#none() });
  }

  async rowsFrom(offset) {
    note({ status: this.choice.value });
    // One more than is shown: whether there is a page after this one.
    const query = { limit: ROWS + 1, offset, status: this.choice.value || undefined };
    const found = await api.get("webhooks/deliveries", { query, signal: this.signal });
    return { items: found.slice(0, ROWS), next: found.length > ROWS ? offset + ROWS : null };
  }

  #none() {
    if (this.choice.value) return ["No webhook is like that", "Choose “All” to see the others."];
    return ["No webhooks yet", "A run with a webhook tells its receiver how it ended. Make one with client.runs.create(…, webhook=\"https://…\")."];
  }

  #cells(each) {
    const { delivery_id, receiver, run_id: run, thread_id: thread } = each;
    const again = button(each.status === "pending" ? "Send now" : "Send again", { small: true });
    again.addEventListener("click", () => this.#send(delivery_id, again));
    return [
      status(each.status),
      h("span", { title: receiver }, receiver),
      link(`threads/${segment(thread)}/runs/${run}`, { class: "link" }, id(run)),
      status(each.run_status),
      each.attempts,
      h("span.dim", { title: each.answer ?? "" }, each.answer ?? "–"),
      when(each),
      again,
    ];
  }

  #send(deliveryId, again) {
    return this.change(async () => {
      await api.post(`webhooks/deliveries/${deliveryId}/send`, {}, { signal: this.signal });
      return "It is sent again, with the same id.";
    }, { control: again });
  }
}

function when({ status: now, next_attempt_at: next, settled_at: settled, created_at: made }) {
  if (now === "pending" && next) return h("span.dim", "again ", time(next));
  return h("span.dim", time(settled ?? made));
}
