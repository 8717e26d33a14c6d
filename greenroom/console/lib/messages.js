// A conversation on screen: messages of people, models and tools, also while they are written.

import { button, h, put } from "./dom.js";
import { tree } from "./elements.js";
import { oneLine, textOf } from "./format.js";
import { markdown, MarkdownFlow } from "./markdown.js";

const SHOWN = 80;

/** The conversation of a thread. Messages that did not change keep their nodes. */
export class Conversation {
  element = h("div.conversation");
  #known = new Map();
  #limit = SHOWN;
  #messages = [];

  draw(messages) {
    this.#messages = messages;
    const results = new Map(messages.filter((each) => each.type === "tool").map((each) => [each.tool_call_id, each]));
    const called = new Set(messages.flatMap((each) => callsOf(each).map((call) => call.id)));
    // The result of a tool is shown within its call.
    const all = messages.filter((each) => !(each.type === "tool" && called.has(each.tool_call_id)));
    const shown = all.slice(-this.#limit);
    const nodes = shown.map((message, index) => this.#node(message, message.id ?? `at ${all.length - shown.length + index}`, results));
    const earlier = all.length - shown.length;
    if (earlier) nodes.unshift(this.#more(earlier));
    sync(this.element, nodes);
  }

  #more(count) {
    this.more ??= button("", { small: true, quiet: true, onclick: () => {
      this.#limit += SHOWN * 2;
      this.draw(this.#messages);
    } });
    return put(this.more, `Show ${Math.min(count, SHOWN * 2)} of ${count} earlier messages`);
  }

  #node(message, key, results) {
    const answers = callsOf(message).map((call) => results.get(call.id));
    const mark = message.isLive ? null : JSON.stringify([message, answers]);
    let known = this.#known.get(key);
    if (known && mark !== null && known.mark === mark) return known.element;
    if (!known || !message.isLive || !known.isLive) {
      known = { element: h(`article.message.${roleOf(message)}`), flow: null };
      this.#known.set(key, known);
    }
    known.mark = mark;
    known.isLive = message.isLive;
    if (message.isLive) drawLive(known, message);
    else put(known.element, parts(message, answers));
    return known.element;
  }
}

/** Makes the children of an element be `nodes`, and moves only what is not in its place. */
export function sync(element, nodes) {
  nodes.forEach((node, index) => {
    if (element.children[index] !== node) element.insertBefore(node, element.children[index] ?? null);
  });
  while (element.children.length > nodes.length) element.lastChild.remove();
}

const roleOf = (message) => ({ human: "human", user: "human", ai: "ai", assistant: "ai", AIMessageChunk: "ai", tool: "tool", system: "system" }[message.type ?? message.role] ?? "other");

const WHO = { human: "You", ai: "Model", tool: "Tool", system: "System", other: "Message" };

function callsOf(message) {
  if (message.tool_calls?.length) return message.tool_calls;
  if (!Array.isArray(message.content)) return [];
  return message.content.filter((block) => block?.type === "tool_call" || block?.type === "tool_use" || block?.type === "tool_call_chunk");
}

function parts(message, answers) {
  const role = roleOf(message);
  const text = textOf(message.content);
  const made = [h("span.who", message.name ?? WHO[role])];
  if (role === "tool") made.push(h("pre.code", text));
  else if (text) made.push(role === "ai" || role === "system" ? markdown(text) : h("div.prose.plain", text));
  for (const block of Array.isArray(message.content) ? message.content : []) made.push(other(block));
  callsOf(message).forEach((call, index) => made.push(callView(call, answers[index])));
  if (message.isError) made.push(h("p.problem", message.isError));
  return made;
}

/** Blocks that are neither text nor calls: reasoning, pictures, and what else models send. */
function other(block) {
  if (typeof block !== "object" || block === null) return null;
  if (block.type === "reasoning" || block.type === "thinking") {
    return h("details.call", h("summary", h("span.dim", "Reasoning")), h("div.prose.plain.dim", block.reasoning ?? block.thinking ?? ""));
  }
  const address = block.image_url?.url ?? block.url;
  if (/^data:image\/(png|jpeg|gif|webp);base64,/.test(address ?? "")) return h("img.picture", { src: address, alt: "A picture in the message" });
  if (["text", "tool_call", "tool_use", "tool_call_chunk"].includes(block.type)) return null;
  return h("details.call", h("summary", block.type ?? "Block"), tree(block));
}

function callView(call, answer) {
  const args = call.args ?? call.input ?? {};
  const told = typeof args === "string" ? args : Object.entries(args).map(([key, value]) => `${key}: ${oneLine(value, 40)}`).join(", ");
  const failed = answer?.status === "error";
  return h("details.call", { "data-tool": call.name },
    h("summary", h(`span.status${answer ? (failed ? ".bad" : ".ok") : ".busy"}`, h("b", call.name ?? "tool")), h("span.dim.cut.grow", `(${told})`),
      answer && h("span.cut.result", oneLine(textOf(answer.content), 80))),
    h("div.inside", typeof args === "string" ? h("pre.code", args) : tree(args, 2), answer && [h("h3", failed ? "Error" : "Result"), h("pre.code", textOf(answer.content))]));
}

function drawLive(known, message) {
  if (!known.flow) {
    known.flow = new MarkdownFlow();
    known.calls = h("div.stack");
    put(known.element, h("span.who", message.namespace?.length ? `${WHO.ai} · ${message.namespace.at(-1).split(":")[0]}` : WHO.ai), known.flow.element, known.calls);
    known.element.setAttribute("aria-busy", "true");
  }
  known.flow.set(textOf(message.content));
  const calls = callsOf(message);
  const mark = JSON.stringify(calls);
  if (known.callsMark !== mark) put(known.calls, calls.map((call) => callView(call)));
  known.callsMark = mark;
}
