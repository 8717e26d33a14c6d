"""Group commits: everything that gathered goes into one transaction.

A `Write` is one statement. A group of writes belongs together (the end of one run and the start of
the next) and is durable as a whole. Groups that are submitted while a commit is under way travel in
the next commit, through one pipeline. So a busy registry commits rarely, and a quiet registry
commits at once.

The first statement of every transaction holds the registry's epoch: a registry that was superseded
cannot write anything (`Superseded`). A lost connection is no error here: the journal writes the
group again when the database is back, so every write is one that may be repeated. A group that
fails by itself fails alone: the journal writes the others of its transaction again without it.

The journal gives up a group only if the group has a patience, since a client waits for its answer.
Such a group *may* have been written when the connection was lost, so its caller takes it back.
Every other group is written in the end, however long another transaction holds a lock: the registry
has decided it. A group that meets a lock for a second stands aside meanwhile, together with the
other groups of its thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, cast

import psycopg
from psycopg.rows import tuple_row

from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.waiting import cancelled, growing_pauses, happens_within
from greenroom.persistence.database import (
    SHORTAGE_PATIENCE_S,
    Pool,
    shortage_of,
)
from greenroom.persistence.journal.epochs import EPOCH_SUPERSEDED, Superseded

log = logging.getLogger("greenroom.journal")

QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
MOST_GROUPS = 200
"""The most groups of one transaction."""
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""The longest pause between tries while the database is away."""
LOCKED_PAUSE_S = 0.1
"""How long a group that met a lock waits while other groups are written."""
LOCK_WAIT = "1s"
"""How long a transaction waits for somebody else's lock, as PostgreSQL writes it."""
_HOLD_EPOCH = "SELECT greenroom.hold_epoch(%s, %s), set_config('lock_timeout', %s, true)"
TOO_LONG = (
    "The database did not finish this within the time that one transaction may take, and nothing of"
    " it was done."
)


@dataclass(frozen=True, slots=True)
class Write:
    """One statement and its parameters; may be repeated without harm."""

    sql: str
    params: dict[str, Any]


Row = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Group:
    """Writes that belong together.

    Attributes:
        key: groups with the same key are written in order.
        since_s: the time of the request, by the monotonic clock.
        patience_s: how long to try; None: until the group is written.
        written: the rows of each write.
        not_before_s: the time of the next try, after the group met a lock.
    """

    writes: Sequence[Write]
    key: str
    since_s: float
    patience_s: float | None
    written: asyncio.Future[list[list[Row]]]
    not_before_s: float = 0.0

    def is_over(self, *, short: bool) -> bool:
        if self.patience_s is None:
            return False
        patience_s = min(self.patience_s, SHORTAGE_PATIENCE_S) if short else self.patience_s
        return time.monotonic() - self.since_s > patience_s


