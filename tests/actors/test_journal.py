"""The journal on a real PostgreSQL: group commits, who may write, and what each write does."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from greenroom.core.errors import DatabaseUnavailable, Fenced
from greenroom.core.runs import RunRequest, RunStatus
from greenroom.core.sharding import Shard, hash_slot_of_thread
from greenroom.core.threads import ThreadStatus
from greenroom.persistence import journal
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.journal import (
    Journal,
    Superseded,
    Write,
    group_commit,
    may_pass,
    thread_writes,
)
from greenroom.persistence.saving import Saving
from greenroom.persistence.values import store_values
from tests.persistence.checkpointed import fill, left_of
from tests.run_records import request_of
from tests.waiting import until

BOUND_S = 20.0


async def new_journal(pool: Pool) -> Journal:
    async with pool.connection() as connection:
        epoch = await journal.take_epoch(connection, 1)
    return Journal(pool, epoch, lambda: superseded.append(epoch))


superseded: list[int] = []


@pytest.fixture
async def pen(pool: Pool) -> Journal:
    superseded.clear()
    return await new_journal(pool)


def request(**changes: Any) -> RunRequest:
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": "t",
        "assistant_id": str(uuid.uuid4()),
        "graph_id": "g",
        "kwargs": b'{"b": 1, "a": 2}',
        "metadata": b'{"mine": true}',
        "multitask_strategy": "enqueue",
        "create_thread": True,
    }
    return request_of(**(given | changes))


async def rows(pool: Pool, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(sql, params)  # type: ignore[arg-type]
        return [tuple(row.values()) for row in await cursor.fetchall()]


AT_GATE = Write("SELECT pg_advisory_xact_lock_shared(1)", {})
"""Makes the commit that it belongs to wait at the gate."""


class Gate:
    """Where a commit waits until it is let through.

    Args:
        connection: holds the gate; nothing else waits for it.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def waiting(self, *kinds: str) -> list[int]:
        """Returns the processes of this database that wait for locks of these kinds."""
        cursor = await self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND wait_event = ANY(%s)",
            ([*kinds],),
        )
        return [pid for (pid,) in await cursor.fetchall()]

    async def reached(self) -> int:
        """Waits until a commit is there; returns its process."""
        (pid,) = await until(lambda: self.waiting("advisory"))
        return pid

    async def end(self, pid: int) -> None:
        """Ends the connection of a process."""
        await self._connection.execute("SELECT pg_terminate_backend(%s)", (pid,))

    async def open(self) -> None:
        """Lets everything through."""
        await self._connection.execute("SELECT pg_advisory_unlock_all()")


@pytest.fixture
async def gate(dsn: str) -> AsyncIterator[Gate]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SELECT pg_advisory_lock(1)")
        yield Gate(connection)


async def run_row(pool: Pool, run_id: str) -> tuple[Any, ...] | None:
    found = await rows(
        pool, "SELECT status, attempt, actor FROM greenroom.runs WHERE run_id = %s", run_id
    )
    return found[0] if found else None


async def thread_row(pool: Pool, thread_id: str = "t") -> tuple[Any, ...] | None:
    found = await rows(
        pool,
        "SELECT status, interrupts::text, error::text FROM greenroom.threads WHERE thread_id = %s",
        thread_id,
    )
    return found[0] if found else None


def marked(number: int) -> Write:
    """A write that shows which transaction made it."""
    return Write(
        "INSERT INTO greenroom.threads (thread_id, metadata)"
        " VALUES (%(id)s, jsonb_build_object('tx', pg_current_xact_id()::text))"
        " ON CONFLICT DO NOTHING",
        {"id": f"m{number}"},
    )


async def transactions(pool: Pool) -> list[str]:
    found = await rows(
        pool, "SELECT DISTINCT metadata->>'tx' FROM greenroom.threads WHERE thread_id LIKE 'm%%'"
    )
    return [row[0] for row in found]


BROKEN = Write("SELECT 1/0", {})


