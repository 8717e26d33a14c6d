"""Follows the stream of a graph: LangGraph's chunks become events, and the outcome's facts.

LangGraph yields ``(namespace, mode, payload)``. A sink makes events of them: `ModeEvents` those of
the stream modes that the client of a run asked for, `greenroom.graphs.log_events` those of event
streaming. What both need is done here, before: a superstep whose results cannot be kept ends the
run, the log has room, and what an attempt before has told is not told again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig

from greenroom.core.runs import RunOrder
from greenroom.graphs.contexts import fitting
from greenroom.graphs.instructions import Instructions
from greenroom.graphs.loading import Graph
from greenroom.graphs.log_events import LogEvents, PlainLogEvents, modes_of
from greenroom.graphs.messages import AccumulatedMessages, Emit, TupleMessages, with_ids
from greenroom.graphs.outcomes import Progress
from greenroom.graphs.resume import INTERRUPT, Repetition, Start, Tail
from greenroom.graphs.savers import Checked
from greenroom.graphs.state import checkpoint_of, head_state
from greenroom.graphs.taking import SteeredControl
from greenroom.langgraph_internals import CONFIG_KEY_STREAM_MESSAGES_V2
from greenroom.wire.encoding import dumps

Chunk = tuple[tuple[str, ...], str, Any] | tuple[str, Any]
"""A namespace (none for the root of a stream without subgraphs), a stream mode of LangGraph, and
the payload."""

_OF_CHECKPOINTS = frozenset({"checkpoints", "debug"})


class Sink(Protocol):
    """Makes events of the chunks of a graph's stream."""

    def add(self, namespace: tuple[str, ...], mode: str, payload: Any) -> Awaitable[None] | None:
        """Takes a chunk that no attempt before has told; returns what is left to await."""
        ...

    async def end(self, error: BaseException | None) -> None:
        """Takes the end of the stream; the error that ended it, if there is one."""
        ...


@dataclass(kw_only=True, slots=True)
class Following:
    """What is done with an execution's chunks.

    Attributes:
        sink: makes the events.
        emit, room: as of `execute`.
        progress: gets the facts of the outcome.
        deciding, checked: as of `emitting_first` and `checking`.
        eager: the chunks of a step are yielded before the step's checkpoint is saved.
        newest: the root's last checkpoint that an event was about, by the event's kind: an
            execution that goes on repeats it.
    """

    sink: Sink
    emit: Emit
    progress: Progress
    room: Callable[[], Awaitable[None]] | None
    deciding: asyncio.Lock
    checked: Checked
    eager: bool
    newest: dict[str, str] = field(default_factory=dict[str, str])

    @asynccontextmanager
    async def to_its_end(self) -> AsyncGenerator[None]:
        """Tells the sink how the executions ended that are followed meanwhile."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            await self.sink.end(error)

    def repeats(self, namespace: tuple[str, ...], mode: str, payload: Any) -> bool:
        """Returns whether this attempt has had the checkpoint of an event before.

        Args:
            mode: ``checkpoints`` or ``debug``; other chunks are not repeated.
        """
        if mode == "debug":
            payload = payload["payload"] if payload["type"] == "checkpoint" else None
        if namespace or payload is None:
            return False
        checkpoint_id: str = payload["config"]["configurable"]["checkpoint_id"]
        before, self.newest[mode] = self.newest.get(mode), checkpoint_id
        return before == checkpoint_id


def chunks_of(
    graph: Graph,
    todo: Instructions,
    start: Start,
    following: Following,
    control: SteeredControl | None,
) -> AsyncIterator[Chunk]:
    """Returns the graph's stream; with the mode ``events``, emits those events meanwhile."""
    config = start.config
    modes = {"messages" if mode == "messages-tuple" else mode for mode in todo.modes}
    if following.eager:
        # Otherwise LangGraph yields a step's chunks only once the step's checkpoint is saved.
        modes.add("custom")
    asked: dict[str, Any] = {
        "stream_mode": [*(modes - {"events", "values", "updates"}), "values", "updates"],
        "output_keys": graph.output_channels,
        "subgraphs": todo.subgraphs,
        "context": fitting(graph.context_schema, todo.context),
        "control": control,
        **todo.options,
    }
    if "events" in modes:
        events = cast(Any, graph).astream_events(start.input, config, version="v2", **asked)
        return _chunks_within(events, config, following)
    return cast(Any, graph).astream(start.input, config, **asked)


async def _chunks_within(
    stream: Any, config: RunnableConfig, following: Following
) -> AsyncIterator[Chunk]:
    """Yields the chunks that are events of the root, and emits the other events."""
    async with aclosing(stream) as events:
        async for event in events:
            if event["event"] == "on_chain_stream" and event["run_id"] == str(config.get("run_id")):
                yield event["data"]["chunk"]
            else:
                with_ids(event)
                following.emit("events", dumps(event))
                if following.room is not None:
                    await following.room()


