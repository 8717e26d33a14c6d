// Threads that wait for a person.
import { NARROW } from "../screens.mjs";

const asked = (page) => page.getByRole("region", { name: "Question" });

async function sent(page, thread) {
  await page.getByRole("status").getByText("Answered.").waitFor();
  await page.locator(`.asks [data-key="${thread}"]`).waitFor({ state: "detached" });
}

// Any question: a text, then JSON.
export async function answers(visitor, { thread, text, json }) {
  const { page } = visitor;
  await visitor.go(`/inbox?thread=${thread}`);
  const question = await asked(page).locator(".prose, .given").first().innerText();
  await page.getByRole("button", { name: "Answer", exact: true }).click();
  const refused = await page.getByRole("alert").filter({ hasText: "Type an answer first" }).innerText();
  if (json) {
    await page.getByRole("button", { name: "JSON" }).click();
    await page.getByLabel("Answer as JSON").fill("{oops");
    await page.getByRole("button", { name: "Answer", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "no JSON" }).waitFor();
    await page.getByLabel("Answer as JSON").fill(json);
  } else {
    await page.getByLabel("Answer", { exact: true }).fill(text);
  }
  await page.keyboard.press("Control+Enter");
  await sent(page, thread);
  return { question, refused };
}

// The form of `response_schema`: what does not fit is said beside its field, and nothing is sent.
export async function fillsTheForm(visitor, { thread, fields, bad }) {
  const { page } = visitor;
  await visitor.go(`/inbox?thread=${thread}`);
  const fill = async (name, value) => {
    const field = asked(page).getByLabel(name);
    const isChoice = (await field.evaluate((each) => each.tagName)) === "SELECT";
    if (isChoice) await field.selectOption({ label: value });
    else await field.fill(value);
  };
  for (const [name, value] of Object.entries({ ...fields, ...bad })) await fill(name, value);
  await page.getByRole("button", { name: "Answer", exact: true }).click();
  const problem = await asked(page).getByRole("alert").filter({ hasText: "must" }).innerText();
  for (const [name, value] of Object.entries(fields)) await fill(name, value);
  await page.getByRole("button", { name: "Answer", exact: true }).click();
  await sent(page, thread);
  return { problem };
}

// With a schema that can say no, its other fields may be needed; without one, the thread ends.
export async function refuses(visitor, { thread, fields, confirm }) {
  const { page } = visitor;
  await visitor.go(`/inbox?thread=${thread}`);
  await page.getByRole("button", { name: "Refuse" }).click();
  if (!confirm) {
    const needed = await asked(page).getByRole("alert").innerText();
    for (const [name, value] of Object.entries(fields)) await asked(page).getByLabel(name).fill(value);
    await page.getByRole("button", { name: "Refuse" }).click();
    await sent(page, thread);
    return { needed };
  }
  const dialog = page.getByRole("dialog");
  const sentence = await dialog.locator("p").first().innerText();
  await dialog.getByRole("button", { name: "End it here" }).click();
  await page.getByRole("status").getByText("has ended here").waitFor();
  await page.locator(`.asks [data-key="${thread}"]`).waitFor({ state: "detached" });
  return { sentence };
}

// A review of tool calls: each is decided.
export async function reviews(visitor, { thread, decisions }) {
  const { page } = visitor;
  await visitor.go(`/inbox?thread=${thread}`);
  const offered = {};
  for (const { name, choose, args, message } of decisions) {
    const action = asked(page).getByRole("region", { name, exact: true });
    offered[name] = await action.locator(".segments button").allInnerTexts();
    await action.getByRole("button", { name: choose }).click();
    if (args) await action.locator("textarea").fill(args);
    if (message) await action.locator("textarea").fill(message);
  }
  await page.getByRole("button", { name: /Send the decision/ }).click();
  await sent(page, thread);
  return { offered };
}

// The oldest is first; filters, the number in the navigation, the keyboard, and a phone.
export async function listed(visitor, { threads, tag, graph }) {
  const { page } = visitor;
  await visitor.go(`/inbox?q=tag=${tag}`);
  const keys = () => page.locator(".asks li").evaluateAll((rows) => rows.map((row) => row.dataset.key));
  const shown = await keys();
  await page.locator("main").focus();
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const chosen = await page.locator(".asks .chosen").getAttribute("data-key");
  await page.reload();
  await visitor.settled();
  await page.locator(`.asks .chosen[data-key="${chosen}"]`).waitFor();
  await page.getByLabel("Graph").selectOption(graph);
  await visitor.until((count) => document.querySelectorAll(".asks li[data-key]").length === count, 1);
  const filtered = await keys();
  const badge = await page.getByRole("link", { name: /^Inbox/ }).locator(".count").innerText();
  await page.setViewportSize(NARROW);
  await visitor.go(`/inbox?q=tag=${tag}`);
  await page.getByRole("button", { name: /Refund/ }).first().click();
  await asked(page).getByRole("button", { name: "Answer", exact: true }).waitFor();
  await page.getByRole("button", { name: "Back to the list" }).click();
  await page.locator(".asks li").first().waitFor();
  return { shown, chosen, filtered, badge, threads };
}
