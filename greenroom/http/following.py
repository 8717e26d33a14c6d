"""Following a run: its creator's stream, joiners' streams, and waiting for how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError
from greenroom.core.events import LIVE
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CancelRequest, Outcome, Placement, RunStatus
from greenroom.http.creation import NewRun, plain
from greenroom.http.edge import Edge
from greenroom.http.parameters import modes_of, path_of
from greenroom.http.streaming import EventStream, LateJson, Leave, bodies, nothing
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps, is_object, loads
from greenroom.wire.sse import cursor_of

T = TypeVar("T")

FIRST = "-1"
"""The ``Last-Event-ID`` of a reader that wants everything."""
NEVER = 2**62
"""A cursor past everything: such a reader gets nothing, and the end."""


def cancelling(edge: Edge, thread_id: str, run_id: str) -> Leave:
    """What to do when a client goes away that wants its run to stop then."""

    async def cancel() -> None:
        await edge.runtime.cancel(CancelRequest(thread_id=thread_id, run_id=run_id), wait=False)

    return cancel


async def created(edge: Edge, creating: Coroutine[Any, Any, NewRun]) -> NewRun:
    """A run whose creator follows it; ``creating`` admits it.

    A server may cancel a request whose client has left. The registry has the run by then, or is
    about to: it is admitted, and then the client counts as one that has left it.
    """
    admitting = asyncio.ensure_future(creating)
    try:
        return await asyncio.shield(admitting)
    except asyncio.CancelledError:
        edge.connections.spawn(_left(edge, admitting, stays=edge.connections.draining))
        raise


async def _left(edge: Edge, admitting: asyncio.Future[NewRun], *, stays: bool) -> None:
    """
    Args:
        stays: it is the server that breaks off; the client comes back.
    """
    try:
        run = await admitting
    except GreenroomError:
        return  # it was refused
    if run.cancel_on_disconnect and not stays:
        await cancelling(edge, run.thread_id, run.run_id)()


async def joined(edge: Edge, looking_up: Awaitable[T], leave: Leave | None) -> T:
    """What a joiner asks for before its answer begins; it, too, may leave meanwhile."""
    try:
        return await looking_up
    except asyncio.CancelledError:
        if leave is not None and not edge.connections.draining:
            edge.connections.spawn(leave())
        raise


def created_stream(edge: Edge, run: NewRun, headers: dict[str, str]) -> Response:
    """All events of a run, for whoever created it."""
    batches = edge.runtime.events(
        run.run_id,
        placement=run.created.placement,
        after=0,
        modes=None,
        with_ids=run.request.resumable,
        resumable=run.request.resumable,
    )
    leave = cancelling(edge, run.thread_id, run.run_id) if run.cancel_on_disconnect else None
    return _events(edge, bodies(batches), headers, leave)


def created_wait(edge: Edge, dialect: Dialect, run: NewRun, headers: dict[str, str]) -> Response:
    """How a run ended, for whoever created it."""
    leave = cancelling(edge, run.thread_id, run.run_id) if run.cancel_on_disconnect else None
    return outcome_answer(edge, dialect, run.run_id, run.created.placement, headers, leave)


def joined_stream(
    edge: Edge,
    request: Request,
    record: JsonObject,
    headers: dict[str, str],
    leave: Leave | None,
    *,
    from_first: bool = False,
) -> Response:
    """The events of a run that somebody else created, from where `cursor_for` says.

    Args:
        from_first: a reader without ``Last-Event-ID`` gets the events before it came, too.
    """
    run_id = str(record["run_id"])
    modes = modes_of(request)
    resumable = is_resumable(record)
    last_event_id = request.headers.get("last-event-id")
    if not last_event_id and from_first:
        last_event_id = FIRST
    after = cursor_for(record["status"], resumable, last_event_id)
    if after is None:
        return _events(edge, nothing(), headers, None)
    batches = edge.runtime.events(
        run_id,
        placement=None,
        after=after,
        modes=modes,
        with_ids=resumable,
        resumable=resumable,
    )
    return _events(edge, bodies(batches), headers, leave)


def cursor_for(status: str, resumable: bool, last_event_id: str | None) -> int | None:
    """Where a joiner begins; None: nowhere, the stream is over (platform API, section 5).

    ===========  =============  ===================  ==================
    the run      no header      ``-1`` or ``0``      ``<ms>-<seq>``
    ===========  =============  ===================  ==================
    pending      everything     everything           after it
    running      live           everything, or live  after it, or live
    over         nothing        everything, or none  after it, or none
    ===========  =============  ===================  ==================

    The second choice is that of a run that is not resumable. Garbage gives nothing but the end.
    """
    over = RunStatus(status).is_terminal
    if over and not (resumable and last_event_id):
        return None
    if not last_event_id:
        return 0 if status == RunStatus.PENDING else LIVE
    if not resumable:
        return 0 if status == RunStatus.PENDING else LIVE
    cursor = cursor_of(last_event_id)
    if cursor is None:
        return None if over else NEVER
    return cursor


def outcome_answer(
    edge: Edge,
    dialect: Dialect,
    run_id: str,
    placement: Placement | None,
    headers: dict[str, str],
    leave: Leave | None,
    *,
    over: bool = False,
) -> Response:
    """JSON of how a run ended, once it has."""

    async def output() -> bytes:
        return shown(dialect, await edge.runtime.outcome(run_id, placement, over=over))

    return LateJson(
        output,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers=headers,
        on_leave=leave,
    )


def shown(dialect: Dialect, end: Outcome) -> bytes:
    """What ``wait`` answers; only the gateway's dialect rewrites the outcome of a failed run."""
    if end.error is None or not dialect.wait_shows_state:
        return end.output
    error: Any = loads(end.error)
    if end.values is None:
        return dumps({"status": end.status, "error": error.get("message", "")})
    values = loads(end.values)
    state = values if is_object(values) else {}
    return dumps({**state, "__error__": error})


def run_headers(dialect: Dialect, thread_id: str, run_id: str, end: str) -> dict[str, str]:
    """``Location`` and ``Content-Location`` of a run on a thread (platform API, section 2)."""
    path = path_of(dialect, thread_id, run_id)
    return {"location": f"{path}/{end}", "content-location": path}


def is_resumable(record: JsonObject) -> bool:
    if "resumable" in record:
        return bool(record["resumable"])
    return bool(plain(record.get("kwargs")).get("resumable"))


def _events(
    edge: Edge, source: AsyncIterator[bytes], headers: dict[str, str], leave: Leave | None
) -> Response:
    return EventStream(
        source,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers=headers,
        on_leave=leave,
    )
