"""The runs of a thread's log in the order of their numbers (`greenroom.core.thread_log`)."""

from __future__ import annotations

from dataclasses import dataclass, field
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

# One row at least if there is the thread, with the columns of a run only if it has one.
_OPENED = """
    SELECT t.log_runs > 0 AS is_open, t.log_dropped AS dropped, r.run_id::text,
        r.log_number AS number, r.attempt, r.actor,
        r.status NOT IN ('pending', 'running') AS is_over
    FROM greenroom.threads t LEFT JOIN greenroom.runs r ON r.thread_id = t.thread_id
        AND r.log_number >= %(number)s AND ((r.log_number + 1) << 32) - 1 > t.log_dropped
    WHERE t.thread_id = %(thread)s AND {scope} ORDER BY r.log_number"""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedLog:
    """What a reader finds when it opens a thread's log.

    Attributes:
        runs: in order.
        dropped: the position of the last event that is not kept any more; 0 if all are.
    """

    runs: list[LoggedRun] = field(default_factory=list[LoggedRun])
    dropped: int = 0


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

    async def opened(self, number: int) -> OpenedLog:
        """Returns the log's runs with this number or a later one, in order.

        From now on the runs of the thread are logged, if there is the thread.
        """
        sql = _OPENED.format(scope=self._scope)
        rows = await rows_of(self._pool, sql, {**self._given, "number": number})
        if not rows:
            return OpenedLog()
        facts = [(row.pop("is_open"), row.pop("dropped")) for row in rows]
        is_open, dropped = facts[0]
        if not is_open:
            await self._open()
        runs = [LoggedRun(**row) for row in rows if row["run_id"] is not None]
        return OpenedLog(runs=runs, dropped=dropped)

    async def _open(self) -> None:
        async def write(connection: Connection) -> None:
            await connection.execute(_OPEN.format(scope=self._scope).encode(), self._given)

        await retrying(self._pool, write)

    async def numbered_from(self, number: int) -> list[LoggedRun]:
        """Returns the runs with this number or a later one, in order."""
        sql = _RUNS.format(scope=self._scope)
        rows = await rows_of(self._pool, sql, {**self._given, "number": number})
        return [LoggedRun(**row) for row in rows]


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
