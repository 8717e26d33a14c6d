"""Connections: pools that survive a restart of PostgreSQL, and a check with readable errors.

The pool detects a dead idle connection without a round trip: an idle connection has no bytes to
read, so one that has some is examined, and replaced. While PostgreSQL is away, a request for a
connection waits (bounded), and is answered within about a second of PostgreSQL's return.
"""

from __future__ import annotations

import asyncio
import math
import select
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, LiteralString, TypeVar, cast

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Params
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from greenroom.core.errors import ConfigurationError, DatabaseUnavailable
from greenroom.core.waiting import growing_pauses
from greenroom.persistence.json_columns import register_json

Connection = AsyncConnection[DictRow]
T = TypeVar("T")

OLDEST_SERVER = 140000
TRANSACTION_TIMEOUT_SINCE = 170000
TURN_S = 1.0
"""How long a caller waits before the pool tries again to open a connection."""

GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
"""SQLSTATEs of a server that ended the connection: shutdown, crash, start-up, time-outs."""

TRANSACTION_TIMEOUT = "25P04"

SHORTAGE = "53"
"""The class of SQLSTATEs of a server that lacks disk space, memory or connections."""
SHORTAGE_PATIENCE_S = 5.0
"""How long a write is repeated for a waiting client: a full disk does not empty in a moment."""
SHORTAGE_PAUSE_S = 0.25
FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.1


class Pool(AsyncConnectionPool[Connection]):
    """A pool whose waiting callers notice quickly that the server is back.

    Attributes:
        transaction_timeout_s: the seconds after which the server ends a transaction.
    """

    transaction_timeout_s: float = math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._returning = set[asyncio.Task[None]]()

    async def getconn(self, timeout: float | None = None) -> Connection:
        """Returns a live connection.

        Raises:
            DatabaseUnavailable: none was available within ``timeout`` seconds (default: the
                pool's).
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            try:
                # In turns: only a new request makes the pool try again to connect, once it has
                # given up on the connections that it lost.
                conn = await super().getconn(max(0.001, min(left, TURN_S)))
            except PoolTimeout:
                if left <= TURN_S:
                    raise DatabaseUnavailable(await self._problem()) from None
                continue
            try:
                if await _is_alive(conn):
                    return conn
                await conn.close()
            except BaseException:  # a caller that was cancelled: its connection is not
                await self.putconn(conn)
                raise
            await self.putconn(conn)

    async def putconn(self, conn: Connection) -> None:
        """Takes a connection back, also if the caller is cancelled while it waits for the pool.

        psycopg's own pool loses such a connection: it counts as used for ever. A client that
        disconnects cancels its request.
        """
        returned = asyncio.create_task(super().putconn(conn))
        self._returning.add(returned)
        returned.add_done_callback(self._returning.discard)
        await asyncio.shield(returned)

    async def _problem(self) -> str:
        """Returns the reason why there is no connection: the server's answer to one more try."""
        dsn = str(self.conninfo)
        try:
            async with await AsyncConnection.connect(dsn, connect_timeout=2):
                return "PostgreSQL answers, but every connection of this process is in use."
        except psycopg.OperationalError as error:
            password = str(conninfo_to_dict(dsn).get("password") or "")
            return f"PostgreSQL does not answer: {_reason(str(error), password)}."


async def _is_alive(conn: Connection) -> bool:
    if conn.closed:
        return False
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if not poll.poll(0):
        return True
    try:
        # A notice or a changed setting is harmless; a goodbye is not.
        await conn.execute("")
    except psycopg.Error:
        return False
    return True


