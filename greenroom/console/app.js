// The shell: navigation, theme, the question for a key, and the pages.

import { api, credentials, onRefused, STATIC } from "./lib/api.js";
import { button, h, icon, put } from "./lib/dom.js";
import { dialog } from "./lib/dialogs.js";
import { help, onKey } from "./lib/keys.js";
import { go, link, start } from "./lib/router.js";
import { PAGES } from "./pages.js";
import "./lib/elements.js";

const THEMES = ["auto", "light", "dark"];

/** The theme that is chosen (theme.js has set it before the first paint). */
const theme = () => localStorage.getItem("greenroom.theme") ?? THEMES[0];

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  localStorage.setItem("greenroom.theme", next);
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  switcher.title = switcher.ariaLabel = `Theme: ${next}`;
}

const entries = PAGES.filter((page) => page.nav).map((page) => {
  const count = h("span.count", { hidden: true });
  const anchor = link(page.path, { "data-page": page.name, class: page.nav.wide && "rest" }, icon(page.nav.icon), h("span", page.nav.label), count);
  if (page.nav.key) onKey(`g ${page.nav.key}`, `Go to ${page.nav.label}`, () => go(page.path));
  return { page, anchor, count };
});

/** Shows a number beside a page in the navigation; 0 shows none. Listens to an event, so that a
 * module need not know the shell: `dispatchEvent(new CustomEvent("gr-count", {detail: {page, count}}))`. */
addEventListener("gr-count", ({ detail }) => {
  const entry = entries.find(({ page }) => page.name === detail.page);
  if (!entry) return;
  entry.count.hidden = !detail.count;
  put(entry.count, detail.count > 99 ? "99+" : detail.count);
});

const switcher = button("", { icon: "theme", quiet: true, label: `Theme: ${theme()}`, onclick: nextTheme });
const version = h("span.version");
const keyButton = button("", { icon: "key", quiet: true, label: "Key", hidden: true, onclick: () => askForKey("Another key takes the place of the one in use.") });
const main = h("main", { id: "main", tabIndex: -1 });

// The frame that the page came with, painted before any module was there, is filled.
document.getElementById("frame").remove();
document.body.prepend(
  h("a.skip", { href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, "Skip to the page"),
  h("div.frame",
    h("div.side",
      link("", { class: "brand" }, h("img", { src: new URL("icon.svg", STATIC).href, alt: "", width: 20, height: 20 }), "Greenroom"),
      h("nav", { "aria-label": "Pages" }, entries.map(({ anchor }) => anchor)),
      h("div.foot", version, keyButton, switcher, button("", { icon: "help", quiet: true, class: "rest", label: "Keys (?)", onclick: help }))),
    main));

onKey("?", "Show the keys", help);
onKey("/", "Search, or go to the field", () => main.querySelector("input[type=search], textarea, input")?.focus());

// --- who asks -------------------------------------------------------------------------------------

async function askForKey(sentence) {
  const known = credentials.get();
  const value = h("input.field", { type: "password", autocomplete: "off", spellcheck: false });
  const given = await dialog("A key, please", [
    h("p", sentence),
    h("label.labelled", h("span.name", "API key or token"), value),
    h("p.hint", "It stays in this tab, and is gone when you close it."),
  ], {
    accept: "Go on",
    take() {
      const token = value.value.trim().replace(/^bearer\s+/i, "");
      if (!token) throw new Error("Type the key that the owner of this server gave you.");
      if (!/^[\x21-\x7e]+$/.test(token)) throw new Error("A key has no spaces, and only letters, digits and signs of ASCII.");
      return token;
    },
  });
  // Who closes the question is not asked again by the next poll, but may ask for it.
  if (!given) {
    onRefused.ask = null;
    keyButton.hidden = false;
    return false;
  }
  credentials.set(given);
  onRefused.ask = askForKey;
  keyButton.hidden = false;
  if (known) location.reload(); // another user: nothing on the page is theirs
  return true;
}
onRefused.ask = askForKey;

// --- start ----------------------------------------------------------------------------------------

start(main, (page) => {
  const lit = page?.under ?? page?.name;
  for (const { page: each, anchor } of entries) {
    if (each.name === lit) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
});

api.get("info").then((info) => {
  put(version, `v${info.version}`);
  keyButton.hidden = !info.flags.auth;
  document.documentElement.dataset.auth = info.flags.auth ? "on" : "off";
}, () => {});

// The number beside "Inbox": after the page itself, which somebody waits for.
import("./lib/inbox-count.js");
