"""JSON-RPC of the A2A protocol: one request, one method, one answer or stream.

The name of a method tells the version of the protocol (`greenroom.http.a2a.versions`). An error of
the protocol is an answer with HTTP status 200; a server that cannot answer now says 503, as on all
routes, since clients and proxies repeat such requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from a2a.utils.errors import (
    A2AError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
)
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError, InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.http.a2a.calls import Call, as_a2a, error_body
from greenroom.http.a2a.methods import METHODS
from greenroom.http.a2a.versions import Version
from greenroom.http.answering import encoded
from greenroom.http.bodies import read_body
from greenroom.wire.encoding import INVALID_JSON, is_object


async def answered(request: Request, assistant_id: str) -> Response:
    """Answers one JSON-RPC request.

    Raises:
        TooLarge, TooManyRequests, Unavailable, Unreachable: as on other routes.
    """
    found: Any = None
    try:
        try:
            found = await read_body(request)
        except InvalidRequest as error:
            if error.message == INVALID_JSON:
                raise JSONParseError("Invalid JSON payload") from None
            raise InvalidRequestError(error.message) from None
        version, answer = _method(found)
        params = _params(found)
        call = Call(
            request=request,
            assistant_id=assistant_id,
            id=_id(found),
            version=version,
            params=version.params(params),
        )
        return await answer(call)
    except (A2AError, GreenroomError) as error:
        return encoded(error_body(_id(found), as_a2a(error)))


def _method(found: Any) -> tuple[Version, Callable[[Call], Awaitable[Response]]]:
    if not is_object(found):
        raise InvalidRequestError("Invalid message format: expected object")
    if found.get("jsonrpc") != "2.0":
        raise InvalidRequestError("Invalid JSON-RPC message: jsonrpc must be '2.0'.")
    request_id: Any = found.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | None):
        raise InvalidRequestError("Invalid JSON-RPC message: id must be a string or a number.")
    method: Any = found.get("method")
    if not isinstance(method, str) or not method:
        raise InvalidRequestError("Invalid JSON-RPC request: missing 'method' field")
    if method not in METHODS:
        raise MethodNotFoundError(f"Method not found: {method[:255]}")
    return METHODS[method]


def _params(found: JsonObject) -> JsonObject:
    params: Any = found.get("params")
    if params is None:
        return {}
    if not is_object(params):
        raise InvalidParamsError("params must be an object.")
    return params


def _id(found: Any) -> Any:
    request_id: Any = found.get("id") if is_object(found) else None
    valid = isinstance(request_id, str | int | float) and not isinstance(request_id, bool)
    return request_id if valid else None
