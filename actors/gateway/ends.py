"""The ends of runs that no actor has told, from their records."""

from __future__ import annotations

import time

import msgspec

from actors.gateway.stored_outcomes import StoredOutcomes
from greenroom.core.events import ATTEMPT_SHIFT, Event, first_seq
from greenroom.core.runs import RunStatus
from greenroom.core.thread_log import END, end_of
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from greenroom.sealing import Sealing


class Ends:
    """Looks up how runs ended.

    Args:
        database: has the records and tails of runs.
        stored: builds the outcomes of runs that no actor holds.
        sealing: opens what is stored sealed.
    """

    def __init__(self, database: Pool, stored: StoredOutcomes, sealing: Sealing) -> None:
        self._database = database
        self._stored = stored
        self._sealing = sealing

    async def untold_end(self, run_id: str, after: int, last: Event | None) -> Event | None:
        """Returns the end of a run of a thread's log that no actor has told; None if the reader
        had it before.

        Args:
            last: the last event that was told.
        """
        if last is None and await tails.has(
            self._database, run_id, END, b"", whole=False, before=after + 1, sealing=self._sealing
        ):
            return None
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT attempt, status, error::text AS error, graph_id,
                    (extract(epoch FROM updated_at) * 1000)::bigint AS at_ms
                FROM greenroom.runs WHERE run_id = %s""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            # Rolled back, or deleted: there is no more of it than that it does not go on.
            now_ms = time.time_ns() // 1_000_000
            attempt = last.attempt if last is not None else after >> ATTEMPT_SHIFT
            row = {"attempt": attempt, "status": "interrupted", "error": None, "at_ms": now_ms}
        error = None if row["error"] is None else await self._stored.opened(row["error"])
        status, message = end_of(RunStatus(row["status"]), error, stopped=False)
        told = {"event": status, "graph_name": row.get("graph_id"), "error": message}
        data = msgspec.json.encode({name: value for name, value in told.items() if value})
        # Later than every event of the last attempt.
        event = Event(first_seq(row["attempt"] + 1), row["at_ms"], END, data)
        return event if event.seq > after else None

    async def untold_error(self, run_id: str, after: int) -> Event | None:
        """Returns the ``error`` event of a failed run if no actor has emitted it, else None."""
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
        error = await self._stored.opened(row["error"])
        # Later than every event of the last attempt.
        seq = first_seq(row["attempt"] + 1)
        if after >= seq or await tails.has(
            self._database,
            run_id,
            "error",
            error,
            whole=True,
            before=seq,
            sealing=self._sealing,
        ):
            return None
        return Event(seq, row["at_ms"], "error", error)

    async def untold_values(self, run_id: str) -> Event | None:
        """Returns the last ``values`` of a run whose actor died between the run's end and its last
        events, which only the actor held. A reader may get these values twice."""
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
        output = (await self._stored.of(run_id)).output
        return Event(seq, row["at_ms"], "values", output)
