// What holds for every page.

// No page is wider than the screen, and axe finds nothing serious, in either theme: as it is loaded on a
// narrow screen, and when that has become a wide one.
export async function checked(visitor, { places }) {
  const seen = {};
  for (const [name, place] of Object.entries(places)) {
    for (const narrow of [true, false]) {
      await visitor.resize(narrow);
      if (narrow) await visitor.go(`/${place}`);
      const screen = `${name}, ${narrow ? "narrow" : "wide"}`;
      await visitor.fits(screen);
      await visitor.accessible(screen);
    }
    seen[name] = await visitor.page.locator("h1").innerText();
  }
  return { seen };
}

// An address leads to its page, also after a reload; Back comes back. No other server is asked.
export async function addressed(visitor, { places }) {
  const { page } = visitor;
  const seen = {};
  const asked = new Set();
  page.on("request", (request) => asked.add(request.url().startsWith("data:") ? "data:" : new URL(request.url()).origin));
  for (const [name, place] of Object.entries(places)) {
    await visitor.go(`/${place}`);
    const shown = await page.evaluate(() => document.documentElement.dataset.page);
    const title = await page.title();
    await page.reload();
    await visitor.settled();
    const again = await page.evaluate(() => [document.documentElement.dataset.page, location.pathname]);
    seen[name] = { shown, title, again: again[0], path: again[1] };
  }
  await page.goBack();
  await visitor.settled();
  asked.delete("data:");
  return { seen, asked: [...asked], back: await page.evaluate(() => location.pathname) };
}

// Everything by keys: the pages, the list of the keys, the theme that stays.
export async function typed(visitor, { keys }) {
  const { page } = visitor;
  await visitor.go("/threads");
  const reached = {};
  for (const [key, name] of Object.entries(keys)) {
    await page.locator("main").focus();
    await Promise.all([page.keyboard.press("g"), page.keyboard.press(key)]); // one right after the other
    await page.waitForFunction((name) => document.documentElement.dataset.page === name, name);
    reached[key] = await page.locator('nav [aria-current="page"]').innerText();
  }
  await page.locator("main").focus();
  await page.keyboard.press("?");
  const help = await page.getByRole("dialog").innerText();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  // Who hears the page can go past the navigation.
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  const skipped = await page.evaluate(() => document.activeElement.id);
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await ground();
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.getByRole("button", { name: /^Theme/ }).click();
  const dark = await ground();
  await page.reload();
  await visitor.settled();
  return { reached, help, skipped, light, dark, kept: await ground() };
}

// A page that is not there, and records that are not there, say so.
export async function missing(visitor, { id }) {
  const { page } = visitor;
  visitor.allow(404);
  const said = {};
  await page.goto(`${visitor.url}/console/nowhere`);
  said.page = await page.getByText("There is no such page").innerText();
  for (const place of [`assistants/${id}`, `threads/${id}`, `threads/${id}/runs/${id}`]) {
    await page.goto(`${visitor.url}/console/${place}`);
    said[place.split("/").filter((each) => each !== id).join("/")] = await page.locator("main").getByText(/not found|no such/i).first().innerText();
  }
  return { said };
}

// What the first visit transfers, by kind.
export async function weighed(visitor, { place }) {
  const { page } = visitor;
  const bytes = { page: 0, scripts: 0, styles: 0, other: 0 };
  const kinds = { document: "page", script: "scripts", stylesheet: "styles" };
  const all = [];
  page.on("response", (response) => {
    const kind = kinds[response.request().resourceType()] ?? "other";
    all.push(response.body().then((body) => (bytes[kind] += body.length), () => {}));
  });
  await visitor.go(`/${place}`);
  await Promise.all(all);
  return { bytes };
}
