"""The schema, forward only: numbered scripts, each applied once, in two steps.

    migrations/before/NNNN_*.sql   at the start of a server, while an older one may still serve
    migrations/after/NNNN_*.sql    by a registry of the new server, once no process of an older
                                   server is left

So a script in ``before`` must suit the previous version as well: it only adds. Scripts that remove
are in ``after``. Both share one sequence of numbers.

A script is one transaction. It waits for a lock only for a moment, and is then tried again, since
later transactions on the same table wait behind it. An index is made with CREATE INDEX
CONCURRENTLY, in a script of its own without a transaction; on an empty table, without CONCURRENTLY.
An interrupted script leaves an invalid index, which is dropped and made again.

One process migrates at a time. The others must not wait *inside* PostgreSQL: a blocked lock is a
statement with a snapshot, for which CREATE INDEX CONCURRENTLY waits in turn, and the deadlock
detector would end one of them. So they poll.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.core.store import IndexSpec
from greenroom.persistence import database

log = logging.getLogger("greenroom.migrations")

LOCK = 0x6772656E726F6F6D  # "grenroom"
FILES = Path(__file__).parent / "migrations"
LOCK_WAIT_S = 0.5
"""How long a script waits for a table; later transactions on that table wait as long."""
LOCK_PAUSE_S = 1.0
APPLICATION = "greenroom:migrations"

_TRY_LOCK = cast(LiteralString, f"SELECT pg_try_advisory_xact_lock({LOCK:d}) AS mine")
_INDEX = re.compile(
    r"INDEX CONCURRENTLY (?P<name>\w+) ON (?P<schema>\w+)\.(?P<table>\w+)", re.IGNORECASE
)
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Script:
    """One migration."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def indexes(self) -> list[tuple[str, str, str]]:
        """Returns schema, table and name of each index that a script of only concurrent index
        creations makes."""
        return [
            (found["schema"], found["table"], found["name"]) for found in _INDEX.finditer(self.text)
        ]


async def migrate(
    dsn: str,
    *,
    index: IndexSpec | None = None,
    files: Path = FILES,
    patience_s: float = 120.0,
) -> None:
    """Brings the database to the schema of this version, while an older one may serve.

    Idempotent, and safe for concurrent callers.

    Args:
        index: the index of the store; None makes no table for vectors.

    Raises:
        ConfigurationError: the database was migrated by a newer version, an applied file has
            changed since, or the database cannot hold the vectors of the index.
        DatabaseUnavailable: no connection, or another process holds a lock or migrates for longer
            than ``patience_s`` seconds.
    """
    # Imported here, since the import takes a second, and `finish` does not need it.
    from greenroom.persistence import langgraph_tables

    await database.check(dsn)
    async with await _connect(dsn) as guard, await _connect(dsn) as conn:
        async with _only_one(guard, patience_s):
            await _apply(conn, _scripts(files, "before"), _scripts(files), patience_s)
            await langgraph_tables.set_up(conn, index)


async def finish(dsn: str, *, files: Path = FILES, patience_s: float = 120.0) -> None:
    """Applies the scripts that remove the needs of older versions. Idempotent.

    The caller has checked that no process of an older server is left (`is_alone`).

    Raises:
        ConfigurationError, DatabaseUnavailable: as `migrate` does.
    """
    async with await _connect(dsn) as guard, await _connect(dsn) as conn:
        async with _only_one(guard, patience_s):
            await _apply(conn, _scripts(files, "after"), _scripts(files), patience_s)


async def is_finished(pool: database.Pool, *, files: Path = FILES) -> bool:
    """Returns whether all scripts of `finish` are applied."""

    async def applied(conn: database.Connection) -> set[int]:
        cursor = await conn.execute("SELECT number FROM greenroom.migrations")
        return {row["number"] for row in await cursor.fetchall()}

    return {script.number for script in _scripts(files, "after")} <= await database.retrying(
        pool, applied
    )


async def is_alone(pool: database.Pool, generation: int) -> bool:
    """Returns whether no process of an earlier generation is connected any more.

    Registries do not count: those of earlier generations cannot write. Connections behind a pooler
    are invisible here, but an idle connection is closed after a while.
    """

    async def older(conn: database.Connection) -> bool:
        cursor = await conn.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'greenroom:%%'"
            " AND application_name NOT LIKE 'greenroom:registry%%' AND application_name <> %s"
            " AND backend_start < to_timestamp(%s / 1e9) LIMIT 1",
            (APPLICATION, generation),
        )
        return await cursor.fetchone() is not None

    return not await database.retrying(pool, older)


async def _connect(dsn: str) -> AsyncConnection[DictRow]:
    return await AsyncConnection[DictRow].connect(
        dsn,
        autocommit=True,
        row_factory=dict_row,
        application_name=APPLICATION,
        prepare_threshold=None,  # a pooler may be in between
    )


