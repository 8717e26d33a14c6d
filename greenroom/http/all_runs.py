"""Routes of runs whose thread is not named: search, count, lookup, wait.

The Platform has none of them; the open agent protocol does.
"""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.identity import system_assistant_id
from greenroom.core.runs import RunStatus
from greenroom.core.scopes import Scope
from greenroom.core.searches import (
    RunFilter,
)
from greenroom.http.answering import json, page, selected
from greenroom.http.bodies import parse
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import cancelling, outcome_answer, run_headers
from greenroom.http.gates import cancels, found_run, metadata_of
from greenroom.http.parameters import flag, is_uuid, thread_id_of, uuid_of
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.models import RunCount, RunSearch

router = APIRouter(tags=["Runs"])


@router.post(
    "/runs/search",
    summary="Search the runs of all threads, the newest first",
    **doc(
        {200: list[answers.Run]},
        body=RunSearch,
        headers=("x-pagination-total", "x-pagination-next"),
    ),
)
async def search(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    body = await parse(request, RunSearch)
    limit, offset = body.limit or 10, body.offset or 0
    where, scope = await _searched(edge, dialect, body, limit=limit, offset=offset)
    found = await edge.records.search_runs(
        where,
        limit=limit,
        offset=offset,
        descending=(body.sort_order or "desc").lower() == "desc",
        scope=scope,
    )
    items = [selected(run, body.select) for run in found.items]
    return page(found, items, limit=limit, offset=offset)


@router.post(
    "/runs/count", summary="Count the runs of all threads", **doc({200: int}, body=RunCount)
)
async def count(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    body = await parse(request, RunCount)
    where, scope = await _searched(edge, dialect, body, limit=0, offset=0)
    return json(await edge.records.count_runs(where, scope=scope))


@router.get(
    "/runs/{run_id}",
    summary="Get a run whose thread is not known",
    **doc({200: answers.Run}, errors=(404,)),
)
async def get(request: Request, run_id: str) -> Response:
    run, _ = await found_run(edge_of(request), uuid_of(run_id, "run"), "Not Found")
    return json(run)


@router.get(
    "/runs/{run_id}/wait",
    summary="Wait for the output of a run whose thread is not known",
    **doc(
        {200: object},
        query={"cancel_on_disconnect": {"type": "boolean"}},
        headers=("location", "content-location"),
        errors=(404,),
    ),
)
async def wait(request: Request, run_id: str) -> Response:
    edge, dialect, run_id = edge_of(request), dialect_of(request), uuid_of(run_id, "run")
    record, thread_id = await found_run(edge, run_id)
    leave = None
    if flag(request, "cancel_on_disconnect"):
        scope = await cancels(edge, thread_id, action="interrupt", run_ids=[run_id])
        leave = cancelling(edge, thread_id, run_id, scope)
    headers = run_headers(dialect, thread_id, run_id, "join")
    over = RunStatus(record["status"]).is_terminal
    return outcome_answer(edge, dialect, run_id, None, headers, leave, over=over)


async def _searched(
    edge: Edge, dialect: Dialect, body: RunCount, *, limit: int, offset: int
) -> tuple[RunFilter, Scope]:
    """Returns the conditions of a search, as a handler has left them, and its scope."""
    where = await _filter(edge, dialect, body)
    value: Value = {
        "metadata": dict(body.metadata or {}),
        "values": {},
        "status": body.status,
        "limit": limit,
        "offset": offset,
    }
    scope = await edge.gate.allow("threads", "search", value)
    return replace(where, metadata=metadata_of(value) or None), scope


async def _filter(edge: Edge, dialect: Dialect, body: RunCount) -> RunFilter:
    assistant_id = body.assistant_id or body.agent_id
    if assistant_id is not None and not is_uuid(assistant_id) and await edge.serves(assistant_id):
        assistant_id = system_assistant_id(assistant_id)
    return RunFilter(
        thread_id=None if body.thread_id is None else thread_id_of(dialect, body.thread_id),
        assistant_id=None if assistant_id is None else uuid_of(assistant_id, "assistant"),
        status=body.status,
        metadata=body.metadata,
    )
