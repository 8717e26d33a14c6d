"""The statements of `greenroom.persistence.bulk`; each one processes a slice.

A slice has at most ``%(rows)s`` rows, not many more than ``%(bytes)s`` bytes, and at least one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

FOUND_AT_ONCE = 10_000
"""The keys of one look-up; it is large, since each look-up reads all checkpoints of the thread."""

CHECKPOINT_KEY = ("checkpoint_ns", "checkpoint_id")
BLOB_KEY = ("checkpoint_ns", "channel", "version")
WRITES_KEY = ("checkpoint_ns", "checkpoint_id", "task_id", "idx")

OF_THREAD = "x.thread_id = %(thread)s"
OF_RUN = "x.run_id = %(run)s"
OF_RUNS = "x.run_id = ANY (ARRAY(SELECT run_id FROM greenroom.runs WHERE thread_id = %(thread)s))"

BEGIN_COPY = """
WITH source AS (SELECT 1 FROM greenroom.threads WHERE thread_id = %(thread)s),
copied AS (SELECT 1 FROM greenroom.threads WHERE thread_id = %(copy)s),
marked AS (
    INSERT INTO greenroom.operations AS o (subject, thread_id, kind)
    SELECT %(copy)s, %(thread)s, 'copy' FROM source WHERE NOT EXISTS (SELECT 1 FROM copied)
    ON CONFLICT (subject) DO UPDATE SET begun_at = o.begun_at
    RETURNING begun_at < transaction_timestamp() AS is_half)
SELECT CASE WHEN EXISTS (SELECT 1 FROM copied) THEN 'copied'
    WHEN NOT EXISTS (SELECT 1 FROM source) THEN 'nothing'
    WHEN (SELECT is_half FROM marked) THEN 'half' ELSE 'new' END AS found"""

COPY_RECORD = """
INSERT INTO greenroom.threads (thread_id, status, resting, metadata, config, "values", facets,
    interrupts, error, ever_ran)
SELECT %(copy)s, resting, resting, metadata || %(metadata)s::jsonb, config, "values", facets,
    interrupts, error, ever_ran
FROM greenroom.threads WHERE thread_id = %(thread)s
ON CONFLICT (thread_id) DO NOTHING"""

# The update waits for writes that are under way; afterwards the fence rejects all writes of the
# attempt. The rollback is now durable: a later registry goes on with it.
MARK_ROLLBACK = """
UPDATE greenroom.runs SET status = 'pending', actor = NULL, stop = 'rollback',
    updated_at = clock_timestamp()
WHERE run_id = %(run)s AND status IN ('pending', 'running')"""

MARK_FORGET = """
INSERT INTO greenroom.operations (subject, thread_id, kind, graph_id)
SELECT %(run)s::text, %(thread)s, 'forget', %(graph)s
FROM greenroom.runs WHERE run_id = %(run)s::uuid FOR UPDATE
ON CONFLICT (subject) DO NOTHING"""

IS_NEWEST = """
SELECT NOT EXISTS (
    SELECT 1 FROM greenroom.runs newer JOIN greenroom.runs it ON it.run_id = %(run)s
    WHERE newer.thread_id = %(thread)s AND newer.attempt > 0 AND newer.admitted > it.admitted
) AS is_newest"""

# The planner does not know a thread's size, and a nested loop over many rows takes for ever.
HASHED = "SELECT set_config('enable_nestloop', 'off', true)"

CHECKPOINTS_OF_RUN = f"""
SELECT checkpoint_ns, checkpoint_id, pg_column_size(checkpoint) AS size FROM checkpoints
WHERE thread_id = %(thread)s AND metadata ->> 'run_id' = %(run)s::text
ORDER BY checkpoint_id DESC LIMIT {FOUND_AT_ONCE}"""

WRITES_OF_NONE = f"""
SELECT checkpoint_ns, checkpoint_id, task_id, idx, pg_column_size(blob) AS size
FROM checkpoint_writes w WHERE w.thread_id = %(thread)s AND NOT EXISTS (
    SELECT 1 FROM checkpoints c WHERE c.thread_id = %(thread)s
        AND c.checkpoint_ns = w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id)
