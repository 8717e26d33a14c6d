"""``/mcp``: messages and their errors, tools and their names, calls, progress, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from mcp import types

from greenroom.core.errors import BadRequest, Conflict, TooManyRequests, Unavailable
from greenroom.core.identity import system_assistant_id
from greenroom.core.runs import RunStatus
from greenroom.http.mcp.tools import tool_name
from tests.http.edge_doubles import MemoryRecords, MemoryRuntime

MOUNTS = ("", "/api")
BOTH = {"accept": "application/json, text/event-stream"}
BOUND_S = 30.0
FIRST, SECOND = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
SCHEMA = {"type": "object", "properties": {"count": {"type": "integer"}}, "title": "State"}
MESSAGES = {
    "type": "object",
    "properties": {
        "messages": {"type": "array", "items": {"oneOf": [{"$ref": "#/$defs/HumanMessage"}]}},
        "n": {"type": "integer"},
    },
    "required": ["n"],
    "$defs": {"HumanMessage": {"type": "object"}},
}


def schema(runtime: MemoryRuntime, of_input: Any) -> None:
    runtime.answer = orjson.dumps({"input_schema": of_input})


@pytest.fixture(autouse=True)
def counting(runtime: MemoryRuntime) -> None:
    schema(runtime, SCHEMA)


class Rpc:
    """A client that sends messages, each with the next id."""

    def __init__(self, http: httpx.AsyncClient, path: str = "/mcp") -> None:
        self.http = http
        self.path = path
        self.session: dict[str, str] = {}
        self.last_id = 0

    async def send(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {**BOTH, **self.session, **{k.replace("_", "-"): v for k, v in headers.items()}}
        return await self.http.post(self.path, content=content, headers=headers)

    def message(self, method: str, params: Any = None) -> dict[str, Any]:
        self.last_id += 1
        return {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}

    async def ask(self, method: str, params: Any = None, **headers: str) -> dict[str, Any]:
        answer = await self.send(self.message(method, params), **headers)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["jsonrpc"], told["id"]) == ("2.0", self.last_id)
        return told

    async def result(self, method: str, params: Any = None) -> dict[str, Any]:
        return (await self.ask(method, params))["result"]

    async def refused(self, method: str, params: Any = None) -> tuple[int, str]:
        error = (await self.ask(method, params))["error"]
        return error["code"], error["message"]

    async def begin(self) -> None:
        """Starts a session."""
        answer = await self.send(self.message("initialize", {"protocolVersion": "2025-06-18"}))
        self.session = {"mcp-session-id": answer.headers["mcp-session-id"]}

    def call(self, name: str, arguments: Any = None, **params: Any) -> dict[str, Any]:
        return self.message("tools/call", {"name": name, "arguments": arguments, **params})


@pytest.fixture(params=MOUNTS, ids=("platform", "gateway"))
def rpc(request: pytest.FixtureRequest, client: httpx.AsyncClient) -> Rpc:
    return Rpc(client, f"{request.param}/mcp")


async def within(waiting: Any) -> Any:
    async with asyncio.timeout(BOUND_S):
        return await waiting


async def begun(runtime: MemoryRuntime) -> str:
    """The id of the run of a call that was sent in another task."""
    await within(runtime.opened.wait())
    return runtime.requests[-1].run_id


async def ended(rpc: Rpc, runtime: MemoryRuntime, output: Any = None, **outcome: Any) -> Any:
    """The result of a call of `counter` whose run ends so."""
    calling = asyncio.create_task(rpc.send(rpc.call("counter", {"count": 3})))
    runtime.finish(await begun(runtime), output, **outcome)
    return (await within(calling)).json()["result"]


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        *((version, version) for version in ("2024-11-05", "2025-03-26", "2025-06-18")),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", types.LATEST_PROTOCOL_VERSION),
        (None, types.LATEST_PROTOCOL_VERSION),
    ],
)
async def test_the_version_is_the_clients_if_it_is_known(rpc: Rpc, asked: Any, given: str) -> None:
    result = await rpc.result("initialize", {"protocolVersion": asked} if asked else None)
    assert types.InitializeResult.model_validate(result).protocolVersion == given
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert result["serverInfo"]["name"] == "Greenroom"


async def test_each_client_gets_a_session_of_its_own_and_needs_none(rpc: Rpc) -> None:
    await rpc.begin()
    first = rpc.session
    await rpc.begin()
    assert rpc.session != first
    rpc.session = {}
    assert await rpc.result("ping") == {}


@pytest.mark.parametrize("identity", ["a", 7, 1.5, ""])
async def test_an_id_is_echoed_as_it_is(rpc: Rpc, identity: Any) -> None:
    answer = await rpc.send({"jsonrpc": "2.0", "id": identity, "method": "ping"})
    assert answer.json() == {"jsonrpc": "2.0", "id": identity, "result": {}}


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/initialized"},
        {"method": "tools/list"},
        {"method": "tools/list", "id": None},
        {"method": "notifications/cancelled", "params": {"requestId": 1}},
        {"method": "notifications/cancelled", "params": {"requestId": [1]}},
        {"method": "notifications/cancelled"},
        {"id": 1, "result": {}},
        {"id": 1, "error": {"code": 1, "message": "x"}},
    ],
)
async def test_what_needs_no_answer_gets_202(rpc: Rpc, message: dict[str, Any]) -> None:
    answer = await rpc.send({"jsonrpc": "2.0", **message}, mcp_session_id="s")
    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", -32700, "Invalid JSON"),
        (b"{", -32700, "Invalid JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","x":"\\u0000"}', -32700, "NUL"),
        ([], -32600, "no batches"),
        ([{"jsonrpc": "2.0", "id": 1, "method": "ping"}], -32600, "no batches"),
        ("ping", -32600, "an object"),
        ({"id": 1, "method": "ping"}, -32600, '"jsonrpc": "2.0"'),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, -32600, '"jsonrpc": "2.0"'),
        ({"jsonrpc": "2.0", "id": [1], "method": "ping"}, -32600, "The id must be"),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, -32600, "The id must be"),
        ({"jsonrpc": "2.0", "id": 1}, -32600, "must have a method"),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, -32600, "must have a method"),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}, -32600, "The params"),
    ],
)
async def test_what_is_no_message_is_refused(rpc: Rpc, body: Any, code: int, says: str) -> None:
    answer = await rpc.send(body)
    assert answer.status_code == 400
    told = answer.json()
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", None, code)
    assert says in told["error"]["message"]


async def test_a_body_that_is_too_long_is_refused_as_everywhere(rpc: Rpc) -> None:
    answer = await rpc.send(rpc.call("counter", {"x": "x" * 100_000}))
    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "logging/setLevel", "x"])
async def test_a_method_that_is_not_there_is_said(rpc: Rpc, method: str) -> None:
    assert await rpc.refused(method) == (-32601, f"Method not found: {method}")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("application/json;q=0.9", "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ],
)
async def test_the_answer_is_what_the_client_accepts(rpc: Rpc, accept: str, kind: str) -> None:
    answer = await rpc.send(rpc.message("ping"), accept=accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == kind


async def test_a_client_that_accepts_neither_is_refused(rpc: Rpc) -> None:
    answer = await rpc.send(rpc.message("ping"), accept="text/html")
    assert answer.status_code == 400
    assert "Accept" in answer.json()["error"]["message"]


async def test_a_version_in_the_header_that_is_not_known_is_refused(rpc: Rpc) -> None:
    answer = await rpc.send(rpc.message("ping"), mcp_protocol_version="2030-01-01")
    assert answer.status_code == 400
    assert "2025-11-25" in answer.json()["error"]["message"]
    known = await rpc.send(rpc.message("ping"), mcp_protocol_version="2025-03-26")
    assert known.status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_neither_a_stream_of_the_server_nor_a_session_to_end(
    rpc: Rpc, method: str
) -> None:
    answer = await rpc.http.request(method, rpc.path, headers=BOTH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_page_of_another_origin_may_read_its_session(rpc: Rpc) -> None:
    answer = await rpc.send(rpc.message("initialize"), origin="https://elsewhere.example")
    assert "mcp-session-id" in answer.headers["access-control-expose-headers"]


# --- tools ---------------------------------------------------------------------------------------


def assistant(records: MemoryRecords, assistant_id: str, **facts: Any) -> dict[str, Any]:
    made = {**records.assistants[system_assistant_id("counter")], "assistant_id": assistant_id}
    records.assistants[assistant_id] = made | facts
    return records.assistants[assistant_id]


async def test_every_assistant_is_a_tool(rpc: Rpc, records: MemoryRecords) -> None:
    assistant(records, FIRST, name="my tool: v1.2 / ünï", description="It counts.")
    tools = types.ListToolsResult.model_validate(await rpc.result("tools/list")).tools
    counter, approval, own = tools
    assert (counter.name, approval.name) == ("counter", "approval")
    assert counter.description == "Runs the assistant counter."
    assert (counter.title, counter.inputSchema) == ("counter", SCHEMA)
    assert own.name.startswith("my_tool_v1.2__n_")
    assert (own.title, own.description) == ("my tool: v1.2 / ünï", "It counts.")


@pytest.mark.parametrize("name", ["Untitled", "", "ünï", "x" * 300, "a/b c.d-e_f", "\n", "日本"])
def test_a_name_is_one_that_every_client_takes(records: MemoryRecords, name: str) -> None:
    made = tool_name(assistant(records, FIRST, name=name))
    assert made
    assert len(made) <= 64
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert tool_name(assistant(records, SECOND, name=name)) != made


def test_a_graph_whose_name_must_be_changed_has_a_tool_of_its_own(records: MemoryRecords) -> None:
    names = ("a b", "a_b", "a\tb", "x" * 65, "x" * 64)
    made = {
        tool_name({"assistant_id": system_assistant_id(g), "graph_id": g, "name": g}) for g in names
    }
    assert len(made) == len(names)
    assert {"a_b", "x" * 64} < made


async def test_a_tool_keeps_its_name_when_others_come_and_go(
    rpc: Rpc, runtime: MemoryRuntime, records: MemoryRecords
) -> None:
    """Two assistants have one name; LangGraph's server can call neither."""
    one = assistant(records, FIRST, name="Untitled")
    two = assistant(records, SECOND, name="Untitled")
    listed = [tool["name"] for tool in (await rpc.result("tools/list"))["tools"]][2:]
    assert listed == [tool_name(one), tool_name(two)]
    code, says = await rpc.refused("tools/call", {"name": "Untitled"})
    assert code == -32602
    assert f"2 assistants are called Untitled. Use the name of a tool: {listed[0]}" in says
    for name, assistant_id in zip(listed, (FIRST, SECOND), strict=True):
        runtime.opened.clear()
        calling = asyncio.create_task(rpc.send(rpc.call(name)))
        runtime.finish(await begun(runtime), {})
        await within(calling)
        assert runtime.requests[-1].assistant_id == assistant_id
    del records.assistants[FIRST]
    assert (await rpc.result("tools/list"))["tools"][-1]["name"] == listed[1]


