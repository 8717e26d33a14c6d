"""The A2A protocol: its shapes in both versions, its errors, and what becomes of a message."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from a2a.compat.v0_3 import types as v03
from a2a.types import a2a_pb2 as v10
from google.protobuf.json_format import ParseDict

from greenroom.core.errors import Conflict, DatabaseUnavailable, Unreachable
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import StateUpdate
from greenroom.core.runs import RunStatus
from tests.http.edge_doubles import RUN, THREAD, UNKNOWN, MemoryRuntime

COUNTER = system_assistant_id("counter")
MOUNTS = ("", "/api")
QUESTION = {"type": "interrupt", "id": "i1", "value": {"ask": "sure?"}}

CHATS = {"input_schema": {"properties": {"messages": {"type": "array"}}, "required": ["messages"]}}
COUNTS = {"input_schema": {"properties": {"count": {}, "log": {}}}}


@pytest.fixture(autouse=True)
def chats(runtime: MemoryRuntime) -> None:
    """The graph's input has ``messages``."""
    runtime.answer = orjson.dumps(CHATS)


def text(said: str) -> dict[str, Any]:
    return {"kind": "text", "text": said}


def message(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "user", "messageId": "m1", "parts": [*parts] or [text("hi")], **more}


class Agent:
    """Talks JSON-RPC to an assistant."""

    def __init__(self, client: httpx.AsyncClient, runtime: MemoryRuntime) -> None:
        self.client = client
        self.runtime = runtime
        self.mount = ""
        self.headers: dict[str, str] = {}

    async def post(self, body: Any, assistant_id: str = COUNTER) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        path = f"{self.mount}/a2a/{assistant_id}"
        return await self.client.post(path, content=content, headers=self.headers)

    async def call(self, method: str, params: Any = None, **more: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": "r1", "method": method, "params": params}
        answer = await self.post(body, **more)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["jsonrpc"], found["id"]) == ("2.0", "r1")
        return found

    async def result(self, method: str, params: Any) -> Any:
        found = await self.call(method, params)
        assert "error" not in found, found
        return found["result"]

    async def error(self, method: str, params: Any, **more: Any) -> tuple[int, str]:
        error = (await self.call(method, params, **more))["error"]
        return error["code"], error["message"]

    async def begun(self, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The task of a message that nobody waits for."""
        params = {"message": message(*parts, **more), "configuration": {"blocking": False}}
        return await self.result("message/send", params)

    async def events(self, method: str, params: Any) -> list[dict[str, Any]]:
        """The whole stream of a call."""
        body = {"jsonrpc": "2.0", "id": "r1", "method": method, "params": params}
        answer = await self.post(body)
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
        frames = [f for f in answer.text.split("\r\n\r\n") if f and not f.startswith(":")]
        assert all(frame.startswith("event: message\r\ndata: ") for frame in frames)
        found = [orjson.loads(frame.partition("data: ")[2]) for frame in frames]
        assert all((each["jsonrpc"], each["id"]) == ("2.0", "r1") for each in found)
        return [each.get("result") or each for each in found]

    def body(self) -> dict[str, Any]:
        """The kwargs of the newest run."""
        return orjson.loads(self.runtime.requests[-1].kwargs)

    async def answered(self, method: str, params: Any, output: Any, **outcome: Any) -> Any:
        """The result of a call whose run ends with an output."""
        self.runtime.admitted.clear()
        asking = asyncio.create_task(self.result(method, params))
        async with asyncio.timeout(30):
            await self.runtime.admitted.wait()
        self.finish(output, **outcome)
        return await asking

    def finish(self, output: Any, **outcome: Any) -> None:
        request = self.runtime.requests[-1]
        thread = self.runtime.records.threads[request.thread_id]
        waits = isinstance(output, dict) and "__interrupt__" in output
        thread["status"] = "interrupted" if waits else "idle"
        self.runtime.finish(request.run_id, output, **outcome)


@pytest.fixture
def agent(client: httpx.AsyncClient, runtime: MemoryRuntime) -> Agent:
    return Agent(client, runtime)


def talk(answer: str, message_id: str = "m1", question: str = "hi") -> dict[str, Any]:
    human = {"type": "human", "content": question, "id": message_id}
    return {"messages": [human, {"type": "ai", "content": answer, "id": f"a-{message_id}"}]}


# --- cards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_card_is_one_of_both_versions(client, mount):
    path = f"{mount}/.well-known/agent-card.json"
    answer = await client.get(path, params={"assistant_id": COUNTER})
    card = answer.raise_for_status().json()
    assert card["name"] == "counter"
    assert card["description"] == "counter assistant"
    assert card["url"] == f"http://edge{mount}/a2a/{COUNTER}"
    assert card["capabilities"]["streaming"] is True
    assert card["capabilities"]["pushNotifications"] is True
    assert card["skills"][0]["metadata"]["inputSchema"] == {
        "required": ["messages"],
        "properties": ["messages"],
        "supportsA2A": True,
    }
    old = v03.AgentCard.model_validate(card)
    assert (old.url, old.protocol_version) == (card["url"], "0.3.0")
    new = ParseDict(card, v10.AgentCard(), ignore_unknown_fields=True)
    assert new.supported_interfaces[0].url == card["url"]
    for other in ("", "/.well-known/agent-card.json", "/.well-known/agent.json"):
        assert (await client.get(f"{mount}/a2a/{COUNTER}{other}")).json() == card
    assert (await client.get(f"{mount}/a2a/counter")).json() == card


async def test_a_card_has_the_assistants_description_and_the_scheme_of_a_proxy(client, records):
    records.assistants[COUNTER]["description"] = "Counts."
    headers = {"host": "agents.example", "x-forwarded-proto": "https"}
    card = (await client.get(f"/a2a/{COUNTER}", headers=headers)).json()
    assert card["description"] == card["skills"][0]["description"] == "Counts."
    assert card["url"] == f"https://agents.example/a2a/{COUNTER}"


async def test_a_card_without_an_assistant_is_refused(client):
    path = "/.well-known/agent-card.json"
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "Missing required query parameter: assistant_id"}
    assert (await client.get(path, params={"assistant_id": UNKNOWN})).status_code == 404
    assert (await client.get(path, params={"assistant_id": "nosuch"})).status_code == 422


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_message_is_a_run_and_its_answer_a_task(agent, runtime, mount):
    agent.mount = mount
    task = await agent.answered("message/send", {"message": message()}, output=talk("hello"))
    run_id, thread_id = runtime.requests[0].run_id, runtime.requests[0].thread_id
    assert (task["id"], task["contextId"], task["kind"]) == (run_id, thread_id, "task")
    assert task["status"]["state"] == "completed"
    assert task["artifacts"][0]["parts"] == [text("hello")]
    said = [(each["role"], each["parts"], each["taskId"]) for each in task["history"]]
    assert said == [("user", [text("hi")], run_id), ("agent", [text("hello")], run_id)]
    v03.Task.model_validate(task)
    sent = agent.body()["input"]
    assert sent == {"messages": [{"role": "human", "content": "hi", "id": "m1"}]}
    assert runtime.records.threads[thread_id]["metadata"] == {}
    # From the records it is the same.
    found = await agent.result("tasks/get", {"id": run_id, "contextId": thread_id})
    assert {**found, "status": None} == {**task, "status": None}


async def test_version_1_0_has_its_own_words(agent):
    sent = {"role": "ROLE_USER", "messageId": "m1", "parts": [{"text": "hi"}, {"data": {"n": 3}}]}
    result = await agent.answered("SendMessage", {"message": sent}, output=talk("hello"))
    task = ParseDict(result, v10.SendMessageResponse()).task
    assert task.status.state == v10.TASK_STATE_COMPLETED
    assert task.artifacts[0].parts[0].text == "hello"
    assert [m.role for m in task.history] == [v10.ROLE_USER, v10.ROLE_AGENT]
    assert agent.body()["input"]["n"] == 3
    assert isinstance(agent.body()["input"]["n"], int)
    found = ParseDict(await agent.result("GetTask", {"id": task.id}), v10.Task())
    assert found.artifacts == task.artifacts


async def test_all_parts_reach_the_graph(agent):
    parts = [text("one"), text("two"), {"kind": "data", "data": {"n": 1}}]
    await agent.begun(*parts, {"kind": "data", "data": {"q": "x"}})
    assert agent.body()["input"] == {
        "n": 1,
        "q": "x",
        "messages": [{"role": "human", "content": "one\ntwo", "id": "m1"}],
    }
    image = {"kind": "file", "file": {"uri": "http://x/y", "mimeType": "image/png"}}
    file = {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "a.txt"}}
    await agent.begun(image, text("what?"), file)
    (said,) = agent.body()["input"]["messages"]
    assert said["content"] == [
        {"type": "image", "url": "http://x/y", "mime_type": "image/png"},
        {"type": "text", "text": "what?"},
        {
            "type": "file",
            "base64": "aGk=",
            "mime_type": "text/plain",
            "extras": {"filename": "a.txt"},
        },
    ]
    new = {"raw": "aGk=", "mediaType": "text/plain", "filename": "a.txt"}
    sent = {"role": "ROLE_USER", "messageId": "m2", "parts": [new]}
    now = {"returnImmediately": True}
    await agent.result("SendMessage", {"message": sent, "configuration": now})
    assert agent.body()["input"]["messages"][0]["content"] == [said["content"][2]]


async def test_metadata_are_the_runs_and_cannot_forge_a_task(agent, runtime):
    params = {
        "message": message(metadata={"m": 1, "a2a": {"task_id": RUN}}, referenceTaskIds=[RUN]),
        "metadata": {"r": 2},
        "configuration": {"blocking": False},
    }
    task = await agent.result("message/send", params)
    metadata = orjson.loads(runtime.requests[0].metadata)
    assert (metadata["m"], metadata["r"]) == (1, 2)
    about = {"task_id": task["id"], "message_id": "m1", "is_first": True}
    about |= {"reference_task_ids": [RUN]}
    assert metadata["a2a"] == about


async def test_text_for_a_graph_without_messages_is_refused_and_data_answered(agent, runtime):
    runtime.answer = orjson.dumps(COUNTS)
    code, told = await agent.error("message/send", {"message": message()})
    assert code == -32602
    assert "'messages'" in told
    assert "count, log" in told
    assert runtime.requests == []
    assert runtime.records.threads == {}
    data = {"kind": "data", "data": {"count": 1}}
    task = await agent.answered(
        "message/send", {"message": message(data)}, output={"count": 2, "log": ["a"]}
    )
    shown = {"kind": "data", "data": {"count": 2, "log": ["a"]}}
    assert task["artifacts"][0]["parts"] == [shown]
    assert task["history"] == []


async def test_a_context_is_a_thread_and_its_history_is_shown_in_the_wanted_scope(agent):
    agent.runtime.records.add_thread()
    first = await agent.answered(
        "message/send", {"message": message(contextId=THREAD)}, output=talk("first")
    )
    both = {"messages": talk("first")["messages"] + talk("second", "m2", "more")["messages"]}
    sent = message(text("more"), contextId=THREAD) | {"messageId": "m2"}
    second = await agent.answered("message/send", {"message": sent}, output=both)
    assert first["contextId"] == second["contextId"] == THREAD
    assert second["artifacts"][0]["parts"] == [text("second")]
    of = [each.get("taskId") for each in second["history"]]
    assert of == [None, None, second["id"], second["id"]]
    agent.headers = {"LangGraph-A2A-History-Scope": "task"}
    found = await agent.result("tasks/get", {"id": second["id"], "historyLength": 1})
    assert [each["messageId"] for each in found["history"]] == ["a-m2"]
    # The values of the thread are those of the later run: the older task finds its own in them.
    agent.runtime.endings[first["id"]] = agent.runtime.endings[second["id"]]
    found = await agent.result("tasks/get", {"id": first["id"]})
    assert [each["messageId"] for each in found["history"]] == ["m1", "a-m1"]
    assert found["artifacts"][0]["parts"] == [text("first")]
    found = await agent.result("tasks/get", {"id": first["id"], "historyLength": 0})
    assert "history" not in found
    agent.headers = {"LangGraph-A2A-History-Scope": "all"}
    assert (await agent.error("tasks/get", {"id": first["id"]}))[0] == -32602


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        (RunStatus.ERROR, "failed", "ValueError: boom"),
        (RunStatus.TIMEOUT, "failed", "ValueError: boom"),
        (RunStatus.INTERRUPTED, "canceled", None),
    ],
)
async def test_a_run_that_failed_is_a_task_that_tells_why(agent, status, state, said):
    error = b'{"error":"ValueError","message":"boom"}' if said else None
    task = await agent.answered(
        "message/send", {"message": message()}, output=None, status=status, error=error
    )
    found = await agent.result("tasks/get", {"id": task["id"]})
    for each in (task, found):
        assert each["status"]["state"] == state
        assert "artifacts" not in each
        told = each["status"].get("message")
        assert (told and told["parts"]) == ([text(said)] if said else None)


@pytest.mark.parametrize(
    ("keys", "history"),
    [(None, ["m1", "a-m1"]), (b'["messages"]', ["m1", "a-m1"]), (b'["other"]', [])],
)
async def test_a_failed_task_has_what_the_output_schema_shows(agent, keys, history):
    task = await agent.answered(
        "message/send",
        {"message": message()},
        output=None,
        status=RunStatus.ERROR,
        error=b'{"error":"ValueError","message":"boom"}',
        values=orjson.dumps(talk("so far")),
        output_keys=keys,
    )
    assert [each["messageId"] for each in task["history"]] == history


# --- interrupts -----------------------------------------------------------------------------------


async def interrupted(agent: Agent, value: Any = QUESTION) -> dict[str, Any]:
    task = await agent.answered(
        "message/send", {"message": message()}, output={"messages": [], "__interrupt__": [value]}
    )
    assert task["status"]["state"] == "input-required"
    return task


async def test_an_interrupt_requires_input_and_its_answer_keeps_the_task(agent, runtime):
    task = await interrupted(agent)
    shown = {"kind": "data", "data": {"id": "i1", "value": {"ask": "sure?"}}}
    assert task["artifacts"][0]["parts"] == [shown]
    asks = {"kind": "data", "data": {"ask": "sure?"}}
    assert task["status"]["message"]["parts"] == [asks]
    found = await agent.result("tasks/get", {"id": task["id"]})
    assert found["status"]["state"] == "input-required"
    assert found["artifacts"] == task["artifacts"]
    answer = message(text("yes"), taskId=task["id"]) | {"messageId": "m2"}
    done = await agent.answered("message/send", {"message": answer}, output=talk("done"))
    assert agent.body()["command"] == {"resume": {"i1": "yes"}}
    assert agent.body()["strict_resume"] is True
    assert runtime.requests[1].multitask_strategy == "reject"
    assert (done["id"], done["contextId"]) == (task["id"], task["contextId"])
    assert runtime.requests[1].run_id != task["id"]
    assert done["status"]["state"] == "completed"
    found = await agent.result("tasks/get", {"id": task["id"]})
    assert found["artifacts"] == done["artifacts"]
    # The run of the answer is no task of its own.
    assert (await agent.error("tasks/get", {"id": runtime.requests[1].run_id}))[0] == -32001
    code, _ = await agent.error("message/send", {"message": answer})
    assert code == -32004


async def test_a_message_on_the_context_answers_and_data_do_so_as_they_are(agent):
    task = await interrupted(agent, {"id": "i1", "value": "sure?"})
    assert task["status"]["message"]["parts"] == [text("sure?")]
    mixed = message(text("yes"), {"kind": "data", "data": {}}, contextId=task["contextId"])
    assert (await agent.error("message/send", {"message": mixed}))[0] == -32602
    data = {"kind": "data", "data": {"approved": True, "amount": 3}}
    again = await agent.begun(data, contextId=task["contextId"])
    assert again["id"] == task["id"]
    assert agent.body()["command"] == {"resume": {"i1": {"approved": True, "amount": 3}}}


async def test_several_interrupts_are_answered_by_their_ids(agent):
    asks = [{"id": "i1", "value": 1}, {"id": "i2", "value": 2}]
    output = {"messages": [], "__interrupt__": asks}
    task = await agent.answered("message/send", {"message": message()}, output=output)
    assert [part["data"] for part in task["artifacts"][0]["parts"]] == asks
    code, told = await agent.error("message/send", {"message": message(taskId=task["id"])})
    assert (code, "i1, i2" in told) == (-32602, True)
    await agent.begun({"kind": "data", "data": {"i1": "a", "i2": 2}}, taskId=task["id"])
    assert agent.body()["command"] == {"resume": {"i1": "a", "i2": 2}}


async def test_a_task_that_waits_is_canceled(agent, runtime):
    task = await interrupted(agent)
    found = await agent.result("tasks/cancel", {"id": task["id"]})
    assert found["status"]["state"] == "canceled"
    assert "artifacts" not in found
    update = next(each for each in runtime.questions if isinstance(each, StateUpdate))
    assert (update.as_node, update.values) == ("__end__", b"null")
    # Also before the thread is cleared, and for good.
    assert (await agent.result("tasks/get", {"id": task["id"]}))["status"]["state"] == "canceled"
    assert (await agent.error("tasks/cancel", {"id": task["id"]}))[0] == -32002
    answer = message(taskId=task["id"])
    assert (await agent.error("message/send", {"message": answer}))[0] == -32004
    # The next message of the context is another task.
    again = await agent.begun(text("hi"), contextId=task["contextId"])
    assert again["id"] != task["id"]


async def test_an_answer_that_came_before_a_cancel_wins(agent, runtime):
    task = await interrupted(agent)
    runtime.fail = Conflict("a run is in flight")
    found = await agent.result("tasks/cancel", {"id": task["id"]})
    assert found["status"]["state"] == "canceled"
    # The run that answered has another id than the one that the cancel was about.
    runtime.fail = None
    thread = runtime.records.threads[task["contextId"]]
    thread["metadata"] = {f"a2a_canceled_{task['id']}": UNKNOWN}
    assert (await agent.result("tasks/get", {"id": task["id"]}))["status"]["state"] != "canceled"


async def test_a_task_whose_interrupt_a_later_run_went_over_is_over(agent, runtime):
    task = await interrupted(agent)
    # Another client's run went over the interrupt.
    await agent.client.post(
        f"/threads/{task['contextId']}/runs", json={"assistant_id": "counter", "input": {}}
    )
    found = await agent.result("tasks/get", {"id": task["id"]})
    assert found["status"]["state"] == "completed"


async def test_a_task_at_work_takes_no_message(agent, runtime):
    task = await agent.begun()
    code, told = await agent.error("message/send", {"message": message(taskId=task["id"])})
    assert (code, "at work" in told) == (-32004, True)
    runtime.fail = Conflict("taken")
    code, _ = await agent.error("message/send", {"message": message({"kind": "data", "data": {}})})
    assert code == -32004


# --- streams --------------------------------------------------------------------------------------


def chunk(said: str, message_id: str = "c1", kind: str = "AIMessageChunk") -> list[Any]:
    return [{"type": kind, "content": said, "id": message_id}, {}]


@pytest.mark.parametrize("version", ["0.3", "1.0"])
async def test_a_stream_tells_the_text_the_result_and_the_end(agent, runtime, version):
    async def works() -> None:
        await runtime.admitted.wait()
        run_id = runtime.requests[0].run_id
        for event in (chunk("no"), chunk("ise", kind="human")):
            runtime.emit(run_id, "messages", event)
        # The next attempt says everything again.
        runtime.emit(run_id, "metadata", {"run_id": run_id, "attempt": 2})
        for said in ("he", "llo"):
            runtime.emit(run_id, "messages", chunk(said))
        agent.finish(talk("hello"))

    working = asyncio.create_task(works())
    if version == "0.3":
        events = await agent.events("message/stream", {"message": message()})
        models: list[Any] = [
            v03.SendStreamingMessageSuccessResponse(id="1", result=each).result for each in events
        ]
        kinds = [each.kind for each in models]
        kind = "status-update"
        states = [each.status.state.value for each in models if each.kind != "artifact-update"]
        assert [each.final for each in models if each.kind == kind][-1] is True
        texts = [
            each.status.message.parts[0].root.text
            for each in models
            if each.kind == kind and each.status.message
        ]
    else:
        sent = {"role": "ROLE_USER", "messageId": "m1", "parts": [{"text": "hi"}]}
        events = await agent.events("SendStreamingMessage", {"message": sent})
        answers = [ParseDict(each, v10.StreamResponse()) for each in events]
        kinds = [each.WhichOneof("payload").replace("_", "-") for each in answers]
        names = {1: "submitted", 2: "working", 3: "completed"}
        updates = [each.status_update for each in answers if each.HasField("status_update")]
        states = ["submitted", *[names[each.status.state] for each in updates]]
        texts = [each.status.message.parts[0].text for each in updates if each.status.message.parts]
    await working
    assert (kinds[0], kinds[-2:]) == ("task", ["artifact-update", "status-update"])
    assert set(kinds[1:-2]) == {"status-update"}
    assert (states[0], set(states[1:-1]), states[-1]) == ("submitted", {"working"}, "completed")
    assert texts[-1] == "hello"


async def test_who_subscribes_gets_the_task_and_all_that_follows(agent, runtime):
    task = await agent.begun()
    runtime.emit(task["id"], "messages", chunk("hel"))
    subscribed = asyncio.create_task(agent.events("tasks/resubscribe", {"id": task["id"]}))
    await runtime.opened.wait()
    runtime.emit(task["id"], "messages", chunk("lo"))
    agent.finish(talk("hello"))
    events = await subscribed
    assert events[0]["id"] == task["id"]
    assert events[0]["status"]["state"] == "working"
    assert events[-3]["status"]["message"]["parts"] == [text("hello")]
    assert events[-2]["artifact"]["parts"] == [text("hello")]
    assert (events[-1]["status"]["state"], events[-1]["final"]) == ("completed", True)
    assert (await agent.error("tasks/resubscribe", {"id": task["id"]}))[0] == -32004


async def test_who_subscribes_to_a_task_that_waits_gets_the_task(agent):
    task = await interrupted(agent)
    (event,) = await agent.events("tasks/resubscribe", {"id": task["id"]})
    assert event["status"]["state"] == "input-required"


async def test_a_client_that_leaves_its_stream_cancels_nothing(agent, runtime, live):
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": message()}}
    async with live.stream("POST", f"/api/a2a/{COUNTER}", json=body) as answer:
        await anext(answer.aiter_bytes())
        await runtime.opened.wait()
    await runtime.closed.wait()
    assert runtime.cancels == []


async def test_a_task_whose_run_is_deleted_ends_its_stream_with_an_error(agent, runtime):
    task = await agent.begun()
    runtime.logs[task["id"]].close()
    del runtime.endings[task["id"]]
    events = await agent.events("tasks/resubscribe", {"id": task["id"]})
    assert events[-1]["error"]["code"] == -32001


# --- cancelling -----------------------------------------------------------------------------------


async def test_cancelling_a_task_cancels_its_run(agent, runtime):
    task = await agent.begun()
    canceling = asyncio.create_task(agent.result("tasks/cancel", {"id": task["id"]}))
    await runtime.cancelled.wait()
    agent.finish(None, status=RunStatus.INTERRUPTED)
    found = await canceling
    assert found["status"]["state"] == "canceled"
    request, waits = runtime.cancels[0]
    assert (request.run_id, request.thread_id, waits) == (task["id"], task["contextId"], True)
    code, told = await agent.error("tasks/cancel", {"id": task["id"]})
    assert (code, told) == (-32002, "The task is canceled and cannot be canceled any more.")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "request_id"),
    [
        (b"{", -32700, None),
        (b"[]", -32600, None),
        (b'{"id": 1, "method": "tasks/get"}', -32600, 1),
        (b'{"jsonrpc": "2.0", "id": 1}', -32600, 1),
        (b'{"jsonrpc": "2.0", "id": true, "method": "tasks/get"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "bogus"}', -32601, 1),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": []}', -32602, 1),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": {"a": "\\u0000"}}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {}}', -32602, 1),
    ],
)
async def test_a_request_that_is_none_is_told_so(agent, body, code, request_id):
    answer = await agent.post(body)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["error"]["code"], found["id"]) == (code, request_id)
    assert found["error"]["message"]


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (None, -32602, "message is required"),
        (message() | {"parts": []}, -32602, "at least one part"),
        (message() | {"messageId": ""}, -32602, "messageId"),
        ({"role": "user", "parts": [text("x")]}, -32602, "message.messageId is required"),
        (message({"kind": "video"}), -32005, "video"),
        (message({"kind": "file", "file": {}}), -32602, "file"),
        (message(contextId="no-uuid"), -32602, "must be a UUID"),
        (message(taskId=RUN), -32001, RUN),
        (message(taskId="x"), -32001, "x"),
        (message({"kind": "data", "data": {"messages": 1}}, text("x")), -32602, "list"),
    ],
)
async def test_a_message_that_cannot_be_sent_is_refused(agent, runtime, sent, code, told):
    params = {"message": sent} if sent else {}
    for method in ("message/send", "message/stream"):
        found = await agent.error(method, params)
        assert found[0] == code
        assert told in found[1]
    assert runtime.requests == []


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"acceptedOutputModes": ["audio/mpeg"]}, -32005),
        ({"acceptedOutputModes": ["text/*"], "historyLength": -1}, -32602),
        ({"blocking": "no way"}, -32602),
    ],
)
async def test_a_configuration_is_honoured_or_refused(agent, configuration, code):
    params = {"message": message(), "configuration": configuration}
    assert (await agent.error("message/send", params))[0] == code


PUSH = {"url": "https://example.com/hook", "token": "t"}


async def test_push_notifications_are_configured_in_version_03(agent, runtime):
    task = await agent.begun()
    given = {**PUSH, "id": "c1", "authentication": {"schemes": ["Bearer"], "credentials": "s"}}
    params = {"taskId": task["id"], "pushNotificationConfig": given}
    made = await agent.result("tasks/pushNotificationConfig/set", params)
    # Nobody reads the credentials back.
    about = {"authentication": {"schemes": ["Bearer"]}}
    shown = {"taskId": task["id"], "pushNotificationConfig": {**PUSH, "id": "c1", **about}}
    assert made == shown
    assert runtime.records.pushes[task["id"]]["c1"]["credentials"] == "s"
    of_task = {"id": task["id"]}
    assert await agent.result("tasks/pushNotificationConfig/get", of_task) == shown
    assert await agent.result("tasks/pushNotificationConfig/list", of_task) == [shown]
    params = {**of_task, "pushNotificationConfigId": "c1"}
    assert await agent.result("tasks/pushNotificationConfig/delete", params) is None
    assert await agent.result("tasks/pushNotificationConfig/list", of_task) == []
    assert (await agent.error("tasks/pushNotificationConfig/get", params))[0] == -32001
    assert (await agent.error("tasks/pushNotificationConfig/delete", of_task))[0] == -32602


async def test_push_notifications_are_configured_in_version_10(agent, runtime):
    task = await agent.begun()
    about = {"authentication": {"scheme": "Basic", "credentials": "s"}}
    params = {"taskId": task["id"], **PUSH, **about}
    made = await agent.result("CreateTaskPushNotificationConfig", params)
    shown = {**params, "id": made["id"], "authentication": {"scheme": "Basic"}}
    assert made == shown
    named = {"taskId": task["id"], "id": made["id"]}
    assert await agent.result("GetTaskPushNotificationConfig", named) == shown
    listed = await agent.result("ListTaskPushNotificationConfigs", {"taskId": task["id"]})
    assert listed == {"configs": [shown], "nextPageToken": ""}
    assert await agent.result("DeleteTaskPushNotificationConfig", named) == {}
    assert runtime.records.pushes[task["id"]] == {}


async def test_a_message_may_bring_its_configuration(agent, runtime):
    config = {**PUSH, "authentication": {"scheme": "Basic", "credentials": "s"}}
    new = {"message": message(), "configuration": {"taskPushNotificationConfig": config}}
    new["configuration"]["returnImmediately"] = True
    new["message"]["role"] = "ROLE_USER"
    task = (await agent.result("SendMessage", new))["task"]
    assert runtime.records.asked[-1] == ("put_push", task["id"], task["contextId"], True)
    (stored,) = await runtime.records.list_pushes(task["id"])
    assert (stored["scheme"], stored["credentials"]) == ("Basic", "s")
    old = {"message": message(), "configuration": {"pushNotificationConfig": PUSH}}
    old["configuration"]["blocking"] = False
    task = await agent.result("message/send", old)
    (stored,) = await runtime.records.list_pushes(task["id"])
    assert (stored["url"], stored["version"]) == (PUSH["url"], "0.3")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"url": "http://127.0.0.1/x"},
        {"url": "ftp://example.com"},
        {"url": "https://example.com", "token": "a\nb"},
        {"url": "https://example.com", "id": 1},
        {"url": "https://example.com", "authentication": "Bearer"},
    ],
)
async def test_a_configuration_that_cannot_be_used_is_refused(agent, runtime, config):
    sent = {"message": message(), "configuration": {"pushNotificationConfig": config}}
    assert (await agent.error("message/send", sent))[0] == -32602
    assert runtime.requests == []
    task = await agent.begun()
    params = {"taskId": task["id"], "pushNotificationConfig": config}
    assert (await agent.error("tasks/pushNotificationConfig/set", params))[0] == -32602


async def test_a_task_has_a_bounded_number_of_configurations(agent):
    task = await agent.begun()
    for number in range(10):
        params = {"taskId": task["id"], **PUSH, "id": f"c{number}"}
        await agent.result("CreateTaskPushNotificationConfig", params)
    await agent.result("CreateTaskPushNotificationConfig", {**params, "token": "another"})
    full = await agent.error("CreateTaskPushNotificationConfig", {**params, "id": "more"})
    assert full[0] == -32602
    assert (await agent.error("CreateTaskPushNotificationConfig", {"taskId": RUN, **PUSH}))[
        0
    ] == -32001


async def test_tasks_are_listed_by_pages_the_newest_first(agent):
    tasks = []
    for number in range(3):
        await agent.answered("message/send", {"message": message()}, talk(f"a{number}"))
        tasks.append(agent.runtime.requests[-1].run_id)
    await agent.client.post("/runs", json={"assistant_id": "counter", "input": {}})
    found = await agent.result("ListTasks", {"pageSize": 2})
    assert [task["id"] for task in found["tasks"]] == tasks[:0:-1]
    assert (found["pageSize"], found["totalSize"], found["nextPageToken"]) == (2, 3, "2")
    assert not any({"artifacts", "history"} & task.keys() for task in found["tasks"])
    params = {"pageSize": 2, "pageToken": "2", "includeArtifacts": True, "historyLength": 1}
    rest = await agent.result("ListTasks", params)
    (last,) = rest["tasks"]
    assert (last["id"], rest["nextPageToken"]) == (tasks[0], "")
    assert last["artifacts"][0]["parts"] == [{"text": "a0"}]
    assert len(last["history"]) == 1


async def test_a_list_of_tasks_is_filtered(agent, runtime):
    asked = await interrupted(agent)
    begun = await agent.begun()

    async def ids(**params: Any) -> list[str]:
        found = await agent.result("ListTasks", params)
        return [task["id"] for task in found["tasks"]]

    assert await ids(status="TASK_STATE_INPUT_REQUIRED") == [asked["id"]]
    assert await ids(status="TASK_STATE_WORKING") == [begun["id"]]
    assert await ids(contextId=begun["contextId"]) == [begun["id"]]
    assert await ids(statusTimestampAfter="2999-01-01T00:00:00Z") == []
    assert await ids(statusTimestampAfter="2020-01-01T00:00:00") == [begun["id"], asked["id"]]
    runtime.records.runs.clear()
    assert await ids() == []


@pytest.mark.parametrize(
    "params",
    [
        {"pageSize": 0},
        {"pageSize": 101},
        {"pageSize": True},
        {"pageToken": "x"},
        {"status": "bogus"},
        {"statusTimestampAfter": "yesterday"},
        {"historyLength": -1},
        {"contextId": 1},
    ],
)
async def test_a_list_that_cannot_be_meant_is_refused(agent, params):
    assert (await agent.error("ListTasks", params))[0] == -32602


async def test_tasks_of_others_are_not_found(agent, runtime):
    task = await agent.begun()
    other = system_assistant_id("approval")
    for method in ("tasks/get", "tasks/cancel", "tasks/resubscribe"):
        params = {"id": task["id"]}
        assert (await agent.error(method, params, assistant_id=other))[0] == -32001
        assert (await agent.error(method, params | {"contextId": UNKNOWN}))[0] == -32001
    agent.runtime.records.add_run()
    agent.runtime.records.runs[RUN]["assistant_id"] = COUNTER
    assert (await agent.error("tasks/get", {"id": RUN}))[0] == -32001
    code, _ = await agent.error("message/send", {"message": message()}, assistant_id=UNKNOWN)
    assert code == -32602


async def test_the_extended_card_is_the_card(agent, client):
    card = (await client.get(f"/a2a/{COUNTER}")).json()
    assert await agent.result("GetExtendedAgentCard", {}) == card


async def test_a_server_that_cannot_answer_now_says_so_by_its_status(agent, records, runtime):
    records.down = DatabaseUnavailable("The database is away.")
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": RUN}}
    answer = await agent.post(body)
    assert (answer.status_code, answer.json()) == (503, {"detail": "The database is away."})
    records.down = None
    runtime.fail = Unreachable("No answer.")
    body |= {"method": "message/send", "params": {"message": message()}}
    assert (await agent.post(body)).status_code == 503


async def test_a_body_that_is_too_large_is_refused_unread(agent):
    answer = await agent.post(b'"' + b"x" * 200_000 + b'"')
    assert answer.status_code == 413
    assert "longer" in answer.json()["detail"]
