// What the server does at this moment: pools, actors, the queue, rates, deaths. One question,
// `GET /runtime`, every two seconds, while somebody looks.

import { api, ApiError, poll } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { id, status, time } from "../lib/elements.js";
import { bytes, duration, number } from "../lib/format.js";
import { listKeys } from "../lib/keys.js";
import { empty, head, Page } from "../lib/page.js";
import { keep } from "../lib/rows.js";
import { link, segment } from "../lib/router.js";
import { bars } from "../drawing/bars.js";

const EVERY_MS = 2000;
const MOST_SLOTS = 32;

export default class Now extends Page {
  open() {
    this.at = h("span.dim.updated");
    this.problem = h("p.problem", { role: "alert" });
    this.tiles = ["Running", "Waiting", "Wait for a person", "Runs per second", "First event after", "Time in the queue"].map((name) => new Tile(name));
    this.chart = h("div.chart");
    this.pools = list("pools", ["Graphs", "Slots", "Runs per actor", "Actors"], ["name", "slots", "rest each number", "many number"]);
    this.actors = list("actors", ["Actor", "State", "Executes", "Memory", "CPU", "Host and process", "Since"],
      ["name", "state", "runs", "rest size number", "rest cpu number", "rest host", "when number rest"]);
    this.queue = list("queue", ["Run", "Graph", "Waits for", "Since"], ["who", "rest graph", "why", "when number"]);
    this.deaths = list("deaths", ["Actor", "What happened", "Run", "When"], ["name", "what", "rest who", "when number"]);
    this.append(
      head({ title: "Now", actions: [this.at, h("span.row.phone", link("crons", { class: "button small" }, "Crons"), link("webhooks", { class: "button small" }, "Webhooks"))] }),
      h("div.body",
        this.problem,
        h("section.tiles", { "aria-label": "Totals" }, this.tiles.map((tile) => tile.element)),
        card("Runs of the last ten minutes", this.chart),
        card("Pools", this.pools.table),
        card("Actors", this.actors.table),
        card("Queue", this.queue.table),
        card("Deaths", this.deaths.table)));
    listKeys(() => [...this.querySelectorAll(".actors tbody tr, .queue tbody tr")], this.signal);
    return poll(() => this.#load(), EVERY_MS, this.signal);
  }

  async #load() {
    try {
      const now = await api.get("runtime", { signal: this.signal });
      put(this.problem, now.problem ? `No new actor starts: ${now.problem}` : "");
      this.#show(now);
      this.ready();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      put(this.problem, `${error.message} What is shown may be old.`);
    }
  }

  #show(now) {
    put(this.at, "Updated ", time(now.at));
    this.#totals(now);
    put(this.chart, bars(now.rates.map((each) => ({ at: each.at, parts: [each.ended - each.failed, each.failed] })),
      { label: "Runs that ended, in steps of ten seconds", names: ["ended well", "failed"] }));
    this.pools.show(now.pools, pool, (each) => each.name, "No pools", "A pool is made with its first graph.");
    this.actors.show(now.actors, actor, (each) => each.name, "No actors", "An actor starts with the first run.");
    this.queue.show(now.queue, waiting, (each) => each.run_id, "Nobody waits", "A run waits while another one is on its thread, or while all slots are taken.");
    this.deaths.show(now.deaths, death, (each) => `${each.at} ${each.actor}`, "Nobody has died", "An actor whose process ends is replaced, and its runs go on elsewhere.");
  }

  #totals({ totals, rates, latency, at }) {
    const [running, waiting, asking, perSecond, first, queued] = this.tiles;
    running.show(number(totals.running));
    waiting.show(number(totals.pending));
    asking.show(totals.interrupted ? link("inbox", { class: "link" }, number(totals.interrupted)) : "0");
    perSecond.show(rate(rates, at).toFixed(1), "last minute");
    first.show(...quantiles(latency.first_event_ms));
    queued.show(...quantiles(latency.queued_ms));
  }
}

/** Runs that ended in a second, of the last whole minute. */
function rate(rates, at) {
  const since = new Date(at).getTime() - 60_000;
  const ended = rates.filter((each) => new Date(each.at).getTime() >= since).reduce((sum, each) => sum + each.ended, 0);
  return ended / 60;
}

const quantiles = (of) => (of?.p50 == null ? ["–", "no run yet"] : [duration(of.p50), `95 % within ${duration(of.p95)}`]);

