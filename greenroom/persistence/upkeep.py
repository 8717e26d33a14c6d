"""The queries of a sweep: expired threads, and copies that no rollback needs any more.

They use ``now()``: PostgreSQL uses no index for a comparison with ``clock_timestamp()``, which
differs for each row.
"""

from __future__ import annotations

from typing import LiteralString, NamedTuple
from uuid import UUID

from greenroom.core.limits import REACH_S
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.threads import ExpiryStrategy, ThreadTtl
from greenroom.persistence.database import Connection, Pool, retrying, rows_of
from greenroom.persistence.owning import is_of

_DEFAULT = "updated_at < now() - make_interval(secs => %(default_ttl_s)s)"


_STRATEGY = "coalesce(ttl_strategy, 'delete')"


PAGE = 1000
"""How many runs one statement examines at most, where a sweep looks at all."""

_DELETE_HEADS: LiteralString = """
    WITH done AS (
        SELECT r.run_id FROM greenroom.runs r
        WHERE {which}
            AND r.status NOT IN ('pending', 'running')
            AND r.updated_at < now() - make_interval(secs => %(older_than_s)s)
            AND (SELECT true FROM greenroom.runs newer WHERE newer.thread_id = r.thread_id
                AND newer.attempt > 0 AND newer.admitted > r.admitted LIMIT 1)
        LIMIT %(max_runs)s),
    writes AS (DELETE FROM greenroom.saved_writes w USING done WHERE w.run_id = done.run_id),
    heads AS (DELETE FROM greenroom.saved_heads h USING done WHERE h.run_id = done.run_id)
    SELECT run_id FROM done"""


class Expired(NamedTuple):
    """A thread whose time is over, and what is to be done with it."""

    thread_id: str
    strategy: ExpiryStrategy


class Size(NamedTuple):
    """The number of a thread's checkpoints, and the stored bytes of all its state."""

    checkpoints: int
    bytes: int


async def expired_threads(
    pool: Pool,
    default_ttl_s: float | None,
    *,
    limit: int,
    shard: Shard = WHOLE,
    within_s: float | None = None,
) -> list[Expired]:
    """Returns the shard's expired threads without an unfinished run, the longest expired first.

    Args:
        default_ttl_s: the time to live in seconds of threads without one, from their last change;
            None keeps them for ever.
        within_s: of those consider only threads whose time was over at most that many seconds ago;
            None considers all.
    """
    sql = (
        f"(SELECT thread_id, {_STRATEGY} AS strategy, expires_at AS since FROM greenroom.threads"
        f" WHERE expires_at <= now() AND status <> 'busy' AND {is_of(shard)}"
        " ORDER BY expires_at LIMIT %(limit)s)"
    )
    if default_ttl_s is not None:
        due = f"{_DEFAULT} AND ttl_minutes IS NULL"
        if within_s is not None:
            since = "make_interval(secs => %(default_ttl_s)s + %(within_s)s)"
            due += f" AND updated_at >= now() - {since}"
        sql += (
            " UNION ALL (SELECT thread_id, 'delete', updated_at AS since FROM greenroom.threads"
            f" WHERE {due} AND status <> 'busy' AND {is_of(shard)}"
            " ORDER BY updated_at LIMIT %(limit)s)"
        )
    rows = await rows_of(
        pool,
        f"SELECT thread_id, strategy FROM ({sql}) AS expired ORDER BY since LIMIT %(limit)s",
        {"default_ttl_s": default_ttl_s, "limit": limit, "within_s": within_s},
    )
    return [Expired(row["thread_id"], row["strategy"]) for row in rows]


async def set_default_ttl(pool: Pool, ttl: ThreadTtl) -> None:
    """Stores what new threads have, however they are made; the last start decides."""

    async def work(conn: Connection) -> None:
        async with conn.transaction():
            await conn.execute("DELETE FROM greenroom.thread_defaults")
            if ttl.default_minutes is not None:
                await conn.execute(
                    "INSERT INTO greenroom.thread_defaults (ttl_minutes, ttl_strategy)"
                    " VALUES (%s, %s) ON CONFLICT (is_only) DO UPDATE SET"
                    " ttl_minutes = excluded.ttl_minutes, ttl_strategy = excluded.ttl_strategy",
                    (ttl.default_minutes, ttl.strategy),
                )

    await retrying(pool, work)


async def size_of(pool: Pool, thread_id: str) -> Size:
    """Returns the size of a thread's state. Its data are not read, only their lengths."""
    [row] = await rows_of(
        pool,
        "SELECT c.n AS checkpoints, (c.bytes + b.bytes + w.bytes)::int8 AS bytes FROM"
        " (SELECT count(*) AS n, coalesce(sum(pg_column_size(checkpoint)"
        "     + pg_column_size(metadata)), 0) AS bytes"
        "   FROM checkpoints WHERE thread_id = %(thread)s) c,"
        " (SELECT coalesce(sum(pg_column_size(blob)), 0) AS bytes"
        "   FROM checkpoint_blobs WHERE thread_id = %(thread)s) b,"
        " (SELECT coalesce(sum(pg_column_size(blob)), 0) AS bytes"
        "   FROM checkpoint_writes WHERE thread_id = %(thread)s) w",
        {"thread": thread_id},
    )
    return Size(row["checkpoints"], row["bytes"])


