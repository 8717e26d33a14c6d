// Lays out graphs at random and some that people write; prints what is wrong with a picture.
//   node layout_checks.mjs <graphs> <seed>
import { layout, pathOf } from "../../greenroom/console/drawing/layout.js";

const [graphs, seed] = process.argv.slice(2).map(Number);

// mulberry32: the same graphs for the same seed.
let state = seed;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pick = (list) => list[Math.floor(random() * list.length)];

function arbitrary() {
  const names = ["__start__", "__end__"];
  const count = 1 + Math.floor(random() * 12);
  for (let n = 0; n < count; n++) {
    const depth = random() < 0.3 ? 1 + Math.floor(random() * 2) : 0;
    names.push(["crew", "desk"].slice(0, depth).concat(`n${n}${"x".repeat(random() * 20)}`).join(":"));
  }
  const edges = [];
  for (let n = 0; n < count * 2; n++) {
    edges.push({ source: pick(names), target: pick(names), conditional: random() < 0.3 });
  }
  return { nodes: names.map((id) => ({ id })), edges };
}

const box = ({ x, y, width, height }) => [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
const apart = (a, b) => a[2] <= b[0] + 0.1 || b[2] <= a[0] + 0.1 || a[3] <= b[1] + 0.1 || b[3] <= a[1] + 0.1;
const holds = (a, b) => a[0] <= b[0] + 0.1 && a[1] <= b[1] + 0.1 && a[2] >= b[2] - 0.1 && a[3] >= b[3] - 0.1;

function faults(graph) {
  const found = [];
  const { width, height, boxes, groups, lines } = layout(graph);
  const canvas = [0, 0, width, height];
  const placed = [...boxes, ...groups];
  if (boxes.length !== graph.nodes.length) found.push(`${boxes.length} boxes of ${graph.nodes.length}`);
  for (const one of placed) {
    if (!holds(canvas, box(one))) found.push(`${one.id} is outside: ${box(one)} of ${canvas}`);
    for (const other of placed) {
      if (one.id >= other.id) continue;
      const inside = other.id.startsWith(`${one.id}:`);
      if (inside && !holds(box(one), box(other))) found.push(`${other.id} leaves ${one.id}`);
      if (!inside && !apart(box(one), box(other))) found.push(`${one.id} covers ${other.id}`);
    }
  }
  for (const line of lines) {
    const path = pathOf(line);
    if (/NaN|undefined|Infinity/.test(path)) found.push(`${line.source} to ${line.target}: ${path}`);
    const ys = line.points.map(([, y]) => y);
    if (!line.isBack && ys.some((y, n) => n > 0 && y < ys[n - 1] - 0.1)) {
      found.push(`${line.source} to ${line.target} leads up: ${ys}`);
    }
    for (const [x, y] of line.points) {
      if (!holds(canvas, [x, y, x, y])) found.push(`${line.source} to ${line.target} leaves at ${x}, ${y}`);
    }
  }
  return found;
}

let asked = 0;
for (let n = 0; n < graphs; n++) {
  const graph = arbitrary();
  const found = faults(graph);
  asked++;
  if (found.length) {
    console.log(JSON.stringify({ graph, found }, null, 1));
    process.exit(1);
  }
}

// A loop, as of an agent with tools: the way back is beside the way there.
const agent = layout({
  nodes: ["__start__", "agent", "tools", "__end__"].map((id) => ({ id })),
  edges: [
    { source: "__start__", target: "agent" },
    { source: "agent", target: "tools", conditional: true },
    { source: "tools", target: "agent" },
    { source: "agent", target: "__end__", conditional: true },
  ],
});
console.log(JSON.stringify({ asked, agent, empty: layout({ nodes: [], edges: [] }) }));
