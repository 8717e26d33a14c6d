"""Executes one attempt of one run: takes an order, emits encoded events, returns the outcome.

LangGraph yields ``(namespace, mode, payload)``; clients see ``event: <name>`` with JSON. The
Platform's events differ from LangGraph's (platform API, section 3):

    messages-tuple   LangGraph's ``messages``, unchanged: ``[chunk, metadata]``
    messages         the same, accumulated per message: ``messages/metadata`` once, then
                     ``messages/partial`` with all of the message so far; a message that came
                     whole is ``messages/complete``
    events           the run goes through ``astream_events``; the chunks of the other modes arrive
                     as the root's ``on_chain_stream`` and are taken out of it
    debug            a checkpoint's payload says ``checkpoint`` and ``parent_checkpoint`` too, and
                     its tasks ``checkpoint`` for LangGraph's ``state``

``values`` and ``updates`` are always requested: they give the outcome (output, interrupts) without
a read of the database, if the output is the whole state. Both have what the graph's output schema
shows (`greenroom.graphs.outputs`). Events that the client did not request are not encoded.

Cancellation and `Fenced` pass through: the caller that cancelled decides the outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from langgraph.errors import GraphDrained
from langgraph.store.base import BaseStore

from greenroom.core.inputs import next_run_id
from greenroom.core.raised import Escaped
from greenroom.core.runs import Outcome, RunOrder
from greenroom.graphs.containment import has_escaped
from greenroom.graphs.contexts import fitting
from greenroom.graphs.failures import log_failure
from greenroom.graphs.inbox import RunInbox
from greenroom.graphs.instructions import Instructions, instructions
from greenroom.graphs.langsmith_tracer import chosen_tracer
from greenroom.graphs.loading import Graph, LoadedGraph, Saver, listens
from greenroom.graphs.messages import AccumulatedMessages, Emit, TupleMessages, with_ids
from greenroom.graphs.outcomes import (
    Progress,
    failure,
    outcome_of_failure,
    reraise_signals,
    success,
)
from greenroom.graphs.resume import (
    INTERRUPT,
    Repetition,
    Start,
    Tail,
    going_on,
    prepare,
    stopped_at,
)
from greenroom.graphs.savers import Checked, checking, emitting_first, with_clock
from greenroom.graphs.state import Head, checkpoint_of, head_state
from greenroom.graphs.taking import SteeredControl, take_all, taking_of_nodes
from greenroom.wire.encoding import dumps

log = logging.getLogger(__name__)

Chunk = tuple[tuple[str, ...], str, Any]
"""A namespace, a stream mode of LangGraph, and the payload."""


async def execute(
    loaded: LoadedGraph,
    order: RunOrder,
    *,
    emit: Emit,
    checkpointer: Saver,
    store: BaseStore | None,
    all_written: Callable[[], Awaitable[None]] | None = None,
    control: SteeredControl | None = None,
    inbox: RunInbox | None = None,
    flush: Callable[[], Awaitable[None]] | None = None,
    room: Callable[[], Awaitable[None]] | None = None,
    tail: Tail | None = None,
) -> Outcome:
    """Executes one attempt to its end; emits every event except ``metadata`` and ``error``.

    An exception of the graph gives an `Outcome` with ``error``, which the caller emits.

    Args:
        all_written: returns when the saver has committed all checkpoints; raises why it has not.
        control: requests the graph to stop after the current superstep (``request_drain``).
        inbox: what is said to the run; its control ends a superstep for it.
        flush: makes the emitted events durable; called before each write of the saver.
        room: returns when there is room for more events; the graph's stream waits for it.
        tail: the durable events of earlier attempts.

    Raises:
        asyncio.CancelledError: the attempt was cancelled; `state_after` returns its state.
        Fenced: the attempt is no longer the current one.
        GraphDrained: the graph stopped on request of ``control``; another attempt can go on.
    """
    progress = Progress()
    try:
        todo = instructions(order)
        saver = with_clock(checkpointer)
        if inbox is not None:
            saver = taking_of_nodes(saver, inbox, emit)
        deciding = asyncio.Lock()
        if flush is not None:
            saver = emitting_first(saver, flush, deciding)
        checked = Checked()
        saver = checking(saver, checked)
        async with loaded.open(
            todo.config,
            checkpointer=saver,
            store=store,
            access="threads.create_run",
            context=todo.context,
        ) as graph:
            if inbox is not None and listens(graph):
                inbox.listens = True
                todo = todo.saved_at_each_step()
            try:
                with chosen_tracer(todo.config):
                    start = await prepare(graph, saver, order, todo, tail)
                    if start.stopped:
                        await _stop_again(graph, order, todo, emit, progress, tail)
                    else:
                        following = _Following(
                            emit, room, progress, deciding, checked, eager=flush is not None
                        )
                        await _steered(
                            graph, saver, order, todo, start, following, control, inbox, tail
                        )
                        if all_written is not None:
                            await all_written()
            except BaseException as error:  # noqa: BLE001 - user code ran, and may raise anything
                reraise_signals(error)
                log_failure(order.graph_id, error)
                return await failure(graph, todo.config, error)
            return await success(graph, todo.config, progress)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        reraise_signals(error)
        log_failure(order.graph_id, error)
        return outcome_of_failure(error)


async def state_after(
    loaded: LoadedGraph, order: RunOrder, *, checkpointer: Saver, store: BaseStore | None
) -> Head:
    """Reads the state of the thread after a cancelled run."""
    config = instructions(order).config
    try:
        async with loaded.open(config, checkpointer=checkpointer, store=store) as graph:
            return await head_state(graph, config)
    except BaseException as error:
        if has_escaped(error):
            raise Escaped(error) from error
        raise


# --- following the stream -------------------------------------------------------------------------


@dataclass(slots=True)
class _Following:
    """What is done with an execution's chunks.

    Attributes:
        emit, room: as of `execute`.
        deciding, checked: as of `emitting_first` and `checking`.
        newest: the root's last checkpoint that an event was about, by the event's kind: an
            execution that goes on repeats it.
    """

    emit: Emit
    room: Callable[[], Awaitable[None]] | None
    progress: Progress
    deciding: asyncio.Lock
    checked: Checked
    eager: bool
    newest: dict[str, str] = field(default_factory=dict[str, str])

    def repeats(self, namespace: tuple[str, ...], mode: str, payload: Any) -> bool:
        """Returns whether this attempt has had the checkpoint of an event before."""
        if mode == "debug":
            payload = payload["payload"] if payload["type"] == "checkpoint" else None
        if namespace or payload is None or mode not in ("checkpoints", "debug"):
            return False
        checkpoint_id: str = payload["config"]["configurable"]["checkpoint_id"]
        before, self.newest[mode] = self.newest.get(mode), checkpoint_id
        return before == checkpoint_id


async def _steered(
    graph: Graph,
    saver: Saver,
    order: RunOrder,
    todo: Instructions,
    start: Start,
    following: _Following,
    control: SteeredControl | None,
    inbox: RunInbox | None,
    tail: Tail | None,
) -> None:
    """Executes the graph to its end, with a pause wherever something said is taken."""
    if inbox is not None and control is not None:
        if _starts_with_update(order, start, inbox):
            await take_all(graph, start.config, inbox, following.emit)
        control.spare_first()
    while True:
        try:
            chunks = _chunks(graph, todo, start, following, control)
            await _follow(chunks, todo, start.repetition, following)
            return
        except GraphDrained:
            if inbox is None or control is None or control.is_draining:
                raise
        start = going_on(start)
        await take_all(graph, start.config, inbox, following.emit)
        head = await saver.aget_tuple(start.config)
        if head is not None and await stopped_at(graph, head, todo):
            await _stop_again(graph, order, todo, following.emit, following.progress, tail)
            return


def _starts_with_update(order: RunOrder, start: Start, inbox: RunInbox) -> bool:
    """Whether the run was started by an update in the name of a node, which nobody took before."""
    first = inbox.first()
    if first is None or first.as_node is None or start.repetition is not None:
        return False
    return order.run_id == next_run_id(first.input_id, order.thread_id) and inbox.is_due


async def _chunks(
    graph: Graph,
    todo: Instructions,
    start: Start,
    following: _Following,
    control: SteeredControl | None,
) -> AsyncIterator[Chunk]:
    """Yields the graph's stream; with the mode ``events``, emits those events meanwhile."""
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
        async with aclosing(
            cast(Any, graph).astream_events(start.input, config, version="v2", **asked)
        ) as events:
            async for event in events:
                if event["event"] == "on_chain_stream" and event["run_id"] == str(
                    config.get("run_id")
                ):
                    chunk = event["data"]["chunk"]
                    yield chunk if todo.subgraphs else ((), *chunk)
                else:
                    with_ids(event)
                    following.emit("events", dumps(event))
                    if following.room is not None:
                        await following.room()
        return
    async with aclosing(cast(Any, graph).astream(start.input, config, **asked)) as stream:
        if todo.subgraphs:
            async for chunk in stream:
                yield chunk
        else:
            async for mode, payload in stream:
                yield (), mode, payload


