"""The event logs of a run actor's current and finished attempts, for their readers.

The shelf keeps the log of an attempt from its start until a limit drops it:

    add ──> current ──finish──> finished ──(too many, too large)──> gone
               └──drop (handed back, superseded)────────────────────> gone

A reader may come before its run's order. It waits up to `ARRIVAL_WAIT_S`; then the answer says that
the run is not known *yet*, and the reader asks the registry for the same attempt again. If the run
was here and is gone, the answer says so at once, and the reader asks for the next attempt.

The loop that executes changes the logs; another loop, on its own thread, reads them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from actors.calls.answers import long_poll
from actors.run.node_threads import waker
from greenroom.core.errors import NotFound
from greenroom.core.events import LIVE, EventLog, Soon, Tally
from greenroom.core.runs import Batch, Outcome, RunOrder
from greenroom.core.thread_log import is_logged
from greenroom.core.waiting import happens_within
from greenroom.wire import sse

ARRIVAL_WAIT_S = 5.0
"""How long a read waits for a run whose start has not arrived (Ray orders calls per caller)."""

FINISHED_KEPT = 256
GONE_KEPT = 4096


class NotYetHere(NotFound):
    """The attempt has not arrived. (If it was here and is gone, the error is `NotFound`.)"""


class Attempt(Protocol):
    """An attempt, as its readers see it.

    Attributes:
        outcome: the outcome, once it is committed; else None.
    """

    @property
    def order(self) -> RunOrder: ...
    @property
    def log(self) -> EventLog: ...
    @property
    def outcome(self) -> Outcome | None: ...


A = TypeVar("A", bound=Attempt)


@dataclass(frozen=True, slots=True)
class Ended:
    """What readers need of an attempt that has ended, without its input, its state and its graph.

    Attributes:
        order: without its ``kwargs``.
    """

    order: RunOrder
    log: EventLog
    outcome: Outcome | None

    @property
    def size_bytes(self) -> int:
        if self.outcome is None:
            return self.log.size_bytes
        output, values = self.outcome.output, self.outcome.values
        more = len(values) if values is not None and values is not output else 0
        return self.log.size_bytes + len(output) + more


UNREAD_S = 2.0
UNDELIVERED_S = 10.0
READ_AGAIN_S = 1.0
"""How long a retiring actor waits for the readers of an ended run: `UNREAD_S` from its retirement
if no reader has asked; `UNDELIVERED_S` from the last read if no reader has the end;
`READ_AGAIN_S` from the last read if a reader has the end."""
LOOK_S = 0.1


@dataclass(slots=True)
class _Reading:
    """The progress of an attempt's readers.

    Attributes:
        asked_s: the time of the last read (monotonic seconds); 0 for never.
        delivered: whether a reader has received the end.
    """

    asked_s: float = 0.0
    delivered: bool = False

    def may_go_on(self, since_s: float, now_s: float) -> bool:
        """Whether a retiring actor should keep the attempt for further reads.

        Args:
            since_s: the time of the first check (monotonic seconds).
            now_s: the current time (monotonic seconds).
        """
        patience_s = UNDELIVERED_S if self.asked_s else UNREAD_S
        if self.delivered:
            patience_s = READ_AGAIN_S
        return now_s - max(since_s, self.asked_s) < patience_s


class Shelf(Generic[A]):
    """The attempts of one actor, current and finished.

    Args:
        run_max_bytes: the limit of one log, and of all finished logs and outcomes together.
        max_bytes: the limit of all logs and outcomes together. Above it the oldest finished ones
            are dropped first; then the largest log loses its oldest events.
        arrival_wait_s: how many seconds a reader waits for a run that is not here.

    Attributes:
        arrivals: wakes the readers that wait for a run, by run.
        readings: what is being read, by run.
        gone: the last attempts that are not here any more, by run.
    """

    def __init__(
        self, run_max_bytes: int, max_bytes: int, *, arrival_wait_s: float = ARRIVAL_WAIT_S
    ) -> None:
        self._run_max_bytes = run_max_bytes
        self._max_bytes = max_bytes
        self._arrival_wait_s = arrival_wait_s
        self._current: dict[str, A] = {}
        self._finished: OrderedDict[str, Ended] = OrderedDict()
        self._finished_bytes = 0
        self.readings: dict[str, _Reading] = {}
        self.gone: OrderedDict[str, int] = OrderedDict()
        self.arrivals: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()  # of the arrivals
        self._tally = Tally()

    # --- the loop that executes ----------------------------------------------------------------

    def new_log(self, attempt: int, soon: Soon | None = None) -> EventLog:
        """Returns an empty log whose bytes count towards the shelf's limit.

        Args:
            soon: as of `EventLog`.
        """
        return EventLog(attempt, self._run_max_bytes, self._tally, soon)

    def add(self, attempt: A) -> None:
        """Adds an attempt that begins; wakes the readers that wait for it."""
        run_id = attempt.order.run_id
        self._current[run_id] = attempt
        with self._lock:
            waiting = self.arrivals.pop(run_id, [])
        for wake in waiting:
            wake()

    def finish(self, attempt: A) -> None:
        """Closes the log of an attempt that has its outcome; keeps both for late readers."""
        run_id = attempt.order.run_id
        earlier = self._finished.pop(run_id, None)
        # Before it leaves: a reader finds the one or the other.
        ended = Ended(replace(attempt.order, kwargs=b""), attempt.log, attempt.outcome)
        self._finished[run_id] = ended
        self._leave(attempt)
        ended.log.close()
        # A closed log no longer grows.
        self._finished_bytes += ended.size_bytes
        self._tally.size_bytes += ended.size_bytes - ended.log.size_bytes
        if earlier is not None:
            self._discard(earlier)
        while len(self._finished) > FINISHED_KEPT or (
            self._finished_bytes > self._run_max_bytes and len(self._finished) > 1
        ):
            self._forget_oldest()

    def drop(self, attempt: A, *, whole: bool) -> None:
        """Removes an attempt that leaves without an outcome; its readers ask the registry.

        Args:
            attempt: the attempt.
            whole: whether readers see hidden and held events too; False for a superseded attempt.
        """
        self._leave(attempt)
        self._remember(attempt.order)
        attempt.log.close(whole=whole)
        attempt.log.release()

    def trim(self) -> None:
        """Enforces the limit of all logs together; called after each append to a log."""
        while self._tally.size_bytes > self._max_bytes and len(self._finished) > 1:
            self._forget_oldest()
        excess = self._tally.size_bytes - self._max_bytes
        if excess > 0 and self._current:
            largest = max((a.log for a in self.current), key=lambda log: log.size_bytes)
            largest.shrink(largest.size_bytes - excess)

    def _leave(self, attempt: A) -> None:
        # A later attempt of the run may have come meanwhile.
        if self._current.get(attempt.order.run_id) is attempt:
            del self._current[attempt.order.run_id]

    def _forget_oldest(self) -> None:
        _, oldest = self._finished.popitem(last=False)
        self._remember(oldest.order)
        self._discard(oldest)

    def _discard(self, ended: Ended) -> None:
        self._finished_bytes -= ended.size_bytes
        self._tally.size_bytes -= ended.size_bytes - ended.log.size_bytes
        ended.log.release()

    def _remember(self, order: RunOrder) -> None:
        self.readings.pop(order.run_id, None)
        self.gone[order.run_id] = max(order.attempt, self.gone.pop(order.run_id, 0))
        while len(self.gone) > GONE_KEPT:
            self.gone.popitem(last=False)

    # --- any thread ----------------------------------------------------------------------------

    @property
    def current(self) -> list[A]:
        """The attempts that have not ended, or whose report was not accepted yet."""
        return [*self._current.values()]

    @property
    def size_bytes(self) -> int:
        return self._tally.size_bytes

    def executing(self, run_id: str) -> A | None:
        return self._current.get(run_id)

    def find(self, run_id: str) -> A | Ended | None:
        """Returns the current or finished attempt of a run, or None."""
        return self._current.get(run_id) or self._finished.get(run_id)

    def has_had(self, run_id: str, attempt: int) -> bool:
        """Whether this attempt of a run, or a later one, is or was here."""
        found = self.find(run_id)
        return self._is_gone(run_id, attempt) or (
            found is not None and found.order.attempt >= attempt
        )

    # --- the loop that reads -------------------------------------------------------------------

    @long_poll
    async def read(
        self,
        run_id: str,
        attempt: int,
        after: int,
        wait_s: float,
        modes: frozenset[str] | None,
        with_ids: bool,
        started_us: int | None = None,
        of_log: bool = False,
    ) -> Batch:
        """Returns a run's events past a cursor as SSE frames; waits for an event if there is none.

        Args:
            run_id: the run.
            attempt: the attempt that the caller expects here.
            after: the cursor: a sequence number, 0 or `LIVE`.
            wait_s: the longest wait in seconds; then the batch is empty.
            modes: as in `ports.Runtime.events`.
            with_ids: whether the frames have ``id:`` lines.
            started_us: the start of the run in microseconds, if the ids must name the run
                (`sse.frames`).
            of_log: return the events of the thread's log, unframed; modes and ids do not matter.

        Returns:
            the batch. ``known`` is False if this actor has no outcome to give: with ``gone`` the
            attempt was here, without it the attempt has not arrived.
        """
        found = await self._arrived(run_id, attempt)
        if found is None:
            gone = self._is_gone(run_id, attempt)
            return Batch(body=b"", cursor=after, closed=True, known=False, gone=gone)
        reading = self._asked(run_id)
        if after == LIVE:
            # Answered at once: with the cursor a reader misses nothing if this process dies.
            return Batch(body=b"", cursor=found.log.end, closed=False)
        deadline_s = time.monotonic() + wait_s
        while True:
            part = found.log.read(after)
            events = tuple(event for event in part.events if of_log and is_logged(event.name))
            body = b"" if of_log else sse.frames(part.events, modes, with_ids, started_us)
            if body or events or part.closed:
                # A log that was closed without an outcome belongs to an attempt that was dropped.
                known = found.outcome is not None or not part.closed
                reading.delivered |= part.closed
                return Batch(
                    body=body,
                    events=events,
                    cursor=part.cursor,
                    closed=part.closed,
                    known=known,
                    gone=not known,
                )
            after = part.cursor
            if not await appended(found.log, after, deadline_s - time.monotonic()):
                return Batch(body=b"", cursor=after, closed=False)

    @long_poll
    async def outcome(self, run_id: str, attempt: int, wait_s: float) -> Outcome | None:
        """Returns an attempt's outcome once it is committed; None if it does not end in time.

        Args:
            run_id: the run.
            attempt: the attempt that the caller expects here.
            wait_s: the longest wait in seconds.

        Raises:
            NotYetHere: the attempt has not arrived.
            NotFound: the attempt is no longer here.
        """
        found = await self._arrived(run_id, attempt)
        if found is None:
            gone = self._is_gone(run_id, attempt)
            raise (NotFound if gone else NotYetHere)(f"Run {run_id} is not here.")
        reading = self._asked(run_id)
        deadline_s = time.monotonic() + wait_s
        while found.outcome is None:
            if found.log.closed:
                raise NotFound(f"Run {run_id} is not here.")
            if not await appended(found.log, found.log.end, deadline_s - time.monotonic()):
                return None
        reading.delivered = True
        return found.outcome

    def _asked(self, run_id: str) -> _Reading:
        reading = self.readings.setdefault(run_id, _Reading())
        reading.asked_s = time.monotonic()
        return reading

    async def until_read(self) -> None:
        """Returns when readers have read all attempts to their end, or have stopped asking."""
        since_s = time.monotonic()
        while any(  # noqa: ASYNC110 - mostly it is time that it waits for
            self.readings.get(run_id, _Reading()).may_go_on(since_s, time.monotonic())
            for run_id in (*[*self._current], *[*self._finished])
        ):
            await asyncio.sleep(LOOK_S)

    def _is_gone(self, run_id: str, attempt: int) -> bool:
        return self.gone.get(run_id, 0) >= attempt

    async def _arrived(self, run_id: str, attempt: int) -> A | Ended | None:
        """Returns the attempt or a later one; waits for it unless it was here and is gone."""
        deadline_s = time.monotonic() + self._arrival_wait_s
        while True:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            wake = waker(loop, future)
            # Registered before the look-up: the run may arrive in between.
            with self._lock:
                self.arrivals.setdefault(run_id, []).append(wake)
            try:
                found = self.find(run_id)
                if found is not None and found.order.attempt >= attempt:
                    return found
                if self._is_gone(run_id, attempt):
                    return None
                if not await happens_within(deadline_s - time.monotonic(), future):
                    return None
            finally:
                self._stop_waiting(run_id, wake)

    def _stop_waiting(self, run_id: str, wake: Callable[[], None]) -> None:
        with self._lock:
            waiting = self.arrivals.get(run_id, [])
            if wake in waiting:
                waiting.remove(wake)
                if not waiting:
                    del self.arrivals[run_id]


async def appended(event_log: EventLog, after: int, wait_s: float) -> bool:
    """Waits until the log has an event past the cursor or is closed; False after ``wait_s``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    wake = waker(loop, future)
    if not event_log.wait(after, wake):
        return True
    try:
        return await happens_within(wait_s, future)
    finally:
        event_log.leave(wake)
