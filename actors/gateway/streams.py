"""Reads the events and the outcome of a run across its attempts.

A stream is one outstanding long poll that follows its run: from the queue to its actor, to the
actor of the next attempt, and to the durable tail when no actor is left. A reader's cursor is a
sequence number that grows across attempts, so each hop continues where the last one ended.

    registry: where is the attempt after n?
       │ an actor                                                  │ over
       v                                                           v
    read ──closed──> the end     ──gone, actor died──> n = its attempt     tail, and an error
         ──not yet here──> n = its attempt - 1                             that no actor has sent
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from actors.calls.answers import POLL_MARGIN_S, ActorGone, repeat
from actors.calls.directory import Handles
from actors.gateway.ended_runs import EndedRuns, StateOf
from actors.gateway.sharing import SharedReads
from actors.run.reading import NotYetHere
from greenroom.core.errors import NotFound, Unreachable
from greenroom.core.events import LIVE, READ_MAX_BYTES, Event, first_seq
from greenroom.core.runs import UNTIL_END, Batch, Outcome, Placement, RunLocation
from greenroom.core.thread_log import END, is_logged
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from greenroom.sealing import UNSEALED, Sealing
from greenroom.wire import sse

REPLAY_PAGE = 1000
ENDS = frozenset({"error", END})
"""The names of the events that end a run."""
UNREACHABLE_PAUSE_S = 0.2


class Locate(Protocol):
    """Waits for the run's next attempt after ``attempt``, or for its end."""

    def __call__(self, run_id: str, attempt: int, /) -> Awaitable[RunLocation]: ...


class WaitS(Protocol):
    """Returns the wait of the next long poll in seconds."""

    def __call__(self) -> float: ...


