"""Calls between actors over a socket of their own: as Ray's, in a fraction of the time.

A Ray call takes two to four milliseconds to its actor and as long back, most of it in hand-overs
between threads; a run's first token has six such ways behind it. What is called all the time goes
over one TCP connection per pair of processes instead, opened beside Ray (`actors.calls.directory`):
who lives where, who is dead, and everything that is called rarely stays with Ray, and so does every
call while there is no connection. Whoever loses the connection does not know whether a call was
executed; `actors.calls.answers` says what follows from that.

    server ── nonce ──────────────> client
    server <── nonce, proof ─────── client
    server ── proof ──────────────> client
    then frames: kind (1 byte), number of the call (8), length (8), and a pickle of
        CALL       method, arguments            client to server
        LEFT       nothing: its caller has gone
        RESULT     what the method returned     server to client
        ERROR      what it raised
        TOO_LARGE  nothing: the answer is larger than a frame may be

A pickle executes what it likes when it is read. So nobody reads one from the other before both have
proven, by HMAC-SHA256 over both nonces, that they know the key, which only travels through Ray.

Every call is answered, unless the connection is lost: also when its method was cancelled, and when
its answer does not pickle. Whoever is read too slowly writes no more meanwhile: a server then reads
nothing more from that connection, a client keeps its calls.
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
"""The most that one frame carries; what is larger goes through Ray."""
MOST_CALLS = 50_000
"""The most calls that are under way on one connection; more are refused."""
Method = Callable[..., Awaitable[Any]]


class Lost(ConnectionError):
    """The connection is gone; what was called over it may have been executed."""


class NotSent(Lost):
    """It was not executed: the connection was closed before, or it is too large for a frame."""


class AnswerTooLarge(Lost):
    """It was executed, but its answer is too large for a frame."""


@dataclass(frozen=True, slots=True)
class RpcAddress:
    """Where an actor listens, what proves that a caller may call it, which methods, and how many
    bytes a frame may have."""

    host: str
    port: int
    key: bytes = field(repr=False)
    methods: frozenset[str]
    max_bytes: int = MAX_BYTES


class RpcServer:
    """Answers calls, each in a task of its own on the loop that `address` was first called on.

    Args:
        methods: what may be called, by name. One that is a `long_poll` is cancelled when its caller
            has left; any other goes on to its end.
        max_bytes: of a frame, in both directions.
        most_calls: under way on one connection.
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
        """Listens on a free port until it is closed; again the same address."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(host))
        return await asyncio.shield(self._listening)

    async def _listen(self, host: str) -> RpcAddress:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), host, 0)
        port = self._server.sockets[0].getsockname()[1]
        return RpcAddress(host, port, self.key, frozenset(self.methods), self.max_bytes)

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
                lambda: _Calling(address.key, address.max_bytes), address.host, address.port
            )
            try:
                await asyncio.shield(protocol.ready)
            except BaseException:  # also a cancellation: nobody else would close it
                transport.abort()
                raise
        return cls(protocol, address.methods)

    async def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """The result of a method, or what it raised. Whoever cancels this leaves the call.

        Raises:
            Lost: or one of its kinds, if there was no answer.
        """
        number, future = self._protocol.call(method, args)
        try:
            return await future
        except asyncio.CancelledError:
            self._protocol.leave(number)
            raise

    async def until_lost(self) -> None:
        """Returns when the connection is gone."""
        await asyncio.shield(self._protocol.lost)

    def close(self) -> None:
        """Ends the connection; the calls that are under way are `Lost`. From any thread."""
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
            # It was left, and nobody reads this; or the method was cancelled where it works.
            answer = Unavailable("The call was cancelled where it was executed. Try again.")
        except Exception as error:  # a bug of ours; of another class nobody knows how it pickles
            log.exception("a call failed", extra={"method": method})
            answer = RuntimeError(said(error))
        try:
            body = pickle.dumps(answer, protocol=5)
        except Exception as error:  # whatever is in it says whether it pickles
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
        self._kept: dict[int, Pickled] = {}
        self._paused = False
        self._expected: bytes | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

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
        while self._kept and not self._paused:
            number = next(iter(self._kept))
            self.send_call(number, self._kept.pop(number))

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
            self._kept[number] = call
        else:
            self.send_call(number, call)
        return number, future

    def leave(self, number: int) -> None:
        """The caller of a call has gone."""
        left = self._calls.pop(number, None) is not None
        if left and self._kept.pop(number, None) is None and not self._transport.is_closing():
            self.send(LEFT, number)

    def message(self, kind: int, number: int, message: Any, problem: Exception | None) -> None:
        future = self._calls.pop(number, None)
        if future is None or future.done():
            return  # its caller has gone
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
                lost = NotSent if number in self._kept else Lost
                future.set_exception(lost(str(exc or "the connection was closed")))
        self._kept.clear()
        if not self.ready.done():
            self.ready.set_exception(Lost(str(exc or "the connection was closed")))
        with contextlib.suppress(asyncio.InvalidStateError):
            self.lost.set_result(None)
        if not self.ready.cancelled():
            self.ready.exception()  # nobody may be waiting for it any more
