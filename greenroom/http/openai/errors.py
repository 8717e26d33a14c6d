"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import GreenroomError, InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import Outcome, RunStatus
from greenroom.http.answering import json
from greenroom.http.mounting import path_within
from greenroom.wire.encoding import dumps, is_object, loads

log = logging.getLogger(__name__)

_FIELD = re.compile(r"[a-z_]+(?:\.[a-z_]+|\[\d+\])*(?=[: ])")
_PATHS = re.compile(r"(/api)?/v1(/|$)")
_NO_RETRY = {"x-should-retry": "false"}
"""A client of OpenAI repeats a request after 409 and 5xx unless told otherwise."""
_CODES = {404: "not_found", 409: "conflict", 413: "request_too_large", 429: "rate_limit_exceeded"}


class UnknownModel(NotFound):
    pass


class RunFailed(GreenroomError):
    """The run of a request ended without an answer; the message is for the client."""

    status_hint = 500


class RunCancelled(RunFailed):
    status_hint = 409


class OpenAiRoute(APIRoute):
    """A route whose errors have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except GreenroomError as error:
                return refusal(error)

        return answered


class OpenAiErrors:
    """A middleware that gives OpenAI's shape to the other errors below ``/v1``: those of limits and
    authentication, those for unknown paths and methods, and unforeseen ones."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _PATHS.match(path_within(scope)):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def reshaping(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    answer = _reshaped(start["status"], body)
                    headers = MutableHeaders(raw=list(start["headers"]))
                    headers["content-type"] = "application/json"
                    headers["content-length"] = str(len(answer))
                    await send({**start, "headers": headers.raw})
                    await send({"type": "http.response.body", "body": answer})

        await self._app(scope, receive, reshaping)


def _reshaped(status: int, body: bytes) -> bytes:
    try:
        found: Any = loads(body)
    except InvalidRequest:
        found = {"detail": body.decode(errors="replace")}
    if not is_object(found) or "error" in found:
        return body
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, kind)
    code = {401: "invalid_api_key", 403: "forbidden", 405: "method_not_allowed"}.get(status)
    about = {"type": kind, "param": None, "code": code or _CODES.get(status)}
    return dumps({"error": {"message": str(found.get("detail", "")), **about}})


def refusal(error: GreenroomError) -> Response:
    """Returns the answer for an error; a malformed request is 400, as clients expect."""
    status = 400 if isinstance(error, InvalidRequest) else error.status_hint
    headers = error.headers()
    if isinstance(error, RunFailed):
        headers = {**headers, **_NO_RETRY}
    return json(error_body(error), headers, status)


def error_body(error: GreenroomError) -> JsonObject:
    """Returns an error as its JSON object."""
    status, message = error.status_hint, error.message
    if status == 500 and not isinstance(error, RunFailed):
        log.error("A request failed: %s", error, exc_info=error)
        message = "The server had an internal error."
    kind, param = "invalid_request_error", None
    match error:
        case UnknownModel():
            code, param = "model_not_found", "model"
        case RunCancelled():
            kind, code = "server_error", "run_cancelled"
        case RunFailed():
            kind, code = "server_error", "run_failed"
        case InvalidRequest():
            code = None
            param = found[0] if (found := _FIELD.match(message)) else None
        case _:
            code = _CODES.get(status)
            kind = "server_error" if status >= 500 else kind
            kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure_of(end: Outcome) -> RunFailed | None:
    """Returns the error of a run that is over; None for a run that succeeded."""
    if end.error is not None:
        error: Any = loads(end.error)
        parts = (error.get("error"), error.get("message")) if is_object(error) else (error,)
        return RunFailed(": ".join(str(part) for part in parts if part) or "The run failed.")
    if end.status != RunStatus.SUCCESS:
        return RunCancelled("The run was cancelled before it had an answer.")
    return None
