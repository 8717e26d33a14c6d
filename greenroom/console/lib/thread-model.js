// What a thread's log says, put together: its runs, what they do, and the state. No DOM and no
// requests here; `take` is given the events of `/threads/{id}/stream/events`, in any amount.
//
// An event's id begins with the id of its run. Positions (`seq`) grow, so an event that comes a
// second time, after a lost connection, is left out.

const OVER = { completed: "success", failed: "error", interrupted: "interrupted" };
/** Rows of a run that are remembered: a run may go on for days. */
const MAX_ROWS = 4000;
const ACTIVE = new Set(["running", "pending"]);

/** A run, as the log tells it. `rows` are its tasks, tools and events in the order of their begin. */
function newRun(id) {
  return { id, status: "pending", began: null, ended: null, error: null, graph: null, rows: [], dropped: 0, made: 0, tasks: new Map(), tools: new Map(), isLogged: false };
}

export class ThreadModel {
  seq = 0;
  runs = new Map();
  values = null;
  /** When the state that was read first was written, in ms: older states of the log are past. */
  stateAt = 0;
  checkpoint = null;
  /** The errors of tasks in the state that was read first. */
  failed = null;
  interrupts = new Map();
  /** What was said to a run and is not taken yet, by the id of the input: `{id, run, input}`. */
  said = new Map();
  /** Messages that are being written, by id: `{id, namespace, node, run, blocks, done}`. */
  messages = new Map();
  /** What was dropped from the log, if a reader is told so. */
  dropped = false;
  /** Grows with each change, by kind: who draws compares it. */
  changes = { values: 0, runs: 0, messages: 0, interrupts: 0 };

  /** Begins with what is stored: the answer of `GET state`, and the thread's newest runs. */
  begin(state, runs = []) {
    if (state) {
      this.values = state.values;
      this.checkpoint = state.checkpoint?.checkpoint_id ?? state.checkpoint_id ?? null;
      this.stateAt = Date.parse(state.created_at) || 0;
      this.interrupts = new Map((state.tasks ?? []).flatMap((task) => (task.interrupts ?? [])
        .map((each) => [each.id ?? each.interrupt_id, { id: each.id ?? each.interrupt_id, namespace: [], value: each.value, node: task.name }])));
      this.failed = (state.tasks ?? []).filter((task) => task.error).map((task) => `${task.name}: ${task.error}`).join("\n") || null;
      this.changes.values += 1;
      this.changes.interrupts += 1;
    }
    for (const record of [...runs].reverse()) this.record(record);
  }

  /** Takes a run as the API has it. */
  record(record) {
    const run = this.run(record.run_id);
    if (!isOver(run.status)) run.status = record.status;
    run.record = record;
    run.began ??= record.status === "pending" ? null : Date.parse(record.created_at);
    if (!ACTIVE.has(record.status)) run.ended ??= Date.parse(record.updated_at);
    run.error ??= record.error ?? null;
    this.changes.runs += 1;
    return run;
  }

  /** Takes what was said to a run, as the API lists it; `input` is what the sender knows of it. */
  hear(record, input = null) {
    if (record.status === "waiting") this.said.set(record.input_id, { id: record.input_id, run: record.run_id, input: input ?? this.said.get(record.input_id)?.input });
    else this.said.delete(record.input_id);
    this.changes.runs += 1;
  }

  run(id) {
    if (!this.runs.has(id)) this.runs.set(id, newRun(id));
    return this.runs.get(id);
  }

  /** The run that is executed, or else the one that waits longest. */
  get active() {
    const all = [...this.runs.values()];
    return all.find((run) => run.status === "running") ?? all.find((run) => run.status === "pending") ?? null;
  }

  /** Why the newest run failed; null if it did not. */
  get failure() {
    const last = [...this.runs.values()].at(-1);
    return last?.status === "error" || last?.status === "timeout" ? last.error ?? this.failed ?? "The run failed." : null;
  }

  /** How many tasks are in each node now, by the node's id in a drawing: `outer:inner`. */
  get nodes() {
    const found = new Map();
    for (const row of this.active?.rows ?? []) {
      if (row.kind !== "task" || row.ended !== null) continue;
      const id = [...row.namespace.map((each) => each.split(":")[0]), row.name].join(":");
      found.set(id, (found.get(id) ?? 0) + 1);
    }
    return found;
  }

  get waiting() {
    return [...this.runs.values()].filter((run) => run.status === "pending");
  }

  take(event) {
    if (event.method === "log.dropped") {
      this.dropped = true;
      return;
    }
    if (!event.params || (event.seq && event.seq <= this.seq)) return;
    this.seq = Math.max(this.seq, event.seq ?? 0);
    const run = this.run(String(event.event_id).split(":")[0]);
    run.isLogged = true;
    const { namespace = [], timestamp: at, data, node } = event.params;
    switch (event.method) {
      case "lifecycle": return this.#lifecycle(run, namespace, at, data);
      case "values": return this.#values(namespace, at, data);
      case "checkpoints": if (!namespace.length) this.checkpoint = data.id; return undefined;
      case "tasks": return this.#task(run, namespace, at, data);
      case "messages": return this.#message(run, namespace, node, at, data);
      case "tools": return this.#tool(run, namespace, at, data);
      case "custom": return this.#row(run, { kind: "custom", name: typeof data?.name === "string" ? data.name : "", namespace, began: at, ended: at, detail: typeof data?.name === "string" && "payload" in data ? data.payload : data });
      case "input.requested": this.interrupts.set(data.interrupt_id, { id: data.interrupt_id, namespace, value: data.value ?? data.payload });
        this.changes.interrupts += 1;
        return undefined;
      case "input.answered": for (const id of data.interrupt_ids ?? []) this.interrupts.delete(id);
        this.changes.interrupts += 1;
        return undefined;
      case "input.taken": this.said.delete(data?.input_id);
        return this.#row(run, { kind: "said", name: "input taken", namespace, began: at, ended: at, detail: data });
      default: return undefined; // updates are in the results of the tasks
    }
  }

