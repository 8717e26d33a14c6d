"""The runs of a thread's log in the order of their numbers (`greenroom.core.thread_log`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.runs import Placement
from greenroom.core.scopes import Scope
from greenroom.core.thread_log import position
from greenroom.persistence.database import Connection, Pool, retrying, rows_of
from greenroom.persistence.scoping import named_condition

_RUNS = """
    SELECT r.run_id::text, r.log_number AS number, r.attempt, r.actor,
        r.status NOT IN ('pending', 'running') AS is_over
    FROM greenroom.runs r JOIN greenroom.threads t USING (thread_id)
    WHERE r.thread_id = %(thread)s AND r.log_number >= %(number)s AND {scope}
        AND ((r.log_number + 1) << 32) - 1 > t.log_dropped
    ORDER BY r.log_number"""

_OPEN = """
    UPDATE greenroom.threads t SET log_runs = greatest(log_runs, 1)
    WHERE thread_id = %(thread)s AND {scope} AND log_runs = 0"""

# Of the logs in which something happened lately: the newest event, of each run, that is beyond the
# bound, counted from the end of the log.
_TOO_LARGE = """
    WITH lately AS (
        SELECT DISTINCT thread_id FROM greenroom.runs r
        WHERE r.logged AND (r.status = 'running' OR (r.resumable
            AND r.status NOT IN ('pending', 'running')
            AND r.updated_at >= now() - make_interval(secs => %(within_s)s))))
    , sized AS (
        SELECT r.thread_id, r.run_id, r.log_number, e.seq,
            sum(octet_length(e.data)) OVER (
                PARTITION BY r.thread_id ORDER BY r.log_number DESC, e.seq DESC) AS size_bytes
        FROM lately JOIN greenroom.runs r USING (thread_id)
        JOIN greenroom.run_events e USING (run_id) WHERE r.log_number IS NOT NULL)
    SELECT thread_id, run_id, log_number AS number, max(seq) AS seq FROM sized
    WHERE size_bytes > %(max_bytes)s GROUP BY thread_id, run_id, log_number LIMIT %(max_runs)s"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedRun:
    """A numbered run of a thread's log.

    Attributes:
        number: its place among the runs of the log.
        attempt: the newest attempt; 0: it ended without having begun.
        actor: the current or last actor; None while the run waits for a next one.
    """

    run_id: str
    number: int
    attempt: int
    actor: str | None
    is_over: bool

    @property
    def placement(self) -> Placement | None:
        """Where the run is executed; None if no actor executes it."""
        if self.is_over or self.actor is None:
            return None
        return Placement(run_id=self.run_id, attempt=self.attempt, actor=self.actor)


class LoggedRuns:
    """The runs of one thread's log.

    Args:
        scope: outside of it the thread has no runs, whoever owns it at the time of a question.
    """

    def __init__(self, pool: Pool, thread_id: str, *, scope: Scope) -> None:
        self._pool = pool
        sql, values = named_condition(scope, "t.metadata")
        self._scope = sql
        self._given: dict[str, Any] = {**values, "thread": thread_id}

    async def open(self) -> None:
        """Has the runs of the thread logged from now on, if there is the thread."""

        async def write(connection: Connection) -> None:
            await connection.execute(_OPEN.format(scope=self._scope).encode(), self._given)

        await retrying(self._pool, write)

    async def numbered_from(self, number: int) -> list[LoggedRun]:
        """Returns the runs with this number or a later one, in order."""
        sql = _RUNS.format(scope=self._scope)
        rows = await rows_of(self._pool, sql, {**self._given, "number": number})
        return [LoggedRun(**row) for row in rows]

    async def dropped(self) -> int:
        """Returns the position of the last event that is not kept any more; 0 if all are."""
        sql = "SELECT log_dropped FROM greenroom.threads t WHERE thread_id = %(thread)s AND "
        rows = await rows_of(self._pool, sql + self._scope, self._given)
        return rows[0]["log_dropped"] if rows else 0


async def trim(pool: Pool, max_bytes: int, *, within_s: float, max_runs: int) -> int:
    """Deletes the oldest events of each log that is larger than ``max_bytes``.

    Args:
        within_s: consider only logs whose newest run is going on, or ended at most so many seconds
            ago.

    Returns:
        the number of runs that have lost events; ``max_runs`` means that more may be left.
    """

    async def delete(connection: Connection) -> int:
        async with connection.transaction():
            given = {"within_s": within_s, "max_bytes": max_bytes, "max_runs": max_runs}
            found = await (await connection.execute(_TOO_LARGE, given)).fetchall()
            for row in found:
                await connection.execute(
                    "DELETE FROM greenroom.run_events WHERE run_id = %s AND seq <= %s",
                    (row["run_id"], row["seq"]),
                )
                dropped = position(row["number"], row["seq"])
                await connection.execute(
                    "UPDATE greenroom.threads SET log_dropped = greatest(log_dropped, %s)"
                    " WHERE thread_id = %s",
                    (dropped, row["thread_id"]),
                )
            return len(found)

    return await retrying(pool, delete)
