"""Runs and crons with an Idempotency-Key, at a registry: twice at once, after deaths and deletions.

The key is reserved before the create, by a gateway. So a process may die between the two, or the
reservation may be gone when the create arrives.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from greenroom.core.crons import Cron
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.idempotency import OnceKey
from greenroom.core.runs import CreatedRun, RunRequest, RunStatus
from greenroom.http.parameters import new_id
from greenroom.persistence import journal
from greenroom.persistence.records import PostgresRecords, register_assistants
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_registry import (
    Theatre,
    bounded,
    make,  # noqa: F401 - fixtures
    request,
    strict,  # noqa: F401
    theatre,  # noqa: F401
)
from tests.actors.test_registry_crashes import Failing
from tests.run_records import cron_of

# ruff: noqa: F811 - fixtures are named as arguments


async def reserved(theatre: Theatre, key: str = "k") -> OnceKey:
    records = PostgresRecords(theatre.pool)
    return (await records.reserve(OnceKey(key=key, seed=new_id()), b"digest")).once


async def released(theatre: Theatre, once: OnceKey) -> bool:
    return await PostgresRecords(theatre.pool).release(once)


def asked_with(once: OnceKey, thread_id: str = "t", **changes: object) -> RunRequest:
    made = request(thread_id, run_id=once.new_run_id(thread_id), **changes)
    return dataclasses.replace(made, once=once)


async def made(theatre: Theatre) -> list[str]:
    return [row[0] for row in await theatre.rows("SELECT id FROM greenroom.idempotency_made")]


async def runs(theatre: Theatre) -> list[str]:
    return [row[0] for row in await theatre.rows("SELECT run_id::text FROM greenroom.runs")]


@pytest.mark.parametrize("is_new", [True, False])
async def test_twenty_at_once_are_one_run(theatre: Theatre, is_new: bool) -> None:
    if not is_new:
        await theatre.finish((await theatre.create()).run_id)
    asked = asked_with(await reserved(theatre))
    answers = await asyncio.gather(*(theatre.ask(asked) for _ in range(20)))
    assert {each.run_id for each in answers if isinstance(each, CreatedRun)} == {asked.run_id}
    assert len(await runs(theatre)) == (1 if is_new else 2)
    assert await made(theatre) == [asked.run_id]
    await theatre.finish(asked.run_id)
    await theatre.nothing_is_left()


@pytest.mark.parametrize("place", ["admit", "admitted"])
async def test_a_registry_that_dies_during_the_create_makes_one_run(
    make: Callable[..., Awaitable[Theatre]], place: str
) -> None:
    faults = Failing()
    theatre = await make(faults=faults)
    asked = asked_with(await reserved(theatre))
    faults.planned[place] = 1
    await theatre.registry.create_many([asked])
    await until(lambda: faults.reached)
    await theatre.restart()
    assert isinstance(await theatre.ask(asked), CreatedRun)
    assert await runs(theatre) == await made(theatre) == [asked.run_id]
    await theatre.finish(asked.run_id)
    await theatre.nothing_is_left()


async def test_a_create_after_the_death_of_the_gateway_that_reserved(theatre: Theatre) -> None:
    """It died between the reservation and the create; another gateway gets the repetition."""
    first = await reserved(theatre)
    again = await reserved(theatre)
    assert again == first
    await theatre.restart()
    assert isinstance(await theatre.ask(asked_with(again)), CreatedRun)
    assert isinstance(await theatre.ask(asked_with(first)), CreatedRun), "it was only slow"
    assert await runs(theatre) == [first.new_run_id("t")]
    await theatre.finish(first.new_run_id("t"))
    await theatre.nothing_is_left()


@pytest.mark.parametrize("temporary", [True, False])
@pytest.mark.parametrize("strategy", ["enqueue", "reject", "interrupt", "rollback"])
async def test_a_run_that_is_deleted_is_not_made_again(
    theatre: Theatre, temporary: bool, strategy: str
) -> None:
    """A stateless one is deleted with its end; without the note, it would run a second time."""
    once = await reserved(theatre)
    asked = asked_with(once, temporary=temporary, multitask_strategy=strategy)
    await theatre.ask(asked)
    await theatre.finish(asked.run_id)
    await bounded(theatre.registry.delete_thread("t"))
    await theatre.restart()
    assert isinstance(await theatre.ask(asked), NotFound)
    assert await runs(theatre) == []
    assert not await theatre.rows("SELECT 1 FROM greenroom.threads")
    assert not await released(theatre, once)
    await theatre.nothing_is_left()


async def test_a_repetition_after_the_end_executes_nothing(theatre: Theatre) -> None:
    asked = asked_with(await reserved(theatre))
    first = await theatre.ask(asked)
    await theatre.finish(asked.run_id)
    await theatre.restart()
    again = await theatre.ask(asked)
    assert isinstance(first, CreatedRun)
    assert isinstance(again, CreatedRun)
    assert (again.created_at, again.metadata) == (first.created_at, first.metadata)
    assert await theatre.status(asked.run_id) == RunStatus.SUCCESS
    await theatre.nothing_is_left()


async def test_a_refused_create_makes_nothing_later(theatre: Theatre) -> None:
    """The key is free, and another request has it; the slow one is refused whatever happens."""
    other = await theatre.create()
    await theatre.executed(other.run_id)
    once = await reserved(theatre)
    slow = asked_with(once, multitask_strategy="reject")
    assert isinstance(await theatre.ask(slow), Conflict)
    assert await released(theatre, once)
    second = asked_with(await reserved(theatre))
    await theatre.ask(second)
    await theatre.finish(other.run_id)
    await theatre.finish(second.run_id)
    assert isinstance(await theatre.ask(slow), NotFound)
    assert sorted(await runs(theatre)) == sorted([other.run_id, second.run_id])
    await theatre.nothing_is_left()


async def test_a_run_that_is_taken_back_leaves_its_key_unused(theatre: Theatre) -> None:
    """Its caller was told that it is not stored. One that is over is taken back by nobody."""
    once = await reserved(theatre)
    over = asked_with(once)
    await theatre.ask(over)
    await theatre.finish(over.run_id)
    late = asked_with(await reserved(theatre, "late"), after_s=3600.0)
    await theatre.ask(late)
    for each in (over, late):
        await theatre.registry.context.journal.commit(*journal.take_back(each), key="t")
    assert await runs(theatre) == await made(theatre) == [over.run_id]


def a_cron(once: OnceKey) -> Cron:
    return cron_of(cron_id=once.new_id(), once=once)


async def test_a_cron_is_made_once(theatre: Theatre) -> None:
    await register_assistants(theatre.pool, ["g"])
    cron = a_cron(await reserved(theatre))
    saved = await bounded(asyncio.gather(*(theatre.registry.save_cron(cron) for _ in range(5))))
    assert saved == [True] * 5
    assert await made(theatre) == [cron.cron_id]
    await theatre.restart()
    assert await bounded(theatre.registry.save_cron(cron))
    await bounded(theatre.registry.delete_cron(cron.cron_id, cron.owner))
    assert not await bounded(theatre.registry.save_cron(cron))
    assert not await theatre.rows("SELECT 1 FROM greenroom.crons")
    free = await reserved(theatre, "free")
    await released(theatre, free)
    assert not await bounded(theatre.registry.save_cron(a_cron(free)))


async def test_a_repeated_update_waits_for_the_same_one_and_another_is_refused(
    theatre: Theatre,
) -> None:
    await theatre.rows("INSERT INTO greenroom.threads (thread_id) VALUES ('t') RETURNING thread_id")

    async def again() -> tuple[bytes, bytes, bool]:
        return b"{}", b"{}", False

    gate = theatre.hold_update(again(), again())
    asked = [None, "g", "u1"]
    update = theatre.registry.update_state
    first = asyncio.create_task(update("t", asked))
    await until(lambda: theatre.registry.context.lanes)
    same = [asyncio.create_task(update("t", asked)) for _ in range(2)]
    with pytest.raises(Conflict):
        await bounded(update("t", [None, "g", "u2"]))
    with pytest.raises(Conflict):
        await bounded(update("t", [None, "g"]))
    gate.set()
    assert await bounded(asyncio.gather(first, *same)) == [b"{}"] * 3
    await theatre.nothing_is_left()


async def test_copies_that_are_asked_for_at_once_are_one(theatre: Theatre) -> None:
    await theatre.rows("INSERT INTO greenroom.threads (thread_id) VALUES ('t') RETURNING thread_id")
    await bounded(asyncio.gather(*(theatre.registry.copy_thread("t", "copy") for _ in range(5))))
    assert await theatre.rows("SELECT count(*) FROM greenroom.threads") == [(2,)]
    assert not theatre.registry.parts.operations.turns
    await theatre.nothing_is_left()


async def test_old_keys_are_swept_and_what_they_made_stays(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    theatre = await make(sweep_interval_s=0.02)
    asked = asked_with(await reserved(theatre))
    await theatre.ask(asked)
    await reserved(theatre, "new")
    await theatre.rows(
        "UPDATE greenroom.idempotency SET created_at = now() - interval '24 hours'"
        " WHERE key = 'k' RETURNING key"
    )
    async with asyncio.timeout(BOUND_S):
        while await made(theatre):  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.01)
    assert await theatre.rows("SELECT key FROM greenroom.idempotency") == [("new",)]
    await theatre.finish(asked.run_id)
    assert await runs(theatre) == [asked.run_id]
    await theatre.nothing_is_left()
