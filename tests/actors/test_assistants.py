"""Runs keep what they took of an assistant, and stop when it is deleted, whoever dies.

A registry with PostgreSQL, and actors in memory.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from actors.calls.directory import Handles
from actors.calls.names import REGISTRY
from actors.gateway import routing
from actors.gateway.runtime import RayRuntime
from actors.registry import assistant_deletions as carrying_out
from greenroom.core.assistants import NewAssistant
from greenroom.core.errors import AssistantChanged, DatabaseUnavailable, NotFound
from greenroom.core.runs import CreatedRun, RunRequest, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.core.sharding import Shard
from greenroom.persistence import assistant_deletions
from greenroom.persistence.records import PostgresRecords
from tests.actors.doubles import BOUND_S, FakeHandles, until
from tests.actors.test_registry import (
    Theatre,
    bounded,
    make,  # noqa: F401 - fixtures
    request,
    strict,  # noqa: F401
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments


async def an_assistant(theatre: Theatre, assistant_id: str | None = None) -> dict[str, Any]:
    """The facts of a run with a new assistant."""
    records = PostgresRecords(theatre.pool)
    new = NewAssistant(
        assistant_id=assistant_id or str(uuid.uuid4()),
        graph_id="g",
        name="n",
        description=None,
        config={},
        context={},
        metadata={},
    )
    await records.create_assistant(new, if_exists="raise", scope=SERVER)
    known = await records.assistant_of_run(new.assistant_id, scope=SERVER)
    assert known is not None
    return {
        "assistant_id": known["assistant_id"],
        "assistant_version": known["version"],
        "assistant_revision": known["revision"],
    }


async def marked(theatre: Theatre, facts: dict[str, Any], *, delete_threads: bool = False) -> str:
    """Deletes the record, as a gateway does that dies then; returns the name of the deletion."""
    name = str(uuid.uuid4())
    assert await assistant_deletions.begin(
        theatre.pool,
        name,
        facts["assistant_id"],
        threads=SERVER if delete_threads else None,
        scope=SERVER,
    )
    return name


async def delete(theatre: Theatre, facts: dict[str, Any], *, delete_threads: bool = False) -> bool:
    name = await marked(theatre, facts, delete_threads=delete_threads)
    return await bounded(theatre.registry.delete_assistant(name, BOUND_S))


async def unfinished(theatre: Theatre) -> int:
    await assistant_deletions.delete_finished(theatre.pool, older_than_s=0)
    return len(await assistant_deletions.unfinished(theatre.pool))


async def test_a_run_keeps_the_version_that_it_took(theatre: Theatre) -> None:
    """In the queue, in its next attempt, and with the next registry."""
    mine = await an_assistant(theatre)
    kwargs = b'{"context":{"model":"one"}}'
    runs = [await theatre.create(kwargs=kwargs, **mine) for _ in range(2)]
    first = await theatre.executed(runs[0].run_id)
    await theatre.rows(
        'UPDATE greenroom.assistants SET context = \'{"model": "two"}\', version = 2, newest = 2'
        " WHERE assistant_id = %s RETURNING 1",
        mine["assistant_id"],
    )
    theatre.cluster.die(first.name)
    await until(lambda: any(a.current.get(runs[0].run_id) == 2 for a in theatre.cluster.workers()))
    await theatre.restart()
    for run in runs:
        assert await theatre.finish(run.run_id)
    orders = [order for actor in theatre.cluster.ever for order in actor.orders]
    assert [(order.run_id, order.attempt) for order in orders] == [
        (runs[0].run_id, 1),
        (runs[0].run_id, 2),
        (runs[1].run_id, 1),
    ]
    assert {order.kwargs for order in orders} == {kwargs}
    assert await theatre.rows("SELECT DISTINCT assistant_version FROM greenroom.runs") == [(1,)]
    await theatre.nothing_is_left()


# --- the end -------------------------------------------------------------------------------------


async def test_runs_in_every_state_are_stopped_and_others_go_on(strict: Theatre) -> None:
    mine, other = await an_assistant(strict), await an_assistant(strict)
    running = await strict.create(**mine)
    await strict.executed(running.run_id)
    queued = await strict.create(**mine)
    delayed = await strict.create("late", after_s=60.0, **mine)
    spared = await strict.create("other", **other)
    after = await strict.create(**other)
    assert await delete(strict, mine)
    # Durable before it is answered: no registry starts one of them again.
    for run in (running, queued, delayed):
        rows = await strict.rows(
            "SELECT stop, status FROM greenroom.runs WHERE run_id = %s", run.run_id
        )
        assert rows[0][0] == "interrupt" or rows[0][1] == "interrupted"
    for run in (running, queued, delayed):
        assert await strict.over(run.run_id) == "interrupted"
    assert await strict.finish(spared.run_id)
    assert await strict.finish(after.run_id)
    assert await strict.thread("late") == "idle"
    assert await unfinished(strict) == 0
    await strict.nothing_is_left()


def gateway(theatre: Theatre) -> RayRuntime:
    return RayRuntime(
        cast(Handles, FakeHandles(theatre.cluster)),
        theatre.pool,
        shards=1,
        read_wait_s=1.0,
        fixed_graphs=frozenset(),
    )


async def test_a_gateway_deletes_an_assistant_once(strict: Theatre) -> None:
    strict.cluster.serve(REGISTRY, strict.registry)
    mine = await an_assistant(strict)
    run = await strict.create(**mine)
    await strict.executed(run.run_id)
    # A call whose answer is lost is made again.
    strict.cluster.lose("delete_assistant", executed=True)
    runtime = gateway(strict)
    await bounded(runtime.delete_assistant(mine["assistant_id"], threads=SERVER, scope=SERVER))
    assert await strict.status(run.run_id) is None
    with pytest.raises(NotFound, match=f"Assistant with ID {mine['assistant_id']} not found"):
        await runtime.delete_assistant(mine["assistant_id"], threads=None, scope=SERVER)
    await strict.nothing_is_left()


async def test_a_deletion_is_acknowledged_once_it_is_durable(
    strict: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry does not come back for a while."""
    monkeypatch.setattr(routing, "REGISTRY_PATIENCE_S", 0.05)
    mine = await an_assistant(strict)
    run = await strict.create(**mine)
    await strict.executed(run.run_id)
    await strict.kill(strict.registry)
    await bounded(
        gateway(strict).delete_assistant(mine["assistant_id"], threads=None, scope=SERVER)
    )
    await strict.open()
    assert await strict.over(run.run_id) == "interrupted"
    await strict.nothing_is_left()