LIMIT {FOUND_AT_ONCE}"""

BLOBS_OF_NONE = f"""
WITH used AS MATERIALIZED (
    SELECT DISTINCT c.checkpoint_ns, v.key AS channel, v.value AS version
    FROM checkpoints c CROSS JOIN LATERAL jsonb_each_text(c.checkpoint -> 'channel_versions') v
    WHERE c.thread_id = %(thread)s)
SELECT checkpoint_ns, channel, version, coalesce(pg_column_size(blob), 0) AS size
FROM checkpoint_blobs b WHERE b.thread_id = %(thread)s AND NOT EXISTS (
    SELECT 1 FROM used u WHERE u.checkpoint_ns = b.checkpoint_ns AND u.channel = b.channel
        AND u.version = b.version)
LIMIT {FOUND_AT_ONCE}"""

NOT_SAVED = """
x.thread_id = %(thread)s AND EXISTS (
    SELECT 1 FROM greenroom.saved_heads h WHERE h.run_id = %(run)s
        AND h.checkpoint_ns = x.checkpoint_ns AND h.checkpoint_id = x.checkpoint_id)
AND NOT EXISTS (
    SELECT 1 FROM greenroom.saved_writes s WHERE s.run_id = %(run)s
        AND s.checkpoint_ns = x.checkpoint_ns AND s.checkpoint_id = x.checkpoint_id
        AND s.task_id = x.task_id AND s.idx = x.idx)"""

FORGET_HEADS = "DELETE FROM greenroom.saved_heads WHERE run_id = %(run)s"


def _part(source: str, key: Sequence[str], large: str, behind: str) -> str:
    """Returns SQL for the next rows of ``source``, as many as a slice may have."""
    names = ", ".join(key)
    return f"""
    found AS MATERIALIZED (
        SELECT {names}, coalesce(pg_column_size({large}), 0) AS size FROM {source} AND {behind}
        ORDER BY {names} LIMIT %(rows)s),
    part AS MATERIALIZED (
        SELECT * FROM (SELECT *, sum(size) OVER (ORDER BY {names}) AS until FROM found) AS counted
        WHERE until - size < %(bytes)s)"""


def _copy(table: str, key: Sequence[str], others: str, large: str) -> Callable[[str], str]:
    names = ", ".join(key)

    def statement(behind: str) -> str:
        part = _part(f"{table} WHERE thread_id = %(thread)s", key, large, behind)
        return f"""
        WITH {part}, made AS (
            INSERT INTO {table} (thread_id, {names}, {others})
            SELECT %(copy)s, {names}, {others} FROM {table} JOIN part USING ({names})
            WHERE thread_id = %(thread)s ON CONFLICT DO NOTHING)
        SELECT {names} FROM part ORDER BY {names}"""

    return statement


COPIES = (
    _copy("checkpoint_blobs", BLOB_KEY, "type, blob", "blob"),
    _copy("checkpoint_writes", WRITES_KEY, "task_path, channel, type, blob", "blob"),
    _copy(
        "checkpoints",
        CHECKPOINT_KEY,
        "parent_checkpoint_id, type, checkpoint, metadata",
        "checkpoint",
    ),
)


def restore_writes(behind: str) -> str:
    """Returns SQL that restores the saved task writes of the heads that are still saved."""
    names = ", ".join(WRITES_KEY)
    part = _part(
        """greenroom.saved_writes s WHERE s.run_id = %(run)s AND EXISTS (
            SELECT 1 FROM greenroom.saved_heads h WHERE h.run_id = %(run)s)""",
        WRITES_KEY,
        "blob",
        behind,
    )
    return f"""
    WITH {part}, restored AS (
        INSERT INTO checkpoint_writes (thread_id, {names}, channel, type, blob, task_path)
        SELECT %(thread)s, {names}, channel, type, blob, task_path
        FROM greenroom.saved_writes s JOIN part USING ({names})
        WHERE s.run_id = %(run)s AND EXISTS (
            SELECT 1 FROM checkpoints c WHERE c.thread_id = %(thread)s
                AND c.checkpoint_ns = s.checkpoint_ns AND c.checkpoint_id = s.checkpoint_id)
        ON CONFLICT (thread_id, {names}) DO UPDATE SET channel = excluded.channel,
            type = excluded.type, blob = excluded.blob, task_path = excluded.task_path)
    SELECT {names} FROM part ORDER BY {names}"""
