"""The wire format between two actors: a handshake, then frames (`actors.calls.rpc`)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import pickle
import socket
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, cast

from greenroom.core.runs import LARGE

log = logging.getLogger("greenroom.rpc")

NONCE_BYTES = 16
PROOF_BYTES = hashlib.sha256().digest_size
CALL, LEFT, RESULT, ERROR, TOO_LARGE, CALL_IN_PARTS = range(6)
_HEADER = struct.Struct(">BQQ")
_KEEPALIVE = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
        # The kernel sends no keepalive probes while sent data is unacknowledged.
        ("TCP_USER_TIMEOUT", 20_000),
    )
    if hasattr(socket, name)
]


@dataclass(frozen=True, slots=True)
class Pickled:
    """A pickle and its out-of-band buffers (`pickle.PickleBuffer`)."""

    body: bytes
    apart: list[memoryview]

    def __len__(self) -> int:
        return len(self.body) + sum(part.nbytes for part in self.apart)


def pickled(value: Any) -> Pickled:
    """Pickles a value for a connection, with large buffers out of band."""
    apart: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=apart.append)
    return Pickled(body, [buffer.raw() for buffer in apart])


class Frames(asyncio.Protocol, ABC):
    """Splits the received bytes into a handshake and frames.

    Args:
        handshake_bytes: the size of the first part of the handshake.
        max_bytes: the largest body of a frame; a larger one aborts the connection.
    """

    def __init__(self, handshake_bytes: int, max_bytes: int) -> None:
        self._received = bytearray()
        self._awaited = handshake_bytes
        self._proven = False
        self._transport: asyncio.Transport
        self.max_bytes = max_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # A lost machine does not close its connections.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while not self._transport.is_closing():
            if not self._proven:
                if len(received) < self._awaited:
                    return
                part = bytes(received[: self._awaited])
                del received[: self._awaited]
                self.handshake(part)
                continue
            if len(received) < _HEADER.size:
                return
            kind, number, length = _HEADER.unpack_from(received)
            if length > self.max_bytes:
                # A correct sender respects the `max_bytes` of the address.
                log.error("a frame is too large", extra={"bytes": length})
                self.abort()
                return
            end = _HEADER.size + length
            if len(received) < end:
                return
            message, problem = None, None
            if length:
                try:
                    with memoryview(received) as view:
                        if kind == CALL_IN_PARTS:
                            kind, message = CALL, _joined(view[_HEADER.size : end])
                        else:
                            message = pickle.loads(view[_HEADER.size : end])
                except Exception as error:  # noqa: BLE001 - unpickling runs any code; only this call fails
                    problem = RuntimeError(f"It cannot be read: {said(error)}")
            del received[:end]
            self.message(kind, number, message, problem)

    def send(self, kind: int, number: int, body: bytes = b"") -> None:
        header = _HEADER.pack(kind, number, len(body))
        if len(body) < LARGE:
            self._transport.write(header + body)
        else:  # avoids a copy, which would block the loop
            self._transport.write(header)
            self._transport.write(body)

    def send_call(self, number: int, call: Pickled) -> None:
        """Sends a call; writes its out-of-band buffers without a copy."""
        if not call.apart:
            return self.send(CALL, number, call.body)
        sizes = [len(call.body), *(part.nbytes for part in call.apart)]
        table = struct.pack(f">I{len(sizes)}Q", len(sizes), *sizes)
        header = _HEADER.pack(CALL_IN_PARTS, number, len(table) + sum(sizes))
        self._transport.write(header + table + call.body)
        for part in call.apart:
            self._transport.write(part)

    def abort(self) -> None:
        self._transport.abort()

    @abstractmethod
    def handshake(self, part: bytes) -> None:
        """Handles a part of the handshake: as many bytes as were awaited."""

    @abstractmethod
    def message(self, kind: int, number: int, message: Any, problem: Exception | None) -> None:
        """Handles a frame.

        Args:
            kind: one of `CALL`, `LEFT`, `RESULT`, `ERROR`, `TOO_LARGE`.
            number: the number of the call.
            message: the unpickled body; None if there is none.
            problem: the error if the body could not be unpickled.
        """


def _joined(view: memoryview) -> Any:
    """Unpickles a frame in parts: their number, their sizes, the pickle, its buffers."""
    (count,) = struct.unpack_from(">I", view)
    table = struct.Struct(f">I{count}Q")
    _, *sizes = table.unpack_from(view)
    parts: list[bytes] = []
    start = table.size
    for size in sizes:
        parts.append(bytes(view[start : start + size]))
        start += size
    body, *apart = parts
    return pickle.loads(body, buffers=apart)


def said(error: Exception) -> str:
    """Returns the class and the message of an exception; the class alone if ``str()`` fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - `__str__` may be user code
        return type(error).__name__


def proof(key: bytes, side: bytes, servers: bytes, clients: bytes) -> bytes:
    return hmac.digest(key, side + servers + clients, "sha256")
