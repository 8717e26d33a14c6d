"""Parses paths and queries: ids, numbers, flags and lists, in every encoding of the SDKs.

JavaScript sends a list as one JSON array, Python repeats the key and sends None as an empty value,
and some clients write commas: all three are accepted everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args
from urllib.parse import quote

import orjson
from starlette.requests import Request
from uuid_utils import uuid7

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.runs import CancelAction
from greenroom.core.sharding import for_thread
from greenroom.wire.dialects import Dialect
from greenroom.wire.encoding import is_list
from greenroom.wire.models import MAX_OFFSET, StreamMode

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_MAX_ID = 255
MAX_KEY = 255
"""The most characters of an ``Idempotency-Key``."""
_TRUE = frozenset({"1", "true"})

STREAM_MODES: tuple[str, ...] = get_args(StreamMode)


def new_id() -> str:
    return str(uuid7())


def new_run_id(thread_id: str) -> str:
    """Returns a new run id; it encodes the registry that decides about the thread."""
    return for_thread(new_id(), thread_id)


def is_uuid(value: str) -> bool:
    return _UUID.fullmatch(value) is not None


def uuid_of(value: str, what: Literal["thread", "run", "assistant", "cron", "delivery"]) -> str:
    """Returns a UUID in its canonical form. Raises InvalidRequest if it is not a UUID."""
    if not is_uuid(value):
        raise InvalidRequest(f"Invalid {what} ID: must be a UUID")
    return value.lower()


def thread_id_of(dialect: Dialect, value: str) -> str:
    """Checks a thread's id by the mount's rules; a UUID names the same thread on both mounts."""
    if is_uuid(value):
        return value.lower()
    if dialect.uuid_thread_ids:
        return uuid_of(value, "thread")
    # A slash would be printable, but no path could name the thread.
    if not 1 <= len(value) <= _MAX_ID or not value.isprintable() or "/" in value:
        raise InvalidRequest(
            f"Invalid thread ID: must be 1 to {_MAX_ID} printable characters other than a slash"
        )
    return value


def path_of(dialect: Dialect, thread_id: str, run_id: str) -> str:
    """Returns the path of a run, for ``Content-Location``."""
    return f"{dialect.prefix}/threads/{quote(thread_id, safe='')}/runs/{run_id}"


def text(request: Request, name: str) -> str | None:
    """Returns a query value, the last one of several; None for an absent or empty one."""
    return request.query_params.get(name) or None


def flag(request: Request, name: str) -> bool:
    """Returns whether a query value is ``true`` or ``1``, as in LangGraph's server."""
    return (text(request, name) or "").lower() in _TRUE


def number(request: Request, name: str, default: int | None) -> int | None:
    """Returns a query value that is a count, or the default.

    Raises:
        BadRequest: the value is not a number; the message is that of LangGraph's server.
        InvalidRequest: the value is negative or too large.
    """
    value = text(request, name)
    if value is None:
        return default
    if not re.fullmatch(r"[+-]?\d+", value, re.ASCII):
        raise BadRequest(f"invalid literal for int() with base 10: {value!r}")
    if len(value) > 10 or not 0 <= int(value) <= MAX_OFFSET:
        raise InvalidRequest(f"{name} must be between 0 and {MAX_OFFSET}, not {value[:20]}.")
    return int(value)


def texts(request: Request, *names: str) -> list[str]:
    """Returns a query list, given as JSON array, repeated keys, commas, or any mixture."""
    found: list[str] = []
    for name in names:
        for value in request.query_params.getlist(name):
            found += _items(value)
    return found


def _items(value: str) -> list[str]:
    if value.startswith(("[", '"')):
        try:
            parsed: Any = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise InvalidRequest(f"{value[:80]!r} is neither a list nor JSON.") from None
        items = parsed if is_list(parsed) else [parsed]
        if not all(isinstance(item, str) for item in items):
            raise InvalidRequest(f"{value[:80]!r} must be a list of strings.")
        return [item for item in items if item]
    return [item for part in value.split(",") if (item := part.strip())]


def chosen(request: Request, name: str, fields: Sequence[str]) -> list[str] | None:
    """Returns the fields in a list route's ``select``; None for all. Raises InvalidRequest."""
    names = texts(request, name)
    for field in names:
        if field not in fields:
            raise InvalidRequest(f"{name} may hold {', '.join(fields)}, not {field[:80]!r}.")
    return names or None


def modes_of(request: Request) -> frozenset[str] | None:
    """Returns a joiner's ``stream_mode`` filter; None for all modes. Raises InvalidRequest."""
    modes = texts(request, "stream_mode")
    for mode in modes:
        if mode not in STREAM_MODES:
            raise InvalidRequest(f"Invalid stream mode: {mode[:80]}")
    return frozenset(modes) or None


def action_of(request: Request) -> CancelAction:
    """Returns a cancel's action; an unknown value means interrupt, as in LangGraph's server."""
    return "rollback" if text(request, "action") == "rollback" else "interrupt"