# --- groups --------------------------------------------------------------------------------------


async def test_groups_that_gathered_are_one_transaction(pen: Journal, pool: Pool) -> None:
    await asyncio.gather(*(pen.commit(marked(number)) for number in range(50)))
    assert len(await transactions(pool)) == 1


async def test_a_group_that_fails_fails_alone_and_wholly(pen: Journal, pool: Pool) -> None:
    writes = [
        pen.commit(marked(1)),
        pen.commit(marked(2), BROKEN, marked(3)),
        pen.commit(marked(4)),
    ]
    first, second, third = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(second, psycopg.errors.DivisionByZero)
    assert not isinstance(first, BaseException)
    assert not isinstance(third, BaseException)
    found = await rows(pool, "SELECT thread_id FROM greenroom.threads ORDER BY 1")
    assert found == [("m1",), ("m4",)]


@pytest.mark.parametrize(
    "bad",
    [
        Write("SELECT %(text)s::text", {"text": "a\x00b"}),
        Write("SELECT %(text)s::jsonb", {"text": '"\\u0000"'}),
        Write("SELECT %(text)s::jsonb", {"text": "{"}),
        Write("SELECT * FROM nowhere", {}),
        Write("SELECT %(missing)s", {}),
    ],
    ids=["nul", "escaped nul", "no json", "no table", "no parameter"],
)
async def test_a_value_that_cannot_be_stored_is_its_groups_fault_and_stops_nobody(
    pen: Journal, pool: Pool, bad: Write
) -> None:
    results = await asyncio.wait_for(
        asyncio.gather(pen.commit(marked(1)), pen.commit(bad), return_exceptions=True), BOUND_S
    )
    assert not isinstance(results[0], BaseException)
    assert isinstance(results[1], Exception)
    await asyncio.wait_for(pen.commit(marked(2)), BOUND_S)


async def test_writes_have_their_place_in_the_order_when_they_are_asked_for(pen: Journal) -> None:
    first = pen.write(Write("SELECT 1", {}), Write("SELECT 2 UNION SELECT 3", {}))
    second = pen.write(Write("DELETE FROM greenroom.threads", {}))
    assert await first == [[(1,)], [(2,), (3,)]]
    assert await second == [[]]


async def test_a_registry_of_the_past_writes_nothing(pen: Journal, pool: Pool) -> None:
    newer = await new_journal(pool)
    with pytest.raises(Superseded):
        await asyncio.wait_for(pen.commit(marked(1), marked(2)), BOUND_S)
    assert superseded == [1]
    assert await transactions(pool) == []
    await newer.commit(marked(3))
    assert len(await transactions(pool)) == 1


async def test_a_takeover_waits_for_the_commit_that_is_under_way(
    pen: Journal, pool: Pool, gate: Gate
) -> None:
    """The epoch is held by the transaction: none of it lands after the newer one has read."""
    writing = asyncio.create_task(pen.commit(AT_GATE, marked(1)))
    await gate.reached()
    taking = asyncio.create_task(new_journal(pool))
    await until(lambda: gate.waiting("transactionid", "tuple"))
    await gate.open()
    await taking
    assert len(await transactions(pool)) == 1
    await writing


async def test_a_lost_connection_is_waited_for_and_nothing_is_written_twice_or_lost(
    pen: Journal, pool: Pool, gate: Gate
) -> None:
    await pen.commit(marked(0))
    asked = [request(thread_id=f"t{number}") for number in range(20)]
    writing = [asyncio.create_task(pen.commit(journal.admit(each, actor="x"))) for each in asked]
    writing.append(asyncio.create_task(pen.commit(AT_GATE)))
    await gate.end(await gate.reached())
    await gate.open()
    results = await asyncio.wait_for(asyncio.gather(*writing), BOUND_S)
    assert all(result[0][0][1] is True for result in results[:-1])
    assert (await rows(pool, "SELECT count(*) FROM greenroom.runs"))[0][0] == 20


