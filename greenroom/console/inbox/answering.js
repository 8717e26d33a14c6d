// What a person sees of one question, and fills in.

import { button, h, put } from "../lib/dom.js";
import { confirmed } from "../lib/dialogs.js";
import { tree } from "../lib/elements.js";
import { markdown } from "../lib/markdown.js";
import { json, schemaForm } from "../lib/schema-form.js";
import { DECISIONS, refusalOf, wordsOf } from "./questions.js";

const FREE = [["text", "Text"], ["json", "JSON"]];

/**
 * Shows a question with its answers.
 *
 * @param {object} question of `questionsOf`
 * @param {(what: {answer: any} | {end: true}) => Promise<void>} send takes the answer, or ends the
 *     thread where it is; it throws an error whose message is shown
 */
export function answering(question, send) {
  const problem = h("p.problem", { role: "alert" });
  const buttons = [];
  /** Sends what `made` returns; what it throws is shown beside the field, and nothing is sent. */
  const sends = (made) => async () => {
    put(problem);
    buttons.forEach((each) => (each.disabled = true));
    try {
      const what = await made();
      if (what) await send(what);
    } catch (error) {
      if (error.name !== "AbortError") put(problem, error.message);
    } finally {
      buttons.forEach((each) => (each.disabled = false));
    }
  };
  const parts = question.actions ? reviewed(question, sends) : answered(question, sends);
  buttons.push(...parts.buttons);
  const form = h("form.question", { "aria-label": "Question", onsubmit: (event) => (event.preventDefault(), parts.buttons[0].click()) },
    parts.content, problem, h("div.row.wrap.buttons", parts.buttons));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) (event.preventDefault(), parts.buttons[0].click());
  });
  return form;
}

// --- any question ---------------------------------------------------------------------------------

function answered(question, sends) {
  const { text, rest } = wordsOf(question.value);
  const field = question.schema ? schemaForm(question.schema) : free();
  const refuse = refusalOf(question.schema);
  return {
    content: [
      text && markdown(text),
      rest !== undefined && h("div.given", tree(rest, 2)),
      field.element,
    ],
    buttons: [
      button("Answer", { primary: true, icon: "check", onclick: sends(() => ({ answer: field.read() })) }),
      refuse
        ? button("Refuse", { danger: true, onclick: sends(() => {
          field.write(refuse(field.peek()));
          return { answer: field.read() };
        }) })
        : button("Refuse", { danger: true, onclick: sends(ended) }),
    ],
  };
}

/** Asks whether a thread shall end where it is, which is the refusal of a graph without a form for one. */
export async function ended() {
  const sentence = "A refusal has no form that this graph would know. So its thread ends here: the question is dropped, and no node after it is executed.";
  return (await confirmed("Refuse to answer?", sentence, "End it here")) ? { end: true } : null;
}

/** A field for text or JSON: a graph that names no schema takes anything. */
function free() {
  const text = h("textarea.field", { rows: 3, "aria-label": "Answer", placeholder: "Your answer" });
  const code = json({}, undefined);
  code.element.setAttribute("aria-label", "Answer as JSON");
  let kind = "text";
  const place = h("div", text);
  const choice = segments("Form of the answer", FREE, kind, (chosen) => {
    kind = chosen;
    put(place, kind === "text" ? text : code.element);
  });
  return {
    element: h("div.stack", choice, place),
    read() {
      const answer = kind === "text" ? text.value : code.read();
      if (answer === "" || answer === undefined) throw new Error("Type an answer first.");
      return answer;
    },
  };
}

// --- a review of tool calls -----------------------------------------------------------------------

function reviewed(question, sends) {
  const reviews = question.actions.map(review);
  return {
    content: reviews.map((each) => each.element),
    buttons: [button(reviews.length > 1 ? "Send the decisions" : "Send the decision", {
      primary: true, icon: "check", onclick: sends(() => ({ answer: question.answer(reviews.map((each) => each.read())) })),
    })],
  };
}

function review(action) {
  let type = action.allowed[0];
  const edited = json({}, action.args, 6);
  edited.element.setAttribute("aria-label", `Arguments of ${action.name}, as JSON`);
  const message = h("textarea.field", { rows: 2 });
  const place = h("div.stack");
  const show = (chosen) => {
    type = chosen;
    message.setAttribute("aria-label", type === "reject" ? "Why not" : "The answer in place of the tool");
    message.placeholder = type === "reject" ? "Why not (may be empty)" : "What the tool would have said";
    put(place, type === "edit" ? edited.element : h("div.given", tree(action.args, 2)), ["reject", "respond"].includes(type) && message);
  };
  show(type);
  const choice = segments(`Decision about ${action.name}`, action.allowed.map((each) => [each, DECISIONS[each]]), type, show);
  return {
    element: h("section.stack.action", { "aria-label": action.name },
      h("div.row.wrap", h("h3.mono", action.name), h("div.grow"), choice),
      action.description && markdown(action.description), place),
    read() {
      if (type === "edit") {
        const args = edited.read();
        if (args === null || typeof args !== "object" || Array.isArray(args)) throw new Error("The arguments must be a JSON object.");
        return { type, args };
      }
      if (type === "respond" && !message.value.trim()) throw new Error("Type what the tool would have said.");
      return { type, message: message.value.trim() };
    },
  };
}

/** One of a few: buttons that look like one. */
function segments(label, options, chosen, choose) {
  const made = options.map(([value, text]) => h("button", { type: "button", "aria-pressed": value === chosen ? "true" : "false", onclick: () => pick(value) }, text));
  const pick = (value) => {
    made.forEach((each, at) => each.setAttribute("aria-pressed", options[at][0] === value ? "true" : "false"));
    choose(value);
  };
  return h("div.segments", { role: "group", "aria-label": label }, made);
}