async def test_a_create_that_is_being_stored_is_stopped_too(strict: Theatre) -> None:
    """The admission has read the assistant; its commit comes after the deletion's."""
    mine = await an_assistant(strict)
    asked: RunRequest = request(**mine)
    creating = asyncio.create_task(strict.ask(asked))
    await until(lambda: asked.run_id in strict.registry.context.runs)
    name = await marked(strict, mine)
    await bounded(strict.registry.delete_assistant(name, BOUND_S))
    created = await bounded(creating)
    if isinstance(created, CreatedRun):
        assert await strict.over(asked.run_id) == "interrupted"
    else:
        assert isinstance(created, AssistantChanged)
        assert await strict.status(asked.run_id) is None
    await strict.nothing_is_left()


async def test_a_create_with_an_older_state_is_refused_and_leaves_nothing(
    theatre: Theatre,
) -> None:
    mine = await an_assistant(theatre)
    first = await theatre.create(**mine)
    await theatre.executed(first.run_id)
    await theatre.rows(
        "UPDATE greenroom.assistants SET name = 'm' WHERE assistant_id = %s RETURNING 1",
        mine["assistant_id"],
    )
    for thread_id, strategy in [("t", "interrupt"), ("t", "enqueue"), ("new", "enqueue")]:
        refused = await theatre.ask(request(thread_id, strategy, **mine))  # type: ignore[arg-type]
        assert isinstance(refused, AssistantChanged)
    # It displaced nobody, and made no thread.
    assert await theatre.finish(first.run_id)
    assert await theatre.status(first.run_id) == "success"
    assert await theatre.thread("new") is None
    await theatre.nothing_is_left()


async def test_a_registry_that_starts_stops_what_it_finds(strict: Theatre) -> None:
    """The gateway died after the commit; so did the registry."""
    mine = await an_assistant(strict)
    running = await strict.create(**mine)
    actor = await strict.executed(running.run_id)
    queued = await strict.create(**mine)
    await strict.kill(strict.registry)
    await marked(strict, mine)
    await strict.open()
    for run in (running, queued):
        assert await strict.over(run.run_id) == "interrupted"
    assert [run_id for run_id, *_ in actor.cancelled] == [running.run_id]
    assert not [a for a in strict.cluster.ever if any(o.run_id == queued.run_id for o in a.orders)]
    await strict.nothing_is_left()


