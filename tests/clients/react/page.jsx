// A chat as an application would write it, with nothing of its own between useStream and the page.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useStream } from "@langchain/langgraph-sdk/react";

const asked = new URLSearchParams(location.search);
const more = JSON.parse(asked.get("input") ?? "{}");

// Every text that the last message had on the page, in order: proof that tokens arrive one by one.
window.shown = [];

function App() {
  const [threadId, setThreadId] = useState(asked.get("thread"));
  const [draft, setDraft] = useState("");
  const stream = useStream({
    apiUrl: asked.get("api"),
    assistantId: asked.get("graph"),
    threadId,
    onThreadId(id) {
      setThreadId(id);
      const address = new URL(location);
      address.searchParams.set("thread", id);
      history.replaceState(null, "", address); // a reload comes back to this thread
    },
    reconnectOnMount: asked.has("reconnect"),
    fetchStateHistory: true,
  });
  const said = (content) => ({ messages: [{ type: "human", content }], ...more });
  const last = stream.messages.at(-1);

  useEffect(() => {
    if (last?.type === "ai" && window.shown.at(-1) !== last.content) window.shown.push(last.content);
  });

  return (
    <>
      <ol>
        {stream.messages.map((message, index) => {
          const metadata = stream.getMessagesMetadata(message, index);
          const checkpoint = metadata?.firstSeenState?.parent_checkpoint;
          const branches = metadata?.branchOptions ?? [];
          const place = branches.indexOf(metadata?.branch);
          return (
            <li key={message.id ?? index}>
              <span className={`message ${message.type}`}>{message.content}</span>
              {message.type === "human" && (
                <button className="edit" onClick={() => stream.submit(said(draft), { checkpoint })}>
                  Edit
                </button>
              )}
              {branches.length > 0 && (
                <>
                  <span className="branch">{`${place + 1}/${branches.length}`}</span>
                  <button
                    className="earlier"
                    onClick={() => stream.setBranch(branches[Math.max(0, place - 1)])}
                  >
                    Earlier
                  </button>
                </>
              )}
            </li>
          );
        })}
      </ol>
      <input value={draft} onChange={(event) => setDraft(event.target.value)} />
      <button id="send" onClick={() => stream.submit(said(draft))}>
        Send
      </button>
      <button id="submit" onClick={() => stream.submit(more)}>
        Submit
      </button>
      <button id="stop" onClick={() => stream.stop()}>
        Stop
      </button>
      <button
        id="resume"
        onClick={() => stream.submit(undefined, { command: { resume: draft } })}
      >
        Resume
      </button>
      <p id="loading">{stream.isLoading ? "loading" : "idle"}</p>
      <p id="thread">{threadId}</p>
      <p id="error">{stream.error ? String(stream.error.message ?? stream.error) : ""}</p>
      <pre id="interrupt">{stream.interrupt && JSON.stringify(stream.interrupt.value)}</pre>
      <pre id="values">{JSON.stringify(stream.values)}</pre>
    </>
  );
}

createRoot(document.getElementById("root")).render(<App />);
