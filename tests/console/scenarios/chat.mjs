// Talking to a graph: sending, stopping, and what becomes of a message while a run is active.
import { writeFile } from "node:fs/promises";

const answers = (page) => page.locator("article.message.ai");

async function say(page, text, strategy) {
  if (strategy) await page.getByLabel("While a run is active").selectOption(strategy);
  await page.getByLabel("Message").fill(text);
  await page.getByLabel("Message").press("Enter");
}

const thread = (page) => new URL(page.url()).pathname.split("/").at(-1);

/** Begins an answer that stops in its middle until the file `gate` is there. */
async function begin(visitor, { gate, assistant }) {
  await visitor.go(`/?assistant=${assistant}`);
  await say(visitor.page, `gate ${gate}`);
  await answers(visitor.page).filter({ hasText: "tok4" }).first().waitFor();
}

const idle = (page) => page.waitForFunction(() => document.querySelector('.composer button[aria-label="Stop the run"]').disabled);

// An answer comes as it is written, and is there again after a reload.
export async function sends(visitor, { gate, assistant }) {
  const { page } = visitor;
  await visitor.go(`/?assistant=${assistant}`);
  const begins = new URL(page.url()).pathname;
  await say(page, `gate ${gate}`);
  await answers(page).filter({ hasText: "tok4" }).first().waitFor();
  const half = await answers(page).first().innerText();
  await page.reload();
  await answers(page).filter({ hasText: "tok4" }).first().waitFor();
  await writeFile(gate, "");
  await answers(page).filter({ hasText: "tok9" }).first().waitFor();
  await idle(page);
  await page.reload();
  await answers(page).filter({ hasText: "tok9" }).first().waitFor();
  const shown = await page.locator("article.message").allInnerTexts();
  return { thread: thread(page), begins, half, shown };
}

export async function stops(visitor, options) {
  const { page } = visitor;
  await begin(visitor, options);
  await page.getByRole("button", { name: "Stop the run" }).click();
  await idle(page);
  return { thread: thread(page) };
}

// A second message while a run is active; `strategy` says what becomes of it.
export async function doubles(visitor, { gate, assistant, strategy, text = "count" }) {
  const { page } = visitor;
  await begin(visitor, { gate, assistant });
  const answered = page.waitForResponse((each) => /\/(commands|input)$/.test(each.url()) && each.request().method() === "POST");
  await say(page, text, strategy);
  await answered;
  let said = "";
  if (strategy === "reject") {
    // The composer keeps what was refused.
    said = await page.getByRole("status").locator(".toast.bad").innerText();
    said += ` / ${await page.getByLabel("Message").inputValue()}`;
  }
  if (["enqueue", "inject"].includes(strategy)) said = await page.locator(".waiting").innerText();
  // A run that is stopped is not let go on: it could end before it hears of that.
  if (!["interrupt", "rollback"].includes(strategy)) await writeFile(gate, "");
  if (strategy !== "reject") await answers(page).filter({ hasText: /^Model\s*\d+$/ }).first().waitFor();
  await idle(page);
  return { thread: thread(page), said, shown: await page.locator("article.message").allInnerTexts() };
}

// Something is said to a run under way, which takes it at its next step: the same run goes on.
export async function speaks(visitor, { assistant, input, said, shows }) {
  const { page } = visitor;
  await visitor.go(`/?assistant=${assistant}`);
  const json = async (value) => {
    await page.getByRole("button", { name: "JSON", exact: true }).click();
    await page.getByLabel("Input as JSON").fill(JSON.stringify(value));
    await page.getByRole("button", { name: /^Send/ }).click();
  };
  await json(input);
  await page.waitForFunction(() => !document.querySelector('.composer button[aria-label="Stop the run"]').disabled);
  await page.getByLabel("While a run is active").selectOption("inject");
  await json(said);
  await page.locator("main").getByText(shows, { exact: true }).first().waitFor();
  await page.getByRole("button", { name: "Stop the run" }).click();
  await idle(page);
  return { thread: thread(page) };
}

// A graph without messages: its input is a form; a failure is said.
export async function fails(visitor, { field, value, error }) {
  const { page } = visitor;
  await visitor.go("/?assistant=fails");
  await page.getByLabel(field).fill("no number");
  await page.getByRole("button", { name: /^Send/ }).click();
  const refused = await page.locator(".toast.bad").innerText();
  await page.getByLabel(field).fill(value);
  await page.getByRole("button", { name: /^Send/ }).click();
  await page.locator("main").getByText(error).first().waitFor();
  await idle(page);
  return { thread: thread(page), refused };
}
