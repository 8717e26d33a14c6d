// The history of a thread: looking at a checkpoint, forking it, running from there.

const rows = (page) => page.locator(".history [data-checkpoint]");

// Changes what was said at an earlier checkpoint, and has the graph answer again from there.
export async function forks(visitor, { thread, text }) {
  const { page } = visitor;
  if (visitor.key) visitor.allow(404); // the handlers of the tests hide the graph's own assistant
  await visitor.go(`/threads/${thread}`);
  const before = await rows(page).count();
  await rows(page).nth(1).getByRole("button").click();
  await page.getByRole("button", { name: "Edit and fork" }).click();
  const field = page.getByLabel("State as JSON");
  const state = JSON.parse(await field.inputValue());
  await page.getByRole("button", { name: "Fork", exact: true }).click();
  const refused = await page.getByRole("dialog").getByRole("alert").innerText();
  state.messages[0].content = text;
  await field.fill(JSON.stringify(state));
  await page.getByRole("dialog").getByText("To be written: messages").waitFor();
  await page.getByRole("button", { name: "Fork", exact: true }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await page.waitForFunction((before) => document.querySelectorAll(".history [data-checkpoint]").length > before, before);
  await page.locator('.history [aria-current="true"]').getByText("Edited").waitFor();
  await page.locator(".diff").getByText(text, { exact: true }).first().waitFor();
  const changes = await page.locator(".diff").innerText();
  await page.getByRole("button", { name: "Run from here" }).click();
  await page.waitForFunction((before) => document.querySelectorAll(".history [data-checkpoint]").length > before + 1, before);
  await rows(page).first().getByRole("button").click();
  await page.locator(".detail .diff .new").getByText("1", { exact: true }).first().waitFor();
  const address = new URL(page.url()).search;
  // Down the list by keys; the address names the checkpoint, so that it can be sent to somebody.
  await page.locator("main").focus();
  await page.keyboard.press("j");
  await page.waitForFunction(() => new URL(location.href).searchParams.get("at"));
  const at = new URL(page.url()).searchParams.get("at");
  await page.reload();
  await visitor.settled();
  const chosen = await page.locator('.history [aria-current="true"]').getAttribute("data-checkpoint");
  await page.getByRole("tab", { name: "Runs" }).click();
  await page.locator("tr[data-run]").first().waitFor();
  const runs = await page.locator("tr[data-run]").count();
  return { refused, changes, address, at, chosen, runs };
}

// Somebody is faster than the server: what they press belongs to the checkpoint that they have chosen.
export async function hurries(visitor, { thread, before, after }) {
  const { page } = visitor;
  if (visitor.key) visitor.allow(404); // as above
  const commands = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/commands")) commands.push(request.postDataJSON().params.checkpoint_id);
  });
  const rerun = page.getByRole("button", { name: "Run from here" });
  const chosen = page.locator('.history [aria-current="true"]');
  const ready = () => page.locator(".detail:not([inert])").waitFor();

  // Presses where the button is, while the answers of a route are held.
  async function presses(route, act) {
    let release;
    const released = new Promise((resolve) => (release = resolve));
    await page.route(route, async (asked) => {
      await released;
      await asked.continue();
    });
    await act();
    const { x, y, width, height } = await rerun.boundingBox();
    await page.mouse.click(x + width / 2, y + height / 2);
    release();
    await ready();
    await page.unroute(route);
  }

  await visitor.go(`/threads/${thread}`);
  await ready();
  await presses("**/state/*", () => rows(page).nth(1).getByRole("button").click());
  const meant = await chosen.getAttribute("data-checkpoint");
  await page.getByRole("button", { name: "Edit and fork" }).click();
  const field = page.getByLabel("State as JSON");
  await field.fill((await field.inputValue()).replace(before, after));
  await presses(/\/history(\?|$)/, async () => {
    await page.getByRole("button", { name: "Fork", exact: true }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
  });
  await chosen.getByText("Edited").waitFor();
  const early = [...commands];
  const edited = await chosen.getAttribute("data-checkpoint");
  await rerun.click();
  await page.locator(".detail .diff .new").getByText("1", { exact: true }).first().waitFor();
  return { meant, edited, early, commands };
}
