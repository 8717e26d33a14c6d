// What a thread asks a human, within the conversation: the forms are those of the inbox.

import { api } from "./api.js";
import { h, put } from "./dom.js";
import { segment } from "./router.js";

export class Questions {
  element = h("div.stack.questions");
  #mark = "";

  /**
   * @param {(response: object) => Promise<void>} answer gets what `input.respond` wants; throws an
   *     error whose message is shown
   * @param {() => Promise<void>} end ends the thread where it is
   */
  constructor(answer, end) {
    this.onAnswer = answer;
    this.onEnd = end;
  }

  /** Shows what is asked; `ids` are those of the interrupts, none if nothing is. */
  async draw(threadId, ids, signal) {
    const mark = ids.join();
    if (this.#mark === mark) return;
    this.#mark = mark;
    if (!ids.length) return void put(this.element);
    // Most conversations ask nothing, so this is loaded when one does.
    const [{ answering }, { questionsOf }, thread] = await Promise.all([
      import("../inbox/answering.js"), import("../inbox/questions.js"), api.get(`threads/${segment(threadId)}`, { signal }),
    ]);
    if (this.#mark !== mark) return;
    put(this.element, questionsOf(thread).map((question) => h("section.card.asked",
      h("header", h("h2", "A question waits for you")),
      h("div.inside", answering(question, ({ answer, end }) =>
        (end ? this.onEnd() : this.onAnswer({ namespace: [], interrupt_id: question.id, response: answer })))))));
  }
}
