"""What a sweep looks for: threads whose time is up, copies that no rollback will ask for.

With ``now()``: what compares with ``clock_timestamp()``, another one for each row, is never
looked up in an index.
"""

from __future__ import annotations

from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Pool, rows_of
from greenroom.persistence.owning import is_of

_DEFAULT = "updated_at < now() - make_interval(secs => %(default_ttl_s)s)"


async def expired_threads(
    pool: Pool, default_ttl_s: float | None, *, limit: int, shard: Shard = WHOLE
) -> list[str]:
    """Threads of the shard whose time to live is over and on which no run is, the longest expired
    first.

    Args:
        default_ttl_s: for threads that name none, counted from their last change; None: for ever.
    """
    sql = (
        "(SELECT thread_id, expires_at AS since FROM greenroom.threads"
        f" WHERE expires_at <= now() AND status <> 'busy' AND {is_of(shard)}"
        " ORDER BY expires_at LIMIT %(limit)s)"
    )
    if default_ttl_s is not None:
        sql += (
            " UNION ALL (SELECT thread_id, updated_at AS since FROM greenroom.threads"
            f" WHERE {_DEFAULT} AND ttl_minutes IS NULL AND status <> 'busy' AND {is_of(shard)}"
            " ORDER BY updated_at LIMIT %(limit)s)"
        )
    rows = await rows_of(
        pool,
        f"SELECT thread_id FROM ({sql}) AS expired ORDER BY since LIMIT %(limit)s",
        {"default_ttl_s": default_ttl_s, "limit": limit},
    )
    return [row["thread_id"] for row in rows]


async def is_expired(pool: Pool, thread_id: str, default_ttl_s: float | None) -> bool:
    """Whether a thread is still there, and its time to live still over."""
    rows = await rows_of(
        pool,
        "SELECT CASE WHEN ttl_minutes IS NOT NULL THEN expires_at <= now()"
        f" ELSE coalesce({_DEFAULT}, false) END AS expired"
        " FROM greenroom.threads WHERE thread_id = %(thread)s AND status <> 'busy'",
        {"default_ttl_s": default_ttl_s, "thread": thread_id},
    )
    return bool(rows and rows[0]["expired"])


async def delete_heard_cancels(pool: Pool, older_than_s: float, *, max_rows: int = 1000) -> int:
    """Forgets cancels whose answer nobody waits for; ``max_rows`` means that there may be more."""
    rows = await rows_of(
        pool,
        "DELETE FROM greenroom.cancels WHERE name IN (SELECT name FROM greenroom.cancels"
        " WHERE heard_at < now() - make_interval(secs => %(older_than_s)s) LIMIT %(max_rows)s)"
        " RETURNING name",
        {"older_than_s": older_than_s, "max_rows": max_rows},
    )
    return len(rows)


async def delete_saved_heads(
    pool: Pool, older_than_s: float, *, max_runs: int = 100, within_s: float | None = None
) -> int:
    """Deletes the copies of runs that were over before; returns of how many runs.

    The newest run of a thread keeps its copy: when it is deleted, it is undone with that.

    Args:
        within_s: only on threads on which a run ended at most that long before; None: on all, which
            looks at every copy that there is.
    """
    lately = """
        r.thread_id IN (SELECT ended.thread_id FROM greenroom.runs ended
            WHERE (ended.resumable OR ended.resumes)
                AND ended.status NOT IN ('pending', 'running')
                AND ended.updated_at >= now()
                    - make_interval(secs => %(older_than_s)s + %(within_s)s)
                AND ended.updated_at
                    < now() - make_interval(secs => %(older_than_s)s))
        AND (SELECT true FROM greenroom.saved_heads s WHERE s.run_id = r.run_id LIMIT 1)"""
    every = "r.run_id IN (SELECT s.run_id FROM greenroom.saved_heads s)"
    rows = await rows_of(
        pool,
        f"""
        WITH done AS (
            SELECT r.run_id FROM greenroom.runs r
            WHERE {every if within_s is None else lately}
                AND r.status NOT IN ('pending', 'running')
                AND r.updated_at < now() - make_interval(secs => %(older_than_s)s)
                AND (SELECT true FROM greenroom.runs newer WHERE newer.thread_id = r.thread_id
                    AND newer.attempt > 0 AND newer.admitted > r.admitted LIMIT 1)
            LIMIT %(max_runs)s),
        writes AS (DELETE FROM greenroom.saved_writes w USING done WHERE w.run_id = done.run_id),
        heads AS (DELETE FROM greenroom.saved_heads h USING done WHERE h.run_id = done.run_id)
        SELECT run_id FROM done""",
        {"older_than_s": older_than_s, "max_runs": max_runs, "within_s": within_s},
    )
    return len(rows)
