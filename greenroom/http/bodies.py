"""Request bodies: read up to a limit, parsed once, checked for values that would fail later.

A large body is parsed in a separate process (`greenroom.wire.splitting`), and its large parts stay
encoded JSON (`orjson.Fragment`). So a body needs a few times its size in memory, and the event loop
is not blocked. The total size of all bodies under way is bounded, too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import (
    InvalidRequest,
    TooLarge,
    TooSlow,
    Unavailable,
    UnsupportedMediaType,
)
from greenroom.core.units import MIB
from greenroom.http.edge import edge_of
from greenroom.http.errors import invalid_body
from greenroom.wire.encoding import INVALID_JSON, is_object, loads
from greenroom.wire.models import Body, Command, RunCreate
from greenroom.wire.splitting import Failed, has_nul, long_integer, split_apart

LARGE_BYTES = 2 * MIB
"""The size from which a separate process parses a body; for a smaller one, parsing it here is
cheaper."""

_ORJSON_DEPTH = 254
_TAKEN = "greenroom.body"
_HASHED = "greenroom.body.sha256"

IDEMPOTENCY_KEY = "idempotency-key"
"""The header of a request that a client may repeat."""

_HAS_NUL = "The request body holds a NUL character (\\u0000); remove it."

B = TypeVar("B", bound=Body)


async def read_body(request: Request) -> Any:
    """Reads and parses the JSON body of a request.

    Returns:
        the parsed body; parts of a large one may be `orjson.Fragment`.

    Raises:
        UnsupportedMediaType: a page sends it, and does not say that it is JSON.
        TooLarge: the body is longer than ``max_body_bytes``; raised as early as possible.
        TooSlow: the client sends nothing for ``silence_s``, and the body is not complete.
        Unavailable: the bodies of other requests need too much memory.
        InvalidRequest: the body is not JSON, is nested too deeply, has a NUL character in a string
            or an integer of more than 64 bits.
    """
    settings = edge_of(request).settings
    _refuse_form(request)
    chunks = _chunks(request, settings.max_body_bytes, settings.silence_s)
    begun: list[bytes] = []
    size = 0
    async for chunk in chunks:
        begun.append(chunk)
        size += len(chunk)
        if size > LARGE_BYTES:
            return await _taken_apart(begun, chunks, settings.max_body_depth)
    return parsed(b"".join(begun), settings.max_body_depth)


def parsed(raw: bytes, max_depth: int) -> Any:
    """Parses JSON of a client; raises InvalidRequest as `read_body` does."""
    value = loads(raw)
    _refuse_deep(raw, value, max_depth)
    if has_nul(raw):
        raise InvalidRequest(_HAS_NUL)
    if (number := long_integer(raw)) is not None:
        raise InvalidRequest(_too_long(number))
    return value


def has_large_parts(body: RunCreate) -> bool:
    """Returns whether copying a run's body takes tens of milliseconds: parts came from
    `read_body` as encoded JSON."""
    command: Command = body.command or {}
    parts = (body.input, command.get("update"), command.get("resume"))
    return any(isinstance(part, orjson.Fragment) for part in parts)


def body_digest(request: Request) -> bytes:
    """Returns SHA-256 of a body that was read, of a request with an ``Idempotency-Key``; of an
    empty one if the route has read none."""
    hashed = request.scope.get(_HASHED) or hashlib.sha256()
    return hashed.digest()


async def _taken_apart(begun: list[bytes], chunks: AsyncIterator[bytes], max_depth: int) -> Any:
    async def body() -> AsyncIterator[bytes]:
        while begun:
            yield begun.pop(0)
        async for chunk in chunks:
            yield chunk

    try:
        found = await split_apart(body(), max_depth)
    except Failed as error:
        raise Unavailable(
            f"The process that reads large request bodies has failed ({error}). Try again."
        ) from error
    match found.verdict:
        case "wrong":
            raise InvalidRequest(INVALID_JSON)
        case "deep":
            raise InvalidRequest(_too_deep(max_depth))
        case "nul":
            raise InvalidRequest(_HAS_NUL)
        case "long":
            raise InvalidRequest(_too_long(found.skeleton))
        case "good":
            value = loads(found.skeleton)
    for (*above, name), part in found.parts:
        holder = value
        for key in above:
            holder = holder[key]
        holder[name] = orjson.Fragment(part)
    return value


async def parse(request: Request, model: type[B]) -> B:
    """Parses the body of a request into a model; raises as `read_body` does, and
    `InvalidRequest` for a body that does not fit the model."""
    return validated(model, await read_body(request))


async def parse_optional(request: Request, model: type[B]) -> B:
    """Like `parse`, but an absent body counts as an empty object."""
    if request.headers.get("content-length") == "0" or not _has_body(request):
        return model()
    return await parse(request, model)


def validated(model: type[B], value: Any) -> B:
    """Validates a value against a model; an explicit null counts as an absent field."""
    if is_object(value):
        value = {key: item for key, item in value.items() if item is not None}
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_body(error) from None


_LIST = TypeAdapter(list[Any])


def listed(value: Any) -> list[Any]:
    """Returns ``value`` if it is a list that is not empty; raises InvalidRequest otherwise."""
    try:
        items = _LIST.validate_python(value, strict=True)
    except ValidationError as error:
        raise invalid_body(error) from None
    if not items:
        raise InvalidRequest("The request body must have at least one entry.")
    return items


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "content-length" in headers or "transfer-encoding" in headers


def _refuse_form(request: Request) -> None:
    """Refuses a body that a page may send without asking the server before.

    A browser asks (a preflight) before it sends JSON to another origin, and does not for a form or
    ``text/plain``. Programs name no ``Origin``; their bodies are taken for JSON, whatever they say.
    """
    if "origin" not in request.headers:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and "+json" in kind):
        raise UnsupportedMediaType(
            f"A page must send JSON with the header 'content-type: application/json', not"
            f" {kind[:80]!r}."
        )


async def _chunks(request: Request, limit: int, silence_s: float) -> AsyncIterator[bytes]:
    taken: _Taken = request.scope[_TAKEN]
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit():
        if int(declared) > limit:
            raise _too_large(limit)
        taken.grow_to(int(declared))
    size = 0
    hashed = hashlib.sha256() if IDEMPOTENCY_KEY in request.headers else None
    request.scope[_HASHED] = hashed
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow(
                f"The request body is not complete, and nothing came for {silence_s:g} s."
            ) from None
        size += len(chunk)
        if hashed is not None:
            hashed.update(chunk)
        if size > limit:
            raise _too_large(limit)
        taken.grow_to(size)
        yield chunk


class CountedBodies:
    """A middleware that bounds the bytes of all request bodies whose answers have not begun.

    Args:
        max_bytes: the bound for all bodies together; a single body may exceed it.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self.max_bytes = max_bytes
        self.size_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = scope[_TAKEN] = _Taken(self)

        async def answering(message: Message) -> None:
            taken.give_back()
            await send(message)

        try:
            await self._app(scope, receive, answering)
        finally:
            taken.give_back()


