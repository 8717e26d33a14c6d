"""The OpenAI-compatible routes: what becomes of a request, and what a run's end becomes.

Answers are validated by the types of the official client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from greenroom.core.errors import Conflict, TooManyRequests, Unavailable
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import HistoryQuestion
from greenroom.core.runs import RunStatus
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import THREAD, UNKNOWN, MemoryRecords, MemoryRuntime
from tests.later import Later

if TYPE_CHECKING:
    from openai import types
    from openai.types import chat, responses
else:
    types = Later("openai.types")
    chat = Later("openai.types.chat")
    responses = Later("openai.types.responses")

MOUNTS = ("", "/api")
BOUND_S = 10.0
BOTH = {"properties": {"messages": {"type": "array"}}}
CHATS = {"input_schema": BOTH, "output_schema": BOTH, "context_schema": None}
QUESTION = {"type": "interrupt", "id": "i1", "value": "sure?"}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
RESPONSE_TYPES = {
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
}


@pytest.fixture
def settings() -> HttpSettings:
    return HttpSettings(heartbeat_s=0.05, max_body_bytes=100_000, openai=True)


@pytest.fixture(autouse=True)
def chats(runtime: MemoryRuntime) -> None:
    runtime.answer = orjson.dumps(CHATS)


class Asking:
    """A client of one mount."""

    def __init__(self, http: httpx.AsyncClient, runtime: MemoryRuntime, mount: str) -> None:
        self.http = http
        self.runtime = runtime
        self.mount = mount

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(f"{self.mount}/v1{path}", json=body, headers=headers)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.http.get(f"{self.mount}/v1{path}", params=query)

    def chat(self, *messages: Any, **more: Any) -> tuple[str, dict[str, Any]]:
        said = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
        body = {"model": "counter", "messages": said or [{"role": "user", "content": "hi"}]}
        return "/chat/completions", {**body, **more}

    def respond(self, given: Any = "hi", **more: Any) -> tuple[str, dict[str, Any]]:
        return "/responses", {"model": "counter", "input": given, **more}

    async def answered(
        self,
        asked: tuple[str, dict[str, Any]],
        *said: Any,
        events: tuple[tuple[str, Any], ...] = (),
        **outcome: Any,
    ) -> httpx.Response:
        """The answer to a request whose run emits these events and leaves these messages."""
        runtime = self.runtime
        runtime.admitted.clear()
        asking = asyncio.create_task(self.post(*asked))
        async with asyncio.timeout(BOUND_S):
            admitted = asyncio.create_task(runtime.admitted.wait())
            await asyncio.wait((asking, admitted), return_when=asyncio.FIRST_COMPLETED)
            admitted.cancel()
            if asking.done():
                return await asking
            for name, data in events:
                runtime.emit(self.run_id, name, data)
            self.end(*said, **outcome)
            return await asking

    def end(self, *said: Any, interrupts: tuple[Any, ...] = (), **outcome: Any) -> None:
        """Ends the newest run: it leaves its input and these messages on its thread."""
        runtime = self.runtime
        request = runtime.requests[-1]
        thread = runtime.records.threads[request.thread_id]
        before = (thread["values"] or {}).get("messages", [])
        given = (self.body()["input"] or {}).get("messages", [])
        types = {"user": "human", "assistant": "ai"}
        mine = [{**m, "type": types.get(m["role"], m["role"])} for m in given]
        values = {"messages": [*before, *mine, *said]}
        shown = {**values, "__interrupt__": list(interrupts)} if interrupts else values
        thread |= {
            "values": values,
            "status": "interrupted" if interrupts else "idle",
            "interrupts": {"task": list(interrupts)} if interrupts else {},
        }
        runtime.finish(request.run_id, shown, **outcome)

    @property
    def run_id(self) -> str:
        return self.runtime.requests[-1].run_id

    def body(self) -> dict[str, Any]:
        """The kwargs of the newest run."""
        return orjson.loads(self.runtime.requests[-1].kwargs)

    def told(self) -> list[tuple[str, Any]]:
        """The messages of the newest run's input, by role."""
        return [(m["role"], m["content"]) for m in self.body()["input"]["messages"]]


@pytest.fixture(params=MOUNTS, ids=("platform", "gateway"))
def asking(
    request: pytest.FixtureRequest, client: httpx.AsyncClient, runtime: MemoryRuntime
) -> Asking:
    return Asking(client, runtime, request.param)


