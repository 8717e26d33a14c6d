// What a thread asks a human, and the fields for the answers.

import { button, h, put } from "./dom.js";
import { tree } from "./elements.js";
import { markdown } from "./markdown.js";
import { schemaForm } from "./schema-form.js";

/** The interrupts of a thread, answered together in one run. */
export class Questions {
  element = h("div.stack.questions");
  #mark = "";

  /** @param {(responses: object[]) => Promise<boolean>} answer gets what `input.respond` wants */
  constructor(answer) {
    this.onAnswer = answer;
  }

  draw(interrupts) {
    const mark = interrupts.map((each) => each.id).join();
    if (this.#mark === mark) return;
    this.#mark = mark;
    if (!interrupts.length) return void put(this.element);
    const all = interrupts.map((interrupt) => ({ interrupt, ...question(interrupt) }));
    const problem = h("p.problem", { role: "alert" });
    const send = button(all.length > 1 ? `Answer all ${all.length}` : "Answer", { primary: true, type: "submit" });
    const form = h("form.card.question", { onsubmit: async (event) => {
      event.preventDefault();
      put(problem);
      let responses;
      try {
        responses = all.map(({ interrupt, read }) => ({ namespace: interrupt.namespace, interrupt_id: interrupt.id, response: read() }));
      } catch (error) {
        put(problem, error.message);
        return;
      }
      send.disabled = true;
      await this.onAnswer(responses);
      send.disabled = false;
    } },
    h("header", h("h2", all.length > 1 ? `${all.length} questions wait for you` : "A question waits for you")),
    h("div.inside.stack", all.map(({ element }) => element), problem, h("div", send)));
    put(this.element, form);
  }
}

/**
 * One question: its text, and fields for its answer. The fields come from `response_schema` if the
 * question has one, otherwise JSON is typed; what is no JSON is an answer in words.
 */
export function question(interrupt) {
  const value = interrupt.value;
  const schema = value?.response_schema;
  const said = typeof value === "string" ? value : value?.question ?? value?.message ?? value?.description;
  const text = typeof said === "string" ? markdown(said) : null;
  const rest = typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value).filter(([key, each]) => each !== said && key !== "response_schema")) : {};
  const form = schema && typeof schema === "object" ? schemaForm(schema) : words();
  return {
    element: h("div.stack", text, Object.keys(rest).length ? tree(rest, 2) : null, form.element),
    read: form.read,
  };
}

function words() {
  const field = h("textarea.field", { rows: 2, "aria-label": "Answer", placeholder: 'Words, or JSON such as {"approved": true}' });
  return {
    element: field,
    read() {
      const text = field.value.trim();
      if (!text) throw new Error("Type an answer.");
      try {
        return JSON.parse(text);
      } catch {
        if (/^[[{"]/.test(text)) throw new Error("This begins like JSON, but is none.");
        return text;
      }
    },
  };
}
