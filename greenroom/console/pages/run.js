// A run: its timeline, its events, its error; and, while it is executed, where its process stands.

import { api, ApiError, follow, poll } from "../lib/api.js";
import { toast } from "../lib/dialogs.js";
import { button, h, icon, put } from "../lib/dom.js";
import { copier, id as idOf, status, time, tree } from "../lib/elements.js";
import { duration, number, oneLine } from "../lib/format.js";
import { onKey } from "../lib/keys.js";
import { LongList } from "../lib/long-list.js";
import { empty, head, Page } from "../lib/page.js";
import { link, note, segment } from "../lib/router.js";
import { drawLoad, stackView, tile } from "../lib/stack-view.js";
import { Timeline } from "../lib/timeline.js";

const OPEN = new Set(["running", "pending"]);
const CHANNELS = ["lifecycle", "values", "updates", "messages", "tools", "tasks", "custom", "input", "checkpoints"];
/** Events that are remembered: a run may go on for days. */
const KEPT = 20_000;
/** How long after the first look the events of an ended run may still come. */
const QUIET_MS = 1500;
const TABS = { events: "Events", stack: "Stack", input: "Input and output" };

export default class Run extends Page {
  #events = [];
  #forgotten = 0;
  #seq = 0;
  #filter = "";

  get title() {
    return `Run ${this.params.run.slice(0, 8)}`;
  }

