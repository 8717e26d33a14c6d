// What differs between two states, as a list that a person can read. No DOM here.

/**
 * Compares two JSON values.
 *
 * @returns {{path: (string|number)[], kind: "added"|"removed"|"changed", before?: any, after?: any}[]}
 *     in the order of the newer value. Of two lists, items with the same `id` belong together;
 *     without ids, those at the same place from both ends.
 */
export function diff(before, after) {
  const found = [];
  compare(before, after, [], found);
  return found;
}

function compare(before, after, path, found) {
  if (same(before, after)) return;
  if (Array.isArray(before) && Array.isArray(after)) lists(before, after, path, found);
  else if (isObject(before) && isObject(after)) {
    const keys = [...Object.keys(before).filter((key) => !Object.hasOwn(after, key)), ...Object.keys(after)];
    for (const key of keys) {
      if (!Object.hasOwn(after, key)) found.push({ path: [...path, key], kind: "removed", before: before[key] });
      else if (!Object.hasOwn(before, key)) found.push({ path: [...path, key], kind: "added", after: after[key] });
      else compare(before[key], after[key], [...path, key], found);
    }
  } else if (before === undefined) found.push({ path, kind: "added", after });
  else if (after === undefined) found.push({ path, kind: "removed", before });
  else found.push({ path, kind: "changed", before, after });
}

function lists(before, after, path, found) {
  if (ids(before) && ids(after)) {
    const old = new Map(before.map((each) => [each.id, each]));
    const kept = new Set(after.map((each) => each.id));
    before.forEach((each, index) => kept.has(each.id) || found.push({ path: [...path, index], kind: "removed", before: each }));
    after.forEach((each, index) => {
      if (old.has(each.id)) compare(old.get(each.id), each, [...path, index], found);
      else found.push({ path: [...path, index], kind: "added", after: each });
    });
    return;
  }
  let start = 0;
  while (start < before.length && start < after.length && same(before[start], after[start])) start += 1;
  let end = 0;
  while (end < before.length - start && end < after.length - start && same(before.at(-1 - end), after.at(-1 - end))) end += 1;
  const olds = before.slice(start, before.length - end);
  const news = after.slice(start, after.length - end);
  for (let index = 0; index < Math.max(olds.length, news.length); index += 1) {
    const here = [...path, start + index];
    if (index >= news.length) found.push({ path: here, kind: "removed", before: olds[index] });
    else if (index >= olds.length) found.push({ path: here, kind: "added", after: news[index] });
    else compare(olds[index], news[index], here, found);
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

function ids(list) {
  const all = list.map((each) => (isObject(each) ? each.id : undefined));
  return all.every((id) => typeof id === "string") && new Set(all).size === all.length;
}

/** Whether two JSON values are the same, whatever the order of their keys. */
export function same(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => Object.hasOwn(other, key) && same(one[key], other[key]));
}

/** A path as people write it: messages[2].content */
export function pathText(path) {
  return path.map((each, index) => (typeof each === "number" ? `[${each}]` : `${index ? "." : ""}${each}`)).join("") || "(all)";
}
