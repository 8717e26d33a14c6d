// What is typed into a search for threads.

import { ApiError } from "./api.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * The conditions of a search: a thread's id, or metadata as `key=value`.
 *
 * @throws {ApiError} it is neither
 */
export function threadFilter(text) {
  const typed = text.trim();
  if (!typed) return {};
  if (UUID.test(typed)) return { ids: [typed] };
  const pairs = typed.split(/\s+/).map((each) => /^([^=]+)=(.+)$/.exec(each));
  if (pairs.includes(null)) throw new ApiError(0, "Type a whole thread id, or metadata as key=value.");
  return { metadata: Object.fromEntries(pairs.map(([, key, value]) => [key, parsed(value)])) };
}

function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
