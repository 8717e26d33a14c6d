// The dialog that changes a state: what is saved is an update, as if a node had returned it.

import { api } from "./api.js";
import { dialog } from "./dialogs.js";
import { h, put } from "./dom.js";
import { same } from "./diff.js";
import { json } from "./schema-form.js";
import { segment } from "./router.js";

/**
 * Edits the state at a checkpoint.
 *
 * @param {string} threadId
 * @param {object} state the answer of `GET state`
 * @param {string[]} nodes of the graph, for "as node"
 * @param {boolean} isNewest whether the update goes on from the newest checkpoint, or makes a fork
 * @returns {Promise<object|null>} the checkpoint that was made, or null
 */
export function editState(threadId, state, nodes, isNewest) {
  const before = state.values ?? {};
  const field = json({}, before, 16);
  field.element.setAttribute("aria-label", "State as JSON");
  const as = h("select.field", { "aria-label": "As node" }, h("option", { value: "" }, "the node that ran last"), nodes.map((each) => h("option", each)));
  const told = h("p.hint", { role: "status" });
  const changed = () => {
    const after = field.read() ?? {};
    if (typeof after !== "object" || Array.isArray(after)) throw new Error("A state is an object.");
    const gone = Object.keys(before).filter((key) => !Object.hasOwn(after, key));
    if (gone.length) throw new Error(`A key cannot be taken out of a state: ${gone.join(", ")}. Set it to null.`);
    return Object.fromEntries(Object.entries(after).filter(([key, value]) => !same(value, before[key])));
  };
  field.element.addEventListener("input", () => {
    try {
      const keys = Object.keys(changed());
      put(told, keys.length ? `To be written: ${keys.join(", ")}` : "Nothing is changed yet.");
    } catch (error) {
      put(told, error.message);
    }
  });
  put(told, "Nothing is changed yet.");
  return dialog(isNewest ? "Edit the state" : "Edit the state and fork", [
    h("p.hint", isNewest
      ? "The keys that you change are written as an update, as if a node had returned them. Reducers apply: messages with a known id are replaced, other lists may grow."
      : "This checkpoint stays as it is. The update makes a new one beside what came after it, and the thread goes on from there."),
    field.element, told,
    h("label.labelled", h("span.name", "As if it came from"), as),
  ], {
    accept: isNewest ? "Save" : "Fork",
    async take() {
      const values = changed();
      if (!Object.keys(values).length) throw new Error("Change a value first.");
      return api.post(`threads/${segment(threadId)}/state`, {
        values,
        ...(as.value && { as_node: as.value }),
        ...(!isNewest && { checkpoint_id: state.checkpoint_id ?? state.checkpoint?.checkpoint_id }),
      });
    },
  });
}
