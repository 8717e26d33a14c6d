"""What the registry says and does when PostgreSQL is there and cannot, or will not end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from actors.registry import admitting
from greenroom.core.errors import Unavailable
from greenroom.core.runs import CreatedRun
from greenroom.persistence.journal import group_commit
from tests.actors.doubles import until
from tests.actors.test_registry import Theatre, make, request, theatre  # noqa: F401 - fixtures

# ruff: noqa: F811 - fixtures are named as arguments

FULL = "could not extend file: No space left on device"


async def _run(dsn: str, sql: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(sql)  # type: ignore[arg-type]


async def refuse(theatre: Theatre, table: str, event: str, sqlstate: str = "53100") -> None:
    """From now on PostgreSQL answers a change of the table as it does when its disk is full."""
    await _run(
        theatre.setup.dsn,
        f"""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION '{FULL}' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE {event} ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION public.refuse()""",
    )


async def refuse_no_more(theatre: Theatre) -> None:
    await _run(theatre.setup.dsn, "DROP FUNCTION public.refuse() CASCADE")


async def test_a_create_on_a_full_disk_is_refused_in_a_sentence_and_leaves_nothing(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "SHORTAGE_PATIENCE_S", 0.05)
    running = await theatre.create()
    await theatre.executed(running.run_id)
    await refuse(theatre, "greenroom.runs", "INSERT")
    for asked in (request(), request("u"), request("v", after_s=60)):
        answer = await theatre.ask(asked)
        assert isinstance(answer, Unavailable)
        assert FULL in answer.message
    await refuse_no_more(theatre)
    # Nobody stands in the way of those who come when there is space again.
    again = await theatre.create("u")
    await theatre.finish(again.run_id)
    await theatre.finish(running.run_id)
    assert len(await theatre.rows("SELECT 1 FROM greenroom.runs")) == 2
    await theatre.nothing_is_left()


async def test_the_end_of_a_run_waits_for_a_full_disk(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await refuse(theatre, "greenroom.threads", "UPDATE")
    ending = asyncio.create_task(theatre.finish(run.run_id))
    await until(lambda: run.run_id not in actor.current)
    other = asyncio.create_task(theatre.registry.follow(run.run_id, 9, 0.3))
    assert await other is None, "not over before that is durable"
    assert not ending.done()
    await refuse_no_more(theatre)
    assert await ending
    assert await theatre.status(run.run_id) == "success"
    await theatre.nothing_is_left()


async def test_a_create_that_may_have_been_stored_and_was_given_up_is_taken_back(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost after the commit, and then there is none for longer than a create
    waits: its client was told that nothing is stored."""
    monkeypatch.setattr(admitting, "ADMISSION_PATIENCE_S", 0.05)
    pen = theatre.registry.context.journal
    transaction, lost = pen.transaction, 0

    async def lossy(groups: list[group_commit.Group]) -> list[list[list[group_commit.Row]]]:
        nonlocal lost
        lost += 1
        if lost == 1:
            await transaction(groups)
        if lost <= 3:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return await transaction(groups)

    monkeypatch.setattr(pen, "transaction", lossy)
    asked = request()
    answer = await theatre.ask(asked)
    assert isinstance(answer, Unavailable)
    async with asyncio.timeout(30):
        while await theatre.status(asked.run_id) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await theatre.nothing_is_left()
    assert [order for actor in theatre.cluster.ever for order in actor.orders] == []
    again = await theatre.create()
    await theatre.finish(again.run_id)


async def test_a_rollback_that_the_database_refuses_ends_its_run_and_frees_the_thread(
    theatre: Theatre,
) -> None:
    await refuse(theatre, "checkpoint_writes", "DELETE", sqlstate="P0001")
    refused, other = await theatre.create(), await theatre.create("u")
    await theatre.executed(refused.run_id)
    await theatre.cancel(refused.run_id, "rollback")
    await theatre.finish(refused.run_id)
    assert await theatre.over(refused.run_id) == "error"
    ((error,),) = await theatre.rows(
        "SELECT error::text FROM greenroom.runs WHERE run_id = %s", refused.run_id
    )
    assert json.loads(error) == {"error": "RollbackFailed", "message": FULL}
    await theatre.finish(other.run_id)
    again = await theatre.create()
    assert isinstance(again, CreatedRun)
    await theatre.finish(again.run_id)
    await refuse_no_more(theatre)
    await theatre.nothing_is_left()


async def test_a_rollback_leaves_the_thread_to_the_graph_that_ran_before(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    theatre = await make(("g", "other"))
    first = await theatre.create(graph_id="g")
    await theatre.finish(first.run_id)
    second = await theatre.create(graph_id="other")
    await theatre.executed(second.run_id)
    await theatre.cancel(second.run_id, "rollback")
    await theatre.finish(second.run_id)
    await until(lambda: not theatre.registry.context.runs)
    assert [graph for actor in theatre.cluster.ever for graph in actor.settled_by] == ["g"]
    await theatre.nothing_is_left()
