"""Routes of a thread's state: current, at a checkpoint, history, and updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.access import Value
from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.ports import HistoryQuestion, StateQuestion, StateUpdate
from greenroom.http.answering import encoded, json, selected_state
from greenroom.http.bodies import parse, parse_optional
from greenroom.http.documents import doc
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.gates import id_value, metadata_of, reads_thread, updates_thread
from greenroom.http.parameters import flag, is_uuid, text, texts, thread_id_of
from greenroom.http.thread_lookups import (
    existing_thread,
    graph_of,
    no_graph,
    readable_thread,
    thread_not_found,
)
from greenroom.wire import answers
from greenroom.wire.encoding import dumps, is_object
from greenroom.wire.models import History, StatePatch, StateRead, StateWrite

router = APIRouter(tags=["Thread state"])

_FLAG = {"type": "boolean"}
_STRING = {"type": "string"}
_SELECT = {"type": "array", "items": {"type": "string"}}
_MAX_ID = 255
_MAX_LIMIT = 1000


@router.get(
    "/threads/{thread_id}/state",
    summary="Get the state of a thread",
    **doc(
        {200: answers.ThreadState},
        query={"subgraphs": _FLAG, "select": _SELECT},
        errors=(400, 404),
    ),
)
async def get_state(request: Request, thread_id: str) -> Response:
    return await _state(request, thread_id, None)


@router.get(
    "/threads/{thread_id}/state/{checkpoint_id}",
    summary="Get the state of a thread at a checkpoint",
    **doc(
        {200: answers.ThreadState},
        query={"subgraphs": _FLAG, "select": _SELECT},
        errors=(400, 404),
    ),
)
async def get_state_at(request: Request, thread_id: str, checkpoint_id: str) -> Response:
    checkpoint = {"checkpoint_id": _checkpoint_id(unquote(checkpoint_id)), "checkpoint_ns": ""}
    return await _state(request, thread_id, checkpoint)


@router.post(
    "/threads/{thread_id}/state/checkpoint",
    summary="Get the state of a thread, or of a subgraph, at a checkpoint",
    **doc({200: answers.ThreadState}, body=StateRead, errors=(400, 404)),
)
async def read_state(request: Request, thread_id: str) -> Response:
    body = await parse(request, StateRead)
    checkpoint = _checkpoint(body.checkpoint)
    return await _state(request, thread_id, checkpoint, body.subgraphs, body.select)


async def _state(
    request: Request,
    thread_id: str,
    checkpoint: Mapping[str, Any] | None,
    subgraphs: bool | None = None,
    select: list[str] | None = None,
) -> Response:
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    graph_id = graph_of(await readable_thread(request, thread_id))
    select = select or texts(request, "select")
    if graph_id is None:
        return encoded(selected_state(dumps(_no_state(thread_id, checkpoint)), select))
    question = StateQuestion(
        graph_id=graph_id,
        thread_id=thread_id,
        checkpoint=checkpoint,
        subgraphs=flag(request, "subgraphs") if subgraphs is None else subgraphs,
    )
    return encoded(selected_state(await edge.runtime.ask(question), select))


def _no_state(thread_id: str, checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the state of a thread without any run."""
    checkpoint_id = (checkpoint or {}).get("checkpoint_id")
    shown = {"checkpoint_id": checkpoint_id, "thread_id": thread_id} if checkpoint_id else None
    return {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": shown,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": checkpoint_id,
        "parent_checkpoint_id": None,
    }


@router.post(
    "/threads/{thread_id}/state",
    summary="Change the state of a thread, as if a node had",
    **doc({200: object}, body=StateWrite, errors=(400, 404, 409)),
)
async def update_state(request: Request, thread_id: str) -> Response:
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    body = await parse(request, StateWrite)
    scope, _ = await updates_thread(edge, thread_id)
    scope &= await reads_thread(edge, thread_id)
    graph_id = graph_of(await existing_thread(edge, thread_id, scope, with_state=False))
    if graph_id is None:
        raise BadRequest(no_graph(thread_id))
    answer = await edge.runtime.update_state(
        StateUpdate(
            graph_id=graph_id,
            thread_id=thread_id,
            values=dumps(body.values),
            as_node=body.as_node,
            checkpoint=_checkpoint(body.checkpoint, body.checkpoint_id),
        ),
        scope=scope,
    )
    return encoded(answer)


