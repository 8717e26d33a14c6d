// The console's logic without a browser: what a log becomes, differences, forks, frames, times.
//   node --test logic.test.mjs
import assert from "node:assert/strict";
import { test } from "node:test";

import { diff, pathText, same } from "../../greenroom/console/lib/diff.js";
import { ago, bytes, duration, oneLine, short, textOf } from "../../greenroom/console/lib/format.js";
import { lanes } from "../../greenroom/console/lib/lanes.js";
import { parser } from "../../greenroom/console/lib/sse.js";
import { ThreadModel } from "../../greenroom/console/lib/thread-model.js";

let seq = 0;
const event = (run, method, data, { namespace = [], at = 1000 + seq, node } = {}) => ({
  type: "event", event_id: `${run}:${seq + 1}`, seq: (seq += 1), method, params: { namespace, timestamp: at, node, data },
});

function taken(...events) {
  const model = new ThreadModel();
  for (const each of events) model.take(each);
  return model;
}

test("a run begins, does things and ends", () => {
  const model = taken(
    event("r1", "lifecycle", { event: "running", graph_name: "agent" }),
    event("r1", "tasks", { id: "t1", name: "plan", input: { a: 1 }, triggers: [] }),
    event("r1", "tasks", { id: "t1", name: "plan", error: null, result: { b: 2 }, interrupts: [] }),
    event("r1", "custom", { done: 1 }),
    event("r1", "values", { b: 2 }),
  );
  assert.equal(model.active.id, "r1");
  const [plan, custom] = model.run("r1").rows;
  assert.deepEqual([plan.name, plan.result, plan.ended !== null], ["plan", { b: 2 }, true]);
  assert.deepEqual([custom.kind, custom.detail], ["custom", { done: 1 }]);
  model.take(event("r1", "lifecycle", { event: "failed", error: "no" }));
  assert.equal(model.active, null);
  assert.deepEqual([model.run("r1").status, model.run("r1").error], ["error", "no"]);
});

test("what comes twice after a lost connection counts once", () => {
  const all = [
    event("r1", "lifecycle", { event: "running" }),
    event("r1", "messages", { event: "message-start", id: "m1", role: "ai" }),
    event("r1", "messages", { event: "content-block-start", id: "m1", index: 0, content: { type: "text", text: "" } }),
    event("r1", "messages", { event: "content-block-delta", id: "m1", index: 0, delta: { type: "text-delta", text: "Hel" } }),
    event("r1", "messages", { event: "content-block-delta", id: "m1", index: 0, delta: { type: "text-delta", text: "lo" } }),
  ];
  const model = taken(...all, ...all);
  assert.equal(textOf(model.conversation().at(-1).content), "Hello");
  assert.equal(model.conversation().at(-1).isLive, true);
});

test("a message that is in the state is shown once, and what a stopped run wrote is gone with it", () => {
  const model = taken(
    event("r1", "lifecycle", { event: "running" }),
    event("r1", "messages", { event: "message-start", id: "m1", role: "ai" }),
    event("r1", "messages", { event: "content-block-delta", id: "m1", index: 0, delta: { type: "text-delta", text: "Hi" } }),
    event("r1", "values", { messages: [{ type: "ai", id: "m1", content: "Hi" }] }),
    event("r1", "messages", { event: "message-start", id: "m2", role: "ai" }),
    event("r1", "messages", { event: "content-block-delta", id: "m2", index: 0, delta: { type: "text-delta", text: "half" } }),
  );
  assert.deepEqual(model.conversation().map((each) => each.id), ["m1", "m2"]);
  model.take(event("r1", "lifecycle", { event: "interrupted" }));
  assert.deepEqual(model.conversation().map((each) => each.id), ["m1"]);
});

test("states that are older than the one that was read are past", () => {
  const model = new ThreadModel();
  model.begin({ values: { n: 5 }, created_at: new Date(5000).toISOString(), tasks: [] });
  model.take(event("r1", "values", { n: 3 }, { at: 3000 }));
  assert.deepEqual(model.values, { n: 5 });
  model.take(event("r2", "values", { n: 6 }, { at: 6000 }));
  assert.deepEqual(model.values, { n: 6 });
  model.take(event("r2", "values", { inside: true }, { at: 7000, namespace: ["sub:1"] }));
  assert.deepEqual(model.values, { n: 6 });
});

test("a question stays until it is answered or a run goes on", () => {
  const asks = (id) => event("r1", "input.requested", { interrupt_id: id, value: "Sure?" });
  const model = taken(asks("i1"), asks("i2"), event("r2", "input.answered", { interrupt_ids: ["i1"] }));
  assert.deepEqual([...model.interrupts.keys()], ["i2"]);
  model.take(event("r2", "lifecycle", { event: "running" }));
  assert.equal(model.interrupts.size, 0);
});

