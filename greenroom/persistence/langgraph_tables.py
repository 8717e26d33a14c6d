"""Makes the tables of LangGraph's saver and store (without a vector index) by their own set-up.

It is separate from Greenroom's migrations, as importing LangGraph takes a second.
"""

from __future__ import annotations

import re
from typing import LiteralString, cast

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import MIGRATIONS as STORE_MIGRATIONS
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from greenroom.core.errors import ConfigurationError

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "store")


def _at_once(migrations: list[str] | tuple[str, ...]) -> list[str]:
    """LangGraph's migrations without CONCURRENTLY, which waits for every transaction in the
    database: for tables that are new."""
    return [re.sub(r"\bINDEX CONCURRENTLY\b", "INDEX", sql) for sql in migrations]


class _NewSaver(AsyncPostgresSaver):
    MIGRATIONS = _at_once(list(AsyncPostgresSaver.MIGRATIONS))


class _NewStore(AsyncPostgresStore):
    MIGRATIONS = _at_once(list(STORE_MIGRATIONS))


async def set_up(conn: AsyncConnection[DictRow]) -> None:
    """Makes the tables, or brings those that are there up to date while others use them.

    Raises:
        ConfigurationError: the database user lacks the permission, or a newer version of LangGraph
            has migrated the tables.
    """
    cursor = await conn.execute("SELECT to_regclass('checkpoint_migrations') IS NULL AS is_new")
    row = await cursor.fetchone()
    assert row is not None
    saver, store = (
        (_NewSaver, _NewStore) if row["is_new"] else (AsyncPostgresSaver, AsyncPostgresStore)
    )
    if not row["is_new"]:
        await _refuse_newer(conn)
    try:
        await _drop_invalid(conn)
        await saver(conn).setup()
        await store(conn).setup()
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"The database user may not create LangGraph's tables: {error.diag.message_primary}."
        ) from error


async def _refuse_newer(conn: AsyncConnection[DictRow]) -> None:
    """LangGraph's own set-up ignores migrations that it does not know, and would use the tables."""
    for table, known in (
        ("checkpoint_migrations", len(AsyncPostgresSaver.MIGRATIONS)),
        ("store_migrations", len(STORE_MIGRATIONS)),
    ):
        cursor = await conn.execute("SELECT to_regclass(%s) IS NOT NULL AS there", (table,))
        row = await cursor.fetchone()
        if row is None or not row["there"]:
            continue
        cursor = await conn.execute(cast(LiteralString, f"SELECT max(v) AS newest FROM {table}"))
        row = await cursor.fetchone()
        if row is not None and row["newest"] is not None and row["newest"] >= known:
            raise ConfigurationError(
                f"LangGraph's tables were migrated by a newer version of it (migration"
                f" {row['newest']} in {table}, and this one knows {known}): install that version"
                " (langgraph-checkpoint-postgres), or use another database."
            )


async def _drop_invalid(conn: AsyncConnection[DictRow]) -> None:
    """Drops the invalid index of an interrupted CONCURRENTLY, which IF NOT EXISTS would accept."""
    cursor = await conn.execute(
        "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE NOT indisvalid"
        " AND indrelid IN (SELECT to_regclass(t) FROM unnest(%s::text[]) t)",
        (list(TABLES),),
    )
    for row in await cursor.fetchall():
        await conn.execute(cast(LiteralString, f"DROP INDEX CONCURRENTLY IF EXISTS {row['name']}"))
