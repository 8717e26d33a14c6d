"""Calls between actors over a TCP connection, in a fraction of the time of a Ray call.

A Ray call takes two to four milliseconds in each direction, most of it in hand-overs between
threads; a run's first token needs six such ways. So frequent calls use one TCP connection per pair
of processes (`actors.calls.directory` opens it). Ray still locates actors, detects deaths, and
carries rare calls and every call while there is no connection. After a lost connection the caller
does not know whether its call was executed; `actors.calls.answers` gives the rules for this case.

    server ── nonce ──────────────> client
    server <── nonce, proof ─────── client
    server ── proof ──────────────> client
    then frames: kind (1 byte), number of the call (8), length (8), and a pickle of
        CALL       method, arguments            client to server
        LEFT       nothing: the caller has left
        RESULT     the method's result          server to client
        ERROR      the method's exception
        TOO_LARGE  nothing: the answer exceeds the size of a frame

Reading a pickle can execute any code. So each side first proves, by HMAC-SHA256 over both nonces,
that it knows the key; only Ray carries the key.

Every call gets an answer unless the connection is lost, even if its method is cancelled or its
answer does not pickle. A side whose peer reads too slowly stops writing: a server then stops
reading from that connection, a client queues its calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import pickle
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.calls.answers import answered, is_long_poll
from actors.calls.frames import (
    ERROR,
    LEFT,
    NONCE_BYTES,
    PROOF_BYTES,
    RESULT,
    TOO_LARGE,
    Frames,
    Pickled,
    pickled,
    proof,
    said,
)
from greenroom.core.errors import GreenroomError, Unavailable
from greenroom.core.units import MIB

log = logging.getLogger("greenroom.rpc")

HANDSHAKE_S = 5.0
MAX_BYTES = 256 * MIB
"""The largest body of a frame; larger messages go through Ray."""
MOST_CALLS = 50_000
"""The limit of concurrent calls on one connection; more are refused."""
Method = Callable[..., Awaitable[Any]]


class Lost(ConnectionError):
    """The connection was lost; the call may have been executed."""


class NotSent(Lost):
    """The call was not executed: the connection was closed, or the call exceeds a frame."""


class AnswerTooLarge(Lost):
    """The call was executed, but its answer exceeds a frame."""


@dataclass(frozen=True, slots=True)
class RpcAddress:
    """The address of an actor's RPC server.

    Attributes:
        key: the shared secret of the handshake.
        methods: the names of the methods that may be called.
        max_bytes: the largest body of a frame.
    """

    host: str
    port: int
    key: bytes = field(repr=False)
    methods: frozenset[str]
    max_bytes: int = MAX_BYTES


class RpcServer:
    """Answers calls, each in its own task on the loop that first called `address`.

    Args:
        methods: the callable methods by name. A `long_poll` is cancelled when its caller leaves;
            any other method continues to its end.
        max_bytes: the largest body of a frame, in both directions.
        most_calls: the limit of concurrent calls on one connection.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        max_bytes: int = MAX_BYTES,
        most_calls: int = MOST_CALLS,
    ) -> None:
        self.methods = methods
        self.max_bytes = max_bytes
        self.most_calls = most_calls
        self.key = os.urandom(32)
        self._listening: asyncio.Task[RpcAddress] | None = None
        self._server: asyncio.Server | None = None

    async def address(self, host: str) -> RpcAddress:
        """Listens on a free port of the host; later calls return the same address."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(host))
        return await asyncio.shield(self._listening)

    async def _listen(self, host: str) -> RpcAddress:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), host, 0)
        port = self._server.sockets[0].getsockname()[1]
        return RpcAddress(host, port, self.key, frozenset(self.methods), self.max_bytes)

    def close(self) -> None:
        """Stops listening; open connections stay."""
        if self._server is not None:
            self._server.close()


class RpcClient:
    """A connection to an actor, used from one event loop."""

    def __init__(self, protocol: _Calling, methods: frozenset[str]) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self.methods = methods

    @classmethod
    async def connect(cls, address: RpcAddress) -> RpcClient:
        """Connects and performs the handshake.

        Raises:
            OSError: no process listens there, or the process does not know the key (`Lost`).
            TimeoutError: no answer within `HANDSHAKE_S`.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANDSHAKE_S):
            transport, protocol = await loop.create_connection(
                lambda: _Calling(address.key, address.max_bytes), address.host, address.port
            )
            try:
                await asyncio.shield(protocol.ready)
            except BaseException:  # includes a cancellation: no other code closes it
                transport.abort()
                raise
        return cls(protocol, address.methods)

    async def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """Calls a method and returns its result. A cancelled caller leaves the call.

        Raises:
            Lost: or a subclass, if there was no answer.
            Exception: the exception that the method raised.
        """
        number, future = self._protocol.call(method, args)
        try:
            return await future
        except asyncio.CancelledError:
            self._protocol.leave(number)
            raise

    @property
    def connection(self) -> asyncio.Transport:
        """The connection."""
        return self._protocol.connection

    @property
    def kept(self) -> int:
        """The number of calls that wait until the server reads on."""
        return len(self._protocol.kept)

    async def until_lost(self) -> None:
        """Returns when the connection is gone."""
        await asyncio.shield(self._protocol.lost)

    def close(self) -> None:
        """Closes the connection; calls in progress fail with `Lost`. Thread-safe."""
        self._loop.call_soon_threadsafe(self._protocol.abort)