@router.patch(
    "/threads/{thread_id}/state",
    summary="Merge metadata into a thread",
    **doc({200: answers.Thread}, body=StatePatch, errors=(404,)),
)
async def patch_state(request: Request, thread_id: str) -> Response:
    thread_id = thread_id_of(dialect_of(request), thread_id)
    body = await parse(request, StatePatch)
    edge = edge_of(request)
    value: Value = {"thread_id": id_value(thread_id), "metadata": dict(body.metadata or {})}
    scope = await edge.gate.allow("threads", "update", value)
    thread = await edge.records.patch_thread(
        thread_id, metadata=metadata_of(value), ttl=None, scope=scope
    )
    if thread is None:
        raise thread_not_found(thread_id)
    return json(thread)


@router.get(
    "/threads/{thread_id}/history",
    summary="Get the states of a thread, newest first",
    **doc(
        {200: list[answers.ThreadState]},
        query={
            "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT},
            "before": _STRING,
            "select": _SELECT,
        },
        errors=(400, 404),
    ),
)
async def get_history(request: Request, thread_id: str) -> Response:
    body = History(
        limit=_limit(request), before=text(request, "before"), select=texts(request, "select")
    )
    return await _history(request, thread_id, body)


@router.post(
    "/threads/{thread_id}/history",
    summary="Get the states of a thread that fit, newest first",
    **doc({200: list[answers.ThreadState]}, body=History, body_required=False, errors=(400, 404)),
)
async def search_history(request: Request, thread_id: str) -> Response:
    return await _history(request, thread_id, await parse_optional(request, History))


async def _history(request: Request, thread_id: str, body: History) -> Response:
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    before, checkpoint = _before(body.before), _checkpoint(body.checkpoint)
    graph_id = graph_of(await readable_thread(request, thread_id))
    if graph_id is None:
        return encoded(b"[]")
    question = HistoryQuestion(
        graph_id=graph_id,
        thread_id=thread_id,
        limit=body.limit or 1,
        before=before,
        metadata=body.metadata,
        checkpoint=checkpoint,
    )
    return encoded(selected_state(await edge.runtime.ask(question), body.select))


def _limit(request: Request) -> int | None:
    value = text(request, "limit")
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or not 1 <= int(value[:9]) <= _MAX_LIMIT:
        raise InvalidRequest(f"Invalid limit {value[:20]}")
    return int(value[:9])


def _before(before: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Returns the checkpoint in ``before``: an id, a checkpoint (RemoteGraph), or a config."""
    if isinstance(before, str):
        return {"checkpoint_id": _checkpoint_id(before)}
    inside = (before or {}).get("configurable")
    checkpoint = inside if is_object(inside) else before
    if not checkpoint:
        return None
    if not isinstance(checkpoint.get("checkpoint_id"), str):
        raise InvalidRequest("before must name a checkpoint_id.")
    return _checkpoint(checkpoint)


def _checkpoint(
    checkpoint: Mapping[str, Any] | None, checkpoint_id: str | None = None
) -> dict[str, Any] | None:
    """Returns a checkpoint without its nulls and its thread; None when nothing is left."""
    kept = {
        key: value
        for key, value in (checkpoint or {}).items()
        if value is not None and key in ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
    }
    if checkpoint_id is not None:
        kept["checkpoint_id"] = checkpoint_id
    if "checkpoint_id" in kept:
        _checkpoint_id(kept["checkpoint_id"])
    return kept or None


def _checkpoint_id(value: str) -> str:
    if not is_uuid(value) and not (1 <= len(value) <= _MAX_ID and value.isprintable()):
        raise InvalidRequest("Invalid checkpoint ID")
    return value
