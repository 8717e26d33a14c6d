"""The event log of one run: append-only, one writer, many cursors.

Replay and live are the same read: a reader names the sequence number it has seen last and gets
everything after it. Sequence numbers only grow, also across attempts, because an attempt starts at
``attempt * 2**32``: a second attempt cannot know how far a dead log had come.

The writer (the loop that executes the graph) and the readers (another loop, another thread) share a
log, so every change happens under a lock and readers are woken through a callback that the caller
makes thread-safe. The log is bounded by bytes, those of events that are not shown yet included: the
oldest events go first, and a reader whose cursor was passed by continues with the oldest event that
is left. One read gives `READ_MAX_BYTES` at most, so that a reader costs that much and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from greenroom.core.units import KIB

ATTEMPT_SHIFT = 32
LIVE = -1
"""A cursor that means "only what comes from now on"."""
READ_MAX_BYTES = 256 * KIB
"""What one read gives at most; a single event that is larger is given alone."""


def first_seq(attempt: int) -> int:
    """The sequence number of an attempt's first event."""
    return attempt << ATTEMPT_SHIFT


@dataclass(frozen=True, slots=True)
class Event:
    """One encoded event of a run.

    Attributes:
        seq: position, unique and growing within the run.
        at_ms: when it was appended, Unix milliseconds.
        name: the SSE event name, e.g. ``values`` or ``updates|child:1234``.
        data: compact JSON, encoded once.
    """

    seq: int
    at_ms: int
    name: str
    data: bytes

    @property
    def id(self) -> str:
        """``<unix ms>-<seq>``, the shape of a Redis stream id (platform API, section 3)."""
        return f"{self.at_ms}-{self.seq}"

    @property
    def attempt(self) -> int:
        """Whose event it is."""
        return self.seq >> ATTEMPT_SHIFT


@dataclass(frozen=True, slots=True)
class Slice:
    """What a read gives: the events past a cursor, the next cursor, and whether more can come."""

    events: tuple[Event, ...]
    cursor: int
    closed: bool


@dataclass(slots=True)
class Tally:
    """The bytes that several logs hold together. All their writers are on one thread."""

    size_bytes: int = 0


class EventLog:
    """The events of one attempt of one run.

    Args:
        attempt: the attempt that owns the log; numbers its events.
        max_bytes: how much encoded data the log keeps before it forgets the oldest events.
        tally: counts the bytes of this log together with those of others.
    """

    def __init__(self, attempt: int, max_bytes: int, tally: Tally | None = None) -> None:
        # Events that are forgotten leave a gap at the front, which is closed now and then: a list
        # is cut anywhere at the cost of what is cut out, a deque is not.
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
        # A dict for its order and for leaving: a run may be silent through thousands of long polls.
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def size_bytes(self) -> int:
        """What the log holds, with the events that are not shown yet."""
        return self._bytes

    @property
    def first_event_s(self) -> float | None:
        """From the first event, which says that the attempt has begun, to the second, which is the
        graph's; None when there is none, or the first ones are forgotten."""
        with self._lock:
            first, second = [*self._events[:2], None, None][:2]
            if first is None or second is None or first.seq & 0xFFFF_FFFF:
                return None
            return (second.at_ms - first.at_ms) / 1000

    @property
    def count(self) -> int:
        """How many events there were, with those that are forgotten."""
        return self._next_seq & 0xFFFF_FFFF

    @property
    def end(self) -> int:
        """The cursor of a reader that has seen everything so far."""
        return self._next_seq - 1

    def append(self, name: str, data: bytes, at_ms: int, *, shown: bool = True) -> Event:
        """Adds an event and wakes the readers.

        Args:
            shown: otherwise readers see neither it nor what is appended after it until `reveal`.

        Raises:
            ValueError: the log was closed, or a last event is held; whoever appends late is a bug
                of the caller.
        """
        with self._lock:
            if self._closed or self._held:
                raise ValueError("the log of this run is closed")
            event = Event(self._next_seq + len(self._hidden), at_ms, name, data)
            self._count(len(data))
            if self._hidden or not shown:
                self._hidden.append(event)
                self._forget_oldest()
                return event
            self._next_seq += 1
            self._events.append(event)
            self._forget_oldest()
            waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()
        return event

    def reveal(self, through: int) -> None:
        """Shows what was appended without being shown, up to a sequence number."""
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
        """Forgets the oldest events until the log holds no more than this, or one shown event."""
        with self._lock:
            self._forget_oldest(max_bytes)

    def release(self) -> None:
        """The log leaves the tally: nobody keeps it any more."""
        with self._lock:
            self._tally.size_bytes -= self._bytes
            self._tally = Tally()

    def hold(self, name: str, data: bytes, at_ms: int) -> Event:
        """Numbers a last event that readers see only when the log closes.

        A client that reads the ``error`` event looks at the run right after, so the event may not
        be seen before the status is stored; and the durable tail needs it before that.
        """
        with self._lock:
            before = len(self._hidden) + len(self._held)
            event = Event(self._next_seq + before, at_ms, name, data)
            self._held.append(event)
            self._count(len(data))
            return event

    def close(self, *, whole: bool = True) -> None:
        """Says that no event follows; readers see the end once they have read what is there.

        Args:
            whole: show what is hidden and held as well; an attempt that was superseded must not.
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
        """What is past ``after`` (``LIVE``: nothing yet, and a cursor at the end).

        Args:
            max_bytes: of encoded data; then the slice is not closed, and its cursor is the last
                event in it. One event is given whatever its size.
        """
        with self._lock:
            if after == LIVE:
                return Slice((), self._next_seq - 1, self._closed)
            if after >= self._next_seq - 1:
                return Slice((), after, self._closed)
            events: list[Event] = []
            size = 0
            # Sequence numbers are dense within a log, so the position is a subtraction.
            first = self._next_seq - (len(self._events) - self._gap)
            position = self._gap + max(0, after + 1 - first)
            for index in range(position, len(self._events)):
                event = self._events[index]
                assert event is not None
                size += len(event.data)
                if events and size > max_bytes:
                    return Slice(tuple(events), events[-1].seq, False)
                events.append(event)
            return Slice(tuple(events), self._next_seq - 1, self._closed)

    def wait(self, after: int, wake: Callable[[], None]) -> bool:
        """Registers ``wake`` unless there already is something past ``after`` or the log is closed.

        ``wake`` is called once, from whatever thread appends or closes: it must be thread-safe.

        Returns:
            whether it was registered; False means that a read now gives something.
        """
        with self._lock:
            if self._closed or after < self._next_seq - 1:
                return False
            self._waiting[wake] = None
            return True

    def leave(self, wake: Callable[[], None]) -> None:
        """A reader does not wait any more; nothing happens if it was woken already."""
        with self._lock:
            self._waiting.pop(wake, None)
