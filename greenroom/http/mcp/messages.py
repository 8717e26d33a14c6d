"""JSON-RPC messages of MCP: what a request's body is, and how an answer is framed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.wire.encoding import dumps, is_object
from greenroom.wire.sse import event_frame

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

Id = str | int | float


class RpcError(Exception):
    """A request is answered with a JSON-RPC error.

    Args:
        code: of JSON-RPC.
        message: a sentence for the client.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message of a client.

    Attributes:
        method: None for an answer to a request that nobody has sent.
        id: None for a notification, which gets no answer.
    """

    method: str | None
    id: Id | None
    params: JsonObject = field(default_factory=dict[str, Any])


def message_of(body: Any) -> Message:
    """Returns the message that is a request's body.

    Raises:
        RpcError: the body is no message.
    """
    if not is_object(body):
        raise RpcError(
            INVALID_REQUEST, "The body must be one JSON-RPC message, an object; send no batches."
        )
    if body.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, 'The message must have "jsonrpc": "2.0".')
    identity = body.get("id")
    if identity is not None and (
        isinstance(identity, bool) or not isinstance(identity, str | int | float)
    ):
        raise RpcError(INVALID_REQUEST, "The id must be a string or a number.")
    method = body.get("method")
    if method is None and ("result" in body or "error" in body):
        return Message(method=None, id=None)
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, "The message must have a method, a string.")
    params: Any = body.get("params")
    if params is None:
        params = {}
    if not is_object(params):
        raise RpcError(INVALID_REQUEST, "The params must be an object.")
    return Message(method=method, id=identity, params=params)


def result_body(identity: Id, result: Any) -> bytes:
    return dumps({"jsonrpc": "2.0", "id": identity, "result": result})


def error_body(identity: Id | None, error: RpcError) -> bytes:
    told = {"code": error.code, "message": error.message}
    return dumps({"jsonrpc": "2.0", "id": identity, "error": told})


def notification_frame(method: str, params: JsonObject) -> bytes:
    """Returns a notification for an event stream."""
    return message_frame(dumps({"jsonrpc": "2.0", "method": method, "params": params}))


def message_frame(body: bytes) -> bytes:
    """Returns a message for an event stream."""
    return event_frame("message", body)
