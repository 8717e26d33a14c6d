// Plays scenarios in Chromium with the console of a server:
//   node driver.mjs <chromium> <profile directory>
// One JSON object a line comes in ({scenario: "inbox.answers", url, key, ...}) and one goes out:
// what the scenario tells, and the problems of its pages: errors, logged errors, refused content.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { NARROW, WIDE } from "./screens.mjs";

const clients = createRequire(new URL("../clients/package.json", import.meta.url));
const { chromium } = clients("playwright-core");
const AXE = readFileSync(clients.resolve("axe-core/axe.min.js"), "utf8");

const [executablePath, profile] = process.argv.slice(2);
const PATIENCE_MS = 20_000;
const LOOK_AGAIN_MS = 25; // by itself Playwright looks with each frame, and has the browser draw them
const SERIOUS = ["serious", "critical"];

process.env.TMPDIR = profile; // Playwright makes its profiles there, and who started us removes it
const browser = await chromium.launch({
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

// For many visitors: one that comes later need not load nor compile the files of the console.
const kept = new Map();

async function contextOf({ axe = false, fresh = false }) {
  if (!fresh && kept.has(axe)) return kept.get(axe);
  const context = await browser.newContext({
    viewport: WIDE,
    colorScheme: "light",
    permissions: ["clipboard-read", "clipboard-write"],
    bypassCSP: axe, // axe writes markup, which the page may not
  });
  context.setDefaultTimeout(PATIENCE_MS);
  if (!fresh) kept.set(axe, context);
  return context;
}

// Somebody with the console open, in a browser without any memory but that of files, or with `fresh`
// without that as well.
class Visitor {
  constructor(context, { url, key = "", theme = "light" }) {
    this.context = context;
    this.theme = theme;
    this.url = url;
    this.key = key;
    this.headers = key ? { authorization: `Bearer ${key}` } : {};
    this.problems = [];
    this.allowed = [];
  }

  static async arrive(options) {
    const visitor = new Visitor(await contextOf(options), options);
    visitor.page = await visitor.tab();
    const devtools = await visitor.context.newCDPSession(visitor.page);
    const { origin } = new URL(visitor.url);
    await devtools.send("Storage.clearDataForOrigin", { origin, storageTypes: "all" });
    await devtools.detach();
    return visitor;
  }

  // A context is not used again after a failure, nor if it was for this visitor alone.
  async leave(failed) {
    const again = !failed && [...kept.values()].includes(this.context);
    if (again) return Promise.all(this.context.pages().map((page) => page.close()));
    for (const [kind, context] of kept) if (context === this.context) kept.delete(kind);
    return this.context.close();
  }

  // One more tab of the same browser; problems of all tabs count.
  async tab() {
    const page = await this.context.newPage();
    if (this.theme !== "light") await page.emulateMedia({ colorScheme: this.theme });
    const wait = page.waitForFunction.bind(page);
    page.waitForFunction = (condition, argument, options) =>
      wait(condition, argument, { polling: LOOK_AGAIN_MS, ...options });
    page.on("pageerror", (error) => this.problems.push(`error: ${error.stack ?? error}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !this.mayLog(message)) {
        this.problems.push(`logged: ${message.text()} at ${message.location().url}`);
      }
    });
    page.on("dialog", (dialog) => {
      this.problems.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    await page.exposeFunction("refusedContent", (what) => this.problems.push(`refused: ${what}`));
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) =>
        window.refusedContent(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
      );
    });
    return page;
  }

  // Answers with these statuses are part of the scenario: the browser logs each as an error.
  allow(...statuses) {
    this.allowed.push(...statuses);
  }

  mayLog(message) {
    const status = /^Failed to load resource:.*status of (\d+)/.exec(message.text());
    return status !== null && this.allowed.includes(Number(status[1]));
  }

  // Opens a page of the console by its address, and gives the key where it is asked for.
  async go(path, page = this.page) {
    if (this.key) this.allow(401);
    await page.goto(`${this.url}/console${path}`);
    if (this.key) await this.enter(this.key, page);
    await this.settled(page);
  }

  async enter(key, page = this.page) {
    const field = page.getByLabel("API key or token");
    await field.or(page.locator("html[data-page]")).first().waitFor();
    if ((await field.count()) === 0) return;
    await field.fill(key);
    await field.press("Enter");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  }

  // Waits until the page shows its first data.
  settled(page = this.page) {
    return page.waitForFunction(() => document.documentElement.dataset.page);
  }

  until(condition, argument) {
    return this.page.waitForFunction(condition, argument);
  }

  // The screen of a telephone, or of a computer.
  resize(narrow) {
    return this.page.setViewportSize(narrow ? NARROW : WIDE);
  }

  // Violations of the page as it is, in both themes, which differ by their colours.
  async accessible(name) {
    for (const colorScheme of ["light", "dark"]) {
      await this.page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      if (!(await this.page.evaluate(() => "axe" in window))) await this.page.evaluate(AXE);
      const rules = colorScheme === "light" ? {} : { runOnly: ["color-contrast", "link-in-text-block"] };
      const violations = await this.page.evaluate(async ({ impacts, rules }) => {
        const found = await window.axe.run(document, { resultTypes: ["violations"], ...rules });
        return found.violations
          .filter((each) => impacts.includes(each.impact))
          .map((each) => `${each.id}: ${each.nodes.map((n) => `${n.target} ${n.failureSummary}`).join("; ")}`);
      }, { impacts: SERIOUS, rules });
      this.problems.push(...violations.map((each) => `axe, ${name}, ${colorScheme}: ${each}`));
    }
  }

  // Whether something is wider than the screen.
  async fits(name) {
    const { inner, outer } = await this.page.evaluate(() => ({
      inner: document.documentElement.scrollWidth,
      outer: window.innerWidth,
    }));
    if (inner > outer) this.problems.push(`${name} is ${inner} px wide on a screen of ${outer} px`);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { scenario, ...options } = JSON.parse(line);
  let visitor;
  let failed = false;
  try {
    const [module, name] = scenario.split(".");
    const scenarios = await import(`./scenarios/${module}.mjs`);
    visitor = await Visitor.arrive(options);
    const told = (await scenarios[name](visitor, options)) ?? {};
    console.log(JSON.stringify({ ...told, problems: visitor.problems }));
  } catch (error) {
    failed = true;
    const page = await visitor?.page?.locator("body").innerText().catch(String);
    console.log(
      JSON.stringify({ at: visitor?.page?.url(), problems: visitor?.problems, page, failed: error.stack }),
    );
  } finally {
    await visitor?.leave(failed);
  }
}
await browser.close();