class _Served(Frames):
    """The server's end."""

    def __init__(self, server: RpcServer) -> None:
        super().__init__(NONCE_BYTES + PROOF_BYTES, server.max_bytes)
        self._server = server
        self._nonce = os.urandom(NONCE_BYTES)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._long_polls: set[int] = set()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.write(self._nonce)
        asyncio.get_running_loop().call_later(HANDSHAKE_S, self._expire)

    def _expire(self) -> None:
        if not self._proven:
            self.abort()

    def handshake(self, part: bytes) -> None:
        theirs, proven = part[:NONCE_BYTES], part[NONCE_BYTES:]
        if not hmac.compare_digest(proven, proof(self._server.key, b"client", self._nonce, theirs)):
            log.warning("somebody without the key called", extra={"action": "rpc_refused"})
            self.abort()
            return
        self._proven = True
        self._transport.write(proof(self._server.key, b"server", self._nonce, theirs))

    def pause_writing(self) -> None:
        self._writable.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        for number in self._long_polls:
            self._tasks[number].cancel()

    def message(self, kind: int, number: int, message: Any, problem: Exception | None) -> None:
        if kind == LEFT:
            if number in self._long_polls:
                self._tasks[number].cancel()
        elif problem is not None:
            self.send(ERROR, number, pickle.dumps(problem))
        elif len(self._tasks) >= self._server.most_calls:
            refusal = f"More than {self._server.most_calls} calls are under way. Try again."
            self.send(ERROR, number, pickle.dumps(Unavailable(refusal)))
        else:
            method, args = message
            if is_long_poll(self._server.methods.get(method)):
                self._long_polls.add(number)
            task = asyncio.get_running_loop().create_task(self._answer(number, method, args))
            self._tasks[number] = task  # a loop holds its tasks weakly
            task.add_done_callback(lambda _: self._done(number))

    def _done(self, number: int) -> None:
        del self._tasks[number]
        self._long_polls.discard(number)

    async def _answer(self, number: int, method: str, args: tuple[Any, ...]) -> None:
        kind, answer = ERROR, None
        try:
            answer = await self._server.methods[method](*args)
            kind = RESULT
        except GreenroomError as error:
            answer = answered(error)
        except asyncio.CancelledError:
            # Either the caller left and reads no answer, or the method itself was cancelled.
            answer = Unavailable("The call was cancelled where it was executed. Try again.")
        except Exception as error:  # a bug of ours; an exception of any class may not pickle
            log.exception("a call failed", extra={"method": method})
            answer = RuntimeError(said(error))
        try:
            body = pickle.dumps(answer, protocol=5)
        except Exception as error:  # pickling runs any code
            log.exception("an answer cannot be sent", extra={"method": method})
            kind, body = ERROR, pickle.dumps(RuntimeError(f"'{method}': {said(error)}"))
        if len(body) > self.max_bytes:
            kind, body = TOO_LARGE, b""
        await self._writable.wait()
        if not self._transport.is_closing():
            self.send(kind, number, body)


class _Calling(Frames):
    """The client's end."""

    def __init__(self, key: bytes, max_bytes: int) -> None:
        super().__init__(NONCE_BYTES, max_bytes)
        loop = asyncio.get_running_loop()
        self._key = key
        self._nonce = os.urandom(NONCE_BYTES)
        self._number = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self.kept: dict[int, Pickled] = {}
        self._paused = False
        self._expected: bytes | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    @property
    def connection(self) -> asyncio.Transport:
        return self._transport

    def handshake(self, part: bytes) -> None:
        if self._expected is None:
            self._transport.write(self._nonce + proof(self._key, b"client", part, self._nonce))
            self._expected = proof(self._key, b"server", part, self._nonce)
            self._awaited = PROOF_BYTES
        elif hmac.compare_digest(part, self._expected):
            self._proven = True
            self.ready.set_result(None)
        else:
            self.abort()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        while self.kept and not self._paused:
            number = next(iter(self.kept))
            self.send_call(number, self.kept.pop(number))

    def call(self, method: str, args: tuple[Any, ...]) -> tuple[int, asyncio.Future[Any]]:
        if self._transport.is_closing():
            raise NotSent("the connection is closed")
        call = pickled((method, args))
        if len(call) > self.max_bytes:
            raise NotSent(f"{len(call)} bytes are too much for a frame")
        self._number += 1
        number = self._number
        future = self._calls[number] = asyncio.get_running_loop().create_future()
        if self._paused:
            self.kept[number] = call
        else:
            self.send_call(number, call)
        return number, future

    def leave(self, number: int) -> None:
        """Drops a call whose caller has left; tells the server."""
        left = self._calls.pop(number, None) is not None
        if left and self.kept.pop(number, None) is None and not self._transport.is_closing():
            self.send(LEFT, number)

    def message(self, kind: int, number: int, message: Any, problem: Exception | None) -> None:
        future = self._calls.pop(number, None)
        if future is None or future.done():
            return  # its caller has left
        if problem is not None:
            future.set_exception(problem)
        elif kind == RESULT:
            future.set_result(message)
        elif kind == TOO_LARGE:
            future.set_exception(AnswerTooLarge("the answer is too large for a frame"))
        else:
            future.set_exception(message)

    def connection_lost(self, exc: Exception | None) -> None:
        calls, self._calls = self._calls, {}
        for number, future in calls.items():
            if not future.done():
                lost = NotSent if number in self.kept else Lost
                future.set_exception(lost(str(exc or "the connection was closed")))
        self.kept.clear()
        if not self.ready.done():
            self.ready.set_exception(Lost(str(exc or "the connection was closed")))
        with contextlib.suppress(asyncio.InvalidStateError):
            self.lost.set_result(None)
        if not self.ready.cancelled():
            self.ready.exception()  # marks it as retrieved if no caller waits
