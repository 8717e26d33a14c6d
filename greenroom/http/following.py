"""Following a run: its creator's stream, joiners' streams, and waiting for its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError
from greenroom.core.events import LIVE
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CancelRequest, Outcome, Placement, RunStatus
from greenroom.core.scopes import SERVER, Scope
from greenroom.http.creation import NewRun, plain
from greenroom.http.edge import Edge, edge_of
from greenroom.http.feedback import asking
from greenroom.http.outcomes import shown_output
from greenroom.http.parameters import modes_of, path_of
from greenroom.http.streaming import EventStream, LateJson, Leave, bodies, nothing
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps, is_object, loads
from greenroom.wire.sse import cursor_of

NO_HEADERS: Mapping[str, str] = {}

T = TypeVar("T")

FIRST = "-1"
"""The ``Last-Event-ID`` of a reader that wants all events."""
NEVER = 2**62
"""A cursor after all events: its reader gets no event, and waits for the end of the stream."""


def cancelling(edge: Edge, thread_id: str, run_id: str, scope: Scope) -> Leave:
    """Returns a function that cancels the run, for a client that disconnects.

    Args:
        scope: `SERVER` for the client that has created the run.
    """

    async def cancel() -> None:
        wanted = CancelRequest(thread_id=thread_id, run_id=run_id)
        await edge.runtime.cancel(wanted, wait=False, scope=scope)

    return cancel


async def created(edge: Edge, creating: Coroutine[Any, Any, NewRun]) -> NewRun:
    """Creates a run whose client will follow it.

    A server may cancel the request of a client that disconnects. The registry may have the run by
    then, so the admission is completed, and the disconnect is handled afterwards.

    Args:
        creating: admits the run.
    """
    admitting = asyncio.ensure_future(creating)
    try:
        return await asyncio.shield(admitting)
    except asyncio.CancelledError:
        edge.connections.spawn(_left(edge, admitting, stays=edge.connections.draining))
        raise


async def _left(edge: Edge, admitting: asyncio.Future[NewRun], *, stays: bool) -> None:
    """Cancels the run of a client that disconnected during the admission, if the client wants it.

    Args:
        stays: the server drains, so the client reconnects and the run goes on.
    """
    try:
        run = await admitting
    except GreenroomError:
        return  # the run was refused
    if run.cancel_on_disconnect and not stays:
        await cancelling(edge, run.thread_id, run.run_id, SERVER)()


async def joined(edge: Edge, looking_up: Awaitable[T], leave: Leave | None) -> T:
    """Awaits a joiner's look-up before its answer begins.

    Args:
        leave: called if the client disconnects during the look-up.
    """
    try:
        return await looking_up
    except asyncio.CancelledError:
        if leave is not None and not edge.connections.draining:
            edge.connections.spawn(leave())
        raise


def _left_by(edge: Edge, run: NewRun) -> Leave | None:
    """Returns what happens when the creator of a run leaves."""
    if not run.cancel_on_disconnect:
        return None
    return cancelling(edge, run.thread_id, run.run_id, SERVER)


def created_stream(request: Request, run: NewRun, headers: dict[str, str]) -> Response:
    """Streams all events of a run to its creator; to who has spoken to it, those from now on."""
    edge = edge_of(request)
    is_kept = run.request.resumable if run.is_new else is_resumable(run.stored or {})
    batches = edge.runtime.events(
        run.run_id,
        placement=run.created.placement,
        after=0 if run.is_new else LIVE,
        modes=None,
        with_ids=is_kept,
        resumable=is_kept,
    )
    leave = _left_by(edge, run)
    source = bodies(batches)
    if run.feedback_keys:
        source = asking(request, source, run.run_id, run.feedback_keys)
    return event_stream(edge, source, headers, leave)


def created_wait(edge: Edge, dialect: Dialect, run: NewRun, headers: dict[str, str]) -> Response:
    """Answers a run's creator with the run's outcome."""
    leave = _left_by(edge, run)
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
    """Streams the events of a run to a joiner, from the cursor that `cursor_for` returns.

    Args:
        from_first: a reader without ``Last-Event-ID`` also gets the earlier events.
    """
    run_id = str(record["run_id"])
    modes = modes_of(request)
    resumable = is_resumable(record)
    last_event_id = request.headers.get("last-event-id")
    if not last_event_id and from_first:
        last_event_id = FIRST
    after = cursor_for(record["status"], resumable, last_event_id)
    if after is None:
        return event_stream(edge, nothing(), headers, None)
    batches = edge.runtime.events(
        run_id,
        placement=None,
        after=after,
        modes=modes,
        with_ids=resumable,
        resumable=resumable,
    )
    source = bodies(batches)
    keys = plain(record.get("kwargs")).get("feedback_keys")
    if keys and modes is None:
        source = asking(request, source, run_id, keys)
    return event_stream(edge, source, headers, leave)


def cursor_for(status: str, resumable: bool, last_event_id: str | None) -> int | None:
    """Returns a joiner's first cursor (platform API, section 5).

    ===========  =============  ===================  ==================
    the run      no header      ``-1`` or ``0``      ``<ms>-<seq>``
    ===========  =============  ===================  ==================
    pending      everything     everything           after it
    running      live           everything, or live  after it, or live
    over         nothing        everything, or none  after it, or none
    ===========  =============  ===================  ==================

    The second entry of a cell applies to a run that is not resumable. An invalid ``Last-Event-ID``
    gives no events, only the end.

    Args:
        status: the run's status.
        resumable: the run's events are kept durably.
        last_event_id: the request's header.

    Returns:
        the cursor, or None when the stream ends at once.
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
    """Answers with the run's outcome as JSON once the run has ended.

    Args:
        placement: the run's placement, if known.
        leave: called if the client disconnects.
        over: the run had already ended: answer with the thread's current values instead of the
            run's own output.
    """

    async def output() -> bytes:
        return shown(dialect, await edge.runtime.outcome(run_id, placement, over=over))

    return late_json(edge, output, headers, leave)


