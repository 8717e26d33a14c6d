"""A WebSocket on a thread's log: commands in, answers and events out, one JSON object in a frame.

    frames ──read──> commands, one after the other ──answers──┐
    subscriptions, a task each: the log, filtered ──events────┴──> frames

The success of a ``subscription.subscribe`` is sent before the events that it replays. Each
subscription has the whole log that is kept, so an event that fits two subscriptions is sent twice;
clients know it by its id. A socket that is not read is closed, as a stream is.

The end of a run is sent when every subscription has sent what comes before it: a client that has
the end from one of them (the JavaScript SDK) does not wait for what another one has still to say.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from greenroom.core.errors import BadRequest, GreenroomError, NotFound, Unavailable
from greenroom.core.ports import JsonObject
from greenroom.core.thread_log import LogFilter, LogPart, filter_of, since_of
from greenroom.core.waiting import happens_within
from greenroom.http.bodies import parsed
from greenroom.http.edge import dialect_of, edge_of
from greenroom.http.event_streaming.asking import Asked, CommandError
from greenroom.http.event_streaming.commands import (
    COMMANDS,
    envelope_of,
    error_of,
    performed,
)
from greenroom.http.gates import reads_thread
from greenroom.http.limits import counted
from greenroom.http.parameters import thread_id_of
from greenroom.wire.encoding import dumps, is_list, is_object
from greenroom.wire.log_events import dropped_json, event_json

log = logging.getLogger(__name__)

_GOING_AWAY, _POLICY, _TRY_AGAIN = 1001, 1008, 1013
_CATCH_UP_S = 1.0
"""How long a subscription counts what it replays before it is answered."""
_GATHER_S = 0.05
"""A client that connects again subscribes to all at once: how long after the last subscription
another one may follow, before the end of an earlier run is sent."""
_ORDER_PATIENCE_S = 5.0
"""The longest time that the end of a run waits for the other subscriptions."""
MAX_SUBSCRIPTIONS = 100
"""The most subscriptions of one socket."""


class _Ended(Exception):
    """The socket is to be closed.

    Args:
        code: of the close frame.
        reason: a sentence.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Frame:
    """An encoded event.

    Attributes:
        seq: its position in the log.
        is_end: whether it ends its run.
    """

    seq: int
    data: bytes
    is_end: bool = False


