"""What `ServeChatModel` makes of chunks, in this process: its deployment is a double here.

tests/models/test_on_a_server.py calls real deployments from real run actors.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import types
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Annotated, Any

import pytest
import ray.cloudpickle
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict

from greenroom.models import ModelError, ServeChatModel


class Response:
    """What a handle answers: sync and async iterator, and it can be cancelled."""

    def __init__(self, items: Iterable[Any], *, stuck: bool = False) -> None:
        self.items = iter(items)
        self.stuck = stuck
        self.waiting = asyncio.Event()
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        item = next(self.items)
        if isinstance(item, Exception):
            raise item
        return item

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return self.__next__()
        except StopIteration:
            if self.stuck:
                self.waiting.set()
                await asyncio.Event().wait()
            raise StopAsyncIteration from None


class Handle:
    def __init__(self, response: Response) -> None:
        self.response = response
        self.requests: list[Any] = []

    def remote(self, request: Any) -> Response:
        self.requests.append(request)
        return self.response


def answering(
    *items: Any, stuck: bool = False, **fields: Any
) -> tuple[ServeChatModel, Handle, Response]:
    model = ServeChatModel(app="llm", **fields)
    response = Response(items, stuck=stuck)
    handle = Handle(response)
    model._handle = handle
    return model, handle, response


def said(text: str | None = None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, **choice}]}


def asked(index: int, arguments: str, **call: Any) -> dict[str, Any]:
    name = {"name": call.pop("name")} if "name" in call else {}
    function = {"arguments": arguments, **name}
    return {
        "choices": [{"delta": {"tool_calls": [{"index": index, "function": function, **call}]}}]
    }


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    degrees: int


async def test_the_request_is_openais() -> None:
    model, handle, _ = answering(said("Hi"), model="tiny", model_kwargs={"temperature": 0})
    call: Any = {"name": "look", "args": {"at": "it"}, "id": "c1", "type": "tool_call"}
    await model.bind(max_tokens=5).ainvoke(
        [
            ("system", "Be brief."),
            HumanMessage("Hello"),
            AIMessage("", tool_calls=[call]),
            ToolMessage("seen", tool_call_id="c1"),
        ],
        stop=["\n"],
    )
    (request,) = handle.requests
    messages = request.pop("messages")
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    assert messages[2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "it"}'}
    assert messages[3]["tool_call_id"] == "c1"
    assert request == {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 5,
        "model": "tiny",
        "stop": ["\n"],
    }


@pytest.mark.parametrize(
    "items",
    [
        (said("Good "), said("evening", finish_reason="stop")),
        ([said("Good "), said("evening", finish_reason="stop")],),
        (
            f"data: {json.dumps(said('Good '))}\n\n",
            f"data: {json.dumps(said('evening', finish_reason='stop'))}\n\n",
            "data: [DONE]\n\n",
        ),
    ],
    ids=["chunks", "gathered", "events"],
)
async def test_chunks_are_understood_however_they_come(items: tuple[Any, ...]) -> None:
    model, _, response = answering(*items)
    pieces = [piece.text async for piece in model.astream("Hello") if piece.text]
    assert pieces == ["Good ", "evening"]
    assert not response.cancelled


def test_a_model_speaks_to_nodes_that_are_no_coroutines_too() -> None:
    model, _, _ = answering(said("Good "), said("evening", finish_reason="stop"))
    answer = model.invoke("Hello")
    assert answer.text == "Good evening"
    assert answer.response_metadata["finish_reason"] == "stop"


async def test_tokens_are_counted_as_the_deployment_says() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    model, _, _ = answering(said("Hi"), usage)
    answer = await model.ainvoke("Hello")
    assert answer.usage_metadata == {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}


async def test_tool_calls_come_together_from_their_pieces() -> None:
    model, handle, _ = answering(
        asked(0, "", id="c1", name="Weather"),
        asked(0, '{"city": "Os'),
        asked(1, '{"city": "Rome", "degrees": 30}', id="c2", name="Weather"),
        asked(0, 'lo", "degrees": -3}'),
    )
    answer = await model.bind_tools([Weather]).ainvoke("And the weather?")
    assert [(call["id"], call["args"]) for call in answer.tool_calls] == [
        ("c1", {"city": "Oslo", "degrees": -3}),
        ("c2", {"city": "Rome", "degrees": 30}),
    ]
    assert handle.requests[0]["tools"][0]["function"]["name"] == "Weather"
    assert "tool_choice" not in handle.requests[0]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("any", "required"),
        (True, "required"),
        ("none", "none"),
        ("Weather", {"type": "function", "function": {"name": "Weather"}}),
    ],
)
async def test_the_choice_of_a_tool_is_said_in_openais_words(given: Any, sent: Any) -> None:
    model, handle, _ = answering(said("Hi"))
    await model.bind_tools([Weather], tool_choice=given).ainvoke("Hello")
    assert handle.requests[0]["tool_choice"] == sent


async def test_structured_output_is_an_object_of_its_class() -> None:
    model, handle, _ = answering(
        asked(0, '{"city": "Oslo", "degrees": -3}', id="c1", name="Weather")
    )
    answer = await model.with_structured_output(Weather).ainvoke("And the weather?")
    assert answer == Weather(city="Oslo", degrees=-3)
    assert handle.requests[0]["tool_choice"] == "required"


async def test_a_cancelled_run_cancels_the_request() -> None:
    """The run waits for the next token when Stop comes."""
    model, _, response = answering(said("Hi"), stuck=True)
    run = asyncio.create_task(model.ainvoke("Hello"))
    async with asyncio.timeout(30):
        await response.waiting.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert response.cancelled


async def test_a_reader_who_has_enough_cancels_the_request() -> None:
    model, _, response = answering(said("Hi"), said("there"), said("you"))
    stream: Any = model._astream([HumanMessage("Hello")])
    await anext(stream)
    await stream.aclose()
    assert response.cancelled


class Wrapped(Exception):
    """As Ray wraps what a deployment raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a traceback of many lines")
        self.cause = cause