def shown(dialect: Dialect, end: Outcome) -> bytes:
    """Returns the JSON answer of ``wait``.

    Only the gateway's dialect rewrites the outcome of a failed run.
    """
    if end.error is None or not dialect.wait_shows_state:
        return end.output
    error: Any = loads(end.error)
    if end.values is None:
        return dumps({"status": end.status, "error": error.get("message", "")})
    reached = shown_output(end)
    state = reached if is_object(reached) else {}
    return dumps({**state, "__error__": error})


def run_headers(dialect: Dialect, thread_id: str, run_id: str, end: str) -> dict[str, str]:
    """Returns ``Location`` and ``Content-Location`` of a run (platform API, section 2)."""
    path = path_of(dialect, thread_id, run_id)
    return {"location": f"{path}/{end}", "content-location": path}


def is_resumable(record: JsonObject) -> bool:
    if "resumable" in record:
        return bool(record["resumable"])
    return bool(plain(record.get("kwargs")).get("resumable"))


def event_stream(
    edge: Edge,
    source: AsyncIterator[bytes],
    headers: Mapping[str, str] = NO_HEADERS,
    leave: Leave | None = None,
) -> Response:
    """Answers with an event stream, by the settings of the server.

    Args:
        source: the frames.
        leave: called if the client disconnects.
    """
    return EventStream(
        source,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers=headers,
        on_leave=leave,
    )


def late_json(
    edge: Edge,
    produce: Callable[[], Awaitable[bytes]],
    headers: Mapping[str, str] = NO_HEADERS,
    leave: Leave | None = None,
) -> Response:
    """Answers with JSON that is awaited, by the settings of the server.

    Args:
        leave: called if the client disconnects.
    """
    return LateJson(
        produce,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers=headers,
        on_leave=leave,
    )
