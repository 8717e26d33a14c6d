// A thread: its history as a tree of forks, the state at each checkpoint, and its runs.

import { api, ApiError, poll } from "../lib/api.js";
import { confirmed, toast } from "../lib/dialogs.js";
import { diffView } from "../lib/diff-view.js";
import { button, h, icon, put, s } from "../lib/dom.js";
import { copier, id as idOf, status, time, tree } from "../lib/elements.js";
import { onKey } from "../lib/keys.js";
import { lanes } from "../lib/lanes.js";
import { empty, head, Page } from "../lib/page.js";
import { go, link, note, segment } from "../lib/router.js";
import { RunTable } from "../lib/run-table.js";
import { editState } from "../lib/state-edit.js";

const PAGE = 50;
const FIELDS = ["checkpoint_id", "parent_checkpoint_id", "metadata", "created_at", "next", "tasks"];
const ROW = 40;
const LANE = 14;

export default class Thread extends Page {
  #history = [];
  #more = true;
  #states = new Map();
  #updated = null;
  #asked = null;
  #command = 0;

  get title() {
    return `Thread ${this.params.thread.slice(0, 8)}`;
  }

  open() {
    this.threadId = this.params.thread;
    this.tab = this.query.tab === "runs" ? "runs" : "history";
    this.chosen = this.query.at ?? null;
    this.#frame();
    const move = (by) => {
      const at = this.#history.findIndex((each) => each.checkpoint_id === this.#here);
      const next = this.#history[Math.max(0, Math.min(this.#history.length - 1, at + by))];
      if (next) this.#choose(next.checkpoint_id, true);
    };
    onKey("j", "Next checkpoint", () => move(1), this.signal);
    onKey("k", "Previous checkpoint", () => move(-1), this.signal);
    onKey("c", "Chat on this thread", () => go(`chat/${segment(this.threadId)}`), this.signal);
    return poll(() => this.#load(), 2500, this.signal);
  }

  #frame() {
    this.state = h("span");
    this.graph = h("span");
    this.tabs = h("div.tabs", { role: "tablist" });
    this.list = h("ol.history", { "aria-label": "Checkpoints, the newest first" });
    this.older = button("Older", { small: true, quiet: true, hidden: true, onclick: () => this.run(() => this.#older()) });
    this.detail = h("section.card.detail", { "aria-live": "polite" }, h("div.inside", h("div.bone"), h("br"), h("div.bone")));
    this.runs = new RunTable(this.threadId, this.signal);
    this.room = h("div");
    this.append(
      head({
        crumbs: link("threads", {}, "Threads"),
        title: h("span.row", h("span.mono.cut", { title: this.threadId }, this.threadId), copier(this.threadId, "Copy the id"), this.graph),
        actions: [this.state, button("Delete", { danger: true, class: "rest", onclick: () => this.#delete() }), link(`chat/${segment(this.threadId)}`, { class: "button primary" }, icon("chat"), "Chat")],
      }),
      h("div.body", this.tabs, this.room));
    this.#tab(this.tab);
  }

  #tab(name) {
    this.tab = name;
    const labels = { history: "History", runs: "Runs" };
    put(this.tabs, Object.entries(labels).map(([each, label]) =>
      h("button", { type: "button", role: "tab", "aria-selected": String(each === name), "data-tab": each, onclick: () => (note({ tab: each === "history" ? null : each }), this.#tab(each)) }, label)));
    put(this.room, name === "history" ? h("div.halves", h("div.card.tree", this.list, this.older), this.detail) : this.runs.element);
    if (name === "runs") this.run(() => this.runs.load());
  }

  async #load() {
    if (this.isGone) return;
    const asked = (this.#asked = Symbol("asked"));
    let thread;
    try {
      thread = await api.get(`threads/${segment(this.threadId)}`, { signal: this.signal });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) {
        put(this.room, empty("There is no such thread", "It may have been deleted, or it belongs to somebody else.", link("threads", { class: "button" }, "All threads")));
        this.tabs.hidden = true;
        this.isGone = true;
        this.ready();
        return;
      }
      throw error;
    }
    if (asked !== this.#asked) return;
    this.thread = thread;
    put(this.state, status(thread.status));
    const mark = `${thread.updated_at} ${thread.state_updated_at} ${thread.status}`;
    const isBusy = thread.status === "busy";
    if (mark === this.#updated && !isBusy) return;
    put(this.graph, thread.metadata?.graph_id && h("span.tag", thread.metadata.graph_id));
    const newest = await this.#page(null);
    if (asked !== this.#asked) return;
    this.#updated = mark;
    const known = new Set(newest.map((each) => each.checkpoint_id));
    const oldest = newest.at(-1)?.checkpoint_id;
    // What was loaded of older pages stays.
    this.#history = [...newest, ...this.#history.filter((each) => !known.has(each.checkpoint_id) && (!oldest || each.checkpoint_id < oldest))];
    if (this.#history.length <= PAGE) this.#more = newest.length === PAGE;
    // The address may name a checkpoint that is further back.
    for (let pages = 0; this.chosen && this.#here !== this.chosen && this.#more && pages < 10; pages += 1) await this.#older();
    this.#draw();
    if (this.tab === "runs") await this.runs.load();
    this.ready();
  }

  #page(before) {
    return api.get(`threads/${segment(this.threadId)}/history`, { query: { limit: PAGE, select: FIELDS, ...(before && { before }) }, signal: this.signal });
  }

  async #older() {
    const found = await this.#page(this.#history.at(-1).checkpoint_id);
    this.#more = found.length === PAGE;
    // Whoever asks twice gets the same page twice.
    const oldest = this.#history.at(-1).checkpoint_id;
    this.#history.push(...found.filter((each) => each.checkpoint_id < oldest));
    this.#draw();
  }

  #draw() {
    this.older.hidden = !this.#more;
    if (!this.#history.length) {
      put(this.list, h("li", empty("Nothing has run yet", "The history begins with the first run.", link(`chat/${segment(this.threadId)}`, { class: "button" }, "Start a run"))));
      put(this.detail, h("div.inside.dim", "A checkpoint's state is shown here."));
      return;
    }
    const byId = new Map(this.#history.map((each) => [each.checkpoint_id, each]));
    const placed = lanes(this.#history.map((each) => ({ id: each.checkpoint_id, parent: each.parent_checkpoint_id ?? null })));
    const width = Math.min(8, Math.max(...placed.map((each) => each.lanes))) * LANE + 10;
    put(this.list, this.#history.map((each, index) => this.#row(each, byId.get(each.parent_checkpoint_id), placed[index], width, index === 0)));
    this.run(() => this.#detail());
  }

  #row(point, parent, place, width, isNewest) {
    const chosen = point.checkpoint_id === this.#here;
    const asks = point.tasks?.some((task) => task.interrupts?.length);
    const failed = point.tasks?.some((task) => task.error);
    return h("li", { "aria-current": chosen ? "true" : null, "data-checkpoint": point.checkpoint_id },
      h("button", { type: "button", class: "point", onclick: () => this.#choose(point.checkpoint_id) },
        drawn(place, width, chosen),
        h("span.step.number.dim", point.metadata?.step ?? ""),
        h("b.cut.grow", wrote(point, parent)),
        isNewest && h("span.tag.ok", "now"), asks && h("span.tag.warn", "asks"), failed && h("span.tag.bad", "failed"),
        h("span.dim.when", time(point.created_at))));
  }

  /** The checkpoint that is shown: the one that somebody has chosen, or else the newest. */
  get #here() {
    return this.#history.some((each) => each.checkpoint_id === this.chosen) ? this.chosen : this.#history[0]?.checkpoint_id;
  }

  #choose(checkpointId, scrolls = false) {
    this.chosen = checkpointId;
    note({ at: checkpointId });
    for (const each of this.list.children) {
      if (each.dataset.checkpoint === checkpointId) {
        each.setAttribute("aria-current", "true");
        if (scrolls) each.scrollIntoView({ block: "nearest" });
      } else each.removeAttribute("aria-current");
    }
    this.run(() => this.#detail());
  }

  /** The state at a checkpoint. It never changes, so each is asked for once. */
  async #at(checkpointId) {
    const point = this.#history.find((each) => each.checkpoint_id === checkpointId);
    const isSettled = point && point !== this.#history[0];
    if (!this.#states.has(checkpointId)) {
      const asked = api.get(`threads/${segment(this.threadId)}/state/${checkpointId}`, { signal: this.signal });
      this.#states.set(checkpointId, asked);
      asked.then(() => isSettled || this.#states.delete(checkpointId), () => this.#states.delete(checkpointId));
      if (this.#states.size > 100) this.#states.delete(this.#states.keys().next().value);
    }
    return this.#states.get(checkpointId);
  }

  async #detail() {
    const chosen = this.#here;
    // Until the checkpoint is there, nobody acts on the one that was shown before.
    this.detail.inert = this.detailOf !== chosen;
    const point = this.#history.find((each) => each.checkpoint_id === chosen);
    const [state, parent] = await Promise.all([this.#at(chosen), point.parent_checkpoint_id ? this.#at(point.parent_checkpoint_id) : null]);
    const isNewest = chosen === this.#history[0]?.checkpoint_id;
    const mark = JSON.stringify([chosen, isNewest, state, this.view]);
    if (chosen !== this.#here || this.detailMark === mark) return;
    this.detailMark = mark;
    this.detailOf = chosen;
    this.detail.inert = false;
    const view = this.view ?? "changes";
    const views = h("div.segments", [["changes", "Changes"], ["state", "State"], ["about", "About"]].map(([name, label]) =>
      h("button", { type: "button", "aria-pressed": String(name === view), onclick: () => ((this.view = name), this.run(() => this.#detail())) }, label)));
    const content = { changes: () => diffView(parent?.values, state.values), state: () => tree(state.values, 3), about: () => about(point, state, this.threadId) }[view]();
    put(this.detail,
      h("header", views, h("div.row",
        button(isNewest ? "Edit" : "Edit and fork", { icon: "edit", small: true, onclick: () => this.run(() => this.#edit(state, isNewest)) }),
        button("Run from here", { icon: "fork", small: true, onclick: () => this.run(() => this.#rerun(point)) }))),
      h("div.inside.stack", next(state), questions(state), content));
  }

  async #assistant() {
    const given = this.thread?.metadata?.assistant_id ?? this.#history[0]?.metadata?.assistant_id;
    if (given) return given;
    const [found] = await api.post("assistants/search", { graph_id: this.thread?.metadata?.graph_id, limit: 1 });
    return found?.assistant_id;
  }

  async #edit(state, isNewest) {
    // Without the names of the nodes the state can be edited as well: not everybody may see the assistant.
    const graph = await api.get(`assistants/${await this.#assistant()}/graph`, { signal: this.signal }).catch(() => ({ nodes: [] }));
    const nodes = graph.nodes.map((each) => String(each.id)).filter((each) => !/^__(start|end)__$/.test(each));
    if (await editState(this.threadId, state, nodes, isNewest)) this.#again("The state is changed.");
  }

  /** A run that goes on from a checkpoint, without new input. */
  async #rerun(point) {
    const params = { checkpoint_id: point.checkpoint_id };
    const answer = await api.post(`threads/${segment(this.threadId)}/commands`, { id: (this.#command += 1), method: "state.fork", params });
    if (answer.type === "error") toast(answer.message, { bad: true });
    else this.#again("A run goes on from this checkpoint.");
  }

  #again(sentence) {
    toast(sentence);
    this.chosen = null;
    this.detail.inert = true;
    this.#updated = null;
    note({ at: null });
    return this.run(() => this.#load());
  }

  async #delete() {
    if (!(await confirmed("Delete this thread?", "Its runs are stopped, and its state is gone for good.", "Delete"))) return;
    await this.run(() => api.delete(`threads/${segment(this.threadId)}`));
    go("threads");
  }

  failed(error) {
    toast(error.message, { bad: true });
  }
}

function drawn(place, width, chosen) {
  const x = (lane) => Math.min(lane, 7) * LANE + 12;
  const middle = ROW / 2;
  const paths = place.lines.map(({ from, to, half }) => {
    const [top, bottom] = half === "whole" ? [0, ROW] : half === "top" ? [0, middle] : [middle, ROW];
    const d = from === to ? `M${x(from)} ${top}V${bottom}` : `M${x(from)} ${top}C${x(from)} ${bottom} ${x(to)} ${top} ${x(to)} ${bottom}`;
    return s("path", { d, class: "line" });
  });
  return s("svg", { width, height: ROW, viewBox: `0 0 ${width} ${ROW}`, class: "lanes", "aria-hidden": "true" },
    paths, s("circle", { cx: x(place.lane), cy: middle, r: chosen ? 5 : 4, class: chosen ? "dot chosen" : "dot" }));
}

/** What made a checkpoint: the nodes that ran before it, or a person. */
function wrote(point, parent) {
  const { source, step } = point.metadata ?? {};
  if (source === "input") return step === -1 ? "Input" : "New input";
  if (source === "update") return "Edited";
  if (source === "fork") return "Forked";
  const names = [...new Set((parent?.next?.length ? parent.next : parent?.tasks?.map((task) => task.name)) ?? [])];
  const count = parent?.tasks?.length ?? 0;
  if (names.join() === "__start__") return "Start";
  return names.length ? `${names.join(", ")}${count > names.length ? ` ×${count}` : ""}` : "Step";
}

function next(state) {
  if (!state.next?.length) return null;
  return h("p.dim", "Next: ", state.next.map((each) => h("span.tag", each)));
}

function questions(state) {
  return (state.tasks ?? []).flatMap((task) => (task.interrupts ?? []).map((each) =>
    h("div.notice.warn", h("div.grow", h("b", `${task.name} asks`), tree(each.value, 2)))).concat(task.error ? h("div.notice.bad", `${task.name}: ${task.error}`) : []));
}

function about(point, state, threadId) {
  const meta = point.metadata ?? {};
  return h("div.stack", h("dl.facts",
    h("dt", "Checkpoint"), h("dd", h("span.mono", point.checkpoint_id), copier(point.checkpoint_id)),
    h("dt", "Made"), h("dd", time(point.created_at)),
    h("dt", "Source"), h("dd", meta.source ?? "–"),
    meta.run_id && [h("dt", "Run"), h("dd", link(`threads/${segment(threadId)}/runs/${meta.run_id}`, { class: "link" }, idOf(meta.run_id)))],
    meta.run_attempt > 1 && [h("dt", "Attempt"), h("dd", meta.run_attempt)]),
  h("h3", "Metadata"), tree(meta, 1));
}
