"""The runs of a thread in the order of their begin, for the stream of the thread.

Runs of a thread never overlap, and a run begins only after the previous run's end is durable. So
the time of a run's begin (by PostgreSQL's clock) orders the runs, and identifies a run within the
thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.scopes import Scope
from greenroom.persistence.database import Connection, Pool, retrying, rows_of
from greenroom.persistence.scoping import named_condition

_STARTED_US = "(extract(epoch FROM started_at) * 1000000)::bigint"
_NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_SELECT = f"""
    SELECT run_id::text, {_STARTED_US} AS started_us, attempt, actor, resumable,
        status NOT IN ('pending', 'running') AS is_over
    FROM greenroom.runs WHERE started_at IS NOT NULL AND """


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunRun:
    """A run that has begun, and may be over.

    Attributes:
        started_us: the time of the begin in Unix microseconds, unique within the thread.
        attempt: the newest attempt.
        actor: the current or last actor; None while the run waits for a next one.
    """

    run_id: str
    started_us: int
    attempt: int
    actor: str | None
    resumable: bool
    is_over: bool


class StoredRuns:
    """The runs of one thread.

    Args:
        scope: outside of it the thread has no runs, whoever owns it at the time of a question.
    """

    def __init__(self, pool: Pool, thread_id: str, *, scope: Scope) -> None:
        self._pool = pool
        self._thread_id = thread_id
        self._within, self._values = "", dict[str, Any]()
        if not scope.is_everything:
            sql, self._values = named_condition(scope, "t.metadata")
            self._within = (
                " AND EXISTS (SELECT 1 FROM greenroom.threads t"
                f" WHERE t.thread_id = runs.thread_id AND {sql})"
            )

    async def find(self, run_id: str) -> BegunRun | None:
        """Returns one run; None when it has not begun, or was deleted."""
        found = await self._select("AND run_id = %(value)s", run_id)
        return found[0] if found else None

    async def begun_from(self, started_us: int) -> list[BegunRun]:
        """Returns the runs that began at that time or later, in order."""
        later = f"AND {_STARTED_US} >= %(value)s ORDER BY started_at"
        return await self._select(later, started_us)

    async def newest(self) -> BegunRun | None:
        """Returns the run that began last."""
        found = await self._select("ORDER BY started_at DESC LIMIT 1")
        return found[0] if found else None

    async def now_us(self) -> int:
        """Returns PostgreSQL's time; every run that has not begun yet begins later."""

        async def select(connection: Connection) -> int:
            cursor = await connection.execute(f"SELECT {_NOW_US} AS now_us")
            row = await cursor.fetchone()
            assert row is not None
            return row["now_us"]

        return await retrying(self._pool, select)

    async def _select(self, which: str, value: object = None) -> list[BegunRun]:
        given = {**self._values, "thread": self._thread_id, "value": value}
        sql = f"{_SELECT} thread_id = %(thread)s{self._within} {which}"
        return [BegunRun(**row) for row in await rows_of(self._pool, sql, given)]
