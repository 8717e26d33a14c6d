"""``POST /mcp``: the Model Context Protocol, each assistant a tool (streamable HTTP, stateless).

Nothing is kept between requests. There is no stream for messages of the server, so GET answers 405,
and no session to end, so DELETE does too.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import InvalidRequest
from greenroom.http.answering import empty, encoded
from greenroom.http.bodies import read_body
from greenroom.http.documents import doc
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.mcp.messages import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Message,
    RpcError,
    error_body,
    message_of,
)
from greenroom.wire.rpc_models import RpcMessage

router = APIRouter(tags=["MCP"])

_METHODS = "greenroom.http.mcp.methods"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_SESSION_CHARACTERS = 255


@router.post(
    "/mcp",
    summary="Call assistants as tools of the Model Context Protocol",
    **doc({200: object, 202: None}, body=RpcMessage, errors=(400,)),
)
async def post(request: Request) -> Response:
    """One JSON-RPC message: initialize, ping, tools/list, tools/call, or a notification (202). A
    call whose params have a progressToken is answered with an event stream."""
    try:
        return await _answered(request)
    except RpcError as error:
        return encoded(error_body(None, error), status=400)


async def _answered(request: Request) -> Response:
    takes_json, takes_events = _accepted(request)
    message = await _message(request)
    if _METHODS not in sys.modules:
        # In a thread, so that other clients' streams go on meanwhile.
        await asyncio.to_thread(import_module, _METHODS)
    from greenroom.http.mcp import methods

    _check_version(request, methods.VERSIONS)
    caller = methods.Caller(
        edge=edge_of(request),
        dialect=dialect_of(request),
        session_id=_session_id(request, methods.SESSION_ID),
        takes_events=takes_events,
        takes_json=takes_json,
    )
    if message.id is None:
        await methods.notified(caller, message)
        return empty(202)
    return await methods.answered(caller, message)


def _accepted(request: Request) -> tuple[bool, bool]:
    """Returns whether the client takes JSON, and whether it takes an event stream."""
    accept = ",".join(request.headers.getlist("accept")).lower() or "*/*"
    kinds = {kind.partition(";")[0].strip() for kind in accept.split(",")}
    takes_json = bool(kinds & {_JSON, "application/*", "*/*"})
    takes_events = bool(kinds & {_EVENTS, "text/*", "*/*"})
    if not takes_json and not takes_events:
        raise RpcError(INVALID_REQUEST, f"The Accept header must include {_JSON} or {_EVENTS}.")
    return takes_json, takes_events


def _check_version(request: Request, versions: tuple[str, ...]) -> None:
    version = request.headers.get("mcp-protocol-version")
    if version is not None and version not in versions:
        raise RpcError(
            INVALID_REQUEST,
            f"The protocol version {version[:40]} is not known here; use one of"
            f" {', '.join(versions)}.",
        )


def _session_id(request: Request, header: str) -> str | None:
    session_id = request.headers.get(header)
    if session_id is not None and len(session_id) > _SESSION_CHARACTERS:
        raise RpcError(INVALID_REQUEST, f"{header} has at most {_SESSION_CHARACTERS} characters.")
    return session_id or None


async def _message(request: Request) -> Message:
    try:
        body: Any = await read_body(request)
    except InvalidRequest as error:
        raise RpcError(PARSE_ERROR, error.message) from None
    return message_of(body)
