"""Crons in PostgreSQL: what is stored, what is due, what goes with a thread or an assistant."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from greenroom.core.crons import Cron, Firing
from greenroom.core.identity import system_assistant_id
from greenroom.core.scopes import SERVER
from greenroom.core.searches import (
    CronFilter,
)
from greenroom.core.sharding import Shard
from greenroom.persistence import journal
from greenroom.persistence.crons import due_crons, next_due
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Write
from greenroom.persistence.records import PostgresRecords, register_assistants
from tests.run_records import cron_of, request_of

NOON = datetime(2027, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ASSISTANT = system_assistant_id("g")
NEWEST: Any = {"limit": 10, "offset": 0, "sort_by": "created_at", "descending": True}


@pytest.fixture
async def records(pool: Pool) -> PostgresRecords:
    await register_assistants(pool, ["g", "h"])
    return PostgresRecords(pool)


def a_cron(**changes: Any) -> Cron:
    return cron_of(**{"payload": b'{"z": 1e100, "a": 1}', "next_run_date": NOON} | changes)


async def committed(pool: Pool, *writes: Write) -> list[list[tuple[Any, ...]]]:
    found: list[list[tuple[Any, ...]]] = []
    async with pool.connection() as connection:
        for write in writes:
            cursor = await connection.execute(write.sql.encode(), write.params)
            rows = await cursor.fetchall() if cursor.description is not None else []
            found.append([tuple(row.values()) for row in rows])
    return found


async def stored(pool: Pool, **changes: Any) -> Cron:
    cron = a_cron(**changes)
    ((row,),) = await committed(pool, journal.store_cron(cron))
    assert str(row[0]) == cron.cron_id
    return cron


async def due_ids(pool: Pool, now: datetime = NOON, **changes: Any) -> list[str]:
    found = await due_crons(pool, now, **({"but": (), "limit": 100} | changes))
    return [cron.cron_id for cron in found]


# --- records -------------------------------------------------------------------------------------


async def test_a_cron_comes_back_as_it_was_stored(pool: Pool, records: PostgresRecords) -> None:
    cron = await stored(pool, end_time=NOON + MINUTE, metadata=b'{"m": 1}', timezone="EST")
    found = await records.get_cron(cron.cron_id, scope=SERVER)
    assert found is not None
    shown, revision = found
    assert revision == 0
    # The bytes and their order: 1e100 would be an integer in jsonb.
    assert orjson.dumps(shown["payload"]) == b'{"z": 1e100, "a": 1}'
    assert shown["created_at"] == shown["updated_at"]
    assert list(shown) == [
        *("cron_id", "assistant_id", "thread_id", "user_id", "end_time", "schedule", "timezone"),
        *("payload", "next_run_date", "metadata", "on_run_completed", "enabled"),
        *("created_at", "updated_at"),
    ]
    assert shown["next_run_date"] == "2027-01-01T12:00:00+00:00"
    assert shown["end_time"] == "2027-01-01T12:01:00+00:00"
    assert (shown["user_id"], shown["metadata"]) == ("", {"m": 1})
    assert await records.get_cron(str(uuid.uuid4()), scope=SERVER) is None
    assert await records.get_cron("nope", scope=SERVER) is None


async def test_a_cron_that_is_stored_twice_is_one(pool: Pool, records: PostgresRecords) -> None:
    cron = await stored(pool)
    ((again,),) = await committed(pool, journal.store_cron(replace(cron, schedule="0 0 * * *")))
    assert str(again[0]) == cron.cron_id
    assert await records.count_crons(CronFilter(), scope=SERVER) == 1
    found = await records.get_cron(cron.cron_id, scope=SERVER)
    assert found is not None
    assert found[0]["schedule"] == "* * * * *"


async def test_a_cron_needs_its_thread_and_its_assistant(
    pool: Pool, records: PostgresRecords
) -> None:
    for changes in ({"thread_id": "gone"}, {"assistant_id": str(uuid.uuid4())}):
        assert await committed(pool, journal.store_cron(a_cron(**changes))) == [[]]
    assert await records.count_crons(CronFilter(), scope=SERVER) == 0


async def test_a_change_of_another_revision_is_refused(
    pool: Pool, records: PostgresRecords
) -> None:
    cron = await stored(pool)
    change = replace(cron, enabled=False, next_run_date=None, revision=0)
    ((row,),) = await committed(pool, journal.change_cron(change))
    assert str(row[0]) == cron.cron_id
    assert await committed(pool, journal.change_cron(change)) == [[]]
    found = await records.get_cron(cron.cron_id, scope=SERVER)
    assert found is not None
    shown, revision = found
    assert (shown["enabled"], revision) == (False, 1)
    assert shown["next_run_date"] == "2027-01-01T12:00:00+00:00"
    assert shown["updated_at"] > shown["created_at"]


async def test_a_search_by_every_field(pool: Pool, records: PostgresRecords) -> None:
    await records.create_thread("t", metadata={}, if_exists="raise", ttl=None, scope=SERVER)
    on_thread = await stored(pool, thread_id="t", metadata=b'{"a": {"b": 1, "c": 2}}')
    off = await stored(pool, enabled=False, assistant_id=system_assistant_id("h"))

    async def found(**where: Any) -> list[str]:
        page = await records.search_crons(CronFilter(**where), **NEWEST, scope=SERVER)
        assert await records.count_crons(CronFilter(**where), scope=SERVER) == len(page.items)
        return [cron["cron_id"] for cron in page.items]

    assert await found() == [off.cron_id, on_thread.cron_id]
    assert await found(thread_id="t") == [on_thread.cron_id]
    assert await found(assistant_id=ASSISTANT) == [on_thread.cron_id]
    assert await found(enabled=False) == [off.cron_id]
    assert await found(metadata={"a": {"b": 1}}) == [on_thread.cron_id]
    page = await records.search_crons(
        CronFilter(), **(NEWEST | {"limit": 1, "offset": 1}), scope=SERVER
    )
    assert ([c["cron_id"] for c in page.items], page.has_more) == ([on_thread.cron_id], False)
    for sort_by in ("cron_id", "assistant_id", "thread_id", "next_run_date", "end_time"):
        page = await records.search_crons(
            CronFilter(), **(NEWEST | {"sort_by": sort_by}), scope=SERVER
        )
        assert len(page.items) == 2


# --- what goes with what -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [500, 0])
async def test_a_cron_goes_with_its_thread(pool: Pool, records: PostgresRecords, rows: int) -> None:
    """Also with a large one, of which only the record goes at once."""
    await records.create_thread("t", metadata={}, if_exists="raise", ttl=None, scope=SERVER)
    await stored(pool, thread_id="t")
    other = await stored(pool)
    async with pool.connection() as connection:
        await connection.execute("SELECT greenroom.delete_thread('t', %s, %s)", (rows, rows))
    assert await due_ids(pool) == [other.cron_id]


async def test_a_cron_goes_with_its_assistant(pool: Pool, records: PostgresRecords) -> None:
    await stored(pool)
    other = await stored(pool, assistant_id=system_assistant_id("h"))
    async with pool.connection() as connection:
        await connection.execute(
            "DELETE FROM greenroom.assistants WHERE assistant_id = %s", (ASSISTANT,)
        )
    assert await due_ids(pool) == [other.cron_id]


# --- what is due ---------------------------------------------------------------------------------


async def test_what_is_due_comes_in_order(pool: Pool, records: PostgresRecords) -> None:
    third = await stored(pool, next_run_date=NOON)
    first = await stored(pool, next_run_date=NOON - 2 * MINUTE)
    second = await stored(pool, next_run_date=NOON - MINUTE)
    await stored(pool, next_run_date=NOON + MINUTE)
    await stored(pool, next_run_date=NOON - MINUTE, enabled=False)
    ended = NOON - 2 * MINUTE
    await stored(pool, next_run_date=NOON - MINUTE, end_time=ended)
    assert await due_ids(pool) == [first.cron_id, second.cron_id, third.cron_id]
    assert await due_ids(pool, limit=1) == [first.cron_id]
    assert await due_ids(pool, but=[first.cron_id]) == [second.cron_id, third.cron_id]
    assert await next_due(pool, but=()) == NOON - 2 * MINUTE
    assert await next_due(pool, but=[first.cron_id, second.cron_id]) == NOON


async def test_the_end_itself_is_still_due(pool: Pool, records: PostgresRecords) -> None:
    cron = await stored(pool, end_time=NOON)
    assert await due_ids(pool) == [cron.cron_id]
    assert await next_due(pool, but=[cron.cron_id]) is None


async def test_a_due_cron_has_its_assistant_as_it_is_now(
    pool: Pool, records: PostgresRecords
) -> None:
    cron = await stored(pool)
    config = {"g": {"tags": ["t"], "configurable": {"model": "m"}}}
    await register_assistants(pool, ["g"], config)
    (found,) = await due_crons(pool, NOON, but=(), limit=1)
    assert (found.due, found.revision) == (NOON, 0)
    assert found.payload == cron.payload.decode()
    known = await records.assistant_of_run(ASSISTANT, scope=SERVER)
    assert known is not None
    assert found.assistant == {
        "assistant_id": ASSISTANT,
        "graph_id": "g",
        "config": config["g"],
        "context": {"model": "m"},
        "metadata": {"created_by": "system"},
        "version": known["version"],
        "revision": known["revision"],
    }


@pytest.mark.parametrize("of", [2, 3, 64])
async def test_each_cron_belongs_to_one_registry(
    pool: Pool, records: PostgresRecords, of: int
) -> None:
    crons = [await stored(pool) for _ in range(10)]
    for number in range(10):
        await records.create_thread(
            f"t{number}", metadata={}, if_exists="raise", ttl=None, scope=SERVER
        )
        crons.append(await stored(pool, thread_id=f"t{number}"))
    for number in range(of):
        shard = Shard(number, of)
        own = sorted(cron.cron_id for cron in crons if shard.has(cron.owner))
        assert sorted(await due_ids(pool, shard=shard)) == own
        assert (await next_due(pool, but=(), shard=shard) is not None) == bool(own)


async def test_a_look_reads_an_index_and_not_all_crons(
    pool: Pool, records: PostgresRecords
) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "INSERT INTO greenroom.crons (cron_id, assistant_id, schedule, enabled, payload,"
            " next_run_date) SELECT gen_random_uuid(), %s, '* * * * *', true, '{}',"
            " %s::timestamptz + make_interval(secs => n) FROM generate_series(1, 5000) AS n",
            (ASSISTANT, NOON),
        )
        await connection.execute("ANALYZE greenroom.crons")
        cursor = await connection.execute(
            "EXPLAIN SELECT next_run_date FROM greenroom.crons WHERE enabled AND"
            " (end_time IS NULL OR next_run_date <= end_time) AND cron_id <> ALL (%s::uuid[])"
            " ORDER BY next_run_date, cron_id LIMIT 1",
            ([],),
        )
        plan = str(await cursor.fetchall())
    assert "crons_by_due" in plan


# --- firings -------------------------------------------------------------------------------------


def firing_of(cron: Cron, **changes: Any) -> Firing:
    given = {"cron_id": cron.cron_id, "due": NOON, "revision": 0, "next_run_date": NOON + MINUTE}
    return Firing(**(given | changes))


async def fired(pool: Pool, firing: Firing, **changes: Any) -> bool:
    """Whether the admission added a run; its date is taken off in the same transaction."""
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": str(uuid.uuid4()),
        "assistant_id": ASSISTANT,
        "graph_id": "g",
        "kwargs": b"{}",
        "metadata": b"{}",
        "multitask_strategy": "enqueue",
        "create_thread": True,
    }
    request = request_of(**(given | changes))
    admit = journal.admit(request, actor=None, firing=firing)
    admitted, advanced = await committed(pool, admit, journal.advance_cron(firing))
    assert len(admitted) == len(advanced)
    return bool(admitted)


@pytest.mark.parametrize("create_thread", [True, False])
async def test_a_date_is_fired_once(
    pool: Pool, records: PostgresRecords, create_thread: bool
) -> None:
    await records.create_thread("t", metadata={}, if_exists="raise", ttl=None, scope=SERVER)
    cron = await stored(pool)
    changes = {"thread_id": "t", "create_thread": create_thread}
    assert await fired(pool, firing_of(cron), **changes)
    assert not await fired(pool, firing_of(cron), **changes)
    assert await next_due(pool, but=()) == NOON + MINUTE
    runs = await records.list_runs("t", limit=None, offset=0, status=None, scope=SERVER)
    assert runs is not None
    assert len(runs) == 1


async def test_a_cron_that_was_changed_or_deleted_meanwhile_does_not_fire(
    pool: Pool, records: PostgresRecords
) -> None:
    cron = await stored(pool)
    await committed(pool, journal.change_cron(replace(cron, next_run_date=None, revision=0)))
    assert not await fired(pool, firing_of(cron))
    assert await fired(pool, firing_of(cron, revision=1))
    await committed(pool, journal.delete_cron(cron.cron_id))
    assert not await fired(pool, firing_of(cron, revision=1, due=NOON + MINUTE))


async def test_a_cron_is_disabled_only_as_it_was_read(pool: Pool, records: PostgresRecords) -> None:
    cron = await stored(pool)
    await committed(pool, journal.disable_cron(cron.cron_id, NOON, 1))
    assert await due_ids(pool) == [cron.cron_id]
    await committed(pool, journal.disable_cron(cron.cron_id, NOON, 0))
    assert await due_ids(pool) == []
