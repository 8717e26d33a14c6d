// How values are written. All of it is text.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** A length of time: 340 ms, 4.2 s, 3 min 20 s, 2 h 5 min. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const first = UNITS.findIndex(([size]) => seconds >= size);
  const [size, unit] = UNITS[first];
  const [small, smaller] = UNITS[first + 1] ?? [1, ""];
  const rest = Math.floor((seconds % size) / small);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
}

/** How long ago: now, 12 s ago, 3 min ago, 2 d ago; "in 12 s" for what is to come. */
export function ago(date, now = Date.now()) {
  const seconds = Math.round((now - new Date(date).getTime()) / 1000);
  if (!Number.isFinite(seconds)) return "–";
  if (Math.abs(seconds) < 2) return "now";
  const [size, unit] = UNITS.find(([each]) => Math.abs(seconds) >= each);
  const count = Math.floor(Math.abs(seconds) / size);
  return seconds < 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
}

/** The exact time, in the reader's zone, to the millisecond. */
export function exact(date) {
  const at = new Date(date);
  if (Number.isNaN(at.getTime())) return "";
  const two = (value) => String(value).padStart(2, "0");
  const zone = -at.getTimezoneOffset();
  const sign = zone < 0 ? "-" : "+";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
    + `.${String(at.getMilliseconds()).padStart(3, "0")} UTC${sign}${two(Math.floor(Math.abs(zone) / 60))}:${two(Math.abs(zone) % 60)}`;
}

/** Sizes: 0 B, 12.4 MiB. */
export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  const power = Math.min(4, count < 1 ? 0 : Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** power;
  return `${power && value < 100 ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** A number with thin spaces between thousands. */
export const number = (value) => String(value).replace(/\B(?=(\d{3})+(?!\d))/g, " ");

/** The beginning of an id; the whole is its tooltip (see `gr-id`). The last digits of UUIDs of
 * version 7 are random, the first ones a time: so both ends are shown. */
export const short = (id) => (String(id).length > 16 ? `${String(id).slice(0, 8)}…${String(id).slice(-4)}` : String(id));

/** One line of a value, for a row of a table. */
export function oneLine(value, length = 160) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const line = text.slice(0, length * 4).replace(/\s+/g, " ").trim();
  return line.length > length ? `${line.slice(0, length - 1)}…` : line;
}

/** The text of a message's content: a string, or a list of blocks. */
export function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return content === null || content === undefined ? "" : JSON.stringify(content);
  return content.map((block) => (typeof block === "string" ? block : block?.text ?? "")).join("");
}
