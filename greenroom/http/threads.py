"""Routes of threads: records, copies, and the stream of a thread's activity."""

from __future__ import annotations

from typing import Any, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import Conflict, GreenroomError, InvalidRequest, NotFound, Unavailable
from greenroom.core.ports import (
    JsonObject,
    SuperstepsUpdate,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    ThreadFilter,
)
from greenroom.http.answering import empty, extracted, extraction, json, page, selected
from greenroom.http.bodies import parse
from greenroom.http.creation import plain
from greenroom.http.documents import doc
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import id_value, metadata_of, reads_thread, updates_thread
from greenroom.http.idempotency import Ids, deleted, once
from greenroom.http.parameters import texts, thread_id_of
from greenroom.http.streaming import EventStream
from greenroom.wire import answers
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import dumps
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


def thread_not_found(thread_id: str) -> NotFound:
    return NotFound(f"Thread with ID {thread_id} not found")


def no_graph(thread_id: str) -> str:
    return (
        f"Thread '{thread_id}' has no assigned graph ID. This usually occurs when no runs have "
        "been made on this particular thread. This operation requires a graph ID. Please ensure a "
        "run has been made for the thread or manually update the thread metadata (by setting the "
        "'graph_id' field) before running this operation."
    )


def graph_of(thread: JsonObject) -> str | None:
    """Returns the graph of the thread's runs; None without a run."""
    graph_id = plain(thread.get("metadata")).get("graph_id")
    return graph_id if isinstance(graph_id, str) else None


@router.post(
    "/threads",
    summary="Create a thread",
    **doc({200: answers.Thread, 201: answers.Error}, body=ThreadCreate, once=True, errors=(409,)),
)
async def create(request: Request) -> Response:
    body = await parse(request, ThreadCreate)
    return await once(request, lambda ids: _create(request, body, ids))


async def _create(request: Request, body: ThreadCreate, ids: Ids) -> Response:
    edge, dialect = edge_of(request), dialect_of(request)
    given = body.thread_id
    thread_id = thread_id_of(dialect, given) if given is not None else ids.new_id()
    if_exists = body.if_exists or "raise"
    value: Value = {
        "thread_id": id_value(thread_id),
        "metadata": dict(body.metadata or {}),
        "if_exists": if_exists,
    }
    scope = await edge.gate.allow("threads", "create", value)
    if ids.has_made(thread_id):
        thread = await _made(edge, thread_id, scope)
    else:
        if if_exists == "do_nothing" and body.supersteps:
            existing = await edge.records.get_thread(thread_id, scope=scope)
            if existing is not None:
                return json(_shown(request, existing))
        try:
            thread = await edge.records.create_thread(
                thread_id,
                metadata=metadata_of(value),
                if_exists=if_exists,
                ttl=_ttl(body),
                scope=scope,
                once=ids.once,
            )
        except Conflict:
            raise Conflict(f"Thread with ID {thread_id} already exists") from None
    if body.supersteps and not ids.has_made(_state_of(thread_id)):
        return await _with_supersteps(request, edge, thread, body, ids)
    return json(_shown(request, thread))


async def _made(edge: Edge, thread_id: str, scope: Scope) -> JsonObject:
    """Returns a thread that an earlier request with the same key has created."""
    thread = await edge.records.get_thread(thread_id, scope=scope)
    if thread is None:
        raise deleted("thread")
    return thread


def _state_of(thread_id: str) -> str:
    """Returns the name under which a key has made a thread's first state."""
    return f"{thread_id} state"


async def _with_supersteps(
    request: Request, edge: Edge, thread: JsonObject, body: ThreadCreate, ids: Ids
) -> Response:
    thread_id = str(thread["thread_id"])
    # Of this request: what it has made may be outside of what its caller may update later.
    await updates_thread(edge, thread_id)
    try:
        await edge.runtime.update_state(
            SuperstepsUpdate(
                graph_id=await _graph_for_supersteps(edge, thread),
                thread_id=thread_id,
                supersteps=dumps(body.supersteps),
                update_id=ids.once.seed if ids.once is not None else "",
            ),
            scope=SERVER,
        )
    except Unavailable:
        raise
    except GreenroomError as error:
        # The thread stays, as in LangGraph's server; 201 distinguishes this from a success.
        problem = f"Thread {thread_id} was created, but there were problems updating the state: "
        return json({"detail": problem + error.message}, status=201)
    if ids.once is not None:
        await edge.records.note_made(ids.once, _state_of(thread_id))
    return json(_shown(request, await edge.records.get_thread(thread_id, scope=SERVER) or thread))


