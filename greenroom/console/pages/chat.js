// Chat and run: give a graph input, and see live what becomes of it. The page follows the log of
// one thread; whoever starts runs on that thread, they are seen here. A reload comes back to the
// same place: the state is read, and the log is read again from its beginning.

import { api, ApiError, follow, poll } from "../lib/api.js";
import { Activity } from "../lib/activity.js";
import { Composer, speaks } from "../lib/composer.js";
import { toast } from "../lib/dialogs.js";
import { button, h, icon, perFrame, put } from "../lib/dom.js";
import { copier, id as idOf, status, tree } from "../lib/elements.js";
import { oneLine } from "../lib/format.js";
import { onKey } from "../lib/keys.js";
import { Conversation } from "../lib/messages.js";
import { empty, head, Page } from "../lib/page.js";
import { Questions } from "../lib/questions.js";
import { go, href, link, segment } from "../lib/router.js";
import { ThreadModel } from "../lib/thread-model.js";

const CHANNELS = ["lifecycle", "values", "messages", "tools", "tasks", "custom", "input", "checkpoints"];
const VIEWS = { talk: "Conversation", activity: "Activity", graph: "Graph", state: "State" };

export default class Chat extends Page {
  model = new ThreadModel();
  #drawn = { values: -1, runs: -1, messages: -1, interrupts: -1 };
  #command = 0;
  #sticks = true;

