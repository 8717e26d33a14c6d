"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from greenroom.core.errors import GreenroomError, InvalidRequest, NotFound
from greenroom.core.ports import JsonObject
from greenroom.core.runs import Outcome, RunStatus
from greenroom.http.answering import json
from greenroom.wire.encoding import is_object, loads

log = logging.getLogger(__name__)

_FIELD = re.compile(r"[a-z_]+(?:\.[a-z_]+|\[\d+\])*(?=[: ])")
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
