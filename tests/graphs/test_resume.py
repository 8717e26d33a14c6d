"""A process dies in mid-run; the next attempt must lose, invent and repeat nothing."""

from __future__ import annotations

import asyncio
import operator
import time
from collections import Counter
from typing import Annotated, Any
from uuid import UUID

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from greenroom.core.runs import RunStatus
from greenroom.graphs.savers import ClockBehind, with_clock
from tests.graphs.graph_driver import MortalSaver, given, order, run, run_until_death

ALL_MODES = ["values", "updates", "custom", "tasks", "checkpoints", "debug", "messages-tuple"]


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Line:
    """A line of nodes; counts what is executed, and dies once where it is told to."""

    def __init__(self, *names: str, dies_in: str | None = None) -> None:
        self.saver = MortalSaver()
        self.executed: Counter[str] = Counter()
        self.dies_in = dies_in
        self.builder = StateGraph(State)
        for before, name in zip((START, *names), names, strict=False):
            self.builder.add_node(name, self.node(name))
            self.builder.add_edge(before, name)

    def node(self, name: str) -> Any:
        async def body(state: State) -> State:
            self.executed[name] += 1
            self.die_once(name)
            return {"log": [name]}

        body.__name__ = name
        return body

    def die_once(self, name: str) -> None:
        if self.dies_in == name:
            self.dies_in = None
            self.saver.die()

    async def both_attempts(self, **kwargs: Any) -> tuple[Any, Any]:
        loaded = given(self.builder.compile())
        first = order(**kwargs)
        dying = await run_until_death(loaded, first, self.saver)
        again = order(
            **{**kwargs, "run_id": first.run_id, "thread_id": first.thread_id, "attempt": 2}
        )
        return dying, await run(loaded, again, self.saver)


async def test_the_second_attempt_goes_on_after_the_last_checkpointed_step() -> None:
    line = Line("a", "b", "c", dies_in="c")
    _, second = await line.both_attempts(input={"log": ["in"]}, durability="sync")
    assert line.executed == {"a": 1, "b": 1, "c": 2}
    assert second.output == {"log": ["in", "a", "b", "c"]}


async def test_without_a_checkpoint_the_input_is_sent_again() -> None:
    line = Line("a", "b", dies_in="b")
    _, second = await line.both_attempts(input={"log": ["in"]}, durability="exit")
    assert line.executed == {"a": 2, "b": 2}
    assert second.output == {"log": ["in", "a", "b"]}


async def test_checkpoints_of_earlier_runs_decide_nothing() -> None:
    """The thread has a checkpoint, the run has none: None would end at once, without an answer."""
    line = Line("a", dies_in=None)
    loaded = given(line.builder.compile())
    earlier = order(input={"log": ["1"]})
    await run(loaded, earlier, line.saver)
    again = order(thread_id=earlier.thread_id, attempt=2, input={"log": ["2"]})
    assert (await run(loaded, again, line.saver)).output == {"log": ["1", "a", "2", "a"]}


@pytest.mark.parametrize("resumable", [True, False])
async def test_no_checkpointed_step_is_reported_twice_in_any_mode(resumable: bool) -> None:
    line = Line("a", "b", "c", dies_in="c")
    first, second = await line.both_attempts(
        input={"log": []}, durability="sync", stream_mode=ALL_MODES, resumable=resumable
    )
    assert second.of("updates") == [{"c": {"log": ["c"]}}]
    assert [task["name"] for task in second.of("tasks")] == ["c", "c"]
    assert [c["metadata"]["step"] for c in second.of("checkpoints")] == [3]
    assert [d["type"] for d in second.of("debug")] == ["task", "task_result", "checkpoint"]
    reported = {c["config"]["configurable"]["checkpoint_id"] for c in first.of("checkpoints")}
    again = {c["config"]["configurable"]["checkpoint_id"] for c in second.of("checkpoints")}
    assert not reported & again
    # Where events are not kept nobody knows whether the client saw the state: it comes once more.
    current = [] if resumable else [{"log": ["a", "b"]}]
    assert second.of("values") == [*current, {"log": ["a", "b", "c"]}]


