"""Errors as clients see them: always ``{"detail": "<one sentence>"}``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import GreenroomError, InvalidRequest, Refused

log = logging.getLogger(__name__)

_SHOWN = 80
"""The most characters of a wrong value that a message repeats."""

_SENTENCES = {
    "missing": "{field} is required.",
    "literal_error": "{field} must be {expected}, not {input}.",
    "dict_type": "{field} must be an object, not {input}.",
    "model_type": "{field} must be an object, not {input}.",
    "list_type": "{field} must be an array, not {input}.",
    "string_type": "{field} must be a string, not {input}.",
    "bool_type": "{field} must be true or false, not {input}.",
    "int_type": "{field} must be a whole number, not {input}.",
    "float_type": "{field} must be a number, not {input}.",
    "greater_than_equal": "{field} must be at least {ge}, not {input}.",
    "greater_than": "{field} must be greater than {gt}, not {input}.",
    "less_than_equal": "{field} must be at most {le}, not {input}.",
    "string_too_short": "{field} must not be empty.",
    "too_short": "{field} must have at least {min_length} entries, not {actual_length}.",
    "too_long": "{field} must have at most {max_length} entries, not {actual_length}.",
}


def install(app: FastAPI) -> None:
    """Registers the error handlers; `LastResort` handles unexpected errors."""
    app.add_exception_handler(GreenroomError, _domain_error)
    app.add_exception_handler(RequestValidationError, _invalid_parameter)


def error_object(error: GreenroomError) -> dict[str, str]:
    """Returns an error as JSON object for a stream or a late answer, whose status is sent."""
    return {"error": type(error).__name__, "message": error.message}


async def _domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GreenroomError)
    if error.status_hint == 500 and not isinstance(error, Refused):
        log.error("A request failed: %s", error, exc_info=error)
        return internal_error()
    return JSONResponse({"detail": error.message}, error.status_hint, headers=error.headers())


async def _invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # FastAPI's locations begin with the part of the request; ours are of the body.
    return JSONResponse({"detail": sentence_of({**first, "loc": first["loc"][1:]})}, 422)


def invalid_body(error: ValidationError) -> InvalidRequest:
    """Returns the error for a body that does not fit its model; it names one wrong field."""
    errors = error.errors(include_url=False, include_context=True)
    return InvalidRequest(sentence_of(_most_telling(errors)))


def _most_telling(errors: Sequence[Any]) -> Mapping[str, Any]:
    # A union reports one error per member; the most deeply located one is the real mistake.
    first = errors[0]["loc"][:1]
    return max((e for e in errors if e["loc"][:1] == first), key=lambda e: len(e["loc"]))


def sentence_of(error: Mapping[str, Any]) -> str:
    """Returns a sentence for a pydantic error: the field and the correction."""
    template = _SENTENCES.get(error["type"], "{field}: {msg}.")
    context: Mapping[str, Any] = error.get("ctx") or {}
    values = {**context, "msg": error["msg"]}
    return template.format(
        **values | {"field": _field(error["loc"]), "input": _shown(error.get("input"))}
    )


def _field(location: Sequence[str | int]) -> str:
    # A location also names members of unions, which no client wrote.
    parts = [
        part
        for part in location
        if isinstance(part, int) or not (part == "nullable" or "[" in part or part[:1].isupper())
    ]
    parts = [part for part in parts if part not in ("str", "dict", "tuple")]
    if not parts:
        return "The request body"
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts).lstrip(".")


def _shown(value: Any) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def internal_error() -> Response:
    return PlainTextResponse("Internal Server Error", 500)


class LastResort:
    """A middleware that answers 500 for unexpected errors, and logs the traceback.

    It also refuses NUL characters in paths and queries, which PostgreSQL cannot store. It is inside
    the middleware for CORS, so that a browser may read this answer too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            refusal = JSONResponse({"detail": "The URL holds a NUL character; remove it."}, 422)
            await refusal(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return  # the client disconnected while it sent its request
        except Exception:  # any unexpected error: the client gets a 500, the log the traceback
            log.exception("%s %s failed.", scope["method"], scope["path"])
            if not started:
                await internal_error()(scope, receive, send)