async def test_an_assistant_may_be_called_by_its_name_while_nobody_shares_it(
    rpc: Rpc, runtime: MemoryRuntime, records: MemoryRecords
) -> None:
    assistant(records, FIRST, name="my tool")
    calling = asyncio.create_task(rpc.send(rpc.call("my_tool")))
    runtime.finish(await begun(runtime), {})
    await within(calling)
    assert runtime.requests[-1].assistant_id == FIRST


async def test_tools_come_in_pages(
    rpc: Rpc, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    for number in range(148):
        assistant(records, f"{number:08}-1111-4111-8111-111111111111", name="many")
    first = await rpc.result("tools/list")
    second = await rpc.result("tools/list", {"cursor": first["nextCursor"]})
    assert (len(first["tools"]), len(second["tools"])) == (100, 50)
    assert "nextCursor" not in second
    assert len({tool["name"] for page in (first, second) for tool in page["tools"]}) == 150
    # Those of one graph are asked about once for each page.
    assert len(runtime.questions) == 2 + 1


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 30, "", 5])
async def test_a_wrong_cursor_is_refused(rpc: Rpc, cursor: Any) -> None:
    code, says = await rpc.refused("tools/list", {"cursor": cursor})
    assert code == -32602
    assert "cursor" in says


async def test_messages_are_said_as_text(rpc: Rpc, runtime: MemoryRuntime) -> None:
    schema(runtime, MESSAGES)
    shown = (await rpc.result("tools/list"))["tools"][0]["inputSchema"]
    assert shown["properties"]["messages"]["type"] == "string"
    assert shown["required"] == ["messages", "n"]
    assert "$defs" not in shown