async def test_a_task_that_is_done_is_neither_executed_nor_reported_again() -> None:
    """Two tasks side by side: one has stored its result when the other kills the process."""
    line = Line("first")
    line.dies_in = "slow"
    quick_is_stored = asyncio.Event()
    line.saver.on_stored = lambda channel, value: (
        quick_is_stored.set() if value == ["quick"] else None
    )

    async def slow(state: State) -> State:
        await quick_is_stored.wait()
        line.executed["slow"] += 1
        line.die_once("slow")
        return {"log": ["slow"]}

    line.builder.add_node("quick", line.node("quick"))
    line.builder.add_node("slow", slow)
    line.builder.add_edge("first", "quick")
    line.builder.add_edge("first", "slow")
    _, second = await line.both_attempts(
        input={"log": []}, durability="sync", stream_mode=ALL_MODES, resumable=True
    )
    assert line.executed == {"first": 1, "quick": 1, "slow": 2}
    assert second.of("updates") == [{"slow": {"log": ["slow"]}}]
    assert [task["name"] for task in second.of("tasks")] == ["slow", "slow"]
    assert second.of("values") == [{"log": ["first", "quick", "slow"]}]
    assert "__metadata__" not in str(second.events)


def asking(line: Line, *questions: str) -> None:
    """Adds a node that asks one question after the other."""

    async def ask(state: State) -> State:
        line.executed["ask"] += 1
        answers = [f"{question}={interrupt(question)}" for question in questions]
        line.die_once("ask")
        return {"log": answers}

    line.builder.add_node("ask", ask)


async def waiting_at_first_question(line: Line) -> Any:
    first = order(input={"log": []})
    driven = await run(given(line.builder.compile()), first, line.saver)
    assert driven.output["__interrupt__"]
    return first


async def resume_and_die(line: Line, thread_id: str, **kwargs: Any) -> Any:
    loaded = given(line.builder.compile())
    dying = order(thread_id=thread_id, durability="sync", **kwargs)
    await run_until_death(loaded, dying, line.saver)
    again = order(run_id=dying.run_id, thread_id=thread_id, attempt=2, durability="sync", **kwargs)
    return await run(loaded, again, line.saver)


async def test_an_answer_is_not_given_to_the_next_question() -> None:
    """YES answered "delete one?". Sent again after the crash, it would answer "delete all?"."""
    line = Line("a", dies_in=None)
    asking(line, "delete one?")

    async def ask_again(state: State) -> State:
        line.die_once("ask_again")
        return {"log": [f"delete all?={interrupt('delete all?')}"]}

    line.builder.add_node("ask_again", ask_again)
    line.builder.add_edge("a", "ask")
    line.builder.add_edge("ask", "ask_again")
    first = await waiting_at_first_question(line)
    line.dies_in = "ask_again"
    second = await resume_and_die(line, first.thread_id, command={"resume": "YES"})
    assert second.output["log"] == ["a", "delete one?=YES"]
    assert [item["value"] for item in second.output["__interrupt__"]] == ["delete all?"]


async def test_an_answer_is_not_lost_when_nothing_was_checkpointed() -> None:
    line = Line("a")
    asking(line, "really?")
    line.builder.add_edge("a", "ask")
    first = await waiting_at_first_question(line)
    line.dies_in = "ask"
    second = await resume_and_die(line, first.thread_id, command={"resume": "YES"})
    assert second.output == {"log": ["a", "really?=YES"]}


