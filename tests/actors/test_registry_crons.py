"""Crons of a registry: each due date is fired exactly once, by a given clock.

The database is real, the actors are in memory. A registry dies at the fault places ``fire`` and
``fired``, or in between, and the next one continues with what the database says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.registry import crons as crons_module
from actors.registry.firings import MOST_MISSED
from greenroom.core.assistants import AssistantPatch
from greenroom.core.crons import Cron, run_of_firing, thread_of_firing
from greenroom.core.identity import system_assistant_id
from greenroom.core.scopes import SERVER
from greenroom.core.sharding import Misrouted, Shard
from greenroom.persistence.database import Pool
from greenroom.persistence.records import PostgresRecords, register_assistants
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_registry import (
    Theatre,
    bounded,
    make,  # noqa: F401 - fixtures
    registry_on,
)
from tests.actors.test_registry_shards import ended, opened
from tests.run_records import cron_of

# ruff: noqa: F811 - fixtures are named as arguments

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
ASSISTANT = system_assistant_id("g")


class GivenClock:
    """A clock that stands still until it is set.

    Attributes:
        looks: what the registries sleep until, one after the other.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._asleep: dict[asyncio.Event, datetime | None] = {}
        self.looks: list[datetime | None] = []

    def now(self) -> datetime:
        return self._now

    def set(self, now: datetime) -> None:
        self._now = now
        for awake, moment in self._asleep.items():
            if moment is not None and moment <= now:
                awake.set()

    async def sleep(self, until: datetime | None, awake: asyncio.Event) -> None:
        if until is not None and until <= self._now:
            return
        self.looks.append(until)
        self._asleep[awake] = until
        try:
            await awake.wait()
        finally:
            del self._asleep[awake]

    def forget(self) -> None:
        """The registries that slept are gone."""
        self._asleep.clear()


class Gates:
    """Blocks at places, until the test opens them."""

    def __init__(self) -> None:
        self._closed: dict[str, asyncio.Event] = {}
        self.reached: list[str] = []

    def close(self, place: str) -> None:
        self._closed[place] = asyncio.Event()

    def open(self, place: str) -> None:
        self._closed.pop(place).set()

    async def at(self, place: str) -> None:
        gate = self._closed.get(place)
        if gate is not None:
            self.reached.append(place)
            await gate.wait()


class Stage:
    """A registry with crons."""

    def __init__(self, theatre: Theatre, clock: GivenClock, gates: Gates) -> None:
        self.theatre = theatre
        self.clock = clock
        self.gates = gates

    async def cron(self, **changes: Any) -> Cron:
        cron = a_cron(**changes)
        assert await bounded(self.theatre.registry.save_cron(cron))
        return cron

    async def change(self, cron: Cron, **changes: Any) -> Cron:
        """A client's change, on top of the last one."""
        changed = replace(cron, **({"next_run_date": None, "revision": 0} | changes))
        assert await bounded(self.theatre.registry.save_cron(changed))
        return changed

    async def runs(self, cron: Cron | None = None) -> list[dict[str, Any]]:
        """The runs of a cron, or of all, in the order of admission."""
        found = await self.theatre.rows(
            "SELECT run_id::text, thread_id, status, metadata, kwargs::text,"
            " kwargs->'config'->'configurable'->>'cron_id' FROM greenroom.runs ORDER BY admitted"
        )
        names = ("run_id", "thread_id", "status", "metadata", "kwargs", "cron_id")
        runs = [dict(zip(names, row, strict=True)) for row in found]
        runs = [run | {"kwargs": json.loads(run["kwargs"])} for run in runs]
        if cron is None:
            return runs
        return [run for run in runs if run["cron_id"] == cron.cron_id]

    async def next_date(self, cron: Cron) -> datetime | None:
        found = await self.theatre.rows(
            "SELECT next_run_date FROM greenroom.crons WHERE cron_id = %s", cron.cron_id
        )
        return found[0][0] if found else None

    async def goes_on(self, cron: Cron, date: datetime) -> None:
        """Waits until the cron's next date is this one, and none of its firings is under way."""
        async with asyncio.timeout(BOUND_S):
            while await self.next_date(cron) != date:  # noqa: ASYNC110 - it is in the database
                await asyncio.sleep(0.005)
        await until(lambda: not self.theatre.registry.parts.crons.firing)

    async def restart(self) -> None:
        await self.theatre.kill(self.theatre.registry)
        self.clock.forget()
        await self.theatre.open()

    def fired(self) -> dict[str, float]:
        """The firings of the present registry, by outcome."""
        meter = self.theatre.registry.context.meter
        numbers = meter.numbers(crons_module.metrics.CRON_FIRINGS)
        return {outcome: value for (outcome,), value in dict(numbers).items()}


