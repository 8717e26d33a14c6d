"""A real PostgreSQL for the process, a database of its own for each test that asks for one.

A plugin of `tests/conftest.py`: a fixture that modules import is one of each module's own, and so
would be the PostgreSQL.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.embedded.starting import SETTINGS
from greenroom.persistence.migrations import migrate

GONE_PATIENCE_S = 30.0
GROWN_BYTES = 8 << 20
SOME = 100
"""More than any table has that was only migrated."""

TABLES = """
    SELECT format('%I.%I', nspname, relname) FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid >= 16384 AND relkind = 'r' AND nspname <> 'pg_toast' ORDER BY 1"""

WRITTEN = TABLES.replace("ORDER BY", "AND pg_relation_size(pg_class.oid) > 0 ORDER BY")

SHAPE = """
    SELECT array_agg(shape::text ORDER BY shape::text) FROM (
        SELECT (oid, relname, relkind, reloptions, relhastriggers, relacl) FROM pg_class
            WHERE oid >= 16384
        UNION ALL SELECT (attrelid, attname, atttypid, attnotnull, attisdropped, atthasdef)
            FROM pg_attribute WHERE attrelid >= 16384
        UNION ALL SELECT (oid, prosrc, proconfig) FROM pg_proc WHERE oid >= 16384
        UNION ALL SELECT (oid, tgname, tgenabled) FROM pg_trigger WHERE oid >= 16384
        UNION ALL SELECT (oid, conname, convalidated) FROM pg_constraint WHERE oid >= 16384
        UNION ALL SELECT (oid, nspname, nspacl) FROM pg_namespace WHERE oid >= 16384
        UNION ALL SELECT (oid, extname, extversion) FROM pg_extension
        UNION ALL SELECT (starelid, staattnum, stainherit) FROM pg_statistic
            WHERE starelid >= 16384
        UNION ALL SELECT (setdatabase, setrole, setconfig) FROM pg_db_role_setting
            JOIN pg_database ON pg_database.oid = setdatabase WHERE datname = current_database()
    ) AS shapes (shape)"""
"""What is made, by the ids that a copy of a database has from its template, and its statistics."""


SEQUENCES = """
    SELECT format('%I.%I', schemaname, sequencename), last_value, start_value
    FROM pg_sequences ORDER BY 1"""


class Databases:
    """Copies of a migrated database, used again when they can be made as they were.

    A copy is three hundred files, 0.1 s of CPU; emptying the tables that a test has written costs a
    tenth of that, on a connection that is kept: a new one would read the catalogs anew. What a test
    has changed otherwise is dropped.
    """

    def __init__(self, postgres: Embedded) -> None:
        self._postgres = postgres
        self._free: list[str] = []
        self._kept: dict[str, psycopg.Connection] = {}
        self._connection = psycopg.connect(postgres.dsn, autocommit=True)
        self._template = "migrated"
        self._do("CREATE DATABASE {}", self._template)
        asyncio.run(migrate(self.dsn(self._template)))
        with psycopg.connect(self.dsn(self._template)) as template:
            self._shape = template.execute(SHAPE).fetchone()
            self._rows = {table: _rows(template, table) for table in _written(template)}
            self._sequences = template.execute(SEQUENCES).fetchall()
            self._bytes = _size(template)

    def close(self) -> None:
        for connection in (self._connection, *self._kept.values()):
            connection.close()

    def dsn(self, name: str) -> str:
        return self._postgres.dsn.replace("/postgres?", f"/{name}?")

    def _do(self, statement: str, *names: str) -> None:
        self._connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def take(self) -> str:
        """A migrated database without records; its name."""
        if self._free:
            return self._free.pop()
        name = f"t{uuid.uuid4().hex[:12]}"
        self._do("CREATE DATABASE {} TEMPLATE {}", name, self._template)
        return name

    def give_back(self, name: str) -> None:
        """Ends who is connected, and makes it as it was, or drops it."""
        if self._is_left(name) and self._emptied(name):
            self._free.append(name)
            return
        if name in self._kept:
            self._kept.pop(name).close()
        self._do("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _is_left(self, name: str) -> bool:
        """Whether it is there and nobody else is connected any more."""
        kept = self._kept[name].info.backend_pid if name in self._kept else None
        deadline_s = time.monotonic() + GONE_PATIENCE_S
        while time.monotonic() < deadline_s:
            cursor = self._connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND pid IS DISTINCT FROM %s",
                [name, kept],
            )
            if not cursor.fetchall():
                return True
            time.sleep(0.002)
        return False

    def _emptied(self, name: str) -> bool:
        try:
            if name not in self._kept:
                self._kept[name] = psycopg.connect(self.dsn(name), autocommit=True)
            connection = self._kept[name]
            with connection.transaction():
                return self._made_as_it_was(connection)
        except psycopg.OperationalError:
            return False

    def _made_as_it_was(self, connection: psycopg.Connection) -> bool:
        if connection.execute(SHAPE).fetchone() != self._shape:
            return False
        if _size(connection) > self._bytes + GROWN_BYTES:
            return False
        written = [
            table
            for table in {*self._rows, *_written(connection)}
            if table not in self._rows or _rows(connection, table) != self._rows[table]
        ]
        if written:
            connection.execute(f"TRUNCATE {', '.join(written)} CASCADE")  # type: ignore[arg-type]
        for table, rows in self._rows.items():
            for row in rows if not _rows(connection, table) else []:
                record = f"json_populate_record(NULL::{table}, %s)"
                connection.execute(f"INSERT INTO {table} SELECT * FROM {record}", [row])  # type: ignore[arg-type]
        if connection.execute(SEQUENCES).fetchall() != self._sequences:
            for sequence, last, start in self._sequences:
                value = [sequence, last or start, last is not None]
                connection.execute("SELECT setval(%s, %s, %s)", value)
        return True


def _written(connection: psycopg.Connection) -> list[str]:
    """The tables whose files are not empty."""
    return [table for (table,) in connection.execute(WRITTEN)]


def _rows(connection: psycopg.Connection, table: str) -> list[str]:
    """Its records as JSON; of a table that has many, some."""
    records = f"SELECT row_to_json(t)::text FROM {table} AS t LIMIT {SOME}"
    return sorted(row for (row,) in connection.execute(records))  # type: ignore[arg-type]


def _size(connection: psycopg.Connection) -> int:
    found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return found[0]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with pytest.MonkeyPatch.context() as patch:
        # What a test kills is a process, and no machine: nothing has to reach a disk.
        for name in ("fsync", "full_page_writes"):
            patch.setitem(SETTINGS, name, "off")
        server = start_embedded(tmp_path_factory.mktemp("pg"), linger_s=0)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def databases(postgres: Embedded) -> Iterator[Databases]:
    databases = Databases(postgres)
    yield databases
    databases.close()


@pytest.fixture
async def empty_dsn(postgres: Embedded) -> AsyncIterator[str]:
    """An empty database, dropped afterwards."""
    name = f"t{uuid.uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as conn:
        await conn.execute(f"CREATE DATABASE {name}")
        yield postgres.dsn.replace("/postgres?", f"/{name}?")
        await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def dsn(databases: Databases) -> AsyncIterator[str]:
    """A migrated database without records."""
    name = databases.take()
    yield databases.dsn(name)
    await asyncio.to_thread(databases.give_back, name)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(dsn, application_name="greenroom:test", max_size=8)
    yield pool
    await pool.close()


@pytest.fixture
def pg_directory(tmp_path: Path) -> Path:
    return tmp_path / "pg"
