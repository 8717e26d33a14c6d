"""The schema, forward only: ``migrations/NNNN_*.sql`` in order, each once, each in a transaction.

One process migrates at a time. The others must not wait *inside* PostgreSQL: a blocked lock is a
statement with a snapshot, for which CREATE INDEX CONCURRENTLY waits in turn, and the deadlock
detector would end one of them. So they ask again and again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import MIGRATIONS as STORE_MIGRATIONS
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.persistence import database

LOCK = 0x6772656E726F6F6D  # "grenroom"
FILES = Path(__file__).parent / "migrations"


async def migrate(dsn: str, *, files: Path = FILES, patience_s: float = 120.0) -> None:
    """Brings the database to the schema of this version. Idempotent, and safe when many call it.

    Raises:
        ConfigurationError: the database was migrated by a newer version, or an applied file has
            changed since.
        DatabaseUnavailable: no connection, or another process migrates for ``patience_s`` now.
    """
    await database.check(dsn)
    scripts = _numbered(files)
    async with await _connect(dsn) as guard, await _connect(dsn) as conn:
        async with _only_one(guard, patience_s):
            await _apply(conn, scripts)
            await _set_up_langgraph(conn)


async def _connect(dsn: str) -> AsyncConnection[DictRow]:
    return await AsyncConnection[DictRow].connect(
        dsn,
        autocommit=True,
        row_factory=dict_row,
        application_name="greenroom:migrations",
        prepare_threshold=None,  # a pooler may be in between
    )


def _numbered(files: Path) -> dict[int, Path]:
    scripts: dict[int, Path] = {}
    for path in sorted(files.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        other = scripts.setdefault(int(path.name[:4]), path)
        if other is not path:
            raise ValueError(f"{other.name} and {path.name} have the same number")
    return scripts


@asynccontextmanager
async def _only_one(conn: AsyncConnection[DictRow], patience_s: float) -> AsyncIterator[None]:
    deadline = time.monotonic() + patience_s
    while True:
        async with conn.transaction():
            cursor = await conn.execute("SELECT pg_try_advisory_xact_lock(%s) AS mine", (LOCK,))
            row = await cursor.fetchone()
            if row and row["mine"]:
                # The lock is this transaction's, which a pooler keeps on one connection, and goes
                # with it when this process dies. It is idle, so it has no snapshot either.
                yield
                return
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"Another process has been migrating the database for {patience_s:.0f} s."
            )
        await asyncio.sleep(0.05)


async def _apply(conn: AsyncConnection[DictRow], scripts: dict[int, Path]) -> None:
    await conn.execute("CREATE SCHEMA IF NOT EXISTS greenroom")
    await conn.execute(
        "CREATE TABLE IF NOT EXISTS greenroom.migrations (number int PRIMARY KEY, name text NOT"
        " NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor = await conn.execute("SELECT number, name, checksum FROM greenroom.migrations")
    applied = {row["number"]: row for row in await cursor.fetchall()}
    if newer := sorted(set(applied) - set(scripts)):
        raise ConfigurationError(
            f"The database was migrated by a newer version of Greenroom (it has migration "
            f"{applied[newer[-1]]['name']}): use that version, or another database."
        )
    for number, path in sorted(scripts.items()):
        text = path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if number in applied:
            if applied[number]["checksum"] != checksum:
                raise ConfigurationError(
                    f"Migration {path.name} has changed since it was applied to this database: "
                    f"put the file back and write a new migration, or use another database."
                )
            continue
        async with conn.transaction():
            await conn.execute(cast(LiteralString, text))
            await conn.execute(
                "INSERT INTO greenroom.migrations (number, name, checksum) VALUES (%s, %s, %s)",
                (number, path.name, checksum),
            )


def _at_once(migrations: list[str] | tuple[str, ...]) -> list[str]:
    """LangGraph's migrations without CONCURRENTLY.

    That waits for every transaction in the database and leaves an invalid index when it is
    interrupted, which IF NOT EXISTS then takes for done. Here the tables are new, or small.
    """
    return [re.sub(r"\bINDEX CONCURRENTLY\b", "INDEX", sql) for sql in migrations]


class _Saver(AsyncPostgresSaver):
    MIGRATIONS = _at_once(list(AsyncPostgresSaver.MIGRATIONS))


class _Store(AsyncPostgresStore):
    MIGRATIONS = _at_once(list(STORE_MIGRATIONS))


async def _set_up_langgraph(conn: AsyncConnection[DictRow]) -> None:
    """The tables of LangGraph's saver and store (without a vector index), by their own set-up."""
    try:
        await _Saver(conn).setup()
        await _Store(conn).setup()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"The database user may not create LangGraph's tables: {error.diag.message_primary}."
        ) from error
