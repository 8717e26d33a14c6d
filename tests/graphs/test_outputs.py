"""What leaves a run is what its graph's output schema shows; the thread keeps the whole state."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import pytest
from langgraph.channels import LastValue
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.pregel import NodeBuilder, Pregel
from typing_extensions import TypedDict

from greenroom.core.outputs import output_of
from greenroom.graphs.execution import state_after
from greenroom.graphs.outputs import output_keys
from tests.graphs.graph_driver import (
    Killed,
    MortalSaver,
    given,
    order,
    probe,
    run,
    run_until_death,
)

KEYS = b'["a","b"]'
WHOLE = {"a": 1, "secret": "s2", "seen": ["a"], "b": None}


def cut() -> Any:
    return probe("cut").graph


async def test_output_and_values_are_cut_and_the_threads_values_are_not() -> None:
    todo = order("cut", input={"a": 1}, stream_mode=["values", "updates"])
    driven = await run(probe("cut"), todo)
    assert driven.of("values") == [{"a": 1}, {"a": 1, "b": None}]
    assert driven.of("updates") == [{"hide": None}, {"show_some": {"b": None}}]
    assert driven.output == {"a": 1, "b": None}
    assert driven.outcome is not None
    assert json.loads(driven.outcome.values or b"") == WHOLE
    assert driven.outcome.output_keys == KEYS


@pytest.mark.parametrize("mode", ["values", "updates"])
async def test_the_stream_is_langgraphs_own_with_the_output_schema(mode: Any) -> None:
    driven = await run(probe("cut"), order("cut", input={"a": 1}, stream_mode=[mode]))
    graph = cut()
    told = [e async for e in graph.astream({"a": 1}, stream_mode=mode, output_keys=["a", "b"])]
    assert [data for _, data in driven.events] == told


async def test_modes_that_show_the_work_show_the_whole_state() -> None:
    modes = ["debug", "tasks", "checkpoints", "events"]
    driven = await run(probe("cut"), order("cut", input={"a": 1}, stream_mode=modes))
    for mode in modes:
        assert any("secret" in json.dumps(data) for data in driven.of(mode)), mode


async def test_what_waits_for_an_answer_is_cut_too() -> None:
    saver = InMemorySaver()
    first = order("cut", input={"a": 1, "ask": "?"}, stream_mode=["values", "updates"])
    driven = await run(probe("cut"), first, saver)
    [waiting] = driven.output["__interrupt__"]
    assert driven.output == {"a": 1, "__interrupt__": [waiting]}
    assert waiting["value"] == "?"
    assert driven.of("values")[-1] == {"a": 1, "__interrupt__": [waiting]}
    assert driven.outcome is not None
    assert json.loads(driven.outcome.values or b"")["secret"] == "s"
    second = order("cut", thread_id=first.thread_id, command={"resume": "yes"})
    assert (await run(probe("cut"), second, saver)).output == {"a": 1, "b": "yes"}


async def test_a_stop_at_a_breakpoint_is_cut_in_both_attempts() -> None:
    saver = InMemorySaver()
    where: dict[str, Any] = {"interrupt_before": ["show_some"], "stream_mode": ["values"]}
    first = order("cut", input={"a": 1}, **where)
    driven = await run(probe("cut"), first, saver)
    assert driven.output == {"a": 1}
    ids = {"run_id": first.run_id, "thread_id": first.thread_id}
    second = await run(probe("cut"), order("cut", input={"a": 1}, attempt=2, **ids, **where), saver)
    assert second.output == {"a": 1}
    assert second.events == [("values", {"a": 1})]
    assert second.outcome is not None
    assert json.loads(second.outcome.values or b"") == {"a": 1, "secret": "s", "seen": ["a"]}


async def test_a_second_attempt_shows_no_more_than_the_first() -> None:
    saver = MortalSaver()
    graph = cut()
    builder = graph.builder
    loaded = given(builder.compile(), "cut")

    def dies(channel: str, value: Any) -> None:
        if channel == "b":
            saver.death.happened = True
            raise Killed

    saver.on_stored = dies
    first = order("cut", input={"a": 1}, stream_mode=["values", "updates"])
    died = await run_until_death(loaded, first, saver)
    saver.on_stored = lambda channel, value: None
    ids = {"run_id": first.run_id, "thread_id": first.thread_id}
    again = order("cut", input={"a": 1}, attempt=2, stream_mode=["values", "updates"], **ids)
    second = await run(loaded, again, saver)
    assert second.output == {"a": 1, "b": None}
    for _, data in [*died.events, *second.events]:
        assert "secret" not in json.dumps(data)


async def test_a_run_that_writes_nothing_of_the_output_has_an_empty_one() -> None:
    class State(TypedDict, total=False):
        secret: str
        b: int

    class Out(TypedDict, total=False):
        b: int

    async def node(state: State) -> State:
        return {"secret": "s"}

    builder = StateGraph(State, output_schema=Out)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    driven = await run(given(builder.compile()), order(input={"secret": "c"}))
    assert driven.output == {}
    assert driven.outcome is not None
    assert driven.outcome.values == b'{"secret":"s"}'


async def test_a_failed_run_keeps_the_state_and_says_what_its_output_would_be() -> None:
    class State(TypedDict, total=False):
        secret: str
        b: int

    class Out(TypedDict, total=False):
        b: int

    async def fails(state: State) -> State:
        raise ValueError("no")

    builder = StateGraph(State, output_schema=Out)
    builder.add_node("fails", fails)
    builder.add_edge(START, "fails")
    driven = await run(given(builder.compile()), order(input={"secret": "c", "b": 1}))
    assert driven.outcome is not None
    assert driven.outcome.values == b'{"secret":"c","b":1}'
    assert driven.outcome.output_keys == b'["b"]'


async def test_the_private_channels_of_nodes_are_not_part_of_the_output() -> None:
    class State(TypedDict, total=False):
        a: int

    class Private(TypedDict, total=False):
        draft: str

    async def one(state: State) -> Private:
        return {"draft": "d"}

    async def two(state: Private) -> State:
        return {"a": len(state["draft"])}

    builder = StateGraph(State)
    builder.add_node("one", one)
    builder.add_node("two", two, input_schema=Private)
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    todo = order(input={"a": 0}, stream_mode=["values", "updates"])
    driven = await run(given(builder.compile()), todo)
    assert driven.output == {"a": 1}
    assert driven.of("updates") == [{"one": None}, {"two": {"a": 1}}]
    assert driven.outcome is not None
    assert driven.outcome.values == b'{"a":1,"draft":"d"}'


async def test_the_state_after_a_cancel_has_both_forms() -> None:
    class Out(TypedDict, total=False):
        a: int

    class State(Out, total=False):
        secret: str

    reached = asyncio.Event()

    async def hide(state: State) -> State:
        return {"secret": "s"}

    async def waits(state: State) -> State:
        reached.set()
        await asyncio.Event().wait()
        return {}

    builder = StateGraph(State, output_schema=Out)
    builder.add_sequence([("hide", hide), ("waits", waits)])
    builder.add_edge(START, "hide")
    loaded, saver = given(builder.compile()), InMemorySaver()
    todo = order(input={"a": 1}, durability="sync")
    task = asyncio.create_task(run(loaded, todo, saver))
    await asyncio.wait_for(reached.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    head = await state_after(loaded, todo, checkpointer=saver, store=None)
    assert (head.values, head.output) == (b'{"a":1,"secret":"s"}', b'{"a":1}')
    assert (head.output_keys, head.has_next) == (b'["a"]', True)


async def test_an_output_may_be_the_value_of_one_channel() -> None:
    node = NodeBuilder().subscribe_only("a").do(lambda a: a + 1).write_to("b")
    graph: Any = Pregel(
        nodes={"node": node},
        channels={"a": LastValue(int), "b": LastValue(int)},
        input_channels=["a"],
        output_channels="b",
    )
    driven = await run(given(graph), order(input={"a": 1}, stream_mode=["values", "updates"]))
    assert driven.events == [("updates", {"node": 2}), ("values", 2)]
    assert driven.output == 2
    assert driven.outcome is not None
    assert driven.outcome.values == b'{"a":1,"b":2}'
    assert driven.outcome.output_keys == b'"b"'


def test_a_graph_whose_output_is_its_state_has_no_keys() -> None:
    assert output_keys(probe("counter").graph) is None  # type: ignore[arg-type]
    root = StateGraph(Annotated[list[int], lambda left, right: right])
    root.add_node("node", lambda state: [1])
    root.add_edge(START, "node")
    assert output_keys(root.compile()) is None
    assert output_of({"a": 1}, None) == {"a": 1}


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "input", [{"a": 1, "secret": "forged", "b": 5}, {"a": 1, "nobody_knows": {"x": 1}}]
)
async def test_only_the_keys_of_the_input_schema_reach_the_graph(input: Any) -> None:
    """As LangGraph does in process: what is beside the schema is dropped, without an error."""
    driven = await run(probe("cut"), order("cut", input=input))
    assert driven.outcome is not None
    assert json.loads(driven.outcome.values or b"") == WHOLE
    assert driven.output == await cut().ainvoke(input)
