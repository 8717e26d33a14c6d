"""Long answers: event streams, and JSON that is awaited.

Both send their headers at once, send a heartbeat every ``heartbeat_s``, and notice a client's
disconnect within milliseconds. One `asyncio.wait` races three events: the source has a piece, the
clock ticks, the client disconnects. The next piece is requested only after the last one is sent, so
a slow client slows its own source and nothing is buffered here.

    source ──next──┐
    clock  ──tick──┼── race ──> send
    client ──left──┘        └─> close the source; cancel the run if the client asked for that

A source that fails because a component restarts, or for an unexpected reason, *breaks* the answer
instead of ending it: a clean end would tell the client that the run is over, a broken one makes it
reconnect. The answer to a client that does not read is broken off as well
(`greenroom.http.sending`). It does not count as a disconnect, since the client may reconnect.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from greenroom.core.errors import GreenroomError, NotFound, Unavailable
from greenroom.core.runs import Batch
from greenroom.http.edge import Connections
from greenroom.http.errors import error_object
from greenroom.http.sending import SEND_TIMEOUT_S, Stalled, break_connection, put, put_body
from greenroom.wire.encoding import dumps
from greenroom.wire.sse import HEARTBEAT, KEEP_ALIVE, event_frame

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")
Leave = Callable[[], Coroutine[Any, Any, None]]

STREAM_HEADERS = {
    "cache-control": "no-store",
    "connection": "keep-alive",
    "x-accel-buffering": "no",
    "content-type": "text/event-stream; charset=utf-8",
}
JSON_HEADERS = {"content-type": "application/json"}


class _Left(Exception):
    """The client disconnected or the server drains, so the answer ends."""


class OpenAnswer(Response, ABC):
    """An answer whose body comes later, or piece by piece.

    Args:
        connections: counts the answer while it is open.
        headers: all headers; they are sent at once.
        idle: the bytes to send when the clock ticks.
        idle_s: seconds between ticks.
        on_leave: called once if the client disconnects before the answer is complete.
        send_timeout_s: the longest time in seconds that the client may read nothing.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        headers: Mapping[str, str],
        idle: bytes,
        idle_s: float,
        on_leave: Leave | None,
        send_timeout_s: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(headers)
        self._connections = connections
        self._idle = idle
        self._idle_s = idle_s
        self._on_leave = on_leave
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._send = send
        self._leaving: asyncio.Future[bool] = loop.create_future()
        self._tick_at = loop.time() + self._idle_s
        self._connections.enter(self._leaving)
        watcher = loop.create_task(self._watch(receive))
        left = False
        try:
            await self._start()
            await self._body()
        except _Left:
            left = not self._connections.draining
        except Stalled:
            log.info("A client did not read for %g s and was cut.", self._send_timeout_s)
            break_connection(scope)
        except asyncio.CancelledError:
            # Some servers cancel the request instead of sending http.disconnect.
            left = not self._connections.draining
            raise
        finally:
            watcher.cancel()
            await self._release()
            cancelling = (
                self._connections.spawn(self._on_leave()) if left and self._on_leave else None
            )
            self._connections.leave(self._leaving)
            if cancelling is not None:
                await asyncio.shield(cancelling)

    @abstractmethod
    async def _body(self) -> None:
        """Writes the body."""

    async def _release(self) -> None:
        """Releases resources; called at the end of every answer, complete or not."""

    async def _start(self) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await self._sent(put(self._send, start, self._send_timeout_s))

    async def _write(self, body: bytes, *, more: bool) -> None:
        timeout_s = self._send_timeout_s
        await self._sent(put_body(self._send, body, more=more, timeout_s=timeout_s))

    async def _sent(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except OSError:  # some servers raise it instead of sending http.disconnect
            raise _Left from None

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._leaving.done():
            self._leaving.set_result(True)

    async def _race(self, awaited: Awaitable[R]) -> R:
        """Returns the result of ``awaited``, and sends ticks meanwhile. Raises _Left."""
        loop = asyncio.get_running_loop()
        step = asyncio.ensure_future(awaited)
        try:
            while True:
                timeout = max(0.0, self._tick_at - loop.time())
                await asyncio.wait(
                    (step, self._leaving), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if self._leaving.done():
                    raise _Left
                if step.done():
                    return step.result()
                await self._write(self._idle, more=True)
                while self._tick_at <= loop.time():
                    self._tick_at += self._idle_s
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait((step,))
            elif not step.cancelled():
                step.exception()  # retrieved, if the client disconnected in the same instant


class StartedAnswer(OpenAnswer, Generic[T]):
    """An answer whose status is sent at once: an error can only be the end of its body.

    Args:
        source: what the body comes from.
        headers: further headers; the others are as of `OpenAnswer`.
    """

    own_headers: ClassVar[Mapping[str, str]]
    idle: ClassVar[bytes]

    def __init__(
        self,
        source: T,
        connections: Connections,
        *,
        idle_s: float,
        headers: Mapping[str, str],
        on_leave: Leave | None = None,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        super().__init__(
            connections,
            headers={**headers, **self.own_headers},
            idle=self.idle,
            idle_s=idle_s,
            on_leave=on_leave,
            send_timeout_s=send_timeout_s,
        )
        self._source = source

    async def _body(self) -> None:
        """Writes the body; it breaks off where a client should try again."""
        try:
            last = await self._produced()
        except (_Left, Stalled):
            raise
        except Unavailable as error:
            return log.warning("An answer broke off: %s", error)
        except GreenroomError as error:
            last = self._told(error)
        except Exception:  # noqa: BLE001 - the unforeseen: broken off, so that the client retries
            return log.exception("An answer broke off.")
        await self._write(last, more=False)

    @abstractmethod
    async def _produced(self) -> bytes:
        """Writes all of the body but its last bytes, which it returns."""

    @abstractmethod
    def _told(self, error: GreenroomError) -> bytes:
        """Returns the last bytes of a body that ends with an error."""


class EventStream(StartedAnswer[AsyncIterator[bytes]]):
    """An event stream; see `OpenAnswer`."""

    own_headers = STREAM_HEADERS
    idle = HEARTBEAT

    async def _produced(self) -> bytes:
        while (body := await self._race(_next(self._source))) is not None:
            if body:
                await self._write(body, more=True)
        return b""

    def _told(self, error: GreenroomError) -> bytes:
        # The stream of a run that is rolled back or deleted just ends.
        gone = isinstance(error, NotFound)
        return b"" if gone else event_frame("error", dumps(error_object(error)))

    async def _release(self) -> None:
        await close(self._source)


class LateJson(StartedAnswer[Callable[[], Awaitable[bytes]]]):
    """A JSON body that is awaited; a new line is sent at each tick before it. See `OpenAnswer`."""

    own_headers = JSON_HEADERS
    idle = KEEP_ALIVE

    async def _produced(self) -> bytes:
        return await self._race(self._source())

    def _told(self, error: GreenroomError) -> bytes:
        # Of a run that was rolled back during the wait: the message of LangGraph's server.
        gone = {"error": "HTTPException", "message": f"404: {error}"}
        return dumps({"__error__": gone if isinstance(error, NotFound) else error_object(error)})


async def bodies(batches: AsyncIterator[Batch]) -> AsyncIterator[bytes]:
    """Yields the bytes of batches; closing this iterator closes ``batches``."""
    try:
        async for batch in batches:
            yield batch.body
    finally:
        await close(batches)


async def nothing() -> AsyncIterator[bytes]:
    """Yields no events, for a run that is over and whose events are not kept."""
    return
    yield b""


async def close(source: AsyncIterator[Any]) -> None:
    """Closes an iterator if it has ``aclose``, as a generator has."""
    aclose = getattr(source, "aclose", None)
    if aclose is not None:
        await aclose()


async def _next(source: AsyncIterator[bytes]) -> bytes | None:
    return await anext(source, None)