class Streams:
    """Reads runs for a gateway.

    Args:
        handles: calls the actors.
        database: holds the durable events of resumable runs, and the outcomes of old runs.
        locate: asks the registry for the location of a run.
        wait_s: returns the wait of the next long poll in seconds.
        state_of: asks an inspector for the state of a thread.
        sealing: opens what is stored sealed.
    """

    def __init__(
        self,
        handles: Handles,
        database: Pool,
        locate: Locate,
        wait_s: WaitS,
        state_of: StateOf,
        *,
        sealing: Sealing = UNSEALED,
    ) -> None:
        self._handles = handles
        self._database = database
        self._locate = locate
        self._wait_s = wait_s
        self._sealing = sealing
        self._ended = EndedRuns(database, state_of, sealing=sealing)
        self.shared = SharedReads()

    async def events(
        self,
        run_id: str,
        *,
        placement: Placement | None,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
        resumable: bool,
        started_us: int | None = None,
    ) -> AsyncIterator[Batch]:
        """As `ports.Runtime.events`.

        Args:
            started_us: the start of the run in microseconds, if the ids must name the run
                (`sse.frames`).
        """
        reader = _Reader(modes, with_ids, started_us)
        async for batch in self._batches(run_id, placement, after, reader, resumable=resumable):
            yield batch

    async def logged(
        self, run_id: str, *, placement: Placement | None, after: int, is_over: bool
    ) -> AsyncIterator[Batch]:
        """Yields the events of a run for the log of its thread, until its end.

        The last event is the one that ends the run; also if no actor has said it.

        Args:
            placement: the current or last one, if it is known.
            after: a sequence number; 0 for all kept events.
            is_over: the run was over when it was looked up: its tail has all of it.
        """
        reader = _Reader(None, with_ids=True, started_us=None, of_log=True)
        last: Event | None = None
        if is_over:
            batches = self._replayed(run_id, after, reader, before=UNTIL_END)
        else:
            batches = self._batches(run_id, placement, after, reader, resumable=True)
        async for batch in batches:
            if batch.events:
                last = batch.events[-1]
                yield batch
        if last is None or last.name != END:
            event = await self._ended.untold_end(run_id, after, last)
            if event is not None:
                yield reader.batch([event], event.seq)

    async def _batches(
        self,
        run_id: str,
        placement: Placement | None,
        after: int,
        reader: _Reader,
        *,
        resumable: bool,
    ) -> AsyncIterator[Batch]:
        attempt = 0
        executed = False
        while True:
            if placement is None:
                found = await self._locate(run_id, attempt)
                if found.placement is None:
                    break
                placement = found.placement
            executed = True
            if resumable and after != LIVE:
                # Only the tail has the events of earlier attempts.
                before = placement.attempt
                async for batch in self._replayed(run_id, after, reader, before=before):
                    after = batch.cursor
                    if batch:
                        yield batch
            attempt = placement.attempt
            async for batch in self._live(run_id, placement, after, reader):
                after = batch.cursor
                if batch:
                    yield batch
                if batch.closed and batch.known:
                    return
                if not batch.known and not batch.gone:
                    # The order has not arrived; if it never does, the registry finds out.
                    attempt = placement.attempt - 1
            placement = None
        if resumable and after != LIVE:
            async for batch in self._replayed(run_id, after, reader, before=UNTIL_END):
                after = batch.cursor
                if batch:
                    yield batch
        if (resumable or executed) and not reader.of_log:
            event = await self._ended.untold_error(run_id, after)
            if event is None and not resumable:
                event = await self._ended.untold_values(run_id)
            if event is not None:
                yield reader.batch([event], event.seq)

    async def _live(
        self, run_id: str, placement: Placement, after: int, reader: _Reader
    ) -> AsyncIterator[Batch]:
        """Yields the events that an attempt's actor has; ends with the log or with the actor."""
        try:
            while True:
                batch = await self._read(run_id, placement, after, reader)
                after = batch.cursor
                yield batch
                if batch.closed:
                    return
        except ActorGone:
            self._handles.forget(placement.actor)

    async def _read(self, run_id: str, placement: Placement, after: int, reader: _Reader) -> Batch:
        actor, attempt = placement.actor, placement.attempt

        async def read() -> Batch:
            return await self._polled(
                actor,
                "read",
                lambda wait_s: (run_id, attempt, after, wait_s, *reader.arguments),
            )

        if after == LIVE:
            return await read()  # `LIVE` is another position for each reader
        return await self.shared.read((actor, run_id, attempt, after, *reader.arguments), read)

    async def _polled(
        self, actor: str, method: str, args: Callable[[float], tuple[Any, ...]]
    ) -> Any:
        """Long-polls a run actor; repeats while it cannot be reached.

        Raises:
            ActorGone: the actor died.
        """

        async def call() -> Any:
            wait_s = self._wait_s()
            within_s = wait_s + POLL_MARGIN_S
            return await self._handles.call(actor, method, *args(wait_s), within_s=within_s)

        # Without a bound: the actor's node may be lost, and Ray reports that later than the
        # connection does. The stream's heartbeats continue meanwhile.
        return await repeat(call, on=(Unreachable,), bound_s=None, pause_s=UNREACHABLE_PAUSE_S)

    async def _replayed(
        self, run_id: str, after: int, reader: _Reader, *, before: int
    ) -> AsyncIterator[Batch]:
        """Yields the durable events of the attempts before ``before``.

        Leaves out an end that another attempt follows: its attempt died before it reported this
        end.
        """
        if before <= 1:
            return  # there is no attempt before the first
        while True:
            place = ("tail", run_id, after, before, *reader.arguments)
            page = partial(self._page, run_id, after, reader, before)
            batch = await self.shared.read(place, page)
            after = batch.cursor
            yield batch
            if batch.closed:
                return

    async def _page(self, run_id: str, after: int, reader: _Reader, before: int) -> Batch:
        """Returns the next events of the tail; a closed batch when there are no more."""
        found = await tails.read(
            self._database,
            run_id,
            after,
            REPLAY_PAGE,
            max_bytes=READ_MAX_BYTES,
            sealing=self._sealing,
        )
        events = [event for event in found if event.attempt < before]
        if not events:
            return Batch(body=b"", cursor=after, closed=True)
        cursor, told = events[-1].seq, events
        if any(event.name in ENDS for event in events):
            last = await self._last_attempt(run_id, found) if before == UNTIL_END else 0
            told = [e for e in events if e.name not in ENDS or e.attempt == last]
        return reader.batch(told, cursor)

    async def _last_attempt(self, run_id: str, found: list[Event]) -> int:
        """Returns the last attempt of which a tail has events, whose newest ones are given."""
        last = found[-1].attempt
        while behind := await tails.read(
            self._database, run_id, first_seq(last + 1) - 1, 1, max_bytes=1
        ):
            last = behind[0].attempt
        return last

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Outcome:
        """As `ports.Runtime.outcome`."""
        if over:
            return await self._ended.outcome(run_id)
        attempt = 0
        while True:
            if placement is None:
                found = await self._locate(run_id, attempt)
                if found.placement is None:
                    return await self._ended.outcome(run_id)
                placement = found.placement
            attempt = placement.attempt
            try:
                return await self._heard_outcome(run_id, placement)
            except ActorGone:
                self._handles.forget(placement.actor)
            except NotYetHere:
                attempt = placement.attempt - 1
            except NotFound:
                pass  # the actor has dropped the run, or handed it back
            placement = None

    async def _heard_outcome(self, run_id: str, placement: Placement) -> Outcome:
        while True:
            outcome: Outcome | None = await self._polled(
                placement.actor, "outcome", lambda wait_s: (run_id, placement.attempt, wait_s)
            )
            if outcome is not None:
                return outcome


class _Reader:
    """The events that a reader wants, and the form of their frames.

    Args:
        modes, with_ids, started_us: as in `Streams.events`.
        of_log: as in `Shelf.read`.
    """

    def __init__(
        self,
        modes: frozenset[str] | None,
        with_ids: bool,
        started_us: int | None,
        *,
        of_log: bool = False,
    ) -> None:
        self.of_log = of_log
        self._modes, self._with_ids, self._started_us = modes, with_ids, started_us
        self.arguments = (modes, with_ids, started_us, *([True] if of_log else []))

    def batch(self, events: list[Event], cursor: int) -> Batch:
        modes, with_ids, started_us = self._modes, self._with_ids, self._started_us
        if self.of_log:
            told = tuple(event for event in events if is_logged(event.name))
            return Batch(body=b"", events=told, cursor=cursor, closed=False)
        body = sse.frames(events, modes, with_ids, started_us)
        return Batch(body=body, cursor=cursor, closed=False)
