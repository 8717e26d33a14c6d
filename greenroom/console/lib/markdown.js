// Markdown of messages, as nodes. Text becomes text nodes and never markup: there is no HTML in
// this Markdown, and a link goes only to http, https or mailto.
//
// What it knows: headings, paragraphs, lists, quotes, fenced code, tables, rules; bold, italic,
// strike, code, links, bare addresses. What it does not know stays text.

import { h } from "./dom.js";

const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ROW = /^\s*\|?(.+\|.*?)\|?\s*$/;
const ALIGN = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/** Returns an element with the Markdown of a text. */
export function markdown(text) {
  return h("div.prose", blocks(String(text).split(/\r\n?|\n/), 0));
}

/** The nodes of lines. `depth` bounds quotes and lists within one another. */
function blocks(lines, depth) {
  const made = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    let found;
    if (!line.trim()) at += 1;
    else if ((found = FENCE.exec(line))) {
      const end = lines.findIndex((each, index) => index > at && each.trim().startsWith(found[1]));
      const code = lines.slice(at + 1, end < 0 ? undefined : end);
      made.push(h("pre", h("code", { "data-language": found[2] || null }, code.join("\n"))));
      at = end < 0 ? lines.length : end + 1;
    } else if ((found = HEADING.exec(line))) {
      // A message is within the page's own headings.
      made.push(h(`h${Math.min(6, found[1].length + 2)}`, inline(found[2])));
      at += 1;
    } else if (RULE.test(line)) {
      made.push(h("hr"));
      at += 1;
    } else if (/^ {0,3}>/.test(line) && depth < 8) {
      const [inside, next] = while_(lines, at, (each) => /^ {0,3}>/.test(each));
      made.push(h("blockquote", blocks(inside.map((each) => each.replace(/^ {0,3}> ?/, "")), depth + 1)));
      at = next;
    } else if (ITEM.test(line) && depth < 8) {
      const [node, next] = list(lines, at, depth);
      made.push(node);
      at = next;
    } else if (ROW.test(line) && ALIGN.test(lines[at + 1] ?? "") && (lines[at + 1] ?? "").includes("-")) {
      const [rows, next] = while_(lines, at + 2, (each) => each.includes("|") && each.trim());
      made.push(h("table", h("thead", h("tr", cells(line).map((each) => h("th", inline(each))))),
        h("tbody", rows.map((row) => h("tr", cells(row).map((each) => h("td", inline(each))))))));
      at = next;
    } else {
      const [inside, next] = while_(lines, at, (each, index) => each.trim() && (index === at
        || !(FENCE.test(each) || HEADING.test(each) || RULE.test(each) || /^ {0,3}>/.test(each) || (ITEM.test(each) && !/^\s/.test(each)))));
      made.push(h("p", inside.flatMap((each, index) => [index ? h("br") : null, ...inline(each.trim())])));
      at = next;
    }
  }
  return made;
}

function while_(lines, from, fits) {
  let at = from;
  while (at < lines.length && fits(lines[at], at)) at += 1;
  return [lines.slice(from, at), Math.max(at, from)];
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((each) => each.trim().replaceAll("\\|", "|"));
}

function list(lines, from, depth) {
  const [, indent, mark] = ITEM.exec(lines[from]);
  const ordered = /\d/.test(mark);
  const items = [];
  let at = from;
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]);
    const here = found && found[1].length === indent.length && /\d/.test(found[2]) === ordered;
    if (here) items.push([found[3]]);
    else if (lines[at].trim() === "" ? !/^\s+\S/.test(lines[at + 1] ?? "") && !ITEM.test(lines[at + 1] ?? "") : !/^\s/.test(lines[at])) break;
    else if (found && found[1].length <= indent.length) break;
    else items.at(-1).push(lines[at].slice(Math.min(lines[at].search(/\S|$/), indent.length + 2)));
    at += 1;
  }
  const made = items.map(([first, ...rest]) => h("li", inline(first), blocks(rest, depth + 1)));
  return [h(ordered ? "ol" : "ul", ordered && mark !== "1." ? { start: parseInt(mark, 10) } : {}, made), at];
}

