// Does in the console what a page of the documentation says, a step a line:
//   open threads            an address below /console
//   choose "Assistant" "essay"
//   fill "topic" "rivers"
//   click "Send"            a button, a link, a tab or a row, by its name or the beginning of it
//   follow "essay" 2        the first link of the second row of a table that has this text
//   replace "State" "a" "b" the first "a" in a field becomes "b"
//   see "paragraphs"        waits until the page shows it
//   gone "running"          waits until the page no longer shows it

const STEP = /^(\w+)\s*(.*)$/;
const WORDS = /"((?:[^"\\]|\\.)*)"|(\S+)/g;

const words = (line) => [...line.matchAll(WORDS)].map(([, quoted, bare]) => (quoted === undefined ? bare : quoted.replace(/\\"/g, '"')));
const begins = (text) => new RegExp(`^\\s*${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`, "i");

const STEPS = {
  open: (visitor, place = "") => visitor.go(`/${place}`),
  choose: ({ page }, name, option) => page.getByLabel(name).first().selectOption({ label: option }),
  fill: ({ page }, name, text) => page.getByLabel(begins(name)).first().fill(text),
  click({ page }, name) {
    const roles = ["button", "link", "tab"].map((role) => page.getByRole(role, { name: begins(name) }));
    return roles.reduce((all, each) => all.or(each)).filter({ visible: true }).first().click();
  },
  // Until the other page is there, the next step would find what it looks for on this one.
  async follow(visitor, text, number = 1) {
    const { page } = visitor;
    const here = page.url();
    await page.getByRole("row").filter({ hasText: text }).nth(number - 1).getByRole("link").first().click();
    await visitor.until((here) => location.href !== here && document.documentElement.dataset.page, here);
  },
  async replace({ page }, name, before, after) {
    const field = page.getByLabel(begins(name)).first();
    await field.fill((await field.inputValue()).replace(before, after));
  },
  see: ({ page }, text) => page.locator("main").getByText(text).filter({ visible: true }).first().waitFor(),
  gone: ({ page }, text) => page.locator("main").getByText(text, { exact: true }).filter({ visible: true }).first().waitFor({ state: "hidden" }),
};

export async function followed(visitor, { steps }) {
  for (const line of steps) {
    const [, verb, rest] = STEP.exec(line);
    try {
      await STEPS[verb](visitor, ...words(rest));
    } catch (error) {
      error.stack = `${line}\n${error.stack}`;
      throw error;
    }
  }
  return { shown: await visitor.page.locator("main").innerText() };
}
