// A run that is executed: where it stands, and holding it step by step.

const shows = (page, word) => page.locator(`.head [data-status="${word}"]`).waitFor();

/** Asks until the answer is yes. */
async function until(ask) {
  const deadline = Date.now() + 20_000;
  while (!(await ask())) {
    if (Date.now() > deadline) throw new Error(`It never was: ${ask}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

// The stack of the process, a pause at the end of a superstep, one step, going on, stopping.
export async function attached(visitor, { thread, run, node, file }) {
  const { page } = visitor;
  visitor.allow(409); // a stack that is asked for while the run ends
  await visitor.go(`/threads/${thread}/runs/${run}`);
  await page.getByRole("tab", { name: "Stack" }).click();
  await page.locator(".frames").getByText(file).first().waitFor();
  // Between two steps it names none.
  let load = "";
  await until(async () => (load = await page.locator(".load").innerText()).includes(node));
  const steps = async () => (await (await page.request.get(`${visitor.url}/threads/${thread}/state`, { headers: visitor.headers })).json()).values.i;
  await page.getByRole("button", { name: /^Pause/ }).click();
  await shows(page, "paused");
  const notice = await page.locator(".notice.warn").innerText();
  const held = await steps();
  await page.getByRole("button", { name: /superstep \(e\)/ }).click();
  await until(async () => (await steps()) === held + 1);
  await shows(page, "paused");
  const after = await steps();
  await page.getByRole("button", { name: /^Resume/ }).click();
  await shows(page, "running");
  await page.getByRole("button", { name: "Stop the run" }).click();
  await shows(page, "interrupted");
  const rows = await page.locator(".timeline [data-row]").evaluateAll((all) => all.map((each) => each.dataset.row));
  await page.getByRole("tab", { name: "Stack" }).click();
  const over = await page.getByText("The run is not executed now").innerText();
  return { load, notice, held, after, rows, over, node };
}
