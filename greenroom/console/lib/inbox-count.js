// How many threads wait for a person: the number beside "Inbox" in the navigation, on every page.

import { api, poll } from "./api.js";

const EVERY_MS = 10_000;

/** Counts again at once: who has answered should see it. */
export async function countInbox(signal) {
  const count = await api.post("threads/count", { status: "interrupted" }, { signal });
  dispatchEvent(new CustomEvent("gr-count", { detail: { page: "inbox", count } }));
}

poll(() => countInbox(), EVERY_MS, new AbortController().signal);
