"""Resuming a run: decides the input of a second attempt, and drops the events that it repeats.

Theory of operation. Every checkpoint of a run carries ``run_id`` and ``run_attempt`` in its
metadata. When an actor dies, the next attempt looks for a ROOT checkpoint of this very run.

    found      the input was consumed: send None without ``checkpoint_id``, go on from there
    not found  the input was not consumed: send input, command and checkpoint once more

"The thread has a checkpoint" must never decide this. Re-sending ``Command(resume="YES")`` after it
was consumed answers the graph's NEXT question with YES. Sending None before it was consumed loses
the answer, or the whole input, and ends in success.

Two cases lie between. A command's ``update`` and ``goto`` are stored as writes on the checkpoint
BEFORE the run, long before the run's own first checkpoint; sent again they would be applied twice
(`_not_yet_stored`). And a run may have died at a breakpoint before it could report the stop; None
would carry it past the breakpoint (`_stopped_at`).

On resume LangGraph repeats events, per namespace: ``values``, ``checkpoints`` and ``debug`` of the
checkpoint it starts from, ``tasks`` starts of tasks that are done, and their ``updates``, marked
cached. `Repetition` drops these events until the first event of new work, with two exceptions:

    events kept        the events that the durable tail lacks are emitted. It can only lack the
                       ``values``, ``checkpoints`` and ``debug`` around the last checkpoint, because
                       the events before a write of the saver are made durable first (`savers`)
    events not kept    the root's ``values`` are emitted again, since the client may lack them
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Command

from greenroom.core.runs import RunOrder
from greenroom.graphs.instructions import Instructions
from greenroom.graphs.loading import Graph, Saver
from greenroom.langgraph_internals import (
    NULL_TASK_ID,
    RESUME,
    map_command,
    read_task_statuses,
    should_interrupt,
)
from greenroom.wire.encoding import dumps


class Tail(Protocol):
    """The durable events of earlier attempts."""

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        """Returns whether the tail has an event.

        Args:
            name: the event's name.
            data: the event's data, or a part of it.
            whole: ``data`` is the whole data of the event.
        """
        ...

    async def newest(self, begin: str) -> list[tuple[str, bytes]]:
        """Returns, of each name that begins so, the newest event: its name and its data."""
        ...


INTERRUPT = "__interrupt__"
_ADDRESS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The begin of an attempt.

    Attributes:
        input: the input for LangGraph.
        config: names the checkpoint to start from, if it is not the newest.
        repetition: drops repeated events; None when no event can be repeated.
        stopped: the run has reached a breakpoint already, and no step is to be executed.
    """

    input: Any
    config: RunnableConfig
    repetition: Repetition | None = None
    stopped: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """How the events of a run are in its tail.

    Attributes:
        values: encodes the payload of ``values``.
        checkpoints: returns the name of a namespace's events of checkpoints.
    """

    values: Callable[[Any], bytes] = dumps
    checkpoints: Callable[[tuple[str, ...]], str] = lambda namespace: "|".join(
        ("checkpoints", *namespace)
    )


OF_A_RUN = Told()


async def prepare(
    graph: Graph,
    saver: Saver,
    order: RunOrder,
    todo: Instructions,
    tail: Tail | None = None,
    told: Told = OF_A_RUN,
) -> Start:
    """Decides how an attempt begins; see the head of this module.

    Args:
        tail: the durable events of a resumable run; None assumes that it lacks none.
        told: how these events are named and encoded.
    """
    if order.attempt <= 1:
        return Start(input=todo.input, config=todo.config)
    head = await _newest_of_run(saver, order)
    if head is None:
        return Start(
            input=await _not_yet_stored(saver, todo.input, todo.config), config=todo.config
        )
    return Start(
        input=None,
        config=_at_head(todo.config),
        repetition=Repetition(saver, order, head, tail, told),
        stopped=await stopped_at(graph, head, todo),
    )


def going_on(start: Start) -> Start:
    """Returns the begin of the execution that goes on from the thread's newest checkpoint."""
    return replace(start, input=None, config=_at_head(start.config))


def _at_head(config: RunnableConfig) -> RunnableConfig:
    configurable = config.get("configurable", {})
    rest = {key: value for key, value in configurable.items() if key not in _ADDRESS}
    return cast(RunnableConfig, {**config, "configurable": rest})


async def _newest_of_run(saver: Saver, order: RunOrder) -> CheckpointTuple | None:
    root: RunnableConfig = {"configurable": {"thread_id": order.thread_id, "checkpoint_ns": ""}}
    async for found in saver.alist(root, filter={"run_id": order.run_id}, limit=1):
        return found
    return None


async def _not_yet_stored(saver: Saver, input: Any, config: RunnableConfig) -> Any:
    """Returns a command without the parts that an earlier attempt stored before it died.

    All writes of a command are stored together, so either all or none exist. A resume value is
    always sent again: it has a fixed slot, and a map of resume values is not stored at all.
    """
    if not isinstance(input, Command):
        return input
    command = cast(Command[Any], input)
    if not (command.update or command.goto):
        return command
    before = await saver.aget_tuple(config)
    stored = [
        [channel, value]
        for task_id, channel, value in (before.pending_writes or () if before else ())
        if task_id == NULL_TASK_ID and channel != RESUME
    ]
    ours = [[channel, value] for _, channel, value in map_command(command) if channel != RESUME]
    if len(stored) < len(ours) or dumps(stored[-len(ours) :]) != dumps(ours):
        return command
    return None if command.resume is None else Command[Any](resume=command.resume)