class Socket:
    """One WebSocket."""

    def __init__(self, websocket: WebSocket, thread_id: str) -> None:
        self._websocket = websocket
        self._thread_id = thread_id
        self._edge = edge_of(websocket)
        self._dialect = dialect_of(websocket)
        self._subscriptions: dict[str, asyncio.Task[None]] = {}
        self._readings: dict[str, _Reading] = {}
        self._is_subscribing = False
        self._subscribed_s = 0.0
        self._progress = asyncio.Event()
        self._sending = asyncio.Lock()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._commands = {
            **COMMANDS,
            "subscription.subscribe": self._subscribe,
            "subscription.unsubscribe": self._unsubscribe,
            "subscription.reconnect": self._reconnect,
        }
        self._begin: Callable[[], None] | None = None

    async def serve(self) -> None:
        """Serves the socket until one side closes it."""
        try:
            self._thread_id = thread_id_of(self._dialect, self._thread_id)
            self._scope = await reads_thread(self._edge, self._thread_id)
        except GreenroomError as error:
            await self._websocket.close(_POLICY, error.message[:120])
            return
        await self._websocket.accept()
        connections = self._edge.connections
        leaving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        connections.enter(leaving)
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait(
                (reading, leaving, self._broken), return_when=asyncio.FIRST_COMPLETED
            )
            if leaving.done():
                raise _Ended(_GOING_AWAY, "The server is stopping. Connect again.")
            if self._broken.done():
                self._broken.result()
            await reading
        except _Ended as ended:
            await self._close(ended)
        finally:
            connections.leave(leaving)
            for task in (reading, *self._subscriptions.values()):
                task.cancel()

    async def _close(self, ended: _Ended) -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, OSError, WebSocketDisconnect, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._websocket.close(ended.code, ended.reason[:120])

    async def _read(self) -> None:
        settings = self._edge.settings
        while True:
            try:
                message = await self._websocket.receive()
            except RuntimeError:
                return  # it is closed
            if message["type"] == "websocket.disconnect":
                return
            raw: bytes = message.get("bytes") or (message.get("text") or "").encode()
            if len(raw) > settings.max_body_bytes:
                raise _Ended(1009, f"A command has at most {settings.max_body_bytes} bytes.")
            await self._perform(raw)

    async def _perform(self, raw: bytes) -> None:
        value: Any = None
        try:
            counted(self._edge, len(raw))
            value = parsed(raw, self._edge.settings.max_body_depth)
            envelope = envelope_of(value)
            asked = Asked(
                edge=self._edge,
                dialect=self._dialect,
                thread_id=self._thread_id,
                params=envelope.params,
            )
            answer = await performed(asked, envelope, self._commands)
        except BadRequest as error:
            number = value.get("id") if is_object(value) else None
            answer = error_of(number, "invalid_argument", error.message)
        except GreenroomError as error:
            number = value.get("id") if is_object(value) else None
            answer = error_of(number, "unknown_error", error.message)
        await self._send(dumps(answer))
        if self._begin is not None:
            begin, self._begin = self._begin, None
            begin()

    async def _send(self, data: bytes) -> None:
        try:
            async with self._sending, asyncio.timeout(self._edge.settings.send_timeout_s):
                await self._websocket.send_text(data.decode())
        except TimeoutError:
            raise _Ended(_TRY_AGAIN, "Nothing was read for too long. Connect again.") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise _Ended(_GOING_AWAY, "The client has left.") from None

    # --- subscriptions -------------------------------------------------------------------------

    async def _subscribe(self, asked: Asked) -> JsonObject:
        wanted, since = filter_of(asked.params), since_of(asked.params)
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise CommandError(
                "invalid_argument",
                f"A socket has at most {MAX_SUBSCRIPTIONS} subscriptions: end one.",
            )
        subscription_id = str(uuid.uuid4())
        self._is_subscribing = True
        try:
            replayed = await self._open(subscription_id, wanted, since)
        finally:
            self._is_subscribing = False
            self._subscribed_s = asyncio.get_running_loop().time()
        return {"subscription_id": subscription_id, "replayed_events": replayed}

    async def _open(self, subscription_id: str, wanted: LogFilter, since: int) -> int:
        """Opens the log for a subscription; its events follow the answer.

        Returns:
            how many events it replays.
        """
        parts = self._edge.runtime.thread_log(self._thread_id, since=since, scope=self._scope)
        reading = _Reading(parts, wanted, since)
        await reading.catch_up(_CATCH_UP_S)
        replayed = len(reading.replayed)
        self._readings[subscription_id] = reading

        def begin() -> None:
            task = asyncio.create_task(self._follow(subscription_id, reading))
            self._subscriptions[subscription_id] = task
            task.add_done_callback(self._ended)

        self._begin = begin
        return replayed

    async def _follow(self, subscription_id: str, reading: _Reading) -> None:
        try:
            async with aclosing(reading):
                async for frame in reading.frames():
                    reading.reached = frame.seq
                    self._progress.set()
                    if frame.is_end:
                        await self._others_reach(frame.seq, reading)
                    await self._send(frame.data)
        finally:
            self._readings.pop(subscription_id, None)
            self._progress.set()

    async def _others_reach(self, seq: int, reading: _Reading) -> None:
        """Waits until the other subscriptions have sent what comes before a position."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _ORDER_PATIENCE_S
        while loop.time() < deadline_s:
            is_whole = reading.is_live or not (
                self._is_subscribing or loop.time() - self._subscribed_s < _GATHER_S
            )
            if is_whole and all(each.reached >= seq for each in self._readings.values()):
                return
            self._progress.clear()
            await happens_within(_GATHER_S, self._progress.wait())

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._broken.done():
            return
        error = task.exception()
        if isinstance(error, _Ended):
            self._broken.set_exception(error)
        else:
            if error is not None and not isinstance(error, Unavailable | NotFound):
                log.error("A subscription broke off.", exc_info=error)
            # The client connects again and misses nothing.
            self._broken.set_exception(_Ended(_TRY_AGAIN, "The log broke off. Connect again."))

    async def _unsubscribe(self, asked: Asked) -> JsonObject:
        subscription_id = asked.params.get("subscription_id")
        if not isinstance(subscription_id, str):
            raise CommandError(
                "invalid_argument", "subscription.unsubscribe requires a subscription_id."
            )
        self._readings.pop(subscription_id, None)
        task = self._subscriptions.pop(subscription_id, None)
        if task is None:
            raise CommandError(
                "no_such_subscription", f"This socket has no subscription {subscription_id[:80]}."
            )
        task.cancel()
        return {}

    async def _reconnect(self, asked: Asked) -> JsonObject:
        """Looks which subscriptions of this socket there still are. A socket keeps them while it is
        open, and loses them with itself."""
        asked.text("run_id")
        wanted = asked.params.get("subscriptions")
        if wanted is not None and not is_list(wanted):
            raise CommandError("invalid_argument", "subscriptions must be an array of strings.")
        found = all(each in self._subscriptions for each in wanted or [*self._subscriptions])
        return {"restored": found and bool(self._subscriptions), "missed_events": 0}


class _Reading:
    """The log as a subscription reads it.

    Attributes:
        replayed: what is to be sent first.
        reached: what comes before this position is sent.
        is_live: what there was when the subscription came is sent.
    """

    def __init__(self, parts: AsyncIterator[LogPart], wanted: LogFilter, since: int) -> None:
        self._parts = parts
        self._wanted = wanted
        self._since = since
        self.replayed: list[_Frame] = []
        self.reached = since
        self.is_live = False
        self._has_caught_up = False
        self._read_to = since
        self._next: asyncio.Task[LogPart | None] | None = None

    async def catch_up(self, within_s: float) -> None:
        """Reads what the log has, for a limited time."""
        deadline_s = asyncio.get_running_loop().time() + within_s
        while True:
            self._next = self._next or asyncio.create_task(_next(self._parts))
            left_s = deadline_s - asyncio.get_running_loop().time()
            await asyncio.wait((self._next,), timeout=max(0.0, left_s))
            if not self._next.done():
                return
            part, self._next = self._next.result(), None
            self._has_caught_up = part is None or part.caught_up
            if part is None or part.caught_up:
                return
            self.replayed += self._frames(part)

    async def frames(self) -> AsyncIterator[_Frame]:
        """Yields the events, encoded."""
        for frame in self.replayed:
            yield frame
        self.replayed = []
        while True:
            self.reached, self.is_live = self._read_to, self._has_caught_up
            part = await (self._next or _next(self._parts))
            self._next = None
            if part is None:
                return
            self._has_caught_up |= part.caught_up
            for frame in self._frames(part):
                yield frame

    async def aclose(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait((self._next,))
        await cast(Any, self._parts).aclose()

    def _frames(self, part: LogPart) -> list[_Frame]:
        found: list[_Frame] = []
        if part.dropped_to:
            found.append(_Frame(part.dropped_to, dropped_json(self._since, part.dropped_to)))
        for event in part.events:
            self._read_to = event.seq
            if self._wanted.passes(event):
                found.append(_Frame(event.seq, event_json(event), event.is_end))
        return found


async def _next(parts: AsyncIterator[LogPart]) -> LogPart | None:
    return await anext(parts, None)
