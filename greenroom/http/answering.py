"""JSON answers, and the parts of a record that a client selected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import InvalidRequest
from greenroom.core.ports import JsonObject, Page
from greenroom.http.sending import Pieces
from greenroom.wire.encoding import dumps, is_list, is_object

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d{1,9})\]", re.ASCII)
_EXTRACTABLE = ("metadata", "values", "config", "interrupts", "error", "status")


def json(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return encoded(dumps(value), headers, status)


def encoded(body: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Pieces(body, status, headers, "application/json")


def empty(status: int = 204) -> Response:
    return Response(status_code=status)


class Heads:
    """A middleware that answers HEAD as GET without its body, where GET answers at once.

    Health checks ask so. A stream or a wait has nothing to say before its run does: 405.
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
    """A page of a search; the total is a lower bound, as on the reference."""
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
    """A state, or a list of them, with only these fields; ``values.<key>`` names a single key."""
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
    """The ``extract`` of a thread search, parsed: ``values.messages[-1].id`` and the like.

    Raises:
        InvalidRequest: a path that is none, or into something that cannot be extracted from.
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
    """What a path leads to in a record, None where it leads nowhere."""
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
