// What a checkpoint has changed, so that a person can read it.

import { h } from "./dom.js";
import { tree } from "./elements.js";
import { diff, pathText } from "./diff.js";
import { textOf } from "./format.js";

const SHOWN = 200;
const SIGNS = { added: "+", removed: "−", changed: "~" };

/** Shows how one state became another. */
export function diffView(before, after) {
  const all = diff(before ?? {}, after ?? {});
  if (!all.length) return h("p.dim", "Nothing in the state is changed.");
  return h("div.diff", all.slice(0, SHOWN).map(change), all.length > SHOWN && h("p.dim", `${all.length - SHOWN} more changes are not shown.`));
}

function change({ path, kind, before, after }) {
  const parts = [];
  if (kind !== "added") parts.push(side("old", before));
  if (kind !== "removed") parts.push(side("new", after));
  return h(`div.change.${kind}`, h("div.path", h("span.sign", { title: kind }, SIGNS[kind]), pathText(path)), parts);
}

function side(which, value) {
  return h(`div.${which}`, shown(value));
}

function shown(value) {
  // A message is read before it is taken apart.
  if (value && typeof value === "object" && typeof value.type === "string" && "content" in value) {
    const text = textOf(value.content);
    const calls = (value.tool_calls ?? []).map((call) => `${call.name}(${JSON.stringify(call.args)})`);
    return [h("span.tag", value.type), " ", h("span.string", text || calls.join("\n") || "(empty)"), tree(value, 0)];
  }
  if (typeof value === "object" && value !== null) return tree(value, 2);
  return h("span.string", typeof value === "string" ? value : String(value));
}