  async open() {
    this.threadId = this.params.thread;
    this.runId = this.params.run;
    this.path = `threads/${segment(this.threadId)}/runs/${segment(this.runId)}`;
    this.#frame();
    onKey("p", "Pause or resume", () => (this.run_?.paused ? this.#do("resume") : this.#do("pause")), this.signal);
    onKey("e", "One step", () => this.#do("step"), this.signal);
    this.#listen();
    await poll(() => this.#load(), 1000, this.signal);
  }

  #frame() {
    this.state = h("span");
    this.buttons = {
      pause: button("Pause", { icon: "pause", onclick: () => this.#do("pause"), label: "Pause after the superstep (p)" }),
      step: button("Step", { icon: "step", onclick: () => this.#do("step"), label: "Step: one superstep (e)" }),
      resume: button("Resume", { icon: "runs", onclick: () => this.#do("resume"), label: "Resume (p)" }),
      stop: button("Stop", { icon: "stop", danger: true, onclick: () => this.#stop(), label: "Stop the run" }),
    };
    this.tiles = h("div.tiles", Array.from({ length: 5 }, () => tile("\u00a0", h("div.bone"))));
    this.load = h("div.tiles.load", { hidden: true });
    this.notices = h("div.stack", { "aria-live": "polite" });
    this.timeline = new Timeline();
    this.drawing = h("section.card", h("header", h("h2", "Timeline")), h("div.inside", this.timeline.element));
    this.list = new LongList((event) => this.#row(event), { label: "Events of the run" });
    this.shown = h("div.inside.event", { hidden: true });
    this.search = h("input.field", { type: "search", placeholder: "Filter by name, node or text", "aria-label": "Filter the events", oninput: () => this.#search() });
    this.count = h("span.dim.number");
    this.nothing = h("div");
    this.eventsRoom = h("div", h("div.row.inside.searching", h("div.grow", this.search), this.count), this.list.element, this.nothing, this.shown);
    this.stackRoom = h("div.inside");
    this.inputRoom = h("div.inside.stack");
    this.tabs = h("div.tabs", { role: "tablist" });
    this.room = h("div.room");
    this.append(
      head({
        crumbs: h("span.row", link("threads", {}, "Threads"), "/", link(`threads/${segment(this.threadId)}?tab=runs`, {}, idOf(this.threadId))),
        title: h("span.row", "Run ", h("span.mono.cut", { title: this.runId }, this.runId), copier(this.runId, "Copy the id")),
        actions: [this.state, Object.values(this.buttons), link(`chat/${segment(this.threadId)}`, { class: "button rest" }, icon("chat"), "Chat")],
      }),
      h("div.body", this.notices, this.tiles, this.load, this.drawing, h("section.card.parts", this.tabs, this.room)));
    for (const each of Object.values(this.buttons)) each.hidden = true;
    this.#tab(this.query.tab in TABS ? this.query.tab : "events");
  }

  #tab(name) {
    this.tab = name;
    put(this.tabs, Object.entries(TABS).map(([each, label]) =>
      h("button", { type: "button", role: "tab", "data-tab": each, "aria-selected": String(each === name), onclick: () => (note({ tab: each === "events" ? null : each }), this.#tab(each)) }, label)));
    put(this.room, { events: this.eventsRoom, stack: this.stackRoom, input: this.inputRoom }[name]);
    this.list.draw();
    if (name === "stack") this.run(() => this.#stack());
  }

  // --- what it is ------------------------------------------------------------------------------

  async #load() {
    if (this.isGone || (this.run_ && !OPEN.has(this.run_.status) && this.told?.ended_at)) return;
    let run, told;
    try {
      [run, told] = await Promise.all([
        api.get(this.path, { signal: this.signal }),
        api.get(`${this.path}/timeline`, { signal: this.signal }),
      ]);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      put(this.querySelector(".body"), empty("There is no such run", "A run that was rolled back, or whose thread was deleted, is gone.", link(`threads/${segment(this.threadId)}`, { class: "button" }, "Its thread")));
      this.isGone = true;
      this.ready();
      return;
    }
    this.run_ = run;
    this.told = told;
    this.#draw(run, told);
    if (!OPEN.has(run.status) && !this.quiet) this.quiet = setTimeout(() => this.#missing(), QUIET_MS);
    if (run.status === "running") await this.#stack();
    else this.load.hidden = true;
    this.ready();
  }

  #draw(run, told) {
    const isOpen = OPEN.has(run.status);
    const paused = run.paused ?? null;
    put(this.state, status(paused ? (paused.since ? "paused" : "pausing") : run.status));
    this.buttons.pause.hidden = run.status !== "running" || Boolean(paused);
    this.buttons.resume.hidden = this.buttons.step.hidden = !paused;
    this.buttons.step.disabled = !paused?.since;
    this.buttons.stop.hidden = !isOpen;
    const attempts = told.attempts ?? [];
    const last = attempts.at(-1);
    const end = told.ended_at ? Date.parse(told.ended_at) : Date.now();
    const queued = told.spans.filter((each) => each.kind === "queued").reduce((sum, each) => sum + (each.end ? Date.parse(each.end) : end) - Date.parse(each.start), 0);
    put(this.tiles,
      tile("Graph", told.graph_id ?? run.metadata?.graph_id ?? "–"),
      tile("Created", time(run.created_at)),
      tile(told.ended_at ? "Took" : "For", duration(end - Date.parse(told.created_at))),
      tile("Queued", duration(queued)),
      tile(last && last.attempt > 1 ? `Attempt ${last.attempt} on` : "Actor", last?.actor ?? "–", last && `${last.actor}\n${last.host ?? ""} pid ${last.pid ?? "–"}`));
    this.#notices(run, told, attempts, paused);
    this.timeline.draw(told);
    const input = JSON.stringify([run.kwargs?.input, run.kwargs?.command, told.inputs, told.ended_at]);
    if (input !== this.inputMark) {
      this.inputMark = input;
      this.run(() => this.#drawInput(run, told));
    }
  }

  #notices(run, told, attempts, paused) {
    const mark = JSON.stringify([told.error, attempts.map((each) => each.why), paused]);
    if (this.noticeMark === mark) return;
    this.noticeMark = mark;
    const error = told.error ?? run.error;
    put(this.notices,
      error && h("div.notice.bad", { role: "alert" }, h("pre.said", typeof error === "string" ? error : JSON.stringify(error, null, 2))),
      paused && h("div.notice.warn", h("span", paused.since ? ["Paused ", time(paused.since), paused.next?.length ? `, before ${paused.next.join(", ")}.` : "."] : "It pauses when its superstep has ended.")),
      attempts.filter((each) => each.why).map((each) => h("div.notice", h("span", `Attempt ${each.attempt}: ${each.why}`))));
  }

  async #drawInput(run, told) {
    const output = told.ended_at ? await api.get(`threads/${segment(this.threadId)}/history`, { query: { limit: 20, select: ["values", "metadata", "created_at"] }, signal: this.signal }) : [];
    const last = output.find((each) => each.metadata?.run_id === this.runId);
    put(this.inputRoom,
      h("h3", "Input"), run.kwargs?.command ? tree(run.kwargs.command, 3) : tree(run.kwargs?.input ?? null, 3),
      told.inputs?.length ? [h("h3", "Said to the run"), tree(told.inputs, 2)] : null,
      h("h3", "State at its end"), last ? tree(last.values, 2) : h("p.dim", told.ended_at ? "Its last checkpoint is not among the newest of the thread." : "The run has not ended yet."),
      h("h3", "Record"), tree(run, 0));
  }

  async #stack() {
    if (this.run_ && this.run_.status !== "running") {
      put(this.stackRoom, empty("The run is not executed now", "A stack is there while a process executes the run."));
      return;
    }
    try {
      const told = await api.get(`${this.path}/stack`, { signal: this.signal });
      this.load.hidden = false;
      drawLoad(this.load, told);
      if (this.tab === "stack" && !this.stackRoom.querySelector("details:hover")) put(this.stackRoom, stackView(told));
    } catch (error) {
      if (!(error instanceof ApiError) || this.signal.aborted) throw error;
      put(this.stackRoom, empty("No stack now", error.message));
    }
  }

  // --- what it does ----------------------------------------------------------------------------

  #listen() {
    const open = () => api.events("POST", `threads/${segment(this.threadId)}/stream/events`, { body: { channels: CHANNELS, ...(this.#seq && { since: this.#seq }) }, signal: this.signal });
    this.run(() => follow(open, ({ data }) => this.#take(data), this.signal));
  }

  #take(event) {
    if (!event?.params || event.seq <= this.#seq) return;
    this.#seq = event.seq;
    if (!String(event.event_id).startsWith(this.runId)) return;
    this.began ??= event.params.timestamp;
    const each = { at: event.params.timestamp - this.began, name: event.method, where: [...event.params.namespace.map((part) => part.split(":")[0]), event.params.node].filter(Boolean).join(" / "), text: summary(event), event };
    this.#events.push(each);
    if (this.#events.length > KEPT) {
      this.#forgotten += this.#events.splice(0, KEPT / 10).length;
      this.#search();
    } else if (this.#fits(each)) this.list.push(each);
    this.#counted ??= requestAnimationFrame(() => {
      this.#counted = null;
      this.#tell();
    });
  }

  #counted = null;

  /** The log has said nothing of a run that is over. */
  #missing() {
    if (this.#events.length || this.signal.aborted) return;
    this.list.element.hidden = true;
    put(this.nothing, empty("No events are kept of this run", "They stay for some time after the end of a run that was started from a console or by another client of event streaming. What its nodes did is in the timeline."));
  }

  #tell() {
    const all = this.#events.length;
    put(this.count, this.#filter ? `${number(this.list.length)} of ${number(all)}` : `${this.#forgotten ? "the last " : ""}${number(all)} events`);
    this.list.element.hidden = false;
    put(this.nothing);
  }

  #fits(each) {
    return !this.#filter || `${each.name} ${each.where} ${each.text}`.toLowerCase().includes(this.#filter);
  }

  #search() {
    this.#filter = this.search.value.trim().toLowerCase();
    this.list.items = this.#events.filter((each) => this.#fits(each));
    this.#tell();
  }

  #row(each) {
    return h("button", { type: "button", class: "event-row", onclick: () => this.#show(each) },
      h("span.number.dim.at", `+${duration(each.at)}`), h("span.name", each.name), h("span.dim.cut.where", each.where), h("span.cut.grow", each.text));
  }

  #show(each) {
    this.shown.hidden = false;
    put(this.shown, h("header.row", h("h3", each.name), h("span.grow"), time(new Date(each.event.params.timestamp).toISOString()), button("", { icon: "close", quiet: true, small: true, label: "Close", onclick: () => (this.shown.hidden = true) })), tree(each.event, 3));
    this.shown.scrollIntoView({ block: "nearest" });
  }

  // --- what is done to it ----------------------------------------------------------------------

  async #do(what) {
    if (this.run_?.status !== "running") return;
    await this.run(() => api.post(`${this.path}/${what}`, {}, { signal: this.signal }));
    await this.run(() => this.#load());
  }

  async #stop() {
    await this.run(() => api.post(`${this.path}/cancel`, {}, { query: { wait: "0", action: "interrupt" } }));
    await this.run(() => this.#load());
  }

  failed(error) {
    if (error instanceof ApiError) toast(error.message, { bad: true });
    else super.failed(error);
  }
}

/** One line of what an event says. */
function summary({ method, params }) {
  const { data } = params;
  if (method === "messages") return data.event === "content-block-delta" ? data.delta?.text ?? oneLine(data.delta) : data.event;
  if (method === "lifecycle") return [data.event, data.graph_name, data.error].filter(Boolean).join(" · ");
  if (method === "tasks") return `${data.name} ${"result" in data || "error" in data ? (data.error ? `failed: ${data.error}` : "ended") : "began"}`;
  if (method === "checkpoints") return `step ${data.step ?? "–"} · ${data.source ?? ""}`;
  return oneLine(data, 240);
}
