// Plays scenarios with one version of the JavaScript SDK:  node driver.mjs <package>
// Reads {"scenario", "apiUrl", "args"} a line, and prints what it saw of each: a JSON object a line,
// the last of them {"kind": "over"}.

import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const [sdk] = process.argv.slice(2);
const { Client } = await import(sdk);
let client, apiUrl;
const question = (text = "hi") => ({ messages: [{ role: "user", content: text }] });

const say = (kind, told = {}) => console.log(JSON.stringify({ kind, ...told }));

// Resolves when a request whose path ends so has its answer's headers.
function answered(ending) {
  const fetching = globalThis.fetch;
  return new Promise((resolve) => {
    globalThis.fetch = async (url, ...rest) => {
      const answer = await fetching(url, ...rest);
      if (new URL(url).pathname.endsWith(ending)) {
        globalThis.fetch = fetching;
        resolve();
      }
      return answer;
    };
  });
}

async function newThread() {
  return (await client.threads.create()).thread_id;
}

// Prints the parts of a stream as `kind`.
async function follow(stream, kind = "part", seen = () => {}) {
  for await (const { event, data, id } of stream) {
    say(kind, { event, data, id });
    await seen(event, data, id);
  }
}

async function status(threadId, runId) {
  const run = await client.runs.get(threadId, runId);
  const thread = await client.threads.get(threadId);
  say("status", { run: run.status, thread: thread.status, values: thread.values });
}

// A stream that has told its first event after the metadata: its run is under way.
async function underWay(threadId, graph, payload) {
  let created;
  const stream = client.runs.stream(threadId, graph, {
    ...payload,
    onRunCreated: (run) => (created = run),
  });
  for (;;) {
    const { value, done } = await stream.next();
    if (done) throw new Error("The run ended before it was under way.");
    if (value.event !== "metadata") return { stream, runId: created.run_id };
  }
}

// Node.js 20 has no WebSocket of its own.
globalThis.WebSocket ??= WebSocket;

const contentOf = ({ content }) =>
  typeof content === "string" ? content : content.map(({ text }) => text).join("");

