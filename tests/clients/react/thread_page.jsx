// A chat with the hooks of @langchain/react, which speak event streaming.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useMessages, useStream } from "@langchain/react";

const asked = new URLSearchParams(location.search);
const more = JSON.parse(asked.get("input") ?? "{}");

// Every text that the last message had on the page, in order: proof that tokens arrive one by one.
window.shown = [];

// useMessageMetadata of 1.1.0 gives every message the newest checkpoint, so the history is asked for
// the newest state that lacks the message.
async function checkpointBefore(stream, message) {
  const history = await stream.client.threads.getHistory(stream.threadId, { limit: 100 });
  const has = ({ values }) => (values.messages ?? []).some(({ id }) => id === message.id);
  return history.find((state) => !has(state)).checkpoint.checkpoint_id;
}

function Message({ stream, message, draft }) {
  const edited = { messages: [{ type: "human", content: draft }], ...more };
  const edit = async () =>
    stream.submit(edited, { forkFrom: await checkpointBefore(stream, message) });
  return (
    <li>
      <span className={`message ${message.type}`}>{message.text}</span>
      {message.type === "human" && (
        <button className="edit" onClick={edit}>
          Edit
        </button>
      )}
    </li>
  );
}

function Subgraph({ stream, graph }) {
  const messages = useMessages(stream, graph);
  return (
    <p className="subgraph">
      {`${graph.namespace.at(-1).split(":")[0]} ${graph.status}: `}
      {messages.map((message) => message.text).join("|")}
    </p>
  );
}

function App() {
  const [threadId, setThreadId] = useState(asked.get("thread"));
  const [draft, setDraft] = useState("");
  const stream = useStream({
    apiUrl: asked.get("api"),
    assistantId: asked.get("graph"),
    threadId,
    transport: asked.get("transport") ?? "sse",
    onThreadId(id) {
      setThreadId(id);
      const address = new URL(location);
      address.searchParams.set("thread", id);
      history.replaceState(null, "", address); // a reload comes back to this thread
    },
  });
  const said = (content) => ({ messages: [{ type: "human", content }], ...more });
  const last = stream.messages.at(-1);

  useEffect(() => {
    if (last?.type === "ai" && window.shown.at(-1) !== last.text) window.shown.push(last.text);
  });

  return (
    <>
      <ol>
        {stream.messages.map((message, index) => (
          <Message key={message.id ?? index} stream={stream} message={message} draft={draft} />
        ))}
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
      <button id="resume" onClick={() => stream.respond(draft)}>
        Resume
      </button>
      {[...stream.subagents.values()].map(({ id, name, status, taskInput }) => (
        <p key={id} className="subagent">
          {JSON.stringify({ id, name, status, taskInput })}
        </p>
      ))}
      {[...stream.subagents.values(), ...stream.subgraphs.values()].map((graph) => (
        <Subgraph key={graph.namespace.join("|")} stream={stream} graph={graph} />
      ))}
      {stream.toolCalls.map((call) => (
        <p key={call.id ?? call.callId} className="call">
          {JSON.stringify({ name: call.name, args: call.args ?? call.input, output: call.output, status: call.status })}
        </p>
      ))}
      <p id="loading">{stream.isLoading ? "loading" : "idle"}</p>
      <p id="thread">{stream.threadId}</p>
      <p id="error">{stream.error ? String(stream.error.message ?? stream.error) : ""}</p>
      <pre id="interrupt">{stream.interrupt && JSON.stringify(stream.interrupt.value)}</pre>
      <pre id="values">{JSON.stringify(stream.values)}</pre>
    </>
  );
}

createRoot(document.getElementById("root")).render(<App />);