@pytest.mark.parametrize(
    ("of_input", "arguments", "expected"),
    [
        (MESSAGES, {"messages": "hi"}, {"messages": [{"role": "user", "content": "hi"}]}),
        (MESSAGES, {"messages": [{"role": "user", "content": "hi"}]}, None),
        (SCHEMA, {"messages": "hi"}, None),
        (SCHEMA, {}, None),
        ({"type": "integer"}, {"input": 5}, 5),
        ({"$ref": "#/$defs/S", "$defs": {"S": {"type": "object"}}}, {"x": 1}, None),
        (None, {"x": 1}, None),
    ],
)
async def test_the_arguments_become_the_graphs_input(
    rpc: Rpc, runtime: MemoryRuntime, of_input: Any, arguments: Any, expected: Any
) -> None:
    schema(runtime, of_input)
    calling = asyncio.create_task(rpc.send(rpc.call("counter", arguments)))
    runtime.finish(await begun(runtime), {})
    await within(calling)
    kwargs = orjson.loads(runtime.requests[-1].kwargs)
    assert kwargs["input"] == (arguments if expected is None else expected)


async def test_a_graph_that_takes_no_object_has_a_tool_with_input(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    schema(runtime, {"$ref": "#/$defs/X", "$defs": {"X": {"type": "integer"}}})
    shown = (await rpc.result("tools/list"))["tools"][0]["inputSchema"]
    assert shown["properties"] == {"input": {"$ref": "#/$defs/X"}}
    assert shown["$defs"] == {"X": {"type": "integer"}}
    assert await rpc.refused("tools/call", {"name": "counter"}) == (
        -32602,
        "The arguments must have input.",
    )


async def test_a_graph_that_cannot_be_loaded_takes_no_other_tool_away(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    runtime.fail = BadRequest("It does not import.")
    tools = (await rpc.result("tools/list"))["tools"]
    assert [tool["inputSchema"]["type"] for tool in tools] == ["object", "object"]


# --- calls ---------------------------------------------------------------------------------------


async def test_a_call_is_a_run_on_a_thread_of_its_own(rpc: Rpc, runtime: MemoryRuntime) -> None:
    result = await ended(rpc, runtime, {"count": 6})
    assert result == {
        "content": [{"type": "text", "text": '{"count":6}'}],
        "structuredContent": {"count": 6},
    }
    (request,) = runtime.requests
    assert (request.temporary, request.create_thread, request.resumable) == (True, True, False)
    assert orjson.loads(request.kwargs)["input"] == {"count": 3}


async def test_an_output_that_is_no_object_is_text(rpc: Rpc, runtime: MemoryRuntime) -> None:
    assert await ended(rpc, runtime, [1]) == {"content": [{"type": "text", "text": "[1]"}]}


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (
            {"status": RunStatus.ERROR, "error": b'{"error":"ValueError","message":"boom"}'},
            "ValueError: boom",
        ),
        (
            {"interrupts": b'{"t":[{"value":{"question":"May I?"},"id":"i"}]}'},
            'The run stopped to ask, which MCP cannot answer; use a thread of the runs API: [{"q',
        ),
        ({"status": RunStatus.INTERRUPTED}, "The run was cancelled."),
    ],
)
async def test_a_run_without_a_result_is_an_error_of_the_tool(
    rpc: Rpc, runtime: MemoryRuntime, outcome: Any, says: str
) -> None:
    result = types.CallToolResult.model_validate(await ended(rpc, runtime, {}, **outcome))
    (content,) = result.content
    assert result.isError
    assert content.text.startswith(says)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"name": "nosuch"}, "Unknown tool: nosuch"),
        ({"name": system_assistant_id("counter")}, "Unknown tool: "),
        (None, "name is required."),
        ({"name": "counter", "arguments": [1]}, "arguments"),
    ],
)
async def test_a_call_that_names_no_tool_is_refused(rpc: Rpc, params: Any, says: str) -> None:
    code, message = await rpc.refused("tools/call", params)
    assert code == -32602
    assert says in message


