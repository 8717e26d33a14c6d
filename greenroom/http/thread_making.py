"""Makes threads: of a body, with or without a first state, and of another thread."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import Conflict, GreenroomError, InvalidRequest, NotFound, Unavailable
from greenroom.core.ports import JsonObject, SuperstepsUpdate
from greenroom.core.scopes import SERVER, Scope
from greenroom.http.answering import json
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.gates import id_value, metadata_of, reads_thread, updates_thread
from greenroom.http.idempotency import Ids, deleted
from greenroom.http.parameters import thread_id_of
from greenroom.http.thread_lookups import existing_thread, graph_of, no_graph, shown
from greenroom.wire.encoding import dumps
from greenroom.wire.models import ThreadCreate, ThreadPatch


async def created(request: Request, body: ThreadCreate, ids: Ids) -> Response:
    """Creates the thread of a body, or answers with the existing one."""
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
                return json(shown(request, existing))
        try:
            thread = await edge.records.create_thread(
                thread_id,
                metadata=metadata_of(value),
                if_exists=if_exists,
                ttl=ttl_of(body),
                scope=scope,
                once=ids.once,
            )
        except Conflict:
            raise Conflict(f"Thread with ID {thread_id} already exists") from None
    if body.supersteps and not ids.has_made(_state_of(thread_id)):
        return await _with_supersteps(request, edge, thread, body, ids)
    return json(shown(request, thread))


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
    return json(shown(request, await edge.records.get_thread(thread_id, scope=SERVER) or thread))


async def _graph_for_supersteps(edge: Edge, thread: JsonObject) -> str:
    graph_id = graph_of(thread)
    if graph_id is None:
        raise InvalidRequest(no_graph(str(thread["thread_id"])))
    if not await edge.serves(graph_id):
        raise InvalidRequest(
            f"Graph '{graph_id}' not found. Expected one of: {sorted(edge.graphs)}"
        )
    return graph_id


async def copied(edge: Edge, thread_id: str, ids: Ids) -> JsonObject:
    """Copies a thread with its state; returns the copy's record. Raises Conflict."""
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


def ttl_of(body: ThreadCreate | ThreadPatch) -> dict[str, Any] | None:
    """Returns the time to live that a body gives, without what it leaves open."""
    ttl = {key: value for key, value in (body.ttl or {}).items() if value is not None}
    return ttl or None