async def open_pool(
    dsn: str,
    *,
    application_name: str,
    min_size: int = 1,
    max_size: int = 4,
    timeout_s: float = 30.0,
    transaction_timeout_s: float = 30.0,
    statement_timeout_s: float | None = None,
) -> Pool:
    """Opens a pool; the caller closes it.

    Args:
        dsn: a libpq connection string or URL.
        application_name: ``greenroom:<actor>``, by which a takeover ends an actor's connections.
        timeout_s: how long a caller waits for a connection, also during a restart of the server.
        transaction_timeout_s: the server ends a transaction (and its connection) that lasts
            longer: a process that was stopped in one would hold its locks for ever. PostgreSQL
            17 and later; an older server only ends those that are idle in a transaction.
        statement_timeout_s: the server ends a statement that takes longer; None: it does not. Has
            no effect behind a pooler in transaction mode, where all clients share settings.

    Raises:
        DatabaseUnavailable: no connection within ``timeout_s``.
    """

    async def configure(conn: Connection) -> None:
        register_json(conn)
        timeout = f"{int(transaction_timeout_s * 1000)}ms"
        settings = [("TimeZone", "UTC"), ("idle_in_transaction_session_timeout", timeout)]
        if conn.info.server_version >= TRANSACTION_TIMEOUT_SINCE:
            settings.append(("transaction_timeout", timeout))
        if statement_timeout_s is not None:
            settings.append(("statement_timeout", f"{int(statement_timeout_s * 1000)}ms"))
        # A pooler before the server returns process ids of its own. In transaction mode, prepared
        # statements and settings do not last until the next transaction, and a setting would leak
        # into another client's transaction.
        cursor = await conn.execute("SELECT pg_backend_pid() AS pid")
        row = await cursor.fetchone()
        if row is None or row["pid"] != conn.info.backend_pid:
            return
        conn.prepare_threshold = 0
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        await conn.execute(
            cast(LiteralString, f"SELECT {calls}"), [part for pair in settings for part in pair]
        )

    pool = Pool(
        dsn,
        connection_class=cast("type[Connection]", AsyncConnection),
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            # Until `configure` knows that there is no pooler.
            "prepare_threshold": None,
            "application_name": application_name,
            "connect_timeout": 5,
        },
        min_size=min_size,
        max_size=max_size,
        timeout=timeout_s,
        # Short, so that a lost connection is soon given up; `getconn` then asks for a new one.
        reconnect_timeout=TURN_S,
        configure=configure,
        open=False,
        name=application_name,
    )
    pool.transaction_timeout_s = transaction_timeout_s
    await pool.open(wait=False)
    try:
        async with pool.connection(timeout_s):
            pass
    except BaseException:  # also Ctrl-C: the opened pool is closed
        await pool.close()
        raise
    return pool


def timestamp(moment: datetime) -> str:
    """``2026-11-22T06:40:20.934989+00:00``, with the zeros that isoformat drops."""
    return moment.isoformat(timespec="microseconds")


async def retrying(
    pool: Pool,
    work: Callable[[Connection], Awaitable[T]],
    *,
    short_s: float = SHORTAGE_PATIENCE_S,
    locked_s: float = 0.0,
) -> T:
    """Calls ``work`` with a connection of the pool, and again when the connection is lost.

    ``work`` must be safe to repeat: a read, or a keyed write.

    Args:
        short_s: how long to retry while the server lacks a resource, e.g. disk space.
        locked_s: how long to retry while the server answers but ends the transaction because it
            takes too long: another transaction has locked the table. At least the pool's time-out.

    Raises:
        DatabaseUnavailable: the server does not return within the pool's time-out, lacks a resource
            for longer than ``short_s``, or has the table locked for longer than ``locked_s``.
    """

    async def once() -> T:
        async with pool.connection() as conn:
            return await work(conn)

    return await patiently(pool.timeout, once, short_s=short_s, locked_s=locked_s)


async def rows_of(pool: Pool, sql: str, params: Params) -> list[DictRow]:
    """Returns the rows of a statement, which must be safe to repeat, as with `retrying`."""

    async def fetch(conn: Connection) -> list[DictRow]:
        cursor = await conn.execute(sql.encode(), params)
        return await cursor.fetchall()

    return await retrying(pool, fetch)


