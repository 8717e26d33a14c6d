"""Registries side by side on one database: each has its own threads, and no other's."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.calls.names import shard_of
from actors.common import metering, metrics
from actors.common.metering import Meter
from actors.registry import losses
from actors.registry.sweeping import Sweeper
from greenroom.core.errors import BadRequest, Conflict
from greenroom.core.runs import UNTIL_END, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.core.sharding import Misrouted, Shard, hash_slot_of_thread
from greenroom.core.store import ItemQuery
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Superseded
from greenroom.persistence.records import PostgresRecords
from tests.actors.doubles import BOUND_S, Method, until
from tests.actors.test_registry import Theatre, bounded, configure, request


class First:
    """The first registry, as others call it."""

    def __init__(self, theatre: Theatre) -> None:
        self.inspector = Method(lambda duty: theatre.registry.inspector(duty))
        self.ask_apart = Method(lambda *asked: theatre.registry.ask_apart(*asked))


class Stages:
    """The shards of one server: a theatre each, with the same database and actors."""

    def __init__(self, theatres: list[Theatre]) -> None:
        self.theatres = theatres
        self.cluster = theatres[0].cluster

    def __getitem__(self, number: int) -> Theatre:
        return self.theatres[number]

    def thread(self, number: int) -> str:
        """A thread of a shard that was not there before."""
        found = (f"t{uuid.uuid4().hex[:8]}" for _ in itertools.count())
        return next(each for each in found if self[number].setup.shard.has(each))


async def opened(dsn: str, pool: Pool, config: Path, of: int, **changes: Any) -> Stages:
    theatres = [Theatre(dsn, pool, config, shard=Shard(n, of), **changes) for n in range(of)]
    stages = Stages(theatres)
    stages.cluster.actors["registry"] = First(theatres[0])  # type: ignore[assignment]
    for theatre in theatres:
        theatre.cluster = stages.cluster
        await theatre.open()
    return stages


async def ended(stages: Stages) -> None:
    for theatre in stages.theatres:
        for registry in theatre.registries:
            await theatre.kill(registry)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(losses, "RETRY_BACKOFF_S", (0.0, 0.001))
    monkeypatch.setattr("actors.registry.keeper.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.deliveries.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.pool.START_BACKOFF_S", (0.0, 0.001))
    (tmp_path / "g.py").write_text("graph = None\n")
    configure(tmp_path / "langgraph.json", "g")
    return tmp_path / "langgraph.json"


@pytest.fixture
async def stages(dsn: str, pool: Pool, config: Path) -> AsyncIterator[Stages]:
    stages = await opened(dsn, pool, config, 2, cancel_grace_s=60.0)
    yield stages
    await ended(stages)


async def test_each_decides_about_its_own_threads_with_actors_of_its_own(stages: Stages) -> None:
    for number in range(2):
        thread_id = stages.thread(number)
        run = await stages[number].create(thread_id)
        assert run.placement is not None
        assert shard_of(run.placement.actor) == number
        with pytest.raises(Conflict):
            await stages[number].create(thread_id, "reject")
        await stages[number].finish(run.run_id)
        assert await stages[number].status(run.run_id) == "success"
    for theatre in stages.theatres:
        await theatre.nothing_is_left()


async def test_what_is_another_ones_is_sent_there_and_nothing_of_it_is_done(
    stages: Stages,
) -> None:
    mine, other = stages.thread(0), stages.thread(1)
    registry = stages[0].registry
    asked = [request(mine), request(other)]
    for call in (
        registry.create_many(asked),
        registry.activity(other, None, 0),
        registry.update_state(other, []),
        registry.copy_thread(other, mine),
        registry.delete_thread(other),
        registry.prune_thread(other),
        registry.delete_run(other, asked[1].run_id),
    ):
        with pytest.raises(Misrouted) as caught:
            await bounded(call)
        assert caught.value.shards == 2
    assert await stages[0].rows("SELECT * FROM greenroom.threads") == []
    await stages[0].nothing_is_left()


async def test_a_run_whose_id_tells_nothing_is_followed_where_it_is(stages: Stages) -> None:
    """Its id was minted before there were shards."""
    thread_id = stages.thread(1)
    run = await stages[1].create(thread_id)
    with pytest.raises(Misrouted) as caught:
        await bounded(stages[0].registry.follow(run.run_id, UNTIL_END, BOUND_S))
    assert caught.value.hash_slot == hash_slot_of_thread(thread_id)
    await stages[1].finish(run.run_id)


async def test_each_takes_up_its_own_runs_and_leaves_the_others_alone(stages: Stages) -> None:
    runs = [await stages[number].create(stages.thread(number)) for number in range(2)]
    waiting = [await stages[n].create(runs[n].thread_id) for n in range(2)]
    actors = [await stages[number].executed(runs[number].run_id) for number in range(2)]
    epochs = [(await stages[number].registry.hello())["epoch"] for number in range(2)]
    busy = await stages[1].thread(runs[1].thread_id)
    await stages[0].restart()
    assert {run.run_id for run in stages[0].registry.context.runs} == {
        runs[0].run_id,
        waiting[0].run_id,
    }
    assert {run.run_id for run in stages[1].registry.context.runs} == {
        runs[1].run_id,
        waiting[1].run_id,
    }
    assert (await stages[0].registry.hello())["epoch"] == epochs[0] + 1
    assert not stages[1].registry.superseded
    assert [actor.name in stages.cluster.actors for actor in actors] == [True, True]
    assert [actor.orders[0].attempt for actor in actors] == [1, 1]
    assert await stages[1].thread(runs[1].thread_id) == busy == "busy"
    for number in range(2):
        for run in (runs[number], waiting[number]):
            assert await stages[number].finish(run.run_id)
            assert await stages[number].status(run.run_id) == "success"
    for theatre in stages.theatres:
        await theatre.nothing_is_left()


async def test_a_rollback_settles_its_thread_by_the_first_ones_inspector(stages: Stages) -> None:
    thread_id = stages.thread(1)
    run = await stages[1].create(thread_id)
    await stages[1].executed(run.run_id)
    assert await stages[1].cancel(run.run_id, "rollback", thread_id) is None
    await stages[1].finish(run.run_id, RunStatus.INTERRUPTED)
    assert len(stages.cluster.settlers()) == 1
    assert stages.cluster.settlers()[0].settled == [thread_id]
    await stages[1].nothing_is_left()


async def test_a_copy_may_be_another_ones_thread(stages: Stages) -> None:
    thread_id, copy_id = stages.thread(0), stages.thread(1)
    run = await stages[0].create(thread_id)
    await stages[0].finish(run.run_id)
    await bounded(stages[0].registry.copy_thread(thread_id, copy_id))
    again = await stages[1].create(copy_id, create_thread=False)
    await stages[1].finish(again.run_id)
    assert await stages[1].thread(copy_id) == "idle"


async def test_all_are_stopped_by_asking_each(stages: Stages) -> None:
    runs = [await stages[n].create(stages.thread(n)) for n in (0, 0, 1)]
    for number, run in zip((0, 0, 1), runs, strict=True):
        await stages[number].executed(run.run_id)
    counts = await asyncio.gather(
        *(theatre.registry.cancel_all("all", "interrupt") for theatre in stages.theatres)
    )
    assert counts == [2, 1]
    for number, run in zip((0, 0, 1), runs, strict=True):
        await stages[number].finish(run.run_id, RunStatus.INTERRUPTED)


async def test_expired_threads_are_deleted_by_their_own(dsn: str, pool: Pool, config: Path) -> None:
    stages = await opened(dsn, pool, config, 2, thread_ttl_s=0.001, sweep_interval_s=0.02)
    threads = [stages.thread(number) for number in (0, 1)]
    try:
        for number, thread_id in enumerate(threads):
            run = await stages[number].create(thread_id)
            await stages[number].finish(run.run_id)
        async with asyncio.timeout(BOUND_S):
            while await stages[0].rows("SELECT 1 FROM greenroom.threads"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await ended(stages)


async def test_expired_threads_are_pruned_once_and_again_after_a_run(
    dsn: str, pool: Pool, config: Path
) -> None:
    stages = await opened(dsn, pool, config, 2, sweep_interval_s=0.02)
    records, thread_id, other = PostgresRecords(pool), stages.thread(0), stages.thread(1)
    pruned = "SELECT thread_id FROM greenroom.threads WHERE expires_at IS NULL ORDER BY 1"

    async def until_pruned(*threads: str) -> None:
        async with asyncio.timeout(BOUND_S):
            while set(await stages[0].rows(pruned)) != {(each,) for each in threads}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    try:
        # The state of one is rebuilt from its older checkpoints: it is not tried again and again.
        stages.cluster.scripts["prune"] = [BadRequest("Thread has delta channels.")]
        ttl = {"ttl": 0.0005, "strategy": "keep_latest"}
        await records.create_thread(other, metadata={}, if_exists="raise", ttl=ttl, scope=SERVER)
        await until_pruned(other)
        await records.create_thread(
            thread_id, metadata={}, if_exists="raise", ttl=ttl, scope=SERVER
        )
        await until_pruned(thread_id, other)
        inspectors = stages.cluster.inspectors()
        assert [each for actor in inspectors for each in actor.pruned] == [thread_id]
        run = await stages[0].create(thread_id, create_thread=False)
        await stages[0].finish(run.run_id)
        await until_pruned(thread_id, other)
        await until(lambda: sum(len(actor.pruned) for actor in inspectors) == 2)
        counted = metering.text([await each.registry.counted() for each in stages.theatres])
        assert 'greenroom_swept_threads_total{outcome="pruned"' in counted
        assert 'greenroom_swept_threads_total{outcome="refused"' in counted
    finally:
        await ended(stages)


async def test_a_sweep_ends_no_more_threads_than_its_limit(
    dsn: str, pool: Pool, config: Path
) -> None:
    records = PostgresRecords(pool)
    for number in range(5):
        await records.create_thread(
            f"t{number}", metadata={}, if_exists="raise", ttl={"ttl": 0.0001}, scope=SERVER
        )
    stages = await opened(dsn, pool, config, 1, sweep_interval_s=3600.0, thread_sweep_limit=2)
    try:
        setup = stages[0].setup
        parts = stages[0].registry.parts
        sweeper = Sweeper(
            pool, setup, parts.operations, parts.assistant_deletions, Meter(metrics.ALL)
        )
        for left in (3, 1, 0):
            await bounded(sweeper.sweep())
            assert len(await stages[0].rows("SELECT 1 FROM greenroom.threads")) == left
    finally:
        await ended(stages)


async def test_expired_items_of_the_store_are_swept_at_their_own_interval(
    dsn: str, pool: Pool, config: Path
) -> None:
    records = PostgresRecords(pool)
    for key, ttl in (("short", 0.0001), ("long", 60.0), ("ever", None)):
        await records.put_item(("a",), key, b"{}", vectors=[], ttl_minutes=ttl)
    stages = await opened(dsn, pool, config, 2, item_sweep_s=0.05, sweep_interval_s=0.02)
    left = "SELECT key FROM store WHERE key IN ('short', 'again')"
    try:
        async with asyncio.timeout(BOUND_S):
            while await stages[0].rows(left):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await records.put_item(("a",), "again", b"{}", vectors=[], ttl_minutes=0.0001)
            while await stages[0].rows(left):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        await ended(stages)
    assert {item["key"] for item in await records.search_items(ItemQuery())} == {"long", "ever"}


async def test_a_start_with_fewer_takes_everything_from_those_before(
    dsn: str, pool: Pool, config: Path
) -> None:
    """The older ones were not relieved: they are fenced, all of them, by the first that comes."""
    older = await opened(dsn, pool, config, 3)
    later = Theatre(dsn, pool, config, generation=2, version="later")
    later.cluster = older.cluster
    threads = [older.thread(number) for number in range(3)]
    try:
        runs = [await older[number].create(threads[number]) for number in range(3)]
        for number, run in enumerate(runs):
            await older[number].executed(run.run_id)
        abandoned = older.cluster.workers()
        await later.open()
        for number, theatre in enumerate(older.theatres):
            with pytest.raises(Superseded):
                await theatre.ask(request(older.thread(number)))
            assert theatre.registry.superseded
        assert {actor.name for actor in abandoned} <= set(older.cluster.killed)
        for run in runs:
            await until(lambda: later.cluster.executing(run.run_id))  # noqa: B023
            assert later.registry.run(run.run_id).attempt == 2
            await later.finish(run.run_id)
            assert await later.status(run.run_id) == "success"
    finally:
        await ended(older)
        await ended(Stages([later]))