@pytest.fixture
def one(client: httpx.AsyncClient, runtime: MemoryRuntime) -> Asking:
    return Asking(client, runtime, "")


def ai(text: str, message_id: str = "a1", **more: Any) -> dict[str, Any]:
    return {"type": "ai", "content": text, "id": message_id, **more}


def token(text: str, message_id: str = "a1") -> tuple[str, Any]:
    chunk = {"type": "AIMessageChunk", "content": text, "id": message_id}
    return "messages", [chunk, {"langgraph_node": "model"}]


def call(name: str = "search", call_id: str = "c1", **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def tool(text: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    return {"type": "tool", "content": text, "tool_call_id": call_id, "name": "search", **more}


def frames(answer: httpx.Response) -> list[Any]:
    """The data of an event stream."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found = [f for f in answer.text.split("\r\n\r\n") if f and not f.startswith(":")]
    datas = [frame.rpartition("data: ")[2] for frame in found]
    return [data if data == "[DONE]" else orjson.loads(data) for data in datas]


def error_of(answer: httpx.Response) -> tuple[int, str | None, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["message"]


# --- models ---------------------------------------------------------------------------------------


async def test_without_the_setting_there_are_no_routes(app, client: httpx.AsyncClient) -> None:
    from greenroom.http.app import create_app

    edge = app.state.edge
    off = create_app(runtime=edge.runtime, records=edge.records, graphs=("counter",))
    assert not any("/v1/" in path for path in off.openapi()["paths"])
    transport = httpx.ASGITransport(app=off)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as without:
        assert (await without.get("/v1/models")).status_code == 404
    assert any("/v1/" in path for path in app.openapi()["paths"])


async def test_models_are_assistants_by_their_names(asking: Asking, records: MemoryRecords) -> None:
    made = {
        UNKNOWN: {"name": "helper", "created_at": "2026-11-22T06:43:18+00:00"},
        THREAD: {"name": "counter"},
    }
    basis = records.assistants[system_assistant_id("counter")]
    for assistant_id, about in made.items():
        records.assistants[assistant_id] = {**basis, "assistant_id": assistant_id, **about}
    answer = await asking.get("/models")
    listed = answer.json()["data"]
    assert [types.Model.model_validate(each).id for each in listed] == [
        *("counter", "approval"),
        # Two have the name of the other one, so its id is the model's.
        *("helper", THREAD),
    ]
    assert answer.json()["object"] == "list"
    found = (await asking.get("/models/helper")).json()
    assert found == listed[2]
    assert found["assistant_id"] == UNKNOWN
    assert (await asking.get(f"/models/{UNKNOWN}")).json()["id"] == UNKNOWN
    status, code, message = error_of(await asking.get("/models/nobody"))
    assert (status, code) == (404, "model_not_found")
    assert "GET /v1/models" in message


async def test_a_name_that_two_assistants_have_needs_an_id(
    one: Asking, records: MemoryRecords
) -> None:
    basis = records.assistants[system_assistant_id("counter")]
    for assistant_id in (UNKNOWN, THREAD):
        own = {"assistant_id": assistant_id, "name": "twin"}
        records.assistants[assistant_id] = {**basis, **own}
    status, _, message = error_of(await one.post(*one.chat(model="twin")))
    assert status == 400
    assert UNKNOWN in message
    assert THREAD in message


@pytest.mark.parametrize("side", ["input", "output"])
async def test_a_graph_without_messages_is_no_model(asking, runtime, side: str) -> None:
    without = {"properties": {"count": {"type": "integer"}}}
    runtime.answer = orjson.dumps({**CHATS, f"{side}_schema": without})
    assert (await asking.get("/models")).json()["data"] == []
    assert (await asking.get("/models/counter")).status_code == 404
    for asked in (asking.chat(), asking.respond()):
        status, _, message = error_of(await asking.post(*asked))
        assert status == 400
        assert f"the {side} of its graph 'counter' has no 'messages'" in message
    assert runtime.requests == []


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "param", "says"),
    [
        ({"model": None}, "model", "model is required"),
        ({"messages": []}, "messages", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "must be one of"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "must be a string"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "must be"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls", "id"),
        ({"n": 2}, "n", "must be 1"),
        ({"logprobs": True}, "logprobs", "not served"),
        ({"top_logprobs": 3}, "top_logprobs", "not served"),
        ({"store": True}, "store", "/v1/responses"),
        ({"functions": [{"name": "f"}]}, "functions", "'tools'"),
        ({"modalities": ["audio"]}, "modalities", '["text"]'),
        ({"stream_options": {"include_usage": True}}, "stream_options", "'stream'"),
        ({"tools": [{"type": "function"}]}, "tools", "context schema"),
        ({"response_format": {"type": "json_object"}}, "response_format", "context schema"),
        ({"temperature": "hot"}, "temperature", "must be a number"),
        ({"metadata": {"a": 1}}, "metadata.a", "must be a string"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(one, changed, param: str, says: str) -> None:
    answer = await one.post(*one.chat(**changed))
    status, _, message = error_of(answer)
    assert (status, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"] == param
    assert says in message
    assert one.runtime.requests == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"input": []}, "not empty"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "'item_reference'"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "'image_url'"),
        ({"prompt": {"id": "p"}}, "not served"),
        ({"truncation": "auto"}, "must be 'disabled'"),
        ({"include": ["message.output_text.logprobs"]}, "must not have"),
        ({"store": False, "background": True}, "nobody could ask"),
        ({"store": False, "metadata": {"thread_id": THREAD}}, "on a thread"),
        ({"conversation": THREAD, "previous_response_id": "x"}, "names the thread itself"),
        ({"conversation": THREAD, "metadata": {"thread_id": THREAD}}, "give one of them"),
        ({"previous_response_id": f"resp_{UNKNOWN}"}, "there is no response"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
    ],
)
async def test_what_a_response_cannot_honour_is_refused(one, changed, says: str) -> None:
    status, _, message = error_of(await one.post(*one.respond(**{"input": "hi", **changed})))
    assert status == 400
    assert says in message
    assert one.runtime.requests == []


async def test_parameters_reach_the_graph_under_the_names_of_its_models(asking: Asking) -> None:
    answer = await asking.answered(
        asking.chat(temperature=0.2, max_completion_tokens=9, stop="x", user="ann", n=1,
                    tool_choice="auto", response_format={"type": "text"}),
        ai("yes"),
    )  # fmt: skip
    assert answer.status_code == 200
    given = asking.body()["config"]["configurable"]
    wanted = {"temperature": 0.2, "max_tokens": 9, "stop": "x", "user": "ann"}
    assert {key: given.get(key) for key in wanted} == wanted
    assert not {"tool_choice", "response_format", "model"} & given.keys()
    assert asking.body()["context"]["temperature"] == 0.2


async def test_tools_reach_a_graph_whose_context_has_them(one: Asking) -> None:
    context = {"properties": {"tools": {"type": "array"}, "response_format": {}}}
    one.runtime.answer = orjson.dumps({**CHATS, "context_schema": context})
    tools = [{"type": "function", "name": "f"}]
    form = {"type": "json_object"}
    answer = await one.answered(one.respond(tools=tools, text={"format": form}), ai("yes"))
    given = one.body()["config"]["configurable"]
    assert (given["tools"], given["response_format"]) == (tools, form)
    assert (answer.json()["tools"], answer.json()["text"]) == (tools, {"format": form})


async def test_messages_keep_their_parts(one: Asking) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    parts = [{"type": "text", "text": "look"}, image]
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    await one.answered(
        one.chat(
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": parts, "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ),
        ai("yes"),
    )
    assert one.told() == [("system", "be kind"), ("user", parts), ("assistant", ""), ("tool", "42")]
    system, user, asked, told = one.body()["input"]["messages"]
    assert (user["name"], asked["tool_calls"], told["tool_call_id"]) == ("ann", calls, "c1")
    assert system["id"] == "system:0"
    assert user["id"] == f"{one.run_id}:1"


async def test_the_items_of_a_response_become_messages(one: Asking) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "look"},
                                     {"type": "input_image", "image_url": "https://x/y.png"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "mcp_call", "id": "c2", "name": "g", "arguments": "{}", "output": "7"},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "so"}]},
    ]  # fmt: skip
    await one.answered(one.respond(items, instructions="be kind"), ai("yes"))
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    assert one.told() == [
        ("system", "be kind"),
        ("user", [{"type": "text", "text": "look"}, image]),
        *(("assistant", ""), ("tool", "42"), ("assistant", ""), ("tool", "7")),
        ("assistant", [{"type": "text", "text": "so"}]),
    ]


# --- chat completions -----------------------------------------------------------------------------


async def test_a_completion_is_the_last_message_of_a_temporary_run(asking: Asking) -> None:
    answer = await asking.answered(
        asking.chat(metadata={"team": "a"}),
        ai("let me see", "a0", tool_calls=[call()], usage_metadata=USAGE),
        tool("found"),
        ai([{"type": "text", "text": "it is "}, {"type": "text", "text": "so"}],
           usage_metadata=USAGE),
    )  # fmt: skip
    completion = chat.ChatCompletion.model_validate(answer.json())
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("it is so", "stop")
    assert choice.message.tool_calls is None
    assert completion.model == "counter"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 10
    request = asking.runtime.requests[-1]
    assert completion.id == f"chatcmpl-{request.run_id}"
    assert request.temporary
    metadata = orjson.loads(request.metadata)
    assert (metadata["team"], metadata["openai"]) == (
        "a",
        {"object": "chat.completion", "after": None},
    )


async def test_a_stream_has_the_tokens_and_ends_as_clients_expect(asking: Asking) -> None:
    answer = await asking.answered(
        asking.chat(stream=True, stream_options={"include_usage": True}),
        ai("tok0 tok1", usage_metadata=USAGE),
        events=(token("tok0 "), token("tok1")),
    )
    *chunks, done = frames(answer)
    assert done == "[DONE]"
    parsed = [chat.ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    *said, usage = parsed
    deltas = [each.choices[0].delta for each in said]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas] == ["", "tok0 ", "tok1", None]
    assert said[-1].choices[0].finish_reason == "stop"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert (usage.choices, usage.usage and usage.usage.total_tokens) == ([], 5)
    assert len({each.id for each in parsed}) == 1


async def test_another_message_begins_a_paragraph(one: Asking) -> None:
    answer = await one.answered(
        one.chat(stream=True),
        events=(token("see", "a0"), ("messages", [tool("found"), {}]), token("so")),
    )
    assert text_of(answer) == "see\n\nso"
    assert not any("usage" in chunk for chunk in frames(answer)[:-1])


def text_of(answer: httpx.Response) -> str:
    chunks = frames(answer)[:-1]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.parametrize(
    ("again", "heard"),
    [
        # It goes on where it was cut off.
        ((token("one "), token("two", "a1")), "one two"),
        # The model says something else.
        ((token("uno ", "b1"), token("due", "b1")), "one \n\nuno due"),
        ((token("one", "b1"), token("-and-only", "b1")), "one \n\none-and-only"),
        ((token("o", "b1"), token("ne", "b1"), token(" two", "b1")), "one two"),
        # Less than before.
        ((token("on", "b1"),), "one \n\non"),
        # Nothing is left to say.
        ((token("one ", "b1"),), "one "),
    ],
)
async def test_what_the_next_attempt_says_again_is_not_told_twice(one, again, heard) -> None:
    began = ("metadata", {"attempt": 2})
    answer = await one.answered(one.chat(stream=True), events=(token("one "), began, *again))
    assert text_of(answer) == heard


async def test_whole_messages_of_an_attempt_are_repeated_as_well(one: Asking) -> None:
    said = (token("first", "a0"), token("sec", "a1"))
    again = (token("first", "b0"), token("second", "b1"), token("third", "b2"))
    answer = await one.answered(
        one.chat(stream=True), events=(*said, ("metadata", {"attempt": 2}), *again)
    )
    assert text_of(answer) == "first\n\nsecond\n\nthird"


async def test_a_call_that_nobody_answered_is_the_clients(asking: Asking) -> None:
    answer = await asking.answered(
        asking.chat(), ai("", tool_calls=[call(city="Rome"), call("done", "c2")]), tool("ok", "c2")
    )
    choice = chat.ChatCompletion.model_validate(answer.json()).choices[0]
    assert choice.finish_reason == "tool_calls"
    (found,) = choice.message.tool_calls or []
    assert found.model_dump() == {
        "id": "c1",
        "type": "function",
        "function": {"name": "search", "arguments": '{"city":"Rome"}'},
    }


@pytest.mark.parametrize(
    ("reason", "finish"), [("length", "length"), ("max_tokens", "length"), ("stop", "stop")]
)
async def test_a_cut_answer_says_so(one: Asking, reason: str, finish: str) -> None:
    cut = ai("so", response_metadata={"finish_reason": reason})
    answer = await one.answered(one.chat(), cut)
    assert answer.json()["choices"][0]["finish_reason"] == finish
    response = (await one.answered(one.respond(), cut)).json()
    assert response["status"] == ("incomplete" if finish == "length" else "completed")


@pytest.mark.parametrize(
    ("outcome", "status", "code", "says"),
    [
        (
            {"status": RunStatus.ERROR, "error": b'{"error":"ValueError","message":"no"}'},
            *(500, "run_failed", "ValueError: no"),
        ),
        ({"status": RunStatus.INTERRUPTED}, 409, "run_cancelled", "was cancelled"),
    ],
)
async def test_a_failed_run_is_an_error_that_is_not_repeated(
    asking, outcome, status: int, code: str, says: str
) -> None:
    answer = await asking.answered(asking.chat(), **outcome)
    assert error_of(answer)[:2] == (status, code)
    assert says in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    streamed = frames(await asking.answered(asking.chat(stream=True), **outcome))
    assert streamed[-1]["error"]["code"] == code
    assert "[DONE]" not in streamed


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Conflict("taken"), 409, "conflict"),
        (TooManyRequests("full", 3), 429, "rate_limit_exceeded"),
        (Unavailable("restarting"), 503, None),
    ],
)
async def test_errors_of_the_server_have_their_statuses(one, error, status: int, code) -> None:
    def refuse(_: Any) -> None:
        raise error

    one.runtime.admission = refuse
    answer = await one.post(*one.chat())
    assert error_of(answer)[:2] == (status, code)
    if status != 409:
        assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/api/v1/chat/completions", 405, "method_not_allowed"),
        ("GET", "/v1/models/%00", 422, None),
    ],
)
async def test_other_errors_below_v1_have_the_shape_too(one, method, path, status, code) -> None:
    answer = await one.http.request(method, path)
    assert error_of(answer)[:2] == (status, code)
    assert "detail" in (await one.http.get("/nothing")).json()


async def test_an_unforeseen_error_has_the_shape(one: Asking, monkeypatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(one.runtime.records, "search_assistants", broken)
    answer = await one.get("/models")
    assert error_of(answer) == (500, None, "Internal Server Error")


async def test_a_body_that_is_no_json_is_an_error_of_openai(one: Asking) -> None:
    answer = await one.http.post("/v1/chat/completions", content=b"{")
    assert error_of(answer) == (400, None, "Invalid JSON in request body")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_run(live: httpx.AsyncClient, runtime, stream):
    body = {"model": "counter", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    asking = asyncio.create_task(live.post("/v1/chat/completions", json=body))
    async with asyncio.timeout(BOUND_S):
        await runtime.admitted.wait()
        await runtime.opened.wait()
        asking.cancel()
        await runtime.cancelled.wait()
    (cancel,) = {request.run_id for request, _ in runtime.cancels}
    assert cancel == runtime.requests[-1].run_id


async def test_the_same_key_makes_no_second_run(one: Asking) -> None:
    first = await one.answered(one.chat(metadata={"thread_id": THREAD}), ai("yes"))
    key = {"Idempotency_Key": "k"}
    path, body = one.chat("more", metadata={"thread_id": THREAD})
    second = asyncio.create_task(one.post(path, body, **key))
    one.runtime.admitted.clear()
    async with asyncio.timeout(BOUND_S):
        await one.runtime.admitted.wait()
        one.end(ai("sure", "a2"))
        told = (await second).json()
        again = (await one.post(path, body, **key)).json()
    assert first.json()["id"] != told["id"]
    assert again == told


# --- threads --------------------------------------------------------------------------------------


async def test_a_thread_gets_only_what_it_does_not_have(asking: Asking) -> None:
    on = {"metadata": {"thread_id": THREAD}}
    system = {"role": "system", "content": "be kind"}
    await asking.answered(asking.chat(system, "hi", **on), ai("hello"))
    assert asking.told() == [("system", "be kind"), ("user", "hi")]
    assert not asking.runtime.requests[-1].temporary
    hello = {"role": "assistant", "content": "hello"}
    answer = await asking.answered(asking.chat(system, "hi", hello, "more", **on), ai("sure", "a2"))
    assert asking.told() == [("system", "be kind"), ("user", "more")]
    assert answer.json()["choices"][0]["message"]["content"] == "sure"
    status, _, message = error_of(await asking.post(*asking.chat("hi", hello, **on)))
    assert status == 400
    assert "has all of these messages" in message


async def test_a_thread_id_follows_the_rules_of_the_mount(one: Asking) -> None:
    status, _, message = error_of(await one.post(*one.chat(metadata={"thread_id": "mine"})))
    assert (status, message) == (400, "Invalid thread ID: must be a UUID")


@pytest.mark.parametrize(
    ("content", "resumed"),
    [("yes", "yes"), ("true", True), ('{"ok": 1}', {"ok": 1}), ('"true"', "true"),
     ("123456789012345678901234567890", "123456789012345678901234567890")],
)  # fmt: skip
async def test_a_question_is_a_call_that_a_tool_message_answers(asking, content, resumed) -> None:
    on = {"metadata": {"thread_id": THREAD}}
    answer = await asking.answered(asking.chat(**on), interrupts=(QUESTION,))
    choice = chat.ChatCompletion.model_validate(answer.json()).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "sure?")
    (asked,) = choice.message.tool_calls or []
    assert asked.model_dump() == {
        "id": "i1",
        "type": "function",
        "function": {"name": "interrupt", "arguments": '{"value":"sure?"}'},
    }
    told = answer.json()["choices"][0]["message"]
    reply = {"role": "tool", "tool_call_id": "i1", "content": content}
    await asking.answered(asking.chat("hi", told, reply, **on), ai("done"))
    body = asking.body()
    assert (body["command"]["resume"], body["input"]) == ({"i1": resumed}, None)
    assert body["strict_resume"] is True
    # The answer is given; the call waits for no other one.
    status, _, message = error_of(await asking.post(*asking.chat("hi", told, reply, **on)))
    assert status == 400
    assert "waits for no answer" in message


async def test_a_users_text_answers_the_only_question(one: Asking) -> None:
    on = {"metadata": {"thread_id": THREAD}}
    answer = await one.answered(one.chat(stream=True, **on), interrupts=(QUESTION,))
    assert text_of(answer) == "sure?"
    calls = [c["choices"][0]["delta"].get("tool_calls") for c in frames(answer)[:-1]]
    assert [each[0]["id"] for each in calls if each] == ["i1"]
    done = await one.answered(one.chat("go on", **on), ai("done"))
    assert one.body()["command"] == {"resume": {"i1": "go on"}}
    assert done.json()["choices"][0]["message"]["content"] == "done"


async def test_of_several_questions_the_answer_names_one(one: Asking) -> None:
    on = {"metadata": {"thread_id": THREAD}}
    other = {"id": "i2", "value": {"which": 2}}
    answer = await one.answered(one.chat(**on), interrupts=(QUESTION, other))
    calls = answer.json()["choices"][0]["message"]["tool_calls"]
    assert [each["function"]["arguments"] for each in calls] == [
        '{"value":"sure?"}',
        '{"value":{"which":2}}',
    ]
    status, _, message = error_of(await one.post(*one.chat("yes", **on)))
    assert status == 400
    assert "i1, i2" in message
    strange = {"role": "tool", "tool_call_id": "i9", "content": "x"}
    assert error_of(await one.post(*one.chat(strange, **on)))[0] == 400


async def test_a_question_without_a_thread_cannot_be_answered(one: Asking) -> None:
    answer = await one.answered(one.chat(), interrupts=(QUESTION,))
    told = answer.json()["choices"][0]["message"]
    reply = {"role": "tool", "tool_call_id": "i1", "content": "yes"}
    status, _, message = error_of(await one.post(*one.chat("hi", told, reply)))
    assert status == 400
    assert "'metadata.thread_id' from the first request on" in message


# --- responses ------------------------------------------------------------------------------------


async def test_a_response_is_a_run_on_a_thread_that_stays(asking: Asking) -> None:
    answer = await asking.answered(
        asking.respond(metadata={"team": "a"}, temperature=0.5, instructions="be kind"),
        ai("see", "a0", tool_calls=[call(city="Rome")], usage_metadata=USAGE),
        tool("sunny"),
        ai("it is sunny"),
    )
    response = responses.Response.model_validate(answer.json())
    request = asking.runtime.requests[-1]
    assert response.id == f"resp_{request.run_id.replace('-', '')}"
    assert (response.status, response.output_text) == ("completed", "seeit is sunny")
    first, called, last = answer.json()["output"]
    assert (first["id"], last["id"]) == ("msg_a0", "msg_a1")
    assert called == {
        "id": "c1",
        "type": "mcp_call",
        "server_label": "greenroom",
        "name": "search",
        "arguments": '{"city":"Rome"}',
        "output": "sunny",
        "error": None,
        "status": "completed",
    }
    assert response.usage is not None
    assert response.usage.total_tokens == 5
    assert response.metadata == {"team": "a", "thread_id": request.thread_id}
    assert (response.temperature, response.instructions) == (0.5, "be kind")
    assert not request.temporary
    for named in (response.id, request.run_id):
        assert (await asking.get(f"/responses/{named}")).json() == answer.json()


async def test_a_response_goes_on_from_the_previous_one(asking: Asking) -> None:
    first = (await asking.answered(asking.respond(), ai("hello"))).json()
    second = await asking.answered(
        asking.respond("more", previous_response_id=first["id"]), ai("sure", "a2")
    )
    assert asking.told() == [("user", "more")]
    assert second.json()["metadata"] == first["metadata"]
    assert second.json()["previous_response_id"] == first["id"]
    assert [item["id"] for item in second.json()["output"]] == ["msg_a2"]


async def test_an_earlier_response_is_what_its_run_had_left(one: Asking) -> None:
    first = (await one.answered(one.respond(), ai("hello"))).json()
    run_id = one.run_id
    left = {**one.runtime.records.threads[first["metadata"]["thread_id"]]["values"]}
    await one.answered(one.respond("more", previous_response_id=first["id"]), ai("sure", "a2"))
    state = {"values": left, "tasks": [], "checkpoint": {"checkpoint_id": UNKNOWN}}
    asked = _with_history(one.runtime, [state])
    assert (await one.get(f"/responses/{first['id']}")).json() == first
    assert asked[-1].metadata == {"run_id": run_id}
    # A second response after the first one begins a branch there.
    await one.answered(one.respond("other", previous_response_id=first["id"]), ai("ok", "a3"))
    assert one.body()["config"]["configurable"]["checkpoint_id"] == UNKNOWN
    # Its checkpoints are gone: the response is there, what it said is not.
    _with_history(one.runtime, [])
    assert (await one.get(f"/responses/{first['id']}")).json()["output"] == []
    gone = one.respond("x", previous_response_id=first["id"])
    status, _, message = error_of(await one.post(*gone))
    assert status == 400
    assert "not kept any more" in message


def _with_history(runtime: MemoryRuntime, history: list[Any]) -> list[HistoryQuestion]:
    asked: list[HistoryQuestion] = []

    async def ask(question: Any) -> bytes:
        if isinstance(question, HistoryQuestion):
            asked.append(question)
            return orjson.dumps(history)
        return runtime.answer

    runtime.ask = ask  # type: ignore[method-assign]
    return asked


async def test_a_question_is_answered_by_an_item(asking: Asking) -> None:
    first = (await asking.answered(asking.respond(), interrupts=(QUESTION,))).json()
    question, asked = first["output"]
    assert question["content"][0]["text"] == "sure?"
    assert (asked["type"], asked["name"], asked["call_id"]) == ("function_call", "interrupt", "i1")
    reply = [{"type": "function_call_output", "call_id": "i1", "output": "true"}]
    second = await asking.answered(
        asking.respond(reply, previous_response_id=first["id"]), ai("done", "a2")
    )
    assert asking.body()["command"] == {"resume": {"i1": True}}
    assert responses.Response.model_validate(second.json()).output_text == "done"


async def test_a_response_in_the_background_is_asked_for_and_cancelled(asking: Asking) -> None:
    begun = (await asking.post(*asking.respond(background=True))).json()
    assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
    found = (await asking.get(f"/responses/{begun['id']}")).json()
    assert responses.Response.model_validate(found).status == "in_progress"
    asking.runtime.finish(asking.run_id, None, status=RunStatus.INTERRUPTED)
    asking.runtime.records.runs[asking.run_id]["status"] = "running"
    cancelled = (await asking.post(f"/responses/{begun['id']}/cancel", {})).json()
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)
    again = (await asking.post(f"/responses/{begun['id']}/cancel", {})).json()
    assert again == cancelled


async def test_a_failed_response_says_why(one: Asking) -> None:
    outcome = {"status": RunStatus.ERROR, "error": b'{"error":"ValueError","message":"no"}'}
    answer = await one.answered(one.respond(), **outcome)
    assert answer.status_code == 200
    response = responses.Response.model_validate(answer.json())
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.message == "ValueError: no"
    events = frames(await one.answered(one.respond(stream=True), **outcome))
    assert events[-1]["type"] == "response.failed"


async def test_a_response_that_is_not_stored_is_gone(one: Asking) -> None:
    answer = await one.answered(one.respond(store=False), ai("yes"))
    assert one.runtime.requests[-1].temporary
    assert (answer.json()["store"], answer.json()["metadata"]) == (False, {})


async def test_a_deleted_response_takes_its_thread_along(asking: Asking) -> None:
    first = (await asking.answered(asking.respond(), ai("hello"))).json()
    await asking.answered(asking.respond("more", previous_response_id=first["id"]), ai("ok", "a2"))
    second = f"resp_{asking.run_id}"
    threads = asking.runtime.records.threads
    deleted = await asking.http.delete(f"{asking.mount}/v1/responses/{first['id']}")
    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert (await asking.get(f"/responses/{first['id']}")).status_code == 404
    assert len(threads) == 1
    await asking.http.delete(f"{asking.mount}/v1/responses/{second}")
    assert threads == {}


async def test_a_thread_of_the_clients_own_stays(asking: Asking) -> None:
    asked = asking.respond(conversation={"id": f"conv_{THREAD}"})
    response = (await asking.answered(asked, ai("hello"))).json()
    assert response["conversation"] == {"id": f"conv_{THREAD}"}
    await asking.http.delete(f"{asking.mount}/v1/responses/{response['id']}")
    assert THREAD in asking.runtime.records.threads


@pytest.mark.parametrize("name", ["x", "resp_1", f"resp_{UNKNOWN}"])
async def test_an_unknown_response_is_404(asking: Asking, name: str) -> None:
    for answer in (
        await asking.get(f"/responses/{name}"),
        await asking.post(f"/responses/{name}/cancel", {}),
        await asking.http.delete(f"{asking.mount}/v1/responses/{name}"),
    ):
        assert error_of(answer)[:2] == (404, "not_found")


async def test_a_run_of_another_route_is_no_response(one: Asking) -> None:
    await one.http.post("/runs", json={"assistant_id": "counter", "input": {}})
    assert (await one.get(f"/responses/{one.run_id}")).status_code == 404


async def test_the_events_of_a_response_are_those_of_its_items(asking: Asking) -> None:
    answer = await asking.answered(
        asking.respond(stream=True), ai("tok0 tok1"), events=(token("tok0 "), token("tok1"))
    )
    events = frames(answer)
    assert {event["type"] for event in events} == RESPONSE_TYPES
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert deltas == ["tok0 ", "tok1"]
    (added,) = [e for e in events if e["type"] == "response.output_item.added"]
    last = responses.Response.model_validate(events[-1]["response"])
    assert added["item"]["id"] == last.output[0].id
    assert last.output_text == "tok0 tok1"
    names = [f.partition("\r\n")[0] for f in answer.text.split("\r\n\r\n") if "data: " in f]
    assert names == [f"event: {event['type']}" for event in events]


async def test_the_events_tell_calls_and_questions(one: Asking) -> None:
    found = tool("sunny")
    answer = await one.answered(
        one.respond(stream=True), ai("", tool_calls=[call()]), found,
        events=(("messages", [found, {}]),), interrupts=(QUESTION,),
    )  # fmt: skip
    added = [e["item"] for e in frames(answer) if e["type"] == "response.output_item.added"]
    assert [item["type"] for item in added] == ["mcp_call", "message", "function_call"]
    done = [e["item"] for e in frames(answer) if e["type"] == "response.output_item.done"]
    assert done[1:] == frames(answer)[-1]["response"]["output"][1:]


async def test_a_reader_goes_on_behind_the_last_event_that_it_has(one: Asking) -> None:
    begun = one.respond(stream=True, background=True)
    events = frames(await one.answered(begun, ai("a b"), events=(token("a "), token("b"))))
    assert one.runtime.requests[-1].resumable
    response_id = events[-1]["response"]["id"]
    for after in (0, 4, len(events) - 2):
        joined = await one.get(f"/responses/{response_id}", stream=True, starting_after=after)
        assert frames(joined) == events[after + 1 :]
    assert frames(await one.get(f"/responses/{response_id}", stream=True)) == events


async def test_events_that_are_not_kept_cannot_be_joined(one: Asking) -> None:
    response = (await one.answered(one.respond(), ai("yes"))).json()
    path = f"/responses/{response['id']}"
    status, _, message = error_of(await one.get(path, stream=True))
    assert status == 400
    assert "'background' and 'stream'" in message
    assert error_of(await one.get(path, starting_after=3))[0] == 400
