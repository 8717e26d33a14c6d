// Places the nodes of a graph in layers, from top to bottom, and the lines between them.
//
// A subgraph ("child:node" of ?xray=true) is laid out first, as a graph of its own; outside it is one
// box. Lines that lead back get a way of their own, beside the boxes. Within a layer the order is the
// one with the fewest crossings of some sweeps, and the places are as near to the neighbours as the
// gaps allow. Pure: numbers in, numbers out.

export const GAP = { x: 24, y: 40, within: 16, title: 24, bend: 28 };
const BOX = { height: 32, padding: 16, least: 64 };
const SWEEPS = 8;
const SEPARATOR = ":";
const ENDS = { __start__: "start", __end__: "end" };

/**
 * @param {{nodes: {id: string}[], edges: {source: string, target: string, conditional?: boolean, data?: string}[]}} graph
 * @param {(label: string) => number} measure the width of a label in pixels
 * @returns {{width: number, height: number, boxes: object[], groups: object[], lines: object[]}}
 *   boxes have the middle (x, y), width and height; lines have the path of an SVG.
 */
export function layout(graph, measure = (label) => label.length * 7.5) {
  const ids = graph.nodes.map((node) => String(node.id));
  const known = new Set(ids);
  const edges = graph.edges
    .map((edge) => ({ ...edge, source: String(edge.source), target: String(edge.target) }))
    .filter((edge) => known.has(edge.source) && known.has(edge.target));
  const placed = { boxes: [], groups: [], lines: [] };
  const size = within(ids, edges, 0, measure, placed);
  return { width: size.width, height: size.height, ...placed };
}

export function labelOf(id) {
  const name = id.slice(id.lastIndexOf(SEPARATOR) + 1);
  return ENDS[name] ?? name;
}

/** Lays out what is `depth` subgraphs deep; adds it to `placed`, with its corner at 0, 0. */
function within(ids, edges, depth, measure, placed) {
  const items = new Map();
  for (const id of ids) {
    const path = id.split(SEPARATOR);
    const isGroup = path.length > depth + 1;
    const name = path.slice(0, depth + 1).join(SEPARATOR);
    const key = isGroup ? `${name}${SEPARATOR}` : name;
    if (!items.has(key)) items.set(key, { key, id: name, isGroup, members: [] });
    items.get(key).members.push(id);
  }
  const itemOf = new Map();
  for (const item of items.values()) for (const id of item.members) itemOf.set(id, item.key);
  for (const item of items.values()) {
    if (item.isGroup) {
      const inner = edges.filter((e) => itemOf.get(e.source) === item.key && itemOf.get(e.target) === item.key);
      item.inside = { boxes: [], groups: [], lines: [] };
      const size = within(item.members, inner, depth + 1, measure, item.inside);
      item.width = Math.max(size.width, measure(labelOf(item.id)) + BOX.padding) + 2 * GAP.within;
      item.height = size.height + 2 * GAP.within + GAP.title;
      item.indent = (item.width - size.width) / 2;
    } else {
      item.width = Math.max(BOX.least, Math.ceil(measure(labelOf(item.id))) + 2 * BOX.padding);
      item.height = BOX.height;
    }
  }
  const between = edges
    .map((edge) => ({ ...edge, from: itemOf.get(edge.source), to: itemOf.get(edge.target) }))
    .filter((edge) => edge.from !== edge.to || !items.get(edge.from).isGroup);
  const size = place([...items.values()], between, items);
  for (const item of items.values()) settle(item, placed);
  for (const edge of between) placed.lines.push(line(edge, items));
  return size;
}

function settle(item, placed) {
  const { id, x, y, width, height } = item;
  if (!item.isGroup) {
    const isEnd = (id.slice(id.lastIndexOf(SEPARATOR) + 1)) in ENDS;
    placed.boxes.push({ id, label: labelOf(id), isEnd, x, y, width, height });
    return;
  }
  placed.groups.push({ id, label: labelOf(id), x, y, width, height });
  const dx = x - width / 2 + item.indent;
  const dy = y - height / 2 + GAP.within + GAP.title;
  const moved = (each) => ({ ...each, x: each.x + dx, y: each.y + dy });
  placed.boxes.push(...item.inside.boxes.map(moved));
  placed.groups.push(...item.inside.groups.map(moved));
  placed.lines.push(...item.inside.lines.map((each) => ({ ...each, points: each.points.map(([px, py]) => [px + dx, py + dy]) })));
}