const SCENARIOS = {
  async eventStream({ transport }) {
    const thread = client.threads.stream({ assistantId: "talkative", transport });
    const texts = [];
    const values = [];
    const reading = [
      (async () => {
        for await (const message of thread.messages) texts.push(await message.text);
      })(),
      (async () => {
        for await (const { messages } of thread.values) values.push(messages.length);
      })(),
    ];
    await thread.run.start({ input: question("hello") });
    const { messages } = await thread.output;
    while (!texts.length || values.at(-1) !== 2) await new Promise((r) => setTimeout(r, 20));
    say("thread", { texts, values, output: messages.map(contentOf) });
    await thread.close();
    await Promise.allSettled(reading);
  },

  // Something is killed when the first tokens are there (the file `ready` says so); then it goes on.
  async eventOutlive({ transport, graph, input, ready }) {
    const thread = client.threads.stream({ assistantId: graph, transport });
    const handles = [];
    const parts = [];
    const values = [];
    const reading = [
      (async () => {
        for await (const message of thread.messages) {
          handles.push(message);
          (async () => {
            for await (const part of message.text) {
              parts.push(part);
              if (parts.length === 3) await writeFile(ready, "");
            }
          })();
        }
      })(),
      (async () => {
        for await (const state of thread.values) values.push(state.messages.length);
      })(),
    ];
    await thread.run.start({ input: { ...question("hello"), ...input } });
    const { messages } = await thread.output;
    const state = (await client.threads.getState(thread.threadId)).values;
    const whole = [];
    for (const each of handles) {
      const text = await each.text;
      if (!each.assembled.error) whole.push(text);
    }
    say("thread", {
      output: messages.map(contentOf),
      state: state.messages.map(contentOf),
      whole,
      broken: handles.length - whole.length,
      values,
    });
    await thread.close();
    await Promise.allSettled(reading);
  },

  async eventInterrupt({ transport }) {
    const thread = client.threads.stream({ assistantId: "trip", transport });
    await thread.run.start({ input: { place: "Oslo" } });
    while (!thread.interrupts.length) await new Promise((r) => setTimeout(r, 20));
    const [{ interruptId, namespace, payload }] = thread.interrupts;
    await thread.input.respond({ interrupt_id: interruptId, namespace, response: "yes" });
    let state = {};
    while (!state.approved) {
      await new Promise((r) => setTimeout(r, 20));
      state = (await client.threads.getState(thread.threadId)).values;
    }
    say("interrupt", { payload, state });
    await thread.close();
  },

  async stream({ graph, input, streamMode, streamSubgraphs }) {
    const threadId = await newThread();
    let created;
    await follow(
      client.runs.stream(threadId, graph, {
        input,
        streamMode,
        streamSubgraphs,
        onRunCreated: (run) => (created = run),
      }),
    );
    say("created", { ...created, expected_thread_id: threadId });
    await status(threadId, created.run_id);
  },

  async stateless() {
    await follow(
      client.runs.stream(null, "agent", { input: question(), streamMode: "messages-tuple" }),
    );
    say("output", { output: await client.runs.wait(null, "counter", { input: { count: 1 } }) });
  },

  async join() {
    const threadId = await newThread();
    const run = await client.runs.create(threadId, "agent", {
      input: { ...question(), n_tokens: 20, delay: 0.03 },
      streamMode: ["messages-tuple", "values"],
      streamResumable: true,
    });
    const replay = { lastEventId: "-1" };
    let second;
    await follow(client.runs.joinStream(threadId, run.run_id, replay), "first", (event) => {
      // The second viewer comes when the run is well under way.
      if (event === "messages" && second === undefined) {
        second = follow(client.runs.joinStream(threadId, run.run_id, replay), "second");
      }
    });
    await second;
    await follow(client.runs.joinStream(threadId, run.run_id, replay), "after");
    await follow(
      client.runs.joinStream(threadId, run.run_id, { ...replay, streamMode: ["values"] }),
      "filtered",
    );
    say("output", { output: await client.runs.join(threadId, run.run_id) });
    await status(threadId, run.run_id);
  },

  async reconnect({ nTokens, delay, breakAfter, directUrl }) {
    const threadId = await newThread();
    let created;
    let count = 0;
    await follow(
      client.runs.stream(threadId, "agent", {
        input: { ...question(), n_tokens: nTokens, delay },
        streamMode: ["messages-tuple", "values"],
        streamResumable: true,
        onRunCreated: (run) => (created = run),
      }),
      "part",
      async () => {
        if (breakAfter.includes(++count)) await fetch(`${apiUrl}/break`);
      },
    );
    // What the run has emitted, as a client of an unbroken connection reads it.
    const direct = new Client({ apiUrl: directUrl });
    await follow(
      direct.runs.joinStream(threadId, created.run_id, { lastEventId: "-1" }),
      "complete",
    );
  },

  async cancel({ action, wait }) {
    const threadId = await newThread();
    await client.runs.wait(threadId, "slow", { input: { steps: 1, delay: 0 } });
    const { stream, runId } = await underWay(threadId, "slow", {
      input: { steps: 400, delay: 0.05, tag: "x" },
      streamMode: "updates",
    });
    await client.runs.cancel(threadId, runId, wait, action);
    for await (const _ of stream); // ends, because the run did
    const thread = await client.threads.get(threadId);
    say("thread", { status: thread.status, values: thread.values });
    const runs = await client.runs.list(threadId);
    say("runs", { statuses: runs.map((run) => run.status) });
  },

  async goOn() {
    const threadId = await newThread();
    const { runId } = await underWay(threadId, "slow", {
      input: { steps: 20, delay: 0.03 },
      streamMode: "updates",
    });
    await client.runs.cancel(threadId, runId, true);
    const stopped = await client.threads.getState(threadId);
    say("stopped", { values: stopped.values, next: stopped.next });
    say("output", { output: await client.runs.wait(threadId, "slow", { input: null }) });
  },

  async interrupt() {
    const threadId = await newThread();
    const streamMode = ["values", "updates"];
    await follow(
      client.runs.stream(threadId, "approval", { input: { question: "May I?" }, streamMode }),
    );
    const thread = await client.threads.get(threadId);
    say("waiting", { status: thread.status, interrupts: Object.values(thread.interrupts).flat() });
    const state = await client.threads.getState(threadId);
    say("state", { next: state.next, interrupts: state.tasks.flatMap((task) => task.interrupts) });
    await follow(
      client.runs.stream(threadId, "approval", { command: { resume: "yes" }, streamMode }),
      "resumed",
    );
    say("done", { status: (await client.threads.get(threadId)).status });
  },

  async resumeById() {
    const threadId = await newThread();
    const paused = await client.runs.wait(threadId, "multi", { input: {} });
    const answers = paused.__interrupt__.map(({ id, value }) => [id, `${value} yes`]);
    const resume = Object.fromEntries(answers);
    say("output", {
      output: await client.runs.wait(threadId, "multi", { command: { resume } }),
    });
  },

  async wait() {
    const threadId = await newThread();
    const input = { count: 1 };
    say("output", { output: await client.runs.wait(threadId, "counter", { input }) });
    try {
      await client.runs.wait(await newThread(), "fails", { input: { x: 0 } });
    } catch (error) {
      say("raised", { message: error.message });
    }
    const lenient = { input: { x: 0 }, raiseError: false };
    say("error", { output: await client.runs.wait(await newThread(), "fails", lenient) });
    await follow(client.runs.stream(await newThread(), "fails", { input: { x: 0 } }));
  },

  async errors() {
    const unknown = "00000000-0000-4000-8000-000000000000";
    const threadId = await newThread();
    const { stream, runId } = await underWay(threadId, "slow", {
      input: { steps: 400, delay: 0.05 },
      streamMode: "updates",
    });
    const attempts = {
      unknownThread: () => client.threads.get(unknown),
      unknownRun: () => client.runs.get(threadId, unknown),
      runOnUnknownThread: () => client.runs.create(unknown, "agent", { input: {} }),
      joinUnknownRun: () => client.runs.joinStream(threadId, unknown).next(),
      cancelUnknownRun: () => client.runs.cancel(threadId, unknown),
      sameThreadTwice: () => client.threads.create({ threadId }),
      busyThread: () =>
        client.runs.create(threadId, "slow", { input: {}, multitaskStrategy: "reject" }),
      stateOfBusyThread: () => client.threads.updateState(threadId, { values: { tag: "y" } }),
      malformedThread: () => client.threads.get("no-uuid"),
      unknownGraph: () => client.runs.create(threadId, "nonsense", { input: {} }),
      unknownMode: () => client.runs.create(threadId, "agent", { streamMode: "nonsense" }),
    };
    for (const [name, attempt] of Object.entries(attempts)) {
      try {
        await attempt();
        say("accepted", { name });
      } catch (error) {
        say("refused", { name, status: error.status, message: error.message });
      }
    }
    await client.runs.cancel(threadId, runId, true);
    for await (const _ of stream);
  },

  async assistants() {
    const found = await client.assistants.search({ graphId: "agent" });
    say("found", { graphs: found.map((assistant) => assistant.graph_id) });
    const page = await client.assistants.search({ limit: 2, includePagination: true });
    say("page", { size: page.assistants.length, next: page.next });
    say("count", { count: await client.assistants.count({ graphId: "agent" }) });
    const id = found[0].assistant_id;
    say("same", { assistant: await client.assistants.get(id), id });
    const graph = await client.assistants.getGraph(id);
    say("graph", { nodes: graph.nodes.map((node) => node.id), edges: graph.edges.length });
    const schemas = await client.assistants.getSchemas(id);
    say("schemas", { names: Object.keys(schemas), input: schemas.input_schema.properties });
    const [parent] = await client.assistants.search({ graphId: "parent" });
    const subgraphs = await client.assistants.getSubgraphs(parent.assistant_id);
    say("subgraphs", { names: Object.keys(subgraphs) });
    const input = question();
    const messages = (await client.runs.wait(await newThread(), id, { input })).messages;
    say("output", { answer: messages.at(-1).content });
  },

  async threads({ mark }) {
    const thread = await client.threads.create({ metadata: { mark }, graphId: "counter" });
    const threadId = thread.thread_id;
    await client.runs.wait(threadId, "counter", { input: { count: 1 } });
    await client.threads.update(threadId, { metadata: { more: 1 } });
    const found = await client.threads.search({ metadata: { mark }, status: "idle" });
    say("found", { ids: found.map((one) => one.thread_id), metadata: found[0].metadata, threadId });
    const history = await client.threads.getHistory(threadId);
    say("history", { steps: history.map((state) => state.metadata.step) });
    const { checkpoint } = history.find((state) => state.metadata.step === 1);
    const earlier = await client.threads.getState(threadId, checkpoint);
    say("earlier", { values: earlier.values, next: earlier.next });
    const fork = { input: null, checkpoint };
    say("forked", { output: await client.runs.wait(threadId, "counter", fork) });
    await client.threads.updateState(threadId, { values: { count: 70 }, asNode: "two" });
    const updated = await client.threads.getState(threadId);
    say("updated", { count: updated.values.count, next: updated.next });
    const copy = await client.threads.copy(threadId);
    say("copied", { values: (await client.threads.getState(copy.thread_id)).values });
    await client.threads.delete(threadId);
    try {
      await client.threads.get(threadId);
    } catch (error) {
      say("deleted", { status: error.status });
    }
  },

  async crons() {
    const threadId = await newThread();
    const payload = { schedule: "0 4 1 1 *", input: { count: 0 }, metadata: { m: 1 } };
    const made = [
      await client.crons.create("counter", { ...payload, onRunCompleted: "keep" }),
      await client.crons.createForThread(threadId, "counter", payload),
    ];
    for (const cron of made) say("cron", cron);
    say("found", { crons: await client.crons.search({ threadId }) });
    const changed = await client.crons.update(made[1].cron_id, { enabled: false, endTime: null });
    say("changed", changed);
    for (const cron of made) await client.crons.delete(cron.cron_id);
    say("left", { count: await client.crons.count({ threadId }) });
  },

  async threadStream() {
    const threadId = await newThread();
    const leaving = new AbortController();
    const stream = client.threads.joinStream(threadId, {
      streamMode: "run_modes",
      signal: leaving.signal,
    });
    const opened = answered("/stream");
    const first = stream.next();
    await opened; // what a run emits from here on is seen
    const run = client.runs.wait(threadId, "counter", { input: { count: 1 } });
    let part = (await first).value;
    while (part.data?.status !== "run_done") {
      say("part", part);
      part = (await stream.next()).value;
    }
    say("done", part);
    leaving.abort();
    say("output", { output: await run });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  apiUrl = asked.apiUrl;
  client = new Client({ apiUrl });
  await SCENARIOS[asked.scenario](asked.args);
  say("over");
}