  async open() {
    this.threadId = this.params.thread ?? null;
    this.draw = perFrame(() => this.#draw());
    this.#frame();
    onKey("n", "New thread", () => go(""), this.signal);
    onKey("s", "Stop the run", () => this.#stop(), this.signal);
    const { items } = await api.page("assistants/search", { limit: 200, sort_by: "name", sort_order: "asc" }, { signal: this.signal });
    this.assistants = items;
    if (!items.length) {
      put(this.talk, empty("No assistants", "langgraph.json names no graph that can be loaded. `greenroom check` says what is wrong with it."));
      this.ready();
      return;
    }
    const thread = this.threadId ? await this.#thread() : null;
    const wanted = thread?.metadata?.assistant_id ?? this.query.assistant ?? localStorage.getItem("greenroom.assistant");
    const chosen = items.find((each) => each.assistant_id === wanted || each.graph_id === wanted || each.graph_id === thread?.metadata?.graph_id) ?? items[0];
    put(this.picker, items.map((each) => h("option", { value: each.assistant_id, selected: each === chosen }, each.name === each.graph_id ? each.name : `${each.name} · ${each.graph_id}`)));
    await this.#pick();
    this.draw();
    this.ready();
    this.composer.focus();
    if (this.threadId) this.#follow();
  }

  #frame() {
    this.picker = h("select.field.picker", { "aria-label": "Assistant", onchange: () => this.run(() => this.#pick()) });
    this.crumbs = h("span.row");
    this.state = h("span");
    this.live = h("span.tag.warn", { hidden: true }, "reconnecting");
    this.conversation = new Conversation();
    this.output = h("section.card.output", { hidden: true });
    this.questions = new Questions((response) => this.#answer(response), () => this.#end());
    this.queue = h("div.stack.queue");
    this.failure = h("div.notice.bad", { role: "alert", hidden: true });
    this.begin = h("div.begin");
    this.talk = h("div.talk", { tabIndex: 0, role: "log", "aria-label": "Conversation", onscroll: () => this.#scrolled() },
      h("div.column", this.begin, this.conversation.element, this.output, this.questions.element, this.failure, this.queue));
    this.activity = new Activity(this.threadId);
    this.activityRoom = h("div.half", this.activity.element);
    this.tree = tree({}, 2);
    this.stateRoom = h("div.half.inside", this.tree);
    this.graphRoom = h("div.half.inside.centred");
    this.composer = new Composer((input, strategy) => this.#send(input, strategy), () => this.#stop());
    this.views = h("div.segments.views", { role: "group", "aria-label": "What is shown" });
    this.append(
      head({ crumbs: this.crumbs, title: "Chat and run", actions: [this.live, this.state, this.picker, link("", { class: "button rest" }, icon("plus"), "New")] }),
      h("div.chat", this.views,
        h("div.left", this.talk, this.composer.element),
        h("aside.right", { "aria-label": "What runs do" }, this.activityRoom, this.graphRoom, this.stateRoom)));
    this.#view("talk");
    this.#crumbs();
  }

  /** On a wide screen the conversation is always there, and the choice is for the other half. */
  #view(name) {
    this.shown = name;
    this.dataset.view = name;
    put(this.views, Object.entries(VIEWS).map(([each, label]) =>
      h("button", { type: "button", "data-view": each, "aria-pressed": String(each === name), onclick: () => this.#view(each) }, label)));
    this.#drawn.values = -1;
    if (name === "graph") this.run(() => this.#graph());
    this.draw();
  }

  /** The drawing of the assistant's graph; the nodes that the run under way is in are lit. */
  async #graph() {
    const { assistant } = this;
    if (!assistant || this.drawnOf === assistant) return;
    this.drawnOf = assistant;
    const [{ drawing }, graph] = await Promise.all([
      import("../drawing/graph.js"), api.get(`assistants/${assistant.assistant_id}/graph`, { query: { xray: "true" }, signal: this.signal }),
    ]);
    if (this.drawnOf !== assistant) return;
    this.picture = drawing(graph);
    put(this.graphRoom, this.picture);
    this.picture.lit = this.model.nodes;
  }

  #crumbs() {
    put(this.crumbs, this.threadId
      ? [link("threads", {}, "Threads"), "/", link(`threads/${segment(this.threadId)}`, {}, idOf(this.threadId)), copier(this.threadId, "Copy the thread's id")]
      : "New thread");
  }

  async #thread() {
    try {
      const [thread, state, runs] = await Promise.all([
        api.get(`threads/${segment(this.threadId)}`, { signal: this.signal }),
        api.get(`threads/${segment(this.threadId)}/state`, { signal: this.signal }),
        api.get(`threads/${segment(this.threadId)}/runs`, { query: { limit: 10 }, signal: this.signal }),
      ]);
      this.model.begin(state, runs);
      const { active } = this.model;
      if (active) for (const said of await api.get(`threads/${segment(this.threadId)}/runs/${active.id}/input`, { signal: this.signal })) this.model.hear(said);
      const ran = runs[0]?.assistant_id;
      return ran ? { ...thread, metadata: { ...thread.metadata, assistant_id: ran } } : thread;
    } catch (error) {
      // An address may name a thread that its first run will make.
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  }

  async #pick() {
    this.assistant = this.assistants.find((each) => each.assistant_id === this.picker.value);
    localStorage.setItem("greenroom.assistant", this.assistant.assistant_id);
    this.composer.sender.disabled = true;
    const { assistant } = this;
    const schemas = await api.get(`assistants/${assistant.assistant_id}/schemas`, { signal: this.signal });
    if (assistant !== this.assistant) return;
    this.speaks = speaks(schemas.input_schema);
    this.composer.schema(schemas.input_schema);
    this.composer.sender.disabled = false;
    if (this.shown === "graph") this.run(() => this.#graph());
    this.#drawn.values = -1;
    this.draw();
  }

  // --- what comes -----------------------------------------------------------------------------

  #follow() {
    if (this.followed) return;
    this.followed = true;
    const open = () => api.events("POST", `threads/${segment(this.threadId)}/stream/events`, {
      body: { channels: CHANNELS, ...(this.model.seq && { since: this.model.seq }) },
      signal: this.signal,
    });
    const take = ({ data }) => {
      this.model.take(data);
      this.draw();
    };
    this.run(() => follow(open, take, this.signal, (state) => (this.live.hidden = state === "live")));
    // Runs of other clients may not be in the log, or wait: their records say what became of them.
    this.run(() => poll(() => this.#records(), 3000, this.signal));
  }

  async #records() {
    const open = [...this.model.runs.values()].filter((run) => run.status === "pending" || (run.status === "running" && !run.isLogged));
    if (!open.length) return;
    const runs = await api.get(`threads/${segment(this.threadId)}/runs`, { query: { limit: 20 }, signal: this.signal });
    const known = new Map(runs.map((run) => [run.run_id, run]));
    for (const run of open) {
      const record = known.get(run.id);
      if (record) this.model.record(record);
      // A run that was rolled back is deleted.
      else if (run.status === "pending" || !run.isLogged) this.model.runs.delete(run.id);
      const isOver = !["running", "pending"].includes(record?.status);
      if (isOver && !run.isLogged) this.model.begin(await api.get(`threads/${segment(this.threadId)}/state`, { signal: this.signal }));
    }
    this.model.changes.runs += 1;
    this.draw();
  }

  // --- what is sent ---------------------------------------------------------------------------

  async #send(input, strategy) {
    const isNew = !this.threadId;
    if (isNew) {
      this.threadId = newId();
      this.activity.threadId = this.threadId;
      history.replaceState(null, "", href(`chat/${segment(this.threadId)}`));
      this.#crumbs();
      this.#follow();
    }
    this.#sticks = true;
    if (strategy === "inject" && this.model.active?.status === "running" && (await this.run(() => this.#say(input)))) return true;
    const result = await this.run(() => this.#ask("run.start", { assistant_id: this.assistant.assistant_id, input, multitask_strategy: strategy }));
    if (!result) return false;
    if (strategy === "rollback" && this.model.active && this.model.active.id !== result.run_id) this.#gone(this.model.active);
    const run = this.model.run(result.run_id);
    run.said ??= input;
    this.model.changes.runs += 1;
    this.draw();
    return true;
  }

  /** Says something to the run under way; returns whether there is one that takes it. */
  async #say(input) {
    const path = `threads/${segment(this.threadId)}/runs/${this.model.active.id}/input`;
    try {
      this.model.hear(await api.post(path, { input }, { signal: this.signal }), input);
    } catch (error) {
      if (error.status === 409 || error.status === 404) return false; // it has ended meanwhile
      throw error;
    }
    this.draw();
    return true;
  }

  /** Takes back what a run has said that is rolled back: it is deleted. */
  #gone(run) {
    run.isGone = true;
    for (const [id, message] of this.model.messages) if (message.run === run.id) this.model.messages.delete(id);
  }

  async #answer(response) {
    await this.#ask("input.respond", { responses: [response] });
  }

  async #end() {
    await api.post(`threads/${segment(this.threadId)}/state`, { values: null, as_node: "__end__" }, { signal: this.signal });
    this.model.begin(await api.get(`threads/${segment(this.threadId)}/state`, { signal: this.signal }));
    this.draw();
  }

  /** Sends a command to the thread; returns its result. Throws what is refused. */
  async #ask(method, params) {
    const answer = await api.post(`threads/${segment(this.threadId)}/commands`, { id: (this.#command += 1), method, params }, { signal: this.signal });
    if (answer.type === "error") throw new ApiError(200, answer.message, answer);
    return answer.result;
  }

  async #stop() {
    const run = this.model.active;
    if (run) await this.run(() => api.post(`threads/${segment(this.threadId)}/runs/${run.id}/cancel`, {}, { query: { wait: "0", action: "interrupt" } }));
  }

  failed(error) {
    if (this.assistant) toast(error.message, { bad: true });
    else super.failed(error);
  }

  // --- what is drawn --------------------------------------------------------------------------

  #draw() {
    const { model } = this;
    const now = model.changes;
    const before = this.#drawn;
    const talked = now.messages !== before.messages || now.values !== before.values || now.interrupts !== before.interrupts;
    if (talked) this.#drawTalk();
    if (now.runs !== before.runs) this.#drawRuns();
    if (now.interrupts !== before.interrupts || now.runs !== before.runs) {
      this.run(() => this.questions.draw(this.threadId, model.active ? [] : [...model.interrupts.keys()], this.signal));
    }
    if (this.shown === "graph" && this.picture) this.picture.lit = model.nodes;
    if (this.shown === "state" && now.values !== before.values) this.tree.data = model.values ?? {};
    this.#drawn = { ...now };
    this.begin.hidden = Boolean(model.runs.size || model.values && Object.keys(model.values).length);
    if (!this.begin.hidden && this.assistant && this.begun !== this.assistant) {
      this.begun = this.assistant;
      put(this.begin, empty(this.speaks ? `Talk to ${this.assistant.name}` : `Run ${this.assistant.name}`,
        this.assistant.description ?? (this.speaks ? "Say something below. The answer comes as it is written." : "Fill in its input below. What it does is shown as it happens.")));
    }
    // To ask for the height costs a layout, so it is asked for only if it may have changed.
    if (talked && this.#sticks) this.talk.scrollTop = this.talk.scrollHeight;
  }

  #drawTalk() {
    const { model } = this;
    this.conversation.draw(model.conversation());
    const { messages: _messages, ...rest } = isObject(model.values) ? model.values : { value: model.values };
    const told = Object.entries(rest).filter(([, value]) => value !== null && value !== undefined);
    const mark = JSON.stringify(told);
    if (this.outputMark === mark) return;
    this.outputMark = mark;
    this.output.hidden = !told.length;
    this.outputTree ??= tree({}, 2);
    this.outputTree.data = Object.fromEntries(told);
    if (!this.output.firstChild) put(this.output, h("header", h("h2", "State")), h("div.inside", this.outputTree));
  }

  #drawRuns() {
    const { model } = this;
    const active = model.active;
    this.composer.active(Boolean(active));
    put(this.state, active ? status(active.status) : null);
    this.activity.draw(model);
    const failure = model.failure;
    this.failure.hidden = failure === null;
    if (this.failure.textContent !== failure) put(this.failure, typeof failure === "string" ? failure : JSON.stringify(failure));
    if (!model.runs.size) put(this.activity.element, empty("Nothing has run yet", "Nodes, tools and events of the runs appear here."));
    const said = [...model.said.values()].map((each) => h("div.row.notice.waiting", h("span.status.warn", "said"), h("span.cut.grow", oneLine(each.input?.messages?.at?.(-1)?.content ?? each.input ?? "Something that was said")), h("span", "not taken yet")));
    put(this.queue, said, model.waiting.filter((run) => run !== active || run.status === "pending").map((run) => h("div.row.notice.waiting", status("pending"),
      h("span.cut.grow", saidBy(run)),
      button("Cancel", { small: true, onclick: () => this.run(() => api.post(`threads/${segment(this.threadId)}/runs/${run.id}/cancel`, {}, { query: { wait: "0" } })) }))));
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.talk;
    this.#sticks = scrollHeight - scrollTop - clientHeight < 48;
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** In one line what a run was started with. */
function saidBy(run) {
  const said = run.said ?? run.record?.kwargs?.input;
  return oneLine(said?.messages?.at?.(-1)?.content ?? said ?? "A run that waits");
}

/** A UUID; `crypto.randomUUID` is only there on secure origins. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((each) => each.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