test("a record of an older moment does not bring an ended run back", () => {
  const model = taken(event("r1", "lifecycle", { event: "running" }), event("r1", "lifecycle", { event: "completed" }));
  const record = { run_id: "r1", status: "running", created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z" };
  model.record(record);
  assert.equal(model.run("r1").status, "success");
  model.record({ ...record, run_id: "r2", status: "pending" });
  assert.deepEqual(model.waiting.map((run) => run.id), ["r2"]);
});

test("what is said to a run waits until it is taken, or until the run has ended", () => {
  const model = taken(event("r1", "lifecycle", { event: "running" }));
  for (const id of ["a", "b"]) model.hear({ input_id: id, run_id: "r1", status: "waiting" }, { n: id });
  model.take(event("r1", "input.taken", { input_id: "a", number: 1 }));
  assert.deepEqual([...model.said.values()].map((each) => each.input), [{ n: "b" }]);
  model.take(event("r1", "lifecycle", { event: "completed" }));
  assert.equal(model.said.size, 0);
});

test("a run of many events remembers the newest", () => {
  const model = taken(event("r1", "lifecycle", { event: "running" }));
  for (let n = 0; n < 9000; n += 1) model.take(event("r1", "custom", { n }));
  const { rows, dropped } = model.run("r1");
  assert.equal(dropped + rows.length, 9000);
  assert.ok(rows.length <= 4000);
  assert.deepEqual(rows.at(-1).detail, { n: 8999 });
});

test("arguments of a tool call come in pieces", () => {
  const model = taken(
    event("r1", "messages", { event: "message-start", id: "m1", role: "ai" }),
    event("r1", "messages", { event: "content-block-start", id: "m1", index: 0, content: { type: "tool_call_chunk", id: "c1", name: "add", args: "" } }),
    event("r1", "messages", { event: "content-block-delta", id: "m1", index: 0, delta: { type: "block-delta", fields: { type: "tool_call_chunk", args: '{"a"' } } }),
    event("r1", "messages", { event: "content-block-delta", id: "m1", index: 0, delta: { type: "block-delta", fields: { type: "tool_call_chunk", args: ":1}" } } }),
  );
  const [block] = model.conversation()[0].content;
  assert.deepEqual([block.name, block.args], ["add", '{"a":1}']);
});

test("differences name what was added, removed and changed, where it is", () => {
  const before = { same: [1, 2], gone: 1, deep: { a: 1 }, list: ["a", "b", "c"], messages: [{ id: "1", content: "x" }, { id: "2", content: "y" }] };
  const after = { same: [1, 2], deep: { a: 2 }, list: ["a", "new", "b", "c"], messages: [{ id: "2", content: "Y" }, { id: "3", content: "z" }], fresh: null };
  const told = diff(before, after).map((each) => `${each.kind} ${pathText(each.path)}`);
  assert.deepEqual(told, ["removed gone", "changed deep.a", "added list[1]", "removed messages[0]", "changed messages[0].content", "added messages[1]", "added fresh"]);
  assert.deepEqual(diff(before, structuredClone(before)), []);
  assert.equal(same({ a: 1, b: undefined }, { a: 1 }), false);
});

test("every difference turns the one value into the other", () => {
  // mulberry32: the same values each time.
  let state = 11;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const value = (depth) => {
    const kind = depth > 2 ? random() * 3 : random() * 5;
    if (kind < 3) return [null, true, "a", "b", 1, 2][Math.floor(random() * 6)];
    if (kind < 4) return Array.from({ length: Math.floor(random() * 4) }, () => value(depth + 1));
    return Object.fromEntries(["x", "y", "z"].filter(() => random() < 0.6).map((key) => [key, value(depth + 1)]));
  };
  for (let round = 0; round < 2000; round += 1) {
    const [before, after] = [{ root: value(0) }, { root: value(0) }];
    assert.equal(diff(before, after).length === 0, same(before, after), JSON.stringify([before, after]));
    // What is said about the newer value is found there.
    for (const { path, kind, after: now } of diff(before, after)) {
      if (kind !== "removed") assert.deepEqual(path.reduce((at, key) => at[key], after), now);
    }
  }
});

test("a fork is a lane of its own that ends where it began", () => {
  const placed = lanes([
    { id: "f2", parent: "f1" }, { id: "f1", parent: "b" },
    { id: "d", parent: "c" }, { id: "c", parent: "b" },
    { id: "b", parent: "a" }, { id: "a", parent: null },
  ]);
  assert.deepEqual(placed.map((each) => each.lane), [0, 0, 1, 1, 0, 0]);
  const joins = placed[4].lines.filter((line) => line.half === "top").map((line) => line.from);
  assert.deepEqual(joins.sort(), [0, 1]);
  assert.equal(placed.at(-1).lines.some((line) => line.half === "bottom"), false);
});

test("frames are found however the text is cut", () => {
  const text = ': beat\n\nevent: values\nid: 7\ndata: {"a":\ndata: 1}\n\ndata: words\r\n\r\n';
  for (let size = 1; size <= text.length; size += 1) {
    const parse = parser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parse(text.slice(at, at + size)));
    assert.deepEqual(found, [{ event: "values", id: "7", data: { a: 1 } }, { event: "message", id: null, data: "words" }], `in pieces of ${size}`);
  }
});

test("times and sizes are written for people", () => {
  const now = Date.parse("2026-01-02T00:00:00Z");
  assert.equal(ago(now - 12_000, now), "12 s ago");
  assert.equal(ago(now - 200_000, now), "3 min ago");
  assert.equal(ago(now + 7_300_000, now), "in 2 h");
  assert.equal(ago("nonsense", now), "–");
  assert.deepEqual([340, 4210, 59_970, 200_000, 7_500_000].map(duration), ["340 ms", "4.2 s", "1 min", "3 min 20 s", "2 h 5 min"]);
  assert.deepEqual([0, 1000, 13_000_000, NaN].map(bytes), ["0 B", "1000 B", "12.4 MiB", "–"]);
  assert.equal(short("01a2291e-5ebd-71ac-8839-cb1dba62a536"), "01a2291e…a536");
  assert.equal(oneLine({ a: "x\ny" }), '{"a":"x\\ny"}');
  assert.equal(textOf([{ type: "text", text: "a" }, "b", { type: "image" }]), "ab");
});
