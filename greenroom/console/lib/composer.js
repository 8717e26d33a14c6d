// Where input is typed: as a message, in a form made from the graph's schema, or as JSON; what
// becomes of it while a run is active; and the buttons that send and stop.

import { button, h, put } from "./dom.js";
import { toast } from "./dialogs.js";
import { json, schemaForm } from "./schema-form.js";

export const STRATEGIES = [
  ["enqueue", "Queue", "It waits, and starts when the run under way has ended."],
  ["inject", "Say to the run", "The run under way takes it, in the same run."],
  ["interrupt", "Interrupt", "The run under way is stopped, what it did is kept, and this starts."],
  ["rollback", "Roll back", "The run under way is stopped and undone, and this starts."],
  ["reject", "Reject", "It is refused while a run is under way."],
];

const MODES = { chat: "Chat", form: "Form", json: "JSON" };

/** Whether a graph's input has messages. */
export const speaks = (schema) => Boolean(schema?.properties?.messages);

export class Composer {
  #schema = null;
  #mode = "chat";
  #field = null;

  /**
   * @param {(input: any, strategy: string) => Promise<boolean>} send returns whether it was taken
   * @param {() => Promise<void>} stop
   */
  constructor(send, stop) {
    this.onSend = send;
    this.modes = h("div.segments", { role: "group", "aria-label": "How the input is typed" });
    this.room = h("div.room");
    this.strategy = h("select.field.strategy", { "aria-label": "While a run is active", onchange: () => this.#explain() },
      STRATEGIES.map(([name, label]) => h("option", { value: name, selected: localStorage.getItem("greenroom.strategy") === name }, label)));
    this.hint = h("span.hint.cut.rest");
    this.stopper = button("Stop", { icon: "stop", danger: true, onclick: () => stop(), label: "Stop the run", disabled: true });
    this.sender = button("Send", { icon: "send", primary: true, type: "submit", label: "Send (Ctrl Enter)" });
    this.element = h("form.composer", { onsubmit: (event) => (event.preventDefault(), this.#send()), onkeydown: (event) => this.#key(event) },
      this.room,
      h("div.row.tools", this.modes, this.strategy, h("span.grow"), this.stopper, this.sender),
      this.hint);
    this.#explain();
  }

  /** Makes the fields for a graph's input. */
  schema(schema) {
    this.#schema = schema;
    this.#choose(speaks(schema) ? "chat" : "form");
  }

  get mode() {
    return this.#mode;
  }

  active(isActive) {
    this.stopper.disabled = !isActive;
  }

  focus() {
    this.room.querySelector("textarea, input, select")?.focus({ preventScroll: true });
  }

  #explain() {
    const [, , sentence] = STRATEGIES.find(([name]) => name === this.strategy.value);
    localStorage.setItem("greenroom.strategy", this.strategy.value);
    put(this.hint, "While a run is active: ", sentence[0].toLowerCase(), sentence.slice(1));
    this.strategy.title = sentence;
  }

  #choose(mode) {
    const before = this.#field ? this.#tried() : undefined;
    this.#mode = mode;
    const modes = Object.keys(MODES).filter((each) => each !== "chat" || speaks(this.#schema));
    put(this.modes, modes.map((each) => h("button", { type: "button", "aria-pressed": String(each === mode), onclick: () => (this.#choose(each), this.focus()) }, MODES[each])));
    if (mode === "chat") this.#field = chat();
    else if (mode === "form") {
      const form = schemaForm(this.#schema, before);
      this.#field = { element: h("div.formed", form.element), read: form.read };
    } else {
      const field = json({}, before ?? {}, 6);
      field.element.setAttribute("aria-label", "Input as JSON");
      this.#field = field;
    }
    put(this.room, this.#field.element);
  }

  #tried() {
    try {
      return this.#field.read();
    } catch {
      return undefined;
    }
  }

  #key(event) {
    const enter = event.key === "Enter" && !event.isComposing;
    if (enter && (event.metaKey || event.ctrlKey || (this.#mode === "chat" && !event.shiftKey && event.target.matches("textarea")))) {
      event.preventDefault();
      this.#send();
    }
  }

  async #send() {
    if (this.sender.disabled) return;
    let input;
    try {
      input = this.#field.read();
    } catch (error) {
      toast(error.message, { bad: true });
      return;
    }
    if (input === undefined && this.#mode === "chat") return this.focus();
    this.sender.disabled = true;
    try {
      if (await this.onSend(input ?? null, this.strategy.value) && this.#mode === "chat") this.#field.clear();
    } finally {
      this.sender.disabled = false;
    }
    return undefined;
  }
}

function chat() {
  const element = h("textarea.field.say", { rows: 2, placeholder: "Say something", "aria-label": "Message", oninput: () => grow() });
  const grow = () => {
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight + 2, 240)}px`;
  };
  return {
    element,
    read: () => (element.value.trim() ? { messages: [{ role: "user", content: element.value }] } : undefined),
    clear() {
      element.value = "";
      element.style.height = "";
    },
  };
}
