"""State at rest: seals what is stored of runs, threads and the store, and opens what is read.

    value ──serialise──> bytes ──seal──> PostgreSQL ──open──> bytes ──deserialise──> value

What is sealed: states (checkpoints, writes of tasks, values, interrupts), inputs and configuration
of runs and crons, events, errors, items of the store, and webhooks that wait to be sent. What is
searched or decides about a run stays as it is: ids, statuses, times, metadata, names of channels,
keys of JSON objects, and the vectors of the store.

Of a JSON object each value is sealed and each key stays, so that the database can choose keys of
what it cannot read. Binary data begins with a mark. So data that an earlier server has stored
unsealed is read as well.

| module | contents |
|---|---|
| `aes` | AES-GCM with keys of the settings |
| `handlers` | the handlers of a project, from ``encryption`` of `langgraph.json` |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
import orjson

from greenroom.core.errors import GreenroomError

T = TypeVar("T")

MARK = b"\0greenroom sealed\0"
"""The begin of sealed binary data."""
WHOLE = "greenroom.sealed"
"""The only key of the object that stands for sealed JSON that is no object."""

_Object = dict[str, msgspec.Raw]


class CannotOpen(GreenroomError):
    """Stored data is sealed, and this server cannot open it."""

    status_hint = 503


class Cipher(Protocol):
    """Seals and opens data. Its methods may be called in any thread.

    Attributes:
        is_slow: whether a call may take longer than a moment, so that it gets a thread.
    """

    is_slow: bool

    def seal(self, data: bytes) -> bytes: ...
    def open(self, data: bytes) -> bytes:
        """Opens what `seal` has made.

        Raises:
            CannotOpen: the key is missing, or the data was changed.
        """
        ...

    def seal_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Seals the values of an object, each as JSON; the result has the same keys."""
        ...

    def open_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Opens the values that are sealed, and leaves the others. Raises as `open`."""
        ...


class Sealing:
    """Seals and opens, or leaves everything as it is.

    Args:
        cipher: None: nothing is sealed, and nothing sealed can be opened.
    """

    def __init__(self, cipher: Cipher | None = None) -> None:
        self._cipher = cipher

    @property
    def is_on(self) -> bool:
        return self._cipher is not None

    @property
    def is_slow(self) -> bool:
        return self._cipher is not None and self._cipher.is_slow

    async def apart(self, work: Callable[..., T], *args: Any, large: bool = False) -> T:
        """Calls a function that seals or opens; in a thread if that may take long.

        Args:
            work: the function.
            args: its arguments.
            large: it copies several megabytes, which takes as long as sealing.
        """
        if self.is_slow or large:
            return await asyncio.to_thread(work, *args)
        return work(*args)

    def seal(self, data: bytes) -> bytes:
        return data if self._cipher is None else MARK + self._cipher.seal(data)

    def open(self, data: bytes) -> bytes:
        """Opens binary data if it is sealed.

        Raises:
            CannotOpen: it is sealed and cannot be opened.
        """
        if not data.startswith(MARK):
            return data
        if self._cipher is None:
            raise CannotOpen(
                "The state is encrypted, and this server has no key: set GREENROOM_ENCRYPTION_KEYS,"
                " or 'encryption' in langgraph.json, as it was."
            )
        return self._cipher.open(data[len(MARK) :])

    def seal_json(self, text: bytes) -> bytes:
        """Seals JSON: each value of an object, anything else as a whole. ``null`` stays."""
        if self._cipher is None or text == b"null":
            return text
        return _encoded(self._cipher.seal_fields(_fields_of(text) or {WHOLE: text}))

    def open_json(self, text: bytes) -> bytes:
        """Opens what `seal_json` has made, and leaves other JSON. Raises as `open`."""
        if self._cipher is None:
            return text
        fields = _fields_of(text)
        if not fields:
            return text
        opened = self._cipher.open_fields(fields)
        return opened[WHOLE] if [*opened] == [WHOLE] else _encoded(opened)

    def open_whole(self, text: bytes) -> bytes:
        """Opens one encoded value of `seal_values`. Raises as `open`."""
        if self._cipher is None:
            return text
        return self._cipher.open_fields({WHOLE: text})[WHOLE]

    def seal_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Seals the values of an object that is not encoded; parts of it may be encoded JSON.

        Returns:
            an object with the same keys and encoded values.
        """
        if self._cipher is None or not given:
            return dict(given)
        sealed = self._cipher.seal_fields({k: orjson.dumps(each) for k, each in given.items()})
        return {name: orjson.Fragment(each) for name, each in sealed.items()}

    def open_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Opens the values of an object that is not encoded. Raises as `open`."""
        if self._cipher is None or not given:
            return dict(given)
        opened = self._cipher.open_fields({k: orjson.dumps(each) for k, each in given.items()})
        return {name: orjson.loads(each) for name, each in opened.items()}


UNSEALED = Sealing()


def _fields_of(text: bytes) -> dict[str, bytes] | None:
    """Returns the encoded values of an object; None for any other JSON."""
    try:
        return {name: bytes(raw) for name, raw in msgspec.json.decode(text, type=_Object).items()}
    except msgspec.ValidationError:
        return None


def _encoded(fields: Mapping[str, bytes]) -> bytes:
    return orjson.dumps({name: orjson.Fragment(each) for name, each in fields.items()})
