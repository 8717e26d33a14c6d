"""Calls between actors over a socket of their own: as Ray's, in a fraction of the time.

A Ray call takes two to four milliseconds to its actor and as long back, most of it in hand-overs
between threads; a run's first token has six such ways behind it. What is called all the time goes
over one TCP connection per pair of processes instead, opened beside Ray (`actors.handles`): who
lives where, who is dead, and everything that is called rarely stays with Ray, and so does every
call while there is no connection. So a method that is called this way must be repeatable: whoever
loses the connection does not know whether it was executed.

    server ── nonce ──────────────> client
    server <── nonce, proof ─────── client
    server ── proof ──────────────> client
    then frames: length (8 bytes), pickle of (number, method, arguments)
                                   or of (number, succeeded, result or exception)

A pickle executes what it likes when it is read. So nobody reads one from the other before both have
proven, by HMAC-SHA256 over both nonces, that they know the key, which only travels through Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import pickle
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from greenroom.core.errors import GreenroomError

log = logging.getLogger("greenroom.rpc")

HANDSHAKE_S = 5.0
NONCE_BYTES = 16
PROOF_BYTES = hashlib.sha256().digest_size
_LENGTH = struct.Struct(">Q")
_KEEPALIVE = [
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
]

Method = Callable[..., Awaitable[Any]]


class Lost(ConnectionError):
    """The connection is gone; what was called over it may have been executed."""


@dataclass(frozen=True, slots=True)
class RpcAddress:
    """Where an actor listens, what proves that a caller may call it, and which methods."""

    host: str
    port: int
    key: bytes = field(repr=False)
    methods: frozenset[str]


class RpcServer:
    """Answers calls, each in a task of its own on the loop that `address` was first called on.

    Args:
        methods: what may be called, by name; each may be executed twice.
    """

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.methods = methods
        self.key = os.urandom(32)
        self._listening: asyncio.Task[RpcAddress] | None = None
        self._server: asyncio.Server | None = None

    async def address(self, host: str) -> RpcAddress:
        """Listens on a free port until it is closed; again the same address."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(host))
        return await asyncio.shield(self._listening)

    async def _listen(self, host: str) -> RpcAddress:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), host, 0)
        port = self._server.sockets[0].getsockname()[1]
        return RpcAddress(host, port, self.key, frozenset(self.methods))

    def close(self) -> None:
        """Listens no more; connections stay."""
        if self._server is not None:
            self._server.close()


class RpcClient:
    """A connection to an actor; calls of one loop."""

    def __init__(self, protocol: _Calling, methods: frozenset[str]) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.methods = methods

    @classmethod
    async def connect(cls, address: RpcAddress) -> RpcClient:
        """
        Raises:
            OSError: nobody listens there, or it is not who gave the address (`Lost`).
            TimeoutError: no answer.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANDSHAKE_S):
            transport, protocol = await loop.create_connection(
                lambda: _Calling(address.key), address.host, address.port
            )
            try:
                await asyncio.shield(protocol.ready)
            except BaseException:  # also a cancellation: nobody else would close it
                transport.abort()
                raise
        return cls(protocol, address.methods)

    def call(self, method: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """The result of a method, or what it raised.

        Raises:
            Lost: of the future, too.
        """
        return self._protocol.call(method, args)

    async def until_lost(self) -> None:
        """Returns when the connection is gone."""
        await asyncio.shield(self._protocol.lost)

    def close(self) -> None:
        """Ends the connection; the calls that are under way are `Lost`. From any thread."""
        self._loop.call_soon_threadsafe(self._protocol.abort)


class _Frames(asyncio.Protocol, ABC):
    """Cuts what comes into what was sent: a handshake, then frames."""

    def __init__(self, handshake_bytes: int) -> None:
        self._received = bytearray()
        self._awaited = handshake_bytes
        self._proven = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # A machine that is lost says no goodbye.
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
            if len(received) < _LENGTH.size:
                return
            (length,) = _LENGTH.unpack_from(received)
            end = _LENGTH.size + length
            if len(received) < end:
                return
            with memoryview(received) as view:
                message = pickle.loads(view[_LENGTH.size : end])
            del received[:end]
            self.message(message)

    def send(self, message: tuple[Any, ...]) -> None:
        body = pickle.dumps(message, protocol=5)
        self._transport.write(_LENGTH.pack(len(body)) + body)

    def abort(self) -> None:
        self._transport.abort()

    @abstractmethod
    def handshake(self, part: bytes) -> None:
        """So many bytes as are awaited before the first frame."""

    @abstractmethod
    def message(self, message: Any) -> None:
        """What a frame carried."""


class _Served(_Frames):
    """The server's end."""

    def __init__(self, server: RpcServer) -> None:
        super().__init__(NONCE_BYTES + PROOF_BYTES)
        self._server = server
        self._nonce = os.urandom(NONCE_BYTES)
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.write(self._nonce)
        asyncio.get_running_loop().call_later(HANDSHAKE_S, self._expire)

    def _expire(self) -> None:
        if not self._proven:
            self.abort()

    def handshake(self, part: bytes) -> None:
        theirs, proof = part[:NONCE_BYTES], part[NONCE_BYTES:]
        if not hmac.compare_digest(proof, _proof(self._server.key, b"client", self._nonce, theirs)):
            log.warning("somebody without the key called", extra={"action": "rpc_refused"})
            self.abort()
            return
        self._proven = True
        self._transport.write(_proof(self._server.key, b"server", self._nonce, theirs))

    def message(self, message: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(*message))
        self._tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, method: str, args: tuple[Any, ...]) -> None:
        try:
            answer = (number, True, await self._server.methods[method](*args))
        except GreenroomError as error:
            answer = (number, False, error)
        except Exception as error:  # a bug of ours; of another class nobody knows how it pickles
            log.exception("a call failed", extra={"method": method})
            answer = (number, False, RuntimeError(f"{type(error).__name__}: {error}"))
        if not self._transport.is_closing():
            self.send(answer)


class _Calling(_Frames):
    """The client's end."""

    def __init__(self, key: bytes) -> None:
        super().__init__(NONCE_BYTES)
        loop = asyncio.get_running_loop()
        self._key = key
        self._nonce = os.urandom(NONCE_BYTES)
        self._number = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._expected: bytes | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def handshake(self, part: bytes) -> None:
        if self._expected is None:
            self._transport.write(self._nonce + _proof(self._key, b"client", part, self._nonce))
            self._expected = _proof(self._key, b"server", part, self._nonce)
            self._awaited = PROOF_BYTES
        elif hmac.compare_digest(part, self._expected):
            self._proven = True
            self.ready.set_result(None)
        else:
            self.abort()

    def call(self, method: str, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        if self._transport.is_closing():
            raise Lost("the connection is closed")
        self._number += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.send((self._number, method, args))
        self._calls[self._number] = future
        return future

    def message(self, message: Any) -> None:
        number, succeeded, result = message
        future = self._calls.pop(number)
        if future.done():
            return  # its caller has gone
        if succeeded:
            future.set_result(result)
        else:
            future.set_exception(result)

    def connection_lost(self, exc: Exception | None) -> None:
        calls, self._calls = self._calls, {}
        for future in (self.ready, *calls.values()):
            if not future.done():
                future.set_exception(Lost(str(exc or "the connection was closed")))
        with contextlib.suppress(asyncio.InvalidStateError):
            self.lost.set_result(None)
        if not self.ready.cancelled():
            self.ready.exception()  # nobody may be waiting for it any more


def _proof(key: bytes, side: bytes, servers: bytes, clients: bytes) -> bytes:
    return hmac.digest(key, side + servers + clients, "sha256")
