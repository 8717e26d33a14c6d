// A list of any length, of which only the rows in sight are in the document. All rows have one
// height. Rows may be added a thousand a second: they are drawn once per frame.

import { h, perFrame } from "./dom.js";
import { sync } from "./messages.js";

const AROUND = 8;

export class LongList {
  #items = [];
  #drawn = new Map();
  #follows = true;

  /**
   * @param {(item: any, index: number) => HTMLElement} draw
   * @param {{height?: number, label: string}} options `height` of a row in px
   */
  constructor(draw, { height = 28, label }) {
    this.drawRow = draw;
    this.height = height;
    this.inner = h("div.long-inner");
    this.space = h("div.long-space", this.inner);
    this.element = h("div.long", { tabIndex: 0, role: "log", "aria-label": label, "aria-live": "off" }, this.space);
    this.draw = perFrame(() => this.#draw());
    this.element.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.element;
      this.#follows = scrollHeight - scrollTop - clientHeight < this.height;
      this.draw();
    }, { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  get length() {
    return this.#items.length;
  }

  /** Shows other items. */
  set items(items) {
    this.#items = items;
    this.#drawn.clear();
    this.draw();
  }

  /** Adds an item at the end; who is at the end stays there. */
  push(item) {
    this.#items.push(item);
    this.draw();
  }

  #draw() {
    const { element, height } = this;
    const total = this.#items.length * height;
    this.space.style.height = `${total}px`;
    if (this.#follows) element.scrollTop = total;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - AROUND);
    const last = Math.min(this.#items.length, Math.ceil((element.scrollTop + element.clientHeight) / height) + AROUND);
    const nodes = [];
    const kept = new Map();
    for (let index = first; index < last; index += 1) {
      const node = this.#drawn.get(index) ?? this.drawRow(this.#items[index], index);
      kept.set(index, node);
      nodes.push(node);
    }
    this.#drawn = kept;
    this.inner.style.transform = `translateY(${first * height}px)`;
    sync(this.inner, nodes);
  }
}
