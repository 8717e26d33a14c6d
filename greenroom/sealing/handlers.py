"""Seals by the handlers of a project: a `langgraph_sdk.Encryption` that `langgraph.json` names.

The handlers are asynchronous and may ask a service for keys. They run on an event loop in a thread
of their own, each call within `TIMEOUT_S`, so that one that blocks holds up nothing but what it is
to seal or open.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

import orjson

from greenroom.core.errors import GreenroomError
from greenroom.core.raised import message_of, name_of
from greenroom.sealing import WHOLE, CannotOpen

TIMEOUT_S = 30.0

T = TypeVar("T")
Handler = Callable[[Any, Any], Awaitable[Any]]


class CannotSeal(GreenroomError):
    """A handler failed to encrypt; nothing was stored."""

    status_hint = 503


class Handlers:
    """Implements `greenroom.sealing.Cipher`.

    Args:
        seal_blob, open_blob, seal_json, open_json: the handlers; None leaves such data as it is.
        context: makes the first argument of a handler from the kind of data.
    """

    is_slow = True

    def __init__(
        self,
        *,
        seal_blob: Handler | None,
        open_blob: Handler | None,
        seal_json: Handler | None,
        open_json: Handler | None,
        context: Callable[[], Any],
    ) -> None:
        self._seal_blob, self._open_blob = seal_blob, open_blob
        self._seal_json, self._open_json = seal_json, open_json
        self._context = context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def seal(self, data: bytes) -> bytes:
        if self._seal_blob is None:
            return data
        sealed = self._called(self._seal_blob, data, "encrypt.blob")
        if not isinstance(sealed, bytes):
            raise CannotSeal("The handler encrypt.blob must return bytes.")
        return sealed

    def open(self, data: bytes) -> bytes:
        if self._open_blob is None:
            return data
        opened = _plain(self._called(self._open_blob, data, "decrypt.blob", CannotOpen))
        if not isinstance(opened, bytes):
            raise CannotOpen("The handler decrypt.blob must return bytes.")
        return opened

    def seal_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        if self._seal_json is None:
            return dict(fields)
        sealed = self._called(self._seal_json, _loaded(fields), "encrypt.json")
        return _dumped(sealed, fields, "encrypt.json", CannotSeal)

    def open_fields(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        if self._open_json is None:
            return dict(fields)
        opened = _plain(self._called(self._open_json, _loaded(fields), "decrypt.json", CannotOpen))
        return _dumped(opened, fields, "decrypt.json", CannotOpen)

    def _called(
        self,
        handler: Handler,
        data: Any,
        name: str,
        failure: type[GreenroomError] = CannotSeal,
    ) -> Any:
        call = cast("Coroutine[Any, Any, Any]", handler(self._context(), data))
        called = asyncio.run_coroutine_threadsafe(call, self._own_loop())
        try:
            return called.result(TIMEOUT_S)
        except concurrent.futures.TimeoutError:
            called.cancel()
            raise failure(f"The handler {name} did not return within {TIMEOUT_S:g} s.") from None
        except Exception as error:
            raise failure(
                f"The handler {name} failed: {name_of(error)}: {message_of(error)[:300]}"
            ) from error

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._loop.run_forever, name="encryption", daemon=True
                )
                thread.start()
            return self._loop


def _plain(given: Any) -> Any:
    # `DecryptResult`: its replacement is not stored; what is read may be written by others.
    return getattr(given, "plaintext", given)


def _loaded(fields: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: orjson.loads(each) for name, each in fields.items()}


def _dumped(
    given: Any, fields: Mapping[str, bytes], name: str, failure: type[GreenroomError]
) -> dict[str, bytes]:
    if not isinstance(given, dict) or {*cast("dict[Any, Any]", given)} != {*fields}:
        known = ", ".join(sorted(fields)[:5]) if WHOLE not in fields else "one value"
        raise failure(f"The handler {name} must return an object with the keys it got ({known}).")
    values = cast("dict[str, Any]", given)
    return {key: orjson.dumps(values[key]) for key in fields}
