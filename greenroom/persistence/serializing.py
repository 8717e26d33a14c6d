"""Serialises the values of states: each comes back equal, or is refused.

LangGraph's serialiser (msgpack) refuses many values that people have in states, such as NumPy's
scalars and pandas' frames, and changes some without a word. Such a value is pickled, in LangGraph's
own format for that (``pickle_fallback``), if it comes back from there. Values come from the graph's
code only, never from a client's JSON, and only processes that run this code read them.

With ``LANGGRAPH_STRICT_MSGPACK`` nothing is pickled, and only types that may be read back are kept:
LangGraph's safe ones and those of the graph's schemas. ``checkpointer.serde`` of `langgraph.json`
goes before that variable (`Keeping`); with a list of types it pickles nothing unless it says so.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Set
from types import ModuleType
from typing import Any, cast

import ormsgpack
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from greenroom.core.errors import NotKept
from greenroom.core.keeping import Allowed, Keeping
from greenroom.core.raised import message_of, representation
from greenroom.langgraph_internals import (
    MSGPACK_OPTION,
    STRICT_MSGPACK,
    TUPLE,
    msgpack_default,
)
from greenroom.persistence.packing import is_odd, pack, pickled, same
from greenroom.sealing import UNSEALED, Sealing

STRICT_VARIABLE = "LANGGRAPH_STRICT_MSGPACK"
MAX_DEPTH = 20
"""The depth of the search for the part of a value that cannot be kept."""


class StateSerializer(JsonPlusSerializer):
    """LangGraph's serialiser; it pickles values that msgpack would not return unchanged.

    Args:
        keeping: the rules of `langgraph.json`.
        strict: the rules where that says nothing: nothing is pickled, and only types that LangGraph
            knows are kept.
        sealing: seals what is stored.
    """

    def __init__(
        self,
        keeping: Keeping | None = None,
        *,
        strict: bool = STRICT_MSGPACK,
        sealing: Sealing = UNSEALED,
    ) -> None:
        self.sealing = sealing
        said = keeping or Keeping()
        types = said.types
        if types is None:
            types = frozenset[tuple[str, ...]]() if strict else True
        self._all_types = types is True
        self._pickles = self._all_types if said.pickle is None else said.pickle
        self._forbidden_by = (
            STRICT_VARIABLE
            if said.types is None and said.pickle is None
            else "'checkpointer.serde' of langgraph.json"
        )
        super().__init__(
            pickle_fallback=self._pickles,
            allowed_json_modules=_listed(said.json_types),
            allowed_msgpack_modules=types if types is True else (TUPLE, *types),
        )

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Serialises a value.

        Raises:
            NotKept: the value would not come back; the message names its type.
        """
        kind, data = self._serialised(obj)
        return kind, self.sealing.seal(data)

    def _serialised(self, obj: Any) -> tuple[str, bytes]:
        if obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        problem: Exception = TypeError("msgpack does not give it back")
        try:
            data, is_in_doubt = pack(obj)
            if not is_in_doubt and self._all_types:
                return "msgpack", data
            read, blocked = self._read(data)
            if blocked:
                return self._as_langgraph(obj, problem)
            if not is_in_doubt or same(read, obj):
                return "msgpack", data
        except NotKept:
            raise
        except Exception as error:  # noqa: BLE001 - user code is run here: `__init__`, properties
            problem = error
        return self._otherwise(obj, problem)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Reads a value.

        Raises:
            NotKept: a class of the value is not here any more.
            CannotOpen: the value is sealed and cannot be opened.
        """
        if data[1]:  # LangGraph passes None for a value without bytes
            data = data[0], self.sealing.open(data[1])
        if data[0] == "pickle" and not self._pickles:
            raise NotKept(
                f"A value of the state was pickled, and {self._forbidden_by} does not allow to read"
                " it. Allow it there, or start with a new thread."
            )
        try:
            return super().loads_typed(data)
        except Exception as error:
            if data[0] != "pickle":
                raise
            reason = f"{type(error).__name__}: {message_of(error)}"
            raise NotKept(
                f"A value of the state cannot be read ({reason}). It was written by code that this"
                " process does not have: install what is missing, or keep plain values."
            ) from error

    def _otherwise(self, obj: Any, problem: Exception) -> tuple[str, bytes]:
        """Serialises a value that msgpack does not give back."""
        if self._pickles:
            try:
                data = pickled(obj)  # read once: much can be pickled and not be read
            except Exception as error:  # noqa: BLE001 - user code is run here: `__reduce__`
                problem = error
            else:
                return "pickle", data
        return self._as_langgraph(obj, problem)

    def _as_langgraph(self, obj: Any, problem: Exception) -> tuple[str, bytes]:
        """Serialises a value as LangGraph does, which changes some."""
        try:
            # As LangGraph does: an exception that cannot be kept is kept as its `repr`.
            data = _packed(obj, msgpack_default)
        except Exception:  # noqa: BLE001 - as above
            data = None
        if data is None or any(not _is_exception(part) for part in _odd_parts(obj)):
            raise NotKept(self._refusal(obj, problem)) from problem
        if not self._all_types:
            self._refuse_blocked(data)
        return "msgpack", data

    def _refuse_blocked(self, data: bytes) -> None:
        """Refuses what would be read as something else."""
        _, blocked = self._read(data)
        if blocked:
            raise NotKept(
                f"has a {blocked[0]}, which {self._forbidden_by} does not allow. {self._remedy()}"
            )

    def _read(self, data: bytes) -> tuple[Any, list[str]]:
        """Reads what was packed; returns the types too that may not be read."""
        blocked: list[str] = []
        thread = threading.get_ident()

        def note(event: SerdeEvent) -> None:
            is_ours = threading.get_ident() == thread
            if is_ours and event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
                blocked.append(f"{event['module']}.{event['name']}")

        forget = register_serde_event_listener(note)
        try:
            return super().loads_typed(("msgpack", data)), blocked
        finally:
            forget()

    def _remedy(self) -> str:
        if self._forbidden_by == STRICT_VARIABLE:
            return (
                "Name the type in the graph's state schema, keep a plain value instead, or unset"
                " that variable."
            )
        return "Name the type in its 'allowed_msgpack_modules', or keep a plain value instead."

    def _refusal(self, obj: Any, problem: Exception) -> str:
        """Returns the problem of a value and its place in the state; the text follows a subject."""
        where, part = _culprit(obj, pickles=self._pickles)
        place = f" at {where}" if where else ""
        how, reason = f"{self._forbidden_by} does not allow", ""
        if self._pickles:
            how, reason = "cannot be stored", f" ({type(problem).__name__}: {message_of(problem)})"
        return (
            f"has a {_name(cast(Any, type(part)))}{place}, which {how}{reason}. Keep a value"
            " instead from which it can be made again, or make it in the node that uses it."
        )


def _listed(types: Allowed | None) -> Any:
    """Returns allowed types as LangGraph takes them."""
    return tuple(types) or None if isinstance(types, frozenset) else types


def _packed(obj: Any, default: Any) -> bytes:
    return ormsgpack.packb(obj, default=default, option=MSGPACK_OPTION)


def _is_exception(part: Any) -> bool:
    return isinstance(part, BaseException)


def _odd_parts(obj: Any) -> Iterator[Any]:
    return (part for _, part in _parts(obj, "", 0, set()) if is_odd(part))


def _culprit(obj: Any, *, pickles: bool) -> tuple[str, Any]:
    """Returns the innermost part of a value that cannot be kept, and its place."""
    found = ("", obj)
    for where, part in _parts(obj, "", 0, set()):
        if where.startswith(found[0]) and not _can_be_kept(part, pickles):
            found = (where, part)
    return found


def _can_be_kept(part: Any, pickles: bool) -> bool:
    try:
        if pickles:
            pickled(part)
        else:
            pack(part)
    except Exception:  # noqa: BLE001 - user code is run here
        return False
    return True


def _parts(obj: Any, where: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yields a value and everything in it, with the place; what contains comes first."""
    yield where, obj
    if depth >= MAX_DEPTH or id(obj) in seen:
        return
    seen.add(id(obj))
    try:
        inner = _inner(obj, where)
    except Exception:  # noqa: BLE001 - user code is run here: `items`, properties
        inner = []
    for place, value in inner:
        yield from _parts(value, place, depth + 1, seen)