async def stop_again(
    graph: Graph,
    order: RunOrder,
    todo: Instructions,
    emit: Emit,
    progress: Progress,
    tail: Tail | None,
) -> None:
    """Reports the stop at a breakpoint for an earlier attempt that died after it."""
    progress.stopped = True
    if todo.streams_log:
        return  # what was told is in the log; its end is the attempt's
    if "values" in todo.modes and (tail is not None or not order.resumable):
        # As `Repetition` does.
        output = (await head_state(graph, todo.config)).output or b"null"
        if tail is None or not await tail.has("values", output, whole=True):
            emit("values", output)
    if "updates" in todo.modes:
        emit("updates", dumps({INTERRUPT: []}))


async def follow(
    chunks: AsyncIterator[Chunk], repetition: Repetition | None, how: Following
) -> None:
    """Follows the stream of one execution to its end.

    Args:
        repetition: drops the events that an attempt before has told.
    """
    progress = how.progress
    async with aclosing(cast(Any, chunks)) as stream:
        async for chunk in stream:
            # Not in `chunks_of`: another generator around the stream costs as much as an event.
            namespace, mode, payload = chunk if len(chunk) == 3 else ((), *chunk)
            if mode == "updates":
                # No further node begins before it is certain that what these returned can be kept:
                # LangGraph executes a superstep only when the chunks before it are taken.
                async with how.deciding:  # the event of a write that waits for it is still to come
                    await how.checked.all_kept()
            if how.room is not None:
                await how.room()
            if repetition is not None:
                async with how.deciding:
                    repeated = await repetition.drops(namespace, mode, payload)
                if repeated:
                    if mode == "values" and not namespace:
                        progress.values, progress.seen = payload, True
                    continue
            if mode in _OF_CHECKPOINTS and how.repeats(namespace, mode, payload):
                continue
            if mode == "values" and not namespace:
                progress.note(payload)
            elif mode == "updates" and not namespace and INTERRUPT in payload:
                progress.stopped = True
            if (adding := how.sink.add(namespace, mode, payload)) is not None:
                await adding


class ModeEvents:
    """The events of the stream modes that a run's client asked for.

    Args:
        progress: remembers the encoded state, which is also the run's output.
        log: makes the events of the thread's log, if the thread has clients of event streaming.
    """

    def __init__(
        self, todo: Instructions, emit: Emit, progress: Progress, log: PlainLogEvents | None
    ) -> None:
        self._wanted = todo.modes
        self._emit = emit
        self._progress = progress
        self._log = log
        tuples = "messages-tuple" in self._wanted
        self._messages = TupleMessages(emit) if tuples else AccumulatedMessages(emit)

    def add(self, namespace: tuple[str, ...], mode: str, payload: Any) -> Awaitable[None] | None:
        if mode == "messages":
            self._messages.add(namespace, *payload)
            return None
        if mode == "debug" and payload["type"] == "checkpoint":
            payload = {**payload, "payload": _debug_checkpoint(payload["payload"])}
        if mode in self._wanted:
            data = dumps(payload)
            self._emit("|".join((mode, *namespace)) if namespace else mode, data)
            if mode == "values" and self._progress.values is payload:
                self._progress.encoded = data
        return None if self._log is None else self._log.add(namespace, mode, payload)

    async def end(self, error: BaseException | None) -> None:
        if self._log is not None:
            await self._log.end(error)


def sink_of(
    graph: Graph,
    order: RunOrder,
    todo: Instructions,
    emit: Emit,
    progress: Progress,
    tail: Tail | None,
) -> ModeEvents | LogEvents:
    """Returns what makes the events of a run."""
    earlier = tail if order.attempt > 1 else None
    if todo.streams_log:
        goes_back = "checkpoint_id" in todo.config.get("configurable", {})
        return LogEvents(graph, emit, earlier, goes_back=goes_back)
    log = PlainLogEvents(emit, earlier, todo.modes) if order.logged else None
    return ModeEvents(todo, emit, progress, log)


async def parts_of(
    graph: Graph, todo: Instructions, start: Start, control: SteeredControl | None
) -> AsyncIterator[Chunk]:
    """Yields the graph's stream as `LogEvents` takes it."""
    config = cast(Any, start.config)
    configurable = {**config.get("configurable", {}), CONFIG_KEY_STREAM_MESSAGES_V2: True}
    async with aclosing(
        cast(Any, graph).astream(
            start.input,
            {**config, "configurable": configurable},
            stream_mode=[*modes_of(graph)],
            output_keys=graph.output_channels,
            subgraphs=True,
            version="v2",
            context=fitting(graph.context_schema, todo.context),
            control=control,
            **todo.options,
        )
    ) as parts:
        async for part in parts:
            payload = part["data"]
            if interrupts := part.get("interrupts"):
                state = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
                payload = {**state, INTERRUPT: interrupts}
            yield tuple(part["ns"]), part["type"], payload


def _debug_checkpoint(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **payload,
        "tasks": [_debug_task(task) for task in payload["tasks"]],
        "checkpoint": checkpoint_of(payload["config"]),
        "parent_checkpoint": checkpoint_of(payload["parent_config"]),
    }


def _debug_task(task: Mapping[str, Any]) -> Mapping[str, Any]:
    state = task.get("state")
    if not isinstance(state, Mapping) or "configurable" not in state:
        return task
    rest = {key: value for key, value in task.items() if key != "state"}
    return {**rest, "checkpoint": checkpoint_of(cast(Mapping[str, Any], state))}
