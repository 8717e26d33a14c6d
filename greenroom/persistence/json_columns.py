"""JSON in the columns of the database.

A ``jsonb`` column is returned parsed, a ``json`` column as `orjson.Fragment` with the stored bytes,
since those values are only passed on.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.json import set_json_dumps, set_json_loads


def register_json(conn: AsyncConnection[Any]) -> None:
    set_json_loads(_decode_stored, conn)
    set_json_dumps(encode, conn)
    conn.adapters.register_loader("json", _FragmentLoader)
    conn.adapters.register_loader("json", _BinaryFragmentLoader)


def encode(value: Any) -> bytes:
    """Encodes JSON with orjson, or with json for integers beyond 64 bits and non-string keys."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _decode_stored(data: str | bytes) -> Any:
    return json.loads(data) if len(data) <= _FEW_BYTES else decode(data)


_LONG_NUMBER = re.compile(rb"\d{19}")
_FEW_BYTES = 4096
"""Up to this size, to look for a long number takes longer than to parse with json."""


def decode(data: str | Buffer) -> Any:
    """Parses JSON; an integer beyond 64 bits stays an integer, which orjson would make a float."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    return json.loads(raw) if _LONG_NUMBER.search(raw) else orjson.loads(raw)


class _FragmentLoader(Loader):
    format = Format.TEXT

    def load(self, data: Buffer) -> orjson.Fragment:
        return orjson.Fragment(bytes(data))


class _BinaryFragmentLoader(_FragmentLoader):
    format = Format.BINARY
