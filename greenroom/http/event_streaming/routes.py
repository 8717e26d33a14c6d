"""Routes of event streaming: commands to a thread, and its log as an event stream or WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.core.thread_log import DROPPED, LogFilter, LogPart, filter_of, since_of
from greenroom.http.answering import json
from greenroom.http.bodies import read_body
from greenroom.http.documents import doc
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.event_streaming.asking import Asked
from greenroom.http.event_streaming.commands import (
    COMMANDS,
    envelope_of,
    error_of,
    performed,
)
from greenroom.http.event_streaming.sockets import Socket
from greenroom.http.gates import reads_thread
from greenroom.http.idempotency import Ids, once
from greenroom.http.parameters import thread_id_of
from greenroom.http.streaming import EventStream
from greenroom.wire.encoding import is_object
from greenroom.wire.log_events import dropped_json, event_json, log_frame
from greenroom.wire.log_models import CommandAnswer, LogSubscription, ThreadCommand

router = APIRouter(tags=["Event streaming"])


@router.post(
    "/threads/{thread_id}/commands",
    summary="Start a run, answer an interrupt, or ask about a thread",
    **doc({200: CommandAnswer}, body=ThreadCommand, once=True, errors=(400,)),
)
async def command(request: Request, thread_id: str) -> Response:
    value = await read_body(request)
    try:
        envelope = envelope_of(value)
    except BadRequest as error:
        number = value.get("id") if is_object(value) else None
        return json(error_of(number, "invalid_argument", error.message), status=400)
    edge, dialect = edge_of(request), dialect_of(request)
    try:
        thread_id = thread_id_of(dialect, thread_id)
    except InvalidRequest as error:
        return json(error_of(envelope.id, "invalid_argument", error.message))

    async def perform(ids: Ids) -> JsonObject:
        asked = Asked(
            edge=edge, dialect=dialect, thread_id=thread_id, params=envelope.params, ids=ids
        )
        return await performed(asked, envelope, COMMANDS)

    return json(await once(request, perform))


@router.post(
    "/threads/{thread_id}/stream/events",
    summary="Stream the log of a thread: all its events that are kept, then those to come",
    **doc({200: None}, body=LogSubscription, errors=(400,), stream=True),
)
async def stream(request: Request, thread_id: str) -> Response:
    value = await read_body(request)
    if not is_object(value):
        raise BadRequest("The request body must be an object with channels.")
    wanted, since = filter_of(value), since_of(value)
    edge = edge_of(request)
    thread_id = thread_id_of(dialect_of(request), thread_id)
    scope = await reads_thread(edge, thread_id)
    frames = _frames(edge.runtime.thread_log(thread_id, since=since, scope=scope), wanted, since)
    # Awaited before the answer begins, so that a run that the reader then starts is not missed.
    await anext(frames)
    return EventStream(
        frames,
        edge.connections,
        idle_s=edge.settings.heartbeat_s,
        send_timeout_s=edge.settings.send_timeout_s,
        headers={},
    )


async def _frames(
    log: AsyncIterator[LogPart], wanted: LogFilter, since: int
) -> AsyncIterator[bytes]:
    async with aclosing(cast(Any, log)) as parts:
        first: LogPart = await anext(parts)
        yield b""
        if first.dropped_to:
            yield log_frame(DROPPED, dropped_json(since, first.dropped_to), first.dropped_to)
        async for part in parts:
            body = b"".join(
                log_frame(event.method, event_json(event), event.seq)
                for event in part.events
                if wanted.passes(event)
            )
            if body:
                yield body


@router.websocket("/threads/{thread_id}/stream/events")
async def socket(websocket: WebSocket, thread_id: str) -> None:
    await Socket(websocket, thread_id).serve()