class Journal:
    """Commits the registry's writes, in groups.

    Args:
        pool: connections to the database.
        epoch: the registry's epoch, from `take_epoch`.
        on_superseded: called when a newer registry has taken over.
        on_commit: called with the duration of each commit in seconds.
        shard: the registry's shard.

    Attributes:
        unwritten: the groups that are not durable, in their order.
    """

    def __init__(
        self,
        pool: Pool,
        epoch: int,
        on_superseded: Callable[[], None],
        on_commit: Callable[[float], None] = lambda _: None,
        *,
        shard: Shard = WHOLE,
    ) -> None:
        self._pool = pool
        self._epoch = epoch
        self._shard = shard.number
        self._on_superseded = on_superseded
        self._on_commit = on_commit
        self._begun_s = math.inf
        self.unwritten: dict[Group, None] = {}
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def commit(
        self, *writes: Write, key: str = "", patience_s: float | None = None
    ) -> list[list[Row]]:
        """Makes the writes durable, together; returns the rows of each write.

        Waits while the database is away.

        Args:
            key: the thread of the writes. Groups with the same key are written in order; a key
                that waits for a lock delays no other key.
            patience_s: how long to try, in seconds; None: until the writes are durable.

        Raises:
            Superseded: another registry holds the epoch.
            DatabaseUnavailable: the writes are not durable within the patience.
            psycopg.Error: the group itself is at fault.
        """
        return await self.write(*writes, key=key, patience_s=patience_s)

    def write(
        self, *writes: Write, key: str = "", patience_s: float | None = None
    ) -> asyncio.Future[list[list[Row]]]:
        """Like `commit`, but returns a future; the writes' position in the order is fixed now."""
        future: asyncio.Future[list[list[Row]]] = asyncio.get_running_loop().create_future()
        self.unwritten[Group(writes, key, time.monotonic(), patience_s, future)] = None
        self._came.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        return future

    async def close(self) -> None:
        """Gives up all unwritten groups and cancels their callers."""
        if self._task is not None:
            await cancelled([self._task])
        for group in self.unwritten:
            group.written.cancel()
        self.unwritten.clear()

    async def _write_all(self) -> None:
        try:
            while self.unwritten:
                groups = self._next()
                if groups:
                    await self._write(groups)
                    continue
                # Each group waits for a lock, or follows a group that does.
                self._came.clear()
                await happens_within(LOCKED_PAUSE_S, self._came.wait())
        finally:
            self._task = None

    def _next(self) -> list[Group]:
        """Returns the groups that may be written now, in order."""
        now_s = time.monotonic()
        locked: set[str] = set()
        found: list[Group] = []
        for group in [*self.unwritten]:
            if group.not_before_s > now_s and not group.is_over(short=False):
                locked.add(group.key)
            elif group.key not in locked:
                found.append(group)
                if len(found) == MOST_GROUPS:
                    break
        return found

    async def _write(self, groups: list[Group]) -> None:
        pauses = growing_pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        reason, short = TOO_LONG, False
        while groups := self._without_those_over(groups, reason, short=short):
            short = False
            try:
                written = await self.transaction(groups)
            except psycopg.Error as error:
                if error.sqlstate == EPOCH_SUPERSEDED:
                    self._on_superseded()
                    for group in [*self.unwritten]:
                        self._fail(group, Superseded("This registry was superseded."))
                    return
                too_long = self._was_too_long()
                at_fault = error.sqlstate == LOCK_NOT_AVAILABLE or too_long
                if len(groups) > 1 and (at_fault or not may_pass(error)):
                    await self._write(groups[: len(groups) // 2])
                    # Without the groups that must stay behind a group of the first half.
                    may_go = {*self._next()}
                    second = groups[len(groups) // 2 :]
                    return await self._write([group for group in second if group in may_go])
                if at_fault:
                    log.warning("a write waits for a lock, or takes too long")
                    groups[0].not_before_s = time.monotonic() + LOCKED_PAUSE_S
                    return
                if not may_pass(error):
                    return self._fail(groups[0], error)
                shortage = shortage_of(error)
                short, reason = shortage is not None, shortage or str(error)
            except (OSError, DatabaseUnavailable) as error:
                reason = str(error)
            else:
                self._on_commit(time.monotonic() - self._begun_s)
                for group, rows in zip(groups, written, strict=True):
                    del self.unwritten[group]
                    if not group.written.done():
                        group.written.set_result(rows)
                return
            log.warning("the database is away, writing again", extra={"reason": reason[:200]})
            groups = self._without_those_over(groups, reason, short=short)
            await asyncio.sleep(next(pauses))

    def _without_those_over(self, groups: list[Group], reason: str, *, short: bool) -> list[Group]:
        left: list[Group] = []
        for group in groups:
            if group.is_over(short=short):
                self._fail(group, DatabaseUnavailable(reason))
            else:
                left.append(group)
        return left

    def _fail(self, group: Group, error: Exception) -> None:
        del self.unwritten[group]
        if not group.written.done():
            group.written.set_exception(error)

    async def transaction(self, groups: list[Group]) -> list[list[list[Row]]]:
        cursors: list[list[psycopg.AsyncCursor[Row]]] = []
        self._begun_s = math.inf
        # A pipeline without a BEGIN is one transaction, ended by its one Sync.
        async with self._pool.connection() as connection, connection.pipeline():
            self._begun_s = time.monotonic()
            held = (self._epoch, self._shard, LOCK_WAIT)
            await connection.execute(_HOLD_EPOCH, held)
            for group in groups:
                cursors.append([])
                for write in group.writes:
                    cursor = connection.cursor(row_factory=tuple_row)
                    cursors[-1].append(cursor)
                    await cursor.execute(cast(LiteralString, write.sql), write.params)
        return [[await _rows(cursor) for cursor in group] for group in cursors]

    def _was_too_long(self) -> bool:
        """Whether PostgreSQL ended the last transaction for its length. In a pipeline the reason is
        lost with the connection, so the time tells."""
        return time.monotonic() - self._begun_s >= self._pool.transaction_timeout_s


async def _rows(cursor: psycopg.AsyncCursor[Row]) -> list[Row]:
    return await cursor.fetchall() if cursor.description is not None else []


def may_pass(error: psycopg.Error) -> bool:
    """Whether the connection, the server or its capacity failed, rather than the statement."""
    if error.sqlstate is None:
        # libpq's own words for a lost connection; psycopg's own about a value are other classes.
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return lost and not isinstance(error, psycopg.errors.PipelineAborted)
    if error.sqlstate == QUERY_CANCELED:
        return False
    # 08 connection, 25 idle time-out, 40 serialisation, 53 disk or connections, 57 shutdown
    return error.sqlstate[:2] in ("08", "25", "40", "53", "57")