def test_which_errors_pass() -> None:
    assert may_pass(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert may_pass(psycopg.errors.AdminShutdown())
    assert may_pass(psycopg.errors.DeadlockDetected())
    assert may_pass(psycopg.errors.TooManyConnections())
    assert not may_pass(psycopg.errors.PipelineAborted())
    assert not may_pass(psycopg.errors.QueryCanceled())
    assert not may_pass(psycopg.DataError("cannot contain NUL (0x00) bytes"))
    assert not may_pass(psycopg.errors.UniqueViolation())


# --- admissions ----------------------------------------------------------------------------------


async def admitted(pen: Journal, actor: str | None = None, **changes: Any) -> str:
    asked = request(**changes)
    ((_, is_current, *_),) = (await pen.commit(journal.admit(asked, actor=actor)))[0]
    assert is_current
    return asked.run_id


async def test_an_admission_makes_thread_and_run(pen: Journal, pool: Pool) -> None:
    pending = await admitted(pen)
    running = await admitted(pen, "x", thread_id="u")
    assert await run_row(pool, pending) == ("pending", 0, None)
    assert await run_row(pool, running) == ("running", 1, "x")
    assert await thread_row(pool) == ("busy", "{}", None)
    ((metadata, kwargs),) = await rows(
        pool,
        "SELECT t.metadata, r.kwargs::text FROM greenroom.runs r"
        " JOIN greenroom.threads t USING (thread_id) WHERE run_id = %s",
        pending,
    )
    assert metadata["mine"] is True
    assert metadata["graph_id"] == "g"
    assert kwargs == '{"b": 1, "a": 2}'


async def test_an_admission_to_an_unknown_thread_gives_no_row_and_leaves_none(
    pen: Journal, pool: Pool
) -> None:
    assert await pen.commit(journal.admit(request(create_thread=False), actor=None)) == [[]]
    assert await rows(pool, "SELECT 1 FROM greenroom.runs") == []
    assert await thread_row(pool) is None


async def test_a_run_on_a_thread_with_a_checkpoint_is_not_its_first(
    pen: Journal, pool: Pool
) -> None:
    await pen.commit(marked(0))
    saver = PooledSaver(pool)
    config: RunnableConfig = {"configurable": {"thread_id": "m0", "checkpoint_ns": ""}}
    await saver.aput(config, empty_checkpoint(), {}, {})
    asked = request(thread_id="m0", create_thread=False)
    ((_, _, is_first, *_),) = (await pen.commit(journal.admit(asked, actor="x")))[0]
    assert not is_first


@pytest.mark.parametrize("create_thread", [False, True])
async def test_an_admission_repeated_is_the_same_run_until_it_is_over(
    pen: Journal, pool: Pool, create_thread: bool
) -> None:
    await pen.commit(marked(0))
    asked = request(thread_id="m0", create_thread=create_thread)
    ((first, _, is_first, metadata, *_),) = (await pen.commit(journal.admit(asked, actor="x")))[0]
    assert is_first
    assert (await pen.commit(journal.admit(asked, actor="x")))[0] == [
        (first, True, False, metadata, False, None)
    ]
    await pen.commit(
        journal.end_run(asked.run_id, RunStatus.SUCCESS, None),
        journal.rest_thread("m0", ThreadStatus.IDLE, None, None),
    )
    assert (await pen.commit(journal.admit(asked, actor="x")))[0] == [
        (first, False, False, metadata, False, None)
    ]
    assert (await thread_row(pool, "m0") or ())[0] == "idle"
    assert await run_row(pool, asked.run_id) == ("success", 1, "x")
    assert await pen.commit(journal.created(asked.run_id)) == [[(first, metadata)]]
    assert await pen.commit(journal.created(str(uuid.uuid4()))) == [[]]


async def test_a_retried_admission_does_not_bring_a_deleted_thread_back(
    pen: Journal, pool: Pool
) -> None:
    asked = request()
    await pen.commit(journal.admit(asked, actor=None))
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM greenroom.threads")
    ((_, is_current, *_),) = (await pen.commit(journal.admit(asked, actor=None)))[0]
    assert is_current
    assert await thread_row(pool) is None


# --- attempts ------------------------------------------------------------------------------------


async def test_a_start_gives_the_kwargs_and_only_ever_counts_up(pen: Journal, pool: Pool) -> None:
    run_id = await admitted(pen)
    for _ in range(2):
        assert await pen.commit(journal.start(run_id, 2, "x")) == [[('{"b": 1, "a": 2}', False)]]
    assert await pen.commit(journal.start(run_id, 1, "old")) == [[]]
    assert await run_row(pool, run_id) == ("running", 2, "x")


async def test_a_requeue_fences_the_attempt_and_no_other(pen: Journal, pool: Pool) -> None:
    run_id = await admitted(pen, "x")
    await pen.commit(journal.start(run_id, 2, "y"))
    await pen.commit(journal.requeue(run_id, 1, "died"))
    assert await run_row(pool, run_id) == ("running", 2, "y")
    for _ in range(2):
        await pen.commit(journal.requeue(run_id, 2, "drained"))
        assert await run_row(pool, run_id) == ("pending", 2, None)
    with pytest.raises(Fenced):
        await Saving(pool).save_values((run_id, 2), "t", b'{"late": true}')
    assert await rows(pool, 'SELECT "values" FROM greenroom.threads') == [(None,)]


async def test_the_values_of_the_current_attempt_are_stored(pen: Journal, pool: Pool) -> None:
    run_id = await admitted(pen, "x")
    await Saving(pool).save_values((run_id, 1), "t", b'{"x": 1}')
    assert await rows(pool, 'SELECT "values"::text FROM greenroom.threads') == [('{"x": 1}',)]


async def test_an_end_is_final(pen: Journal, pool: Pool) -> None:
    run_id = await admitted(pen, "x")
    await pen.commit(journal.end_run(run_id, RunStatus.ERROR, b'{"error": "E"}'))
    await pen.commit(journal.end_run(run_id, RunStatus.SUCCESS, None))
    assert await pen.commit(journal.start(run_id, 9, "y")) == [[]]
    await pen.commit(journal.requeue(run_id, 1, "died"))
    assert await run_row(pool, run_id) == ("error", 1, "x")
    ((error,),) = await rows(pool, "SELECT error::text FROM greenroom.runs")
    assert json.loads(error) == {"error": "E"}


# --- threads -------------------------------------------------------------------------------------


async def test_rest_leaves_the_interrupts_unless_it_is_given_some(pen: Journal, pool: Pool) -> None:
    await admitted(pen)
    await pen.commit(journal.rest_thread("t", ThreadStatus.INTERRUPTED, b'{"a": []}', None))
    await pen.commit(journal.rest_thread("t", ThreadStatus.ERROR, None, b'{"error": "E"}'))
    assert await thread_row(pool) == ("error", '{"a": []}', '{"error": "E"}')


@pytest.mark.parametrize("resting", ["idle", "interrupted", "error"])
async def test_calm_makes_a_thread_what_it_was_at_rest(
    pen: Journal, pool: Pool, resting: str
) -> None:
    await admitted(pen)
    await pen.commit(journal.rest_thread("t", ThreadStatus(resting), b"{}", None, busy=True))
    assert (await thread_row(pool) or ())[0] == "busy"
    for _ in range(2):
        await pen.commit(journal.reset_thread_status("t"))
        assert (await thread_row(pool) or ())[0] == resting


async def test_only_threads_without_a_run_are_calmed_at_a_start(pen: Journal, pool: Pool) -> None:
    kept = await admitted(pen, thread_id="kept")
    over = await admitted(pen, thread_id="over")
    gone = await admitted(pen, thread_id="gone")
    await pen.commit(
        journal.end_run(over, RunStatus.SUCCESS, None),
        *journal.delete_run(gone),
    )
    await pen.commit(journal.reset_thread_statuses())
    assert [(await thread_row(pool, t) or ())[0] for t in ("kept", "over", "gone")] == [
        "busy",
        "idle",
        "idle",
    ]
    assert await run_row(pool, kept) == ("pending", 0, None)


async def test_values_of_who_was_superseded_are_not_stored(pen: Journal, pool: Pool) -> None:
    """The registry died while its inspector worked, and a run of the next one has ended since."""
    await admitted(pen)
    async with pool.connection() as connection:
        old = await journal.take_epoch(connection, 1)
        new = await journal.take_epoch(connection, 1)
    await store_values(pool, "t", b'{"n": 2}', held=(new, 0))
    with pytest.raises(Superseded):
        await store_values(pool, "t", b'{"n": 1}', held=(old, 0))
    assert await rows(pool, """SELECT "values"::text FROM greenroom.threads""") == [('{"n": 2}',)]


async def test_a_small_thread_is_deleted_at_once_and_leaves_nothing(
    pen: Journal, pool: Pool
) -> None:
    run_id = await admitted(pen, resumes=True)
    other = await admitted(pen, thread_id="other")
    await fill(pool, run_id, "t")
    for _ in range(2):
        assert await pen.commit(journal.delete_thread("t")) == [[(True,)]]
    assert await thread_row(pool) is None
    assert await left_of(pool, "t") == {}
    assert await rows(pool, "SELECT run_id::text FROM greenroom.runs") == [(other,)]
    assert await rows(pool, "SELECT 1 FROM greenroom.operations") == []


@pytest.mark.parametrize("large", ["SMALL_ROWS", "SMALL_BYTES"])
async def test_of_a_large_thread_only_the_record_goes_in_the_commit(
    pen: Journal, pool: Pool, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    run_id = await admitted(pen)
    await fill(pool, run_id, "t")
    before = await left_of(pool, "t")
    monkeypatch.setattr(thread_writes, large, 2)
    for _ in range(2):
        assert await pen.commit(journal.delete_thread("t")) == [[(False,)]]
    assert await thread_row(pool) is None
    assert await left_of(pool, "t") == before
    assert await rows(pool, "SELECT subject, kind FROM greenroom.operations") == [("t", "delete")]


# --- recovery ------------------------------------------------------------------------------------


async def test_what_is_in_flight_comes_in_the_order_of_admission(pen: Journal, pool: Pool) -> None:
    first = await admitted(pen, "x")
    delayed = await admitted(pen, after_s=60.0, multitask_strategy="rollback")
    over = await admitted(pen)
    last = await admitted(pen)
    await pen.commit(journal.end_run(over, RunStatus.SUCCESS, None))
    async with pool.connection() as connection:
        found = await journal.in_flight(connection)
        assert [each.run_id for each in found] == [first, delayed, last]
        assert (found[0].actor, found[0].attempt, found[0].due_in_s) == ("x", 1, None)
        assert 59 < (found[1].due_in_s or 0) <= 60
        assert found[1].multitask_strategy == "rollback"
        ended = await journal.find_run(connection, over)
        assert ended is not None
        assert ended.status is RunStatus.SUCCESS
        assert await journal.find_run(connection, str(uuid.uuid4())) is None


async def test_epochs_only_grow(pool: Pool) -> None:
    async with pool.connection() as connection:
        epochs = [await journal.take_epoch(connection, 1) for _ in range(3)]
    assert epochs == [epochs[0], epochs[0] + 1, epochs[0] + 2]


# --- what is not tried for ever ------------------------------------------------------------------


async def test_what_takes_longer_than_a_transaction_may_fails_alone(dsn: str, pool: Pool) -> None:
    quick = await open_pool(dsn, application_name="greenroom:quick", transaction_timeout_s=0.3)
    try:
        pen = await new_journal(quick)
        first, endless, last = await asyncio.wait_for(
            asyncio.gather(
                pen.commit(marked(1)),
                pen.commit(Write("SELECT pg_sleep(60)", {}), marked(2), key="2", patience_s=1.0),
                pen.commit(marked(3)),
                return_exceptions=True,
            ),
            BOUND_S,
        )
    finally:
        await quick.close()
    assert isinstance(endless, DatabaseUnavailable)
    assert "one transaction may take" in endless.message
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    found = await rows(pool, "SELECT thread_id FROM greenroom.threads ORDER BY 1")
    assert found == [("m1",), ("m3",)]


async def test_a_lock_holds_up_only_what_is_about_the_same_thread_and_that_in_order(
    pen: Journal, pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LOCK_WAIT", "200ms")
    await pen.commit(marked(1), key="m1")
    retitle = "UPDATE greenroom.threads SET metadata = %(m)s::jsonb WHERE thread_id = 'm1'"
    seen = "SELECT metadata->>'n' FROM greenroom.threads WHERE thread_id = 'm1'"
    async with await psycopg.AsyncConnection.connect(dsn) as somebody:
        await somebody.execute("SELECT 1 FROM greenroom.threads FOR UPDATE")
        first = pen.write(Write(retitle, {"m": '{"n": 1}'}), key="m1")
        others = [pen.write(marked(number), key=f"m{number}") for number in range(2, 12)]
        last = pen.write(Write(seen, {}), Write(retitle, {"m": '{"n": 2}'}), key="m1")
        await asyncio.wait_for(asyncio.gather(*others), BOUND_S)
        # What comes now does not wait for the lock at all.
        await asyncio.wait_for(pen.commit(marked(12), key="m12"), BOUND_S)
        assert not first.done()
        assert not last.done()
        await somebody.rollback()
    await asyncio.wait_for(first, BOUND_S)
    (before, _) = await asyncio.wait_for(last, BOUND_S)
    assert before == [("1",)]
    assert await rows(pool, "SELECT metadata->>'n' FROM greenroom.threads WHERE thread_id = 'm1'")


async def test_what_is_decided_is_written_however_long_a_lock_on_the_table_lasts(
    dsn: str, pool: Pool
) -> None:
    """Longer than several transactions may take; somebody with a patience is told meanwhile."""
    quick = await open_pool(dsn, application_name="greenroom:quick", transaction_timeout_s=0.2)
    try:
        pen = await new_journal(quick)
        async with await psycopg.AsyncConnection.connect(dsn) as somebody:
            await somebody.execute("LOCK TABLE greenroom.threads")
            decided = [pen.write(marked(number), key=f"m{number}") for number in range(5)]
            hasty = pen.write(marked(9), key="m9", patience_s=0.5)
            with pytest.raises(DatabaseUnavailable):
                await asyncio.wait_for(hasty, BOUND_S)
            assert not any(each.done() for each in decided)
            await somebody.rollback()
        await asyncio.wait_for(asyncio.gather(*decided), BOUND_S)
    finally:
        await quick.close()
    assert len(await rows(pool, "SELECT 1 FROM greenroom.threads")) == 5


async def test_only_who_has_a_patience_is_told_that_the_disk_is_full(
    pen: Journal, pool: Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for the first four transactions; both groups travel in each."""
    monkeypatch.setattr(group_commit, "SHORTAGE_PATIENCE_S", 0.05)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            """
        CREATE SEQUENCE tries;
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') <= 4 THEN
                RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON greenroom.threads
            FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"""
        )
    patient, hasty = await asyncio.wait_for(
        asyncio.gather(
            pen.commit(marked(1)), pen.commit(marked(2), patience_s=60), return_exceptions=True
        ),
        BOUND_S,
    )
    assert isinstance(hasty, DatabaseUnavailable)
    assert "No space left on device" in hasty.message
    assert not isinstance(patient, BaseException)
    assert await rows(pool, "SELECT thread_id FROM greenroom.threads") == [("m1",)]


async def test_a_registry_of_an_earlier_start_cannot_come_back(pool: Pool) -> None:
    async with pool.connection() as connection:
        starts = [await journal.next_generation(connection) for _ in range(3)]
        assert starts == sorted(set(starts))
        first, second, third = starts
        await journal.take_epoch(connection, second)
        epoch = await journal.take_epoch(connection, second)
        with pytest.raises(Superseded):
            await journal.take_epoch(connection, first)
        assert await journal.take_epoch(connection, third) == epoch + 1


# --- several registries --------------------------------------------------------------------------


async def test_the_epochs_of_shards_do_not_know_each_other(pool: Pool) -> None:
    async with pool.connection() as connection:
        for number in (0, 1):
            await journal.take_epoch(connection, 1, Shard(number, 2))
        first = await journal.take_epoch(connection, 1, Shard(0, 2))
        second = await journal.take_epoch(connection, 1, Shard(1, 2))
    gone: list[int] = []
    pens = [
        Journal(pool, epoch, lambda: gone.append(0), shard=Shard(number, 2))
        for number, epoch in enumerate((first, second))
    ]
    await asyncio.gather(*(pen.commit(marked(number)) for number, pen in enumerate(pens)))
    async with pool.connection() as connection:
        await journal.take_epoch(connection, 1, Shard(1, 2))
    await pens[0].commit(marked(2))
    with pytest.raises(Superseded):
        await pens[1].commit(marked(3))
    assert gone == [0]


async def test_the_first_of_a_later_start_ends_the_epochs_of_every_shard(pool: Pool) -> None:
    async with pool.connection() as connection:
        before = await journal.take_epoch(connection, 1, Shard(2, 3))
        await journal.take_epoch(connection, 2, Shard(0, 2))
        for number in (0, 2, 5):
            with pytest.raises(Superseded):
                await journal.take_epoch(connection, 1, Shard(number, 6))
    with pytest.raises(Superseded):
        await Journal(pool, before, lambda: None, shard=Shard(2, 3)).commit(marked(1))


async def test_a_journal_of_the_version_before_is_the_first_shards(pool: Pool) -> None:
    """It goes on while a later start migrates the database, until that takes over."""
    async with pool.connection() as connection:
        epoch = await journal.take_epoch(connection, 1)
        await journal.take_epoch(connection, 1, Shard(1, 2))
        await connection.execute("SELECT greenroom.hold_epoch(%s)", (epoch,))
        await journal.take_epoch(connection, 2)
        with pytest.raises(psycopg.Error, match="was superseded by"):
            await connection.execute("SELECT greenroom.hold_epoch(%s)", (epoch,))


async def test_the_database_gives_a_thread_the_same_slot(pool: Pool) -> None:
    names = ["t", "ü", "線程 1", str(uuid.uuid4()), "x" * 255, *(f"t{n}" for n in range(100))]
    found = await rows(
        pool, "SELECT greenroom.slot_of(name) FROM unnest(%s::text[]) AS name", names
    )
    assert [slot for (slot,) in found] == [hash_slot_of_thread(name) for name in names]


async def test_a_recovery_finds_what_is_its_own(pen: Journal, pool: Pool) -> None:
    threads = [f"t{number}" for number in range(8)]
    shards = [Shard(number, 3) for number in range(3)]
    for thread_id in threads:
        await pen.commit(journal.admit(request(thread_id=thread_id), actor=None))
    async with pool.connection() as connection:
        found = [
            [each.thread_id for each in await journal.in_flight(connection, shard)]
            for shard in shards
        ]
        await connection.execute("UPDATE greenroom.runs SET status = 'success', temporary = true")
        used_on = [await journal.threads_with_remains(connection, shard) for shard in shards]
    assert found == [[each for each in threads if shard.has(each)] for shard in shards]
    assert used_on == [[], [], []]
    await pen.commit(journal.reset_thread_statuses(shards[1]))
    busy = await rows(pool, "SELECT thread_id FROM greenroom.threads WHERE status = 'busy'")
    assert {each for (each,) in busy} == {*threads} - {*found[1]}
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM greenroom.threads")
        gone = [await journal.threads_with_remains(connection, shard) for shard in shards]
    assert [sorted(each) for each in gone] == [sorted(each) for each in found]
