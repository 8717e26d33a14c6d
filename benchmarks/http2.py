"""As much of HTTP/2 as it takes to read many event streams over few connections, without TLS.

A stream of HTTP/1.1 takes a connection, and with it an open file of the client and two of HAProxy.
Here up to 100 streams share a connection: HAProxy then needs one file for each, its own to the
gateway. Windows are as large as they may be, so that nothing has to be given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

STREAMS = 100
"""The streams of a connection, as many as HAProxy allows."""
_LARGEST = (1 << 31) - 1
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK = 1, 1
_OK = 0x88
"""HPACK's one byte for ``:status: 200``."""


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        authority: host and port.

    Attributes:
        lost: set when the connection is over.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._next = 1
        self._rest = b""
        self._opened: dict[int, asyncio.Future[None]] = {}
        self._readers: dict[int, Callable[[bytes | None], None]] = {}
        self.lost = asyncio.Event()

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(f"{host}:{port}"), host, port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = b"\x00\x02" + _four(0) + b"\x00\x04" + _four(_LARGEST)  # no push; the window
        self._transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, _four(_LARGEST - 65_535))
        )

    async def get(self, path: str, read: Callable[[bytes | None], None]) -> None:
        """Opens a stream; returns when its answer begins with 200.

        Args:
            read: called with each piece of the body, and with None at its end.

        Raises:
            ConnectionError: another answer, or none.
        """
        number, self._next = self._next, self._next + 2
        opened = self._opened[number] = asyncio.get_running_loop().create_future()
        self._readers[number] = read
        head = b"\x82\x86" + _literal(4, path.encode()) + _literal(1, self._authority)
        self._transport.write(_frame(_HEADERS, 0x5, number, head))
        await opened

    def close(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        for number in [*self._readers]:
            self._end(number, "the connection is lost")

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3])
            if len(data) - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            number = int.from_bytes(data[at + 5 : at + 9]) & _LARGEST
            self._take(kind, flags, number, data[at + 9 : at + 9 + length])
            at += 9 + length
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if kind == _DATA and number in self._readers:
            if body:
                self._readers[number](body)
        elif kind == _HEADERS and number in self._opened:
            opened = self._opened.pop(number)
            if body[:1] == bytes([_OK]):
                opened.set_result(None)
            else:
                opened.set_exception(ConnectionError(f"not 200: {body[:40]!r}"))
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, body))
        elif kind == _RESET:
            self._end(number, f"reset: {int.from_bytes(body)}")
        elif kind == _GOAWAY:
            self._transport.close()
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            self._end(number, "no answer")

    def _end(self, number: int, why: str) -> None:
        opened, read = self._opened.pop(number, None), self._readers.pop(number, None)
        if opened is not None and not opened.done():
            opened.set_exception(ConnectionError(why))
        elif read is not None:
            read(None)


def _frame(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + _four(number) + body


def _four(value: int) -> bytes:
    return value.to_bytes(4)


def _literal(name: int, value: bytes) -> bytes:
    """A header with a name of HPACK's table and a value that is not put into it."""
    assert len(value) < 127
    return bytes([name, len(value)]) + value
