"""Deleting, copying and taking back in slices, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom.core.errors import Fenced
from greenroom.core.sharding import Shard
from greenroom.persistence import journal
from greenroom.persistence.bulk import Bulk
from greenroom.persistence.database import Pool
from greenroom.persistence.fence import fenced
from greenroom.persistence.journal import Superseded, Write, thread_writes
from tests.persistence.checkpointed import (
    checkpoint,
    checkpoints,
    execute,
    fill,
    left_of,
    rows_of,
    state,
    write_on,
)
from tests.run_records import request_of

HELD = 7_001


class Epoch:
    """Who may write, and who was told that he may not any more."""

    def __init__(self, pool: Pool, number: int) -> None:
        self.pool = pool
        self.number = number
        self.superseded = False

    def bulk(self, **limits: int) -> Bulk:
        def superseded() -> None:
            self.superseded = True

        return Bulk(self.pool, self.number, superseded, **limits)


async def next_epoch(pool: Pool) -> Epoch:
    async with pool.connection() as connection:
        return Epoch(pool, await journal.take_epoch(connection, 1))


@pytest.fixture
async def epoch(pool: Pool) -> Epoch:
    return await next_epoch(pool)


@pytest.fixture
def bulk(epoch: Epoch) -> Bulk:
    """With slices of two rows."""
    return epoch.bulk(most_rows=2)


async def a_run(pool: Pool, thread_id: str = "t", **changes: Any) -> str:
    """An executed run, in attempt 1."""
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": thread_id,
        "assistant_id": str(uuid.uuid4()),
        "graph_id": "g",
        "kwargs": b"{}",
        "metadata": b"{}",
        "multitask_strategy": "enqueue",
        "create_thread": True,
    }
    write = journal.admit(request_of(**(given | changes)), actor="a")
    async with pool.connection() as connection:
        await connection.execute(write.sql.encode(), write.params)
    return given["run_id"]


async def perform(pool: Pool, *writes: Write) -> None:
    async with pool.connection() as connection, connection.transaction():
        for write in writes:
            await connection.execute(write.sql.encode(), write.params)


async def end(pool: Pool, run_id: str) -> None:
    await execute(pool, "UPDATE greenroom.runs SET status = 'success' WHERE run_id = %s", run_id)


async def stop_after(pool: Pool, table: str, kind: str, row: str) -> None:
    """From now on the statement that touches a row fails, as if the power went off."""
    await execute(
        pool,
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the power is off'; END $$",
    )
    which = "NEW" if kind == "INSERT" else "OLD"
    await execute(
        pool,
        f"CREATE TRIGGER stop BEFORE {kind} ON {table} FOR EACH ROW WHEN ({which}.{row})"
        " EXECUTE FUNCTION stop()",
    )


async def go_on(pool: Pool) -> None:
    await execute(pool, "DROP FUNCTION stop CASCADE")


@asynccontextmanager
async def held_back(pool: Pool, table: str, kind: str) -> AsyncIterator[None]:
    """Every statement of a kind on a table waits, until the block is left."""
    await execute(
        pool,
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({HELD}); RETURN NULL; END $$",
    )
    await execute(
        pool,
        f"CREATE TRIGGER hold BEFORE {kind} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION hold()",
    )
    async with pool.connection() as connection:
        await connection.execute("SELECT pg_advisory_lock(%s)", (HELD,))
        try:
            yield
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (HELD,))


# --- delete --------------------------------------------------------------------------------------


async def test_a_large_thread_is_deleted_in_slices_and_leaves_nothing(
    pool: Pool, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_writes, "SMALL_ROWS", 0)
    run_id = await a_run(pool)
    await fill(pool, run_id, "t")
    await checkpoints(pool, run_id, [f"{n}" for n in range(10, 17)])
    other = await a_run(pool, "other")
    await checkpoint(pool, other, "1", "other")
    await perform(pool, journal.delete_thread("t"))
    assert [(each.kind, each.subject) for each in await bulk.unfinished()] == [("delete", "t")]
    for _ in range(2):
        await bulk.delete_thread("t")
        assert await left_of(pool, "t") == {}
        assert await bulk.unfinished() == []
    assert await state(pool, "other") == (["1"], ["1"], [])


async def test_a_slice_has_not_many_more_bytes_than_it_may(pool: Pool, epoch: Epoch) -> None:
    run_id = await a_run(pool)
    await checkpoints(pool, run_id, [f"{n}" for n in range(5)], size=1000)
    await execute(pool, "CREATE TABLE deleted (tx xid8)")
    await execute(
        pool,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO deleted VALUES (pg_current_xact_id()); RETURN OLD; END $$",
    )
    await execute(
        pool,
        "CREATE TRIGGER note BEFORE DELETE ON checkpoint_blobs FOR EACH ROW"
        " EXECUTE FUNCTION note()",
    )
    await epoch.bulk(most_bytes=1500).delete_thread("t")
    counts = await execute(pool, "SELECT count(*) FROM deleted GROUP BY tx ORDER BY 1")
    assert counts == [(1,), (2,), (2,)]


async def test_who_was_superseded_stops_at_the_next_slice(pool: Pool, epoch: Epoch) -> None:
    run_id = await a_run(pool)
    await checkpoints(pool, run_id, ["1", "2", "3"])
    await next_epoch(pool)
    for work in (
        epoch.bulk().delete_thread("t"),
        epoch.bulk().copy_thread("t", "copy"),
        epoch.bulk().roll_back(run_id, "t"),
        epoch.bulk().forget_run(run_id, "t", "g"),
    ):
        epoch.superseded = False
        with pytest.raises(Superseded):
            await work
        assert epoch.superseded
    assert (await state(pool))[0] == ["1", "2", "3"]
    assert await state(pool, "copy") == ([], [], [])


async def test_a_lost_connection_is_no_end(pool: Pool, bulk: Bulk) -> None:
    run_id = await a_run(pool)
    await checkpoints(pool, run_id, ["1", "2", "3"])
    async with held_back(pool, "checkpoint_blobs", "DELETE"):
        deleting = asyncio.create_task(bulk.delete_thread("t"))
        while not await execute(  # noqa: ASYNC110 - PostgreSQL tells nobody
            pool,
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND NOT granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())",
        ):
            await asyncio.sleep(0.01)
    await asyncio.wait_for(deleting, 20)
    assert await state(pool) == ([], [], [])


# --- copy ----------------------------------------------------------------------------------------


async def a_thread_to_copy(pool: Pool) -> str:
    run_id = await a_run(pool)
    await checkpoints(pool, run_id, [f"{n}" for n in range(7)], size=100)
    await checkpoints(pool, run_id, [f"{n}" for n in range(3)], ns="inner")
    await checkpoint(pool, run_id, "only one", ns="z")
    for n in range(5):
        await write_on(pool, "6", f"c{n}", task_id=f"task-{n % 2}-{n}")
    await execute(
        pool,
        "UPDATE greenroom.threads SET resting = 'interrupted', interrupts = '{\"a\": []}',"
        ' "values" = \'{"x": 1}\', facets = \'{"x": 1}\'',
    )
    return run_id


async def test_a_copy_has_record_and_state_and_is_made_once(pool: Pool, bulk: Bulk) -> None:
    await a_thread_to_copy(pool)
    for _ in range(2):
        assert await bulk.copy_thread("t", "copy")
        await execute(pool, "DELETE FROM checkpoints WHERE thread_id = 't' AND checkpoint_id = '0'")
    assert await bulk.unfinished() == []
    columns = 'resting, interrupts::text, "values"::text, facets, ever_ran'
    (record, copied) = [
        await execute(pool, f"SELECT {columns} FROM greenroom.threads WHERE thread_id = %s", each)
        for each in ("t", "copy")
    ]
    assert record == copied
    assert len((await state(pool, "copy"))[0]) == 11
    assert not await bulk.copy_thread("nobody", "other")
    assert await bulk.unfinished() == []


async def test_a_copy_of_a_thread_for_which_a_run_waits_is_at_rest(pool: Pool, bulk: Bulk) -> None:
    await a_thread_to_copy(pool)
    assert await bulk.copy_thread("t", "copy")
    found = await execute(pool, "SELECT thread_id, status FROM greenroom.threads ORDER BY 1")
    assert found == [("copy", "interrupted"), ("t", "busy")]


async def test_every_row_is_copied(pool: Pool, bulk: Bulk) -> None:
    await a_thread_to_copy(pool)
    assert await bulk.copy_thread("t", "copy")
    assert await rows_of(pool, "copy") == await rows_of(pool, "t")


async def test_half_a_copy_is_no_thread_and_is_made_anew(pool: Pool, bulk: Bulk) -> None:
    await a_thread_to_copy(pool)
    await stop_after(pool, "checkpoint_blobs", "INSERT", "version = '4'")
    with pytest.raises(Exception, match="the power is off"):
        await bulk.copy_thread("t", "copy")
    await go_on(pool)
    assert (await state(pool, "copy"))[1] != []
    assert await execute(pool, "SELECT 1 FROM greenroom.threads WHERE thread_id = 'copy'") == []
    (half,) = await bulk.unfinished()
    assert (half.kind, half.subject, half.thread_id) == ("copy", "copy", "t")
    # The thread is another one meanwhile.
    await execute(pool, "DELETE FROM checkpoints WHERE checkpoint_id = '1'")
    await execute(pool, "DELETE FROM checkpoint_blobs WHERE thread_id = 't' AND version = '1'")
    assert await bulk.copy_thread("t", "copy")
    assert await rows_of(pool, "copy") == await rows_of(pool, "t")
    assert await bulk.unfinished() == []


async def test_half_a_copy_that_nobody_wants_any_more_goes(pool: Pool, bulk: Bulk) -> None:
    await a_thread_to_copy(pool)
    before = await rows_of(pool, "t")
    await stop_after(pool, "checkpoints", "INSERT", "checkpoint_id = '4'")
    with pytest.raises(Exception, match="the power is off"):
        await bulk.copy_thread("t", "copy")
    await go_on(pool)
    await bulk.delete_thread("copy")
    assert await state(pool, "copy") == ([], [], [])
    assert await bulk.unfinished() == []
    assert await rows_of(pool, "t") == before


# --- roll back -----------------------------------------------------------------------------------


async def rolled_run(pool: Pool) -> str:
    """A run that answered the question of one before it, and went on."""
    before = await a_run(pool)
    await checkpoints(pool, before, ["0", "1"])
    await write_on(pool, "1", "question")
    await write_on(pool, "1", "changed", task_id="same")
    await end(pool, before)
    run_id = await a_run(pool, resumes=True)
    await execute(pool, "SELECT greenroom.save_heads(%s, 't')", run_id)
    await execute(pool, "UPDATE checkpoint_writes SET channel = 'over' WHERE task_id = 'same'")
    for n in range(3):
        await write_on(pool, "1", f"answer-{n}")
    await checkpoints(pool, run_id, [f"{n}" for n in range(2, 9)])
    for n in range(5):
        await write_on(pool, "8", f"later-{n}")
    await write_on(pool, "never saved", "lost")
    await execute(pool, "INSERT INTO greenroom.run_events VALUES (%s, 1, 1, 'e', 'x')", run_id)
    return run_id


AS_BEFORE = (["0", "1"], ["0", "1"], ["changed", "question"])


async def test_a_rollback_takes_back_the_run_and_restores_what_it_wrote_onto(
    pool: Pool, bulk: Bulk
) -> None:
    run_id = await rolled_run(pool)
    for _ in range(2):
        await bulk.roll_back(run_id, "t")
        assert await state(pool) == AS_BEFORE
    await perform(pool, *journal.delete_run(run_id))
    await bulk.roll_back(run_id, "t")
    assert await state(pool) == AS_BEFORE


@pytest.mark.parametrize(
    ("table", "kind", "row"),
    [
        ("checkpoints", "DELETE", "checkpoint_id = '5'"),
        ("checkpoint_writes", "DELETE", "channel = 'lost'"),
        ("checkpoint_blobs", "DELETE", "version = '5'"),
        ("checkpoint_writes", "INSERT", "channel = 'question'"),
        ("checkpoint_writes", "DELETE", "channel = 'answer-2'"),
        ("greenroom.saved_heads", "DELETE", "checkpoint_id = '1'"),
        ("greenroom.saved_writes", "DELETE", "channel = 'question'"),
        ("greenroom.run_events", "DELETE", "seq = 1"),
    ],
)
async def test_a_rollback_that_was_cut_off_anywhere_is_done_by_the_next_registry(
    pool: Pool, epoch: Epoch, table: str, kind: str, row: str
) -> None:
    run_id = await rolled_run(pool)
    await stop_after(pool, table, kind, row)
    with pytest.raises(Exception, match="the power is off"):
        await epoch.bulk(most_rows=1).roll_back(run_id, "t")
    await go_on(pool)
    # The run's record says what is to be done, and its attempt may not write any more.
    marked = await execute(
        pool, "SELECT status, actor, stop FROM greenroom.runs WHERE run_id = %s", run_id
    )
    assert marked == [("pending", None, "rollback")]
    with pytest.raises(Fenced):
        async with pool.connection() as connection, fenced(connection, run_id, 1):
            pass
    await (await next_epoch(pool)).bulk(most_rows=2).roll_back(run_id, "t")
    assert await state(pool) == AS_BEFORE


async def test_a_rollback_waits_for_a_write_that_is_under_way(pool: Pool, bulk: Bulk) -> None:
    run_id = await rolled_run(pool)
    async with pool.connection() as connection:
        async with connection.transaction():
            await connection.execute("SELECT greenroom.fence(%s, 1)", (run_id,))
            rolling = asyncio.create_task(bulk.roll_back(run_id, "t"))
            await connection.execute(
                "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata)"
                " VALUES ('t', '9', '{}', jsonb_build_object('run_id', %s::text))",
                (run_id,),
            )
            await asyncio.sleep(0.1)
            assert not rolling.done()
    await asyncio.wait_for(rolling, 20)
    assert await state(pool) == AS_BEFORE


async def test_the_newest_run_is_undone_and_an_older_one_is_only_forgotten(
    pool: Pool, bulk: Bulk
) -> None:
    older = await a_run(pool)
    await checkpoints(pool, older, ["0", "1"])
    await end(pool, older)
    newer = await a_run(pool, resumes=True)
    await execute(pool, "SELECT greenroom.save_heads(%s, 't')", newer)
    await write_on(pool, "1", "answer")
    await checkpoint(pool, newer, "2")
    await end(pool, newer)
    assert not await bulk.forget_run(older, "t", "g")
    assert (await state(pool))[:2] == (["2"], ["2"])
    assert [(each.kind, each.subject, each.graph_id) for each in await bulk.unfinished()] == [
        ("forget", older, "g")
    ]
    await perform(pool, *journal.delete_run(older))
    assert await bulk.forget_run(newer, "t", "g")
    assert await state(pool) == ([], [], [])


async def test_what_is_another_shards_is_not_taken_up(pool: Pool, epoch: Epoch) -> None:
    await execute(
        pool,
        "INSERT INTO greenroom.operations (subject, thread_id, kind)"
        " SELECT 'copy-' || n, 't' || n, 'copy' FROM generate_series(1, 20) n",
    )
    found = [
        {each.subject for each in await Bulk(pool, 1, lambda: None, shard=Shard(n, 2)).unfinished()}
        for n in range(2)
    ]
    assert found[0]
    assert found[1]
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == 20