def _inner(obj: Any, where: str) -> list[tuple[str, Any]]:
    inner: list[tuple[str, Any]] = []
    if isinstance(obj, Mapping):
        items = cast(Mapping[Any, Any], obj).items()
        inner = [(f"{where}[{key!r}]"[:200], value) for key, value in items]
    elif isinstance(obj, list | tuple):
        inner = [(f"{where}[{n}]", value) for n, value in enumerate(cast(list[Any], obj))]
    elif isinstance(obj, Set):
        inner = [(f"{where}{{...}}", value) for value in cast(Set[Any], obj)]
    elif not isinstance(obj, type | str | bytes | ModuleType) and isinstance(
        known := getattr(obj, "__dict__", None), dict
    ):
        inner = [(f"{where}.{name}", value) for name, value in cast(dict[str, Any], known).items()]
    return inner


def _name(kind: Any) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


def storable(value: Any) -> Any:
    """Returns what is stored for a value that a task has written."""
    # LangGraph stores the `repr` of a node's exception, which may have 10 MB, or raise itself.
    return representation(value) if isinstance(value, BaseException) else value


def is_plain(value: object) -> bool:
    """Returns whether jsonb returns a value unchanged."""
    if value is None or type(value) in (bool, int):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:
        return "\0" not in value and (value.isascii() or not _has_surrogates(value))
    return False


def _has_surrogates(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False
