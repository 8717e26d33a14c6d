// <gr-graph>: the drawing of a graph, of which the nodes that run now are lit.

import { put, s } from "../lib/dom.js";
import { labelOf, layout, pathOf } from "./layout.js";

const MARGIN = 8;
const CORNER = 8;
let count = 0;

/** Set `graph`, the answer of `assistants/{id}/graph?xray=true`, and `lit` whenever that changes. */
export class Graph extends HTMLElement {
  #boxes = new Map();
  #lit = new Map();

  set graph(graph) {
    const picture = layout(graph, widthOf());
    const name = `gr-graph-${++count}`;
    this.#boxes = new Map();
    const size = { width: picture.width + 2 * MARGIN, height: picture.height + 2 * MARGIN };
    put(this, s("svg", { ...size, viewBox: `${-MARGIN} ${-MARGIN} ${size.width} ${size.height}`, role: "img", "aria-labelledby": name },
      s("title", { id: name }, inWords(graph)),
      s("defs", {}, s("marker", { id: `${name}-tip`, viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "8", markerHeight: "8", orient: "auto-start-reverse" },
        s("path.tip", { d: "M0 0.5L7 4L0 7.5z" }))),
      picture.groups.map((group) => s("g.group", {},
        s("rect", { ...corners(group), rx: CORNER }),
        s("text", { x: group.x - group.width / 2 + 12, y: group.y - group.height / 2 + 18 }, group.label))),
      picture.lines.map((line) => s(`path.line${line.conditional ? ".conditional" : ""}`, { d: pathOf(line), "marker-end": `url(#${name}-tip)` },
        line.label && s("title", {}, line.label))),
      picture.boxes.map((box) => this.#box(box))));
    this.lit = this.#lit;
  }

  /** @param {Map<string, number>} lit how many runs are in each node, by the node's id in the graph */
  set lit(lit) {
    this.#lit = lit;
    const byName = new Map([...this.#boxes.keys()].map((id) => [id.slice(id.lastIndexOf(":") + 1), id]));
    const runs = new Map();
    for (const [id, each] of lit) {
      const known = this.#boxes.has(id) ? id : byName.get(id.slice(id.lastIndexOf(":") + 1));
      if (known) runs.set(known, (runs.get(known) ?? 0) + each);
    }
    for (const [id, { element, number, title }] of this.#boxes) {
      const here = runs.get(id) ?? 0;
      element.classList.toggle("lit", here > 0);
      put(title, here ? `${labelOf(id)}: ${here} run${here === 1 ? "" : "s"} here now` : labelOf(id));
      put(number, here > 1 ? here : "");
    }
  }

  #box(box) {
    const title = s("title", {}, box.label);
    const number = s("text.number", { x: box.x + box.width / 2 - 8, y: box.y - box.height / 2 + 4, "text-anchor": "middle" });
    const element = s(`g.node${box.isEnd ? ".end" : ""}`, { "data-node": box.id }, title,
      s("rect", { ...corners(box), rx: box.isEnd ? box.height / 2 : CORNER }),
      s("text", { x: box.x, y: box.y + 4.5, "text-anchor": "middle" }, box.label), number);
    this.#boxes.set(box.id, { element, number, title });
    return element;
  }
}
customElements.define("gr-graph", Graph);

/** The drawing of a graph. */
export function drawing(graph) {
  const made = document.createElement("gr-graph");
  made.graph = graph;
  return made;
}

/** What the picture shows, for people who do not see it. */
function inWords(graph) {
  const nodes = graph.nodes.map((node) => labelOf(String(node.id)));
  const edges = graph.edges.map(({ source, target, conditional }) =>
    `${labelOf(String(source))} ${conditional ? "may lead" : "leads"} to ${labelOf(String(target))}`);
  return `A graph of ${nodes.join(", ")}. ${edges.join("; ")}.`;
}

const corners = ({ x, y, width, height }) => ({ x: x - width / 2, y: y - height / 2, width, height });

function widthOf() {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `14px ${getComputedStyle(document.body).fontFamily}`;
  return (label) => context.measureText(label).width;
}
