// Figures of the console in this browser, for `python -m benchmarks.console`.

// First paint, and what was transferred for it: with an empty cache, in a browser that is warm.
export async function painted(visitor, { place }) {
  const { page } = visitor;
  await visitor.go(`/${place}`);
  return page.evaluate(() => {
    const paints = Object.fromEntries(performance.getEntriesByType("paint").map((each) => [each.name, each.startTime]));
    const files = performance.getEntriesByType("resource").filter((each) => ["script", "link", "css"].includes(each.initiatorType) || each.name.includes("/static/"));
    const [document_] = performance.getEntriesByType("navigation");
    return {
      first_paint_ms: paints["first-contentful-paint"],
      bytes: document_.decodedBodySize + files.reduce((sum, each) => sum + each.decodedBodySize, 0),
      files: files.length + 1,
    };
  });
}

// How long frames take while a run emits `rate` events a second. A frame is longer than the time
// between two callbacks of the browser only where the page kept it busy.
export async function burst(visitor, { assistant, input }) {
  const { page } = visitor;
  await visitor.go(`/?assistant=${assistant}`);
  await page.evaluate(() => {
    const figures = (window.figures = { frames: [], tasks: [] });
    new PerformanceObserver((list) => figures.tasks.push(...list.getEntries().map((each) => each.duration))).observe({ entryTypes: ["longtask"] });
    let last = performance.now();
    const frame = (now) => {
      figures.frames.push(now - last);
      last = now;
      figures.asked = requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  await page.getByLabel("Input as JSON").or(page.getByRole("button", { name: "JSON", exact: true })).first().click();
  await page.getByLabel("Input as JSON").fill(JSON.stringify(input));
  await page.getByRole("button", { name: /^Send/ }).click();
  const stop = page.getByRole("button", { name: "Stop the run" });
  await page.waitForFunction(() => !document.querySelector('button[aria-label="Stop the run"]').disabled);
  await stop.evaluate((button) => new Promise((done) => {
    const look = () => (button.disabled ? done() : setTimeout(look, 50));
    look();
  }));
  return page.evaluate(() => {
    const { frames, tasks } = window.figures;
    return { frames: frames.length, longest_ms: Math.max(...frames), over_50_ms: frames.filter((each) => each > 50).length, tasks, text: document.querySelector("main").innerText.length };
  });
}
