"""JSON: encodes any value of a graph as compact bytes, without an exception, and decodes JSON.

The fast path is orjson with a hook for types that orjson does not know (messages, pydantic models,
sets, exceptions). orjson rarely refuses a value (for a key that is not a string, a lone surrogate,
an integer beyond 64 bits, or a value that contains itself). Only then the slow path walks the value
in Python and makes an acceptable copy. Otherwise such a state would fail a run that has succeeded.

Neither LangGraph nor LangChain is imported: gateway and registry encode too, and importing
LangGraph costs them a second. Their types are recognised by their methods and attributes.

    bytes                    base64                 a tuple with names    an object
    an exception             {"error", "message"}   NaN, infinities       null
    an integer > 64 bit      its digits             a lone surrogate      U+FFFD
    a value inside itself    "<circular>"           anything else         its repr
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence, Set, ValuesView
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, TypeGuard, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from greenroom.core.errors import InvalidRequest
from greenroom.core.raised import told

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_MAX_DEPTH = 200
"""orjson gives up at 254 levels, counting those that the hook adds."""
_FEW_BYTES = 512
"""Up to this size the bytes are copied. orjson reserves 1 KiB and gives back what it has not used;
where the bytes are kept, as in an event log, that costs 2 µs, and the copy a tenth of that."""

INVALID_JSON = "Invalid JSON in request body"
_CIRCULAR = "<circular>"
_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(value: object) -> bytes:
    """Encodes a value as compact JSON; an `orjson.Fragment` in it is inserted unchanged."""
    try:
        data = orjson.dumps(value, _known, _OPTIONS)
    except (TypeError, RecursionError):
        data = orjson.dumps(_mended(value, [], 0), _known, _OPTIONS)
    return data if len(data) > _FEW_BYTES else b"%b" % data


def loads(data: bytes | str) -> Any:
    """Parses JSON.

    Raises:
        InvalidRequest: ``data`` is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidRequest(INVALID_JSON) from None


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether parsed JSON is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether parsed JSON is a list."""
    return isinstance(value, list)


def _known(value: object) -> Any:
    """Converts a value one step towards JSON, as orjson's hook. Never raises."""
    try:
        if isinstance(value, BaseModel):
            return _model(value)
        encode = _encoder(type(value))
        return repr(value) if encode is None else encode(value)
    except Exception as error:  # noqa: BLE001 - foreign code (properties, __repr__) is run here
        return f"<{type(value).__name__}: {type(error).__name__} while encoding>"


def _model(value: BaseModel) -> Any:
    # Encoding to bytes is three times as fast as a dict for orjson, and matters: every token that a
    # model streams passes here.
    try:
        return orjson.Fragment(value.__pydantic_serializer__.to_json(value, warnings=False))
    except (PydanticSerializationError, ValueError, TypeError, AttributeError):
        # pydantic does not know a value in the model; the hook then gets the fields one by one.
        return dict(value)


_BY_TYPE: dict[type, Callable[[Any], Any]] = {
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
    memoryview: lambda value: base64.b64encode(value).decode(),
    BaseException: told,
    Mapping: dict,
    MappingProxyType: dict,
    Set: list,
    deque: list,
    KeysView: list,
    ValuesView: list,
    ItemsView: list,
    Decimal: str,
    Fraction: str,
    PurePath: str,
    IPv4Address: str,
    IPv6Address: str,
    IPv4Network: str,
    IPv6Network: str,
    ZoneInfo: str,
    UUID: str,
    date: lambda value: value.isoformat(),
    time: lambda value: value.isoformat(),
    timedelta: lambda value: value.total_seconds(),
    re.Pattern: lambda value: value.pattern,
    complex: repr,
    type: repr,
    Enum: lambda value: value.value,
}

_BY_METHOD = ("model_dump", "_asdict", "to_dict", "tolist", "dict", "unicode_string")
"""The conversion methods of foreign types: pydantic models, named tuples, arrays, old pydantic,
pydantic's addresses."""


@lru_cache(maxsize=512)
def _encoder(kind: type[Any]) -> Callable[[Any], Any] | None:
    """Returns a function that makes values of a type simpler, or None for an unknown type."""
    if kind.__name__ == "Send" and hasattr(kind, "node") and hasattr(kind, "arg"):
        return lambda value: {"node": value.node, "input": value.arg}
    for base, encode in _BY_TYPE.items():
        if issubclass(kind, base):
            return encode
    for name in _BY_METHOD:
        if callable(getattr(kind, name, None)):
            return lambda value: _simpler(value, getattr(value, name)())
    if issubclass(kind, tuple):
        return list
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if attributes is not None:
        return lambda value: {a.name: getattr(value, a.name) for a in attributes}
    return None


def _simpler(value: Any, converted: Any) -> Any:
    if type(converted) is not type(value):
        return converted
    return float(value) if hasattr(value, "__float__") else repr(value)  # NumPy's `longdouble`


def _mended(value: Any, inside: list[int], depth: int) -> Any:
    """Returns a copy of ``value`` that orjson accepts; this is the slow path.

    Args:
        inside: the ids of the containers around the value, to detect a cycle.
        depth: the number of containers around the value.
    """
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Enum):
        return _mended(value.value, inside, depth + 1)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, orjson.Fragment):
        return value
    if id(value) in inside:
        return _CIRCULAR
    if depth >= _MAX_DEPTH:
        return f"<{type(value).__name__}: nested too deeply>"
    inside.append(id(value))
    try:
        if isinstance(value, Mapping):
            items = list(cast(Mapping[Any, Any], value).items())
            return {_key(key): _mended(item, inside, depth + 1) for key, item in items}
        if isinstance(value, list) or type(value) is tuple:
            members = cast(Sequence[Any], value)
            return [_mended(item, inside, depth + 1) for item in members]
        if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
            return {
                name: _mended(getattr(value, name, None), inside, depth + 1)
                for name in value.__dataclass_fields__
                if not name.startswith("_")
            }
        try:
            return orjson.Fragment(orjson.dumps(value, None, _OPTIONS))
        except (TypeError, RecursionError):
            simpler = _known(value)
            return simpler if simpler is value else _mended(simpler, inside, depth + 1)
    finally:
        inside.pop()


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(key)
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, date | time):
        return key.isoformat()
    return _text(str(key))


def _text(text: str) -> str:
    if _SURROGATE.search(text):
        # A surrogate pair becomes its character; a lone surrogate has no meaning.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return str.__str__(text)  # orjson refuses a key of a subclass


def _integer(value: int) -> int | orjson.Fragment:
    if -(2**63) <= value < 2**64:
        return int(value)
    try:
        return orjson.Fragment(str(int(value)).encode())
    except ValueError:  # Python refuses to convert integers of several thousand digits
        return orjson.Fragment(f'"{hex(value)}"'.encode())