async def test_a_commands_update_is_not_applied_twice() -> None:
    """LangGraph stores it on the checkpoint before the run, long before the run has its own."""
    line = Line("a", "b")
    loaded = given(line.builder.compile())
    first = order(input={"log": []})
    await run(loaded, first, line.saver)
    line.dies_in = "b"
    command = {"update": {"log": ["patch"]}, "goto": "b"}
    second = await resume_and_die(line, first.thread_id, command=command)
    assert second.output == {"log": ["a", "b", "patch", "b"]}


async def test_going_back_in_time_is_done_once() -> None:
    line = Line("a", "b", "c")
    loaded = given(line.builder.compile())
    first = order(input={"log": []}, stream_mode=["checkpoints"])
    checkpoints = (await run(loaded, first, line.saver)).of("checkpoints")
    middle = checkpoints[2]["config"]["configurable"]["checkpoint_id"]
    line.dies_in = "c"
    second = await resume_and_die(line, first.thread_id, checkpoint_id=middle)
    assert second.output == {"log": ["a", "b", "c"]}
    assert line.executed == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    "where", [{"interrupt_before": ["b"]}, {"interrupt_after": ["a"]}, {"interrupt_before": "*"}]
)
@pytest.mark.parametrize("durability", ["sync", "exit"])
async def test_a_breakpoint_holds_although_the_process_died_before_it_said_so(
    where: Any, durability: str
) -> None:
    line = Line("a", "b")
    loaded = given(line.builder.compile())
    first = order(input={"log": []}, durability=durability, **where)
    stopped = await run(loaded, first, line.saver)
    again = order(
        run_id=first.run_id,
        thread_id=first.thread_id,
        attempt=2,
        input={"log": []},
        durability=durability,
        stream_mode=["updates", "values"],
        **where,
    )
    second = await run(loaded, again, line.saver)
    assert line.executed["b"] == 0
    assert second.output == stopped.output
    assert second.events == [("values", stopped.output), ("updates", {"__interrupt__": []})]
    assert second.outcome is not None
    assert second.outcome.has_next


async def test_a_breakpoint_that_the_run_was_sent_past_stops_it_no_more() -> None:
    line = Line("a", "b", "c")
    loaded = given(line.builder.compile())
    first = order(input={"log": []}, interrupt_before=["b"])
    await run(loaded, first, line.saver)
    line.dies_in = "b"
    second = await resume_and_die(line, first.thread_id, interrupt_before=["b"])
    assert second.output == {"log": ["a", "b", "c"]}


async def test_a_finished_run_whose_end_was_not_heard_ends_again_without_executing() -> None:
    line = Line("a")
    loaded = given(line.builder.compile())
    first = order(input={"log": []})
    await run(loaded, first, line.saver)
    again = order(
        run_id=first.run_id,
        thread_id=first.thread_id,
        attempt=2,
        input={"log": []},
        resumable=True,
        stream_mode=ALL_MODES,
    )
    second = await run(loaded, again, line.saver)
    assert line.executed == {"a": 1}
    assert second.events == []
    assert second.outcome is not None
    assert second.outcome.status is RunStatus.SUCCESS
    assert second.outcome.output == second.outcome.values == b'{"log":["a"]}'


async def test_a_third_attempt_goes_on_from_the_second() -> None:
    line = Line("a", "b", "c", dies_in="b")
    loaded = given(line.builder.compile())
    run_of = {"run_id": "0198a1b2-0000-7000-8000-000000000001", "durability": "sync"}
    thread_id = "t"
    attempts: Any = []
    for attempt, dies_in in enumerate(["b", "c"], start=1):
        line.dies_in = dies_in
        todo = order(thread_id=thread_id, attempt=attempt, input={"log": []}, **run_of)
        attempts.append(await run_until_death(loaded, todo, line.saver))
    todo = order(
        thread_id=thread_id,
        attempt=3,
        input={"log": []},
        resumable=True,
        stream_mode=["updates", "checkpoints"],
        **run_of,
    )
    last = await run(loaded, todo, line.saver)
    assert line.executed == {"a": 1, "b": 2, "c": 2}
    assert last.of("updates") == [{"c": {"log": ["c"]}}]
    assert [c["metadata"]["step"] for c in last.of("checkpoints")] == [3]


