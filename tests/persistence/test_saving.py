"""What many executions save at once: in one statement, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from greenroom.core.errors import Fenced
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.saving import Save, Saving
from tests.persistence.test_checkpoints import BOUND_S, a_run, put, rows, take_over, until_blocked


async def a_thread(pool: Pool, thread_id: str) -> None:
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO greenroom.threads (thread_id) VALUES (%s)", (thread_id,))


def saver_of(pool: Pool, saving: Saving, run_id: str) -> FencedSaver:
    return FencedSaver(pool, saving, run_id=run_id, attempt=1)


async def test_who_is_superseded_among_many_is_the_only_one_fenced(pool: Pool) -> None:
    saving = Saving(pool)
    runs = [await a_run(pool, f"t{n}") for n in range(5)]
    await take_over(pool, runs[2])
    savers = [saver_of(pool, saving, run_id) for run_id in runs]
    puts = [put(saver, f"t{n}", x=[n], y=n) for n, saver in enumerate(savers)]
    first = put(saver_of(pool, saving, await a_run(pool, "first")), "first", x=1)
    async with asyncio.timeout(BOUND_S):
        done = await asyncio.gather(first, *puts, return_exceptions=True)
    assert [n for n, result in enumerate(done[1:]) if isinstance(result, Fenced)] == [2]
    saved = await rows(pool, "SELECT thread_id FROM checkpoints ORDER BY 1")
    assert [row["thread_id"] for row in saved] == ["first", "t0", "t1", "t3", "t4"]
    found = await savers[4].aget_tuple({"configurable": {"thread_id": "t4", "checkpoint_ns": ""}})
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": [4], "y": 4}


async def test_what_the_database_refuses_fails_for_its_own_run_only(pool: Pool) -> None:
    saving = Saving(pool)
    good, bad = [(await a_run(pool, name), 1) for name in ("good", "bad")]

    def save(owner: tuple[str, int], thread_id: str) -> Save:
        row = {"thread": thread_id, "ns": "", "channel": "x", "version": "1", "type": "t"}
        return Save(owner=owner, key=(thread_id,), rows={"blobs": [row]}, blobs=(b"",))

    async with asyncio.timeout(BOUND_S):
        first, *done = await asyncio.gather(
            saving.save(save(good, "first")),
            saving.save(save(bad, "nul\0")),
            saving.save(save(good, "second")),
            return_exceptions=True,
        )
    assert first is None
    assert isinstance(done[0], Exception)
    assert done[1] is None
    saved = await rows(pool, "SELECT thread_id FROM checkpoint_blobs ORDER BY 1")
    assert [row["thread_id"] for row in saved] == ["first", "second"]


async def test_a_run_waits_with_its_checkpoint_for_as_long_as_the_tables_are_locked(
    pool: Pool, dsn: str
) -> None:
    """Each try is ended by the server; together they last longer than the pool's time-out."""
    quick = await open_pool(
        dsn, application_name="greenroom:quick", timeout_s=0.3, transaction_timeout_s=0.2
    )
    try:
        saver = saver_of(quick, Saving(quick), await a_run(pool, "t"))
        async with pool.connection() as somebody:
            async with somebody.transaction():
                await somebody.execute("LOCK TABLE greenroom.runs")
                saving = asyncio.create_task(put(saver, "t", x=1))
                await asyncio.sleep(1.5)
                assert not saving.done()
        await asyncio.wait_for(saving, BOUND_S)
    finally:
        await quick.close()
    assert len(await rows(pool, "SELECT 1 FROM checkpoints")) == 1


async def test_a_run_that_is_locked_holds_up_nobody_else(pool: Pool) -> None:
    """The registry's transaction has one run and wants another that a group of writers holds."""
    saving = Saving(pool)
    one, two = await a_run(pool, "one"), await a_run(pool, "two")
    async with pool.connection() as registry:
        async with registry.transaction():
            await registry.execute(
                "UPDATE greenroom.runs SET attempt = 2 WHERE run_id = %s", (one,)
            )
            waiting = asyncio.create_task(put(saver_of(pool, saving, one), "one", x=1))
            await until_blocked(pool)
            beside = asyncio.create_task(put(saver_of(pool, Saving(pool), two), "two", x=1))
            group = Saving(pool)
            both = [
                asyncio.create_task(put(saver_of(pool, group, run), name, y=1))
                for run, name in ((two, "two"), (one, "one"), (two, "more"))
            ]
            async with asyncio.timeout(BOUND_S):
                await beside
                await both[0]
                await registry.execute(
                    "UPDATE greenroom.runs SET metadata = '{}' WHERE run_id = %s", (two,)
                )
    async with asyncio.timeout(BOUND_S):
        done = await asyncio.gather(waiting, *both, return_exceptions=True)
    assert [isinstance(each, Fenced) for each in done] == [True, False, True, False]


async def test_values_are_stored_with_the_rest_and_only_for_the_current(pool: Pool) -> None:
    saving = Saving(pool)
    runs = []
    for name in ("a", "b", "c"):
        await a_thread(pool, name)
        runs.append(await a_run(pool, name))
    await take_over(pool, runs[1])
    async with asyncio.timeout(BOUND_S):
        done = await asyncio.gather(
            *(
                saving.save_values((run_id, 1), name, json.dumps({"n": name}).encode())
                for run_id, name in zip(runs, ("a", "b", "c"), strict=True)
            ),
            return_exceptions=True,
        )
    assert [isinstance(each, Fenced) for each in done] == [False, True, False]
    found = await rows(pool, 'SELECT "values"::text AS v FROM greenroom.threads ORDER BY 1')
    assert {row["v"] for row in found} == {'{"n": "a"}', None, '{"n": "c"}'}


async def test_the_later_of_two_saves_of_one_thing_counts(pool: Pool) -> None:
    saving = Saving(pool)
    await a_thread(pool, "t")
    owner = (await a_run(pool), 1)
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(saving.save_values(owner, "t", b"%d" % n) for n in range(9)))
    assert (await rows(pool, 'SELECT "values"::text AS v FROM greenroom.threads'))[0]["v"] == "8"


async def test_a_run_that_is_gone_is_fenced(pool: Pool) -> None:
    with pytest.raises(Fenced, match="not the current one"):
        await Saving(pool).save_values((str(uuid.uuid4()), 1), "t", b"1")