async def _graph_for_supersteps(edge: Edge, thread: JsonObject) -> str:
    graph_id = graph_of(thread)
    if graph_id is None:
        raise InvalidRequest(no_graph(str(thread["thread_id"])))
    if not await edge.serves(graph_id):
        raise InvalidRequest(
            f"Graph '{graph_id}' not found. Expected one of: {sorted(edge.graphs)}"
        )
    return graph_id


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
        item = selected(_shown(request, thread), body.select)
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
        if await edge.records.get_thread(thread_id, scope=found[thread_id]) is None:
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
    if await edge.records.get_thread(thread_id, scope=scope) is None:
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
    return json(_shown(request, await existing_thread(edge, thread_id, scope)))


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
        thread_id, metadata=metadata_of(value), ttl=_ttl(body), scope=scope
    )
    if thread is None:
        raise NotFound("Not Found")
    if "return=minimal" in request.headers.get("prefer", ""):
        return empty()
    return json(_shown(request, thread))


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
    copied = await once(request, lambda ids: _copy(edge, thread_id, ids))
    return json(_shown(request, copied))


async def _copy(edge: Edge, thread_id: str, ids: Ids) -> JsonObject:
    copy_id = ids.new_id()
    scope = await reads_thread(edge, thread_id)
    value: Value = {"thread_id": id_value(copy_id), "metadata": {}}
    created = await edge.gate.allow("threads", "create", value)
    if ids.has_made(copy_id):
        return await _made(edge, copy_id, created)
    try:
        await edge.runtime.copy_thread(thread_id, copy_id, metadata=metadata_of(value), scope=scope)
    except (Conflict, NotFound):
        raise Conflict("Conflict") from None  # the whole message of LangGraph's server
    if ids.once is not None and not await edge.records.note_made(ids.once, copy_id):
        # A request with the key was refused and has freed it: no repetition would find this copy.
        await edge.runtime.delete_thread(copy_id, scope=SERVER)
        raise Conflict("Conflict")
    return await existing_thread(edge, copy_id, SERVER)


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
    return EventStream(
        frames,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers={},
    )


def _after(request: Request) -> str | None:
    """Returns the ``Last-Event-ID`` of a thread's stream; it must look like a Redis stream id."""
    value = request.headers.get("last-event-id") or None
    if value is None or is_event_id(value):
        return value
    if is_event_id(f"{value}-0"):
        return f"{value}-0"
    raise InvalidRequest("Invalid last-event-id: must be a valid Redis stream ID")


async def readable_thread(request: Request, thread_id: str) -> JsonObject:
    """Returns a thread's record for reading; empty for an unknown thread if the mount allows that.

    Raises:
        NotFound: the thread does not exist, and the mount requires it.
    """
    edge = edge_of(request)
    scope = await reads_thread(edge, thread_id)
    thread = await edge.records.get_thread(thread_id, scope=scope)
    if thread is None and not dialect_of(request).unknown_thread_is_empty:
        raise thread_not_found(thread_id)
    return thread or {}


async def existing_thread(edge: Edge, thread_id: str, scope: Scope) -> JsonObject:
    """Returns a thread's record. Raises NotFound."""
    thread = await edge.records.get_thread(thread_id, scope=scope)
    if thread is None:
        raise thread_not_found(thread_id)
    return thread


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


def _ttl(body: ThreadCreate | ThreadPatch) -> dict[str, Any] | None:
    ttl = {key: value for key, value in (body.ttl or {}).items() if value is not None}
    return ttl or None


def _shown(request: Request, thread: JsonObject) -> JsonObject:
    """Returns the record; with ``ttl`` only on request, as LangGraph's server does."""
    if "ttl" not in thread or "ttl" in texts(request, "include"):
        return thread
    return {key: value for key, value in thread.items() if key != "ttl"}
