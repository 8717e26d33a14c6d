"""Routes of crons: runs that are created again and again by a clock.

The body of a cron is that of a run, with a schedule; `greenroom.http.cron_making` makes the cron of
it. The registry that fires the cron stores it (`Runtime.save_cron`).
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.crons import owner_of
from greenroom.core.errors import BadRequest, Conflict, InvalidRequest, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    CronFilter,
)
from greenroom.http.answering import empty, json, page, selected
from greenroom.http.bodies import parse, read_body, validated
from greenroom.http.creation import assistant_of
from greenroom.http.cron_making import (
    Wanted,
    as_stored,
    changed_cron,
    creates_runs,
    cron_of,
    next_date,
    payload_of,
)
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import (
    id_value,
    metadata_of,
    reads_thread,
    user_of_runs,
)
from greenroom.http.idempotency import Ids, deleted, once
from greenroom.http.parameters import is_uuid, thread_id_of, uuid_of
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.models import CronCount, CronCreate, CronPatch, CronSearch

router = APIRouter(tags=["Crons"])


_TRIES = 10
"""How often a change is made again when another one came before it."""


@router.post(
    "/runs/crons",
    summary="Create a cron whose runs have threads of their own",
    **doc({200: answers.Cron}, body=CronCreate, once=True, errors=(400, 404)),
)
async def create(request: Request) -> Response:
    return await _created(request, None)


@router.post(
    "/threads/{thread_id}/runs/crons",
    summary="Create a cron whose runs are on a thread",
    **doc({200: answers.Cron}, body=CronCreate, once=True, errors=(400, 404, 409)),
)
async def create_on_thread(request: Request, thread_id: str) -> Response:
    return await _created(request, thread_id_of(dialect_of(request), thread_id))


async def _created(request: Request, thread_id: str | None) -> Response:
    given = await read_body(request)
    body = validated(CronCreate, given)
    return json(await once(request, lambda ids: _create(request, thread_id, body, given, ids)))


async def _create(
    request: Request, thread_id: str | None, body: CronCreate, given: JsonObject, ids: Ids
) -> JsonObject:
    edge, dialect = edge_of(request), dialect_of(request)
    cron_id = ids.new_id()
    value, scope = await _creates(edge, body, cron_id, thread_id, given)
    if ids.has_made(cron_id):
        return await _made(edge, cron_id, scope)
    assistant = await _assistant(edge, dialect, body.assistant_id)
    makes_thread = body.if_not_exists == "create"
    wanted = Wanted(cron_id=cron_id, thread_id=thread_id, assistant=assistant)
    payload = payload_of(wanted, value["payload"])
    payload, threads = await creates_runs(edge, wanted, payload)
    if thread_id is not None and not makes_thread:
        threads &= await reads_thread(edge, thread_id)
        await _require_thread(edge, thread_id, threads)
    cron = cron_of(edge, wanted, payload, metadata=metadata_of(value))
    cron = replace(
        cron,
        next_run_date=next_date(cron),
        once=ids.once,
        user=await user_of_runs(edge),
        user_id=edge.gate.identity,
        scope=threads,
    )
    if thread_id is not None and makes_thread:
        try:
            await edge.records.create_thread(
                thread_id,
                metadata={} if edge.gate.is_open else dict(payload.get("metadata") or {}),
                if_exists="do_nothing",
                ttl=None,
                scope=threads,
            )
        except Conflict:
            await _require_thread(edge, thread_id, threads)
            raise
    if not await edge.runtime.save_cron(await as_stored(edge, cron)):
        if thread_id is not None:
            await _require_thread(edge, thread_id, threads)
        raise _assistant_not_found(str(body.assistant_id))
    found, _ = await _found(edge, cron_id, SERVER)
    return found


async def _creates(
    edge: Edge, body: CronCreate, cron_id: str, thread_id: str | None, given: JsonObject
) -> tuple[Value, Scope]:
    """Asks whether the caller may create a cron; returns what a handler has left of it."""
    value: Value = {
        "payload": dict(given),
        "schedule": body.schedule,
        "cron_id": UUID(cron_id),
        "thread_id": id_value(thread_id),
        "user_id": edge.gate.identity,
        "end_time": body.end_time,
        "metadata": dict(body.metadata or {}),
    }
    scope = await edge.gate.allow("crons", "create", value)
    if not edge.gate.is_open:
        value["payload"] = {**value["payload"], "metadata": metadata_of(value)}
    return value, scope


async def _made(edge: Edge, cron_id: str, scope: Scope) -> JsonObject:
    """Returns a cron that an earlier request with the same key has created."""
    found = await edge.records.get_cron(cron_id, scope=scope)
    if found is None:
        raise deleted("cron")
    return found[0]


@router.post(
    "/runs/crons/search",
    summary="Search crons, the latest created first",
    **doc(
        {200: list[answers.Cron]},
        body=CronSearch,
        headers=("x-pagination-total", "x-pagination-next"),
    ),
)
async def search(request: Request) -> Response:
    body = await parse(request, CronSearch)
    limit, offset = body.limit or 10, body.offset or 0
    where, scope = await _searched(request, body, limit=limit, offset=offset)
    found = await edge_of(request).records.search_crons(
        where,
        limit=limit,
        offset=offset,
        sort_by=body.sort_by or "created_at",
        descending=(body.sort_order or "desc").lower() == "desc",
        scope=scope,
    )
    items = [selected(cron, body.select) for cron in found.items]
    return page(found, items, limit=limit, offset=offset)


@router.post("/runs/crons/count", summary="Count crons", **doc({200: int}, body=CronCount))
async def count(request: Request) -> Response:
    where, scope = await _searched(request, await parse(request, CronCount), limit=0, offset=0)
    return json(await edge_of(request).records.count_crons(where, scope=scope))


@router.get(
    "/runs/crons/{cron_id}",
    summary="Get a cron",
    **doc({200: answers.Cron}, errors=(404,)),
)
async def get(request: Request, cron_id: str) -> Response:
    edge, cron_id = edge_of(request), uuid_of(cron_id, "cron")
    scope = await edge.gate.allow("crons", "read", {"cron_id": UUID(cron_id)})
    found, _ = await _found(edge, cron_id, scope)
    return json(found)


@router.patch(
    "/runs/crons/{cron_id}",
    summary="Change a cron",
    **doc({200: answers.Cron}, body=CronPatch, errors=(400, 404, 409)),
)
async def patch(request: Request, cron_id: str) -> Response:
    edge = edge_of(request)
    cron_id = uuid_of(cron_id, "cron")
    given = await read_body(request)
    body = validated(CronPatch, given)
    if not given:
        raise BadRequest("Request body cannot be empty")
    value: Value = {
        "cron_id": cron_id,
        "schedule": body.schedule,
        "end_time": body.end_time,
        "enabled": body.enabled,
        "on_run_completed": body.on_run_completed,
        "payload": dict(given),
        "metadata": dict(body.metadata or {}),
    }
    scope = await edge.gate.allow("crons", "update", value)
    if not edge.gate.is_open:
        given = dict(value["payload"])
        if metadata := metadata_of(value):
            given["metadata"] = metadata
        body = validated(CronPatch, given)
    for _ in range(_TRIES):
        cron = await changed_cron(edge, cron_id, body, given, scope)
        if await edge.runtime.save_cron(await as_stored(edge, cron)):
            found, _ = await _found(edge, cron_id, SERVER)
            return json(found)
    raise Conflict("Others change this cron all the time. Try again.")


@router.delete(
    "/runs/crons/{cron_id}",
    summary="Delete a cron; its runs stay",
    **doc({204: None}, errors=(404,)),
)
async def delete(request: Request, cron_id: str) -> Response:
    edge = edge_of(request)
    cron_id = uuid_of(cron_id, "cron")
    scope = await edge.gate.allow("crons", "delete", {"cron_id": cron_id})
    found, _ = await _found(edge, cron_id, scope)
    await edge.runtime.delete_cron(cron_id, owner_of(cron_id, found["thread_id"]))
    return empty()


async def _assistant(edge: Edge, dialect: Dialect, name: str | None) -> JsonObject:
    try:
        return await assistant_of(edge, dialect, name)
    except (InvalidRequest, NotFound):
        if name is None:
            raise
        raise _assistant_not_found(name) from None


def _assistant_not_found(name: str) -> NotFound:
    return NotFound(f"Assistant '{name[:255]}' not found")


async def _require_thread(edge: Edge, thread_id: str, scope: Scope) -> None:
    if await edge.records.get_thread(thread_id, scope=scope, with_state=False) is None:
        raise NotFound(
            f"Thread with ID '{thread_id}' not found. Please verify the ID is correct and the "
            "thread hasn't been deleted or expired."
        )


async def _found(edge: Edge, cron_id: str, scope: Scope) -> tuple[JsonObject, int]:
    found = await edge.records.get_cron(cron_id, scope=scope)
    if found is None:
        raise NotFound("Not Found")
    return found


async def _searched(
    request: Request, body: CronCount, *, limit: int, offset: int
) -> tuple[CronFilter, Scope]:
    """Returns the conditions of a search, as a handler has left them, and its scope."""
    where = await _filter(request, body)
    value: Value = {
        "assistant_id": where.assistant_id,
        "thread_id": id_value(where.thread_id),
        "limit": limit,
        "offset": offset,
        "metadata": dict(body.metadata or {}),
    }
    scope = await edge_of(request).gate.allow("crons", "search", value)
    return replace(where, metadata=metadata_of(value) or None), scope


async def _filter(request: Request, body: CronCount) -> CronFilter:
    edge, dialect = edge_of(request), dialect_of(request)
    assistant_id = body.assistant_id
    if assistant_id is not None and not is_uuid(assistant_id) and await edge.serves(assistant_id):
        assistant_id = system_assistant_id(assistant_id)
    if assistant_id is not None:
        assistant_id = uuid_of(assistant_id, "assistant")
    thread_id = body.thread_id
    if thread_id is not None:
        thread_id = thread_id_of(dialect, thread_id)
    return CronFilter(
        assistant_id=assistant_id,
        thread_id=thread_id,
        enabled=body.enabled,
        metadata=body.metadata,
    )
