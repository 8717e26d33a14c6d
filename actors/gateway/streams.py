"""The events and the outcome of a run, wherever they are.

A stream is one outstanding long poll that follows its run: from the line, to its actor, to the
actor of the next attempt, to the durable tail when there is no actor any more. A reader's cursor
is a sequence number that only grows, also across attempts, so each hop continues where the last one
ended.

    registry: where is the attempt after n?
       │ an actor                                                  │ over
       v                                                           v
    read ──closed──> the end     ──gone, actor died──> n = its attempt     tail, and an error
         ──not yet here──> n = its attempt - 1                             that nobody has told
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import msgspec

from actors.calls.answers import POLL_MARGIN_S, ActorGone, repeat
from actors.calls.directory import Handles
from actors.gateway.sharing import SharedReads
from actors.run.reading import NotYetHere
from greenroom.core.errors import NotFound, Unreachable
from greenroom.core.events import LIVE, READ_MAX_BYTES, Event, first_seq
from greenroom.core.runs import UNTIL_END, Batch, Outcome, Placement, RunLocation, RunStatus
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from greenroom.wire import sse

REPLAY_PAGE = 1000
UNREACHABLE_PAUSE_S = 0.2


class Locate(Protocol):
    """Where the run's attempt after ``attempt`` is executed, or how the run ended; waits for it."""

    def __call__(self, run_id: str, attempt: int, /) -> Awaitable[RunLocation]: ...


class StateOf(Protocol):
    """The state of a graph's thread as JSON, as ``GET /threads/{t}/state`` answers it."""

    def __call__(self, graph_id: str, thread_id: str, /) -> Awaitable[bytes]: ...


class WaitS(Protocol):
    """How long the next long poll waits."""

    def __call__(self) -> float: ...