def a_cron(**changes: Any) -> Cron:
    given = {"payload": {"input": {"a": 1}}, "next_run_date": NOON} | changes
    if isinstance(given["payload"], dict):
        given["payload"] = json.dumps(given["payload"]).encode()
    return cron_of(**given)


async def a_thread(theatre: Theatre, thread_id: str = "t") -> None:
    await theatre.rows(
        "INSERT INTO greenroom.threads (thread_id) VALUES (%s) RETURNING 1", thread_id
    )


@pytest.fixture
async def stage(pool: Pool, make: Callable[..., Awaitable[Theatre]]) -> Stage:
    await register_assistants(pool, ["g", "gone"])
    clock, gates = GivenClock(NOON - SECOND), Gates()
    return Stage(await make(clock=clock, faults=gates), clock, gates)


# --- a date --------------------------------------------------------------------------------------


async def test_a_registry_without_crons_waits_for_nothing(stage: Stage) -> None:
    await until(lambda: stage.clock.looks)
    assert stage.clock.looks == [None]


async def test_a_cron_fires_when_it_is_due_and_goes_on(stage: Stage) -> None:
    cron = await stage.cron(payload={"input": {"a": 1}, "metadata": {"m": 1}, "webhook": None})
    await until(lambda: stage.clock.looks[-1:] == [NOON])
    assert await stage.runs() == []
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    thread_id = thread_of_firing(cron.cron_id, NOON)
    assert run["thread_id"] == thread_id
    assert run["run_id"] == run_of_firing(cron.cron_id, NOON, thread_id)
    assert run["metadata"] == {"created_by": "system", "assistant_id": ASSISTANT, "m": 1}
    kwargs = run["kwargs"]
    assert (kwargs["input"], kwargs["temporary"]) == ({"a": 1}, True)
    assert kwargs["context"] == {"cron_id": cron.cron_id}
    assert stage.fired() == {"fired": 1}
    await stage.theatre.finish(run["run_id"])
    assert await stage.theatre.thread(thread_id) is None
    await until(lambda: stage.clock.looks[-1:] == [NOON + MINUTE])


async def test_a_kept_thread_shows_the_crons_metadata(stage: Stage) -> None:
    cron = await stage.cron(
        on_run_completed="keep", payload={"metadata": {"m": 1}, "on_run_completed": "keep"}
    )
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    await stage.theatre.finish(run["run_id"])
    found = await stage.theatre.rows("SELECT thread_id, status, metadata FROM greenroom.threads")
    metadata = {"graph_id": "g", "assistant_id": ASSISTANT, "m": 1}
    assert found == [(run["thread_id"], "idle", metadata)]


async def test_a_context_has_the_crons_id_beside_it(stage: Stage) -> None:
    cron_id = str(uuid.uuid4())
    config = {"configurable": {"cron_id": cron_id}, "tags": ["t"]}
    cron = await stage.cron(cron_id=cron_id, payload={"context": {"m": 1}, "config": config})
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    assert run["kwargs"]["context"] == {"m": 1}
    assert run["kwargs"]["config"]["configurable"]["m"] == 1
    assert run["kwargs"]["config"]["tags"] == ["t"]


async def test_a_cron_on_a_thread_queues_its_run(stage: Stage) -> None:
    await a_thread(stage.theatre)
    active = await stage.theatre.create()
    cron = await stage.cron(thread_id="t", on_run_completed=None)
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    run = (await stage.runs())[-1]
    assert (run["thread_id"], run["status"]) == ("t", "pending")
    await stage.theatre.finish(active.run_id)
    await stage.theatre.finish(run["run_id"])
    assert await stage.theatre.status(run["run_id"]) == "success"
    await stage.theatre.nothing_is_left()


