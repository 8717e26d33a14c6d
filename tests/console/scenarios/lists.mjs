// Crons, webhooks, what the server does now, and the drawing of a graph.

const EVERY_MS = 2000;

// A cron is switched off and on, filtered, and deleted after a question.
export async function switches(visitor, { cron, graph }) {
  const { page } = visitor;
  await visitor.go("/crons");
  const row = page.locator(`tr[data-key="${cron}"]`);
  await row.getByRole("link", { name: graph }).waitFor(); // names of assistants come after the rows
  const shown = await row.innerText();
  await row.getByRole("switch").click();
  await page.getByRole("status").getByText("The cron is off").waitFor();
  await row.getByRole("switch", { checked: false }).waitFor();
  await page.getByLabel("Which crons").selectOption("true");
  await row.waitFor({ state: "detached" });
  await page.getByLabel("Which crons").selectOption("false");
  await row.getByRole("switch").click();
  await row.waitFor({ state: "detached" });
  await page.getByLabel("Which crons").selectOption("");
  await row.getByRole("switch", { checked: true }).waitFor();
  await row.getByRole("button", { name: "Delete" }).click();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  const kept = await row.count();
  await row.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await row.waitFor({ state: "detached" });
  return { shown, kept };
}

export async function sendsAgain(visitor, { delivery }) {
  const { page } = visitor;
  await visitor.go("/webhooks");
  const row = page.locator(`tr[data-key="${delivery}"]`);
  const shown = await row.innerText();
  await row.getByRole("button", { name: /^Send/ }).click();
  await page.getByRole("status").getByText("It is sent again").waitFor();
  await page.getByLabel("Status").selectOption("delivered");
  await page.waitForFunction(() => [...document.querySelectorAll("tbody tr")].every((each) => /delivered|No webhook/.test(each.innerText)));
  return { shown };
}

// A run that is executed is in the table of actors, and leads to its page.
export async function watched(visitor, { run, thread, node }) {
  const { page } = visitor;
  await page.clock.install();
  await visitor.go("/now");
  const actor = page.locator(".actors tr").filter({ has: page.locator(`a[href$="${run}"]`) });
  await actor.getByText(node, { exact: true }).waitFor();
  const row = await actor.innerText();
  const tiles = await page.locator(".tile").allInnerTexts();
  const pools = await page.locator(".pools tbody tr").allInnerTexts();
  // Nobody is asked while nobody looks, however much time goes by.
  const asks = (request) => request.url().endsWith("/runtime");
  let asked = 0;
  page.on("request", (request) => (asked += asks(request)));
  const answered = page.waitForResponse((response) => asks(response.request()));
  await page.clock.fastForward(EVERY_MS);
  await answered;
  await page.evaluate(() => Object.defineProperty(document, "hidden", { get: () => true, configurable: true }));
  await page.clock.fastForward(EVERY_MS); // the pause that has begun
  asked = 0;
  for (let n = 0; n < 5; n++) await page.clock.fastForward(10 * EVERY_MS);
  const whileHidden = asked;
  await page.evaluate(() => delete document.hidden);
  const again = page.waitForRequest(asks);
  await page.clock.fastForward(EVERY_MS);
  await again;
  await actor.getByRole("link").first().click();
  await page.waitForFunction((thread) => location.pathname.includes(`threads/${thread}/runs/`), thread);
  return { row, tiles, pools, whileHidden };
}

// The node that a run is in is lit, and is not any more when the run has ended.
export async function lit(visitor, { assistant, node, run, thread }) {
  const { page } = visitor;
  await visitor.go(`/assistants/${assistant}`);
  const isLit = (wanted) => page.waitForFunction(
    ([node, wanted]) => document.querySelector(`gr-graph [data-node="${node}"]`).classList.contains("lit") === wanted,
    [node, wanted],
  );
  await isLit(true);
  const told = await page.locator(`gr-graph [data-node="${node}"] title`).innerHTML();
  const words = await page.locator("gr-graph svg > title").innerHTML();
  const listed = await page.locator(`.runs a[href$="${run}"]`).count();
  await page.request.post(`${visitor.url}/threads/${thread}/runs/${run}/cancel`);
  await isLit(false);
  await page.getByText("No run of it is executed").waitFor();
  return { told, words, listed };
}
