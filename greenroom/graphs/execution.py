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
from collections.abc import Awaitable, Callable

from langgraph.errors import GraphDrained
from langgraph.store.base import BaseStore

from greenroom.core.inputs import next_run_id
from greenroom.core.raised import Escaped
from greenroom.core.runs import Outcome, RunOrder
from greenroom.graphs.containment import has_escaped
from greenroom.graphs.failures import log_failure
from greenroom.graphs.inbox import RunInbox
from greenroom.graphs.instructions import Instructions, instructions
from greenroom.graphs.langsmith_tracer import chosen_tracer
from greenroom.graphs.loading import Graph, LoadedGraph, Saver, listens
from greenroom.graphs.log_events import OF_A_LOG, LogEvents
from greenroom.graphs.messages import Emit
from greenroom.graphs.outcomes import (
    Progress,
    failure,
    outcome_of_failure,
    reraise_signals,
    success,
)
from greenroom.graphs.pausing import PauseGate
from greenroom.graphs.resume import OF_A_RUN, Start, Tail, going_on, prepare, stopped_at
from greenroom.graphs.savers import Checked, checking, emitting_first, with_clock
from greenroom.graphs.state import Head, head_state
from greenroom.graphs.streaming import (
    Following,
    chunks_of,
    follow,
    parts_of,
    sink_of,
    stop_again,
)
from greenroom.graphs.taking import SteeredControl, take_all, taking_of_nodes

log = logging.getLogger(__name__)


async def execute(
    loaded: LoadedGraph,
    order: RunOrder,
    *,
    emit: Emit,
    checkpointer: Saver,
    store: BaseStore | None,
    all_written: Callable[[Outcome], Awaitable[None]] | None = None,
    control: SteeredControl | None = None,
    inbox: RunInbox | None = None,
    pauses: PauseGate | None = None,
    flush: Callable[[], Awaitable[None]] | None = None,
    room: Callable[[], Awaitable[None]] | None = None,
    tail: Tail | None = None,
) -> Outcome:
    """Executes one attempt to its end; emits every event except ``metadata`` and ``error``.

    An exception of the graph gives an `Outcome` with ``error``, which the caller emits.

    Args:
        all_written: takes the outcome of a graph that came to its end; returns when the saver has
            committed all checkpoints, and raises why it has not.
        control: requests the graph to stop after the current superstep (``request_drain``).
        inbox: what is said to the run; its control ends a superstep for it.
        pauses: where the run waits; with ``inbox``.
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
                    sink = sink_of(graph, order, todo, emit, progress, tail)
                    told = OF_A_LOG if isinstance(sink, LogEvents) else OF_A_RUN
                    start = await prepare(graph, saver, order, todo, tail, told)
                    if isinstance(sink, LogEvents):
                        await sink.begin(start.input)
                    if start.stopped:
                        await stop_again(graph, order, todo, emit, progress, tail)
                    else:
                        following = Following(
                            sink=sink,
                            emit=emit,
                            progress=progress,
                            room=room,
                            deciding=deciding,
                            checked=checked,
                            eager=flush is not None,
                        )
                        async with following.to_its_end():
                            await _steered(
                                graph,
                                saver,
                                order,
                                todo,
                                start,
                                following,
                                control,
                                inbox,
                                pauses,
                                tail,
                            )
                outcome = await success(graph, todo.config, progress)
                if all_written is not None and not start.stopped:
                    await all_written(outcome)
                return outcome
            except BaseException as error:  # noqa: BLE001 - user code ran, and may raise anything
                reraise_signals(error)
                log_failure(order.graph_id, error)
                return await failure(graph, todo.config, error)
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


async def _steered(
    graph: Graph,
    saver: Saver,
    order: RunOrder,
    todo: Instructions,
    start: Start,
    following: Following,
    control: SteeredControl | None,
    inbox: RunInbox | None,
    pauses: PauseGate | None,
    tail: Tail | None,
) -> None:
    """Executes the graph to its end; stops where something said is taken, or a pause is wanted."""
    if pauses is not None:
        await pauses.wait(graph, start.config, has_begun=start.repetition is not None)
    if inbox is not None and control is not None:
        if _starts_with_update(order, start, inbox):
            await take_all(graph, start.config, inbox, following.emit)
        control.spare_first()
    while True:
        try:
            if todo.streams_log:
                chunks = parts_of(graph, todo, start, control)
            else:
                chunks = chunks_of(graph, todo, start, following, control)
            await follow(chunks, start.repetition, following)
            return
        except GraphDrained:
            if inbox is None or pauses is None or control is None or control.is_draining:
                raise
        start = going_on(start)
        if await pauses.wait(graph, start.config, has_begun=True):
            control.spare_first()
        await take_all(graph, start.config, inbox, following.emit)
        head = await saver.aget_tuple(start.config)
        if head is not None and await stopped_at(graph, head, todo):
            await stop_again(graph, order, todo, following.emit, following.progress, tail)
            return


def _starts_with_update(order: RunOrder, start: Start, inbox: RunInbox) -> bool:
    """Whether the run was started by an update in the name of a node, which nobody took before."""
    first = inbox.first()
    if first is None or first.as_node is None or start.repetition is not None:
        return False
    return order.run_id == next_run_id(first.input_id, order.thread_id) and inbox.is_due
