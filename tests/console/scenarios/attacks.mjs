// Text that would be markup, or code, where a page takes it for that.

// Visits the places; each shows the text as text. A dialog would be a problem, see driver.mjs.
export async function shown(visitor, { places, text }) {
  const { page } = visitor;
  const found = {};
  const shows = {};
  for (const [name, place] of Object.entries(places)) {
    await visitor.go(`/${place}`);
    await page.locator("main").getByText(text).filter({ visible: true }).first().waitFor();
    shows[name] = true;
    // What is closed at first is opened, too.
    await page.evaluate(() => document.querySelectorAll("main details").forEach((each) => (each.open = true)));
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const made = await page.evaluate(() =>
      [...document.querySelectorAll('main :is(img, iframe, object, embed, script, [onload], [onerror], a[href^="javascript:" i], a[href^="data:" i])')]
        .map((each) => each.outerHTML.slice(0, 200)));
    if (made.length) found[name] = made;
  }
  return { shows, found };
}
