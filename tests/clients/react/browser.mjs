// Plays scenarios in Chromium with a page that uses useStream, of the SDK or of @langchain/react,
// served from an origin of its own:
//   node browser.mjs <chromium> <profile directory>
// One JSON object a line comes in ({scenario, sdk, api, ...}) and one goes out.
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const [executablePath, profile] = process.argv.slice(2);
const PATIENCE_MS = 20_000;
const LOOK_AGAIN_MS = 25; // by itself Playwright looks with each frame, and has the browser draw them

const isNew = (sdk) => sdk === "@langchain/react";
const bundles = {};
function bundle(sdk) {
  return (bundles[sdk] ??= build({
    entryPoints: [fileURLToPath(new URL(isNew(sdk) ? "thread_page.jsx" : "page.jsx", import.meta.url))],
    alias: isNew(sdk) ? {} : { "@langchain/langgraph-sdk": sdk },
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "error",
  }).then((built) => built.outputFiles[0].text));
}

const pages = createServer(async (request, response) => {
  const [, sdk, file] = new URL(request.url, "http://page").pathname.split("/");
  if (file === "page.js") {
    response.setHeader("content-type", "text/javascript");
    response.end(await bundle(decodeURIComponent(sdk)));
  } else if (file === "") {
    response.setHeader("content-type", "text/html");
    response.end('<!doctype html><div id="root"></div><script type="module" src="page.js"></script>');
  } else {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => pages.listen(0, "127.0.0.1", listening));
const origin = `http://127.0.0.1:${pages.address().port}`;

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});

class Chat {
  constructor(page) {
    this.page = page;
    this.requests = [];
    this.problems = [];
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => this.problems.push(String(error)));
    page.on("request", (request) => {
      const path = new URL(request.url()).pathname;
      if (request.url().startsWith(origin)) return;
      const lastEventId = request.headers()["last-event-id"];
      this.requests.push({ method: request.method(), path, lastEventId });
    });
  }

  static async visit({ page }) {
    const chat = new Chat(await context.newPage());
    await chat.page.goto(page);
    return chat;
  }

  static async open({ sdk, api, graph = "agent", input = {}, reconnect = false, ...more }) {
    const chat = new Chat(await context.newPage());
    const query = new URLSearchParams({ api, graph, input: JSON.stringify(input) });
    if (reconnect) query.set("reconnect", "1");
    for (const name of ["transport", "thread"]) if (more[name]) query.set(name, more[name]);
    await chat.page.goto(`${origin}/${encodeURIComponent(sdk)}/?${query}`);
    return chat;
  }

  write(text) {
    return this.page.fill("input", text);
  }

  click(selector) {
    return this.page.click(selector);
  }

  // Waits until `condition`, which runs in the page, holds.
  until(condition, argument) {
    return this.page.waitForFunction(condition, argument, { timeout: PATIENCE_MS, polling: LOOK_AGAIN_MS });
  }

  untilTokens(count) {
    return this.until((count) => {
      const answers = document.querySelectorAll(".message.ai");
      return (answers[answers.length - 1]?.textContent.split(" ").length ?? 0) > count;
    }, count);
  }

  untilIdle(answers = 0) {
    return this.until((answers) => {
      const loading = document.querySelector("#loading").textContent;
      return loading === "idle" && document.querySelectorAll(".message.ai").length >= answers;
    }, answers);
  }

  texts(selector) {
    return this.page.locator(selector).allTextContents();
  }

  text(selector) {
    return this.page.locator(selector).textContent();
  }

  async told(more = {}) {
    return {
      messages: await this.texts(".message"),
      thread: await this.text("#thread"),
      error: await this.text("#error"),
      loading: await this.text("#loading"),
      shown: await this.page.evaluate(() => window.shown),
      origin: await this.page.evaluate(() => location.origin),
      requests: this.requests,
      problems: this.problems,
      ...more,
    };
  }
}

