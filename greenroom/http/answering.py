"""JSON answers, and the fields of a record that a client selects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import InvalidRequest
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.searches import (
    Page,
)
from greenroom.http.sending import Pieces
from greenroom.wire.encoding import dumps, is_list, is_object

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d{1,9})\]", re.ASCII)
_EXTRACTABLE = ("metadata", "values", "config", "interrupts", "error", "status")


def json(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return encoded(dumps(value), headers, status)


def encoded(body: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """Answers with JSON that is already encoded."""
    return Pieces([body], status, headers)


def in_parts(
    parts: Sequence[bytes | memoryview], headers: Mapping[str, str] | None = None
) -> Response:
    """Answers with encoded JSON whose large parts are not copied."""
    return Pieces(parts, headers=headers)


def empty(status: int = 204) -> Response:
    return Response(status_code=status)


class Heads:
    """A middleware that answers HEAD like GET without the body, on routes that answer at once.

    Health checks use HEAD. Streams and waits answer 405, since they depend on their run.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or _waits(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


def _waits(path: str) -> bool:
    return path.rstrip("/").endswith(("/stream", "/join"))


def page(found: Page, items: list[JsonObject], *, limit: int, offset: int) -> Response:
    """Answers with a page of a search; the total is a lower bound, as in LangGraph's server."""
    total = offset + len(found.items) + found.has_more
    headers = {"x-pagination-total": str(total)}
    if found.has_more:
        headers["x-pagination-next"] = str(offset + limit)
    return json(items, headers)


def selected(record: JsonObject, fields: Sequence[str] | None) -> JsonObject:
    if not fields:
        return record
    return {key: value for key, value in record.items() if key in fields}


def selected_state(state: bytes, fields: Sequence[str] | None) -> bytes:
    """Reduces a state, or a list of states, to the selected fields.

    Args:
        state: JSON of a state or of a list of states.
        fields: names of fields; ``values.<key>`` selects a single key. None selects all.
    """
    if not fields:
        return state
    parsed: Any = orjson.loads(state)
    if is_list(parsed):
        return dumps([_state_part(item, fields) for item in parsed])
    return dumps(_state_part(parsed, fields))


def _state_part(state: JsonObject, fields: Sequence[str]) -> JsonObject:
    part = {key: value for key, value in state.items() if key in fields}
    keys = [field.removeprefix("values.") for field in fields if field.startswith("values.")]
    values = state.get("values")
    if keys and "values" not in part and is_object(values):
        part["values"] = {key: values[key] for key in keys if key in values}
    return part


def extraction(paths: Mapping[str, str] | None) -> dict[str, list[str | int]]:
    """Parses the ``extract`` of a thread search.

    Args:
        paths: by alias, paths such as ``values.messages[-1].id``.

    Returns:
        by alias, the path's keys and indices.

    Raises:
        InvalidRequest: a path is malformed, or begins with a field that cannot be extracted.
    """
    return {alias: _steps(path) for alias, path in (paths or {}).items()}


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    position = 0
    while position < len(path) and (match := _STEP.match(path, position)):
        steps.append(match[1] if match[1] is not None else int(match[2]))
        position = match.end()
    if position < len(path) or not steps or steps[0] not in _EXTRACTABLE:
        raise InvalidRequest(
            f"extract must hold paths that begin with one of {', '.join(_EXTRACTABLE)}, "
            f"not {path[:80]!r}."
        )
    return steps


def extracted(record: JsonObject, steps: Sequence[str | int]) -> Any:
    """Returns the value at a path of a record, or None when the path does not exist."""
    value: Any = record
    for step in steps:
        if isinstance(value, orjson.Fragment):
            value = orjson.loads(orjson.dumps(value))
        if isinstance(step, str):
            value = value.get(step) if is_object(value) else None
        else:
            inside = is_list(value) and -len(value) <= step < len(value)
            value = value[step] if inside else None
    return value
