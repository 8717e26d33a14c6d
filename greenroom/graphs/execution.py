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
from typing import Any, cast

from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore

from greenroom.core.raised import Escaped
from greenroom.core.runs import Outcome, RunOrder
from greenroom.graphs.containment import has_escaped
from greenroom.graphs.contexts import fitting
from greenroom.graphs.failures import log_failure
from greenroom.graphs.instructions import Instructions, instructions
from greenroom.graphs.langsmith_tracer import chosen_tracer
from greenroom.graphs.loading import Graph, LoadedGraph, Saver
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
    prepare,
)
from greenroom.graphs.savers import Checked, checking, emitting_first, with_clock
from greenroom.graphs.state import Head, checkpoint_of, head_state
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
    control: RunControl | None = None,
    flush: Callable[[], Awaitable[None]] | None = None,
    room: Callable[[], Awaitable[None]] | None = None,
    tail: Tail | None = None,
) -> Outcome:
    """Executes one attempt to its end; emits every event except ``metadata`` and ``error``.

    An exception of the graph gives an `Outcome` with ``error``, which the caller emits.

    Args:
        all_written: returns when the saver has committed all checkpoints; raises why it has not.
        control: requests the graph to stop after the current superstep (``request_drain``).
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
            try:
                with chosen_tracer(todo.config):
                    start = await prepare(graph, saver, order, todo, tail)
                    if start.stopped:
                        await _stop_again(graph, order, todo, emit, progress, tail)
                    else:
                        eager = flush is not None
                        chunks = _chunks(graph, todo, start, emit, room, control, eager=eager)
                        await _follow(
                            chunks, todo, emit, room, progress, start.repetition, deciding, checked
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


async def _chunks(
    graph: Graph,
    todo: Instructions,
    start: Start,
    emit: Emit,
    room: Callable[[], Awaitable[None]] | None,
    control: RunControl | None,
    *,
    eager: bool,
) -> AsyncIterator[Chunk]:
    """Yields the graph's stream; with the mode ``events``, emits those events meanwhile."""
    config = start.config
    modes = {"messages" if mode == "messages-tuple" else mode for mode in todo.modes}
    if eager:
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
                    emit("events", dumps(event))
                    if room is not None:
                        await room()
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
    emit: Emit,
    room: Callable[[], Awaitable[None]] | None,
    progress: Progress,
    repetition: Repetition | None,
    deciding: asyncio.Lock,
    checked: Checked,
) -> None:
    wanted = todo.modes
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
