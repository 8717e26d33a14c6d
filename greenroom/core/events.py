"""The event log of one run: append-only, one writer, many cursors.

Replay and live are the same read: a reader passes the sequence number that it saw last and gets
all later events. Sequence numbers only grow, also across attempts: an attempt starts at
``attempt * 2**32``, because it cannot know the last number of a dead actor's log.

The writer (the loop that executes the graph) and the readers (another loop, another thread) share a
log. So every change happens under a lock, and the log wakes readers through a callback that the
caller makes thread-safe. The log's size in bytes is bounded, including hidden events. The log
forgets the oldest events first; a reader whose next events are forgotten continues with the oldest
event that is left. One read returns at most `READ_MAX_BYTES`, which bounds the cost of a reader.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from greenroom.core.units import KIB

ATTEMPT_SHIFT = 32
LIVE = -1
"""A cursor that means "only events from now on"."""
READ_MAX_BYTES = 256 * KIB
"""The most bytes that one read returns; a larger event is returned alone."""
READ_MAX_EVENTS = 8192
"""The most events that one read returns."""
BURST_MS = 2
"""Events that follow a wake-up of the readers within this time are a burst."""
UNTOLD_MS = 5
"""The longest time in milliseconds without a wake-up during a burst."""

Soon = Callable[[Callable[[], None]], object]
"""Calls a function when an event loop has done what it does now (``call_soon``)."""


def first_seq(attempt: int) -> int:
    """Returns the sequence number of an attempt's first event."""
    return attempt << ATTEMPT_SHIFT


# Not frozen: thousands of events may be made within milliseconds, and setting the attributes of a
# frozen object takes three times as long. Nothing changes an event.
@dataclass(slots=True, unsafe_hash=True)
class Event:
    """One encoded event of a run.

    Attributes:
        seq: the position, unique and growing within the run.
        at_ms: the time of the append, in Unix milliseconds.
        name: the SSE event name, e.g. ``values`` or ``updates|child:1234``.
        data: compact JSON, encoded once.
    """

    seq: int
    at_ms: int
    name: str
    data: bytes

    @property
    def id(self) -> str:
        """The SSE id ``<unix ms>-<seq>``, like a Redis stream id (platform API, section 3)."""
        return f"{self.at_ms}-{self.seq}"

    @property
    def attempt(self) -> int:
        """The attempt that appended the event."""
        return self.seq >> ATTEMPT_SHIFT


@dataclass(frozen=True, slots=True)
class Slice:
    """The result of a read.

    Attributes:
        events: the events after the reader's cursor.
        cursor: the reader's next cursor.
        closed: no event follows.
    """

    events: tuple[Event, ...]
    cursor: int
    closed: bool


@dataclass(slots=True)
class Tally:
    """Counts the bytes that several logs hold together. All their writers are on one thread."""

    size_bytes: int = 0


