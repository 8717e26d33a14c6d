// All threads that wait for a person, the oldest first; what each asks, and the answer.

import { answering, ended } from "../inbox/answering.js";
import { questionsOf, summaryOf } from "../inbox/questions.js";
import { api, ApiError, poll } from "../lib/api.js";
import { button, h, icon, put } from "../lib/dom.js";
import { toast } from "../lib/dialogs.js";
import { copier, id, time, tree } from "../lib/elements.js";
import { number, oneLine } from "../lib/format.js";
import { countInbox } from "../lib/inbox-count.js";
import { onKey } from "../lib/keys.js";
import { empty, head, Page } from "../lib/page.js";
import { keep } from "../lib/rows.js";
import { link, note, segment } from "../lib/router.js";
import { threadFilter } from "../lib/thread-filter.js";

const ROWS = 100;
const EVERY_MS = 4000;
const WAITING = { status: "interrupted", sort_by: "state_updated_at", sort_order: "asc" };
const FIELDS = ["thread_id", "state_updated_at", "updated_at", "metadata", "interrupts", "status"];

export default class Inbox extends Page {
  #asked = null;
  #threads = [];
  #shown = null;

  open() {
    this.chosen = this.query.thread ?? null;
    this.search = h("input.field", { type: "search", value: this.query.q ?? "", placeholder: "Id, or metadata as key=value",
      "aria-label": "Search by id, or by metadata as key=value", oninput: () => this.#typed() });
    this.graph = h("select.field", { "aria-label": "Graph", onchange: () => this.run(() => this.#load()) }, h("option", { value: "" }, "All graphs"));
    this.count = h("span.dim.number");
    this.problem = h("p.problem", { role: "alert" });
    this.list = h("ul.asks", { "aria-label": "Threads that wait" }, Array.from({ length: 5 }, () => h("li.bones", h("div.bone"), h("div.bone"))));
    this.pane = h("section.pane", { "aria-label": "Question" });
    this.frame = h("div.inbox", h("div.left", h("div.stack.filters", this.search, h("div.row", h("div.grow", this.graph), this.count), this.problem), this.list), this.pane);
    this.append(head({ title: "Inbox" }), this.frame);
    onKey("j", "Next question", () => this.#move(1), this.signal);
    onKey("k", "Previous question", () => this.#move(-1), this.signal);
    this.run(() => this.#graphs());
    return poll(() => this.#load(), EVERY_MS, this.signal);
  }

  async #graphs() {
    const { items } = await api.page("assistants/search", { limit: 1000, select: ["graph_id"] }, { signal: this.signal });
    const names = [...new Set(items.map((each) => each.graph_id))].sort();
    this.graph.append(...names.map((name) => h("option", { value: name, selected: name === this.query.graph }, name)));
    if (this.query.graph) await this.#load();
  }

  #typed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(() => this.#load()), 250);
  }

  async #load() {
    const asked = (this.#asked = Symbol("asked"));
    const graph = this.graph.value;
    let found, count;
    try {
      const where = threadFilter(this.search.value);
      if (graph) where.metadata = { ...where.metadata, graph_id: graph };
      note({ q: this.search.value.trim(), graph });
      [found, count] = await Promise.all([
        api.page("threads/search", { ...where, ...WAITING, limit: ROWS, select: FIELDS }, { signal: this.signal }),
        api.post("threads/count", { ...where, status: "interrupted" }, { signal: this.signal }),
      ]);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked === this.#asked) put(this.problem, error.message);
      return;
    }
    if (asked !== this.#asked) return;
    put(this.problem);
    put(this.count, count > ROWS ? `the oldest ${ROWS} of ${number(count)}` : `${number(count)} wait${count === 1 ? "s" : ""}`);
    this.#show(found.items);
    this.ready();
  }

  #show(threads) {
    this.#threads = threads;
    const key = (thread) => thread.thread_id;
    if (threads.length) keep(this.list, threads, { key, draw: (thread) => this.#row(thread), mark: (thread) => [thread, thread.thread_id === this.chosen] });
    else put(this.list);
    this.frame.classList.toggle("nothing", !threads.length);
    // On a wide screen the oldest question is open; on a narrow one the list is.
    const there = threads.find((thread) => thread.thread_id === this.chosen);
    if (there || this.chosen === null) this.#ask(there ?? (matchMedia("(max-width: 720px)").matches ? null : threads[0] ?? null));
    else if (!this.#shown) this.#gone();
  }

  #row(thread) {
    const here = thread.thread_id === this.chosen;
    return h("li", { class: here ? "chosen" : "" },
      h("button.ask", { type: "button", "aria-current": here ? "true" : null, onclick: () => this.#choose(thread) },
        h("span.what", oneLine(summaryOf(thread))),
        h("span.row.dim", thread.metadata?.graph_id && h("span.tag", thread.metadata.graph_id), h("span.mono.cut", id(thread.thread_id)), h("span.grow"), time(since(thread)))));
  }

  #choose(thread) {
    this.chosen = thread?.thread_id ?? null;
    note({ thread: this.chosen });
    this.#show(this.#threads);
    if (thread) this.pane.querySelector("textarea, input, select, .segments button")?.focus();
  }

  #move(by) {
    const at = this.#threads.findIndex((thread) => thread.thread_id === this.chosen);
    const next = this.#threads[Math.min(this.#threads.length - 1, Math.max(0, at + by))];
    if (!next) return;
    this.#choose(next);
    this.list.querySelector(".chosen button")?.focus();
  }

  /** Shows what a thread asks. It is drawn once: what somebody types is not lost when the list comes anew. */
  #ask(thread) {
    this.frame.classList.toggle("open", thread !== null);
    if (!thread) {
      this.#shown = null;
      put(this.pane, this.#threads.length ? null : this.#nothing());
      return;
    }
    this.chosen = thread.thread_id;
    const mark = JSON.stringify([thread.thread_id, thread.interrupts]);
    if (this.#shown === mark) return;
    this.#shown = mark;
    this.list.querySelectorAll("li").forEach((row) => row.classList.toggle("chosen", row.dataset.key === thread.thread_id));
    const questions = questionsOf(thread);
    put(this.pane,
      h("header.row.wrap",
        button("", { icon: "back", quiet: true, label: "Back to the list", class: "narrow-only", onclick: () => this.#choose(null) }),
        link(`threads/${segment(thread.thread_id)}`, { class: "link" }, id(thread.thread_id)), copier(thread.thread_id, "Copy the id"),
        thread.metadata?.graph_id && h("span.tag", thread.metadata.graph_id),
        h("span.dim", "asked ", time(since(thread))), h("span.grow"),
        link(`chat/${segment(thread.thread_id)}`, { class: "button small quiet" }, icon("chat"), "Chat")),
      questions.length
        ? questions.map((question) => answering(question, (what) => this.#send(thread, question, what)))
        : this.#breakpoint(thread),
      this.#state(thread));
  }

  #nothing() {
    if (this.search.value.trim() || this.graph.value) return empty("No question is like that", "Another graph, or fewer words, may find it.");
    return empty("Nobody waits for you", "A run that calls interrupt() stops until somebody answers, and its thread appears here.");
  }

  /** The thread in the address asks nothing (any more). */
  #gone() {
    this.#shown = null;
    this.frame.classList.add("open");
    put(this.pane, empty("This thread asks nothing", "Somebody has answered it, or it was ended.",
      h("div.row", link(`threads/${segment(this.chosen)}`, { class: "button" }, "See the thread"), button("Next question", { primary: true, onclick: () => this.#choose(null) }))));
  }

  #breakpoint(thread) {
    const next = h("span.mono", "…");
    const problem = h("p.problem", { role: "alert" });
    this.run(async () => put(next, (await api.get(`threads/${segment(thread.thread_id)}/state`, { query: { select: ["next"] }, signal: this.signal })).next.join(", ")));
    const sends = (made) => () => made().then((what) => what && this.#send(thread, null, what)).catch((error) => put(problem, error.message));
    return h("div.question", h("p", "It stopped at a breakpoint. Next is ", next, "."), problem,
      h("div.row.buttons",
        button("Go on", { primary: true, icon: "runs", onclick: sends(async () => ({ answer: null })) }),
        button("Refuse", { danger: true, onclick: sends(ended) })));
  }

  /** The state so far, for whoever wants to know more before answering. */
  #state(thread) {
    const content = h("div.inside", h("div.bone"));
    const made = h("details.card.more", h("summary", "State of the thread"), content);
    made.addEventListener("toggle", async () => {
      if (!made.open || made.asked) return;
      made.asked = true;
      const state = await this.run(() => api.get(`threads/${segment(thread.thread_id)}/state`, { signal: this.signal }));
      if (state) put(content, tree(state.values, 2), h("p.hint", "To change it before the answer, ", link(`threads/${segment(thread.thread_id)}`, { class: "link" }, "edit the state in the thread"), "."));
    });
    return made;
  }

  async #send(thread, question, { answer, end }) {
    const { thread_id: threadId, metadata } = thread;
    if (end) {
      await api.post(`threads/${segment(threadId)}/state`, { values: null, as_node: "__end__" }, { signal: this.signal });
      toast("The thread has ended here.");
    } else {
      const run = await api.post(`threads/${segment(threadId)}/runs`, {
        assistant_id: metadata?.assistant_id ?? metadata?.graph_id,
        ...(question ? { command: { resume: { [question.id]: answer } }, strict_resume: true } : { input: null }),
        // Two people who answer at once: the second one is told.
        multitask_strategy: "reject",
        stream_resumable: true,
        stream_subgraphs: true,
        stream_mode: ["values", "updates", "messages-tuple", "custom"],
      }, { signal: this.signal });
      toast(["Answered. ", link(`threads/${segment(threadId)}/runs/${run.run_id}`, { class: "link" }, "The run"), " goes on."]);
      watch(threadId, run.run_id);
    }
    this.#threads = this.#threads.filter((each) => each.thread_id !== threadId);
    this.#shown = null;
    this.chosen = null;
    note({ thread: null });
    this.#show(this.#threads);
    await Promise.all([this.#load(), countInbox(this.signal)]);
  }
}

const since = (thread) => thread.state_updated_at ?? thread.updated_at;

/** Says so when the run of an answer fails: its thread is no longer in the list. */
async function watch(threadId, runId) {
  try {
    await api.get(`threads/${segment(threadId)}/runs/${runId}/join`);
    const run = await api.get(`threads/${segment(threadId)}/runs/${runId}`);
    if (["error", "timeout"].includes(run.status)) toast(["The run after your answer ended with ", link(`threads/${segment(threadId)}/runs/${runId}`, { class: "link" }, run.status), "."], { bad: true });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}