async def test_a_subgraph_goes_on_in_its_middle_and_repeats_nothing() -> None:
    inner = Line("x", "y", dies_in="y")
    outer = Line("before")
    inner.saver = outer.saver
    outer.builder.add_node("inner", inner.builder.compile())
    outer.builder.add_edge("before", "inner")
    _, second = await outer.both_attempts(
        input={"log": []},
        durability="sync",
        stream_mode=["values", "updates", "tasks", "checkpoints"],
        subgraphs=True,
        resumable=True,
    )
    assert outer.executed == {"before": 1}
    assert inner.executed == {"x": 1, "y": 2}
    within = [(name.split("|")[0], data) for name, data in second.events if "|" in name]
    assert [data for name, data in within if name == "updates"] == [{"y": {"log": ["y"]}}]
    assert [data["name"] for name, data in within if name == "tasks"] == ["y", "y"]
    assert [data["metadata"]["step"] for name, data in within if name == "checkpoints"] == [2]
    assert [data for name, data in within if name == "values"] == [{"log": ["before", "x", "y"]}]
    assert [list(data) for data in second.of("updates")] == [["inner"]]


async def test_a_subgraph_that_the_first_attempt_never_entered_is_all_news() -> None:
    inner = Line("x")
    outer = Line("before", "middle", dies_in="middle")
    inner.saver = outer.saver
    outer.builder.add_node("inner", inner.builder.compile())
    outer.builder.add_edge("middle", "inner")
    _, second = await outer.both_attempts(
        input={"log": []},
        durability="sync",
        stream_mode=["values", "checkpoints"],
        subgraphs=True,
        resumable=True,
    )
    within = [(name.split("|")[0], data) for name, data in second.events if "|" in name]
    assert [data for name, data in within if name == "values"] == [
        {"log": ["before", "middle"]},
        {"log": ["before", "middle", "x"]},
    ]
    assert [data["metadata"]["step"] for name, data in within if name == "checkpoints"] == [
        -1,
        0,
        1,
    ]


async def test_with_events_the_repeated_chunks_are_dropped_too() -> None:
    line = Line("a", "b", dies_in="b")
    _, second = await line.both_attempts(
        input={"log": []}, durability="sync", stream_mode=["events", "updates"], resumable=True
    )
    assert second.of("updates") == [{"b": {"log": ["b"]}}]
    assert {e["name"] for e in second.of("events")} == {"given", "b"}


# --- clocks ---------------------------------------------------------------------------------------


async def a_thread(saver: InMemorySaver) -> tuple[Any, float]:
    todo = order(input={"log": []})
    await run(given(Line("a").builder.compile()), todo, saver)
    config: Any = {"configurable": {"thread_id": todo.thread_id}}
    saved = await saver.aget_tuple(config)
    assert saved is not None
    written = UUID(saved.checkpoint["id"])
    assert written.version == 6
    return config, time.time()


async def test_a_clock_that_is_a_little_behind_waits_until_it_has_caught_up() -> None:
    saver, slept = InMemorySaver(), []
    config, now_s = await a_thread(saver)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await with_clock(saver, now_s=lambda: now_s, sleep=sleep).aget_tuple(config)
    assert slept == []
    await with_clock(saver, now_s=lambda: now_s - 2, sleep=sleep).aget_tuple(config)
    assert slept == [pytest.approx(2, abs=0.5)]


async def test_a_clock_that_is_far_behind_fails_with_a_sentence() -> None:
    saver = InMemorySaver()
    config, now_s = await a_thread(saver)
    with pytest.raises(ClockBehind, match="synchronise the machines' clocks"):
        await with_clock(saver, now_s=lambda: now_s - 60).aget_tuple(config)
