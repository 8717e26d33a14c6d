"""Pools that outlive a restart of PostgreSQL, and errors that say what to do."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from langgraph.store.postgres.aio import AsyncPostgresStore
from psycopg_pool import AsyncConnectionPool

from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.core.scopes import SERVER
from greenroom.core.searches import (
    ThreadFilter,
)
from greenroom.persistence import database
from greenroom.persistence.database import (
    Connection,
    Pool,
    check,
    open_pool,
    patiently,
    retrying,
)
from greenroom.persistence.embedded import start_embedded, watchdog
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import PostgresRecords

BOUND_S = 20.0


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Path]:
    """A server that the test may stop."""
    yield tmp_path
    if (tmp_path / "data").exists():
        watchdog.stop_postmaster(tmp_path / "data")


async def one(conn: Connection) -> Any:
    return await (await conn.execute("SELECT 1 AS n")).fetchone()


# --- pools --------------------------------------------------------------------------------------


async def test_json_passes_through_and_jsonb_is_parsed(pool: Pool) -> None:
    async def select(conn: Connection) -> Any:
        cursor = await conn.execute(
            """SELECT '{"b":  1}'::json AS j, '{"b":  1, "big": 1208925819614629174706176}'::jsonb
               AS b, current_setting('TimeZone') AS tz, current_setting('transaction_timeout') AS t,
               current_setting('application_name') AS me"""
        )
        return await cursor.fetchone()

    row = await retrying(pool, select)
    assert orjson.dumps(row["j"]) == b'{"b":  1}'
    assert row["b"] == {"b": 1, "big": 2**80}
    assert (row["tz"], row["t"], row["me"]) == ("UTC", "30s", "greenroom:test")


async def test_a_pool_outlives_a_restart_of_the_server(own_server: Path) -> None:
    """Every connection of the pool is dead; asking again finds the new server at once."""
    server = start_embedded(own_server, linger_s=0)
    pool = await open_pool(server.dsn, application_name="greenroom:x", min_size=4, max_size=4)
    await asyncio.gather(*(retrying(pool, one) for _ in range(8)))
    os.kill(watchdog.postmaster_pid(own_server / "data") or 0, signal.SIGQUIT)
    server.stop()
    server = start_embedded(own_server, linger_s=0)
    async with asyncio.timeout(BOUND_S):
        answers = await asyncio.gather(*(retrying(pool, one) for _ in range(20)))
    assert answers == [{"n": 1}] * 20
    await pool.close()
    server.stop()


async def test_work_waits_while_the_server_is_away_and_goes_on(own_server: Path) -> None:
    """A read, a checkpoint and a plain connection are asked for while the server is stopped."""
    server = start_embedded(own_server, linger_s=0)
    await migrate(server.dsn)
    pool = await open_pool(server.dsn, application_name="greenroom:x")
    run_id = str(uuid.uuid4())
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " attempt, kwargs, multitask_strategy)"
            " VALUES (%s, 't', %s, 'g', 'running', 1, '{}', 'reject')",
            (run_id, uuid.uuid4()),
        )
    saver = FencedSaver(pool, run_id=run_id, attempt=1)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c"}}
    await asyncio.to_thread(server.stop)
    waiting = asyncio.gather(
        PostgresRecords(pool).count_threads(ThreadFilter(), scope=SERVER),
        saver.aput_writes(config, [("x", 1)], "task"),
        retrying(pool, one),
    )
    # All three are refused by the server that is away before it comes back.
    await asyncio.sleep(0)
    server = await asyncio.to_thread(start_embedded, own_server, linger_s=0)
    assert await asyncio.wait_for(waiting, BOUND_S) == [0, None, {"n": 1}]
    await pool.close()
    server.stop()


async def test_a_server_that_stays_away_is_said_in_a_sentence(own_server: Path) -> None:
    server = start_embedded(own_server, linger_s=0)
    pool = await open_pool(server.dsn, application_name="greenroom:x", timeout_s=0.3)
    await asyncio.to_thread(server.stop)
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL does not answer"):
        await retrying(pool, one)
    with pytest.raises(DatabaseUnavailable):
        await PostgresRecords(pool).ready()
    await pool.close()


async def test_work_is_done_again_when_its_connection_is_ended_under_it(pool: Pool) -> None:
    tries = 0

    async def work(conn: Connection) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            async with pool.connection() as other:
                await other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        return await one(conn)

    assert await retrying(pool, work) == {"n": 1}
    assert tries == 2


async def test_a_wrong_statement_is_not_done_again(pool: Pool) -> None:
    tries = 0

    async def work(conn: Connection) -> None:
        nonlocal tries
        tries += 1
        await conn.execute("SELECT nonsense")

    with pytest.raises(psycopg.errors.UndefinedColumn):
        await retrying(pool, work)
    assert tries == 1


# --- check --------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_gives_its_connection_back(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is cancelled while it waits for the pool's lock, with its work done."""
    pool = await open_pool(dsn, application_name="greenroom:x", max_size=1, timeout_s=3)
    locked, entered = asyncio.Event(), asyncio.Event()
    takes_back = AsyncConnectionPool.putconn

    async def waits(pool: Pool, conn: Connection) -> None:
        entered.set()
        await locked.wait()
        await takes_back(pool, conn)

    async def ask() -> None:
        async with pool.connection() as conn:
            await conn.execute("SELECT 1")

    with monkeypatch.context() as patch:
        patch.setattr(AsyncConnectionPool, "putconn", waits)
        caller = asyncio.create_task(ask())
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        locked.set()
    await ask()
    await pool.close()


