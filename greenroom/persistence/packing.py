"""Packs a value of a state as msgpack in LangGraph's format, and says whether it comes back equal.

LangGraph encodes some values as something else without a word: a tuple as a list, what a model
holds as dicts, a dataclass by the arguments of a constructor that may refuse or change them. Here
these are packed as they are where the format can do that. A value of a class that decides itself
what it is made from is in doubt: whoever packs it reads it, and compares.
"""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import decimal
import io
import ipaddress
import pathlib
import pickle
import re
import sys
import uuid
import zoneinfo
from collections import Counter, deque
from enum import Enum
from functools import lru_cache
from typing import Any, cast

import ormsgpack
from langgraph.types import Send
from pydantic import BaseModel

from greenroom.langgraph_internals import (
    MSGPACK_ARGUMENT,
    MSGPACK_ARGUMENTS,
    MSGPACK_DELTA,
    MSGPACK_KEYWORDS,
    MSGPACK_MODEL,
    MSGPACK_OPTION,
    DeltaSnapshot,
    msgpack_default,
)

_OPTION = MSGPACK_OPTION | ormsgpack.OPT_PASSTHROUGH_TUPLE | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
_STRING_KEYS = _OPTION & ~ormsgpack.OPT_NON_STR_KEYS

_EXACT = frozenset(
    {
        dt.date,
        dt.timedelta,
        dt.time,
        dt.timezone,
        zoneinfo.ZoneInfo,
        decimal.Decimal,
        uuid.UUID,
        re.Pattern,
        type(pathlib.Path()),
        ipaddress.IPv4Address,
        ipaddress.IPv4Interface,
        ipaddress.IPv4Network,
        ipaddress.IPv6Address,
        ipaddress.IPv6Interface,
        ipaddress.IPv6Network,
    }
)
"""Classes without other values in them, which LangGraph gives back as they were."""
_OF_LIBRARIES = ("langchain_core.", "langgraph.")
_BASES = (str, int, float, bytes, dict, list)


def pack(value: Any) -> tuple[bytes, bool]:
    """Packs a value; returns whether it is in doubt too.

    Raises:
        TypeError: msgpack does not give the value back.
        Exception: of the value's own code.
    """
    packing = _Packing(_STRING_KEYS)
    try:
        return packing.pack(value), packing.doubts
    except Exception:  # keys that are no strings, or user code, whose error the second attempt has
        if packing.refuses:
            raise
    # A key that is no string may come back as one: a date does.
    return _Packing(_OPTION).pack(value), True


class _Packing:
    """One attempt to pack a value.

    Attributes:
        doubts: whether the result has to be read and compared.
        refuses: whether a part of the value is known not to come back.
    """

    def __init__(self, option: int) -> None:
        self._option = option
        self.doubts = False
        self.refuses = False

    def pack(self, value: Any) -> bytes:
        return ormsgpack.packb(value, default=self._encode, option=self._option)

    def _encode(self, obj: Any) -> Any:
        kind = cast(Any, type(obj))
        if kind is tuple or kind is set or kind is frozenset or (kind is deque and not obj.maxlen):
            return self._made_of(kind, MSGPACK_ARGUMENT, list(obj))
        if kind in _EXACT:
            return msgpack_default(obj)
        if is_odd(obj) or _is_own_base(kind):
            self.refuses = True
            raise TypeError(f"{kind.__module__}.{kind.__qualname__} is not msgpack")
        if kind is dt.datetime:
            return self._moment(obj)
        if isinstance(obj, BaseModel):
            self._doubt(kind)
            # Not by `model_dump`: it makes dicts of what the model holds.
            values = {**vars(obj), **(obj.__pydantic_extra__ or {})}
            return self._made_of(kind, MSGPACK_MODEL, values, "model_validate_json")
        if isinstance(obj, DeltaSnapshot):
            return ormsgpack.Ext(MSGPACK_DELTA, self.pack(cast(Any, obj).value))
        if isinstance(obj, Send):
            timeout = [] if obj.timeout is None else [obj.timeout]
            return self._made_of(kind, MSGPACK_ARGUMENTS, [obj.node, obj.arg, *timeout])
        if isinstance(obj, Enum):
            self._doubt(kind)
            return self._made_of(kind, MSGPACK_ARGUMENT, obj.value)
        if isinstance(obj, _BASES):  # a library's `str` or `dict`
            base = next(base for base in _BASES if issubclass(kind, base))
            return cast(Any, base)(obj)
        if dataclasses.is_dataclass(obj):
            self._doubt(kind)
            names = [each.name for each in dataclasses.fields(obj)]
            return self._made_of(kind, MSGPACK_KEYWORDS, {n: getattr(obj, n) for n in names})
        if isinstance(obj, tuple) and hasattr(kind, "_fields"):
            self._doubt(kind)
            return self._made_of(kind, MSGPACK_KEYWORDS, cast(Any, obj)._asdict())
        self.doubts = self.doubts or not _is_array(obj)
        return msgpack_default(obj)

    def _moment(self, obj: dt.datetime) -> Any:
        if not obj.fold and (obj.tzinfo is None or obj.tzinfo is dt.UTC):
            return msgpack_default(obj)
        # An ISO string has the offset, and not the zone.
        names = (
            "year",
            "month",
            "day",
            "hour",
            "minute",
            "second",
            "microsecond",
            "tzinfo",
            "fold",
        )
        return self._made_of(dt.datetime, MSGPACK_KEYWORDS, {n: getattr(obj, n) for n in names})

    def _doubt(self, kind: type) -> None:
        self.doubts = self.doubts or not kind.__module__.startswith(_OF_LIBRARIES)

    def _made_of(self, kind: type, code: int, *parts: Any) -> ormsgpack.Ext:
        return ormsgpack.Ext(code, self.pack([kind.__module__, kind.__name__, *parts]))