class EventLog:
    """The events of one attempt of one run.

    Args:
        attempt: the attempt that owns the log; the event numbers start from it.
        max_bytes: the size of encoded data above which the log forgets its oldest events.
        tally: counts the bytes of this log together with those of other logs.
        soon: of the writer's loop. A burst wakes the readers then, and every `UNTOLD_MS`; without
            it, every event does.
    """

    def __init__(
        self,
        attempt: int,
        max_bytes: int,
        tally: Tally | None = None,
        soon: Soon | None = None,
    ) -> None:
        # Forgotten events leave a gap at the front, which is cut off now and then. A list is
        # indexed in constant time, a deque is not.
        self._events: list[Event | None] = []
        self._gap = 0
        self._next_seq = first_seq(attempt)
        self._bytes = 0
        self._tally = tally or Tally()
        self._max_bytes = max_bytes
        self._closed = False
        self._hidden: list[Event] = []
        self._held: list[Event] = []
        self._lock = threading.Lock()
        # A dict keeps the order and removes in constant time: a run may be silent during thousands
        # of long polls.
        self._waiting: dict[Callable[[], None], None] = {}
        self._soon = soon
        self._woken_ms = 0
        self._untold_ms: int | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def size_bytes(self) -> int:
        """The bytes that the log holds, including hidden events."""
        return self._bytes

    @property
    def first_event_s(self) -> float | None:
        """The seconds from the first event (the attempt begins) to the second (the graph's first).

        None when there is no second event, or when the log forgot the first ones.
        """
        with self._lock:
            first, second = [*self._events[:2], None, None][:2]
            if first is None or second is None or first.seq & 0xFFFF_FFFF:
                return None
            return (second.at_ms - first.at_ms) / 1000

    @property
    def count(self) -> int:
        """The number of events appended and shown so far, including forgotten ones."""
        return self._next_seq & 0xFFFF_FFFF

    @property
    def end(self) -> int:
        """The cursor of a reader that has seen all events so far."""
        return self._next_seq - 1

    def append(self, name: str, data: bytes, at_ms: int, *, shown: bool = True) -> Event:
        """Adds an event and wakes the readers.

        Args:
            data: the encoded event.
            at_ms: the time of the event, in Unix milliseconds.
            shown: False hides this event, and all events after it, from readers until `reveal`.

        Raises:
            ValueError: the log is closed or holds a last event; the caller has a bug.
        """
        size_bytes = len(data)
        with self._lock:
            if self._closed or self._held:
                raise ValueError("the log of this run is closed")
            self._bytes += size_bytes
            self._tally.size_bytes += size_bytes
            if self._hidden or not shown:
                event = Event(self._next_seq + len(self._hidden), at_ms, name, data)
                self._hidden.append(event)
                self._forget_oldest()
                return event
            event = Event(self._next_seq, at_ms, name, data)
            self._next_seq += 1
            self._events.append(event)
            if self._bytes > self._max_bytes:
                self._forget_oldest()
            if not self._waiting:
                return event
        self._tell(at_ms)
        return event

    def _tell(self, at_ms: int) -> None:
        """Wakes the readers, at once or soon: a reader that wakes takes the interpreter away from
        the graph, so the events of a burst wake it together."""
        if self._soon is not None and 0 <= at_ms - self._woken_ms < BURST_MS:
            if self._untold_ms is None:
                self._untold_ms = at_ms
                self._soon(self._wake)
                return
            if 0 <= at_ms - self._untold_ms < UNTOLD_MS:
                return
        self._woken_ms = at_ms
        self._wake()

    def _wake(self) -> None:
        self._untold_ms = None
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def reveal(self, through: int) -> None:
        """Shows the hidden events up to the sequence number ``through`` and wakes the readers."""
        with self._lock:
            count = sum(1 for event in self._hidden if event.seq <= through)
            if self._closed or not count:
                return
            self._show_hidden(count)
            waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def _show_hidden(self, count: int) -> None:
        shown = self._hidden[:count]
        del self._hidden[:count]
        self._events.extend(shown)
        self._next_seq += count

    def _count(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._tally.size_bytes += size_bytes

    def _forget_oldest(self, max_bytes: int | None = None) -> None:
        most = self._max_bytes if max_bytes is None else max_bytes
        while self._bytes > most and len(self._events) - self._gap > 1:
            oldest = self._events[self._gap]
            assert oldest is not None
            self._events[self._gap] = None
            self._gap += 1
            self._count(-len(oldest.data))
        if self._gap > 64 and self._gap > len(self._events) // 2:
            del self._events[: self._gap]
            self._gap = 0

    def shrink(self, max_bytes: int) -> None:
        """Forgets the oldest events until ``max_bytes`` or less, or one shown event, is left."""
        with self._lock:
            self._forget_oldest(max_bytes)

    def release(self) -> None:
        """Takes the log's bytes out of the tally; the owner discards the log."""
        with self._lock:
            self._tally.size_bytes -= self._bytes
            self._tally = Tally()

    def hold(self, name: str, data: bytes, at_ms: int) -> Event:
        """Numbers a last event that readers see only when the log closes.

        A client that reads the ``error`` event may ask for the run's status at once, so the event
        stays hidden until the status is stored. The durable tail needs the event before that.
        """
        with self._lock:
            before = len(self._hidden) + len(self._held)
            event = Event(self._next_seq + before, at_ms, name, data)
            self._held.append(event)
            self._count(len(data))
            return event

    def close(self, *, whole: bool = True) -> None:
        """Closes the log; readers see the end once they have read all events.

        Args:
            whole: show the hidden and held events as well; False, for a superseded attempt,
                discards them.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not whole:
                self._count(-sum(len(event.data) for event in (*self._hidden, *self._held)))
                self._hidden.clear()
                self._held.clear()
            self._show_hidden(len(self._hidden))
            self._events.extend(self._held)
            self._next_seq += len(self._held)
            self._held.clear()
            self._forget_oldest()
            waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def read(self, after: int, max_bytes: int = READ_MAX_BYTES) -> Slice:
        """Returns the events after a cursor.

        Args:
            after: the reader's cursor; `LIVE` returns no events and a cursor at the end.
            max_bytes: the most encoded data to return; at least one event is returned, whatever its
                size. A slice that this limit cuts is not closed, and its cursor is its last event.
        """
        with self._lock:
            if after == LIVE:
                return Slice((), self._next_seq - 1, self._closed)
            if after >= self._next_seq - 1:
                return Slice((), after, self._closed)
            # Sequence numbers are dense within a log, so the position is a subtraction.
            first = self._next_seq - (len(self._events) - self._gap)
            position = self._gap + max(0, after + 1 - first)
            part = cast("list[Event]", self._events[position : position + READ_MAX_EVENTS])
            is_cut = position + len(part) < len(self._events)
            size = 0
            for count, event in enumerate(part):
                size += len(event.data)
                if size > max_bytes and count:
                    del part[count:]
                    is_cut = True
                    break
            cursor = part[-1].seq if is_cut else self._next_seq - 1
            return Slice(tuple(part), cursor, self._closed and not is_cut)

    def wait(self, after: int, wake: Callable[[], None]) -> bool:
        """Registers a callback for the next event, unless a read would return something now.

        Args:
            after: the reader's cursor.
            wake: called once, from the thread that appends or closes; it must be thread-safe.

        Returns:
            True when ``wake`` is registered; False when an event after the cursor exists or the log
            is closed.
        """
        with self._lock:
            if self._closed or after < self._next_seq - 1:
                return False
            self._waiting[wake] = None
            return True

    def leave(self, wake: Callable[[], None]) -> None:
        """Removes a registered callback; does nothing if the callback was called already."""
        with self._lock:
            self._waiting.pop(wake, None)
