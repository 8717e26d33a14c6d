// Reads server-sent events from a body. `EventSource` cannot send headers, and has no POST.

/** Yields `{event, data, id}` of each event; `data` is parsed JSON. Comments are left out. */
export async function* frames(body) {
  const parse = parser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const frame of parse(value)) yield frame;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Returns a function that takes pieces of text and returns the events that are whole by then. */
export function parser() {
  let rest = "";
  let frame = { event: "message", data: [], id: null };
  return (piece) => {
    const found = [];
    rest += piece;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (frame.data.length) found.push({ event: frame.event, id: frame.id, data: read(frame.data.join("\n")) });
        frame = { event: "message", data: [], id: null };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") frame.data.push(value);
      else if (name === "event") frame.event = value;
      else if (name === "id") frame.id = value;
    }
    return found;
  };
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
