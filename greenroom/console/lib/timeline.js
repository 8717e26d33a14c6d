// A run as a timeline: a row for each thing that it did, and bars on one axis of time.

import { h, put } from "./dom.js";
import { duration, exact } from "./format.js";

const ROWS = 300;
const TICKS = 6;
const WHOLE = new Set(["queued", "starting", "recovering", "running", "paused", "interrupted"]);
const SAYS = { queued: "Queued", starting: "Starting", recovering: "Recovering", running: "Attempt", paused: "Paused", interrupted: "Waits for a human" };

export class Timeline {
  element = h("div.timeline", { role: "img" });

  /**
   * Draws a run.
   *
   * @param {object} told the answer of `GET .../timeline`
   * @param {number} now in ms; what goes on ends here
   */
  draw(told, now = Date.now()) {
    const spans = told.spans.map((each) => ({ ...each, from: Date.parse(each.start), to: each.end ? Date.parse(each.end) : Math.max(now, Date.parse(each.start)) }));
    const begin = Math.min(Date.parse(told.created_at), ...spans.map((each) => each.from));
    const end = Math.max(told.ended_at ? Date.parse(told.ended_at) : now, ...spans.map((each) => each.to), begin + 1);
    const rows = rowsOf(spans, told.attempts ?? []);
    const shown = rows.slice(0, ROWS);
    const at = (ms) => `${(((ms - begin) / (end - begin)) * 100).toFixed(3)}%`;
    const wide = (from, to) => `${(((to - from) / (end - begin)) * 100).toFixed(3)}%`;
    this.element.setAttribute("aria-label", `Timeline of ${duration(end - begin)}, ${rows.length} rows`);
    put(this.element,
      h("div.axis", h("span.label"), h("div.track", ticks(end - begin).map((each) => h("span.tick", { style: { left: at(begin + each) } }, duration(each))))),
      shown.map((row) => h(`div.line.${row.kind}`, { "data-row": row.label },
        h("span.label", { title: row.title, style: { "--depth": row.depth } }, h("span.cut", row.label), row.note && h("span.dim.cut", row.note)),
        h("div.track", row.spans.map((span) => bar(span, at, wide))),
        h("span.took.number.dim", duration(row.spans.reduce((sum, each) => sum + each.to - each.from, 0))))),
      rows.length > ROWS && h("p.hint", `${rows.length - ROWS} more rows are not shown.`));
  }
}

function bar(span, at, wide) {
  const looks = [span.kind, span.error && "bad", span.cut && "cut", !span.end && "open"].filter(Boolean).join(".");
  const told = [`${span.name || SAYS[span.kind]}: ${duration(span.to - span.from)}`, exact(span.from), span.attempt > 1 && `attempt ${span.attempt}`, span.error].filter(Boolean).join("\n");
  return h(`span.bar.${looks}`, { title: told, style: { left: at(span.from), width: wide(span.from, span.to) } });
}

/** One row for each of: waiting, an attempt, and a node of a namespace in an attempt. */
function rowsOf(spans, attempts) {
  const rows = new Map();
  for (const span of spans) {
    const isWhole = WHOLE.has(span.kind);
    const namespace = (span.namespace ?? "").split("|").filter(Boolean).map((each) => each.split(":")[0]);
    // Waiting of one kind is one row for the whole run; an attempt has its own.
    const key = span.kind === "running" ? `running ${span.attempt}` : isWhole ? span.kind : `${namespace.join("/")}/${span.name}`;
    if (!rows.has(key)) rows.set(key, rowOf(span, isWhole, namespace, attempts));
    rows.get(key).spans.push(span);
  }
  return [...rows.values()];
}

function rowOf(span, isWhole, namespace, attempts) {
  const attempt = attempts.find((each) => each.attempt === span.attempt);
  const label = span.kind === "running" ? `Attempt ${span.attempt}` : isWhole ? SAYS[span.kind] : span.name;
  const note = span.kind === "running" ? (attempt?.actor ?? "") : "";
  const title = span.kind === "running"
    ? [`Attempt ${span.attempt}`, attempt?.actor, attempt && `${attempt.host ?? ""} ${attempt.pid ? `pid ${attempt.pid}` : ""}`, attempt?.why].filter(Boolean).join("\n")
    : [...namespace, span.name || SAYS[span.kind]].join(" / ");
  return { kind: isWhole ? span.kind : "node", label, note, title, depth: namespace.length, spans: [] };
}

/** Round times for an axis of this many ms. */
export function ticks(length) {
  const rough = length / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const minutes = [60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3, 7200e3, 21600e3, 86400e3];
  const step = rough > 30e3 ? (minutes.find((each) => each >= rough) ?? 86400e3 * Math.ceil(rough / 86400e3)) : [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = 0; at <= length * 0.96; at += step) found.push(at);
  return found;
}
