"""The OpenAPI description of the routes. Our own code parses the requests; these functions document
the bodies that it accepts and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from greenroom.http.custom import CustomApp, merged
from greenroom.http.parameters import MAX_KEY
from greenroom.wire.answers import Error
from greenroom.wire.assistant_models import ASSISTANT_BODIES
from greenroom.wire.log_models import LOG_BODIES
from greenroom.wire.models import BODIES
from greenroom.wire.openai_models import OPENAI_BODIES
from greenroom.wire.rpc_models import RPC_BODIES
from greenroom.wire.store_models import STORE_BODIES

_REF = "#/components/schemas/{model}"
_EVENTS = "text/event-stream"
_SENTENCES = {
    400: "The request contradicts itself or the graph.",
    404: "It does not exist.",
    405: "The path knows other methods.",
    409: "The thread is taken, or the id exists.",
    413: "The body is too long.",
    422: "The request cannot mean anything; the sentence says what to change.",
    503: "A part is restarting; trying again helps.",
}
_HEADERS = {
    "content-location": "The run's path.",
    "location": "Where to join the run when the connection breaks.",
    "x-pagination-total": "How many there are at least.",
    "x-pagination-next": "The offset of the next page, if there is one.",
}


_ONCE = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request with the same key makes nothing a second time, for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
}


def doc(
    answers: Mapping[int, Any],
    *,
    body: type[BaseModel] | None = None,
    body_list: bool = False,
    body_required: bool = True,
    query: Mapping[str, Any] | None = None,
    headers: tuple[str, ...] = (),
    errors: tuple[int, ...] = (),
    stream: bool = False,
    once: bool = False,
) -> dict[str, Any]:
    """Returns keyword arguments for a route decorator.

    Args:
        answers: the type of a successful answer by status; None for no body.
        body: the model of the request's body; with ``body_list`` the body is an array of them.
        query: JSON schema by parameter.
        headers: the headers of a successful answer.
        errors: the error statuses beyond 422, 503 and, with a body, 413.
        stream: the answer with status 200 is an event stream.
        once: the request may have an ``Idempotency-Key``.
    """
    extra: dict[str, Any] = {}
    if body is not None:
        extra["requestBody"] = _body(body, body_list, body_required)
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in (query or {}).items()
    ]
    if once:
        parameters.append(_ONCE)
    if parameters:
        extra["parameters"] = parameters
    responses: dict[int | str, dict[str, Any]] = {
        status: _success(status, answer, headers, stream) for status, answer in answers.items()
    }
    for status in sorted({*errors, 422, 503, *((413,) if body else ())}):
        responses[status] = {"model": Error, "description": _SENTENCES[status]}
    return {"responses": responses, "openapi_extra": extra, "status_code": next(iter(answers))}


def _body(model: type[BaseModel], as_list: bool, required: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"$ref": _REF.format(model=model.__name__)}
    if as_list:
        schema = {"type": "array", "items": schema, "minItems": 1}
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _success(status: int, answer: Any, headers: tuple[str, ...], stream: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"description": "Success"}
    if stream and status == 200:
        found["content"] = {_EVENTS: {"schema": {"type": "string"}}}
    elif answer is not None:
        found["model"] = answer
    if headers:
        found["headers"] = {
            name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in headers
        }
    return found


def install(
    app: FastAPI,
    routes: Sequence[BaseRoute],
    custom: CustomApp | None = None,
    security: Mapping[str, Any] | None = None,
) -> None:
    """Adds the request bodies, which FastAPI does not see, to ``/openapi.json``, and the routes of
    a custom application.

    Args:
        routes: what is described.
        security: ``auth.openapi`` of `langgraph.json`: ``securitySchemes``, ``security``, and
            ``paths``, which have operations with a ``security`` of their own.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = _schema(app, routes)
            schema = schema if custom is None else merged(schema, custom)
            app.openapi_schema = _secured(schema, security or {})
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _secured(schema: dict[str, Any], security: Mapping[str, Any]) -> dict[str, Any]:
    if schemes := security.get("securitySchemes"):
        schema.setdefault("components", {})["securitySchemes"] = schemes
    if security.get("security"):
        schema["security"] = security["security"]
    paths: dict[str, dict[str, Any]] = security.get("paths") or {}
    for path, methods in paths.items():
        for method, its_own in methods.items():
            operation = schema["paths"].get(path, {}).get(method.lower())
            if operation is not None:
                operation["security"] = its_own
    return schema


def _schema(app: FastAPI, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=routes
    )
    models = (*BODIES, *ASSISTANT_BODIES, *STORE_BODIES, *RPC_BODIES, *OPENAI_BODIES, *LOG_BODIES)
    _, bodies = models_json_schema([(m, "validation") for m in models], ref_template=_REF)
    schema.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
    return schema