async def stopped_at(graph: Graph, head: CheckpointTuple, todo: Instructions) -> bool:
    """Returns whether the run reached a breakpoint at this checkpoint, as LangGraph decides it."""
    before = todo.options["interrupt_before"] or graph.interrupt_before_nodes
    after = todo.options["interrupt_after"] or graph.interrupt_after_nodes
    if not before and not after:
        return False
    snapshot = await graph.aget_state(head.config)
    if not snapshot.tasks:
        return False
    done = await _executed_before(graph, head)
    return bool(
        should_interrupt(head.checkpoint, before, _named(task.name for task in snapshot.tasks))
        or should_interrupt(head.checkpoint, after, _named(done))
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """The part of a task that `should_interrupt` reads."""

    name: str
    config: None = None


def _named(names: Iterable[str]) -> Any:
    # LangGraph's own nodes, such as __start__, are hidden from breakpoints.
    return [_Named(name) for name in names if not name.startswith("__")]


async def _executed_before(graph: Graph, head: CheckpointTuple) -> Collection[str]:
    """Returns the nodes of the superstep that ended with this checkpoint."""
    if head.metadata.get("source") != "loop":
        return ()
    if head.parent_config is not None:
        parent = await graph.aget_state(head.parent_config)
        step = (parent.metadata or {}).get("step")
        if step is not None and step + 1 == head.metadata.get("step"):
            return [task.name for task in parent.tasks]
    # With durability "exit" the previous superstep was not saved. Versions grow with every
    # superstep, so the nodes that saw the newest ones ran last.
    seen = {
        node: max(versions.values())
        for node, versions in head.checkpoint["versions_seen"].items()
        if versions and not node.startswith("__")
    }
    return [node for node, newest in seen.items() if newest == max(seen.values())]


# --- repeated events ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Repeating:
    """A namespace in which LangGraph still repeats events of an earlier attempt.

    Attributes:
        checkpoint_id: the checkpoint from which the namespace goes on.
        done: the tasks of the unfinished superstep that are done.
        stepped: a superstep, which reported ``values``, wrote the checkpoint; not an input.
        values_due: the first ``values`` of the namespace is still to come.
    """

    checkpoint_id: str
    done: frozenset[str]
    stepped: bool
    values_due: bool = True


class Repetition:
    """Separates repeated events from new ones in each namespace, until new work begins there.

    Args:
        head: the root checkpoint from which the attempt goes on.
        tail, told: see `prepare`.
    """

    def __init__(
        self,
        saver: Saver,
        order: RunOrder,
        head: CheckpointTuple,
        tail: Tail | None,
        told: Told = OF_A_RUN,
    ) -> None:
        self._saver = saver
        self._order = order
        self._head = head
        self._tail = tail
        self._told_as = told
        self._namespaces: dict[tuple[str, ...], _Repeating | None] = {}

    async def drops(self, namespace: tuple[str, ...], mode: str, payload: Any) -> bool:
        """Returns whether an earlier attempt reported the event."""
        if namespace not in self._namespaces:
            saved = await self._found(namespace) if namespace else self._head
            self._namespaces[namespace] = _repeating(saved) if saved is not None else None
        here = self._namespaces[namespace]
        if here is None:
            return False
        kind, body = mode, payload
        if mode == "debug":
            kind = "checkpoints" if payload["type"] == "checkpoint" else "tasks"
            body = payload["payload"]
        if kind == "values" and here.values_due and not _interrupted(body):
            here.values_due = False
            if not self._order.resumable:
                return bool(namespace)
            name = "|".join((mode, *namespace))
            return not here.stepped or await self._told(
                name, self._told_as.values(body), whole=True
            )
        if kind == "checkpoints":
            checkpoint_id: str = body["config"]["configurable"]["checkpoint_id"]
            if checkpoint_id <= here.checkpoint_id:
                # The data of the next checkpoint's event has it as well, and that came later.
                name = "|".join((mode, *namespace))
                if mode == "checkpoints":
                    name = self._told_as.checkpoints(namespace)
                return await self._told(name, checkpoint_id.encode(), whole=False)
            repeated = False
        elif kind == "tasks" and "triggers" in body:
            # Starts precede the cached updates of other tasks, so they do not mark new work.
            return body["id"] in here.done
        else:
            repeated = kind == "updates" and _cached(body)
        if not repeated:
            self._namespaces[namespace] = None
        return repeated

    async def _told(self, name: str, data: bytes, *, whole: bool) -> bool:
        return self._tail is None or await self._tail.has(name, data, whole=whole)

    async def _found(self, namespace: tuple[str, ...]) -> CheckpointTuple | None:
        """Returns the checkpoint of an earlier attempt in the namespace of a subgraph."""
        config: RunnableConfig | None = {
            "configurable": {
                "thread_id": self._order.thread_id,
                "checkpoint_ns": "|".join(namespace),
            }
        }
        # The subgraph may have advanced meanwhile: its own checkpoints are no repetition.
        while config is not None:
            saved = await self._saver.aget_tuple(config)
            metadata: Mapping[str, Any] = cast(Any, saved.metadata) if saved else {}
            if saved is None or metadata.get("run_id") != self._order.run_id:
                return None
            if metadata.get("run_attempt") != self._order.attempt:
                return saved
            config = saved.parent_config
        return None


def _repeating(saved: CheckpointTuple) -> _Repeating:
    statuses = read_task_statuses(saved.pending_writes or ())
    return _Repeating(
        checkpoint_id=saved.checkpoint["id"],
        done=frozenset(task_id for task_id, status in statuses.items() if status.finished),
        stepped=saved.metadata.get("source") != "input",
    )


def _interrupted(payload: Any) -> bool:
    return isinstance(payload, dict) and INTERRUPT in payload


def _cached(payload: Any) -> bool:
    if not isinstance(payload, dict):
        return False
    metadata: Any = cast(dict[str, Any], payload).get("__metadata__", {})
    return bool(metadata.get("cached"))
