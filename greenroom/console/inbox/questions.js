// What a thread asks a person, and which answers there are. No DOM here.
//
// A graph asks with `interrupt(value)`. Three forms of `value` are known well enough to offer more
// than a field: a review of tool calls (LangChain's `HumanInTheLoopMiddleware`, one question for a
// turn or one for each call) and the older `HumanInterrupt` of agent inboxes.

export const DECISIONS = { approve: "Approve", edit: "Edit", respond: "Answer for it", reject: "Refuse" };

/** A field of this name says by itself whether something is allowed. */
const CONSENT = /^(is_)?(approved?|accept(ed)?|allow(ed)?|confirm(ed)?|grant(ed)?|ok)$/i;

/**
 * @param {{interrupts?: Record<string, {id: string, value: any, response_schema?: object}[]>}} thread
 * @returns {object[]} each with `id`, `value`, `schema` (or null), `actions` (or null) and, with
 *     actions, `answer(decisions)`
 */
export function questionsOf(thread) {
  return Object.values(thread.interrupts ?? {}).flat().map(({ id, value, response_schema: schema }) => ({
    id, value, schema: schema ?? null, actions: null, ...(review(value, schema) ?? {}),
  }));
}

function review(value, schema) {
  if (value?.type === "tool_approval" && typeof value.name === "string") {
    const action = { name: value.name, args: value.args ?? {}, description: value.description, allowed: allowedBy(schema) };
    return { actions: [action], answer: ([decision]) => decided(action, decision) };
  }
  if (Array.isArray(value?.action_requests) && value.action_requests.length) {
    const rules = new Map((value.review_configs ?? []).map((each) => [each.action_name, each.allowed_decisions]));
    const actions = value.action_requests.map((each) => ({
      name: each.name, args: each.args ?? each.arguments ?? {}, description: each.description, allowed: known(rules.get(each.name)),
    }));
    return { actions, answer: (decisions) => ({ decisions: decisions.map((each, at) => decided(actions[at], each)) }) };
  }
  const asked = Array.isArray(value) ? value : [value];
  if (asked.length && asked.every((each) => typeof each?.action_request?.action === "string")) {
    const actions = asked.map(({ action_request: request, config = {}, description }) => ({
      name: request.action, args: request.args ?? {}, description, allowed: known([
        config.allow_accept && "approve", config.allow_edit && "edit", config.allow_respond && "respond", config.allow_ignore && "reject",
      ].filter(Boolean)),
    }));
    return { actions, answer: (decisions) => decisions.map((each, at) => inboxAnswer(actions[at], each)) };
  }
  return null;
}

const known = (decisions) => {
  const found = Object.keys(DECISIONS).filter((each) => decisions?.includes(each));
  return found.length ? found : ["approve", "edit", "reject"];
};

/** The decisions that the schema of an answer has, by the constants of its `type`. */
function allowedBy(schema) {
  return known(Object.keys(DECISIONS).filter((each) => JSON.stringify(schema ?? {}).includes(`"const":"${each}"`)));
}

function decided(action, { type, args, message }) {
  if (type === "edit") return { type, edited_action: { name: action.name, args } };
  if (type === "respond") return { type, message };
  if (type === "reject") return message ? { type, message } : { type };
  return { type };
}

function inboxAnswer(action, { type, args, message }) {
  if (type === "edit") return { type: "edit", args: { action: action.name, args } };
  if (type === "respond") return { type: "response", args: message };
  return { type: type === "reject" ? "ignore" : "accept", args: null };
}

/** The words of a question: its text, if it is one or has one, and what is left. */
export function wordsOf(value) {
  if (typeof value === "string") return { text: value, rest: undefined };
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { text: "", rest: value };
  const name = ["question", "message", "prompt", "text", "description", "title"].find((each) => typeof value[each] === "string");
  if (!name) return { text: "", rest: value };
  const rest = Object.fromEntries(Object.entries(value).filter(([key]) => key !== name));
  return { text: value[name], rest: Object.keys(rest).length ? rest : undefined };
}

/** How a schema says no: null, or a function that makes an answer the refusal of it. */
export function refusalOf(schema) {
  if (schema?.type === "boolean") return () => false;
  const name = Object.keys(schema?.properties ?? {}).find((each) => schema.properties[each].type === "boolean" && CONSENT.test(each));
  return name ? (answer) => ({ ...answer, [name]: false }) : null;
}

/** One line about a thread in the list. */
export function summaryOf(thread) {
  const [first, ...others] = questionsOf(thread);
  if (!first) return "It stopped at a breakpoint";
  const more = others.length ? ` (and ${others.length} more)` : "";
  if (first.actions) return `${first.actions.map((each) => each.name).join(", ")}?${more}`;
  const { text, rest } = wordsOf(first.value);
  return (text || JSON.stringify(rest) || "It asks") + more;
}
