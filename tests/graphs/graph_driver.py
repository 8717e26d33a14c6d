"""Runs graphs in this process, and loses processes on purpose."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from greenroom.core.runs import Outcome, RunOrder
from greenroom.graphs.configuration import Configuration, GraphSpec
from greenroom.graphs.execution import execute
from greenroom.graphs.loading import LoadedGraph, load_graph
from tests.run_records import order_of

HERE = Path(__file__).parent


def probe(graph_id: str, file: str = "probe_graphs.py") -> LoadedGraph:
    spec = GraphSpec(graph_id=graph_id, target=f"./{file}:{graph_id}")
    return load_graph(Configuration(root=HERE, graphs={graph_id: spec}), graph_id)


def given(graph: Any, graph_id: str = "given") -> LoadedGraph:
    """A graph that was made in the test."""
    return LoadedGraph(spec=GraphSpec(graph_id=graph_id, target="here:graph"), graph=graph)


def order(graph_id: str = "given", /, **changes: Any) -> RunOrder:
    """An order; what `RunOrder` does not know goes into its ``kwargs``."""
    known = {
        "run_id": str(uuid.uuid4()),
        "thread_id": str(uuid.uuid4()),
        "assistant_id": str(uuid.uuid4()),
        "graph_id": graph_id,
        "attempt": 1,
        "temporary": False,
        "resumable": False,
        "logged": False,
    }
    kwargs = {key: changes.pop(key) for key in [*changes] if key not in known}
    return order_of(**{**known, **changes}, kwargs=json.dumps(kwargs).encode())


@dataclass
class Driven:
    events: list[tuple[str, Any]]
    outcome: Outcome | None = None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[Any]:
        return [data for found, data in self.events if found == name]

    @property
    def output(self) -> Any:
        assert self.outcome is not None
        return json.loads(self.outcome.output)


async def run(
    loaded: LoadedGraph, order: RunOrder, saver: InMemorySaver | None = None, store: Any = None
) -> Driven:
    driven = Driven([])
    driven.outcome = await execute(
        loaded,
        order,
        emit=lambda name, data: driven.events.append((name, json.loads(data))),
        checkpointer=saver if saver is not None else InMemorySaver(),
        store=store,
    )
    return driven


class Killed(Exception):
    """Raised in a node after the saver died: nothing that happens from then on is ever seen."""


@dataclass
class Death:
    happened: bool = False
    events: list[tuple[str, Any]] = field(default_factory=list)


class MortalSaver(InMemorySaver):
    """Remembers across attempts, but what is written after the process died is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.death = Death()
        self.on_stored: Callable[[str, Any], None] = lambda channel, value: None

    def die(self) -> None:
        self.death.happened = True
        raise Killed

    async def aput(
        self, config: RunnableConfig, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> Any:
        if self.death.happened:
            return config
        return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        if not self.death.happened:
            await super().aput_writes(config, writes, task_id, task_path)
            for channel, value in writes:
                self.on_stored(channel, value)


async def run_until_death(loaded: LoadedGraph, order: RunOrder, saver: MortalSaver) -> Driven:
    """An attempt whose process dies where the graph calls `MortalSaver.die`."""
    driven = Driven([])

    def emit(name: str, data: bytes) -> None:
        if not saver.death.happened:
            driven.events.append((name, json.loads(data)))

    await execute(loaded, order, emit=emit, checkpointer=saver, store=None)
    assert saver.death.happened, "the attempt was meant to die and did not"
    saver.death.happened = False
    return driven


_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


class Normaliser:
    """Replaces ids by the order in which they appear, and drops what differs by nature."""

    def __init__(self, drop: frozenset[str]) -> None:
        self._drop = drop
        self._ids: dict[str, str] = {}

    def text(self, text: str) -> str:
        return _ID.sub(lambda m: self._ids.setdefault(m[0], f"<{len(self._ids)}>"), text)

    def value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items() if key not in self._drop}
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return value

    def events(self, events: list[tuple[str, Any]]) -> list[str]:
        return [self.text(f"{name} {json.dumps(self.value(data))}") for name, data in events]
