"""How runs end, what commands do, and what must pass through."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels import UntrackedValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.runtime import RunControl
from langgraph.store.memory import InMemoryStore
from langgraph.types import interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from greenroom.core.errors import Fenced
from greenroom.core.runs import RunStatus
from greenroom.graphs.execution import execute, state_after
from tests.graphs.graph_driver import given, order, probe, run


class CountingSaver(InMemorySaver):
    """Counts reads, each of which is a query in production."""

    reads = 0

    async def aget_tuple(self, config: Any) -> Any:
        CountingSaver.reads += 1
        return await super().aget_tuple(config)


async def test_a_run_that_comes_to_its_end_reads_the_database_only_once() -> None:
    CountingSaver.reads = 0
    driven = await run(probe("counter"), order("counter", input={"count": 0}), CountingSaver())
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.SUCCESS
    assert (
        driven.outcome.values == driven.outcome.output == b'{"count":3,"log":["one","two","three"]}'
    )
    assert (driven.outcome.interrupts, driven.outcome.has_next) == (b"{}", False)
    assert CountingSaver.reads == 1


async def test_what_was_not_asked_for_is_not_emitted() -> None:
    driven = await run(
        probe("counter"), order("counter", input={"count": 0}, stream_mode=["custom"])
    )
    assert set(driven.names) == {"custom"}
    assert driven.output == {"count": 3, "log": ["one", "two", "three"]}


async def test_an_interrupt_ends_in_success_with_the_state_and_what_it_waits_for() -> None:
    saver = InMemorySaver()
    first = order("approval", input={"question": "go?"})
    driven = await run(probe("approval"), first, saver)
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.SUCCESS
    assert driven.outcome.has_next
    assert driven.outcome.values == b'{"question":"go?"}'
    [waiting] = driven.output.pop("__interrupt__")
    assert driven.output["question"] == "go?"
    assert waiting == {
        "value": {"question": "go?"},
        "id": waiting["id"],
        "response_schema": None,
    }
    [pending] = json.loads(driven.outcome.interrupts).values()
    assert pending == [{"id": waiting["id"], "value": {"question": "go?"}}]

    second = order("approval", thread_id=first.thread_id, command={"resume": "yes"})
    driven = await run(probe("approval"), second, saver)
    assert driven.output == {"question": "go?", "answer": "yes", "done": True}


async def test_parallel_interrupts_are_one_list_and_are_answered_by_id() -> None:
    saver = InMemorySaver()
    first = order("multi", input={})
    driven = await run(probe("multi"), first, saver)
    assert list(driven.output) == ["__interrupt__"]
    a, b = (item["id"] for item in driven.output["__interrupt__"])

    def resume(value: Any) -> Any:
        return order("multi", thread_id=first.thread_id, command={"resume": value})

    ambiguous = await run(probe("multi"), resume("single"), saver)
    assert ambiguous.output["__error__"]["error"] == "RuntimeError"
    one = await run(probe("multi"), resume({a: "A"}), saver)
    assert one.output["path"] == []
    assert [item["id"] for item in one.output["__interrupt__"]] == [b]
    both = await run(probe("multi"), resume({b: "B"}), saver)
    assert both.output == {"a": "A", "b": "B", "path": ["ia", "ib"]}


async def test_a_strict_resume_refuses_an_answer_to_an_interrupt_that_does_not_wait() -> None:
    saver = InMemorySaver()
    first = order("multi", input={})
    driven = await run(probe("multi"), first, saver)
    a, b = (item["id"] for item in driven.output["__interrupt__"])

    def strictly(answers: Any) -> Any:
        command = {"resume": answers}
        return order("multi", thread_id=first.thread_id, command=command, strict_resume=True)

    one = await run(probe("multi"), strictly({a: "A"}), saver)
    assert [item["id"] for item in one.output["__interrupt__"]] == [b]
    again = await run(probe("multi"), strictly({a: "another"}), saver)
    assert again.output["__error__"]["error"] == "UnknownInterruptError"
    both = await run(probe("multi"), strictly({b: "B"}), saver)
    assert both.output == {"a": "A", "b": "B", "path": ["ia", "ib"]}


class Decision(BaseModel):
    ok: bool


class Decided(TypedDict, total=False):
    ok: bool


async def test_an_interrupt_shows_what_answer_it_takes_and_a_wrong_one_can_be_given_again() -> None:
    builder = StateGraph(Decided)
    builder.add_node("ask", lambda _: {"ok": interrupt("Go?", response_schema=Decision).ok})
    builder.add_edge(START, "ask")
    graph, saver = given(builder.compile(), "asks"), InMemorySaver()
    first = order("asks", input={})
    driven = await run(graph, first, saver)
    schema = driven.output["__interrupt__"][0]["response_schema"]
    assert schema["properties"]["ok"]["type"] == "boolean"
    assert driven.outcome is not None
    [[pending]] = json.loads(driven.outcome.interrupts).values()
    assert pending["response_schema"] == schema

    def answering(value: Any) -> Any:
        return order("asks", thread_id=first.thread_id, command={"resume": value})

    refused = await run(graph, answering({"ok": "perhaps"}), saver)
    assert refused.output["__error__"]["error"] == "ValidationError"
    assert refused.outcome is not None
    [[still]] = json.loads(refused.outcome.interrupts).values()
    assert still == pending
    taken = await run(graph, answering({"ok": True}), saver)
    assert taken.output == {"ok": True}


async def test_an_interrupt_in_a_subgraph_is_filed_under_the_task_that_raised_it() -> None:
    inner = probe("approval").graph
    assert inner is not None
    builder = StateGraph(inner.builder.state_schema)  # pyright: ignore
    builder.add_node("inner", inner)
    builder.add_edge(START, "inner")
    saver = InMemorySaver()
    todo = order("outer", input={"question": "sub?"}, stream_mode=["tasks"], subgraphs=True)
    driven = await run(given(builder.compile(), "outer"), todo, saver)
    asked = next(
        data["id"] for name, data in driven.events if "|" in name and data["name"] == "ask"
    )
    assert driven.outcome is not None
    assert list(json.loads(driven.outcome.interrupts)) == [asked]


@pytest.mark.parametrize(
    ("kwargs", "output"),
    [
        ({"interrupt_before": ["two"]}, {"count": 1, "log": ["one"]}),
        ({"interrupt_after": "*"}, {"count": 1, "log": ["one"]}),
        ({"interrupt_before": "*"}, {"count": 0, "log": []}),
    ],
)
async def test_a_breakpoint_leaves_a_next_step_and_no_interrupts(kwargs: Any, output: Any) -> None:
    saver = InMemorySaver()
    first = order("counter", input={"count": 0}, **kwargs)
    driven = await run(probe("counter"), first, saver)
    assert driven.output == output
    assert driven.outcome is not None
    assert driven.outcome.has_next
    assert driven.outcome.interrupts == b"{}"
    rest = await run(probe("counter"), order("counter", thread_id=first.thread_id), saver)
    assert rest.output == {"count": 3, "log": ["one", "two", "three"]}


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ({"update": {"count": 50}}, {"count": 50, "log": ["one", "two", "three"]}),
        ({"update": [["count", 9]]}, {"count": 9, "log": ["one", "two", "three"]}),
        ({"goto": "three"}, {"count": 4, "log": ["one", "two", "three", "three"]}),
        (
            {"update": {"count": 70}, "goto": ["three"]},
            {"count": 71, "log": ["one", "two", "three", "three"]},
        ),
        (
            {"goto": {"node": "two", "input": {"count": 500}}},
            {"count": 502, "log": ["one", "two", "three", "two", "three"]},
        ),
    ],
)
async def test_commands_do_what_they_do_on_the_reference(command: Any, output: Any) -> None:
    saver = InMemorySaver()
    first = order("counter", input={"count": 0})
    await run(probe("counter"), first, saver)
    second = order("counter", thread_id=first.thread_id, command=command, input={"count": -1})
    assert (await run(probe("counter"), second, saver)).output == output


async def test_a_run_goes_back_to_a_checkpoint_however_it_is_named() -> None:
    saver = InMemorySaver()
    first = order("counter", input={"count": 0}, stream_mode=["checkpoints"])
    checkpoints = (await run(probe("counter"), first, saver)).of("checkpoints")
    middle = checkpoints[2]["config"]["configurable"]["checkpoint_id"]
    for kwargs in (
        {"checkpoint_id": middle},
        {"checkpoint": {"checkpoint_id": middle}},
        {"config": {"configurable": {"checkpoint_id": middle}}},
    ):
        again = order("counter", thread_id=first.thread_id, stream_mode=["updates"], **kwargs)
        assert [
            list(data) for data in (await run(probe("counter"), again, saver)).of("updates")
        ] == [
            ["two"],
            ["three"],
        ]


async def test_durability_exit_keeps_one_checkpoint() -> None:
    saver = InMemorySaver()
    todo = order("counter", input={"count": 0}, durability="exit")
    await run(probe("counter"), todo, saver)
    kept = [c async for c in saver.alist({"configurable": {"thread_id": todo.thread_id}})]
    assert len(kept) == 1


async def test_the_run_is_named_in_every_checkpoint_whatever_the_client_says() -> None:
    saver = InMemorySaver()
    todo = order(
        "parent",
        input={"value": 0},
        config={"metadata": {"run_id": "another", "mine": 1}},
    )
    await run(probe("parent"), todo, saver)
    kept = [c async for c in saver.alist({"configurable": {"thread_id": todo.thread_id}})]
    assert len({c.config["configurable"]["checkpoint_ns"] for c in kept}) == 2
    for checkpoint in kept:
        metadata: Any = checkpoint.metadata
        assert metadata["run_id"] == todo.run_id
        assert (metadata["run_attempt"], metadata["graph_id"]) == (1, "parent")
        assert (metadata["assistant_id"], metadata["mine"]) == (todo.assistant_id, 1)


async def test_context_and_store_reach_the_nodes() -> None:
    driven = await run(
        probe("ctx"), order("ctx", input={}, context={"user": "u", "n": 1}), store=InMemoryStore()
    )
    assert driven.output == {"ctx": {"user": "u", "n": 1}, "store_ok": True}


async def test_a_failing_graph_ends_in_error_with_the_state_that_it_left() -> None:
    driven = await run(probe("fails"), order("fails", input={"x": 1}))
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.ERROR
    assert driven.outcome.error == b'{"error":"ValueError","message":"boom: x=2"}'
    assert driven.output == {"__error__": {"error": "ValueError", "message": "boom: x=2"}}
    assert driven.outcome.values == b'{"x":2}'


async def test_a_run_that_never_began_has_no_state() -> None:
    driven = await run(probe("counter"), order("counter", input=None))
    assert driven.outcome is not None
    assert json.loads(driven.outcome.error or b"null")["error"] == "EmptyInputError"
    assert driven.outcome.values is None


async def test_a_command_without_meaning_is_an_error_of_the_run() -> None:
    driven = await run(probe("counter"), order("counter", command={"goto": [1]}))
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.ERROR
    assert b"command.goto" in (driven.outcome.error or b"")


class Plain(TypedDict, total=False):
    x: int


def one_node(node: Any, state: Any = Plain) -> Any:
    builder = StateGraph(state)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


async def test_cancelling_passes_through_and_leaves_the_state_of_the_last_step() -> None:
    entered = asyncio.Event()

    async def first(state: Plain) -> Plain:
        return {"x": 1}

    async def second(state: Plain) -> Plain:
        entered.set()
        await asyncio.Event().wait()
        return {"x": 2}

    builder = StateGraph(Plain)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    loaded, saver = given(builder.compile()), InMemorySaver()
    todo = order(input={"x": 0})
    task = asyncio.create_task(run(loaded, todo, saver))
    await asyncio.wait_for(entered.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    after = await state_after(loaded, todo, checkpointer=saver, store=None)
    assert (after.values, after.output) == (b'{"x":1}', b'{"x":1}')
    assert (after.interrupts, after.has_next) == (b"{}", True)


async def test_a_node_that_cancels_itself_has_failed_and_was_not_cancelled() -> None:
    async def node(state: Plain) -> Plain:
        raise asyncio.CancelledError

    driven = await run(given(one_node(node)), order(input={"x": 0}))
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.ERROR


async def test_a_fence_met_by_a_background_write_is_no_error_of_the_run() -> None:
    class Superseded(InMemorySaver):
        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            raise Fenced("another attempt owns the run")

    with pytest.raises(Fenced):
        await run(probe("counter"), order("counter", input={"count": 0}), Superseded())


async def test_a_fence_is_found_inside_what_wraps_it() -> None:
    async def node(state: Plain) -> Plain:
        try:
            raise Fenced("another attempt owns the run")
        except Fenced as error:
            raise ExceptionGroup("tasks", [RuntimeError("x"), error]) from None

    with pytest.raises(Fenced):
        await run(given(one_node(node)), order(input={"x": 0}))


async def test_a_drained_graph_stops_after_its_superstep_and_says_so() -> None:
    control = RunControl()

    async def node(state: Plain) -> Plain:
        control.request_drain()
        return {"x": 1}

    builder = StateGraph(Plain)
    builder.add_node("a", node)
    builder.add_node("b", node)
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    with pytest.raises(GraphDrained):
        await execute(
            given(builder.compile()),
            order(input={"x": 0}),
            emit=lambda name, data: None,
            checkpointer=InMemorySaver(),
            store=None,
            control=control,
        )


async def test_a_channel_that_is_not_kept_is_not_part_of_the_state_afterwards() -> None:
    class State(TypedDict, total=False):
        x: int
        handle: Annotated[Any, UntrackedValue]

    async def node(state: State) -> State:
        return {"x": 1, "handle": "open"}

    driven = await run(given(one_node(node, State)), order(input={"x": 0}))
    assert driven.output == {"x": 1, "handle": "open"}
    assert driven.outcome is not None
    assert driven.outcome.values == b'{"x":1}'


async def test_messages_that_come_whole_are_complete_at_once() -> None:
    class State(TypedDict):
        messages: Annotated[list[Any], add_messages]

    async def node(state: State) -> State:
        return {"messages": [AIMessage("done", id="a1"), HumanMessage("next", id="h1")]}

    driven = await run(
        given(one_node(node, State)), order(input={"messages": []}, stream_mode=["messages"])
    )
    assert driven.names == ["messages/metadata", "messages/complete"] * 2
    assert [m["content"] for [m] in driven.of("messages/complete")] == ["done", "next"]


async def test_a_cached_result_shows_that_it_was_cached() -> None:
    from langgraph.cache.memory import InMemoryCache
    from langgraph.types import CachePolicy

    calls: list[int] = []

    async def node(state: Plain) -> Plain:
        calls.append(1)
        return {"x": 1}

    builder = StateGraph(Plain)
    builder.add_node("node", node, cache_policy=CachePolicy())
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    loaded = given(builder.compile(cache=InMemoryCache()))
    for mark in ({}, {"__metadata__": {"cached": True}}):
        driven = await run(loaded, order(input={"x": 0}, stream_mode=["updates"]))
        assert driven.of("updates") == [{"node": {"x": 1}, **mark}]
    assert len(calls) == 1


async def test_state_that_json_cannot_say_does_not_fail_the_run() -> None:
    class State(TypedDict, total=False):
        x: Any

    async def node(state: State) -> State:
        return {"x": {1: {2, 3}, "half": "\ud800"}}

    driven = await run(given(one_node(node, State)), order(input={"x": 0}))
    assert driven.outcome is not None
    assert driven.outcome.status is RunStatus.SUCCESS
    assert driven.events[-1][1] == {"x": {"1": [2, 3], "half": "\ufffd"}}


async def test_a_model_of_the_reply_travels_with_its_interrupt() -> None:
    async def node(state: Plain) -> Plain:
        return {"x": interrupt("n?")}

    driven = await run(given(one_node(node)), order(input={"x": 0}, stream_mode=["updates"]))
    [event] = driven.of("updates")
    assert set(event["__interrupt__"][0]) == {"value", "id", "response_schema"}