async def test_a_sweep_finds_what_no_gateway_has_told(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    theatre = await make(cancel_grace_s=0.02, sweep_interval_s=0.01)
    mine = await an_assistant(theatre)
    run = await theatre.create(**mine)
    await theatre.executed(run.run_id)
    await marked(theatre, mine, delete_threads=True)
    async with asyncio.timeout(BOUND_S):
        while await theatre.thread() is not None:  # noqa: ASYNC110 - another task deletes it
            await asyncio.sleep(0.01)
    assert await theatre.status(run.run_id) is None
    await theatre.nothing_is_left()


async def test_threads_go_if_that_was_asked_for(strict: Theatre) -> None:
    mine, other = await an_assistant(strict), await an_assistant(strict)
    runs = {}
    for thread_id, facts in [("a", mine), ("b", mine), ("b", other), ("c", other)]:
        runs[thread_id] = await strict.create(thread_id, **facts)
        await strict.finish(runs[thread_id].run_id)
    busy = await strict.create("d", **mine)
    await strict.executed(busy.run_id)
    assert await delete(strict, mine, delete_threads=True)
    assert [await strict.thread(each) for each in "abcd"] == [None, "idle", "idle", None]
    assert await strict.status(busy.run_id) is None
    assert await strict.status(runs["b"].run_id) == "success"
    assert await unfinished(strict) == 0
    await strict.nothing_is_left()


async def test_a_client_waits_for_threads_with_a_bound_and_they_go_nevertheless(
    theatre: Theatre,
) -> None:
    mine = await an_assistant(theatre)
    run = await theatre.create(**mine)
    await theatre.executed(run.run_id)
    name = await marked(theatre, mine, delete_threads=True)
    # Its run does not listen, and nobody kills it yet.
    assert not await bounded(theatre.registry.delete_assistant(name, 0.01))
    asked_again = asyncio.create_task(theatre.registry.delete_assistant(name, BOUND_S))
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    assert await bounded(asked_again)
    assert await theatre.thread() is None
    await theatre.nothing_is_left()


async def test_a_thread_that_cannot_be_deleted_is_left_for_the_next_sweep(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await an_assistant(theatre)
    await theatre.finish((await theatre.create(**mine)).run_id)
    operations = theatre.registry.parts.operations

    async def fails(thread_id: str) -> None:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(operations, "delete", fails)
        assert not await delete(theatre, mine, delete_threads=True)
    assert await unfinished(theatre) == 1
    deletions = theatre.registry.parts.assistant_deletions
    await deletions.sweep()
    await until(lambda: not deletions.under_way)
    assert await theatre.thread() is None
    assert await unfinished(theatre) == 0
    await theatre.nothing_is_left()


async def test_more_threads_than_one_batch(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying_out, "BATCH", 2)
    mine = await an_assistant(theatre)
    for number in range(5):
        await theatre.finish((await theatre.create(f"t{number}", **mine)).run_id)
    assert await delete(theatre, mine, delete_threads=True)
    assert await theatre.rows("SELECT 1 FROM greenroom.threads") == []
    await theatre.nothing_is_left()


async def test_an_assistant_that_was_made_again_keeps_its_runs_and_threads(
    theatre: Theatre,
) -> None:
    """A deletion that is carried out late is about the earlier one."""
    mine = await an_assistant(theatre)
    await theatre.finish((await theatre.create("a", **mine)).run_id)
    name = await marked(theatre, mine, delete_threads=True)
    again = await an_assistant(theatre, mine["assistant_id"])
    run = await theatre.create("b", **again)
    await theatre.executed(run.run_id)
    assert await bounded(theatre.registry.delete_assistant(name, BOUND_S))
    assert await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    assert await theatre.thread("a") is None
    await theatre.nothing_is_left()


async def test_each_registry_sees_to_its_own_threads(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    shards = [Shard(number, 2) for number in range(2)]
    theatre = await make(cancel_grace_s=0.02, shard=shards[0])
    mine = await an_assistant(theatre)
    own = next(f"t{n}" for n in range(99) if shards[0].has(f"t{n}"))
    others = next(f"t{n}" for n in range(99) if shards[1].has(f"t{n}"))
    await PostgresRecords(theatre.pool).create_thread(
        others,
        metadata={"assistant_id": mine["assistant_id"]},
        if_exists="raise",
        ttl=None,
        scope=SERVER,
    )
    await theatre.finish((await theatre.create(own, **mine)).run_id)
    assert await delete(theatre, mine, delete_threads=True)
    assert [await theatre.thread(each) for each in (own, others)] == [None, "idle"]
    assert await unfinished(theatre) == 1
    await theatre.nothing_is_left()