def _scripts(files: Path, step: str = "*") -> list[Script]:
    """The scripts of a step, or of both, by their numbers."""
    found: dict[int, Script] = {}
    for path in sorted(files.glob(f"{step}/[0-9][0-9][0-9][0-9]_*.sql")):
        script = Script(
            number=int(path.name[:4]), name=path.name, text=path.read_text(encoding="utf-8")
        )
        other = found.setdefault(script.number, script)
        if other is not script:
            raise ValueError(f"{other.name} and {script.name} have the same number")
    return [found[number] for number in sorted(found)]


@asynccontextmanager
async def _only_one(
    conn: AsyncConnection[DictRow], patience_s: float
) -> AsyncGenerator[None, None]:
    deadline = time.monotonic() + patience_s
    while True:
        async with conn.transaction():
            # Without a parameter: a statement that has one keeps its snapshot until the next, and
            # CREATE INDEX CONCURRENTLY waits for that.
            cursor = await conn.execute(_TRY_LOCK)
            row = await cursor.fetchone()
            if row and row["mine"]:
                # The lock is this transaction's, which a pooler keeps on one connection, and goes
                # with it when this process dies.
                yield
                return
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"Another process has been migrating the database for {patience_s:.0f} s."
            )
        await asyncio.sleep(0.05)


async def _apply(
    conn: AsyncConnection[DictRow], scripts: list[Script], known: list[Script], patience_s: float
) -> None:
    await conn.execute("CREATE SCHEMA IF NOT EXISTS greenroom")
    await conn.execute(
        "CREATE TABLE IF NOT EXISTS greenroom.migrations (number int PRIMARY KEY, name text NOT"
        " NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    cursor = await conn.execute("SELECT number, name, checksum FROM greenroom.migrations")
    applied = {row["number"]: row for row in await cursor.fetchall()}
    if newer := sorted(set(applied) - {script.number for script in known}):
        raise ConfigurationError(
            f"The database was migrated by a newer version of Greenroom (it has migration "
            f"{applied[newer[-1]]['name']}): use that version, or another database."
        )
    for script in scripts:
        if script.number in applied:
            if applied[script.number]["checksum"] != script.checksum:
                raise ConfigurationError(
                    f"Migration {script.name} has changed since it was applied to this database: "
                    f"put the file back and write a new migration, or use another database."
                )
        elif script.indexes:
            await _make_indexes(conn, script)
        else:
            await _in_one_transaction(conn, script, patience_s)


async def _in_one_transaction(
    conn: AsyncConnection[DictRow], script: Script, patience_s: float
) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            async with conn.transaction():
                await conn.execute(
                    "SELECT set_config('lock_timeout', %s, true)", (f"{int(LOCK_WAIT_S * 1000)}ms",)
                )
                await conn.execute(cast(LiteralString, script.text))
                await _note(conn, script)
            return
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"Migration {script.name} waits for a lock that somebody has held for"
                    f" {patience_s:.0f} s: end that session (pg_stat_activity), and start again."
                ) from error
            log.info("a table is in use, migrating it in a moment", extra={"script": script.name})
        # The transactions that waited behind it go first now.
        await asyncio.sleep(LOCK_PAUSE_S)


async def _make_indexes(conn: AsyncConnection[DictRow], script: Script) -> None:
    """Makes the indexes one by one; no statement blocks a writer."""
    statements = [each.strip() for each in _COMMENT.sub("", script.text).split(";") if each.strip()]
    if len(statements) != len(script.indexes):
        raise ValueError(f"{script.name}: what is made concurrently has a script of its own")
    for statement, (schema, table, name) in zip(statements, script.indexes, strict=True):
        state = await _index_state(conn, schema, name)
        if state == "valid":  # and the process died before it was noted
            continue
        if state == "invalid":
            await conn.execute(cast(LiteralString, f"DROP INDEX CONCURRENTLY {schema}.{name}"))
        cursor = await conn.execute(cast(LiteralString, f"SELECT 1 FROM {schema}.{table} LIMIT 1"))
        if await cursor.fetchone() is None:
            # On an empty table it delays no transaction and waits for none; CONCURRENTLY waits for
            # every transaction.
            statement = statement.replace("INDEX CONCURRENTLY", "INDEX")
        await conn.execute(cast(LiteralString, statement))
        if await _index_state(conn, schema, name) != "valid":
            raise DatabaseUnavailable(f"Index {name} was not completed. Start again.")
    await _note(conn, script)


async def _index_state(conn: AsyncConnection[DictRow], schema: str, name: str) -> str | None:
    cursor = await conn.execute(
        "SELECT CASE WHEN indisvalid THEN 'valid' ELSE 'invalid' END AS state FROM pg_index"
        " WHERE indexrelid = to_regclass(%s)",
        (f"{schema}.{name}",),
    )
    row = await cursor.fetchone()
    return row["state"] if row is not None else None


async def _note(conn: AsyncConnection[DictRow], script: Script) -> None:
    await conn.execute(
        "INSERT INTO greenroom.migrations (number, name, checksum) VALUES (%s, %s, %s)",
        (script.number, script.name, script.checksum),
    )
