"""Routes of stateless runs: each gets a new thread, deleted after the run unless it is kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import Conflict, InvalidRequest, NotFound
from greenroom.core.runs import CancelAction, CancelRequest, RunRequest
from greenroom.core.scopes import Scope
from greenroom.http.answering import empty, in_parts
from greenroom.http.bodies import listed, parse, read_body, validated
from greenroom.http.creation import NewRun, admit, create_run, encoded_run, run_request
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import (
    cancelling,
    created,
    created_stream,
    created_wait,
    joined_stream,
    run_headers,
)
from greenroom.http.gates import cancels, found_run
from greenroom.http.idempotency import Ids, RunIds, once
from greenroom.http.limits import admitting
from greenroom.http.parameters import STREAM_MODES, action_of, flag, thread_id_of, uuid_of
from greenroom.http.runs import NO_MATCHING_RUNS, NO_RUNS
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.models import RunCreate, RunsCancel

router = APIRouter(tags=["Stateless runs"])

_MAX_BATCH = 1000
_CAPITAL = re.compile(r"(?<=[a-z])([A-Z])")
_LOCATED = ("location", "content-location")
_CREATE_ERRORS = (400, 404, 409)


@router.post(
    "/runs",
    summary="Create a background run on a thread of its own",
    **doc(
        {200: answers.Run},
        body=RunCreate,
        once=True,
        headers=("content-location",),
        errors=_CREATE_ERRORS,
    ),
)
async def create(request: Request) -> Response:
    run = await (await _creating(request))
    return in_parts(
        await encoded_run(edge_of(request), run),
        {"content-location": _path(dialect_of(request), run)},
    )


@router.post(
    "/runs/stream",
    summary="Create a run on a thread of its own and stream its events",
    **doc(
        {200: None}, body=RunCreate, once=True, headers=_LOCATED, errors=_CREATE_ERRORS, stream=True
    ),
)
async def stream(request: Request) -> Response:
    run = await created(edge_of(request), await _creating(request))
    path = _path(dialect_of(request), run)
    headers = {"location": f"{path}/stream", "content-location": path}
    return created_stream(request, run, headers)


@router.post(
    "/runs/wait",
    summary="Create a run on a thread of its own and wait for its output",
    **doc({200: object}, body=RunCreate, once=True, headers=_LOCATED, errors=_CREATE_ERRORS),
)
async def wait(request: Request) -> Response:
    run = await created(edge_of(request), await _creating(request))
    dialect = dialect_of(request)
    headers = run_headers(dialect, run.thread_id, run.run_id, "join")
    return created_wait(edge_of(request), dialect, run, headers)


@router.post(
    "/runs/batch",
    summary="Create several runs, each on a thread of its own",
    **doc(
        {200: list[answers.Run]}, body=RunCreate, body_list=True, once=True, errors=_CREATE_ERRORS
    ),
)
async def batch(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    items = listed(await read_body(request))
    if len(items) > _MAX_BATCH:
        raise InvalidRequest(f"A batch must have at most {_MAX_BATCH} runs, not {len(items)}.")
    # All runs are checked before the first one is created: a batch with a mistake creates none.
    bodies = [validated(RunCreate, _snake(item)) for item in items]
    runs = await once(request, lambda ids: _create_all(edge, dialect, bodies, ids))
    parts: list[bytes | memoryview] = []
    for run in runs:
        parts += [b"," if parts else b"[", *await encoded_run(edge, run)]
    return in_parts([*parts, b"]"])


@router.post(
    "/runs/cancel",
    summary="Cancel some runs of a thread, or every run with a status",
    **doc(
        {204: None},
        body=RunsCancel,
        query={"action": {"type": "string", "enum": ["interrupt", "rollback"]}},
        errors=(404,),
    ),
)
async def cancel(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    body = await parse(request, RunsCancel)
    action = action_of(request)
    if body.status is not None and body.thread_id is None and body.run_ids is None:
        scope = await cancels(edge, None, action=action, run_ids=None, status=body.status)
        if not await edge.runtime.cancel_many(body.status, action, scope=scope):
            raise NotFound(NO_RUNS)
    elif body.status is None and body.thread_id is not None and body.run_ids:
        thread_id = thread_id_of(dialect, body.thread_id)
        run_ids = [uuid_of(each, "run") for each in body.run_ids]
        scope = await cancels(edge, thread_id, action=action, run_ids=run_ids)
        await _cancel_all(edge, thread_id, run_ids, action, scope)
    else:
        raise InvalidRequest("Give either thread_id and run_ids, or status.")
    return empty()


@router.get(
    "/runs/{run_id}/stream",
    summary="Join the stream of a run whose thread is not known",
    **doc(
        {200: None},
        query={
            "cancel_on_disconnect": {"type": "boolean"},
            "stream_mode": {
                "type": "array",
                "items": {"type": "string", "enum": list(STREAM_MODES)},
            },
        },
        headers=_LOCATED,
        errors=(404,),
        stream=True,
    ),
)
async def join_stream(request: Request, run_id: str) -> Response:
    edge = edge_of(request)
    run_id = uuid_of(run_id, "run")
    record, thread_id = await found_run(edge, run_id)
    path = f"{dialect_of(request).prefix}/runs/{run_id}"
    headers = {"location": f"{path}/stream", "content-location": path}
    leave = None
    if flag(request, "cancel_on_disconnect"):
        scope = await cancels(edge, thread_id, action="interrupt", run_ids=[run_id])
        leave = cancelling(edge, thread_id, run_id, scope)
    whole = dialect_of(request).joins_from_first
    return joined_stream(edge, request, record, headers, leave, from_first=whole)


async def _create_all(
    edge: Edge, dialect: Dialect, bodies: Sequence[RunCreate], ids: Ids
) -> list[NewRun]:
    batch: list[tuple[RunCreate, RunIds, RunRequest]] = []
    for number, body in enumerate(bodies):
        run = ids.stateless_run(number)
        batch.append((body, run, await run_request(edge, dialect, body, run)))
    async with admitting(edge, [wanted for _, run, wanted in batch if not run.is_made]):
        return await asyncio.gather(*(admit(edge, dialect, *each) for each in batch))


async def _creating(request: Request) -> Coroutine[Any, Any, NewRun]:
    """Reads the request; returns a coroutine that admits the run."""
    body = await parse(request, RunCreate)
    edge, dialect = edge_of(request), dialect_of(request)
    return once(request, lambda ids: create_run(edge, dialect, body, ids.stateless_run()))


def _path(dialect: Dialect, run: NewRun) -> str:
    return f"{dialect.prefix}/runs/{run.run_id}"


def _snake(item: Any) -> Any:
    """Renames the fields of JavaScript's ``createBatch``, such as streamMode and onCompletion."""
    if not isinstance(item, dict):
        return item
    found = cast(dict[str, Any], item)
    renamed = {_CAPITAL.sub(lambda m: f"_{m[1].lower()}", k): v for k, v in found.items()}
    return {**renamed, **{key: value for key, value in found.items() if key in renamed}}


async def _cancel_all(
    edge: Edge, thread_id: str, run_ids: list[str], action: CancelAction, scope: Scope
) -> None:
    wanted = [
        CancelRequest(thread_id=thread_id, run_id=run_id, action=action)
        for run_id in dict.fromkeys(run_ids)
    ]
    outcomes = await asyncio.gather(
        *(edge.runtime.cancel(one, wait=False, scope=scope) for one in wanted),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, NotFound | Conflict):
            raise outcome
    if all(isinstance(outcome, NotFound) for outcome in outcomes):
        raise NotFound(NO_RUNS)
    if all(outcomes):
        raise NotFound(NO_MATCHING_RUNS)
