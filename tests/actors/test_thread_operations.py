"""A large thread is deleted, copied and taken back beside everything else, and after a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.registry import in_flight
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.runs import RunStatus
from greenroom.core.scopes import SERVER
from greenroom.persistence.journal import thread_writes
from greenroom.persistence.records import PostgresRecords
from tests.actors.doubles import BOUND_S
from tests.actors.test_registry import Theatre, bounded, make, theatre  # noqa: F401 - fixtures
from tests.persistence.checkpointed import checkpoints, execute, left_of, rows_of, state
from tests.persistence.test_bulk import held_back

# ruff: noqa: F811 - fixtures are named as arguments


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_writes, "SMALL_ROWS", 2)


async def large_thread(theatre: Theatre) -> str:
    """A thread whose one run is over and has left checkpoints."""
    run = await theatre.create()
    await theatre.finish(run.run_id)
    await checkpoints(theatre.pool, run.run_id, [f"{n}" for n in range(9)])
    return run.run_id


async def is_held(theatre: Theatre) -> None:
    """Returns when a statement waits for what `held_back` holds."""
    async with asyncio.timeout(BOUND_S):
        while not await theatre.rows(  # noqa: ASYNC110 - PostgreSQL tells nobody
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def in_the_middle(
    theatre: Theatre, table: str, kind: str, work: Coroutine[Any, Any, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """Inside the block the work waits in one of its statements."""
    async with held_back(theatre.pool, table, kind):
        task = asyncio.create_task(work)
        await is_held(theatre)
        yield task
        assert not task.done()


async def others_go_on(theatre: Theatre) -> None:
    """A run of another thread is created, executed, ended and its thread deleted."""
    run = await theatre.create("other")
    assert await theatre.finish(run.run_id)


def deleting(theatre: Theatre) -> Coroutine[Any, Any, Any]:
    return theatre.registry.delete_thread("t")


def copying(theatre: Theatre) -> Coroutine[Any, Any, Any]:
    return theatre.registry.copy_thread("t", "copy")


async def rolling_back(theatre: Theatre) -> None:
    run = await theatre.create(resumes=True)
    await theatre.executed(run.run_id)
    await checkpoints(theatre.pool, run.run_id, ["a", "b"])
    await theatre.cancel(run.run_id, "rollback")
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)


async def forgetting(theatre: Theatre) -> None:
    ((run_id,),) = await theatre.rows("SELECT run_id::text FROM greenroom.runs")
    await theatre.registry.delete_run("t", run_id)


Work = Callable[[Theatre], Coroutine[Any, Any, Any]]
HELD = [
    (deleting, "checkpoint_blobs", "DELETE"),
    (copying, "checkpoint_blobs", "INSERT"),
    (rolling_back, "checkpoint_blobs", "DELETE"),
    (forgetting, "checkpoint_blobs", "DELETE"),
]


@pytest.mark.parametrize(("work", "table", "kind"), HELD)
async def test_creates_and_ends_of_other_threads_do_not_wait_for_a_large_one(
    theatre: Theatre, work: Work, table: str, kind: str
) -> None:
    await large_thread(theatre)
    async with in_the_middle(theatre, table, kind, work(theatre)) as task:
        await bounded(others_go_on(theatre))
    await bounded(task)
    await theatre.nothing_is_left()


async def test_a_thread_that_is_being_deleted_is_gone_for_everybody(theatre: Theatre) -> None:
    run_id = await large_thread(theatre)
    records = PostgresRecords(theatre.pool)
    async with in_the_middle(theatre, "checkpoint_blobs", "DELETE", deleting(theatre)):
        assert await records.get_thread("t", scope=SERVER) is None
        assert await records.get_run("t", run_id, scope=SERVER) is None
        assert await records.list_runs("t", limit=None, offset=0, status=None, scope=SERVER) is None
        assert await records.patch_thread("t", metadata={"a": 1}, ttl=None, scope=SERVER) is None
        with pytest.raises(NotFound):
            await theatre.create()
        with pytest.raises(Conflict, match="is being deleted"):
            await records.create_thread(
                "t", metadata={}, if_exists="do_nothing", ttl=None, scope=SERVER
            )
    await theatre.nothing_is_left()
    assert await records.create_thread("t", metadata={}, if_exists="raise", ttl=None, scope=SERVER)


async def test_the_next_run_does_not_start_before_the_rollback_is_complete(
    theatre: Theatre,
) -> None:
    await large_thread(theatre)
    async with in_the_middle(theatre, "checkpoint_blobs", "DELETE", rolling_back(theatre)) as task:
        following = await theatre.create()
        assert following.placement is None
        await others_go_on(theatre)
        assert theatre.cluster.executing(following.run_id) is None
    await bounded(task)
    await theatre.executed(following.run_id)
    assert (await state(theatre.pool))[0] == [f"{n}" for n in range(9)]
    await theatre.finish(following.run_id)
    await theatre.nothing_is_left()


async def all_done(theatre: Theatre) -> None:
    async with asyncio.timeout(BOUND_S):
        while await theatre.rows("SELECT 1 FROM greenroom.operations"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def killed(theatre: Theatre, work: Coroutine[Any, Any, Any]) -> None:
    """The registry dies while one of the statements of its work is held back."""
    task = asyncio.create_task(work)
    await is_held(theatre)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await theatre.kill(theatre.registry)


async def test_a_deletion_goes_on_after_the_death_of_its_registry(theatre: Theatre) -> None:
    await large_thread(theatre)
    async with held_back(theatre.pool, "checkpoint_blobs", "DELETE"):
        await killed(theatre, deleting(theatre))
        await theatre.open()
        with pytest.raises(NotFound):
            await theatre.create()
    await all_done(theatre)
    await theatre.nothing_is_left()
    assert await left_of(theatre.pool, "t") == {}
    run = await theatre.create()
    await theatre.finish(run.run_id)


async def test_half_a_copy_goes_after_the_death_of_its_registry(theatre: Theatre) -> None:
    await large_thread(theatre)
    before = await rows_of(theatre.pool, "t")
    async with held_back(theatre.pool, "checkpoints", "INSERT"):
        await killed(theatre, copying(theatre))
        assert (await state(theatre.pool, "copy"))[1] != []
    await theatre.open()
    await all_done(theatre)
    assert await state(theatre.pool, "copy") == ([], [], [])
    assert await theatre.thread("copy") is None
    assert await rows_of(theatre.pool, "t") == before
    await bounded(theatre.registry.copy_thread("t", "copy"))
    assert await rows_of(theatre.pool, "copy") == before
    await theatre.nothing_is_left()


async def test_a_rollback_goes_on_after_the_death_of_its_registry(theatre: Theatre) -> None:
    await large_thread(theatre)
    before = await rows_of(theatre.pool, "t")
    async with held_back(theatre.pool, "checkpoint_blobs", "DELETE"):
        await killed(theatre, rolling_back(theatre))
        await theatre.open()
        following = await theatre.create()
        assert following.placement is None
    await theatre.executed(following.run_id)
    assert await rows_of(theatre.pool, "t") == before
    await theatre.finish(following.run_id)
    await theatre.nothing_is_left()


async def test_the_deletion_of_a_run_goes_on_after_the_death_of_its_registry(
    theatre: Theatre,
) -> None:
    run_id = await large_thread(theatre)
    async with held_back(theatre.pool, "checkpoint_blobs", "DELETE"):
        await killed(theatre, forgetting(theatre))
        await theatre.open()
        following = await theatre.create()
        assert following.placement is None
    await all_done(theatre)
    await theatre.executed(following.run_id)
    assert await state(theatre.pool) == ([], [], [])
    assert await theatre.status(run_id) is None
    await theatre.finish(following.run_id)
    await theatre.nothing_is_left()


async def test_a_sweep_goes_on_with_what_nobody_sees_to(theatre: Theatre) -> None:
    run_id = await large_thread(theatre)
    await theatre.rows(
        "INSERT INTO greenroom.operations (subject, thread_id, kind, graph_id)"
        " VALUES ('copy', 't', 'copy', NULL), (%s, 't', 'forget', 'g') RETURNING 1",
        run_id,
    )
    await bounded(theatre.registry.parts.operations.sweep())
    assert await theatre.rows("SELECT 1 FROM greenroom.operations") == []
    assert await theatre.rows("SELECT 1 FROM greenroom.runs") == []
    await theatre.nothing_is_left()


async def test_a_large_temporary_thread_is_deleted_too(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "LATELY_S", 0.05)
    run = await theatre.create(temporary=True)
    await checkpoints(theatre.pool, run.run_id, [f"{n}" for n in range(9)])
    await theatre.finish(run.run_id)
    async with asyncio.timeout(BOUND_S):
        while await left_of(theatre.pool, "t"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await all_done(theatre)
    await theatre.nothing_is_left()


# --- how long others wait ------------------------------------------------------------------------


async def creates(
    theatre: Theatre, beside: asyncio.Task[Any] | None = None, *, least: int
) -> tuple[float, int]:
    """Creates runs, as long as something goes on beside and at least so many.

    Returns:
        the p95 in seconds, and how many were over before what goes on beside was.
    """
    took_s: list[float] = []
    over_before = 0
    while len(took_s) < least or (beside is not None and not beside.done() and len(took_s) < 5000):
        begun_s = time.monotonic()
        run = await theatre.create(f"other-{len(took_s)}")
        took_s.append(time.monotonic() - begun_s)
        over_before += beside is not None and not beside.done()
        await theatre.finish(run.run_id)
    return sorted(took_s)[int(len(took_s) * 0.95)], over_before


async def grow(theatre: Theatre, run_id: str, name: str, mib: int) -> None:
    # As it is, or what repeats itself is compressed.
    await execute(theatre.pool, "ALTER TABLE checkpoint_blobs ALTER blob SET STORAGE EXTERNAL")
    for n in range(mib // 20):
        numbers = [f"{name}-{n:03}-{m:02}" for m in range(20)]
        await checkpoints(theatre.pool, run_id, numbers, size=1024 * 1024)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mib", "is_timed"), [(60, False), pytest.param(500, True, marks=pytest.mark.slow)]
)
async def test_beside_a_huge_thread_a_create_takes_at_most_twice_its_usual_time(
    theatre: Theatre, mib: int, is_timed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the suite no time is compared, since other tests run beside it."""
    least = 100 if is_timed else 1
    first = await theatre.create()
    await theatre.finish(first.run_id)
    await grow(theatre, first.run_id, "a", mib)
    usual_s, _ = await creates(theatre, least=least)
    second = await theatre.create(resumes=True)
    actor = await theatre.executed(second.run_id)
    await grow(theatre, second.run_id, "b", mib)
    assert len((await state(theatre.pool))[0]) == 2 * mib

    async def roll_back() -> None:
        await theatre.cancel(second.run_id, "rollback")
        attempt = actor.current.pop(second.run_id)
        await theatre.report(actor, second.run_id, attempt, RunStatus.INTERRUPTED)

    for work in (roll_back(), copying(theatre), deleting(theatre)):
        name = work.__name__
        begun_s = time.monotonic()
        task = asyncio.create_task(work)
        beside_s, over_before = await creates(theatre, task, least=least)
        await task
        with capsys.disabled():
            print(
                f"\n{name} of {mib} MiB took {time.monotonic() - begun_s:.1f} s;"
                f" p95 of {over_before} creates {beside_s * 1000:.0f} ms,"
                f" usual {usual_s * 1000:.0f} ms"
            )
        # Who waits for all of the work is not over before it.
        assert over_before >= 1
        # With slack for what else the machine does.
        assert not is_timed or beside_s <= 2 * usual_s + 0.1
    assert len((await state(theatre.pool, "copy"))[0]) == mib
    assert await left_of(theatre.pool, "t") == {}
