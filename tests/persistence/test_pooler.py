"""Through a pooler in transaction mode, where a session's next transaction has another server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from greenroom.core.errors import Fenced
from greenroom.persistence.database import Pool, open_pool, terminate_backends
from greenroom.persistence.embedded import SERVER_USER, Embedded
from greenroom.persistence.fence import fenced
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.migrations import migrate
from tests.serving import free_port

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(
    not os.access(PGBOUNCER, os.X_OK), reason="There is no PgBouncer here; Debian's is `pgbouncer`."
)


@pytest.fixture(scope="module")
def pooled(postgres: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A DSN that leads through PgBouncer; two servers for however many sessions."""
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute("CREATE DATABASE pooled")
    port = free_port()
    host = conninfo_to_dict(postgres.dsn)["host"]
    folder = tmp_path_factory.mktemp("pgbouncer")
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\npooled = host={host} port=5432 user={SERVER_USER} dbname=pooled\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    # It refuses to run as root, and may read what its user may.
    for path in (config, *list(folder.parents)[:3]):
        path.chmod(path.stat().st_mode | 0o055)
    user = ("-u", SERVER_USER) if os.getuid() == 0 else ()
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen([PGBOUNCER, *user, str(config)], stdout=output, stderr=output)
    dsn = f"postgresql://{SERVER_USER}@127.0.0.1:{port}/pooled"
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(dsn).close()
                break
            assert time.monotonic() < deadline_s, (folder / "log").read_text()
            time.sleep(0.05)
        yield dsn
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        with psycopg.connect(postgres.dsn, autocommit=True) as conn:
            conn.execute("DROP DATABASE pooled WITH (FORCE)")


@pytest.fixture
async def migrated(pooled: str) -> str:
    await migrate(pooled)
    return pooled


@pytest.fixture
async def pool(migrated: str) -> Iterator[Pool]:  # type: ignore[misc]
    pool = await open_pool(migrated, application_name="greenroom:pooled", max_size=8)
    yield pool  # type: ignore[misc]
    await pool.close()


async def test_only_one_of_many_migrates_at_a_time_and_all_succeed(pooled: str) -> None:
    await asyncio.gather(*(migrate(pooled) for _ in range(4)))


async def test_more_sessions_than_servers_work_and_nothing_is_prepared(pool: Pool) -> None:
    async def ask(number: int) -> int:
        async with pool.connection() as conn:
            for _ in range(5):
                row = await (await conn.execute("SELECT %s::int AS n", (number,))).fetchone()
            assert conn.prepare_threshold is None
            assert row is not None
            return row["n"]

    assert await asyncio.gather(*(ask(number) for number in range(40))) == list(range(40))


async def test_a_direct_connection_is_prepared_and_limited(dsn: str) -> None:
    direct = await open_pool(dsn, application_name="greenroom:direct")
    async with direct.connection() as conn:
        assert conn.prepare_threshold == 0
        row = await (await conn.execute("SHOW idle_in_transaction_session_timeout")).fetchone()
    await direct.close()
    assert row == {"idle_in_transaction_session_timeout": "30s"}


async def test_no_setting_of_ours_is_left_on_a_server_that_others_share(
    pool: Pool, pooled: str
) -> None:
    async with pool.connection():
        pass
    async with await psycopg.AsyncConnection.connect(pooled) as other:
        cursor = await other.execute("SHOW transaction_timeout")
        assert await cursor.fetchone() == ("0",)


async def started(pool: Pool, attempt: int) -> str:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT gen_random_uuid()::text AS id")
        row = await cursor.fetchone()
        assert row is not None
        await conn.execute(
            "INSERT INTO greenroom.threads (thread_id) VALUES (%s)", (f"t-{row['id']}",)
        )
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status,"
            " attempt, kwargs, multitask_strategy)"
            " VALUES (%s, %s, gen_random_uuid(), 'g', 'running', %s, '{}', 'enqueue')",
            (row["id"], f"t-{row['id']}", attempt),
        )
        return row["id"]


async def test_the_fence_holds_within_one_pipeline(pool: Pool) -> None:
    run_id = await started(pool, attempt=2)
    async with pool.connection() as conn:
        async with fenced(conn, run_id, 2):
            await conn.execute(
                "UPDATE greenroom.runs SET error = '{}' WHERE run_id = %s", (run_id,)
            )
    with pytest.raises(Fenced):
        await delete_as(pool, run_id, attempt=1)
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT error FROM greenroom.runs WHERE run_id = %s", (run_id,))
        assert await cursor.fetchone() is not None


async def delete_as(pool: Pool, run_id: str, *, attempt: int) -> None:
    async with pool.connection() as conn, fenced(conn, run_id, attempt):
        await conn.execute("DELETE FROM greenroom.runs WHERE run_id = %s", (run_id,))


async def test_many_savers_write_checkpoints_through_two_servers(pool: Pool) -> None:
    async def write(number: int) -> None:
        run_id = await started(pool, attempt=1)
        saver = FencedSaver(pool, run_id=run_id, attempt=1)
        config = {"configurable": {"thread_id": f"t-{run_id}", "checkpoint_ns": ""}}
        for step in range(5):
            checkpoint = {
                "v": 4,
                "id": f"1f000000-0000-6000-8000-{step:012d}",
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"plain": number, "big": [number] * 100},
                "channel_versions": {"plain": step, "big": step},
                "versions_seen": {},
            }
            versions = {"plain": step, "big": step}
            await saver.aput(config, checkpoint, {"step": step}, versions)  # type: ignore[arg-type]
        found = await saver.aget_tuple(config)  # type: ignore[arg-type]
        assert found is not None
        assert found.checkpoint["channel_values"]["big"] == [number] * 100

    await asyncio.gather(*(write(number) for number in range(12)))


async def test_a_takeover_ends_the_transaction_of_a_process_that_was_stopped(
    pool: Pool, migrated: str
) -> None:
    """A pooler tells the server whose session it serves: the name leads to the one in the way."""
    run_id = await started(pool, attempt=1)
    stopped = await psycopg.AsyncConnection.connect(migrated, application_name="greenroom:run-x")
    await stopped.execute("SELECT greenroom.fence(%s, 1)", (run_id,))
    async with pool.connection() as conn:
        await terminate_backends(conn, "run-x")
        async with asyncio.timeout(PATIENCE_S):
            await conn.execute("UPDATE greenroom.runs SET attempt = 2 WHERE run_id = %s", (run_id,))
    with pytest.raises(psycopg.OperationalError):
        await stopped.execute("SELECT 1")
    await stopped.close()


def test_the_pooler_is_in_transaction_mode(pooled: str) -> None:
    """Else the other tests would show nothing."""
    with psycopg.connect(pooled, autocommit=True) as one, psycopg.connect(pooled) as other:
        one.execute("SELECT set_config('greenroom.mine', 'one', false)")
        other.execute("SELECT 1")  # holds the server that the setting is on
        row = one.execute("SELECT current_setting('greenroom.mine', true)").fetchone()
        other.rollback()
    assert row is not None
    assert Path(PGBOUNCER).exists()