async def is_expired(
    pool: Pool,
    thread_id: str,
    default_ttl_s: float | None,
    strategy: ExpiryStrategy = "delete",
) -> bool:
    """Returns whether a thread still exists, is still expired and has still this strategy."""
    rows = await rows_of(
        pool,
        "SELECT CASE WHEN ttl_minutes IS NOT NULL THEN expires_at <= now()"
        f" ELSE coalesce({_DEFAULT}, false) END AS expired"
        " FROM greenroom.threads WHERE thread_id = %(thread)s AND status <> 'busy'"
        f" AND {_STRATEGY} = %(strategy)s",
        {"default_ttl_s": default_ttl_s, "thread": thread_id, "strategy": strategy},
    )
    return bool(rows and rows[0]["expired"])


async def delete_heard_cancels(pool: Pool, older_than_s: float, *, max_rows: int = 1000) -> int:
    """Deletes the notes of old cancels, whose clients do not wait any more; returns their number.

    A result of ``max_rows`` means that more may be left.
    """
    return await _delete_old(pool, "cancels", "heard_at", older_than_s, max_rows)


async def delete_old_keys(pool: Pool, older_than_s: float, *, max_rows: int = 1000) -> int:
    """Deletes old keys of requests, with the notes of what was made under them; returns their
    number.

    A result of ``max_rows`` means that more may be left.
    """
    return await _delete_old(pool, "idempotency", "created_at", older_than_s, max_rows)


async def delete_old_usage(pool: Pool, *, max_rows: int = 1000) -> int:
    """Deletes what gateways counted longer ago than any limit reaches back; returns the number.

    A result of ``max_rows`` means that more may be left.
    """
    return await _delete_old(pool, "caller_usage", "at", REACH_S, max_rows)


async def _delete_old(
    pool: Pool, table: LiteralString, at: LiteralString, older_than_s: float, max_rows: int
) -> int:
    """Deletes rows whose time is over; returns their number.

    Args:
        table: one of the schema ``greenroom``.
        at: the column with the time.
    """
    rows = await rows_of(
        pool,
        f"DELETE FROM greenroom.{table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM greenroom.{table}"
        f" WHERE {at} < now() - make_interval(secs => %(older_than_s)s) LIMIT %(max_rows)s))"
        " RETURNING 1 AS deleted",
        {"older_than_s": older_than_s, "max_rows": max_rows},
    )
    return len(rows)


async def delete_saved_heads(
    pool: Pool, older_than_s: float, *, max_runs: int = 100, within_s: float | None = None
) -> int:
    """Deletes the saved heads of runs that ended more than ``older_than_s`` seconds ago.

    The newest run of a thread keeps its copy, which its deletion needs to undo it.

    Args:
        max_runs: delete the copies of so many runs at most.
        within_s: consider only threads on which a run ended at most that many seconds before; None
            examines every copy, page by page, and heeds no ``max_runs``.

    Returns:
        the number of runs whose copies were deleted.
    """
    if within_s is None:
        return await _delete_all_saved_heads(pool, older_than_s)
    lately = """
        r.thread_id IN (SELECT ended.thread_id FROM greenroom.runs ended
            WHERE (ended.resumable OR ended.resumes)
                AND ended.status NOT IN ('pending', 'running')
                AND ended.updated_at >= now()
                    - make_interval(secs => %(older_than_s)s + %(within_s)s)
                AND ended.updated_at
                    < now() - make_interval(secs => %(older_than_s)s))
        AND (SELECT true FROM greenroom.saved_heads s WHERE s.run_id = r.run_id LIMIT 1)"""
    given = {"older_than_s": older_than_s, "max_runs": max_runs, "within_s": within_s}
    return len(await rows_of(pool, _DELETE_HEADS.format(which=lately), given))


async def _delete_all_saved_heads(pool: Pool, older_than_s: float) -> int:
    deleted, after = 0, UUID(int=0)
    while True:
        page = await rows_of(
            pool,
            "SELECT DISTINCT run_id FROM greenroom.saved_heads WHERE run_id > %(after)s"
            " ORDER BY run_id LIMIT %(limit)s",
            {"after": after, "limit": PAGE},
        )
        if not page:
            return deleted
        runs = [row["run_id"] for row in page]
        after = runs[-1]
        given = {"older_than_s": older_than_s, "max_runs": PAGE, "runs": runs}
        sql = _DELETE_HEADS.format(which="r.run_id = ANY(%(runs)s)")
        deleted += len(await rows_of(pool, sql, given))