class Streams:
    """Reads runs for a gateway.

    Args:
        handles: calls the actors.
        database: for the durable events of resumable runs, and the outcome of runs long over.
        locate: asks the registry.
        wait_s: how long a long poll waits.
        state_of: asks an inspector.
    """

    def __init__(
        self,
        handles: Handles,
        database: Pool,
        locate: Locate,
        wait_s: WaitS,
        state_of: StateOf,
    ) -> None:
        self._handles = handles
        self._database = database
        self._locate = locate
        self._wait_s = wait_s
        self._state_of = state_of
        self._shared = SharedReads()

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
            started_us: when the run began, if its ids must say so (`sse.frame`).
        """
        reader = _Reader(modes, with_ids, started_us)
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
                # An earlier attempt's events are in the tail only, and no actor has them.
                before = placement.attempt
                async for batch in self._replayed(run_id, after, reader, before=before):
                    after = batch.cursor
                    if batch.body:
                        yield batch
            attempt = placement.attempt
            async for batch in self._live(run_id, placement, after, reader):
                after = batch.cursor
                if batch.body:
                    yield batch
                if batch.closed and batch.known:
                    return
                if not batch.known and not batch.gone:
                    # Its order is still on the way; or it never comes, and then the registry knows.
                    attempt = placement.attempt - 1
            placement = None
        if resumable and after != LIVE:
            async for batch in self._replayed(run_id, after, reader, before=UNTIL_END):
                after = batch.cursor
                if batch.body:
                    yield batch
        if resumable or executed:
            batch = await self._untold_error(run_id, after, reader)
            if batch is None and not resumable:
                batch = await self._untold_values(run_id, reader)
            if batch is not None:
                yield batch

    async def _live(
        self, run_id: str, placement: Placement, after: int, reader: _Reader
    ) -> AsyncIterator[Batch]:
        """What one attempt's actor has; ends with its log, or with the actor."""
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
            return await read()  # that place is another one for each who asks
        return await self._shared.read((actor, run_id, attempt, after, *reader.arguments), read)

    async def _polled(
        self, actor: str, method: str, args: Callable[[float], tuple[Any, ...]]
    ) -> Any:
        """A long poll of a run actor; raises ActorGone."""

        async def call() -> Any:
            wait_s = self._wait_s()
            within_s = wait_s + POLL_MARGIN_S
            return await self._handles.call(actor, method, *args(wait_s), within_s=within_s)

        # Without a bound: its node was lost, perhaps, and Ray's notice of that takes longer than
        # the connection. The stream's heartbeats go on meanwhile.
        return await repeat(call, on=(Unreachable,), bound_s=None, pause_s=UNREACHABLE_PAUSE_S)

    async def _replayed(
        self, run_id: str, after: int, reader: _Reader, *, before: int
    ) -> AsyncIterator[Batch]:
        """The durable events of the attempts before ``before``.

        An ``error`` that something follows was no end: its attempt died before it was reported.
        """
        if before <= 1:
            return  # there is no attempt before the first
        while True:
            place = ("tail", run_id, after, before, *reader.arguments)
            page = partial(self._page, run_id, after, reader, before)
            batch = await self._shared.read(place, page)
            after = batch.cursor
            yield batch
            if batch.closed:
                return

    async def _page(self, run_id: str, after: int, reader: _Reader, before: int) -> Batch:
        """Some events of the tail; closed when there are no more."""
        found = await tails.read(
            self._database, run_id, after, REPLAY_PAGE, max_bytes=READ_MAX_BYTES
        )
        events = [event for event in found if event.attempt < before]
        if not events:
            return Batch(body=b"", cursor=after, closed=True)
        cursor = events[-1].seq
        told = [event for event in events if event.name != "error"]
        # One error is the last event there is, if it is the end.
        last = events[-1]
        if last.name == "error" and before == UNTIL_END:
            behind = await tails.read(self._database, run_id, cursor, 1, max_bytes=1)
            if not behind:
                told.append(last)
        return reader.batch(told, cursor)

    async def _untold_error(self, run_id: str, after: int, reader: _Reader) -> Batch | None:
        """The ``error`` event of a run that failed without an actor to say so."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT attempt, error::text AS error,
                    (extract(epoch FROM updated_at) * 1000)::bigint AS at_ms
                FROM greenroom.runs WHERE run_id = %s AND status IN ('error', 'timeout')""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None or row["error"] is None:
            return None
        error = row["error"].encode()
        # After everything that the last attempt can have said.
        seq = first_seq(row["attempt"] + 1)
        if after >= seq or await tails.has(
            self._database, run_id, "error", error, whole=True, before=seq
        ):
            return None
        return reader.batch([Event(seq, row["at_ms"], "error", error)], seq)

    async def _untold_values(self, run_id: str, reader: _Reader) -> Batch | None:
        """The last ``values`` of a run whose actor died between its end and its last events, which
        were kept nowhere else. They may have been told before."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT attempt, (extract(epoch FROM updated_at) * 1000)::bigint AS at_ms
                FROM greenroom.runs WHERE run_id = %s AND status IN ('success', 'interrupted')
                    AND (kwargs->'stream_mode')::jsonb ? 'values'""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        seq = first_seq(row["attempt"] + 1)
        output = (await self._stored_outcome(run_id)).output
        return reader.batch([Event(seq, row["at_ms"], "values", output)], seq)

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Outcome:
        """As `ports.Runtime.outcome`."""
        if over:
            return await self._stored_outcome(run_id)
        attempt = 0
        while True:
            if placement is None:
                found = await self._locate(run_id, attempt)
                if found.placement is None:
                    return await self._stored_outcome(run_id)
                placement = found.placement
            attempt = placement.attempt
            try:
                return await self._heard_outcome(run_id, placement)
            except ActorGone:
                self._handles.forget(placement.actor)
            except NotYetHere:
                attempt = placement.attempt - 1
            except NotFound:
                pass  # the actor has forgotten it, or handed it on
            placement = None

    async def _heard_outcome(self, run_id: str, placement: Placement) -> Outcome:
        while True:
            outcome: Outcome | None = await self._polled(
                placement.actor, "outcome", lambda wait_s: (run_id, placement.attempt, wait_s)
            )
            if outcome is not None:
                return outcome

    async def _stored_outcome(self, run_id: str) -> Outcome:
        """How a run ended that no actor remembers: from its record and its thread's; of a stateless
        one, whose thread is gone, from its checkpoints."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT r.status, r.error::text AS error, t."values"::text AS "values",
                    t.interrupts::text AS interrupts, r.thread_id, r.graph_id,
                    r.attempt > 0 AND t.thread_id IS NULL AS is_without_thread
                FROM greenroom.runs r LEFT JOIN greenroom.threads t USING (thread_id)
                WHERE r.run_id = %s""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            raise NotFound("Run not found")
        status = RunStatus(row["status"])
        values = (row["values"] or "null").encode()
        of_tasks = msgspec.json.decode(row["interrupts"] or "{}", type=dict[str, list[Any]])
        waiting = [one for interrupts in of_tasks.values() for one in interrupts]
        if row["error"] is not None:
            error = row["error"].encode()
            output = b'{"__error__": %b}' % error
            return Outcome(status=status, output=output, values=values, error=error)
        if row["is_without_thread"]:
            answer = await self._state_of(row["graph_id"], row["thread_id"])
            state = msgspec.json.decode(answer, type=_State)
            values, waiting = bytes(state.values), state.interrupts
        return Outcome(status=status, output=_with_interrupts(values, waiting), values=values)


class _State(msgspec.Struct):
    """What an outcome needs of a state; the values stay as they were written."""

    values: msgspec.Raw
    interrupts: list[Any]


class _Reader:
    """What a reader wants to see of events, and how.

    Args:
        modes, with_ids, started_us: as in `Streams.events`.
    """

    def __init__(
        self, modes: frozenset[str] | None, with_ids: bool, started_us: int | None
    ) -> None:
        self.arguments = (modes, with_ids, started_us)

    def batch(self, events: list[Event], cursor: int) -> Batch:
        modes, with_ids, started_us = self.arguments
        frames = (
            sse.frame(event, with_ids, started_us)
            for event in events
            if sse.passes(event.name, modes)
        )
        return Batch(body=b"".join(frames), cursor=cursor, closed=False)


def _with_interrupts(values: bytes, waiting: list[Any]) -> bytes:
    """What ``wait`` answers of a state: its values, as they were written, and what it waits for."""
    if not waiting:
        return values
    state: dict[str, Any] = {}
    with suppress(msgspec.ValidationError):  # the state of such a graph is no object
        state = msgspec.json.decode(values, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**state, "__interrupt__": waiting})
