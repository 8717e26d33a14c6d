"""The schema changes while somebody uses it: the scripts, their order, their locks."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.persistence import journal, migrations
from greenroom.persistence.database import open_pool
from greenroom.persistence.journal import Journal, Write
from greenroom.persistence.migrations import FILES, LOCK, finish, is_alone, is_finished, migrate
from tests.waiting import BOUND_S

FROZEN = {
    1: "a3f75203",
    2: "88d5217a",
    3: "0ec0fc11",
    4: "a34de853",
    5: "8365f859",
    6: "37ea8a2b",
    7: "78fd22f0",
    8: "25d95d19",
    9: "a226c25f",
    10: "39d513c6",
    11: "096ccc0e",
    12: "12e33843",
}


def script(files: Path, name: str, sql: str, step: str = "before") -> Path:
    path = files / step / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(sql)
    return path


async def applied(dsn: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        cursor = await conn.execute("SELECT name FROM greenroom.migrations ORDER BY number")
        return [row[0] for row in await cursor.fetchall()]


async def execute(dsn: str, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        cursor = await conn.execute(sql, params)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description is not None else []


async def test_many_that_migrate_at_once_do_not_meet(empty_dsn: str) -> None:
    async with asyncio.timeout(BOUND_S):
        await asyncio.gather(*(migrate(empty_dsn) for _ in range(6)))
    async with await psycopg.AsyncConnection.connect(empty_dsn) as conn:
        cursor = await conn.execute("SELECT name FROM greenroom.migrations ORDER BY number")
        names = [row[0] for row in await cursor.fetchall()]
        cursor = await conn.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        assert await cursor.fetchone() == (0,)
    assert names == sorted(path.name for path in FILES.glob("before/*.sql"))


async def test_a_transaction_elsewhere_does_not_hold_up_the_set_up(empty_dsn: str) -> None:
    """CREATE INDEX CONCURRENTLY, as LangGraph has it, would wait for this reader for ever."""
    async with await psycopg.AsyncConnection.connect(empty_dsn) as reader:
        await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await reader.execute("SELECT 1")
        await asyncio.wait_for(migrate(empty_dsn), BOUND_S)


async def test_a_failed_migration_leaves_nothing(empty_dsn: str, tmp_path: Path) -> None:
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int); SELECT nonsense;")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        await migrate(empty_dsn, files=tmp_path)
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int);")
    await migrate(empty_dsn, files=tmp_path)


async def test_a_changed_migration_and_a_newer_database_are_refused(
    empty_dsn: str, tmp_path: Path
) -> None:
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int);")
    second = script(tmp_path, "0002_b.sql", "CREATE TABLE greenroom.b (x int);")
    await migrate(empty_dsn, files=tmp_path)
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x bigint);")
    with pytest.raises(ConfigurationError, match=r"0001_a\.sql has changed"):
        await migrate(empty_dsn, files=tmp_path)
    second.unlink()
    with pytest.raises(ConfigurationError, match=r"newer version .* 0002_b\.sql"):
        await migrate(empty_dsn, files=tmp_path)


@pytest.mark.parametrize("table", ["checkpoint_migrations", "store_migrations"])
async def test_tables_of_a_newer_langgraph_are_refused(empty_dsn: str, table: str) -> None:
    await migrate(empty_dsn)
    await execute(empty_dsn, f"INSERT INTO {table} SELECT max(v) + 1 FROM {table}")
    with pytest.raises(
        ConfigurationError, match=rf"newer version of it \(migration \d+ in {table}"
    ):
        await migrate(empty_dsn)
    await execute(empty_dsn, f"DELETE FROM {table} WHERE v = (SELECT max(v) FROM {table})")
    await migrate(empty_dsn)


async def test_another_that_migrates_for_too_long_is_said(empty_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        with pytest.raises(DatabaseUnavailable, match="Another process has been migrating"):
            await migrate(empty_dsn, patience_s=0)


def test_the_files_that_were_applied_to_databases_of_before_are_the_same() -> None:
    """Their checksums stand in those databases; where they lie does not."""
    found = {each.number: each.checksum[:8] for each in migrations._scripts(FILES)}
    assert {number: found[number] for number in range(1, 13)} == FROZEN


# --- while it serves -----------------------------------------------------------------------------


async def test_after_waits_for_its_turn(empty_dsn: str, tmp_path: Path) -> None:
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int, y int);")
    script(tmp_path, "0002_b.sql", "ALTER TABLE greenroom.a DROP COLUMN y;", "after")
    script(tmp_path, "0003_c.sql", "ALTER TABLE greenroom.a ADD COLUMN z int;")
    await migrate(empty_dsn, files=tmp_path)
    assert await applied(empty_dsn) == ["0001_a.sql", "0003_c.sql"]
    pool = await open_pool(empty_dsn, application_name="greenroom:test")
    try:
        assert not await is_finished(pool, files=tmp_path)
        for _ in range(2):
            await finish(empty_dsn, files=tmp_path)
            assert await is_finished(pool, files=tmp_path)
            assert await applied(empty_dsn) == ["0001_a.sql", "0002_b.sql", "0003_c.sql"]
            await migrate(empty_dsn, files=tmp_path)
    finally:
        await pool.close()


async def test_our_own_migrations_are_finished_on_a_fresh_database(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    await finish(empty_dsn)
    assert await applied(empty_dsn) == sorted(path.name for path in FILES.glob("*/*.sql"))


async def test_who_is_left_of_an_older_server_is_seen(dsn: str) -> None:
    mine = await open_pool(dsn, application_name="greenroom:registry")
    async with mine.connection() as conn:
        generation = await journal.next_generation(conn)
    younger = await open_pool(dsn, application_name="greenroom:gateway")
    try:
        assert await is_alone(mine, generation)
        async with mine.connection() as conn:
            generation = await journal.next_generation(conn)
        assert not await is_alone(mine, generation)
    finally:
        await younger.close()
    async with asyncio.timeout(BOUND_S):  # a process of PostgreSQL ends after its connection
        while not await is_alone(mine, generation):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    await mine.close()


async def test_a_script_does_not_queue_for_a_lock_with_everybody_behind_it(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.2)
    monkeypatch.setattr(migrations, "LOCK_PAUSE_S", 0.2)
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int);")
    await migrate(empty_dsn, files=tmp_path)
    script(tmp_path, "0002_b.sql", "ALTER TABLE greenroom.a ADD COLUMN y int;")
    async with await psycopg.AsyncConnection.connect(empty_dsn) as reader:
        await reader.execute("SELECT * FROM greenroom.a")
        migrating = asyncio.create_task(migrate(empty_dsn, files=tmp_path))
        for _ in range(20):
            # Behind the script it would wait for ever: the reader stays.
            insert = execute(empty_dsn, "INSERT INTO greenroom.a (x) VALUES (1)")
            await asyncio.wait_for(insert, BOUND_S)
            await asyncio.sleep(0.04)
        assert not migrating.done()
    await asyncio.wait_for(migrating, BOUND_S)
    assert await execute(empty_dsn, "SELECT y FROM greenroom.a LIMIT 1") == [(None,)]


async def test_a_lock_that_is_held_for_too_long_is_said(empty_dsn: str, tmp_path: Path) -> None:
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a (x int);")
    await migrate(empty_dsn, files=tmp_path)
    script(tmp_path, "0002_b.sql", "ALTER TABLE greenroom.a ADD COLUMN y int;")
    async with await psycopg.AsyncConnection.connect(empty_dsn) as reader:
        await reader.execute("SELECT * FROM greenroom.a")
        with pytest.raises(DatabaseUnavailable, match=r"0002_b\.sql waits for a lock"):
            await migrate(empty_dsn, files=tmp_path, patience_s=0)


async def test_an_index_that_was_interrupted_is_made_anew(empty_dsn: str, tmp_path: Path) -> None:
    script(tmp_path, "0001_a.sql", "CREATE TABLE greenroom.a AS SELECT 1 AS x UNION ALL SELECT 1;")
    await migrate(empty_dsn, files=tmp_path)
    unique = "CREATE UNIQUE INDEX CONCURRENTLY one ON greenroom.a (x);"
    script(tmp_path, "0002_b.sql", f"-- A comment; with a semicolon.\n{unique}\n")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await migrate(empty_dsn, files=tmp_path)
    assert await execute(empty_dsn, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == [(1,)]
    await execute(empty_dsn, "DELETE FROM greenroom.a")
    await migrate(empty_dsn, files=tmp_path)
    assert await execute(empty_dsn, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []
    assert (await applied(empty_dsn))[-1] == "0002_b.sql"
    # It was made, and not noted.
    await execute(empty_dsn, "DELETE FROM greenroom.migrations WHERE number = 2")
    await migrate(empty_dsn, files=tmp_path)
    assert (await applied(empty_dsn))[-1] == "0002_b.sql"


async def test_what_is_made_concurrently_stands_alone(empty_dsn: str, tmp_path: Path) -> None:
    text = "CREATE TABLE greenroom.a (x int); CREATE INDEX CONCURRENTLY i ON greenroom.a (x);"
    script(tmp_path, "0001_a.sql", text)
    with pytest.raises(ValueError, match="a script of its own"):
        await migrate(empty_dsn, files=tmp_path)


def older_files(to: Path) -> Path:
    """The schema of the version before the two steps."""
    for path in FILES.glob("before/*.sql"):
        if int(path.name[:4]) <= 12:
            script(to, path.name, path.read_text())
    return to


OLDER_ADMIT = """
WITH thread AS (
    INSERT INTO greenroom.threads (thread_id, status) VALUES ('new-' || %(run)s::text, 'busy')
    RETURNING thread_id)
INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, kwargs,
    multitask_strategy)
SELECT %(run)s::text::uuid, thread_id, gen_random_uuid(), 'g', 'pending', '{}', 'enqueue'
FROM thread"""
"""What a registry of that version writes, as far as the schema is concerned."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
async def test_runs_are_created_while_a_large_database_is_migrated(
    empty_dsn: str, tmp_path: Path, rows: int
) -> None:
    await migrate(empty_dsn, files=older_files(tmp_path))
    await execute(
        empty_dsn,
        "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, kwargs,"
        " multitask_strategy, resumable) SELECT gen_random_uuid(), 't' || mod(n, 5000),"
        " gen_random_uuid(), 'g', 'success', '{}', 'enqueue', mod(n, 2) = 0"
        " FROM generate_series(1, %s) n",
        rows,
    )
    pool = await open_pool(empty_dsn, application_name="greenroom:registry")
    try:
        async with pool.connection() as conn:
            epoch = await journal.take_epoch(conn, 1)
        pen = Journal(pool, epoch, lambda: None)
        migrating = asyncio.create_task(migrate(empty_dsn))
        slowest_s, creates = 0.0, 0
        while not migrating.done() or creates < 20:
            begun_s = time.monotonic()
            await pen.commit(Write(OLDER_ADMIT, {"run": str(uuid.uuid4())}))
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
            creates += 1
        await migrating
    finally:
        await pool.close()
    assert slowest_s <= 2.0, f"{creates} creates"
    assert "0016_ended_runs.sql" in await applied(empty_dsn)
    assert await execute(empty_dsn, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []
