"""The process dies around every write of the saver: a client of a run whose events are kept must
neither miss an event of a checkpointed superstep nor see one twice."""

from __future__ import annotations

import asyncio
import json
import operator
import re
from collections import Counter
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from greenroom.graphs.execution import execute
from tests.graphs.graph_driver import given, order

MODES = ["values", "updates", "custom", "tasks", "checkpoints", "debug", "messages-tuple"]
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def node(name: str, *, in_thread: bool = False) -> Any:
    def work(state: State) -> State:
        get_stream_writer()({"from": name, "after": len(state.get("log", []))})
        return {"log": [name]}

    async def body(state: State) -> State:
        return await asyncio.to_thread(work, state) if in_thread else work(state)

    if in_thread:
        work.__name__ = name
        return work
    body.__name__ = name
    return body


def line(*names: str, in_thread: bool = False) -> Any:
    builder = StateGraph(State)
    for before, name in zip((START, *names), names, strict=False):
        builder.add_node(name, node(name, in_thread=in_thread))
        builder.add_edge(before, name)
    return builder.compile()


def nested() -> Any:
    """A subgraph within a subgraph."""
    middle = StateGraph(State)
    middle.add_node("w", node("w"))
    middle.add_node("inner", line("x", "y"))
    middle.add_edge(START, "w")
    middle.add_edge("w", "inner")
    outer = StateGraph(State)
    outer.add_node("a", node("a"))
    outer.add_node("middle", middle.compile())
    outer.add_node("z", node("z"))
    for before, after in ((START, "a"), ("a", "middle"), ("middle", "z")):
        outer.add_edge(before, after)
    return outer.compile()


GRAPHS = {
    "line": lambda: line("a", "b", "c"),
    "threads": lambda: line("a", "b", "c", in_thread=True),
    "nested": nested,
}


class Process:
    """One attempt's process: when it is dead, nothing that it does leaves a trace."""

    def __init__(self, saver: InMemorySaver, tail: list[tuple[str, bytes]], dies_at: int) -> None:
        self.saver = saver
        self.tail = tail
        self.before_us = tuple(tail)
        self.emitted: list[tuple[str, bytes]] = []
        self.dies_at = dies_at
        self.dead = False
        self.writes = 0

    def emit(self, name: str, data: bytes) -> None:
        if not self.dead:
            self.emitted.append((name, data))

    async def flush(self) -> None:
        if not self.dead:
            self.tail.extend(self.emitted)
            self.emitted.clear()

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        await asyncio.sleep(0.001)
        kept = [kept for found, kept in self.before_us if found == name]
        return data in kept if whole else any(data in each for each in kept)

    async def newest(self, begin: str) -> list[tuple[str, bytes]]:
        return [*{name: data for name, data in self.before_us if name.startswith(begin)}.items()]

    async def run(self, graph: Any, todo: Any) -> None:
        process = self

        class Saver(InMemorySaver):
            async def aput(self, config: Any, *rest: Any) -> Any:
                if process.lives():
                    config = await process.saver.aput(config, *rest)
                process.lives()
                return config

            async def aput_writes(self, *args: Any) -> None:
                if process.lives():
                    await process.saver.aput_writes(*args)
                process.lives()

        saver = Saver()
        # What the database has is what lives; what it gets ends with the process.
        saver.storage, saver.writes = self.saver.storage, self.saver.writes
        saver.blobs = self.saver.blobs
        await execute(
            given(graph),
            todo,
            emit=self.emit,
            checkpointer=saver,
            store=None,
            flush=self.flush,
            tail=self,
        )
        await self.flush()

    def lives(self) -> bool:
        """Counts the moments before and after every write; the process dies at one of them."""
        self.writes += 1
        if self.writes == self.dies_at:
            self.dead = True
        return not self.dead


def readable(events: list[tuple[str, bytes]]) -> Counter[str]:
    """Events without what differs between two runs of the same."""
    found: Counter[str] = Counter()
    for name, data in events:
        body = json.loads(data)
        if name.startswith("debug"):
            body = body["payload"]
        if name.startswith(("debug", "checkpoints")) and "values" in body:
            kept = {"values": body["values"], "next": body["next"]}
            body = {**kept, "step": body["metadata"]["step"]}
        elif name.startswith(("debug", "tasks")):
            kind = "start" if "triggers" in body else "result"
            body = {"kind": kind, "name": body["name"]}
        found[_ID.sub("<id>", f"{name} {json.dumps(body, sort_keys=True)}")] += 1
    return found


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("graph_id", GRAPHS)
@pytest.mark.parametrize("modes", [MODES, ["updates", "values"]], ids=["all modes", "two modes"])
async def test_wherever_it_dies_no_event_of_a_checkpointed_step_is_missed_or_told_twice(
    graph_id: str, durability: str, modes: list[str]
) -> None:
    graph = GRAPHS[graph_id]()
    asked = {"input": {"log": []}, "stream_mode": modes, "durability": durability}
    asked |= {"subgraphs": graph_id == "nested", "resumable": True}
    whole = Process(InMemorySaver(), [], dies_at=0)
    await whole.run(graph, order(**asked))
    told = readable(whole.tail)
    for moment in range(1, whole.writes + 1):
        saver, tail = InMemorySaver(), []
        first = order(**asked)
        await Process(saver, tail, dies_at=moment).run(graph, first)
        steps_before = await steps_of(saver, first)
        second = order(**asked, run_id=first.run_id, thread_id=first.thread_id, attempt=2)
        await Process(saver, tail, dies_at=0).run(graph, second)
        both = readable(tail)
        assert not told - both, f"missed, when it died at moment {moment}"
        again = both - told
        told_twice = [event for event in again if step_of(event) in steps_before]
        assert not told_twice, f"told twice, when it died at moment {moment}"


async def steps_of(saver: InMemorySaver, todo: Any) -> set[tuple[int, str]]:
    """The nodes whose supersteps have a checkpoint, with the depth of their graph.

    With durability "async" a subgraph's may be there before that of the step that it belongs to.
    Then they belong to nothing, since that step is executed again.
    """
    done: set[tuple[int, str]] = set()
    everything = [c async for c in saver.alist({"configurable": {"thread_id": todo.thread_id}})]
    saved = {found.checkpoint["id"] for found in everything}
    for found in everything:
        if not saved.issuperset(found.metadata["parents"].values()):
            continue
        namespace = found.config["configurable"]["checkpoint_ns"]
        depth = namespace.count("|") + 1 if namespace else 0
        arrived = "given" if found.metadata["step"] < 0 else "input"
        names = [arrived, *found.checkpoint["channel_values"].get("log", ())]
        done.update((depth, name) for name in names)
    return done


def step_of(event: str) -> tuple[int, str]:
    """The node that an event tells of, and the depth of its graph."""
    name, _, text = event.partition(" ")
    return name.count("|"), node_of(name.partition("|")[0], json.loads(text))


def node_of(mode: str, body: Any) -> str:
    if mode == "values":
        return body["log"][-1] if body["log"] else "input"
    if mode in ("checkpoints", "debug") and "values" in body:
        return "given" if body["step"] < 0 else (body["values"]["log"] or ["input"])[-1]
    if mode in ("tasks", "debug"):
        return body["name"]
    if mode == "updates":
        return next(iter(body))
    return body["from"]


@pytest.mark.parametrize("modes", [["custom"], ["custom", "events"]])
async def test_a_run_waits_while_there_is_no_room_for_its_events(modes: list[str]) -> None:
    """The database is away: what is not durable yet has a bound, and nothing is lost by that."""
    unstored: list[str] = []
    stored: list[str] = []
    most = 0
    away = asyncio.Event()

    def talk(state: State) -> State:
        for number in range(200):
            get_stream_writer()(number)
        return {"log": ["talked"]}

    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")

    def emit(name: str, data: bytes) -> None:
        nonlocal most
        if name == "custom":
            unstored.append(data.decode())
            most = max(most, len(unstored))

    async def flush() -> None:
        await away.wait()
        stored.extend(unstored)
        unstored.clear()

    async def room() -> None:
        if len(unstored) > 10:
            await flush()

    running = asyncio.create_task(
        execute(
            given(builder.compile()),
            order("given", input={}, stream_mode=modes),
            emit=emit,
            checkpointer=InMemorySaver(),
            store=None,
            flush=flush,
            room=room,
        )
    )
    done, _ = await asyncio.wait((running,), timeout=0.5)
    assert not done
    away.set()
    await asyncio.wait_for(running, 30)
    await flush()
    assert stored == [str(number) for number in range(200)]
    assert most <= 12