async def test_an_id_that_is_in_flight_is_refused(
    rpc: Rpc, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(request: Any) -> Any:
        raise Conflict("The thread is taken.")

    monkeypatch.setattr(runtime, "create", create)
    code, message = await rpc.refused("tools/call", {"name": "counter"})
    assert code == -32600
    assert message == "A call with the id 1 is in flight in this session. Use another id."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRequest("It is wrong."), -32602),
        (TooManyRequests("Too many."), -32603),
        (Unavailable("Later."), -32603),
    ],
)
async def test_a_run_that_is_refused_is_an_error_with_its_sentence(
    rpc: Rpc, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch, error: Any, code: int
) -> None:
    async def create(request: Any) -> Any:
        raise error

    monkeypatch.setattr(runtime, "create", create)
    assert await rpc.refused("tools/call", {"name": "counter"}) == (code, error.message)


async def test_a_run_that_nobody_can_follow_any_more_is_cancelled(
    rpc: Rpc, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def outcome(*_: Any, **__: Any) -> Any:
        raise Unavailable("The registry restarts.")

    monkeypatch.setattr(runtime, "outcome", outcome)
    assert await rpc.refused("tools/call", {"name": "counter"}) == (
        -32603,
        "The registry restarts.",
    )
    await within(runtime.cancelled.wait())
    assert runtime.cancels[0][0].run_id == runtime.requests[0].run_id


async def test_an_unforeseen_failure_shows_no_traceback(
    rpc: Rpc, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(request: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(runtime, "create", create)
    answer = await rpc.send(rpc.call("counter"))
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


# --- progress ------------------------------------------------------------------------------------


def heard(content: bytes) -> list[dict[str, Any]]:
    """The messages of an event stream."""
    events = content.split(b"\r\n\r\n")
    return [
        orjson.loads(event.partition(b"\r\ndata: ")[2])
        for event in events
        if event.startswith(b"event: message")
    ]


async def test_progress_is_told_while_the_run_goes_on(rpc: Rpc, runtime: MemoryRuntime) -> None:
    call = rpc.call("counter", _meta={"progressToken": "p"})
    calling = asyncio.create_task(rpc.send(call))
    run_id = await begun(runtime)
    runtime.emit(run_id, "updates", {"one": {"count": 1}})
    runtime.emit(run_id, "custom", "half of it")
    runtime.emit(run_id, "updates", {"__interrupt__": []})
    runtime.emit(run_id, "custom", {"at": 2})
    runtime.finish(run_id, {"count": 1})
    answer = await within(calling)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *progress, result = heard(answer.content)
    assert [(one["method"], one["params"]["progressToken"]) for one in progress] == [
        ("notifications/progress", "p")
    ] * 3
    assert [(one["params"]["progress"], one["params"]["message"]) for one in progress] == [
        (1, "one is done"),
        (2, "half of it"),
        (3, '{"at":2}'),
    ]
    assert (result["id"], result["result"]["structuredContent"]) == (call["id"], {"count": 1})


async def test_without_a_token_or_an_event_stream_there_is_no_progress(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    call = rpc.call("counter", _meta={"progressToken": 1})
    calling = asyncio.create_task(rpc.send(call, accept="application/json"))
    runtime.finish(await begun(runtime), {})
    answer = await within(calling)
    assert answer.json()["id"] == call["id"]
    assert runtime.follows == []


async def test_a_stream_without_a_token_has_the_result_only(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    calling = asyncio.create_task(rpc.send(rpc.call("counter"), accept="text/event-stream"))
    run_id = await begun(runtime)
    runtime.emit(run_id, "updates", {"one": {"count": 1}})
    runtime.finish(run_id, {"count": 1})
    (result,) = heard((await within(calling)).content)
    assert result["result"]["structuredContent"] == {"count": 1}


async def test_events_that_cannot_be_read_do_not_hide_the_result(
    rpc: Rpc, runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def events(*_: Any, **__: Any) -> Any:
        raise Unavailable("The actor died.")
        yield

    monkeypatch.setattr(runtime, "events", events)
    calling = asyncio.create_task(rpc.send(rpc.call("counter", _meta={"progressToken": 1})))
    runtime.finish(await begun(runtime), {"count": 1})
    (result,) = heard((await within(calling)).content)
    assert result["result"]["structuredContent"] == {"count": 1}


# --- cancellation --------------------------------------------------------------------------------


async def cancelled(rpc: Rpc, request_id: Any) -> None:
    params = {"requestId": request_id, "reason": "It takes too long."}
    told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    assert (await rpc.send(told)).status_code == 202


async def test_a_notification_of_the_same_session_cancels_the_run(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    await rpc.begin()
    calling = asyncio.create_task(rpc.send(rpc.call("counter")))
    run_id = await begun(runtime)
    await cancelled(rpc, rpc.last_id)
    ((wanted, _),) = runtime.cancels
    assert (wanted.run_id, wanted.thread_id) == (run_id, runtime.requests[0].thread_id)
    runtime.finish(run_id, {}, status=RunStatus.INTERRUPTED)
    assert (await within(calling)).json()["result"]["isError"]
    await cancelled(rpc, rpc.last_id)  # it is over: nothing to do
    assert len(runtime.cancels) == 1


async def test_nobody_elses_call_is_cancelled(rpc: Rpc, runtime: MemoryRuntime) -> None:
    """Every client counts its requests from the beginning, so ids alone say nothing."""
    await rpc.begin()
    calling = asyncio.create_task(rpc.send(rpc.call("counter")))
    run_id = await begun(runtime)
    await cancelled(rpc, str(rpc.last_id))
    await cancelled(rpc, rpc.last_id + 1)
    own, rpc.session = rpc.session, {"mcp-session-id": "another"}
    await cancelled(rpc, rpc.last_id)
    rpc.session = {}
    await cancelled(rpc, rpc.last_id)
    rpc.session = own
    assert runtime.cancels == []
    runtime.finish(run_id, {})
    await within(calling)


async def test_calls_without_a_session_have_threads_of_their_own(
    rpc: Rpc, runtime: MemoryRuntime
) -> None:
    for _ in range(2):
        rpc.last_id = 0
        runtime.opened.clear()
        await ended(rpc, runtime, {})
    first, second = runtime.requests
    assert first.thread_id != second.thread_id
    assert first.multitask_strategy == "reject"


@pytest.mark.parametrize("meta", [{}, {"_meta": {"progressToken": 1}}], ids=["json", "events"])
async def test_a_client_that_leaves_cancels_its_run(
    app: Any, live: httpx.AsyncClient, runtime: MemoryRuntime, meta: dict[str, Any]
) -> None:
    call = {"name": "counter", "arguments": {}, **meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    async with live.stream("POST", "/mcp", json=body, headers=BOTH):
        run_id = await begun(runtime)
    await within(runtime.cancelled.wait())
    assert runtime.cancels[0][0].run_id == run_id
    await within(app.state.edge.connections.until_idle())
