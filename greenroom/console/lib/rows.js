// Rows that are drawn again and again: those that did not change stay, and the focus stays in its row.

/**
 * Makes the children of an element those of `items`, in their order.
 *
 * @param {HTMLElement} host a `tbody` or a list
 * @param {any[]} items
 * @param {{key: (item) => string, draw: (item) => HTMLElement, mark?: (item) => any}} how `key` says
 *     which item a row is of, `mark` what its looks depend on (all of it by default)
 */
export function keep(host, items, { key, draw, mark = (item) => item }) {
  const known = new Map([...host.children].filter((row) => row.dataset.key).map((row) => [row.dataset.key, row]));
  const focused = focusedIn(host);
  const rows = items.map((item) => {
    const name = key(item);
    const now = JSON.stringify(mark(item));
    const old = known.get(name);
    if (old && old.mark === now) return old;
    const made = draw(item);
    made.dataset.key = name;
    made.mark = now;
    if (old?.getAttribute("aria-selected") === "true") made.setAttribute("aria-selected", "true");
    return made;
  });
  if (rows.length === host.children.length && rows.every((row, at) => host.children[at] === row)) return;
  host.replaceChildren(...rows);
  if (!focused) return;
  const row = rows.find((each) => each.dataset.key === focused.key);
  if (row) (targets(row)[focused.at] ?? row).focus({ preventScroll: true });
}

const targets = (row) => [...row.querySelectorAll("a, button, input, select, summary")];

function focusedIn(host) {
  const row = [...host.children].find((each) => each.contains(document.activeElement));
  return row?.dataset.key ? { key: row.dataset.key, at: targets(row).indexOf(document.activeElement) } : null;
}
