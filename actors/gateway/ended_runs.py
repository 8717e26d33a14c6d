"""Runs that no actor holds any more: their outcomes, and events that nobody has sent.

An actor may die between the end of a run and its last events, and an outcome outlives its actor.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from greenroom.core.errors import RUN_NOT_FOUND, NotFound
from greenroom.core.events import ATTEMPT_SHIFT, Event, first_seq
from greenroom.core.runs import Outcome, RunStatus
from greenroom.core.thread_log import END, end_of
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from greenroom.sealing import UNSEALED, Sealing


class StateOf(Protocol):
    """Returns the state of a graph's thread as the JSON of ``GET /threads/{t}/state``."""

    def __call__(self, graph_id: str, thread_id: str, /) -> Awaitable[bytes]: ...


class EndedRuns:
    """Reads runs that no actor holds.

    Args:
        database: has the records.
        state_of: asks an inspector for the state of a thread.
        sealing: opens what is stored sealed.
    """

    def __init__(self, database: Pool, state_of: StateOf, *, sealing: Sealing = UNSEALED) -> None:
        self._database = database
        self._state_of = state_of
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
        error = None if row["error"] is None else await self._opened(row["error"])
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
        error = await self._opened(row["error"])
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
        output = (await self.outcome(run_id)).output
        return Event(seq, row["at_ms"], "values", output)

    async def outcome(self, run_id: str) -> Outcome:
        """Builds the outcome of a run that no actor holds: from the records of the run and its
        thread; of a stateless run, whose thread record is gone, from its checkpoints.

        Raises:
            NotFound: the run has no record.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT r.status, r.error::text AS error, t."values"::text AS "values",
                    -- A state may be large: what is not cut comes once.
                    r.output_keys::text AS output_keys, CASE WHEN r.output_keys IS NOT NULL
                        THEN greenroom.output_of(t."values", r.output_keys)::text END AS output,
                    t.interrupts::text AS interrupts, r.thread_id, r.graph_id,
                    r.attempt > 0 AND t.thread_id IS NULL AS is_without_thread
                FROM greenroom.runs r LEFT JOIN greenroom.threads t USING (thread_id)
                WHERE r.run_id = %s""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            raise NotFound(RUN_NOT_FOUND)
        status = RunStatus(row["status"])
        values = await self._opened(row["values"] or "null")
        shown = await self._opened(row["output"]) if row["output"] is not None else values
        interrupts = await self._opened(row["interrupts"] or "{}")
        of_tasks = msgspec.json.decode(interrupts, type=dict[str, list[Any]])
        waiting = [one for interrupts in of_tasks.values() for one in interrupts]
        if row["error"] is not None:
            error = await self._opened(row["error"])
            output = b'{"__error__": %b}' % error
            keys = row["output_keys"] and row["output_keys"].encode()
            return Outcome(
                status=status, output=output, values=values, error=error, output_keys=keys
            )
        if row["is_without_thread"]:
            answer = await self._state_of(row["graph_id"], row["thread_id"])
            state = msgspec.json.decode(answer, type=_State)
            values, waiting = bytes(state.values), state.interrupts
            shown = await self._output_of(run_id, values) if row["output_keys"] else values
        return Outcome(status=status, output=_with_interrupts(shown, waiting), values=values)

    async def _opened(self, text: str) -> bytes:
        return await self._sealing.apart(self._sealing.open_json, text.encode())

    async def _output_of(self, run_id: str, values: bytes) -> bytes:
        """Returns the part of a state that the output schema of the run's graph shows."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "SELECT greenroom.output_of(%s::json, output_keys)::text AS output"
                " FROM greenroom.runs WHERE run_id = %s",
                (values.decode(), run_id),
            )
            row = await cursor.fetchone()
        if row is None:
            raise NotFound(RUN_NOT_FOUND)
        return row["output"].encode()


class _State(msgspec.Struct):
    """The parts of a state that an outcome needs; the values stay encoded."""

    values: msgspec.Raw
    interrupts: list[Any]


def _with_interrupts(values: bytes, waiting: list[Any]) -> bytes:
    """Returns a state as ``wait`` answers it: its encoded values, and its interrupts."""
    if not waiting:
        return values
    state: dict[str, Any] = {}
    with suppress(msgspec.ValidationError):  # the graph's state is not a JSON object
        state = msgspec.json.decode(values, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**state, "__interrupt__": waiting})