async def test_a_firing_that_rejects_a_taken_thread_is_skipped_and_says_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await a_thread(stage.theatre)
    active = await stage.theatre.create()
    cron = await stage.cron(
        thread_id="t", on_run_completed=None, payload={"multitask_strategy": "reject"}
    )
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs()) == 1
    assert stage.fired() == {"skipped": 1}
    (record,) = [each for each in caplog.records if each.name == "greenroom.crons"]
    assert record.levelno == logging.WARNING
    assert (record.action, record.cron_id) == ("cron_skipped", cron.cron_id)  # type: ignore[attr-defined]
    assert "already running" in record.reason  # type: ignore[attr-defined]
    await stage.theatre.finish(active.run_id)
    stage.clock.set(NOON + MINUTE)
    await stage.goes_on(cron, NOON + 2 * MINUTE)
    assert len(await stage.runs()) == 2


async def test_a_cron_with_seconds_fires_each_second(stage: Stage) -> None:
    cron = await stage.cron(schedule="* * * * * *")
    for second in range(5):
        stage.clock.set(NOON + second * SECOND)
        await stage.goes_on(cron, NOON + (second + 1) * SECOND)
    assert len(await stage.runs(cron)) == 5
    assert stage.fired() == {"fired": 5}


async def test_a_cron_does_not_fire_after_its_end_or_while_it_is_disabled(stage: Stage) -> None:
    await stage.cron(enabled=False)
    await stage.cron(end_time=NOON - SECOND)
    until_end = await stage.cron(end_time=NOON)
    stage.clock.set(NOON)
    await stage.goes_on(until_end, NOON + MINUTE)
    stage.clock.set(NOON + 3 * MINUTE)
    assert len(await stage.runs()) == 1
    await until(lambda: stage.clock.looks[-1:] == [None])


async def test_a_date_before_the_end_is_not_fired_long_after_it(stage: Stage) -> None:
    await stage.theatre.kill(stage.theatre.registry)
    await stage.theatre.open()
    cron = await stage.cron(end_time=NOON)
    stage.clock.set(NOON + MINUTE)
    await stage.goes_on(cron, NOON + 2 * MINUTE)
    assert await stage.runs() == []
    assert stage.fired() == {"skipped": 1}


# --- what clients change -------------------------------------------------------------------------


async def test_a_new_cron_and_a_change_are_noticed_at_once(stage: Stage) -> None:
    late = await stage.cron(next_run_date=NOON + 10 * MINUTE)
    await until(lambda: stage.clock.looks[-1:] == [NOON + 10 * MINUTE])
    await stage.change(late, next_run_date=NOON + MINUTE)
    await until(lambda: stage.clock.looks[-1:] == [NOON + MINUTE])
    await stage.cron(next_run_date=NOON)
    await until(lambda: stage.clock.looks[-1:] == [NOON])


async def test_a_cron_that_is_stored_or_deleted_again_stays_as_it_is(stage: Stage) -> None:
    registry = stage.theatre.registry
    cron = await stage.cron()
    assert await registry.save_cron(cron)
    changed = await stage.change(cron, schedule="0 0 * * *")
    assert not await registry.save_cron(changed)
    await registry.delete_cron(cron.cron_id, cron.owner)
    await registry.delete_cron(cron.cron_id, cron.owner)
    assert await stage.next_date(cron) is None
    assert not await registry.save_cron(replace(changed, revision=1))


async def test_a_cron_without_its_thread_or_assistant_is_not_stored(stage: Stage) -> None:
    for changes in ({"thread_id": "gone"}, {"assistant_id": str(uuid.uuid4())}):
        assert not await stage.theatre.registry.save_cron(a_cron(**changes))


