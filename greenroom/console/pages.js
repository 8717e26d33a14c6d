// All pages. A page is a module whose default export is a class that extends `Page` (lib/page.js):
//
//   name     of its element, `gr-<name>-page`
//   path     below the console; `:id` becomes `this.params.id`
//   title    of the browser's tab
//   nav      its place in the navigation: the label and an icon of lib/dom.js, and a key that goes
//            there after `g`; pages without it are reached from others. `wide`: not on a phone
//   under    the page whose entry in the navigation is lit, for pages without one
//   css      stylesheets of its own, loaded before it is shown
//
// A module is loaded when its page is shown first, so a page costs nothing until then.

export const PAGES = [
  { name: "chat", path: "", title: "Chat and run", module: "pages/chat.js", css: ["css/chat.css", "css/inbox.css", "css/graph.css"], nav: { label: "Chat", icon: "chat", key: "c" } },
  { name: "chat", path: "chat/:thread", title: "Chat and run", module: "pages/chat.js", css: ["css/chat.css", "css/inbox.css", "css/graph.css"], under: "chat" },
  { name: "threads", path: "threads", title: "Threads", module: "pages/threads.js", css: ["css/threads.css"], nav: { label: "Threads", icon: "threads", key: "t" } },
  { name: "thread", path: "threads/:thread", title: "Thread", module: "pages/thread.js", css: ["css/threads.css"], under: "threads" },
  { name: "run", path: "threads/:thread/runs/:run", title: "Run", module: "pages/run.js", css: ["css/run.css"], under: "threads" },
  { name: "inbox", path: "inbox", title: "Inbox", module: "pages/inbox.js", css: ["css/inbox.css"], nav: { label: "Inbox", icon: "inbox", key: "i" } },
  { name: "now", path: "now", title: "Now", module: "pages/now.js", css: ["css/now.css"], nav: { label: "Now", icon: "now", key: "n" } },
  { name: "assistants", path: "assistants", title: "Graphs and assistants", module: "pages/assistants.js", css: ["css/lists.css", "css/graph.css"], nav: { label: "Graphs", icon: "graph", key: "a" } },
  { name: "assistant", path: "assistants/:assistant", title: "Assistant", module: "pages/assistant.js", css: ["css/graph.css"], under: "assistants" },
  { name: "crons", path: "crons", title: "Crons", module: "pages/crons.js", css: ["css/lists.css"], nav: { label: "Crons", icon: "clock", key: "r", wide: true } },
  { name: "webhooks", path: "webhooks", title: "Webhooks", module: "pages/webhooks.js", css: ["css/lists.css"], nav: { label: "Webhooks", icon: "hook", key: "w", wide: true } },
];