async def test_what_the_deployment_raised_is_raised() -> None:
    model, _, response = answering(said("Hi"), Wrapped(ValueError("too long")))
    with pytest.raises(ValueError, match=r"^too long$"):
        await model.ainvoke("Hello")
    assert not response.cancelled


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({"error": {"message": "out of memory"}}, r"^out of memory$"),
        ('data: {"error": {"message": "out of memory"}}\n\n', r"^out of memory$"),
        ("Hello", "sent 'Hello', which is no chunk"),
        (7, "sent int, which is no chunk"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_with_a_sentence(item: Any, sentence: str) -> None:
    model, _, _ = answering(item)
    with pytest.raises(ModelError, match=sentence):
        await model.ainvoke("Hello")


async def test_without_a_ray_the_model_says_so() -> None:
    with pytest.raises(RuntimeError, match="not connected to a Ray"):
        await ServeChatModel(app="llm").ainvoke("Hello")


async def test_a_graph_streams_the_tokens_as_messages() -> None:
    model, _, _ = answering(said("Good "), said("evening"))

    class State(TypedDict):
        messages: Annotated[list[Any], add_messages]

    async def answer(state: State) -> State:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(State).add_node(answer).add_edge(START, "answer").compile()
    stream: Any = graph.astream({"messages": [("user", "Hello")]}, stream_mode="messages")
    pieces = [message async for message, _ in stream]
    assert all(isinstance(piece, AIMessageChunk) for piece in pieces)
    assert [piece.text for piece in pieces if piece.text] == ["Good ", "evening"]
    assert len({piece.id for piece in pieces}) == 1


class Completion(BaseModel):
    """`ChatCompletionRequest`, whose real one comes with vLLM."""

    messages: list[dict[str, Any]]
    model: str
    stream: bool


async def test_a_ray_llm_request_is_made_where_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    model, handle, _ = answering(said("Hi"), ray_llm=True, model="qwen")
    await model.ainvoke("Hello")
    (request,) = handle.requests
    # Serve's prefix-aware router looks at these before the request travels.
    assert request.messages == [{"role": "user", "content": "Hello"}]
    assert request.model == "qwen"
    sent = ray.cloudpickle.dumps(request)
    here = types.ModuleType("ray.serve.llm.openai_api_models")
    here.ChatCompletionRequest = Completion  # type: ignore[attr-defined]
    package = types.ModuleType("ray.serve.llm")
    package.openai_api_models = here  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.serve.llm", package)
    monkeypatch.setitem(sys.modules, "ray.serve.llm.openai_api_models", here)
    arrived = pickle.loads(sent)
    assert arrived == Completion(messages=request.messages, model="qwen", stream=True)