// In order: code, link, bold, italic, strike, address.
const INLINE = [
  [/^(`+)(.+?)\1(?!`)/, ([, , code]) => h("code", code.trim())],
  [/^!?\[([^\]\n]{0,500})\]\(\s*<?((?:[^\s()>]|\([^\s()]*\)){1,2000})>?(?:\s+"[^"]*")?\s*\)/, ([, text, to], depth) => anchor(to, inline(text, depth))],
  [/^(\*\*|__)(?=\S)(.+?)(?<=\S)\1/, ([, , text], depth) => h("strong", inline(text, depth))],
  [/^([*_])(?=\S)([^*_\n]+?)(?<=\S)\1(?!\w)/, ([, , text], depth) => h("em", inline(text, depth))],
  [/^~~(?=\S)(.+?)(?<=\S)~~/, ([, text], depth) => h("s", inline(text, depth))],
  [/^https?:\/\/[^\s<>"'`)\]]+[^\s<>"'`)\].,;:!?]/, ([address]) => anchor(address, [address])],
];
const STARTS = /[`![*_~\\h]/;

/** The nodes of a line. */
function inline(text, depth = 0) {
  if (depth > 8) return [text];
  const made = [];
  let plain = "";
  let at = 0;
  while (at < text.length) {
    const next = text.slice(at).search(STARTS);
    if (next < 0) break;
    plain += text.slice(at, at + next);
    at += next;
    const rest = text.slice(at, at + 4000);
    if (rest[0] === "\\" && /[!-/:-@[-`{-~]/.test(rest[1] ?? "")) {
      plain += rest[1];
      at += 2;
      continue;
    }
    // `snake_case` and `a*b` are no emphasis: before it stands no letter.
    const inWord = /\w$/.test(plain) || (!plain && at > 0 && /\w/.test(text[at - 1]));
    let matched = null;
    for (const [pattern, make] of INLINE) {
      const found = pattern.exec(rest);
      if (!found || (inWord && /^[_h]/.test(rest))) continue;
      if (plain) made.push(plain);
      plain = "";
      made.push(make(found, depth + 1));
      matched = found[0];
      break;
    }
    if (matched === null) plain += text[at];
    at += matched?.length ?? 1;
  }
  plain += text.slice(at);
  if (plain) made.push(plain);
  return made;
}

/** A link that leaves the console; one to something else than a page or a mailbox is its text. */
function anchor(to, children) {
  if (!/^(https?:\/\/|mailto:)/i.test(to)) return h("span", children);
  return h("a", { href: to, target: "_blank", rel: "noopener noreferrer nofollow", title: to }, children);
}

/**
 * Markdown of a text that grows. Blocks that are finished are made once; only the last one is made
 * again, so that a long answer costs no more than a short one.
 */
export class MarkdownFlow {
  element = h("div.prose");
  #kept = "";
  #tail = [];

  set(text) {
    if (!text.startsWith(this.#kept)) {
      this.#kept = "";
      this.element.replaceChildren();
      this.#tail = [];
    }
    for (const each of this.#tail) each.remove();
    const end = boundary(text, this.#kept.length);
    if (end > this.#kept.length) {
      this.element.append(...blocks(text.slice(this.#kept.length, end).split(/\r\n?|\n/), 0));
      this.#kept = text.slice(0, end);
    }
    this.#tail = blocks(text.slice(end).split(/\r\n?|\n/), 0);
    this.element.append(...this.#tail);
  }
}

/** Where the last block begins that may still change: after an empty line outside of code. */
function boundary(text, from) {
  let end = from;
  let inCode = false;
  let at = from;
  while (at < text.length) {
    const next = text.indexOf("\n", at);
    if (next < 0) break;
    const line = text.slice(at, next);
    if (FENCE.test(line)) inCode = !inCode;
    // What is indented, or a further item, belongs to the list before it.
    if (!inCode && !line.trim() && at > from && !/^(\s|[-*+]|\d)/.test(text.slice(next + 1, next + 2))) end = next + 1;
    at = next + 1;
  }
  return end;
}
