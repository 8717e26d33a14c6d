"""A sweep reads what is due, and not what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from benchmarks.plans import Plan, open_explained
from benchmarks.sweeping import sweeper_of
from greenroom.persistence.database import Pool

MOST_BLOCKS = 60
"""Of 8 KiB, which a statement may look at that finds nothing: some rows, and the way to them."""

TTL_S = 2000 * 5 * 60.0
"""The time to live of threads without one of their own; all older ones have one, a longer."""

FILL = (
    """
    INSERT INTO greenroom.threads (thread_id, status, ttl_minutes, created_at, updated_at)
    SELECT 't' || n, CASE WHEN n % 10 = 0 THEN 'interrupted' ELSE 'idle' END,
        CASE WHEN n > 1990 THEN 60 * 24 * 365 END, at, at
    FROM generate_series(1, 4000) n, LATERAL (SELECT now() - n * interval '5 minutes' AS at) x""",
    """
    INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, attempt, kwargs,
        multitask_strategy, temporary, resumable, resumes, logged, log_number,
        created_at, updated_at)
    SELECT gen_random_uuid(), t.thread_id, gen_random_uuid(), 'g', 'success', 1, '{}', 'enqueue',
        n = 5, n % 2 = 0, n % 2 = 1, n % 4 = 0, CASE WHEN n % 4 = 0 THEN n END, at, at
    FROM greenroom.threads t CROSS JOIN generate_series(1, 10) n,
        LATERAL (SELECT t.updated_at - (10 - n) * interval '1 second' AS at) x""",
    """
    INSERT INTO greenroom.saved_heads (run_id, checkpoint_ns, checkpoint_id)
    SELECT DISTINCT ON (thread_id) run_id, '', 'c' FROM greenroom.runs
    ORDER BY thread_id, admitted DESC""",
    """
    INSERT INTO greenroom.webhooks (run_id, url, thread_id, assistant_id, metadata, status, kwargs,
        multitask_strategy, created_at, ended_at, settled_at)
    SELECT run_id, 'http://x/', thread_id, assistant_id, '{}', 'success', '{}', 'enqueue', now(),
        now(), now() FROM greenroom.runs LIMIT 4000""",
    """
    INSERT INTO greenroom.idempotency (key, digest, seed)
    SELECT n::text, '', gen_random_uuid() FROM generate_series(1, 4000) n""",
    "INSERT INTO greenroom.cancels (name) SELECT n::text FROM generate_series(1, 20000) n",
    """
    INSERT INTO store (prefix, key, value, ttl_minutes, expires_at)
    SELECT 'p', n::text, '{}', 1, now() + interval '1 day' FROM generate_series(1, 4000) n""",
)


@pytest.fixture
async def plans() -> list[Plan]:
    return []


@pytest.fixture
async def full(dsn: str, pool: Pool, plans: list[Plan]) -> AsyncIterator[Pool]:
    """A database with many records of which nothing is due, whose statements are explained."""
    async with pool.connection() as connection:
        for statement in FILL:
            await connection.execute(statement)
        await connection.execute("ANALYZE")
    explained = open_explained(dsn, plans)
    await explained.open()
    yield explained
    await explained.close()


async def test_a_sweep_reads_what_is_due_and_not_what_is_stored(
    dsn: str, full: Pool, plans: list[Plan]
) -> None:
    sweeper = sweeper_of(full, dsn, thread_ttl_s=TTL_S)
    await sweeper.sweep()
    plans.clear()
    await sweeper.sweep()
    assert len(plans) > 8
    assert not reading_much(plans)
    # Nor does the first sweep of the next registry, which looks at old threads once.
    plans.clear()
    await sweeper_of(full, dsn, thread_ttl_s=None).sweep()
    assert not reading_much(plans)


def reading_much(plans: list[Plan]) -> list[str]:
    return [f"{p.blocks} {p.scanned} {p.sql}" for p in plans if p.blocks > MOST_BLOCKS]
