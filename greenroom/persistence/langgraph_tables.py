"""Makes the tables of LangGraph's saver and store by their own set-up, and what ours adds to them.

It is separate from Greenroom's migrations, as importing LangGraph takes a second.
"""

from __future__ import annotations

import re
from typing import Any, LiteralString, cast

import psycopg
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.postgres.base import MIGRATIONS as STORE_MIGRATIONS
from langgraph.store.postgres.base import VECTOR_MIGRATIONS
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from greenroom.core.errors import ConfigurationError
from greenroom.core.store import IndexSpec
from greenroom.persistence.records.items import vector_type

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "store", "store_vectors")

CREATED_INDEX = "greenroom_store_created_idx"


def _at_once(migrations: list[str] | tuple[str, ...]) -> list[str]:
    """LangGraph's migrations without CONCURRENTLY, which waits for every transaction in the
    database: for tables that are new."""
    return [re.sub(r"\bINDEX CONCURRENTLY\b", "INDEX", sql) for sql in migrations]


class _NewSaver(AsyncPostgresSaver):
    MIGRATIONS = _at_once(list(AsyncPostgresSaver.MIGRATIONS))


class _NewStore(AsyncPostgresStore):
    MIGRATIONS = _at_once(list(STORE_MIGRATIONS))


class _NewVectors(AsyncPostgresStore):
    VECTOR_MIGRATIONS = tuple(
        each._replace(sql=sql)
        for each, sql in zip(
            VECTOR_MIGRATIONS, _at_once([each.sql for each in VECTOR_MIGRATIONS]), strict=True
        )
    )


async def set_up(conn: AsyncConnection[DictRow], index: IndexSpec | None = None) -> None:
    """Makes the tables, or brings those that are there up to date while others use them.

    Args:
        index: the index of the store; None makes no table for vectors.

    Raises:
        ConfigurationError: the database user lacks the permission, a newer version of LangGraph
            has migrated the tables, the database lacks pgvector, or its vectors have another
            length.
    """
    is_new = not await _exists(conn, "checkpoint_migrations")
    saver, store = (_NewSaver, _NewStore) if is_new else (AsyncPostgresSaver, AsyncPostgresStore)
    if not is_new:
        await _refuse_newer(conn)
    try:
        await _drop_invalid(conn)
        await saver(conn).setup()
        await store(conn).setup()
        await _extend_store(conn, is_new=is_new)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"The database user may not create LangGraph's tables: {error.diag.message_primary}."
        ) from error
    if index is not None:
        await _set_up_vectors(conn, index)


async def _extend_store(conn: AsyncConnection[DictRow], *, is_new: bool) -> None:
    """Adds a time to live in seconds, since LangGraph's column holds whole minutes, and an index
    for searches without a query, which are in the order of creation."""
    cursor = await conn.execute(
        "SELECT 1 FROM pg_attribute WHERE attrelid = 'store'::regclass AND attname = 'ttl_s'"
    )
    if await cursor.fetchone() is None:
        await conn.execute("ALTER TABLE store ADD COLUMN IF NOT EXISTS ttl_s double precision")
    how = "INDEX" if is_new else "INDEX CONCURRENTLY"
    await conn.execute(
        f"CREATE {how} IF NOT EXISTS {CREATED_INDEX} ON store (created_at, prefix, key)"
    )


async def _set_up_vectors(conn: AsyncConnection[DictRow], index: IndexSpec) -> None:
    is_new = not await _exists(conn, "store_vectors")
    kind = vector_type(index.dims)
    config: Any = {
        "dims": index.dims,
        "embed": _never_called,
        "ann_index_config": {"kind": "hnsw", "vector_type": kind},
    }
    store = _NewVectors if is_new else AsyncPostgresStore
    if not is_new:
        await _refuse_other_vectors(conn, index)
    await _make_extension(conn)
    try:
        await store(conn, index=config).setup()
    except psycopg.errors.UndefinedObject as error:
        raise ConfigurationError(
            "The extension pgvector is in a schema that the database user does not search"
            f" ({error.diag.message_primary}): let an administrator execute"
            " 'ALTER EXTENSION vector SET SCHEMA public'."
        ) from error


async def _make_extension(conn: AsyncConnection[DictRow]) -> None:
    """Makes the extension if it is not there. LangGraph's set-up makes it too, but notes that
    once, also if an administrator has removed it since."""
    try:
        cursor = await conn.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
        if await cursor.fetchone() is None:
            await conn.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            "'store.index' needs the extension pgvector, and the database user may not create it"
            f" ({error.diag.message_primary}): let an administrator execute"
            " 'CREATE EXTENSION vector' in this database."
        ) from error
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        raise ConfigurationError(
            "'store.index' needs the extension pgvector, which the database server does not have"
            f" ({error.diag.message_primary}): install it there, or leave 'store.index' out."
        ) from error


async def _refuse_other_vectors(conn: AsyncConnection[DictRow], index: IndexSpec) -> None:
    cursor = await conn.execute(
        "SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'store_vectors'::regclass AND attname = 'embedding'"
    )
    row = await cursor.fetchone()
    there = row["type"].rpartition(".")[2] if row is not None else "nothing"
    if there != f"{vector_type(index.dims)}({index.dims})":
        raise ConfigurationError(
            f"The database holds vectors of another embedding ({there}), and 'store.index.dims' is"
            f" {index.dims}: correct it, or execute 'DROP TABLE store_vectors, vector_migrations'"
            " in the database. The items stay, and are embedded when they are put again."
        )


def _never_called(texts: Any) -> Any:
    """Stands for the embedding, which a set-up must name and does not call."""
    raise NotImplementedError


async def _exists(conn: AsyncConnection[DictRow], table: str) -> bool:
    cursor = await conn.execute("SELECT to_regclass(%s) IS NOT NULL AS there", (table,))
    row = await cursor.fetchone()
    assert row is not None
    return row["there"]


async def _refuse_newer(conn: AsyncConnection[DictRow]) -> None:
    """LangGraph's own set-up ignores migrations that it does not know, and would use the tables."""
    for table, known in (
        ("checkpoint_migrations", len(AsyncPostgresSaver.MIGRATIONS)),
        ("store_migrations", len(STORE_MIGRATIONS)),
        ("vector_migrations", len(VECTOR_MIGRATIONS)),
    ):
        if not await _exists(conn, table):
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