@pytest.mark.parametrize("how", ["disabled", "rescheduled", "deleted"])
async def test_what_a_client_was_told_holds_for_a_firing_that_has_begun(
    stage: Stage, how: str
) -> None:
    cron = await stage.cron()
    stage.gates.close("fire")
    stage.clock.set(NOON)
    await until(lambda: stage.gates.reached)
    if how == "disabled":
        await stage.change(cron, enabled=False)
    elif how == "rescheduled":
        await stage.change(cron, schedule="0 0 * * *", next_run_date=NOON + 12 * 60 * MINUTE)
    else:
        await stage.theatre.registry.delete_cron(cron.cron_id, cron.owner)
    stage.gates.open("fire")
    await until(lambda: not stage.theatre.registry.parts.crons.firing)
    assert await stage.runs() == []
    assert stage.fired() == {}
    await stage.theatre.nothing_is_left()


async def test_a_firing_that_has_begun_has_the_input_of_a_change_before_it(stage: Stage) -> None:
    cron = await stage.cron()
    stage.gates.close("fire")
    stage.clock.set(NOON)
    await until(lambda: stage.gates.reached)
    await stage.change(cron, payload=b'{"input": {"b": 2}}')
    stage.gates.open("fire")
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    assert run["kwargs"]["input"] == {"b": 2}


async def test_a_firing_that_has_begun_has_the_assistant_of_a_change_before_it(
    stage: Stage, pool: Pool
) -> None:
    """The assistant changes after the firing has read it, and before its run is admitted."""
    records = PostgresRecords(pool)
    cron = await stage.cron()
    stage.gates.close("fire")
    stage.clock.set(NOON)
    await until(lambda: stage.gates.reached)
    patch = AssistantPatch(rest={}, values={"model": "new"})
    changed = await bounded(records.patch_assistant(ASSISTANT, patch, scope=SERVER))
    assert changed is not None
    stage.gates.open("fire")
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    assert run["kwargs"]["config"]["configurable"]["model"] == "new"
    sql = "SELECT assistant_version FROM greenroom.runs"
    assert await stage.theatre.rows(sql) == [(changed["version"],)]
    assert stage.fired() == {"fired": 1}


async def test_a_change_back_to_a_date_that_was_fired_does_not_fire_it_again(stage: Stage) -> None:
    """As a gateway does whose clock is behind."""
    cron = await stage.cron()
    stage.clock.set(NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    await stage.change(cron, next_run_date=NOON)
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs(cron)) == 1
    await stage.restart()
    await stage.change(cron, next_run_date=NOON, revision=1)
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs(cron)) == 1


async def test_a_cron_goes_with_its_thread(stage: Stage) -> None:
    await a_thread(stage.theatre)
    cron = await stage.cron(thread_id="t", on_run_completed=None)
    await bounded(stage.theatre.registry.delete_thread("t"))
    assert await stage.next_date(cron) is None
    stage.clock.set(NOON)
    await until(lambda: stage.clock.looks[-1:] == [None])
    assert await stage.runs() == []


async def test_a_cron_goes_with_its_assistant(stage: Stage) -> None:
    cron = await stage.cron()
    stage.gates.close("fire")
    stage.clock.set(NOON)
    await until(lambda: stage.gates.reached)
    await stage.theatre.rows("DELETE FROM greenroom.assistants RETURNING 1")
    stage.gates.open("fire")
    await until(lambda: not stage.theatre.registry.parts.crons.firing)
    assert await stage.next_date(cron) is None
    assert await stage.runs() == []


# --- registries that die -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["fire", "admit", "admitted", "fired"])
async def test_a_date_is_fired_once_wherever_the_registry_dies(stage: Stage, place: str) -> None:
    cron = await stage.cron()
    stage.gates.close(place)
    stage.clock.set(NOON)
    await until(lambda: stage.gates.reached)
    if place == "admit":  # the write may be on its way: it is made, or not, as a whole
        await asyncio.sleep(0)
    await stage.theatre.kill(stage.theatre.registry)
    stage.clock.forget()
    before = await stage.runs(cron)
    assert len(before) == (place in ("admitted", "fired")) or place == "admit"
    assert (await stage.next_date(cron) == NOON + MINUTE) == bool(before)
    stage.gates.open(place)
    await stage.theatre.open()
    await stage.goes_on(cron, NOON + MINUTE)
    (run,) = await stage.runs(cron)
    await stage.theatre.finish(run["run_id"])
    await stage.restart()
    assert len(await stage.runs(cron)) <= 1
    assert await stage.next_date(cron) == NOON + MINUTE
    await stage.theatre.nothing_is_left()


