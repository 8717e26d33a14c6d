// A row of bars over time, as SVG.

import { s } from "../lib/dom.js";
import { exact } from "../lib/format.js";

const HEIGHT = 56;
const STEP = 10;
const GAP = 2;

/**
 * @param {{at: string, parts: number[]}[]} steps from old to new; the parts of a bar stand on each other
 * @param {{label: string, names: string[]}} told the names of the parts, also in the tooltips
 */
export function bars(steps, { label, names }) {
  const most = Math.max(1, ...steps.map(({ parts }) => sum(parts)));
  const total = names.map((name, at) => `${sum(steps.map(({ parts }) => parts[at]))} ${name}`).join(", ");
  return s("svg.bars", { viewBox: `0 0 ${Math.max(1, steps.length) * STEP} ${HEIGHT}`, height: HEIGHT, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${total}` },
    steps.map(({ at, parts }, number) => {
      let top = HEIGHT;
      const told = `${exact(at)}: ${names.map((name, part) => `${parts[part]} ${name}`).join(", ")}`;
      return s("g", {}, s("title", {}, told),
        s("rect.ground", { x: number * STEP, y: 0, width: STEP - GAP, height: HEIGHT }),
        parts.map((part, which) => {
          const height = part > 0 ? Math.max(2, (part / most) * HEIGHT) : 0;
          top -= height;
          return s(`rect.part${which}`, { x: number * STEP, y: top, width: STEP - GAP, height });
        }));
    }));
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
