"""Bulk work: deletes, copies and rolls back the checkpoints of a thread, in slices.

A thread may have gigabytes of checkpoints, and all writes of the registry wait for its current
commit (`greenroom.persistence.journal`). So bulk work uses connections of its own, in transactions
of at most `MOST_ROWS` rows and `MOST_BYTES` bytes. Each transaction first holds the registry's
epoch: a superseded registry stops at its next slice.

    delete   record gone, marked ──> slices ──> mark gone
    copy     marked ──> slices ──> the copy's record, mark gone
    forget   marked ──> slices ──> (journal) the run's record and the mark gone
    rollback run marked: it is told to roll back, and its attempt is fenced ──> slices ──> (journal)

The mark of the first three is a row of ``greenroom.operations``; the mark of a rollback is the
run's record. A registry that starts finds the marks and goes on (`unfinished`): every slice may be
repeated. Clients do not see half-done work, as a thread without a record does not exist for them.

The caller keeps runs away from the thread meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, cast

import psycopg

from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.units import MIB
from greenroom.core.waiting import growing_pauses
from greenroom.persistence import slices
from greenroom.persistence.database import Pool, shortage_of
from greenroom.persistence.journal import (
    EPOCH_SUPERSEDED,
    Superseded,
    Write,
    may_pass,
)
from greenroom.persistence.owning import is_of

log = logging.getLogger("greenroom.bulk")

MOST_ROWS = 1000
MOST_BYTES = 2 * MIB
SMALL_S = 0.004
"""A slice that takes no longer delays no other work."""
LONGEST_REST_S = 0.05
MOST_TIMEOUTS = 2
"""The first time-out may be another transaction's lock; the second one is the slice's own fault."""
AT_ONCE = 2
"""The most concurrent transactions of bulk work; the journal uses the pool's other connections."""
COPY_PATIENCE_S = 30.0
"""How long a copy waits for the database; a client waits for the answer, and can retry."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

Result = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """An unfinished operation.

    Attributes:
        subject: the id of the thread, or of the run to forget.
        thread_id: the thread whose registry performs the operation; for a copy the source.
        graph_id: the graph of the run to forget.
    """

    subject: str
    thread_id: str
    kind: Literal["delete", "copy", "forget"]
    graph_id: str | None


class Bulk:
    """Performs the bulk work of a registry.

    Args:
        pool: at most `AT_ONCE` of its connections are used.
        epoch: the registry's epoch, from `journal.take_epoch`.
        on_superseded: called when a newer registry has taken over.
        shard: the registry's shard.
    """

    def __init__(
        self,
        pool: Pool,
        epoch: int,
        on_superseded: Callable[[], None],
        *,
        shard: Shard = WHOLE,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._pool = pool
        self._epoch = epoch
        self._shard = shard
        self._on_superseded = on_superseded
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._turns = asyncio.Semaphore(AT_ONCE)

    # --- operations ----------------------------------------------------------------------------

    async def unfinished(self) -> list[Operation]:
        """Returns the marked, unfinished operations on this registry's threads.

        Raises:
            DatabaseUnavailable, psycopg.Error: the read failed.
        """
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT subject, thread_id, kind, graph_id FROM greenroom.operations"
                f" WHERE {is_of(self._shard)} ORDER BY begun_at"
            )
            return [Operation(**row) for row in await cursor.fetchall()]

    async def delete_thread(self, thread_id: str) -> None:
        """Deletes all data of a thread whose record is gone (`journal.delete_thread`), or of an
        abandoned copy."""
        await self._delete_rows(thread_id)
        await self._write(operation_done(thread_id))

    async def copy_thread(self, thread_id: str, copy_id: str, metadata: str = "{}") -> bool:
        """Copies a thread's record and checkpoints. May be repeated: an existing copy stays as is.

        Args:
            metadata: JSON object, which lies over the metadata of the thread.

        Returns:
            whether the thread exists.

        Raises:
            DatabaseUnavailable: the database is away, or lacks space or memory, for longer than a
                client waits. The partial copy is deleted later, as the mark stays.
        """
        params = {"thread": thread_id, "copy": copy_id, "metadata": metadata}
        ((begun,),) = await self._write(
            Write(slices.BEGIN_COPY, params), patience_s=COPY_PATIENCE_S
        )
        match begun["found"]:
            case "copied":
                return True
            case "nothing":
                return False
            case "half":
                # By a registry before this one; the thread may have changed since.
                await self._delete_rows(copy_id)
            case _:
                pass
        for statement in slices.COPIES:
            await self._each_slice(statement, params, patience_s=COPY_PATIENCE_S)
        await self._write(
            Write(slices.COPY_RECORD, params), operation_done(copy_id), patience_s=COPY_PATIENCE_S
        )
        return True

    async def roll_back(self, run_id: str, thread_id: str) -> None:
        """Rolls back a run's changes to its thread's checkpoints, before its record is deleted.

        The run's attempt cannot write any more from the first slice on.
        """
        params = {"run": run_id, "thread": thread_id}
        # Waits for writes that are under way: they hold the run's record (`greenroom.fence`).
        await self._write(Write(slices.MARK_ROLLBACK, params))
        await self._take_back(params)

    async def forget_run(self, run_id: str, thread_id: str, graph_id: str) -> bool:
        """Deletes the checkpoints of a run that is over, before its record is deleted.

        The mark stays: the caller commits `operation_done` with its next writes.

        Returns:
            whether the run was the thread's newest. The newest run is undone, so that the thread is
            as before it. An older run's deletion must keep the later runs' writes onto the same
            checkpoints.
        """
        params = {"run": run_id, "thread": thread_id, "graph": graph_id}
        _, (found,) = await self._write(
            Write(slices.MARK_FORGET, params), Write(slices.IS_NEWEST, params)
        )
        if found["is_newest"]:
            await self._take_back(params)
        else:
            await self._delete_state(params)
            await self._delete_all("greenroom.saved_writes", "blob", slices.OF_RUN, params)
            await self._delete_all("greenroom.run_events", "data", slices.OF_RUN, params)
        return found["is_newest"]

    # --- one run's state -----------------------------------------------------------------------

    async def _take_back(self, params: dict[str, Any]) -> None:
        await self._delete_state(params)
        # The earlier task writes of the checkpoints from which the run started.
        await self._each_slice(slices.restore_writes, params)
        await self._delete_all("checkpoint_writes", "blob", slices.NOT_SAVED, params)
        # Restored before the copies are deleted: a part of the copies must not be restored.
        await self._write(Write(slices.FORGET_HEADS, params))
        await self._delete_all("greenroom.saved_writes", "blob", slices.OF_RUN, params)
        await self._delete_all("greenroom.run_events", "data", slices.OF_RUN, params)

    async def _delete_state(self, params: dict[str, Any]) -> None:
        """Deletes the run's checkpoints, the newest first, then their unshared blobs and writes."""
        await self._delete_found(
            slices.CHECKPOINTS_OF_RUN, "checkpoints", slices.CHECKPOINT_KEY, params
        )
        # Also the writes whose checkpoint was never saved, as happens when a process is killed.
        await self._delete_found(
            slices.WRITES_OF_NONE, "checkpoint_writes", slices.WRITES_KEY, params
        )
        await self._delete_found(slices.BLOBS_OF_NONE, "checkpoint_blobs", slices.BLOB_KEY, params)

    # --- slices --------------------------------------------------------------------------------

    async def _delete_rows(self, thread_id: str) -> None:
        params = {"thread": thread_id}
        await self._delete_all("greenroom.run_events", "data", slices.OF_RUNS, params)
        await self._delete_all("greenroom.saved_writes", "blob", slices.OF_RUNS, params)
        await self._delete_all("greenroom.runs", "kwargs", slices.OF_THREAD, params)
        await self._delete_all("checkpoint_writes", "blob", slices.OF_THREAD, params)
        await self._delete_all("checkpoint_blobs", "blob", slices.OF_THREAD, params)
        await self._delete_all("checkpoints", "checkpoint", slices.OF_THREAD, params)

    async def _delete_all(self, table: str, large: str, which: str, params: dict[str, Any]) -> None:
        """Args: large: the column that has most of a row's bytes."""
        sql = f"""
            WITH found AS MATERIALIZED (
                SELECT ctid AS id, coalesce(pg_column_size({large}), 0) AS size
                FROM {table} x WHERE {which} LIMIT %(rows)s)
            DELETE FROM {table} WHERE ctid = ANY (ARRAY(
                SELECT id FROM (SELECT id, size,
                    sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS until FROM found) AS counted
                WHERE until - size < %(bytes)s)) RETURNING 1 AS gone"""
        while await self._sliced(sql, params):
            pass

    async def _delete_found(
        self, find: str, table: str, key: Sequence[str], params: dict[str, Any]
    ) -> None:
        given = ", ".join(f"%({name})s::{'int' if name == 'idx' else 'text'}[]" for name in key)
        same = " AND ".join(f"x.{name} = k.{name}" for name in key)
        sql = (
            f"DELETE FROM {table} x USING unnest({given}) AS k ({', '.join(key)})"
            f" WHERE x.thread_id = %(thread)s AND {same}"
        )
        while True:
            # Without the epoch: it takes longer than a takeover may wait, and changes nothing.
            _, rows = await self._write(Write(slices.HASHED, {}), Write(find, params), held=False)
            for part in self._parts(rows):
                keys = {name: [row[name] for row in part] for name in key}
                await self._write(Write(sql, {**params, **keys}))
            if len(rows) < slices.FOUND_AT_ONCE:
                return

    def _parts(self, rows: Result) -> Iterator[Result]:
        """Rows in slices, by their number and their size."""
        part: Result = []
        size = 0
        for row in rows:
            if part and (len(part) >= self._most_rows or size + row["size"] > self._most_bytes):
                yield part
                part, size = [], 0
            part.append(row)
            size += row["size"]
        if part:
            yield part

    async def _each_slice(
        self,
        sql: Callable[[str], str],
        params: dict[str, Any],
        *,
        patience_s: float | None = None,
    ) -> None:
        """In the order of a key: each slice gives its keys, and the next one begins behind them.

        Args:
            sql: the statement, made with the condition that a row is behind the last slice.
        """
        rows = await self._sliced(sql("true"), params, patience_s=patience_s)
        while rows:
            last = rows[-1]
            names, values = ", ".join(last), ", ".join(f"%({name})s" for name in last)
            behind = sql(f"({names}) > ({values})")
            rows = await self._sliced(behind, {**params, **last}, patience_s=patience_s)

    async def _sliced(
        self, sql: str, params: dict[str, Any], *, patience_s: float | None = None
    ) -> Result:
        """Writes one slice, and makes it smaller when it takes too long."""
        rows, size = self._most_rows, self._most_bytes
        while True:
            write = Write(sql, {**params, "rows": rows, "bytes": size})
            try:
                (found,) = await self._write(write, patience_s=patience_s, most_timeouts=1)
                return found
            except _TooLong:
                rows, size = max(1, rows // 4), max(1, size // 4)

    async def _write(
        self,
        *writes: Write,
        patience_s: float | None = None,
        held: bool = True,
        most_timeouts: int = MOST_TIMEOUTS,
    ) -> list[Result]:
        """Commits one transaction, and repeats it when the database was away.

        Raises:
            Superseded: another registry holds the epoch.
            DatabaseUnavailable: the patience is over (None: it never is), or the transaction
                exceeds the server's time-out.
            psycopg.Error: the statements themselves are at fault.
        """
        asked_s = time.monotonic()
        pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        timeouts = 0
        while True:
            begun_s = time.monotonic()
            try:
                async with self._turns:
                    begun_s = time.monotonic()
                    results = await self._transaction(writes, held=held)
                await _rest(time.monotonic() - begun_s)
                return results
            except psycopg.Error as error:
                if error.sqlstate == EPOCH_SUPERSEDED:
                    self._on_superseded()
                    raise Superseded("This registry was superseded.") from None
                # In a pipeline the reason is lost with the connection, so the time tells.
                if time.monotonic() - begun_s >= self._pool.transaction_timeout_s:
                    timeouts += 1
                    if timeouts >= most_timeouts:
                        raise _TooLong(_TOO_LONG) from error
                if not may_pass(error):
                    raise
                reason = shortage_of(error) or str(error)
            except (OSError, DatabaseUnavailable) as error:
                reason = str(error)
            if patience_s is not None and time.monotonic() - asked_s > patience_s:
                raise DatabaseUnavailable(reason)
            log.warning("the database is away, writing again", extra={"reason": reason[:200]})
            await asyncio.sleep(next(pauses))

    async def _transaction(self, writes: Sequence[Write], *, held: bool) -> list[Result]:
        cursors: list[psycopg.AsyncCursor[dict[str, Any]]] = []
        # A pipeline without a BEGIN is one transaction, ended by its one Sync.
        async with self._pool.connection() as connection, connection.pipeline():
            if held:
                epoch = (self._epoch, self._shard.number)
                await connection.execute("SELECT greenroom.hold_epoch(%s, %s)", epoch)
            for write in writes:
                cursors.append(
                    await connection.execute(cast(LiteralString, write.sql), write.params)
                )
        return [
            await cursor.fetchall() if cursor.description is not None else [] for cursor in cursors
        ]


async def _rest(took_s: float) -> None:
    """Leaves the database to others for as long as a large transaction took."""
    if took_s > SMALL_S:
        await asyncio.sleep(min(took_s, LONGEST_REST_S))


class _TooLong(DatabaseUnavailable):
    """A transaction took longer than one may."""


_TOO_LONG = "The database did not finish this within the time that one transaction may take."


def operation_done(subject: str) -> Write:
    """Deletes the mark of a finished operation."""
    return Write("DELETE FROM greenroom.operations WHERE subject = %(it)s", {"it": subject})
