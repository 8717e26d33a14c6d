"""Whether threads and runs are within a scope, for requests that a registry carries out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from greenroom.core.scopes import Scope
from greenroom.persistence.database import Pool, rows_of
from greenroom.persistence.scoping import named_condition

_STATUSES = {"pending": ["pending"], "running": ["running"], "all": ["pending", "running"]}


async def is_thread(pool: Pool, thread_id: str, scope: Scope) -> bool:
    """Returns whether there is such a thread within the scope."""
    sql, values = named_condition(scope)
    asked = f"SELECT 1 FROM greenroom.threads WHERE thread_id = %(thread)s AND {sql}"
    return bool(await rows_of(pool, asked, {**values, "thread": thread_id}))


async def threads_within(pool: Pool, thread_ids: Collection[str], scope: Scope) -> set[str]:
    """Returns those of the threads that are within the scope."""
    if not thread_ids:
        return set()
    sql, values = named_condition(scope)
    asked = f"SELECT thread_id FROM greenroom.threads WHERE thread_id = ANY(%(threads)s) AND {sql}"
    rows = await rows_of(pool, asked, {**values, "threads": [*thread_ids]})
    return {row["thread_id"] for row in rows}


async def is_run(pool: Pool, thread_id: str, run_id: str, scope: Scope) -> bool:
    """Returns whether there is such a run, on a thread within the scope."""
    given: dict[str, Any] = {"thread": thread_id, "run": run_id}
    asked = "SELECT 1 FROM greenroom.runs r WHERE r.thread_id = %(thread)s AND r.run_id = %(run)s"
    if not scope.is_everything:
        sql, values = named_condition(scope, "t.metadata")
        given |= values
        asked += (
            " AND EXISTS (SELECT 1 FROM greenroom.threads t"
            f" WHERE t.thread_id = r.thread_id AND {sql})"
        )
    return bool(await rows_of(pool, asked, given))


async def runs_in_flight(
    pool: Pool, status: Literal["pending", "running", "all"], scope: Scope
) -> list[tuple[str, str]]:
    """Returns thread and run of each run with a status whose thread is within the scope."""
    sql, values = named_condition(scope, "t.metadata")
    rows = await rows_of(
        pool,
        "SELECT r.thread_id, r.run_id::text FROM greenroom.runs r JOIN greenroom.threads t"
        f" USING (thread_id) WHERE r.status = ANY(%(statuses)s) AND {sql} ORDER BY admitted",
        {**values, "statuses": _STATUSES[status]},
    )
    return [(row["thread_id"], row["run_id"]) for row in rows]


async def graph_of(pool: Pool, thread_id: str, scope: Scope) -> str | None:
    """Returns the graph of the runs of a thread; None without one, or outside the scope."""
    sql, values = named_condition(scope)
    rows = await rows_of(
        pool,
        "SELECT metadata->>'graph_id' AS graph_id FROM greenroom.threads"
        f" WHERE thread_id = %(thread)s AND {sql}",
        {**values, "thread": thread_id},
    )
    return rows[0]["graph_id"] if rows else None