def is_odd(obj: Any) -> bool:
    """Returns whether LangGraph's serialiser gives another value back, without a word."""
    if isinstance(obj, BaseException):
        return True  # its `repr`
    if isinstance(obj, dt.datetime | dt.date | dt.time | dt.timedelta):
        return type(obj).__module__ != "datetime"  # a string, for pandas' classes
    # An array of objects becomes None, a structured one loses its fields, a masked one its mask.
    return _is_of_numpy(obj) and not _is_array(obj)


def _is_own_base(kind: type) -> bool:
    """Whether a class is somebody's `str` or `dict`, which would lose what makes it one."""
    return (
        issubclass(kind, _BASES)
        and not issubclass(kind, Enum)
        and not kind.__module__.startswith(_OF_LIBRARIES)
    )


def _is_of_numpy(obj: Any) -> bool:
    return "numpy" in sys.modules and isinstance(obj, sys.modules["numpy"].ndarray)


def _is_array(obj: Any) -> bool:
    kind = cast(Any, type(obj))
    return (kind.__module__, kind.__name__) == (
        "numpy",
        "ndarray",
    ) and obj.dtype.kind in "biufcmMSU"


class _TolerantPickler(pickle.Pickler):
    """Pickles exceptions whose ``__init__`` takes other arguments than those that they keep."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, BaseException) or type(obj).__reduce__ is not _REDUCE:
            return NotImplemented
        # Made without `__init__`, which would be called with what the exception keeps.
        return copyreg.__newobj__, (type(obj), *obj.args), vars(obj) or None  # pyright: ignore


_REDUCE: Any = BaseException.__reduce__


def pickled(value: Any) -> bytes:
    """Pickles a value.

    Raises:
        Exception: it cannot be pickled, or not be read.
    """
    try:
        data = pickle.dumps(value)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - user code is run here: `__reduce__`
        written = io.BytesIO()
        _TolerantPickler(written).dump(value)
        data = written.getvalue()
        pickle.loads(data)
    return data


def same(left: Any, right: Any) -> bool:
    """Returns whether two values are of the same classes and equal, part by part."""
    kind = cast(Any, type(left))
    if kind is not type(right):
        return False
    if left is right:
        return True
    if kind in (str, int, bytes):
        return left == right
    if kind in (list, tuple, deque):
        return (
            len(left) == len(right)
            and (kind is not deque or left.maxlen == right.maxlen)
            and all(map(same, left, right))
        )
    if kind is dict:
        return (
            len(left) == len(right)
            and all(map(same, left, right))
            and all(map(same, left.values(), right.values()))
        )
    if kind in (set, frozenset):
        return left == right and Counter(map(type, left)) == Counter(map(type, right))
    if kind is float:
        return left == right or (left != left and right != right)
    if _is_of_numpy(left):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    attributes = _attributes(left)
    if not same(attributes, _attributes(right)):
        return False
    if dataclasses.is_dataclass(left):
        return True
    return bool(left == right) or (kind.__eq__ is object.__eq__ and bool(attributes))


def _attributes(obj: Any) -> dict[str, Any]:
    """Returns what an object has in its `__dict__` and its slots."""
    kind = cast(Any, type(obj))
    found: dict[str, Any] = dict(getattr(obj, "__dict__", ()))
    found.pop("__orig_class__", None)  # what a generic class was called with
    found.update((name, getattr(obj, name)) for name in _slots(kind) if hasattr(obj, name))
    return found


@lru_cache(maxsize=1000)
def _slots(kind: type) -> tuple[str, ...]:
    """Returns the names under which objects of a class keep values outside their `__dict__`."""
    found: list[str] = []
    for cls in kind.__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name.startswith("__") and not name.endswith("__"):  # Python's mangling
                found.append(f"_{cls.__name__.lstrip('_')}{name}")
            elif name not in _NO_VALUES:
                found.append(name)
    return tuple(found)


_NO_VALUES = ("__dict__", "__weakref__", "__fields_set__", "__pydantic_fields_set__")
