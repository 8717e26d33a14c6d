// Speaks to the server's public API, and to nothing else.
//
// The page lies at `<mount>/console/static/<digest>/lib/api.js`, so the mount is four folders up:
// that holds under `http.mount_prefix`, under `/api`, and behind any proxy.

import { frames } from "./sse.js";

export const STATIC = new URL("../", import.meta.url);
export const MOUNT = new URL("../../../", STATIC);
/** The path of the console itself, with a slash at its end. */
export const HOME = `${MOUNT.pathname}console/`;

const KEPT = "greenroom.credentials";

/** What the server refused: `status` of HTTP (0: it was not reached), `message` is its sentence. */
export class ApiError extends Error {
  constructor(status, message, body) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.body = body;
  }
}

/** The key or token, or null. It stays in this tab, and is gone when the tab is closed. */
export const credentials = {
  get: () => sessionStorage.getItem(KEPT),
  set: (value) => sessionStorage.setItem(KEPT, value),
};

let asking = null;
/** What asks a person for a key: an async function of the server's sentence, set by the shell. */
export const onRefused = { ask: null };

/** Asks once, however many requests were refused at the same time. */
function ask(sentence) {
  asking ??= Promise.resolve(onRefused.ask(sentence)).finally(() => (asking = null));
  return asking;
}

async function send(method, path, { body, query, headers, signal, accept } = {}) {
  const url = new URL(path.replace(/^\//, ""), MOUNT);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const each of [value].flat()) if (each !== undefined && each !== null) url.searchParams.append(name, each);
  }
  for (;;) {
    const known = credentials.get();
    let answer;
    try {
      answer = await fetch(url, {
        method,
        signal,
        cache: "no-store",
        headers: {
          ...(accept && { accept }),
          ...(body !== undefined && { "content-type": "application/json" }),
          // API keys are read from either, tokens and handlers of a project from the second one.
          ...(known && { "x-api-key": known, authorization: `Bearer ${known}` }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "The server cannot be reached.");
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    // 401: nobody knows who asks. A 403 for a known caller is an answer, and asking again is futile.
    const unknown = answer.status === 401 || (answer.status === 403 && !known);
    if (!unknown || !onRefused.ask) throw problem;
    // Somebody may have given a key while this request was under way.
    if (credentials.get() === known && !(await ask(problem.message))) throw problem;
  }
}

async function problemOf(answer) {
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not from the server itself, but from a proxy before it.
  }
  const said = body?.detail ?? body?.message ?? body?.error;
  const sentence = typeof said === "string" ? said : said ? JSON.stringify(said) : `The server answered ${answer.status}.`;
  return new ApiError(answer.status, sentence, body);
}

async function json(method, path, options) {
  const answer = await send(method, path, options);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

export const api = {
  get: (path, options) => json("GET", path, options),
  post: (path, body, options) => json("POST", path, { ...options, body: body ?? {} }),
  patch: (path, body, options) => json("PATCH", path, { ...options, body }),
  put: (path, body, options) => json("PUT", path, { ...options, body }),
  delete: (path, options) => json("DELETE", path, options),

  /** A page of a search: `{items, next}`; `next` is the offset of the page after it, or null. */
  async page(path, body, options) {
    const answer = await send("POST", path, { ...options, body });
    const next = answer.headers.get("x-pagination-next");
    return { items: await answer.json(), next: next === null ? null : Number(next) };
  },

  /**
   * Yields the events of a stream, `{event, data, id}`, until the server ends it. It does not
   * reconnect: who knows what was seen does (see `follow`).
   */
  async *events(method, path, options) {
    const answer = await send(method, path, { ...options, accept: "text/event-stream" });
    yield* frames(answer.body);
  },
};

const SLICE_MS = 8;

/** Lets the browser do what waits, then goes on. */
const nextTask = () => globalThis.scheduler?.yield?.() ?? new Promise((done) => setTimeout(done));

/**
 * Follows a stream that never ends by itself, across lost connections.
 *
 * @param {() => AsyncIterable} open opens it, from where the caller has got to
 * @param {(event: object) => void} take
 * @param {AbortSignal} signal ends it
 * @param {(state: "live"|"lost") => void} [tell] is told when the connection breaks and comes back
 * @throws {ApiError} the server refuses it for good
 */
export async function follow(open, take, signal, tell = () => {}) {
  let wait = 250;
  while (!signal.aborted) {
    try {
      let begun = performance.now();
      for await (const event of open()) {
        tell("live");
        wait = 250;
        take(event);
        // A long past comes at once: frames are drawn, and keys heard, while it is read.
        if (performance.now() - begun > SLICE_MS) {
          await nextTask();
          begun = performance.now();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    tell("lost");
    await pause(wait, signal);
    wait = Math.min(wait * 2, 5000);
  }
}

/** Waits; ends early when the signal is aborted. */
export function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

/**
 * Asks again and again, one request at a time, while the page is visible.
 *
 * @param {() => Promise<void>} ask
 * @param {number} ms between the end of one and the beginning of the next
 */
export async function poll(ask, ms, signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await ask();
      } catch (error) {
        if (!(error instanceof ApiError) && !signal.aborted) throw error;
      }
    }
    await pause(ms, signal);
  }
}
