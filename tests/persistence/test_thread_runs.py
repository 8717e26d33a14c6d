"""The runs of a thread in the order in which they began."""

from __future__ import annotations

import uuid

from greenroom.core.scopes import SERVER
from greenroom.persistence.database import Pool
from greenroom.persistence.thread_runs import StoredRuns


async def add(pool: Pool, thread_id: str, begun: str | None, status: str = "success") -> str:
    run_id = str(uuid.uuid4())
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " attempt, actor, kwargs, multitask_strategy, started_at)"
            " VALUES (%s, %s, %s, 'g', %s, 1, 'x', '{}', 'reject', %s)",
            (run_id, thread_id, uuid.uuid4(), status, begun),
        )
    return run_id


async def test_runs_come_in_the_order_in_which_they_began(pool: Pool) -> None:
    last = await add(pool, "t", "2026-01-01 00:00:03.000001+00", "running")
    first = await add(pool, "t", "2026-01-01 00:00:01+00")
    await add(pool, "other", "2026-01-01 00:00:04+00")
    waiting = await add(pool, "t", None, "pending")
    runs = StoredRuns(pool, "t", scope=SERVER)
    found = await runs.begun_from(0)
    assert [run.run_id for run in found] == [first, last]
    assert [run.is_over for run in found] == [True, False]
    assert found[1].started_us == 1_767_225_603_000_001
    assert await runs.newest() == await runs.find(last) == found[1]
    assert await runs.begun_from(found[1].started_us) == found[1:]
    assert await runs.begun_from(found[1].started_us + 1) == []
    assert await runs.find(waiting) is None
    assert await runs.now_us() > found[1].started_us


async def test_a_thread_without_runs_has_none(pool: Pool) -> None:
    runs = StoredRuns(pool, "t", scope=SERVER)
    assert (await runs.newest(), await runs.begun_from(0)) == (None, [])
    assert await runs.find(await add(pool, "other", "2026-01-01 00:00:01+00")) is None
