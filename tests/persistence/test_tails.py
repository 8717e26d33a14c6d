"""Durable events: all or none, once each, and only by the attempt that owns the run."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from greenroom.core.errors import Fenced
from greenroom.core.events import Event, first_seq
from greenroom.persistence import tails, upkeep
from greenroom.persistence.database import Pool, open_pool


async def a_run(pool: Pool, status: str = "running") -> str:
    run_id = str(uuid.uuid4())
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " attempt, kwargs, multitask_strategy)"
            " VALUES (%s, 't', %s, 'g', %s, 1, '{}', 'reject')",
            (run_id, uuid.uuid4(), status),
        )
    return run_id


async def change(pool: Pool, sql: str, params: Any = None) -> None:
    async with pool.connection() as conn:
        await conn.execute(sql.encode(), params)


def some_events(count: int, *, attempt: int = 1, start: int = 0) -> list[Event]:
    first = first_seq(attempt) + start
    return [
        Event(first + n, 1795329693413 + n, "values|a:1", b'{"n":"\\u0000 \xc3\xbc"}')
        for n in range(count)
    ]


async def test_events_come_back_as_they_were(pool: Pool) -> None:
    run_id = await a_run(pool)
    events = some_events(500)
    await tails.append(pool, run_id, 1, events[:300])
    await tails.append(pool, run_id, 1, events[300:])
    await tails.append(pool, run_id, 1, [])
    assert await tails.read(pool, run_id, 0, 1000) == events
    assert await tails.read(pool, run_id, events[9].seq, 5) == events[10:15]
    assert await tails.read(pool, run_id, events[-1].seq, 5) == []


async def test_the_newest_of_each_name_is_found(pool: Pool) -> None:
    run_id = await a_run(pool)
    named = [("@messages:a", b"1"), ("values", b"2"), ("@messages:b", b"3"), ("@messages:a", b"4")]
    events = [Event(first_seq(1) + n, 1, *each) for n, each in enumerate(named)]
    await tails.append(pool, run_id, 1, events)
    found = await tails.newest(pool, run_id, "@messages", before=first_seq(2))
    assert found == [("@messages:a", b"4"), ("@messages:b", b"3")]
    early = await tails.newest(pool, run_id, "@messages", before=events[2].seq)
    assert early == [("@messages:a", b"1")]


async def test_a_page_has_so_many_bytes_and_at_least_one_event(pool: Pool) -> None:
    run_id = await a_run(pool)
    events = [Event(first_seq(1) + n, 1, "values", b"0" * 5000) for n in range(5)]
    await tails.append(pool, run_id, 1, events)
    assert await tails.read(pool, run_id, 0, 1000, max_bytes=12_000) == events[:3]
    assert await tails.read(pool, run_id, events[2].seq, 1000, max_bytes=1) == events[3:4]


async def test_a_batch_that_is_sent_again_is_there_once(pool: Pool) -> None:
    run_id = await a_run(pool)
    events = some_events(3)
    await tails.append(pool, run_id, 1, events)
    await tails.append(pool, run_id, 1, events)
    assert await tails.read(pool, run_id, 0, 10) == events


async def test_a_superseded_attempt_appends_nothing(pool: Pool) -> None:
    run_id = await a_run(pool)
    await tails.append(pool, run_id, 1, some_events(2))
    await change(pool, "UPDATE greenroom.runs SET attempt = 2")
    with pytest.raises(Fenced):
        await tails.append(pool, run_id, 1, some_events(2, start=2))
    second = some_events(1, attempt=2)
    await tails.append(pool, run_id, 2, second)
    assert await tails.read(pool, run_id, 0, 10) == some_events(2) + second


async def test_tails_of_finished_and_deleted_runs_expire(pool: Pool) -> None:
    running, old, fresh, deleted = [await a_run(pool) for _ in range(4)]
    for run_id in (running, old, fresh, deleted):
        await tails.append(pool, run_id, 1, some_events(3))
    await change(
        pool,
        "UPDATE greenroom.runs SET status = 'success', updated_at = now() - interval '1 h'"
        " WHERE run_id = %s",
        (old,),
    )
    await change(pool, "UPDATE greenroom.runs SET status = 'error' WHERE run_id = %s", (fresh,))
    await change(pool, "DELETE FROM greenroom.runs WHERE run_id = %s", (deleted,))
    assert await tails.delete_expired(pool, 600) == 2
    assert await tails.delete_expired(pool, 600) == 0
    assert [len(await tails.read(pool, r, 0, 9)) for r in (running, old, fresh, deleted)] == [
        *(3, 0, 3, 0)
    ]


async def test_a_later_sweep_looks_only_at_what_has_ended_since(pool: Pool) -> None:
    before, lately, fresh = [await a_run(pool) for _ in range(3)]
    for run_id, minutes in ((before, 60), (lately, 12), (fresh, 1)):
        await tails.append(pool, run_id, 1, some_events(3))
        await change(
            pool,
            "UPDATE greenroom.runs SET status = 'success', resumable = true,"
            " updated_at = now() - make_interval(mins => %s) WHERE run_id = %s",
            (minutes, run_id),
        )
    assert await tails.delete_expired(pool, 600, within_s=300) == 1
    assert await tails.delete_expired(pool, 600, within_s=300) == 0
    left = [len(await tails.read(pool, r, 0, 9)) for r in (before, lately, fresh)]
    assert left == [3, 0, 3]


async def test_a_sweep_reads_no_more_than_what_has_ended_since(dsn: str) -> None:
    """It had looked at every tail, each time."""
    # One session, as each tells its own counts.
    pool = await open_pool(dsn, application_name="greenroom:test", max_size=1)
    try:
        await sweeps_read_little(pool)
    finally:
        await pool.close()


async def sweeps_read_little(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " kwargs, multitask_strategy, resumable, resumes, attempt) SELECT gen_random_uuid(),"
            " 't' || n, gen_random_uuid(), 'g', 'success', '{}', 'enqueue', true, true, 1"
            " FROM generate_series(1, 3000) n"
        )
        await conn.execute(
            "INSERT INTO greenroom.run_events SELECT run_id, 1, 1, 'e', '' FROM greenroom.runs"
        )
        await conn.execute(
            "INSERT INTO greenroom.saved_heads SELECT run_id, '', '1' FROM greenroom.runs"
        )
        await conn.execute("ANALYZE greenroom.runs, greenroom.run_events, greenroom.saved_heads")
    for sweep in (tails.delete_expired, upkeep.delete_saved_heads):
        before = await rows_read(pool)
        assert await sweep(pool, 3600, within_s=60) == 0
        assert await rows_read(pool) - before < 100


async def rows_read(pool: Pool) -> int:
    async with pool.connection() as conn:
        await conn.execute("SELECT pg_stat_force_next_flush()")
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int AS read"
            " FROM pg_stat_user_tables WHERE schemaname = 'greenroom'"
        )
        row = await cursor.fetchone()
    assert row is not None
    return row["read"]