async def _stop_again(
    graph: Graph,
    order: RunOrder,
    todo: Instructions,
    emit: Emit,
    progress: Progress,
    tail: Tail | None,
) -> None:
    """Reports the stop at a breakpoint for an earlier attempt that died after it."""
    progress.stopped = True
    if "values" in todo.modes and (tail is not None or not order.resumable):
        # As `Repetition` does.
        output = (await head_state(graph, todo.config)).output or b"null"
        if tail is None or not await tail.has("values", output, whole=True):
            emit("values", output)
    if "updates" in todo.modes:
        emit("updates", dumps({INTERRUPT: []}))


async def _follow(
    chunks: AsyncIterator[Chunk],
    todo: Instructions,
    repetition: Repetition | None,
    following: _Following,
) -> None:
    wanted = todo.modes
    emit, room, progress = following.emit, following.room, following.progress
    deciding, checked = following.deciding, following.checked
    messages = TupleMessages(emit) if "messages-tuple" in wanted else AccumulatedMessages(emit)
    async with aclosing(cast(Any, chunks)) as stream:
        async for namespace, mode, payload in stream:
            if mode == "updates":
                # No further node begins before it is certain that what these returned can be kept:
                # LangGraph executes a superstep only when the chunks before it are taken.
                async with deciding:  # the event of a write that waits for it is still to come
                    await checked.all_kept()
            if room is not None:
                await room()
            if repetition is not None:
                async with deciding:
                    repeated = await repetition.drops(namespace, mode, payload)
                if repeated:
                    if mode == "values" and not namespace:
                        progress.values, progress.seen = payload, True
                    continue
            if following.repeats(namespace, mode, payload):
                continue
            if mode == "messages":
                messages.add(namespace, *payload)
                continue
            if mode == "values":
                if not namespace:
                    progress.note(payload)
            elif mode == "updates":
                if not namespace and INTERRUPT in payload:
                    progress.stopped = True
            elif mode == "debug" and payload["type"] == "checkpoint":
                payload = {**payload, "payload": _debug_checkpoint(payload["payload"])}
            if mode in wanted:
                data = dumps(payload)
                emit("|".join((mode, *namespace)), data)
                if progress.values is payload:
                    progress.encoded = data


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