async def patiently(
    patience_s: float,
    work: Callable[[], Awaitable[T]],
    *,
    short_s: float = SHORTAGE_PATIENCE_S,
    locked_s: float = 0.0,
) -> T:
    """Like `retrying`, for work that takes its connection itself."""
    begun = time.monotonic()
    pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    while True:
        try:
            return await work()
        except psycopg.Error as error:
            short = shortage_of(error)
            if short is not None:
                if time.monotonic() - begun >= short_s:
                    raise DatabaseUnavailable(short) from error
                await asyncio.sleep(SHORTAGE_PAUSE_S)
                continue
            if not is_gone(error):
                raise
            is_locked = error.sqlstate == TRANSACTION_TIMEOUT
            bound_s = max(patience_s, locked_s) if is_locked else patience_s
            # A closed pool stays closed: this process is about to end.
            if isinstance(error, PoolClosed) or time.monotonic() - begun >= bound_s:
                raise DatabaseUnavailable("PostgreSQL ended the connection.") from error
            # Some errors come at once: without a pause, nothing else of the process gets a turn.
            await asyncio.sleep(next(pauses))


def is_gone(error: psycopg.Error) -> bool:
    """Whether an error means a lost connection, rather than a wrong statement."""
    if isinstance(error, psycopg.errors.PipelineAborted):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in GONE or error.sqlstate.startswith("08")
    # libpq's own errors have no SQLSTATE: "server closed the connection unexpectedly".
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def shortage_of(error: psycopg.Error) -> str | None:
    """Returns the message for an error that reports a lack of a resource, e.g. of disk space.

    The failed transaction wrote nothing; a retry helps once an operator has fixed the cause.
    """
    if error.sqlstate is None or not error.sqlstate.startswith(SHORTAGE):
        return None
    said = (error.diag.message_primary or str(error)).strip().rstrip(".")
    return f"The database has run out of something: {said}. Nothing was stored."


async def check(dsn: str) -> int:
    """Connects once; returns the server's version, e.g. 180004.

    Raises:
        ConfigurationError: the DSN is malformed, or the server refuses it or is too old.
        DatabaseUnavailable: no server answers.
    """
    try:
        parts = conninfo_to_dict(dsn)
        for name in ("port", "connect_timeout"):
            # A list of hosts has a list of ports.
            [int(number) for number in str(parts.get(name) or 0).split(",") if number]
    except (psycopg.ProgrammingError, ValueError):
        # Without the reason, which quotes the string, and with it the password.
        raise ConfigurationError(
            "The database URL cannot be parsed: write postgresql://user:password@host:port/name."
        ) from None
    where = f"PostgreSQL at {parts.get('host') or 'the local socket'}:{parts.get('port') or 5432}"
    try:
        async with await AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=int(parts.get("connect_timeout") or 5)
        ) as conn:
            version = conn.info.server_version
    except psycopg.OperationalError as error:
        reason = _reason(str(error), str(parts.get("password") or ""))
        if "FATAL" in str(error) and "starting up" not in reason and "shutting down" not in reason:
            raise ConfigurationError(f"{where} refuses the connection: {reason}.") from None
        raise DatabaseUnavailable(f"{where} cannot be reached: {reason}.") from None
    if version < OLDEST_SERVER:
        raise ConfigurationError(
            f"{where} is version {version // 10000}: Greenroom needs {OLDEST_SERVER // 10000} or "
            f"later, and 17 or later to end the transactions of a stopped process."
        )
    return version


def _reason(said: str, password: str) -> str:
    line = said.strip().splitlines()[0]
    for mark in ("FATAL: ", "failed: "):
        line = line.rpartition(mark)[2]
    if password:
        line = line.replace(password, "***")
    return line.strip().rstrip(".")


async def terminate_backends(conn: AsyncConnection[Any], actor: str) -> int:
    """Ends the connections of an actor, with their transactions and locks; returns their number.

    A takeover calls this before it begins the next attempt: the old process may be stopped in the
    middle of a write, while it holds the lock of its fence.
    """
    cursor = await conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = left(%s, 63) AND pid <> pg_backend_pid()",
        (f"greenroom:{actor}",),
    )
    return cursor.rowcount
