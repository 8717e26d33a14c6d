// Webhooks: what was sent to whom, what became of it, and sending it again.

import { api, ApiError, poll } from "../lib/api.js";
import { button, h, put } from "../lib/dom.js";
import { toast } from "../lib/dialogs.js";
import { id, status, time } from "../lib/elements.js";
import { listKeys } from "../lib/keys.js";
import { Listing, ROWS } from "../lib/listing.js";
import { head, Page } from "../lib/page.js";
import { link, note, segment } from "../lib/router.js";

const COLUMNS = [
  ["Status", "state"], ["Receiver", "who"], ["Run", "rest run"], ["Its end", "rest end"], ["Attempts", "rest tries number"],
  ["Last answer", "rest answer"], ["When", "rest when"], ["", "act number"],
];
const STATUSES = ["pending", "delivered", "failed"];

export default class Webhooks extends Page {
  #asked = null;

  open() {
    this.choice = h("select.field", { "aria-label": "Status", onchange: () => this.#load(0) },
      h("option", { value: "" }, "All"), STATUSES.map((each) => h("option", { value: each, selected: each === this.query.status }, each)));
    this.problem = h("p.problem", { role: "alert" });
    const how = { key: (each) => each.delivery_id, cells: (each) => this.#cells(each), none: () => this.#none() };
    this.listing = new Listing("webhooks", COLUMNS, how, (offset) => this.#load(offset), Number(this.query.offset) || 0);
    this.append(
      head({ title: "Webhooks" }),
      h("div.body", h("div.row.filters", this.choice), this.problem, this.listing.element));
    listKeys(() => [...this.listing.rows.querySelectorAll("tr[data-key]")], this.signal);
    return poll(() => this.#load(this.listing.offset), 5000, this.signal);
  }

  async #load(offset) {
    const asked = (this.#asked = Symbol("asked"));
    note({ status: this.choice.value });
    try {
      // One more than is shown: whether there is a page after this one.
      const query = { limit: ROWS + 1, offset, status: this.choice.value || undefined };
      const found = await api.get("webhooks/deliveries", { query, signal: this.signal });
      if (asked !== this.#asked) return;
      put(this.problem);
      this.listing.show(found.slice(0, ROWS), offset, found.length > ROWS ? offset + ROWS : null);
      this.ready();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put(this.problem, error.message);
    }
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

  async #send(deliveryId, again) {
    again.disabled = true;
    try {
      await api.post(`webhooks/deliveries/${deliveryId}/send`, {}, { signal: this.signal });
      toast("It is sent again, with the same id.");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { bad: true });
    } finally {
      again.disabled = false;
    }
    await this.#load(this.listing.offset);
  }
}

function when({ status: now, next_attempt_at: next, settled_at: settled, created_at: made }) {
  if (now === "pending" && next) return h("span.dim", "again ", time(next));
  return h("span.dim", time(settled ?? made));
}
