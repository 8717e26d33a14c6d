"""Keys of requests in the database: reserved once, freed unless they made something, swept."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import psycopg
import pytest

from greenroom.core.assistants import NewAssistant
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.idempotency import OnceKey
from greenroom.core.scopes import SERVER
from greenroom.http.parameters import new_id
from greenroom.persistence.database import Pool
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.upkeep import delete_old_keys
from tests.persistence.test_checkpoints import until_blocked

NEW: dict[str, Any] = {"metadata": {}, "ttl": None}


@pytest.fixture
def records(pool: Pool) -> PostgresRecords:
    return PostgresRecords(pool)


def once(key: str = "k") -> OnceKey:
    return OnceKey(key=key, seed=new_id())


async def test_a_key_is_reserved_once(records: PostgresRecords) -> None:
    held = await asyncio.gather(*(records.reserve(once(), bytes([n])) for n in range(20)))
    assert len({(each.once.seed, each.digest) for each in held}) == 1
    other = await records.reserve(once("other"), b"d")
    assert other.once.seed != held[0].once.seed


async def test_a_key_is_freed_only_by_its_reservation_and_before_it_made_something(
    records: PostgresRecords,
) -> None:
    held = (await records.reserve(once(), b"d")).once
    assert not await records.release(once())
    assert await records.release(held)
    assert not await records.release(held)
    held = (await records.reserve(once(), b"d")).once
    assert await records.note_made(held, "t1")
    assert await records.note_made(held, "t1")
    assert not await records.note_made(once(), "t2")
    assert not await records.release(held)
    assert (await records.reserve(once(), b"e")).made == {"t1"}


async def test_a_thread_is_made_once(records: PostgresRecords) -> None:
    held = (await records.reserve(once(), b"d")).once
    thread_id = held.new_id()
    made = await asyncio.gather(
        *(
            records.create_thread(thread_id, if_exists="raise", once=held, **NEW, scope=SERVER)
            for _ in range(10)
        )
    )
    assert [each["created_at"] for each in made] == [made[0]["created_at"]] * 10
    assert (await records.reserve(once(), b"d")).made == {thread_id}


async def test_a_thread_of_somebody_else_is_not_made_by_a_key(records: PostgresRecords) -> None:
    thread_id = new_id()
    await records.create_thread(thread_id, if_exists="raise", **NEW, scope=SERVER)
    held = (await records.reserve(once(), b"d")).once
    with pytest.raises(Conflict):
        await records.create_thread(thread_id, if_exists="raise", once=held, **NEW, scope=SERVER)
    assert await records.create_thread(
        thread_id, if_exists="do_nothing", once=held, **NEW, scope=SERVER
    )
    assert await records.release(held)


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_nothing_is_made_with_a_key_that_was_freed_or_has_made_it(
    records: PostgresRecords, pool: Pool, if_exists: Any
) -> None:
    freed = (await records.reserve(once(), b"d")).once
    await records.release(freed)
    with pytest.raises(NotFound):
        await records.create_thread(
            freed.new_id(), if_exists=if_exists, once=freed, **NEW, scope=SERVER
        )
    held = (await records.reserve(once(), b"d")).once
    await records.create_thread(held.new_id(), if_exists=if_exists, once=held, **NEW, scope=SERVER)
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM greenroom.threads")
    with pytest.raises(NotFound):
        await records.create_thread(
            held.new_id(), if_exists=if_exists, once=held, **NEW, scope=SERVER
        )
    assert await records.get_thread(held.new_id(), scope=SERVER) is None


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_an_assistant_is_made_once(
    records: PostgresRecords, pool: Pool, if_exists: Any
) -> None:
    held = (await records.reserve(once(), b"d")).once
    given: dict[str, Any] = {"config": {}, "context": {}, "metadata": {}}
    new = NewAssistant(
        assistant_id=held.new_id(), graph_id="g", name="n", description=None, **given
    )
    first, *others = [
        await records.create_assistant(new, if_exists=if_exists, once=held, scope=SERVER)
        for _ in range(3)
    ]
    assert others == [first] * 2
    async with pool.connection() as connection:
        await connection.execute("DELETE FROM greenroom.assistants")
    with pytest.raises(NotFound):
        await records.create_assistant(new, if_exists=if_exists, once=held, scope=SERVER)
    theirs = (await records.reserve(once("other"), b"d")).once
    await records.create_assistant(new, if_exists=if_exists, scope=SERVER)
    if if_exists == "raise":
        with pytest.raises(Conflict):
            await records.create_assistant(new, if_exists=if_exists, once=theirs, scope=SERVER)


async def test_a_release_waits_for_what_is_being_made(
    records: PostgresRecords, pool: Pool, dsn: str
) -> None:
    """A refused request frees the key while another one's object is not committed yet."""
    held = (await records.reserve(once(), b"d")).once
    async with await psycopg.AsyncConnection.connect(dsn) as making:
        await making.execute(
            "SELECT 1 FROM greenroom.idempotency WHERE key = 'k' FOR KEY SHARE",
        )
        await making.execute("INSERT INTO greenroom.idempotency_made VALUES ('k', 'it')")
        releasing = asyncio.create_task(records.release(held))
        await until_blocked(pool)
        await making.commit()
    assert not await releasing
    assert (await records.reserve(once(), b"d")).made == {"it"}


async def test_keys_are_swept_when_they_are_old(records: PostgresRecords, pool: Pool) -> None:
    for number in range(3):
        held = (await records.reserve(once(f"k{number}"), b"d")).once
        await records.note_made(held, str(uuid.uuid4()))
    assert await delete_old_keys(pool, 3600) == 0
    assert await delete_old_keys(pool, 0, max_rows=2) == 2
    assert await delete_old_keys(pool, 0, max_rows=2) == 1
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT count(*) AS n FROM greenroom.idempotency_made")
        assert await cursor.fetchone() == {"n": 0}
