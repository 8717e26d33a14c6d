"""The events of a thread's log that an execution makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.stream import StreamChannel, StreamTransformer
from langgraph.types import interrupt
from typing_extensions import TypedDict

from greenroom.core.runs import RunOrder, RunStatus
from greenroom.core.thread_log import begins_message
from greenroom.graphs.log_events import LogEvents
from greenroom.wire.encoding import dumps
from greenroom.wire.requests import LOG_MODES
from tests.graphs.graph_driver import Driven, given, order, probe, run
from tests.graphs.probe_graphs import FakeStreamingModel


def logged(graph_id: str = "given", /, **changes: Any) -> RunOrder:
    kwargs = {"stream_mode": [*LOG_MODES], "subgraphs": True, "config": {"configurable": {}}}
    return order(graph_id, **{**kwargs, "logged": True, "resumable": True, **changes})


class State(TypedDict, total=False):
    n: int
    answer: Any


async def add(state: State) -> State:
    get_stream_writer()({"adding": 1})
    return {"n": state.get("n", 0) + 1}


async def ask(state: State) -> State:
    return {"answer": interrupt({"n": state.get("n")})}


def graph_of(*nodes: Any, state: Any = State, **options: Any) -> Any:
    builder = StateGraph(state)
    before = START
    for node in nodes:
        builder.add_node(node.__name__, node)
        builder.add_edge(before, node.__name__)
        before = node.__name__
    return builder.compile(**options)


async def test_each_state_comes_after_its_checkpoint() -> None:
    driven = await run(given(graph_of(add)), logged(input={"n": 1}))
    names = [name for name in driven.names if name in ("values", "@checkpoints")]
    assert names == ["@checkpoints", "@checkpoints", "values", "@checkpoints", "values"]
    first, second, third = driven.of("@checkpoints")
    assert (first["step"], first["source"]) == (-1, "input")
    assert second["parent_id"] == first["id"]
    assert third["parent_id"] == second["id"]
    assert driven.of("values") == [{"n": 1}, {"n": 2}]


async def test_every_channel_of_a_plain_graph_is_there() -> None:
    driven = await run(given(graph_of(add)), logged(input={"n": 1}))
    assert {name.partition("|")[0] for name in driven.names} == {
        *("values", "updates", "custom", "tasks", "@checkpoints"),
    }
    assert driven.of("custom") == [{"adding": 1}]
    assert driven.of("updates") == [{"add": {"n": 2}}]


async def test_the_output_is_that_of_any_run() -> None:
    plain = await run(given(graph_of(add)), order(input={"n": 1}, stream_mode=["values"]))
    of_log = await run(given(graph_of(add)), logged(input={"n": 1}))
    assert plain.outcome is not None
    assert of_log.outcome is not None
    assert of_log.outcome.output == plain.outcome.output
    assert of_log.outcome.values == plain.outcome.values


async def test_messages_are_blocks_with_the_id_that_the_state_has() -> None:
    driven = await run(
        probe("agent"), logged("agent", input={"messages": [{"role": "user", "content": "hi"}]})
    )
    (name,) = {name for name in driven.names if name.startswith("@messages")}
    parts = driven.of(name)
    kinds = [part["event"] for part in parts]
    assert kinds[:2] == ["message-start", "content-block-start"]
    assert kinds[-2:] == ["content-block-finish", "message-finish"]
    (message_id,) = {part["id"] for part in parts}
    last = driven.of("values")[-1]["messages"][-1]
    assert last["id"] == message_id
    assert last["type"] == "ai"
    assert "invalid_tool_calls" not in last


class Slow(FakeStreamingModel):
    """Streams its name, token by token; each waits for the others of the same step."""

    name_of: str

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield ChatGenerationChunk(message=AIMessageChunk(content=self.name_of))


async def test_messages_of_one_node_do_not_mix() -> None:
    async def both(state: MessagesState) -> dict[str, Any]:
        models = Slow(name_of="a"), Slow(name_of="b")
        return {"messages": await asyncio.gather(*(m.ainvoke("hi") for m in models))}

    driven = await run(given(graph_of(both, state=MessagesState)), logged(input={"messages": []}))
    parts = driven.of("@messages:both")
    starts = [index for index, part in enumerate(parts) if part["event"] == "message-start"]
    assert len(starts) == 2
    ids = [part["id"] for part in parts]
    assert ids == [ids[0]] * starts[1] + [ids[-1]] * (len(ids) - starts[1])
    assert ids[0] != ids[-1]


async def test_a_subgraph_has_a_life() -> None:
    driven = await run(probe("parent"), logged("parent", input={}))
    lives = [(n, d["event"]) for n, d in driven.events if n.startswith("@lifecycle")]
    assert [event for _, event in lives] == ["started", "completed"]
    (name,) = {name for name, _ in lives}
    assert name.startswith("@lifecycle|child:")
    assert any(found.startswith("values|child:") for found in driven.names)


async def test_an_interrupt_is_asked_once_and_its_answer_is_told() -> None:
    saver, graph = InMemorySaver(), given(graph_of(ask))
    first = logged(input={"n": 1})
    asked = await run(graph, first, saver)
    (question,) = asked.of("@input.requested")
    assert question["payload"] == question["value"] == {"n": 1}
    assert asked.names[-1] == "@input.requested"  # the thread must wait for the answer by then
    assert all("__interrupt__" not in values for values in asked.of("values"))
    answers = {question["interrupt_id"]: "yes"}
    told = await run(
        graph,
        logged(input=None, command={"resume": answers}, thread_id=first.thread_id),
        saver,
    )
    assert told.names[0] == "@input.answered"
    assert told.of("@input.answered") == [{"interrupt_ids": [question["interrupt_id"]]}]
    assert told.of("values")[-1] == {"n": 1, "answer": "yes"}


class Named(StreamTransformer):
    """A channel of the graph's author."""

    required_stream_modes = ("values",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._channel: StreamChannel[Any] = StreamChannel("progress")

    def init(self) -> dict[str, Any]:
        return {"progress": self._channel}

    def process(self, event: Any) -> bool:
        if event["method"] == "values":
            self._channel.push({"n": event["params"]["data"].get("n")})
        return True


async def test_a_channel_of_the_graph_has_its_name() -> None:
    driven = await run(given(graph_of(add, transformers=[Named])), logged(input={"n": 1}))
    assert driven.of("@custom:progress") == [
        {"name": "progress", "payload": {"n": 1}},
        {"name": "progress", "payload": {"n": 2}},
    ]


async def test_a_failed_run_ends_its_subgraphs() -> None:
    async def fail(state: State) -> State:
        raise ValueError("boom")

    inner = graph_of(fail)
    builder = StateGraph(State)
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    driven = await run(given(builder.compile()), logged(input={}))
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.ERROR
    lives = [d["event"] for n, d in driven.events if n.startswith("@lifecycle")]
    assert lives == ["started", "failed"]


async def test_a_run_that_goes_back_does_not_say_its_steps() -> None:
    saver, graph = InMemorySaver(), given(graph_of(add))
    first = logged(input={"n": 1})
    driven = await run(graph, first, saver)
    back = {"checkpoint_id": driven.of("@checkpoints")[0]["id"], "checkpoint_ns": ""}
    again = await run(
        graph,
        logged(input={"n": 5}, thread_id=first.thread_id, config={"configurable": back}),
        saver,
    )
    assert all("step" not in each for each in again.of("@checkpoints"))
    assert again.of("values")[-1] == {"n": 6}


@pytest.mark.parametrize("modes", [["values"], ["updates"]])
async def test_a_run_of_other_clients_has_its_states_and_questions_in_the_log(
    modes: list[str],
) -> None:
    plain: Driven = await run(given(graph_of(add, ask)), order(input={"n": 1}, stream_mode=modes))
    of_log = await run(
        given(graph_of(add, ask)), order(input={"n": 1}, stream_mode=modes, logged=True)
    )
    told = [name for name in of_log.names if not name.startswith("@")]
    assert told == plain.names
    assert ("@values" in of_log.names) == (modes == ["updates"])
    assert len(of_log.of("@input.requested")) == 1


class Earlier:
    """The events of an attempt that died, in their order."""

    def __init__(self, *events: tuple[str, Any]) -> None:
        self.events = [(name, dumps(data)) for name, data in events]

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        return False

    async def newest(self, begin: str) -> list[tuple[str, bytes]]:
        return [*{name: data for name, data in self.events if name.startswith(begin)}.items()]


def said(event: str, message_id: str) -> dict[str, Any]:
    return {"event": event, "id": message_id}


async def taken_back(*events: tuple[str, Any]) -> list[tuple[str, Any]]:
    """What an attempt says first, after one that said this."""
    told: list[tuple[str, Any]] = []
    sink = LogEvents(
        graph_of(add), lambda name, data: told.append((name, json.loads(data))), Earlier(*events)
    )
    await sink.begin(None)
    return told


async def test_a_message_that_was_half_streamed_is_taken_back() -> None:
    """It ends with an error; then a state has it as removed, and the next one does not have it."""
    human = {"type": "human", "id": "h", "content": "hi"}
    state = {"messages": [human], "n": 1}
    error, gone, same = await taken_back(
        ("values", {"messages": []}),
        ("values", state),
        ("@messages:agent", said("message-start", "m1")),
        ("@messages:agent", said("message-finish", "m1")),
        ("@messages:agent", said("message-start", "m2")),
        ("@messages:agent", said("content-block-delta", "m2")),
        ("@messages:other", said("message-start", "m3")),
        ("@messages:other", said("error", "m3")),
    )
    name, told = error
    assert (name, told["event"], told["id"]) == ("@messages:agent", "error", "m2")
    assert told["message"]
    removed = {"type": "remove", "content": "", "id": "m2"}
    assert gone == ("@values", {"messages": [human, removed], "n": 1})
    assert same == ("@values", state)


async def test_what_a_subgraph_has_half_streamed_is_taken_back_in_its_namespace() -> None:
    told = await taken_back(
        ("values", {"messages": []}),
        ("values|child:1", {"chat": [{"type": "human", "id": "h", "content": "hi"}], "tags": []}),
        ("@messages:agent|child:1", said("message-start", "m1")),
        ("@messages:agent|child:2", said("message-start", "m2")),
    )
    assert [name for name, _ in told] == [
        *("@messages:agent|child:1", "@messages:agent|child:2"),
        *("@values|child:1", "@values|child:1"),
    ]
    assert [each["id"] for each in told[2][1]["chat"]] == ["h", "m1"]
    assert told[2][1]["tags"] == []


async def test_nothing_is_said_of_messages_that_are_whole() -> None:
    assert await taken_back() == []
    assert await taken_back(("@messages:agent", said("message-finish", "m"))) == []


async def test_the_begin_of_a_message_is_known_by_its_event() -> None:
    graph = probe("agent")
    driven = await run(
        graph, logged("agent", input={"messages": [{"role": "user", "content": "x"}]})
    )
    begun = [(name, data) for name, data in driven.events if begins_message(name, dumps(data))]
    assert begun == [
        (name, data)
        for name, data in driven.events
        if name.startswith("@messages") and data["event"] == "message-start"
    ]
    assert begun


async def test_what_an_attempt_before_has_asked_is_not_asked_again() -> None:
    told: list[tuple[str, bytes]] = []

    class Tail(Earlier):
        async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
            return True

    events = LogEvents(graph_of(add), lambda name, data: told.append((name, data)), Tail())

    class Question:
        id = "0" * 32
        value = "?"

    await events.add((), "values", {"n": 1, "__interrupt__": [Question()]})
    await events.end(None)
    assert [(name, json.loads(data)) for name, data in told] == [("values", {"n": 1})]