  #lifecycle(run, namespace, at, data) {
    this.changes.runs += 1;
    if (namespace.length) {
      const owner = run.tasks.get(namespace.at(-1).split(":").at(-1));
      if (owner) owner.graph = data.graph_name ?? owner.graph;
      return;
    }
    run.graph = data.graph_name ?? run.graph;
    if (data.event === "running" || data.event === "started") {
      run.status = "running";
      run.began = at;
      run.ended = null;
      this.interrupts.clear();
      this.changes.interrupts += 1;
      return;
    }
    if (!(data.event in OVER)) return;
    run.status = OVER[data.event];
    run.ended = at;
    run.error = data.error ?? null;
    // What nobody took has started the next run.
    for (const [id, said] of this.said) if (said.run === run.id) this.said.delete(id);
    for (const row of run.rows) if (row.ended === null) row.ended = at;
    for (const [id, message] of this.messages) if (message.run === run.id) this.messages.delete(id);
    this.changes.messages += 1;
  }

  #values(namespace, at, data) {
    if (namespace.length || at < this.stateAt) return;
    this.values = data;
    this.changes.values += 1;
  }

  #task(run, namespace, at, data) {
    const known = run.tasks.get(data.id);
    if ("result" in data || "error" in data) {
      if (!known) return;
      known.ended = at;
      known.error = data.error ?? null;
      known.result = data.result;
      known.isInterrupted = Boolean(data.interrupts?.length);
      known.mark += 1;
      this.changes.runs += 1;
      return;
    }
    if (known) {
      // A second attempt goes on with a task of the first one.
      Object.assign(known, { began: at, ended: null, error: null, mark: known.mark + 1 });
      this.changes.runs += 1;
      return;
    }
    const row = { kind: "task", id: data.id, name: data.name, namespace, began: at, ended: null, error: null, input: data.input, step: data.metadata?.langgraph_step };
    run.tasks.set(data.id, row);
    this.#row(run, row);
  }

  #tool(run, namespace, at, data) {
    const id = data.tool_call_id;
    const known = run.tools.get(id);
    if (!known) {
      const row = { kind: "tool", id, name: data.tool_name ?? "tool", namespace, began: at, ended: null, error: null, input: data.input, output: "" };
      run.tools.set(id, row);
      this.#row(run, row);
      return;
    }
    if (data.event === "tool-output-delta") known.output += typeof data.delta === "string" ? data.delta : JSON.stringify(data.delta);
    else {
      known.ended = at;
      known.error = data.message ?? null;
      known.result = data.output ?? known.output;
    }
    known.mark += 1;
    this.changes.runs += 1;
  }

  #row(run, row) {
    run.rows.push({ ...row, mark: 0, number: (run.made += 1) });
    if (run.rows.length > MAX_ROWS) {
      // Those that are forgotten are the oldest; their tasks are no longer parents of anything.
      for (const old of run.rows.splice(0, MAX_ROWS / 4)) {
        run.tasks.delete(old.id);
        run.tools.delete(old.id);
      }
      run.dropped += MAX_ROWS / 4;
    }
    const made = run.rows.at(-1);
    if (row.kind === "task") run.tasks.set(row.id, made);
    if (row.kind === "tool") run.tools.set(row.id, made);
    this.changes.runs += 1;
  }

  #message(run, namespace, node, at, data) {
    this.changes.messages += 1;
    if (data.event === "message-start") {
      this.messages.set(data.id, { id: data.id, run: run.id, namespace, node, at, blocks: [], done: false });
      return;
    }
    const message = this.messages.get(data.id);
    if (!message) return;
    if (data.event === "message-finish" || data.event === "error") {
      message.done = true;
      message.error = data.message ?? null;
      return;
    }
    const block = (message.blocks[data.index] ??= { type: "text", text: "" });
    if (data.event === "content-block-start" || data.event === "content-block-finish") {
      message.blocks[data.index] = { ...data.content };
      return;
    }
    const { delta = {} } = data;
    if (delta.type === "text-delta") block.text = (block.text ?? "") + delta.text;
    else if (delta.type === "reasoning-delta") block.reasoning = (block.reasoning ?? "") + (delta.reasoning ?? delta.text ?? "");
    else if (delta.type === "tool-call-delta" || delta.type === "block-delta") {
      const { args, ...fields } = delta.fields ?? delta.tool_call ?? delta;
      Object.assign(block, { ...fields, type: fields.type === delta.type ? block.type : fields.type ?? block.type });
      if (typeof args === "string") block.args = (block.args ?? "") + args;
    }
  }

  /** The conversation: the messages of the state, then those that are being written. */
  conversation() {
    const stored = Array.isArray(this.values?.messages) ? this.values.messages : [];
    const ids = new Set(stored.map((each) => each.id));
    const written = [...this.messages.values()].filter((each) => !ids.has(each.id) && each.blocks.length)
      .map((each) => ({ type: "ai", id: each.id, content: each.blocks.filter(Boolean), isLive: !each.done, namespace: each.namespace, node: each.node }));
    return [...stored, ...written];
  }
}

const isOver = (status) => !ACTIVE.has(status);