/** Gives each item its middle; an edge gets `way`, the points that it passes, or `isBack`. */
function place(items, edges, byKey) {
  for (const edge of edges) edge.isBack = edge.from === edge.to;
  markLoops(items, edges);
  const forward = edges.filter((edge) => !edge.isBack);
  const depth = depths(items, forward);
  const layers = Array.from({ length: 1 + Math.max(-1, ...depth.values()) }, () => []);
  for (const item of items) layers[depth.get(item.key)].push({ item, width: item.width, height: item.height, up: [], down: [] });
  const cellOf = new Map(layers.flat().map((cell) => [cell.item.key, cell]));
  for (const edge of forward) {
    edge.cells = [cellOf.get(edge.from)];
    for (let n = depth.get(edge.from) + 1; n < depth.get(edge.to); n++) {
      const cell = { width: 8, height: 0, up: [], down: [] };
      layers[n].push(cell);
      edge.cells.push(cell);
    }
    edge.cells.push(cellOf.get(edge.to));
    edge.cells.slice(1).forEach((cell, n) => {
      cell.up.push(edge.cells[n]);
      edge.cells[n].down.push(cell);
    });
  }
  sort(layers);
  const width = spread(layers);
  let y = 0;
  for (const layer of layers) {
    const height = Math.max(...layer.map((cell) => cell.height));
    for (const cell of layer) Object.assign(cell, { y: y + height / 2, top: y, bottom: y + height });
    y += height + GAP.y;
  }
  const backs = edges.filter((edge) => edge.isBack);
  const ways = { left: 0, right: 0 };
  for (const edge of backs) {
    const middle = (cellOf.get(edge.from).x + cellOf.get(edge.to).x) / 2;
    edge.side = middle < width / 2 - 1 ? "left" : "right";
    ways[edge.side] += 1;
    edge.lane = edge.side === "left" ? -GAP.bend * ways.left : width + GAP.bend * ways.right;
  }
  const room = (side) => (ways[side] ? GAP.bend * (ways[side] + 0.5) : 0);
  const shift = room("left");
  for (const cell of layers.flat()) {
    cell.x += shift;
    if (cell.item) Object.assign(cell.item, { x: cell.x, y: cell.y });
  }
  for (const edge of backs) edge.lane += shift;
  return { width: width + shift + room("right"), height: Math.max(0, y - GAP.y) };
}

/** Marks the edges that lead back to an item on the way to them. */
function markLoops(items, edges) {
  const after = new Map(items.map((item) => [item.key, edges.filter((edge) => edge.from === item.key)]));
  const state = new Map();
  const walk = (key) => {
    state.set(key, "open");
    for (const edge of after.get(key)) {
      if (state.get(edge.to) === "open") edge.isBack = true;
      else if (!state.has(edge.to)) walk(edge.to);
    }
    state.set(key, "done");
  };
  const targets = new Set(edges.map((edge) => edge.to));
  const first = [...items].sort((a, b) => targets.has(a.key) - targets.has(b.key));
  for (const item of first) if (!state.has(item.key)) walk(item.key);
}

/** The longest way to each item; the end is below everything. */
function depths(items, edges) {
  const depth = new Map(items.map((item) => [item.key, 0]));
  for (let again = true, rounds = 0; again && rounds <= items.length; rounds++) {
    again = false;
    for (const { from, to } of edges) {
      if (depth.get(to) <= depth.get(from)) {
        depth.set(to, depth.get(from) + 1);
        again = true;
      }
    }
  }
  const end = items.find((item) => !item.isGroup && item.id.endsWith("__end__"));
  if (end && items.length > 1 && !edges.some((edge) => edge.from === end.key)) {
    depth.set(end.key, 1 + Math.max(...items.filter((item) => item !== end).map((item) => depth.get(item.key))));
  }
  return depth;
}

function sort(layers) {
  const number = () => layers.forEach((layer) => layer.forEach((cell, n) => (cell.order = n)));
  number();
  let best = { crossings: crossings(layers), order: layers.map((layer) => [...layer]) };
  for (let sweep = 0; sweep < SWEEPS && best.crossings > 0; sweep++) {
    const side = sweep % 2 ? "down" : "up";
    for (const layer of sweep % 2 ? [...layers].reverse() : layers) {
      const wish = new Map(layer.map((cell) => [cell, mean(cell[side].map((each) => each.order)) ?? cell.order]));
      layer.sort((a, b) => wish.get(a) - wish.get(b) || a.order - b.order);
      layer.forEach((cell, n) => (cell.order = n));
    }
    const count = crossings(layers);
    if (count < best.crossings) best = { crossings: count, order: layers.map((layer) => [...layer]) };
  }
  best.order.forEach((layer, n) => layers[n].splice(0, layer.length, ...layer));
  number();
}

