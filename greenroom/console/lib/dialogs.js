// Dialogs and short messages.

import { h, put, button } from "./dom.js";

/**
 * Opens a dialog and waits for its end. Esc closes it.
 *
 * @param {string} title
 * @param {any} content nodes
 * @param {{accept?: string, danger?: boolean, take?: () => any}} options `accept` is the text of
 *     the button that accepts, without which there is only "Close"; `take` returns the result, or
 *     throws an error whose message is shown, and the dialog stays; it may be async
 * @returns {Promise<any>} what `take` returned (true without it), or null when it was closed
 */
export function dialog(title, content, { accept, danger, take = () => true } = {}) {
  return new Promise((done) => {
    const problem = h("p.problem", { role: "alert", hidden: true });
    const ok = accept && button(accept, { primary: !danger, danger, type: "submit" });
    const form = h("form.inside", { onsubmit: submit, novalidate: true },
      h("h2", title), content, problem,
      h("div.buttons", button(accept ? "Cancel" : "Close", { onclick: () => box.close() }), ok));
    const box = h("dialog", { "aria-label": title, onclose: () => (box.remove(), done(result)) }, form);
    let result = null;
    async function submit(event) {
      event.preventDefault();
      if (!ok) return box.close();
      ok.disabled = true;
      try {
        result = await take();
        box.close();
      } catch (error) {
        put(problem, error.message);
        problem.hidden = false;
      } finally {
        ok.disabled = false;
      }
    }
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) submit(event);
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Asks whether to do something that cannot be taken back. */
export const confirmed = (title, sentence, accept) => dialog(title, h("p", sentence), { accept, danger: true });

let host = null;

/** Shows a sentence for some seconds; a bad one stays longer. */
export function toast(sentence, { bad = false } = {}) {
  host ??= document.body.appendChild(h("div.toasts", { role: "status", "aria-live": "polite" }));
  const made = h(`div.toast${bad ? ".bad" : ""}`, sentence);
  host.append(made);
  setTimeout(() => made.remove(), bad ? 8000 : 4000);
}
