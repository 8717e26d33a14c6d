// Pictures for the documentation: each page at both sizes, in both themes.
import { NARROW, WIDE } from "../screens.mjs";

const SIZES = { 1280: WIDE, 390: NARROW };

export async function taken(visitor, { places, folder }) {
  const { page } = visitor;
  const files = [];
  for (const [name, place] of Object.entries(places)) {
    for (const [width, size] of Object.entries(SIZES)) {
      await page.setViewportSize(size);
      await visitor.go(`/${place}`);
      // Drawn once more when everything is there, in frames after one another.
      await page.evaluate(() => document.fonts.ready);
      await page.waitForTimeout(700);
      for (const theme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
        const path = `${folder}/${name}-${width}-${theme}.png`;
        await page.screenshot({ path, caret: "hide" });
        files.push(path);
      }
      await page.emulateMedia({ colorScheme: "light", reducedMotion: "no-preference" });
    }
  }
  return { files };
}