async def test_dates_that_were_missed_are_one_firing_that_says_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    cron = await stage.cron()
    short = await stage.cron(schedule="0 * * * *", next_run_date=NOON)
    often = await stage.cron(schedule="* * * * * *")
    await stage.theatre.kill(stage.theatre.registry)
    stage.clock.forget()
    stage.clock.set(NOON + 30 * MINUTE + SECOND)
    await stage.theatre.open()
    await stage.goes_on(cron, NOON + 31 * MINUTE)
    await stage.goes_on(short, NOON + 60 * MINUTE)
    await stage.goes_on(often, NOON + 30 * MINUTE + 2 * SECOND)
    for each, missed in ((cron, 30), (short, 0), (often, MOST_MISSED)):
        (run,) = await stage.runs(each)
        assert run["metadata"]["cron_missed"] == missed
        assert run["metadata"]["cron_due_at"] == NOON.isoformat()
    assert stage.fired() == {"late": 3}
    records = [each for each in caplog.records if each.name == "greenroom.crons"]
    assert [record.action for record in records] == ["cron_late"] * 3  # type: ignore[attr-defined]
    stage.clock.set(NOON + 31 * MINUTE)
    await stage.goes_on(cron, NOON + 32 * MINUTE)
    assert "cron_missed" not in (await stage.runs(cron))[-1]["metadata"]


async def test_a_registry_that_starts_again_fires_without_being_called(stage: Stage) -> None:
    """At night there is no client whose call would begin its recovery."""
    cron = await stage.cron()
    await stage.theatre.kill(stage.theatre.registry)
    stage.clock.forget()
    stage.clock.set(NOON)
    stage.theatre.registries.append(registry_on(stage.theatre.cluster, stage.theatre.setup))
    await until(lambda: stage.theatre.registry.readiness.now)
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs(cron)) == 1


async def test_a_registry_that_drains_leaves_dates_to_the_next_one(stage: Stage) -> None:
    cron = await stage.cron()
    await bounded(stage.theatre.registry.drain(0.0, relieved=True))
    stage.clock.set(NOON)
    await until(lambda: not stage.theatre.registry.parts.crons.firing)
    assert await stage.next_date(cron) == NOON
    await stage.restart()
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs(cron)) == 1


# --- crons that cannot fire ----------------------------------------------------------------------


async def test_a_cron_that_cannot_fire_is_in_no_others_way(stage: Stage) -> None:
    """Nor of a recovery: the next registry meets the same crons."""
    broken = [
        await stage.cron(payload={"stream_mode": "bogus"}),
        await stage.cron(payload=b"[1]"),
        await stage.cron(payload={"context": {"a": 1}, "config": {"configurable": {"b": 1}}}),
        await stage.cron(assistant_id=system_assistant_id("gone")),
    ]
    unreadable = [
        await stage.cron(schedule="bogus"),
        await stage.cron(timezone="bogus/zone"),
        await stage.cron(schedule="0 0 31 2 *"),
    ]
    good = await stage.cron()
    stage.clock.set(NOON)
    for cron in (*broken, good):
        await stage.goes_on(cron, NOON + MINUTE)
    await stage.restart()
    stage.clock.set(NOON + MINUTE)
    for cron in (*broken, good):
        await stage.goes_on(cron, NOON + 2 * MINUTE)
    assert len(await stage.runs(good)) == len(await stage.runs()) == 2
    assert stage.fired() == {"fired": 1, "failed": len(broken)}
    # Without a next date there is nothing to wait for: such a cron is off, as its record shows.
    for cron in unreadable:
        found = await stage.theatre.rows(
            "SELECT enabled, next_run_date FROM greenroom.crons WHERE cron_id = %s", cron.cron_id
        )
        assert found == [(False, NOON)]