class _Taken:
    """The share of one request in the bound of `CountedBodies`."""

    def __init__(self, bodies: CountedBodies) -> None:
        self._bodies = bodies
        self._size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Raises the share of this request.

        Raises:
            Unavailable: the total would exceed the bound.
        """
        bodies, more = self._bodies, size_bytes - self._size_bytes
        if more <= 0:
            return
        others = bodies.size_bytes - self._size_bytes
        if others and bodies.size_bytes + more > bodies.max_bytes:
            raise Unavailable(
                f"The server is reading {others} bytes of other requests, and takes no more than"
                f" {bodies.max_bytes} at once (bodies_max_bytes). Try again in a moment."
            )
        bodies.size_bytes += more
        self._size_bytes = size_bytes

    def give_back(self) -> None:
        self._bodies.size_bytes -= self._size_bytes
        self._size_bytes = 0


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is longer than the {limit} bytes that this server accepts.")


def _refuse_deep(raw: bytes, value: Any, limit: int) -> None:
    # Counting brackets is nearly free and clears almost every body. For the rest orjson measures
    # the depth: it refuses a value that is too deep, wrapped in the levels it allows beyond ours.
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return
    for _ in range(_ORJSON_DEPTH - limit):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        raise InvalidRequest(_too_deep(limit)) from None


def _too_deep(limit: int) -> str:
    return f"The request body is nested more than {limit} levels deep; flatten it."


def _too_long(number: bytes) -> str:
    shown = number[:40].decode() + ("..." if len(number) > 40 else "")
    return (
        f"The request body holds the integer {shown}, which has more than 64 bits; send it as a"
        " string."
    )
