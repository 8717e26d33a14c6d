"""Request bodies: read up to a limit, parsed once, checked for what would break further in."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from greenroom.core.errors import InvalidRequest, TooLarge
from greenroom.http.edge import edge_of
from greenroom.http.errors import invalid_body
from greenroom.wire.encoding import loads
from greenroom.wire.models import Body

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ORJSON_DEPTH = 254

B = TypeVar("B", bound=Body)


async def read_body(request: Request) -> Any:
    """The JSON of a request.

    Raises:
        TooLarge: it is longer than ``max_body_bytes``; said as soon as that is known.
        InvalidRequest: no JSON, nested too deeply, with a NUL character in a string, or with an
            integer of more than 64 bits.
    """
    settings = edge_of(request).settings
    raw = await _read(request, settings.max_body_bytes)
    value = loads(raw)
    _refuse_deep(raw, value, settings.max_body_depth)
    if b"\\u0000" in raw and _NUL.search(raw):
        raise InvalidRequest("The request body holds a NUL character (\\u0000); remove it.")
    _refuse_long_integers(raw)
    return value


async def parse(request: Request, model: type[B]) -> B:
    """The body of a request as a model; raises as `read_body` does."""
    return validated(model, await read_body(request))


async def parse_optional(request: Request, model: type[B]) -> B:
    """As `parse`, for routes where no body at all means that no field is given."""
    if request.headers.get("content-length") == "0" or not _has_body(request):
        return model()
    return await parse(request, model)


def validated(model: type[B], value: Any) -> B:
    """``value`` as a model; an explicit null is an absent field."""
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if item is not None}
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_body(error) from None


_LIST = TypeAdapter(list[Any])


def listed(value: Any) -> list[Any]:
    """``value`` as a list that is not empty."""
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


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body is longer than the {limit} bytes that this server accepts.")


def _refuse_deep(raw: bytes, value: Any, limit: int) -> None:
    # Counting brackets is nearly free and clears almost every body. For the rest orjson measures:
    # wrapped in the levels that it allows beyond ours, a value that is too deep is refused.
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return
    for _ in range(_ORJSON_DEPTH - limit):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        raise InvalidRequest(
            f"The request body is nested more than {limit} levels deep; flatten it."
        ) from None


_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
"""Every digit becomes a 0, everything else a blank: runs of digits are found at the speed of C."""

_LONG = b"0" * 19
"""As many digits as the first integer that may not fit has."""


def _refuse_long_integers(raw: bytes) -> None:
    """Refuses what orjson, and most of what is behind it, would make a float of without a word.

    Raises:
        InvalidRequest: the body, which is valid JSON, has an integer below -2**63 or beyond
            2**64 - 1.
    """
    digits = raw.translate(_DIGITS)
    at, counted, quotes = digits.find(_LONG), 0, 0
    while at >= 0:
        end = digits.find(b" ", at)
        end = len(raw) if end < 0 else end
        begin = at - 1 if raw[at - 1 : at] == b"-" else at
        if _is_alone(raw, begin, end) and not _fits(raw[begin:end]):
            # Within a string an odd number of quotes comes before it.
            quotes += _quotes(raw[counted:at])
            counted = at
            if quotes % 2 == 0:
                shown = raw[begin : min(end, begin + 40)].decode()
                raise InvalidRequest(
                    f"The request body holds the integer {shown}{'...' if end > begin + 40 else ''}"
                    ", which has more than 64 bits; send it as a string."
                )
        at = digits.find(_LONG, end)


def _is_alone(raw: bytes, begin: int, end: int) -> bool:
    """Whether a number may stand there: it is no part of a word, of a fraction or a power."""
    return raw[begin - 1 : begin] in _BEFORE and raw[end : end + 1] in _AFTER


_BEFORE = frozenset((b"", *(bytes([byte]) for byte in b":,[ \t\r\n")))
_AFTER = frozenset((b"", *(bytes([byte]) for byte in b",]} \t\r\n")))


def _fits(number: bytes) -> bool:
    return len(number) <= 20 and -(2**63) <= int(number) < 2**64


def _quotes(part: bytes) -> int:
    """How many quotes begin or end a string in a part of valid JSON."""
    return part.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"')
