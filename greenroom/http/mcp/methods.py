"""The methods of MCP: what each request of a client is answered.

Params are checked by the types of the official package `mcp`, and results that describe the server
are made of them. Its transport is not used: in stateless mode it makes a task group and a session
for each request, reads bodies without a limit, does not notice a client that leaves during a JSON
answer, and knows neither our heartbeats nor that a server drains. The transport here is that of the
other routes (`greenroom.http.streaming`).

This module is imported at the first request: the import of `mcp` takes 0.2 s and 20 MiB.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from mcp import types
from mcp.shared.version import SUPPORTED_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from greenroom.core.errors import GreenroomError
from greenroom.http.answering import encoded
from greenroom.http.edge import Edge
from greenroom.http.errors import sentence_of
from greenroom.http.mcp import calls, tools
from greenroom.http.mcp.messages import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Message,
    RpcError,
    error_body,
    message_frame,
    result_body,
)
from greenroom.http.streaming import STREAM_HEADERS
from greenroom.http.system import package_version
from greenroom.wire.dialects import Dialect

log = logging.getLogger(__name__)

VERSIONS: tuple[str, ...] = tuple(SUPPORTED_PROTOCOL_VERSIONS)
SESSION_ID = "mcp-session-id"
_OF_THE_CLIENT = frozenset({400, 404, 409, 422})
"""Statuses that say that the same request will fail again."""

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The connection of a request.

    Attributes:
        session_id: of the header; None if there is none.
        takes_events: the client accepts an event stream.
        takes_json: the client accepts JSON.
    """

    edge: Edge
    dialect: Dialect
    session_id: str | None
    takes_events: bool
    takes_json: bool


async def notified(caller: Caller, message: Message) -> None:
    """Acts on a notification; most of them need nothing."""
    if message.method != "notifications/cancelled" or caller.session_id is None:
        return
    try:
        params = types.CancelledNotificationParams.model_validate(message.params)
    except ValidationError:
        return  # a notification is never answered, not even a malformed one
    if params.requestId is not None:
        await calls.cancel(caller.edge, caller.session_id, params.requestId)


async def answered(caller: Caller, message: Message) -> Response:
    """Answers a request; errors are JSON-RPC errors with status 200, as clients expect."""
    assert message.id is not None
    try:
        if message.method == "tools/call":
            return await _call(caller, message)
        method = _METHODS.get(message.method or "")
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {(message.method or '')[:255]}")
        result, headers = await method(caller, message)
        body = result_body(message.id, _dumped(result))
    except RpcError as error:
        body, headers = error_body(message.id, error), {}
    except GreenroomError as error:
        body, headers = error_body(message.id, _told(error)), {}
    if caller.takes_json:
        return encoded(body, headers)
    return Response(message_frame(body), headers={**STREAM_HEADERS, **headers})


def _told(error: GreenroomError) -> RpcError:
    if error.status_hint == 500:
        log.error("A request failed: %s", error, exc_info=error)
        return RpcError(INTERNAL_ERROR, "Internal Server Error")
    code = INVALID_PARAMS if error.status_hint in _OF_THE_CLIENT else INTERNAL_ERROR
    return RpcError(code, error.message)


async def _initialize(caller: Caller, message: Message) -> tuple[BaseModel, dict[str, str]]:
    asked = message.params.get("protocolVersion")
    result = types.InitializeResult(
        protocolVersion=asked if asked in VERSIONS else VERSIONS[-1],
        capabilities=types.ServerCapabilities(tools=types.ToolsCapability(listChanged=False)),
        serverInfo=types.Implementation(name="Greenroom", version=package_version("greenroom")),
    )
    return result, {SESSION_ID: uuid4().hex}


async def _ping(caller: Caller, message: Message) -> tuple[BaseModel, dict[str, str]]:
    return types.EmptyResult(), {}


async def _list_tools(caller: Caller, message: Message) -> tuple[BaseModel, dict[str, str]]:
    params = _checked(types.PaginatedRequestParams, message)
    return await tools.list_tools(caller.edge, params.cursor), {}


Method = Callable[[Caller, Message], Awaitable[tuple[BaseModel, dict[str, str]]]]

_METHODS: dict[str, Method] = {
    "initialize": _initialize,
    "ping": _ping,
    "tools/list": _list_tools,
}


async def _call(caller: Caller, message: Message) -> Response:
    edge, request_id = caller.edge, message.id
    assert request_id is not None
    params = _checked(types.CallToolRequestParams, message)
    assistant = await tools.find_tool(edge, params.name)
    schema = await tools.input_schema(edge, assistant)
    run = await calls.admitted(
        edge,
        caller.dialect,
        assistant,
        tools.graph_input(schema, params.arguments or {}),
        session_id=caller.session_id,
        request_id=request_id,
    )
    token = params.meta.progressToken if params.meta is not None else None
    if caller.takes_events and (token is not None or not caller.takes_json):
        return calls.event_stream(edge, run, request_id, token)
    return calls.late_json(edge, run, request_id)


def _checked(model: type[P], message: Message) -> P:
    try:
        return model.model_validate(message.params)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        raise RpcError(INVALID_PARAMS, sentence_of(first)) from None


def _dumped(result: BaseModel) -> dict[str, Any]:
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)