const SCENARIOS = {
  async send(chat) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilIdle(1);
    return chat.told();
  },

  // The connection breaks when the page shows the first tokens; then the answer goes on.
  async lose(chat, { api, input }) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilTokens(3);
    await fetch(`${api}/break`);
    await writeFile(input.gate, "");
    await chat.untilIdle(1);
    return chat.told();
  },

  async stop(chat) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilTokens(3);
    await chat.click("#stop");
    await chat.untilIdle();
    return chat.told();
  },

  async interrupt(chat) {
    await chat.click("#submit");
    await chat.until(() => document.querySelector("#interrupt").textContent !== "");
    await chat.untilIdle();
    const asked = JSON.parse(await chat.text("#interrupt"));
    await chat.write("yes");
    await chat.click("#resume");
    await chat.until(() => document.querySelector("#values").textContent.includes('"done"'));
    await chat.untilIdle();
    const values = JSON.parse(await chat.text("#values"));
    return chat.told({ asked, values, interrupt: await chat.text("#interrupt") });
  },

  // The answer waits at its gate in the middle, until the reloaded page shows what there is.
  async reload(chat, { input }) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilTokens(3);
    chat.requests.length = 0;
    await chat.page.reload();
    await chat.untilTokens(3);
    const loading = await chat.text("#loading");
    await writeFile(input.gate, "");
    await chat.untilIdle(1);
    return chat.told({ rejoined: loading });
  },

  async edit(chat) {
    await chat.write("first");
    await chat.click("#send");
    await chat.untilIdle(1);
    await chat.write("second");
    await chat.click("#send");
    await chat.untilIdle(2);
    const before = await chat.texts(".message");
    await chat.write("edited");
    await chat.click("li:first-child .edit");
    await chat.until(() => document.querySelector(".message.human").textContent === "edited");
    await chat.untilIdle(1);
    await chat.until(() => document.querySelector("li:first-child .branch") !== null);
    const edited = await chat.texts(".message");
    const branch = await chat.text("li:first-child .branch");
    await chat.click("li:first-child .earlier");
    await chat.until(() => document.querySelector(".message.human").textContent === "first");
    return chat.told({ before, edited, branch });
  },

  // The hooks of @langchain/react: a message is edited, and the run goes on from before it.
  async fork(chat) {
    await chat.write("first");
    await chat.click("#send");
    await chat.untilIdle(1);
    await chat.write("second");
    await chat.click("#send");
    await chat.untilIdle(2);
    const before = await chat.texts(".message");
    await chat.write("edited");
    await chat.click("li:first-child .edit");
    await chat.until(() => document.querySelector(".message.human")?.textContent === "edited");
    await chat.until(() => document.querySelectorAll(".message").length === 2);
    await chat.untilIdle(1);
    return chat.told({ before });
  },

  // Two tabs on one thread: the second sees the run of the first, from its begin to its end.
  async tabs(chat, options) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilTokens(3);
    const other = await Chat.open({ ...options, thread: await chat.text("#thread") });
    try {
      await other.untilTokens(3);
      const meanwhile = await other.text("#loading");
      await writeFile(options.input.gate, "");
      await chat.untilIdle(1);
      await other.untilIdle(1);
      const seen = await other.told();
      return chat.told({ meanwhile, seen });
    } finally {
      await other.page.close();
    }
  },

  // A run with a tool and a subgraph.
  async crew(chat) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilIdle(2);
    // What a subgraph says comes over a stream of its own, which may be opened when the run is over.
    await chat.until(() =>
      [...document.querySelectorAll(".subgraph")].some((each) => each.textContent.includes("tok2 ")),
    );
    return chat.told({
      tools: await chat.texts(".call"),
      subgraphs: await chat.texts(".subgraph"),
    });
  },

  // A run with a tool that is an agent: what the agent says is shown before the run goes on. A stream
  // that is opened when the run is over may miss what the agent has said (1.1.0 pauses it then). The
  // hook asks for `tools:<id of the call>` first, and for the agent's namespace when it knows it.
  async squad(chat, { input }) {
    const hears = chat.page.waitForResponse(
      (answer) =>
        answer.url().endsWith("/stream/events") &&
        /"tools:[0-9a-f]{8}-/.test(answer.request().postData() ?? ""),
      { timeout: PATIENCE_MS },
    );
    await chat.write("hello");
    await chat.click("#send");
    await hears;
    await writeFile(`${input.gate}.heard`, "");
    await chat.until(() => document.querySelector(".subgraph")?.textContent.includes("tok2 "));
    const meanwhile = await chat.texts(".subgraph");
    await writeFile(input.gate, "");
    await chat.untilIdle(2);
    return chat.told({ meanwhile, subagents: await chat.texts(".subagent") });
  },

  // Something is killed when the page shows the first tokens; then the answer goes on. The page has
  // several streams, each of which connects again at a time of its own: the one that makes it idle
  // may be before the one with the messages.
  async outlive(chat, { input, answer }) {
    await chat.write("hello");
    await chat.click("#send");
    await chat.untilTokens(3);
    await writeFile(`${input.gate}.ready`, "");
    await chat.until(
      (answer) => [...document.querySelectorAll(".message.ai")].some(({ textContent }) => textContent === answer),
      answer,
    );
    await chat.untilIdle(1);
    return chat.told();
  },

  // A page of another server: presses its button and waits until it says what is expected.
  async press(chat, { expected }) {
    await chat.click("button");
    await chat.until((expected) => document.body.innerText.includes(expected), expected);
    return { problems: chat.problems };
  },

  async fail(chat) {
    await chat.click("#submit");
    await chat.until(() => document.querySelector("#error").textContent !== "");
    await chat.untilIdle();
    return chat.told();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { scenario, ...options } = JSON.parse(line);
  let chat;
  try {
    chat = options.page ? await Chat.visit(options) : await Chat.open(options);
    console.log(JSON.stringify(await SCENARIOS[scenario](chat, options)));
  } catch (error) {
    const page = await chat?.page.locator("body").innerText().catch(String);
    const requests = chat?.requests.map(({ method, path }) => `${method} ${path}`);
    console.log(JSON.stringify({ requests, problems: chat?.problems, page, failed: error.stack }));
  } finally {
    await chat?.page.close();
  }
}
await context.close();
pages.close();