function crossings(layers) {
  let count = 0;
  for (const layer of layers) {
    const lines = layer.flatMap((cell) => cell.down.map((below) => [cell.order, below.order]));
    for (let a = 0; a < lines.length; a++) {
      for (let b = a + 1; b < lines.length; b++) {
        if ((lines[a][0] - lines[b][0]) * (lines[a][1] - lines[b][1]) < 0) count++;
      }
    }
  }
  return count;
}

/** Gives each cell its middle `x`, near those above and below; returns the width of all. */
function spread(layers) {
  for (const layer of layers) {
    let x = 0;
    for (const cell of layer) {
      cell.x = x + cell.width / 2;
      x += cell.width + GAP.x;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const side = sweep % 2 ? "down" : "up";
    for (const layer of sweep % 2 ? [...layers].reverse() : layers) {
      const wishes = layer.map((cell) => mean(cell[side].map((each) => each.x)) ?? cell.x);
      nearest(layer, wishes).forEach((x, n) => (layer[n].x = x));
    }
  }
  const cells = layers.flat();
  if (!cells.length) return 0;
  const left = Math.min(...cells.map((cell) => cell.x - cell.width / 2));
  for (const cell of cells) cell.x -= left;
  return Math.max(...cells.map((cell) => cell.x + cell.width / 2));
}

/** The places nearest to the wishes (least squares) that keep order and gaps: violators are pooled. */
function nearest(layer, wishes) {
  let offset = 0;
  const offsets = layer.map((cell, n) => {
    if (n > 0) offset += layer[n - 1].width / 2 + GAP.x + cell.width / 2;
    return offset;
  });
  const pools = [];
  wishes.forEach((wish, n) => {
    pools.push({ sum: wish - offsets[n], count: 1 });
    while (pools.length > 1) {
      const [before, last] = pools.slice(-2);
      if (before.sum / before.count <= last.sum / last.count) break;
      pools.splice(-2, 2, { sum: before.sum + last.sum, count: before.count + last.count });
    }
  });
  return pools
    .flatMap((pool) => Array.from({ length: pool.count }, () => pool.sum / pool.count))
    .map((x, n) => x + offsets[n]);
}

function line(edge, items) {
  const { source, target, conditional = false, data = null } = edge;
  const told = { source, target, conditional, label: data };
  if (edge.isBack) {
    const [from, to] = [items.get(edge.from), items.get(edge.to)];
    const low = from === to ? from.height / 4 : 0;
    const out = edge.side === "left" ? -1 / 2 : 1 / 2;
    const start = [from.x + from.width * out, from.y + low];
    const end = [to.x + to.width * out, to.y - low];
    return { ...told, isBack: true, points: [start, [edge.lane, start[1]], [edge.lane, end[1]], end] };
  }
  const cells = edge.cells;
  const points = [[cells[0].x, cells[0].y + cells[0].height / 2]];
  for (const cell of cells.slice(1, -1)) points.push([cell.x, cell.top], [cell.x, cell.bottom]);
  const last = cells[cells.length - 1];
  points.push([last.x, last.y - last.height / 2]);
  return { ...told, isBack: false, points };
}

/** The `d` of an SVG path through the points of a line. */
export function pathOf({ points, isBack }) {
  const [first, ...others] = points.map(([x, y]) => [round(x), round(y)]);
  if (isBack) {
    const [, , end] = others;
    const bend = 8 * Math.sign(end[1] - first[1] || -1);
    const lane = others[0][0];
    const near = lane - 8 * Math.sign(lane - first[0]);
    return (
      `M${first} H${near} Q${lane},${first[1]} ${lane},${first[1] + bend}` +
      ` V${end[1] - bend} Q${lane},${end[1]} ${near},${end[1]} H${end[0]}`
    );
  }
  let path = `M${first}`;
  let [x, y] = first;
  for (const [nextX, nextY] of others) {
    const middle = round((y + nextY) / 2);
    path += x === nextX ? ` L${nextX},${nextY}` : ` C${x},${middle} ${nextX},${middle} ${nextX},${nextY}`;
    [x, y] = [nextX, nextY];
  }
  return path;
}

function mean(numbers) {
  return numbers.length ? numbers.reduce((sum, each) => sum + each, 0) / numbers.length : undefined;
}

function round(number) {
  return Math.round(number * 10) / 10;
}
