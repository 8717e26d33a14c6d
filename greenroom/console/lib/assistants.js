// The names of assistants, each asked for once.

import { api } from "./api.js";
import { h, put } from "./dom.js";
import { short } from "./format.js";
import { link } from "./router.js";

const known = new Map();

/** An assistant, or null when it is not there. */
export function assistantOf(id) {
  if (!known.has(id)) {
    const asked = api.get(`assistants/${encodeURIComponent(id)}`).catch(() => null);
    known.set(id, asked);
    asked.then((found) => found ?? known.delete(id)); // it may come, and others may see it
  }
  return known.get(id);
}

/** A link to an assistant, which shows its name as soon as that is known. */
export function assistantLink(id) {
  if (!id) return h("span.dim", "–");
  const made = link(`assistants/${id}`, { class: "link", title: id }, short(id));
  assistantOf(id).then((found) => found && put(made, found.name));
  return made;
}
