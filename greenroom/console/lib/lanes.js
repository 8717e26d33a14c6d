// A history with forks as lanes, the way git draws it. No DOM here.

/**
 * Places checkpoints, the newest first, in lanes.
 *
 * @param {{id: string, parent: string|null}[]} all
 * @returns {{id: string, lane: number, lines: {from: number, to: number, half: "top"|"bottom"|"whole"}[], lanes: number}[]}
 *     of each row its lane, and the lines that cross it: from a lane at its top to one at its bottom;
 *     "bottom" begins at the row's own dot, "top" ends there
 */
export function lanes(all) {
  const waiting = []; // by lane: the id that it leads to
  return all.map(({ id, parent }) => {
    const mine = waiting.map((each, lane) => (each === id ? lane : -1)).filter((lane) => lane >= 0);
    const lane = mine[0] ?? free(waiting);
    const lines = [];
    waiting.forEach((each, other) => {
      if (each === null || each === undefined) return;
      if (each === id) lines.push({ from: other, to: lane, half: "top" });
      else lines.push({ from: other, to: other, half: "whole" });
    });
    for (const other of mine) waiting[other] = null;
    waiting[lane] = parent;
    if (parent !== null) lines.push({ from: lane, to: lane, half: "bottom" });
    while (waiting.length && waiting.at(-1) === null) waiting.pop();
    return { id, lane, lines, lanes: Math.max(waiting.length, lane + 1) };
  });
}

function free(waiting) {
  const at = waiting.findIndex((each) => each === null || each === undefined);
  return at < 0 ? waiting.length : at;
}
