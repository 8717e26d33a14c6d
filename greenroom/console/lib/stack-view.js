// The stack of the process that executes a run: which nodes run, and where each thread and task is.

import { h, put } from "./dom.js";
import { time } from "./elements.js";
import { bytes } from "./format.js";

const FRAMES = 60;

/** Shows the answer of `GET .../stack`. */
export function stackView(told) {
  const own = [...(told.threads ?? []), ...(told.tasks ?? []).map((each) => ({ ...each, isTask: true }))];
  own.sort((one, other) => Number(other.of_this_run) - Number(one.of_this_run));
  return h("div.stack",
    h("p.dim", `${told.actor} on ${told.host}, pid ${told.pid}, `, time(told.taken_at), told.by === "signal" ? ". The process did not answer, so a signal has asked it." : "."),
    own.map(part));
}

function part(each) {
  const frames = each.frames ?? [];
  return h("details.thread-part", { open: each.of_this_run },
    h("summary", h(`span.status${each.of_this_run ? ".busy" : ""}`, h("b", each.name)), h("span.tag", each.isTask ? "task" : "thread"), each.node && h("span.tag", each.node),
      each.hidden ? h("span.dim", "belongs to somebody else") : h("span.dim.cut.grow", frames[0] ? `${frames[0].function} · ${file(frames[0])}` : "no frames")),
    h("ol.frames", frames.slice(0, FRAMES).map((frame) => h("li",
      h("div.row", h("b.mono.cut", frame.function), h("span.mono.dim.cut.grow", { title: frame.file }, file(frame))),
      frame.source && h("pre.source", frame.source.trim()))),
    frames.length > FRAMES && h("li.dim", `${frames.length - FRAMES} more frames`)));
}

const file = (frame) => `${String(frame.file).split("/").slice(-2).join("/")}:${frame.line}`;

/** The facts of an executed run, as small tiles: node, memory, CPU. */
export function drawLoad(host, told) {
  const nodes = told?.nodes ?? [];
  put(host,
    tile("Node", nodes.length ? nodes.map((each) => h("div.cut", { title: each.namespace }, each.node, each.since && [" ", h("span.dim", time(each.since))])) : "–"),
    tile("Memory", bytes(told?.memory_bytes ?? NaN)),
    tile("CPU", Number.isFinite(told?.cpu_percent) ? `${Math.round(told.cpu_percent)} %` : "–"));
}

/** A number with its name above. */
export const tile = (name, value, title) => h("div.tile", { title }, h("div.hint", name), h("div.cut.value", value));
