"""The outcomes of runs that no actor holds."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

from greenroom.core.errors import RUN_NOT_FOUND, NotFound
from greenroom.core.runs import Outcome, RunStatus
from greenroom.persistence.database import Pool
from greenroom.sealing import Sealing


class StateOf(Protocol):
    """Returns the state of a graph's thread as the JSON of ``GET /threads/{t}/state``."""

    def __call__(self, graph_id: str, thread_id: str, /) -> Awaitable[bytes]: ...


class StoredOutcomes:
    """Builds outcomes from the records.

    Args:
        database: has the records of runs and threads.
        state_of: asks an inspector for the state of a thread.
        sealing: opens what is stored sealed.
    """

    def __init__(self, database: Pool, state_of: StateOf, sealing: Sealing) -> None:
        self._database = database
        self._state_of = state_of
        self._sealing = sealing

    async def of(self, run_id: str) -> Outcome:
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
                    r.output_keys IS NOT NULL AS is_cut, CASE WHEN r.output_keys IS NOT NULL
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
        values = await self.opened(row["values"] or "null")
        shown = await self.opened(row["output"]) if row["output"] is not None else values
        interrupts = await self.opened(row["interrupts"] or "{}")
        of_tasks = msgspec.json.decode(interrupts, type=dict[str, list[Any]])
        waiting = [one for interrupts in of_tasks.values() for one in interrupts]
        if row["error"] is not None:
            error = await self.opened(row["error"])
            output = b'{"__error__": %b}' % error
            return Outcome(status=status, output=output, values=values, error=error)
        if row["is_without_thread"]:
            answer = await self._state_of(row["graph_id"], row["thread_id"])
            state = msgspec.json.decode(answer, type=_State)
            values, waiting = bytes(state.values), state.interrupts
            shown = await self._output_of(run_id, values) if row["is_cut"] else values
        return Outcome(status=status, output=_with_interrupts(shown, waiting), values=values)

    async def opened(self, text: str) -> bytes:
        """Returns JSON of a record, opened if it is sealed."""
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