async def test_a_cron_waits_while_the_server_has_no_room(
    pool: Pool, make: Callable[..., Awaitable[Theatre]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crons_module, "PAUSE_S", 0.01)
    await register_assistants(pool, ["g"])
    clock = GivenClock(NOON - SECOND)
    stage = Stage(await make(clock=clock, max_queued_runs=1), clock, Gates())
    active = await stage.theatre.create()
    queued = await stage.theatre.create()
    cron = await stage.cron()
    clock.set(NOON)
    await until(lambda: stage.fired().get("delayed", 0) > 1)
    assert await stage.next_date(cron) == NOON
    await stage.theatre.finish(active.run_id)
    await stage.goes_on(cron, NOON + MINUTE)
    assert len(await stage.runs(cron)) == 1
    await stage.theatre.finish(queued.run_id)


# --- many ----------------------------------------------------------------------------------------


async def test_of_ten_thousand_crons_those_that_are_due_fire_and_no_others(stage: Stage) -> None:
    """Ten are due in each second. A look takes the same, however many wait."""
    await stage.theatre.rows(
        "INSERT INTO greenroom.crons (cron_id, assistant_id, schedule, enabled, payload,"
        " next_run_date) SELECT gen_random_uuid(), %s, '0 0 1 1 *', true, '{}',"
        " %s::timestamptz + make_interval(secs => n / 10)"
        " FROM generate_series(0, 9999) AS n RETURNING 1",
        ASSISTANT,
        NOON,
    )
    await stage.restart()
    await until(lambda: stage.clock.looks[-1:] == [NOON])
    before = len(stage.clock.looks)
    firing = stage.theatre.registry.parts.crons.firing
    for second in range(4):
        stage.clock.set(NOON + second * SECOND)
        following = NOON + (second + 1) * SECOND
        await until(lambda at=following: stage.clock.looks[-1] == at and not firing)
        fired = await stage.theatre.rows(
            "SELECT count(*) FROM greenroom.crons WHERE next_run_date > %s",
            NOON + 365 * 60 * MINUTE,
        )
        assert fired == [((second + 1) * 10,)]
        assert len(await stage.runs()) == (second + 1) * 10
    assert stage.fired() == {"fired": 40}
    # A look at each date, and after the end of a firing: not one for each cron that waits.
    assert len(stage.clock.looks) - before < 4 * 15


# --- several registries --------------------------------------------------------------------------


async def test_each_registry_fires_its_own_also_when_their_number_changes(
    dsn: str, pool: Pool, tmp_path: Path
) -> None:
    await register_assistants(pool, ["g"])
    config = tmp_path / "langgraph.json"
    (tmp_path / "g.py").write_text("graph = None\n")
    config.write_text(json.dumps({"graphs": {"g": "./g.py:graph"}}))
    clock = GivenClock(NOON - SECOND)
    crons = [a_cron() for _ in range(8)]
    for generation, of in enumerate((2, 3, 1), 1):
        now = NOON + generation * MINUTE
        stages = await opened(
            dsn, pool, config, of, clock=clock, generation=generation, cancel_grace_s=60.0
        )
        try:
            if generation == 1:
                for cron in crons:
                    shard = next(n for n in range(of) if Shard(n, of).has(cron.owner))
                    cron = replace(cron, next_run_date=now)
                    assert await stages[shard].registry.save_cron(cron)
                    with pytest.raises(Misrouted):
                        await stages[1 - shard].registry.save_cron(cron)
            clock.set(now)
            for cron in crons:
                await Stage(stages[0], clock, Gates()).goes_on(cron, now + MINUTE)
            for number in range(of):
                shard = Shard(number, of)
                runs = stages[number].registry.in_flight
                due = [cron for cron in crons if shard.has(cron.owner)]
                ids = {
                    run_of_firing(cron.cron_id, now, thread_of_firing(cron.cron_id, now))
                    for cron in due
                }
                assert ids <= runs
        finally:
            await ended(stages)
            clock.forget()
    found = await Stage(stages[0], clock, Gates()).runs()
    assert len(found) == 3 * len(crons)