async def test_check_tells_the_version(dsn: str) -> None:
    assert await check(dsn) >= 180000


@pytest.mark.parametrize(
    ("dsn", "error", "said"),
    [
        ("postgresql://u:secret@127.0.0.1:1/x", DatabaseUnavailable, "127.0.0.1:1 cannot be"),
        ("host=/nowhere password=secret", DatabaseUnavailable, "/nowhere:5432 cannot be reached"),
        ("postgres:secret", ConfigurationError, "cannot be parsed"),
        ("postgresql://u:secret@h:port/x", ConfigurationError, "cannot be parsed"),
        ("user=u password=secret prot=1", ConfigurationError, "cannot be parsed"),
    ],
)
async def test_check_says_where_and_why_but_never_the_password(
    dsn: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        await check(dsn)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_check_tells_that_a_database_does_not_exist(dsn: str) -> None:
    name = dsn.partition("@/")[2].partition("?")[0]
    with pytest.raises(ConfigurationError, match='database "nope" does not exist'):
        await check(dsn.replace(name, "nope"))


async def test_check_refuses_a_server_that_is_too_old(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLDEST_SERVER", 990000)
    with pytest.raises(ConfigurationError, match="is version 18: Greenroom needs 99"):
        await check(dsn)


async def test_langgraphs_store_works_over_the_pool(pool: Pool) -> None:
    store = AsyncPostgresStore(pool)  # pyright: ignore[reportArgumentType]
    await store.setup()
    await store.aput(("users", "1"), "k", {"big": 2**70, "text": "ü"})
    item = await store.aget(("users", "1"), "k")
    assert item is not None
    assert item.value == {"big": 2**70, "text": "ü"}
    found = await store.asearch(("users",), filter={"text": "ü"})
    assert [entry.key for entry in found] == ["k"]


async def test_a_closed_pool_is_not_asked_again(dsn: str) -> None:
    pool = await open_pool(dsn, application_name="greenroom:closed", timeout_s=3600)
    await pool.close()
    asked = 0

    async def work() -> None:
        nonlocal asked
        asked += 1
        async with pool.connection():
            pass

    with pytest.raises(DatabaseUnavailable):
        await patiently(3600, work)
    assert asked == 1


async def test_work_that_fails_at_once_leaves_others_their_turn() -> None:
    others = 0

    async def fails() -> None:
        raise psycopg.OperationalError("gone")

    async def goes_on() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0.001)
            others += 1

    beside = asyncio.create_task(goes_on())
    with pytest.raises(DatabaseUnavailable):
        await patiently(0.3, fails)
    beside.cancel()
    assert others > 5
