"""Routes of the runs on a thread: create, follow and cancel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import RUN_NOT_FOUND, Conflict, InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import CancelRequest, RunStatus
from greenroom.core.scopes import Scope
from greenroom.http.answering import empty, encoded, in_parts, json, selected
from greenroom.http.bodies import parse
from greenroom.http.creation import NewRun, create_run, encoded_run
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import (
    cancelling,
    created,
    created_stream,
    created_wait,
    joined,
    joined_stream,
    late_json,
    outcome_answer,
    run_headers,
)
from greenroom.http.gates import cancels, id_value, reads_thread
from greenroom.http.idempotency import once
from greenroom.http.parameters import (
    STREAM_MODES,
    action_of,
    chosen,
    flag,
    number,
    path_of,
    text,
    thread_id_of,
    uuid_of,
)
from greenroom.http.streaming import Leave
from greenroom.http.thread_lookups import thread_not_found
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.models import RUN_FIELDS, RunCreate

router = APIRouter(tags=["Thread runs"])

NO_RUNS = "No runs found to cancel."
NO_MATCHING_RUNS = (
    "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the "
    "runs haven't been deleted or completed."
)

_LOCATED = ("location", "content-location")
_STRING = {"type": "string"}
_FLAG = {"type": "boolean"}
_MODES = {"type": "array", "items": {"type": "string", "enum": list(STREAM_MODES)}}
_CANCEL = {
    "action": {"type": "string", "enum": ["interrupt", "rollback"], "default": "interrupt"},
    "wait": _FLAG,
}
_JOIN = {"cancel_on_disconnect": _FLAG, "stream_mode": _MODES}
_CREATE_ERRORS = (400, 404, 409)


@router.post(
    "/threads/{thread_id}/runs",
    summary="Create a background run",
    **doc(
        {200: answers.Run},
        body=RunCreate,
        once=True,
        headers=("content-location",),
        errors=_CREATE_ERRORS,
    ),
)
async def create(request: Request, thread_id: str) -> Response:
    run = await (await _creating(request, thread_id))
    path = path_of(dialect_of(request), run.thread_id, run.run_id)
    headers = {"content-location": path, **run.headers}
    return in_parts(await encoded_run(edge_of(request), run), headers)


@router.post(
    "/threads/{thread_id}/runs/stream",
    summary="Create a run and stream its events",
    **doc(
        {200: None}, body=RunCreate, once=True, headers=_LOCATED, errors=_CREATE_ERRORS, stream=True
    ),
)
async def stream(request: Request, thread_id: str) -> Response:
    run = await created(edge_of(request), await _creating(request, thread_id))
    headers = run_headers(dialect_of(request), run.thread_id, run.run_id, "stream")
    return created_stream(request, run, headers | run.headers)


@router.post(
    "/threads/{thread_id}/runs/wait",
    summary="Create a run and wait for its output",
    **doc({200: object}, body=RunCreate, once=True, headers=_LOCATED, errors=_CREATE_ERRORS),
)
async def wait(request: Request, thread_id: str) -> Response:
    run = await created(edge_of(request), await _creating(request, thread_id))
    dialect = dialect_of(request)
    headers = run_headers(dialect, run.thread_id, run.run_id, "join")
    return created_wait(edge_of(request), dialect, run, headers | run.headers)


async def _creating(request: Request, thread_id: str) -> Coroutine[Any, Any, NewRun]:
    """Reads the request; returns a coroutine that admits the run."""
    dialect = dialect_of(request)
    thread_id = thread_id_of(dialect, thread_id)
    body = await parse(request, RunCreate)
    return once(
        request, lambda ids: create_run(edge_of(request), dialect, body, ids.run_on(thread_id))
    )


@router.get(
    "/threads/{thread_id}/runs",
    summary="List a thread's runs, newest first",
    **doc(
        {200: list[answers.Run]},
        query={
            "limit": {"type": "integer", "minimum": 0},
            "offset": {"type": "integer", "minimum": 0},
            "status": _STRING,
            "select": {"type": "array", "items": {"type": "string", "enum": list(RUN_FIELDS)}},
        },
        errors=(400, 404),
    ),
)
async def list_runs(request: Request, thread_id: str) -> Response:
    dialect = dialect_of(request)
    thread_id = thread_id_of(dialect, thread_id)
    fields = chosen(request, "select", RUN_FIELDS)
    limit, offset = number(request, "limit", dialect.runs_listed), number(request, "offset", 0) or 0
    edge = edge_of(request)
    scope = await reads_thread(edge, thread_id)
    searched: Value = {"thread_id": id_value(thread_id), "metadata": {}}
    scope &= await edge.gate.allow("threads", "search", searched)
    found = await edge.records.list_runs(
        thread_id, limit=limit, offset=offset, status=text(request, "status"), scope=scope
    )
    if found is None and not dialect.unknown_thread_is_empty:
        raise thread_not_found(thread_id)
    return json([selected(run, fields) for run in found or []])


@router.get(
    "/threads/{thread_id}/runs/{run_id}",
    summary="Get a run",
    **doc({200: answers.Run}, errors=(404,)),
)
async def get(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    scope = await reads_thread(edge, thread_id)
    run = await edge.records.get_run(thread_id, run_id, scope=scope)
    if run is not None:
        return json(run)
    if await edge.records.get_thread(thread_id, scope=scope, with_state=False) is None:
        raise thread_not_found(thread_id)
    raise NotFound("Not Found")


@router.delete(
    "/threads/{thread_id}/runs/{run_id}",
    summary="Stop a run if it is not over, and delete it with its checkpoints",
    **doc({204: None}, errors=(404,)),
)
async def delete(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    value: Value = {"thread_id": id_value(thread_id), "run_id": id_value(run_id)}
    scope = await edge.gate.allow("threads", "delete", value)
    try:
        await edge.runtime.delete_run(thread_id, run_id, scope=scope)
    except NotFound:
        raise NotFound(RUN_NOT_FOUND) from None
    return empty()


@router.get(
    "/threads/{thread_id}/runs/{run_id}/join",
    summary="Wait for a run's output; under /api, join its stream",
    **doc({200: object}, query=_JOIN, headers=_LOCATED, errors=(404,)),
)
async def join(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    dialect = dialect_of(request)
    scope = await reads_thread(edge, thread_id)
    leave = await _leave(request, edge, thread_id, run_id)
    record = await joined(edge, _run(edge, thread_id, run_id, scope), leave)
    headers = run_headers(dialect, thread_id, run_id, "join")
    if dialect.join_streams and "application/json" not in request.headers.get("accept", ""):
        whole = dialect.joins_from_first
        return joined_stream(edge, request, record, headers, leave, from_first=whole)
    # After the run's end, a joiner gets the thread's current values, even if an actor still has the
    # run's own output.
    over = RunStatus(record["status"]).is_terminal
    return outcome_answer(edge, dialect, run_id, None, headers, leave, over=over)


@router.get(
    "/threads/{thread_id}/runs/{run_id}/stream",
    summary="Join a run's stream",
    **doc({200: None}, query=_JOIN, headers=_LOCATED, errors=(404,), stream=True),
)
async def join_stream(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    return await _joined(request, edge, thread_id, run_id)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/stream",
    summary="Cancel a run if an action is given, then stream what is left of it",
    **doc(
        {200: None, 204: None},
        query={**_JOIN, **_CANCEL},
        headers=_LOCATED,
        errors=(404, 409),
        stream=True,
    ),
)
async def cancel_and_stream(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    action = text(request, "action")
    if action is None:
        return await _joined(request, edge, thread_id, run_id)
    if action not in ("interrupt", "rollback"):
        raise InvalidRequest(f"action must be interrupt or rollback, not {action[:80]!r}.")
    wanted = CancelRequest(thread_id=thread_id, run_id=run_id, action=action_of(request))
    scope = await reads_thread(edge, thread_id)
    scope &= await cancels(edge, thread_id, action=wanted.action, run_ids=[run_id])
    # Looked up before the cancel, since a rolled-back run may be deleted right after.
    record = await _run(edge, thread_id, run_id, scope)
    waits = flag(request, "wait")
    await _cancel(edge, wanted, scope, over_is_conflict=True, wait=waits)
    if waits:
        return empty()
    headers = run_headers(dialect_of(request), thread_id, run_id, "stream")
    return joined_stream(edge, request, record, headers, None)


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    summary="Cancel a run",
    **doc(
        {202: None, 200: object, 204: None},
        query=_CANCEL,
        headers=_LOCATED,
        errors=(404, 409),
    ),
)
async def cancel(request: Request, thread_id: str, run_id: str) -> Response:
    edge, thread_id, run_id = _addressed(request, thread_id, run_id)
    dialect = dialect_of(request)
    wanted = CancelRequest(thread_id=thread_id, run_id=run_id, action=action_of(request))
    conflict = dialect.over_is_conflict
    scope = await cancels(edge, thread_id, action=wanted.action, run_ids=[run_id])
    if not flag(request, "wait"):
        await _cancel(edge, wanted, scope, over_is_conflict=conflict, wait=False)
        return empty(202)
    if not dialect.cancel_answers_json:
        await _cancel(edge, wanted, scope, over_is_conflict=conflict, wait=True)
        return empty()
    return await _cancel_with_news(edge, dialect, wanted, scope)


async def _cancel_with_news(
    edge: Edge, dialect: Dialect, wanted: CancelRequest, scope: Scope
) -> Response:
    """Cancels a run and waits for its end; new lines keep the connection alive.

    Answers 404 when there is no run to cancel. The status must be known before the first new line
    is sent. The registry answers that at once, so the headers wait no longer than the first tick.
    """
    stopping = asyncio.ensure_future(
        _cancel(edge, wanted, scope, over_is_conflict=dialect.over_is_conflict, wait=True)
    )
    headers = run_headers(dialect, wanted.thread_id, wanted.run_id, "join")
    try:
        await asyncio.wait((stopping,), timeout=edge.settings.heartbeat_s)
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if stopping.done():
        stopping.result()
        return encoded(b"{}", headers)

    async def stopped() -> bytes:
        await stopping
        return b"{}"

    return late_json(edge, stopped, headers)


async def _cancel(
    edge: Edge, wanted: CancelRequest, scope: Scope, *, over_is_conflict: bool, wait: bool
) -> None:
    try:
        await edge.runtime.cancel(wanted, wait=wait, scope=scope)
    except NotFound:
        if over_is_conflict:
            raise NotFound(f"Run {wanted.run_id} not found") from None
        raise NotFound(NO_RUNS) from None
    except Conflict:
        if not over_is_conflict:
            raise NotFound(NO_MATCHING_RUNS) from None
        record = await _run(edge, wanted.thread_id, wanted.run_id, scope)
        raise Conflict(
            f"Run {wanted.run_id} is not cancellable (status: {record['status']})"
        ) from None


async def _joined(request: Request, edge: Edge, thread_id: str, run_id: str) -> Response:
    scope = await reads_thread(edge, thread_id)
    leave = await _leave(request, edge, thread_id, run_id)
    record = await joined(edge, _run(edge, thread_id, run_id, scope), leave)
    dialect = dialect_of(request)
    headers = run_headers(dialect, thread_id, run_id, "stream")
    whole = dialect.joins_from_first
    return joined_stream(edge, request, record, headers, leave, from_first=whole)


async def _run(edge: Edge, thread_id: str, run_id: str, scope: Scope) -> JsonObject:
    run = await edge.records.get_run(thread_id, run_id, scope=scope)
    if run is None:
        raise NotFound(RUN_NOT_FOUND)
    return run


async def _leave(request: Request, edge: Edge, thread_id: str, run_id: str) -> Leave | None:
    """Returns the action for a joiner that disconnects: a cancel only if the joiner asked for it,
    since a second viewer must not cancel the first viewer's run."""
    if not flag(request, "cancel_on_disconnect"):
        return None
    scope = await cancels(edge, thread_id, action="interrupt", run_ids=[run_id])
    return cancelling(edge, thread_id, run_id, scope)


def _addressed(request: Request, thread_id: str, run_id: str) -> tuple[Edge, str, str]:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    return edge_of(request), thread_id, uuid_of(run_id, "run")