class Tile {
  constructor(name) {
    this.value = h("dd.value", h("div.bone"));
    this.more = h("dd.more.dim");
    this.element = h("dl.card.tile", h("dt", name), this.value, this.more);
  }

  show(value, more = "") {
    put(this.value, value);
    put(this.more, more);
  }
}

const card = (title, content) => h("section.card", { "aria-label": title }, h("header", h("h2", title)), content);

/** A table that says so when it is empty. */
function list(name, heads, looks) {
  const body = h("tbody", Array.from({ length: 2 }, () => h("tr", looks.map((look) => h("td", { class: look }, h("div.bone"))))));
  const table = h(`table.list.${name}`, h("thead", h("tr", heads.map((each, at) => h("th", { class: looks[at], scope: "col" }, each)))), body);
  return {
    table,
    show(items, cells, key, title, sentence) {
      if (items.length) {
        const draw = (item) => h("tr", cells(item).map((cell, at) => h("td", { class: looks[at] }, cell)));
        return keep(body, items, { key, draw });
      }
      if (!body.querySelector(".none")) put(body, h("tr.none", h("td", { colSpan: heads.length }, empty(title, sentence))));
    },
  };
}

function pool({ name, graphs, runs_per_actor: each, overflow, overflowing, actors, idle, busy, starting, limit }) {
  const shown = Math.min(actors, MOST_SLOTS);
  const looks = [...Array(busy).fill("busy"), ...Array(idle).fill("idle"), ...Array(starting).fill("starting")];
  const words = `${busy} busy, ${idle} idle, ${starting} starting`;
  return [
    h("span", { title: graphs.join("\n") || name }, graphs.join(", ") || name),
    h("span.row", h("span.squares", { role: "img", "aria-label": words, title: words }, looks.slice(0, shown).map((look) => h(`i.${look}`))), h("span.dim", words)),
    overflow ? h("span", { title: `Up to ${overflow} more in a burst` }, `${each} + ${overflowing} of ${overflow}`) : each,
    `${actors}${limit ? ` of ${limit}` : ""}`,
  ];
}

const STATES = { starting: "warn", retiring: "warn" };

function actor(each) {
  return [
    h("span.mono", { title: each.name }, each.name),
    each.kind === "run" ? h(`span.status.${STATES[each.state] ?? (each.runs_total ? "busy" : "idle")}`, each.runs_total && each.state === "ready" ? "busy" : each.state) : h("span.status", each.kind),
    executes(each),
    each.memory_bytes == null ? "–" : bytes(each.memory_bytes),
    each.cpu_percent == null ? "–" : `${Math.round(each.cpu_percent)} %`,
    h("span.dim", each.host ? `${each.host} · ${each.pid ?? "–"}` : "–", each.debug_port ? ` · debugpy ${each.debug_port}` : ""),
    time(each.since),
  ];
}

function executes({ runs, runs_total: total, kind }) {
  if (!runs.length && !total) return h("span.dim", kind === "run" ? "nothing" : "");
  const others = (total ?? runs.length) - runs.length;
  return h("span.row",
    runs.map((run) => h("span.row", link(`threads/${segment(run.thread_id)}/runs/${run.run_id}`, { class: "link" }, id(run.run_id)),
      run.paused ? status("paused") : h("span.tag", run.node ?? run.graph_id))),
    others > 0 && h("span.dim", `${others} of others`));
}

function waiting({ run_id: run, thread_id: thread, graph_id: graph, since, waits_for: what }) {
  return [
    link(`threads/${segment(thread)}/runs/${run}`, { class: "link" }, id(run)),
    graph,
    reason(thread, what ?? {}),
    time(since),
  ];
}

function reason(thread, { kind, run_id: before, until }) {
  if (kind === "run") return ["the run before it", before && [" ", link(`threads/${segment(thread)}/runs/${before}`, { class: "link" }, id(before))]];
  if (kind === "time") return ["its time, ", time(until)];
  if (kind === "slot") return "a free slot";
  return kind ?? "–";
}

function death({ at, actor: name, what, run_id: run, thread_id: thread }) {
  return [
    h("span.mono", { title: name }, name),
    h("span", { title: what }, what),
    run ? link(`threads/${segment(thread)}/runs/${run}`, { class: "link" }, id(run)) : "–",
    time(at),
  ];
}
