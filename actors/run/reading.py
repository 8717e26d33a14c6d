"""What readers of a run actor get: the logs of the runs that it executes, or has executed.

A log stands on the shelf from the start of its attempt until nobody keeps it any more:

    add ──> current ──finish──> finished ──(too many, too large)──> gone
               └──drop (handed back, superseded)────────────────────> gone

A reader may come before its run (the order is still on its way): it waits a moment, and is then
told that the run is not known *yet*, so that it asks the registry for the same attempt again. Of a
run that was here and is gone it is told so at once, and asks for the attempt that follows.

The logs are changed by the loop that executes, and read by another one on a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from actors.calls.answers import long_poll
from actors.run.node_threads import waker
from greenroom.core.errors import NotFound
from greenroom.core.events import LIVE, EventLog, Tally
from greenroom.core.runs import Batch, Outcome, RunOrder
from greenroom.core.waiting import happens_within
from greenroom.wire import sse

ARRIVAL_WAIT_S = 5.0
"""How long a read waits for a run whose start is still on its way (Ray orders calls per caller)."""

FINISHED_KEPT = 256
GONE_KEPT = 4096


class NotYetHere(NotFound):
    """The attempt has not come; that it was here and is gone is a `NotFound`."""


class Attempt(Protocol):
    """An attempt, as its readers see it.

    Attributes:
        outcome: how it ended, once that is committed.
    """

    @property
    def order(self) -> RunOrder: ...
    @property
    def log(self) -> EventLog: ...
    @property
    def outcome(self) -> Outcome | None: ...


A = TypeVar("A", bound=Attempt)

UNREAD_S = 2.0
UNDELIVERED_S = 10.0
READ_AGAIN_S = 1.0
"""How long an actor that retires waits for the readers of a run that has ended: after it was looked
for first, if nobody has asked yet, and after the last question, if its end was not given and if it
was."""
LOOK_S = 0.1


@dataclass(slots=True)
class _Reading:
    """What readers had of an attempt.

    Attributes:
        asked_s: when one of them asked last; 0 for never.
        delivered: one of them has its end.
    """

    asked_s: float = 0.0
    delivered: bool = False

    def may_go_on(self, since_s: float, now_s: float) -> bool:
        """Whether somebody may still want the attempt, at the end of its actor's life.

        Args:
            since_s: when that was looked for first.
        """
        patience_s = UNDELIVERED_S if self.asked_s else UNREAD_S
        if self.delivered:
            patience_s = READ_AGAIN_S
        return now_s - max(since_s, self.asked_s) < patience_s


class Shelf(Generic[A]):
    """The attempts of one actor, current and finished.

    Args:
        run_max_bytes: what one log keeps, and all finished ones together.
        max_bytes: what all logs keep together. Finished ones go first, oldest first; then the
            largest log loses its oldest events.
        arrival_wait_s: how long a reader waits for a run that is not here.
    """

    def __init__(
        self, run_max_bytes: int, max_bytes: int, *, arrival_wait_s: float = ARRIVAL_WAIT_S
    ) -> None:
        self._run_max_bytes = run_max_bytes
        self._max_bytes = max_bytes
        self._arrival_wait_s = arrival_wait_s
        self._current: dict[str, A] = {}
        self._finished: OrderedDict[str, A] = OrderedDict()
        self._finished_bytes = 0
        self._readings: dict[str, _Reading] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._arrivals: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()  # of the arrivals
        self._tally = Tally()

    # --- the loop that executes ----------------------------------------------------------------

    def new_log(self, attempt: int) -> EventLog:
        """An empty log whose bytes count here."""
        return EventLog(attempt, self._run_max_bytes, self._tally)

    def add(self, attempt: A) -> None:
        """An attempt begins; readers that wait for it are woken."""
        run_id = attempt.order.run_id
        self._current[run_id] = attempt
        with self._lock:
            waiting = self._arrivals.pop(run_id, [])
        for wake in waiting:
            wake()

    def finish(self, attempt: A) -> None:
        """An attempt has its outcome: its log closes, and is kept for those who come late."""
        run_id = attempt.order.run_id
        self._leave(attempt)
        earlier = self._finished.pop(run_id, None)
        self._finished[run_id] = attempt
        attempt.log.close()
        # From here on no log of these grows.
        self._finished_bytes += attempt.log.size_bytes
        if earlier is not None:
            self._finished_bytes -= earlier.log.size_bytes
            earlier.log.release()
        while len(self._finished) > FINISHED_KEPT or (
            self._finished_bytes > self._run_max_bytes and len(self._finished) > 1
        ):
            self._forget_oldest()

    def drop(self, attempt: A, *, whole: bool) -> None:
        """An attempt ends here without an outcome: readers are sent to the registry.

        Args:
            whole: show what is hidden and held as well; of an attempt that was superseded, no.
        """
        self._leave(attempt)
        self._remember(attempt)
        attempt.log.close(whole=whole)
        attempt.log.release()

    def trim(self) -> None:
        """Keeps the total within its bound; called after whatever makes a log grow."""
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
        self._finished_bytes -= oldest.log.size_bytes
        self._remember(oldest)
        oldest.log.release()

    def _remember(self, attempt: A) -> None:
        order = attempt.order
        self._readings.pop(order.run_id, None)
        self._gone[order.run_id] = max(order.attempt, self._gone.pop(order.run_id, 0))
        while len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)

    # --- any thread ----------------------------------------------------------------------------

    @property
    def current(self) -> list[A]:
        """The attempts that have not ended, or whose report was not heard."""
        return [*self._current.values()]

    @property
    def size_bytes(self) -> int:
        return self._tally.size_bytes

    def executing(self, run_id: str) -> A | None:
        return self._current.get(run_id)

    def find(self, run_id: str) -> A | None:
        """The attempt of a run that is here, over or not."""
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
    ) -> Batch:
        """What a run has past a cursor, framed; waits for an event if there is none.

        Args:
            attempt: the attempt that the caller expects here.
            after: a sequence number, 0 or `LIVE`.
            wait_s: the longest that the call waits; then the batch is empty.
            modes: as in `ports.Runtime.events`.
            with_ids: put ``id:`` lines into the frames.
            started_us: when the run began, if ids must name it (`sse.frame`).
        """
        found = await self._arrived(run_id, attempt)
        if found is None:
            gone = self._is_gone(run_id, attempt)
            return Batch(body=b"", cursor=after, closed=True, known=False, gone=gone)
        reading = self._asked(run_id)
        if after == LIVE:
            # Told at once where it stands, a reader misses nothing should this process die.
            return Batch(body=b"", cursor=found.log.end, closed=False)
        deadline_s = time.monotonic() + wait_s
        while True:
            part = found.log.read(after)
            frames = [
                sse.frame(event, with_ids, started_us)
                for event in part.events
                if sse.passes(event.name, modes)
            ]
            if frames or part.closed:
                # A log that was closed without an outcome belongs to an attempt that was dropped.
                known = found.outcome is not None or not part.closed
                reading.delivered |= part.closed
                return Batch(
                    body=b"".join(frames),
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
        """How an attempt ended, once that is committed; None when it has not ended in time.

        Raises:
            NotYetHere: the attempt has not come.
            NotFound: the attempt is not here any more.
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
        reading = self._readings.setdefault(run_id, _Reading())
        reading.asked_s = time.monotonic()
        return reading

    async def until_read(self) -> None:
        """Returns when what has ended was read to its end, or nobody asks for it any more."""
        since_s = time.monotonic()
        while any(  # noqa: ASYNC110 - mostly it is time that it waits for
            self._readings.get(run_id, _Reading()).may_go_on(since_s, time.monotonic())
            for run_id in (*[*self._current], *[*self._finished])
        ):
            await asyncio.sleep(LOOK_S)

    def _is_gone(self, run_id: str, attempt: int) -> bool:
        return self._gone.get(run_id, 0) >= attempt

    async def _arrived(self, run_id: str, attempt: int) -> A | None:
        """The attempt, or a later one; waits for it unless it was here and is gone."""
        deadline_s = time.monotonic() + self._arrival_wait_s
        while True:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            wake = waker(loop, future)
            # Registered before the look: the run may come in between.
            with self._lock:
                self._arrivals.setdefault(run_id, []).append(wake)
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
            waiting = self._arrivals.get(run_id, [])
            if wake in waiting:
                waiting.remove(wake)
                if not waiting:
                    del self._arrivals[run_id]


async def appended(event_log: EventLog, after: int, wait_s: float) -> bool:
    """Waits until the log has something past the cursor or is closed; False when the time is up."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    wake = waker(loop, future)
    if not event_log.wait(after, wake):
        return True
    try:
        return await happens_within(wait_s, future)
    finally:
        event_log.leave(wake)
