"""Routes of threads: records, copies, and the stream of a thread's activity."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import Conflict, InvalidRequest, NotFound
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    ThreadFilter,
)
from greenroom.http.answering import empty, extracted, extraction, json, page, selected
from greenroom.http.bodies import parse
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import event_stream
from greenroom.http.gates import id_value, metadata_of, reads_thread
from greenroom.http.idempotency import once
from greenroom.http.parameters import texts, thread_id_of
from greenroom.http.thread_lookups import existing_thread, shown, thread_not_found
from greenroom.http.thread_making import copied, created, ttl_of
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.models import (
    ThreadCount,
    ThreadCreate,
    ThreadPatch,
    ThreadSearch,
    ThreadsPrune,
    ThreadStreamMode,
)
from greenroom.wire.sse import is_event_id

router = APIRouter(tags=["Threads"])

_PAGED = ("x-pagination-total", "x-pagination-next")
_STREAM_MODES: tuple[str, ...] = get_args(ThreadStreamMode)
_LIST_OF_MODES = {"type": "array", "items": {"type": "string", "enum": list(_STREAM_MODES)}}


@router.post(
    "/threads",
    summary="Create a thread",
    **doc({200: answers.Thread, 201: answers.Error}, body=ThreadCreate, once=True, errors=(409,)),
)
async def create(request: Request) -> Response:
    body = await parse(request, ThreadCreate)
    return await once(request, lambda ids: created(request, body, ids))


@router.post(
    "/threads/search",
    summary="Search threads, the latest updated first",
    **doc({200: list[answers.Thread]}, body=ThreadSearch, headers=_PAGED),
)
async def search(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    body = await parse(request, ThreadSearch)
    limit, offset = body.limit or 10, body.offset or 0
    wanted = extraction(body.extract)
    where, scope = await _searched(edge, dialect, body, limit=limit, offset=offset)
    found = await edge.records.search_threads(
        where,
        limit=limit,
        offset=offset,
        sort_by=body.sort_by or "updated_at",
        descending=(body.sort_order or "desc").lower() == "desc",
        scope=scope,
    )
    items: list[JsonObject] = []
    for thread in found.items:
        item = selected(shown(request, thread), body.select)
        if wanted:
            values = {alias: extracted(thread, steps) for alias, steps in wanted.items()}
            item = {**item, "extracted": values}
        items.append(item)
    return page(found, items, limit=limit, offset=offset)


@router.post(
    "/threads/count",
    summary="Count threads",
    **doc({200: int}, body=ThreadCount),
)
async def count(request: Request) -> Response:
    body = await parse(request, ThreadCount)
    edge = edge_of(request)
    where, scope = await _searched(edge, dialect_of(request), body, limit=0, offset=0)
    return json(await edge.records.count_threads(where, scope=scope))


@router.post(
    "/threads/prune",
    summary="Delete several threads, or all but their newest checkpoints",
    **doc({200: answers.Pruned}, body=ThreadsPrune),
)
async def prune(request: Request) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    body = await parse(request, ThreadsPrune)
    one = _keep_latest if body.strategy == "keep_latest" else _delete
    ids = list(dict.fromkeys(thread_id_of(dialect, t) for t in body.thread_ids))
    scopes = await _prunes(edge, ids)
    return json({"pruned_count": sum([await one(edge, each, scopes[each]) for each in ids])})


async def _prunes(edge: Edge, ids: list[str]) -> dict[str, Scope]:
    """Returns the scope in which each of several threads may be pruned.

    Raises:
        NotFound: with ``auth``, one of them is outside of it; nothing is pruned.
    """
    if edge.gate.is_open:
        return dict.fromkeys(ids, SERVER)
    whole = await edge.gate.allow("threads", "delete", {"thread_ids": list(ids)})
    found: dict[str, Scope] = {}
    for thread_id in ids:
        found[thread_id] = whole & await _deletes(edge, thread_id)
        if (
            await edge.records.get_thread(thread_id, scope=found[thread_id], with_state=False)
            is None
        ):
            raise NotFound("At least one thread not found or not authorized")
    return found


async def _deletes(edge: Edge, thread_id: str) -> Scope:
    value: Value = {"thread_id": id_value(thread_id), "run_id": None}
    return await edge.gate.allow("threads", "delete", value)


async def _delete(edge: Edge, thread_id: str, scope: Scope) -> bool:
    try:
        await edge.runtime.delete_thread(thread_id, scope=scope)
    except NotFound:
        return False
    return True


async def _keep_latest(edge: Edge, thread_id: str, scope: Scope) -> bool:
    """Prunes a thread. A busy thread is skipped, since its runs may need older checkpoints."""
    if await edge.records.get_thread(thread_id, scope=scope, with_state=False) is None:
        return False
    try:
        await edge.runtime.prune_thread(thread_id, scope=scope)
    except (Conflict, NotFound):
        return False
    return True


@router.get(
    "/threads/{thread_id}",
    summary="Get a thread",
    **doc(
        {200: answers.Thread},
        query={"include": {"type": "array", "items": {"type": "string"}}},
        errors=(404,),
    ),
)
async def get(request: Request, thread_id: str) -> Response:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    edge = edge_of(request)
    scope = await reads_thread(edge, thread_id)
    return json(shown(request, await existing_thread(edge, thread_id, scope)))


@router.patch(
    "/threads/{thread_id}",
    summary="Merge metadata into a thread, or change how long it is kept",
    **doc({200: answers.Thread, 204: None}, body=ThreadPatch, errors=(404,)),
)
async def patch(request: Request, thread_id: str) -> Response:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    body = await parse(request, ThreadPatch)
    edge = edge_of(request)
    value: Value = {"thread_id": id_value(thread_id), "metadata": dict(body.metadata or {})}
    scope = await edge.gate.allow("threads", "update", value)
    thread = await edge.records.patch_thread(
        thread_id, metadata=metadata_of(value), ttl=ttl_of(body), scope=scope
    )
    if thread is None:
        raise NotFound("Not Found")
    if "return=minimal" in request.headers.get("prefer", ""):
        return empty()
    return json(shown(request, thread))


@router.delete(
    "/threads/{thread_id}",
    summary="Stop a thread's runs, then delete it with its state",
    **doc({204: None}, errors=(404,)),
)
async def delete(request: Request, thread_id: str) -> Response:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    edge = edge_of(request)
    scope = await _deletes(edge, thread_id)
    try:
        await edge.runtime.delete_thread(thread_id, scope=scope)
    except NotFound:
        raise thread_not_found(thread_id) from None
    return empty()


@router.post(
    "/threads/{thread_id}/copy",
    summary="Copy a thread with its state",
    **doc({200: answers.Thread}, once=True, errors=(409,)),
)
async def copy(request: Request, thread_id: str) -> Response:
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    made = await once(request, lambda ids: copied(edge, thread_id, ids))
    return json(shown(request, made))


@router.get(
    "/threads/{thread_id}/storage",
    summary="How many bytes a thread's checkpoints, values and writes take",
    **doc({200: answers.ThreadStorage}, errors=(404,)),
)
async def storage(request: Request, thread_id: str) -> Response:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    edge = edge_of(request)
    scope = await reads_thread(edge, thread_id)
    stored = await edge.records.thread_storage(thread_id, scope=scope)
    if stored is None:
        raise thread_not_found(thread_id)
    return json(stored)


@router.get(
    "/threads/{thread_id}/stream",
    summary="Stream everything that happens on a thread; never ends",
    **doc(
        {200: None},
        query={"stream_modes": _LIST_OF_MODES, "stream_mode": _LIST_OF_MODES},
        stream=True,
    ),
)
async def stream(request: Request, thread_id: str) -> Response:
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    modes = texts(request, "stream_modes", "stream_mode") or ["run_modes"]
    for mode in modes:
        if mode not in _STREAM_MODES:
            raise InvalidRequest(f"Invalid stream mode: {mode[:80]}")
    after, scope = _after(request), await reads_thread(edge, thread_id)
    frames = edge.runtime.thread_events(thread_id, after=after, modes=frozenset(modes), scope=scope)
    # Awaited before the answer begins, so that a run that the reader then creates is not missed.
    await anext(frames)
    return event_stream(edge, frames)


def _after(request: Request) -> str | None:
    """Returns the ``Last-Event-ID`` of a thread's stream; it must look like a Redis stream id."""
    value = request.headers.get("last-event-id") or None
    if value is None or is_event_id(value):
        return value
    if is_event_id(f"{value}-0"):
        return f"{value}-0"
    raise InvalidRequest("Invalid last-event-id: must be a valid Redis stream ID")


async def _searched(
    edge: Edge, dialect: Dialect, body: ThreadCount, *, limit: int, offset: int
) -> tuple[ThreadFilter, Scope]:
    """Returns the conditions of a search, as a handler has left them, and its scope."""
    ids = None if body.ids is None else [thread_id_of(dialect, t) for t in body.ids]
    value: Value = {
        "metadata": dict(body.metadata or {}),
        "values": dict(body.values or {}),
        "status": body.status,
        "limit": limit,
        "offset": offset,
    }
    scope = await edge.gate.allow("threads", "search", value)
    where = ThreadFilter(
        metadata=metadata_of(value) or None,
        values=body.values,
        status=body.status,
        ids=ids,
        uuids_only=dialect.uuid_thread_ids,
    )
    return where, scope
