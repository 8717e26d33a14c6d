"""What the registry writes, in group commits: everything that gathered goes into one transaction.

A `Write` is one statement. A group of writes belongs together (the end of one run and the start of
the next) and is durable as a whole. Groups that are submitted while a commit is under way travel in
the next one, through one pipeline, so a busy registry commits rarely and a quiet one at once.

The first statement of every transaction holds the registry's epoch: a registry that was superseded
cannot write anything (`Superseded`). A lost connection is no error here: the group is written
again when the database is back, so every write is one that may be repeated. A group that fails by
itself fails alone: the others of its transaction are written again without it.

Only a group with a patience is given up, since somebody waits for its answer; it *may* have been
written when the connection was lost, so whoever gives it up takes it back. Everything else is
written in the end, however long somebody's lock lasts: the registry has decided it. What meets a
lock for a second stands aside meanwhile, with what else there is for its thread. Only what is small
comes here. What may take long, such as deleting or copying checkpoints, would hold up
everybody (`greenroom.persistence.bulk`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, cast

import psycopg
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from greenroom.core.errors import DatabaseUnavailable, Fenced
from greenroom.core.runs import (
    CancelAction,
    MultitaskStrategy,
    OfRun,
    RunFacts,
    RunRequest,
    RunStatus,
)
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.threads import ThreadStatus
from greenroom.persistence.database import (
    SHORTAGE_PATIENCE_S,
    Connection,
    Pool,
    shortage_of,
)
from greenroom.persistence.facets import facets_of
from greenroom.persistence.owning import is_of

log = logging.getLogger("greenroom.journal")

EPOCH_SUPERSEDED = "GR002"
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
MOST_GROUPS = 200
"""In one transaction."""
LOCKED_PAUSE_S = 0.1
"""How long a group that met somebody's lock lets the others go first."""
_HOLD_EPOCH = "SELECT greenroom.hold_epoch(%s, %s), set_config('lock_timeout', '1s', true)"
TOO_LONG = (
    "The database did not finish this within the time that one transaction may take, and nothing of"
    " it was done."
)
SMALL_ROWS = 500
SMALL_BYTES = 2 * 1024 * 1024
"""What a deletion may delete here: about as long as a commit takes anyway."""


class Superseded(Fenced):
    """A newer registry has taken over; this one writes nothing more."""


@dataclass(frozen=True, slots=True)
class Write:
    """One statement and its parameters; may be repeated without harm."""

    sql: str
    params: dict[str, Any]


Row = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class _Group:
    """Writes that belong together.

    Attributes:
        key: groups of one key are written in their order.
        since_s: when they were asked for.
        patience_s: how long they are tried; None: until they are written.
        written: the rows that each write gave.
        not_before_s: when it is tried again, after it met somebody's lock.
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
    """The registry's pen.

    Args:
        pool: connections to the database.
        epoch: the registry's epoch, as `take_epoch` gave it.
        on_superseded: called when a newer registry has taken over.
        on_commit: called with the seconds that a commit took.
        shard: whose epoch it is.
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
        self._unwritten: dict[_Group, None] = {}
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def commit(
        self, *writes: Write, key: str = "", patience_s: float | None = None
    ) -> list[list[Row]]:
        """Makes the writes durable, together; returns the rows that each gave.

        Waits while the database is away.

        Args:
            key: the thread that they are about. What is committed for one key is written in order;
                a key that has to wait for somebody's lock holds up no other.
            patience_s: how long; None: as long as it takes.

        Raises:
            Superseded: another registry holds the epoch.
            DatabaseUnavailable: not within the patience.
            psycopg.Error: the group itself is at fault.
        """
        return await self.write(*writes, key=key, patience_s=patience_s)

    def write(
        self, *writes: Write, key: str = "", patience_s: float | None = None
    ) -> asyncio.Future[list[list[Row]]]:
        """Like `commit`, but the writes have their place in the order when this returns."""
        future: asyncio.Future[list[list[Row]]] = asyncio.get_running_loop().create_future()
        self._unwritten[_Group(writes, key, time.monotonic(), patience_s, future)] = None
        self._came.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        return future

    async def close(self) -> None:
        """Gives up what is not written yet; its callers are cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for group in self._unwritten:
            group.written.cancel()
        self._unwritten.clear()

    async def _write_all(self) -> None:
        try:
            while self._unwritten:
                groups = self._next()
                if groups:
                    await self._write(groups)
                    continue
                # All meet somebody's lock, or come after one that does.
                self._came.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOCKED_PAUSE_S):
                        await self._came.wait()
        finally:
            self._task = None

    def _next(self) -> list[_Group]:
        """What may be written now, in order."""
        now_s = time.monotonic()
        locked: set[str] = set()
        found: list[_Group] = []
        for group in [*self._unwritten]:
            if group.not_before_s > now_s and not group.is_over(short=False):
                locked.add(group.key)
            elif group.key not in locked:
                found.append(group)
                if len(found) == MOST_GROUPS:
                    break
        return found

    async def _write(self, groups: list[_Group]) -> None:
        pause_s = 0.05
        reason, short = TOO_LONG, False
        while groups := self._without_those_over(groups, reason, short=short):
            short = False
            try:
                written = await self._transaction(groups)
            except psycopg.Error as error:
                if error.sqlstate == EPOCH_SUPERSEDED:
                    self._on_superseded()
                    for group in [*self._unwritten]:
                        self._fail(group, Superseded("This registry was superseded."))
                    return
                too_long = self._was_too_long()
                at_fault = error.sqlstate == LOCK_NOT_AVAILABLE or too_long
                if len(groups) > 1 and (at_fault or not may_pass(error)):
                    await self._write(groups[: len(groups) // 2])
                    # Without those that have to stay behind one of the first half.
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
                    del self._unwritten[group]
                    if not group.written.done():
                        group.written.set_result(rows)
                return
            log.warning("the database is away, writing again", extra={"reason": reason[:200]})
            groups = self._without_those_over(groups, reason, short=short)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    def _without_those_over(
        self, groups: list[_Group], reason: str, *, short: bool
    ) -> list[_Group]:
        left: list[_Group] = []
        for group in groups:
            if group.is_over(short=short):
                self._fail(group, DatabaseUnavailable(reason))
            else:
                left.append(group)
        return left

    def _fail(self, group: _Group, error: Exception) -> None:
        del self._unwritten[group]
        if not group.written.done():
            group.written.set_exception(error)

    async def _transaction(self, groups: list[_Group]) -> list[list[list[Row]]]:
        cursors: list[list[psycopg.AsyncCursor[Row]]] = []
        self._begun_s = math.inf
        # A pipeline without a BEGIN is one transaction, ended by its one Sync.
        async with self._pool.connection() as connection, connection.pipeline():
            self._begun_s = time.monotonic()
            held = (self._epoch, self._shard)
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


# --- the registry's statements -------------------------------------------------------------------


def admit(request: RunRequest, *, actor: str | None) -> Write:
    """A new run, and its thread ``busy``; with an actor it is running at once, in attempt 1.

    Gives ``(created_at, is_current, is_first)``, or no row when the thread does not exist. A run
    that is there already is left as it is, and so is its thread; it is current unless it is over.
    It is the first if its thread has no checkpoint.
    """
    thread = (
        """
        INSERT INTO greenroom.threads (thread_id, status, metadata, config)
        SELECT %(thread)s, 'busy', %(run_metadata)s::jsonb || %(thread_metadata)s::jsonb,
            '{"configurable": {}}'
        WHERE NOT EXISTS (SELECT 1 FROM known)
        ON CONFLICT (thread_id) DO UPDATE SET status = 'busy',
            metadata = threads.metadata || %(thread_metadata)s::jsonb,
            config = '{"configurable": {}}'::jsonb || threads.config,
            updated_at = clock_timestamp()
        RETURNING thread_id"""
        if request.create_thread
        else """
        UPDATE greenroom.threads SET status = 'busy',
            metadata = threads.metadata || %(thread_metadata)s::jsonb,
            config = '{"configurable": {}}'::jsonb || threads.config,
            updated_at = clock_timestamp()
        WHERE thread_id = %(thread)s AND NOT EXISTS (SELECT 1 FROM known)
        RETURNING thread_id"""
    )
    sql = f"""
    WITH known AS (
        SELECT created_at, status IN ('pending', 'running') AS is_current
        FROM greenroom.runs WHERE run_id = %(run)s),
    thread AS ({thread}),
    made AS (
        INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, attempt,
            actor, kwargs, metadata, multitask_strategy, temporary, resumable, resumes, webhook,
            due_at, started_at)
        SELECT %(run)s, thread_id, %(assistant)s, %(graph)s, %(status)s, %(attempt)s, %(actor)s,
            %(kwargs)s::json, %(run_metadata)s::jsonb, %(strategy)s, %(temporary)s, %(resumable)s,
            %(resumes)s, %(webhook)s,
            CASE WHEN %(after_s)s::float8 > 0
                THEN clock_timestamp() + make_interval(secs => %(after_s)s::float8) END,
            CASE WHEN %(actor)s::text IS NOT NULL THEN clock_timestamp() END
        FROM thread
        ON CONFLICT (run_id) DO NOTHING
        RETURNING created_at)
    SELECT created_at, true, NOT EXISTS (
        SELECT 1 FROM checkpoints WHERE thread_id = %(thread)s) FROM made
    UNION ALL SELECT created_at, is_current, false FROM known"""
    thread_metadata = (
        {}
        if request.temporary
        else {"graph_id": request.graph_id, "assistant_id": request.assistant_id}
    )
    return Write(
        sql,
        {
            "run": request.run_id,
            "thread": request.thread_id,
            "assistant": request.assistant_id,
            "graph": request.graph_id,
            "status": RunStatus.RUNNING if actor else RunStatus.PENDING,
            "attempt": 1 if actor else 0,
            "actor": actor,
            "kwargs": request.kwargs.decode(),
            "run_metadata": request.metadata.decode(),
            "thread_metadata": json.dumps(thread_metadata),
            "strategy": request.multitask_strategy,
            "temporary": request.temporary,
            "resumable": request.resumable,
            "resumes": request.resumes,
            "webhook": request.webhook,
            "after_s": request.after_s,
        },
    )


def created(run_id: str) -> Write:
    """When a run was created: ``(created_at,)``, or no row; in order with what is being written."""
    return Write("SELECT created_at FROM greenroom.runs WHERE run_id = %(run)s", {"run": run_id})


def start(run_id: str, attempt: int, actor: str) -> Write:
    """A pending run has an actor: the attempt begins. Gives ``(kwargs, is_first)``.

    Of a later attempt it is not known whether its thread has a checkpoint: the one before may have
    written one while this statement waited for it.
    """
    return Write(
        """
        UPDATE greenroom.runs SET status = 'running', attempt = %(attempt)s, actor = %(actor)s,
            started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
        WHERE run_id = %(run)s AND status IN ('pending', 'running') AND attempt <= %(attempt)s
        RETURNING kwargs::text, attempt = 1 AND NOT EXISTS (
            SELECT 1 FROM checkpoints WHERE checkpoints.thread_id = runs.thread_id)""",
        {"run": run_id, "attempt": attempt, "actor": actor},
    )


def tell_stop(run_id: str, action: CancelAction) -> Write:
    """The run was told to stop; the first time counts."""
    return Write(
        "UPDATE greenroom.runs SET stop = coalesce(stop, %(stop)s) WHERE run_id = %(run)s",
        {"run": run_id, "stop": action},
    )


Requeued = Literal["died", "not ordered", "drained", "cut off"]
"""Why a run is pending again: its process died; its actor never had the order, since the registry
died in between; its actor handed it back; it did not reach the end of a superstep in time."""


def requeue(run_id: str, attempt: int, because: Requeued) -> Write:
    """The attempt is over without an end; from now on nothing that it still does is accepted.

    Args:
        because: stands in the run's record; only a death counts as one.
    """
    return Write(
        """
        UPDATE greenroom.runs SET status = 'pending', actor = NULL, deaths = deaths + %(deaths)s,
            requeued_because = %(because)s, updated_at = clock_timestamp()
        WHERE run_id = %(run)s AND status = 'running' AND attempt = %(attempt)s""",
        {
            "run": run_id,
            "attempt": attempt,
            "because": because,
            "deaths": int(because == "died"),
        },
    )


def note_cancel(name: str) -> Write:
    """A cancel was heard: asked again by the same name, also after the end, it was."""
    return Write(
        "INSERT INTO greenroom.cancels (name) VALUES (%(name)s) ON CONFLICT DO NOTHING",
        {"name": name},
    )


def end_run(run_id: str, status: RunStatus, error: bytes | None) -> Write:
    """A run is over."""
    return Write(
        """
        UPDATE greenroom.runs SET status = %(status)s, error = %(error)s, due_at = NULL,
            updated_at = clock_timestamp()
        WHERE run_id = %(run)s AND status IN ('pending', 'running')""",
        {
            "run": run_id,
            "status": status,
            "error": error.decode() if error is not None else None,
        },
    )


def rest_thread(
    thread_id: str,
    resting: ThreadStatus,
    interrupts: bytes | None,
    error: bytes | None,
    *,
    busy: bool = False,
) -> Write:
    """What a thread's record shows once a run is over.

    Args:
        resting: its status while no run is on it.
        interrupts: None leaves them.
        busy: another run is waiting already.
    """
    return Write(
        """
        UPDATE greenroom.threads SET status = %(status)s, resting = %(resting)s, error = %(error)s,
            interrupts = coalesce(%(interrupts)s::json, interrupts), ever_ran = true,
            updated_at = clock_timestamp()
        WHERE thread_id = %(thread)s""",
        {
            "thread": thread_id,
            "status": ThreadStatus.BUSY if busy else resting,
            "resting": resting,
            "interrupts": interrupts.decode() if interrupts is not None else None,
            "error": error.decode() if error is not None else None,
        },
    )


def leave_thread(thread_id: str) -> Write:
    """The thread of a stateless run goes with the run's end. What the run has left on it stays for
    whoever waits for the outcome, until `delete_remains`."""
    return Write(
        "DELETE FROM greenroom.threads WHERE thread_id = %(thread)s", {"thread": thread_id}
    )


def calm_thread(thread_id: str) -> Write:
    """A thread whose pending run was dropped is as it was before."""
    return Write(
        """
        UPDATE greenroom.threads SET status = resting, updated_at = clock_timestamp()
        WHERE thread_id = %(thread)s""",
        {"thread": thread_id},
    )


def calm_abandoned(shard: Shard = WHOLE) -> Write:
    """At a registry's start: no thread is ``busy`` without a run, whatever was half done."""
    return Write(
        f"""
        UPDATE greenroom.threads t SET updated_at = clock_timestamp(), status = resting
        WHERE status = 'busy' AND {is_of(shard)} AND NOT EXISTS (
            SELECT 1 FROM greenroom.runs r
            WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))""",
        {},
    )


def delete_run(run_id: str) -> tuple[Write, Write]:
    """The run's record and its durable events."""
    return (
        Write("DELETE FROM greenroom.run_events WHERE run_id = %(run)s", {"run": run_id}),
        Write("DELETE FROM greenroom.runs WHERE run_id = %(run)s", {"run": run_id}),
    )


def keep_heads(run_id: str) -> Write:
    """At the start of a run that resumes: copies what it may write onto, for a rollback."""
    return Write(
        """
        SELECT greenroom.save_heads(run_id, thread_id,
            kwargs->'config'->'configurable'->>'checkpoint_id')
        FROM greenroom.runs WHERE run_id = %(run)s AND resumes""",
        {"run": run_id},
    )


def newest_graph(thread_id: str) -> Write:
    """The graph of the thread's newest run that was executed: ``(graph_id,)``, or no row."""
    return Write(
        """
        SELECT graph_id FROM greenroom.runs WHERE thread_id = %(thread)s AND attempt > 0
        ORDER BY admitted DESC LIMIT 1""",
        {"thread": thread_id},
    )


def delete_thread(thread_id: str) -> Write:
    """Everything of a thread: events, runs, record and checkpoints. Gives ``(is_gone,)``.

    Of a thread that is larger than `SMALL_ROWS` and `SMALL_BYTES` only the record goes, and that
    the rest is to go is written down: ``is_gone`` is false, and `bulk.Bulk.delete_thread` does it.
    """
    return Write(
        "SELECT greenroom.delete_thread(%(thread)s, %(rows)s, %(bytes)s)",
        {"thread": thread_id, "rows": SMALL_ROWS, "bytes": SMALL_BYTES},
    )


def delete_remains(thread_id: str) -> Write:
    """What stateless runs have left on a thread that is gone; like `delete_thread`. A thread that
    somebody has made anew under the same id, or uses on, keeps everything."""
    return Write(
        """
        SELECT CASE WHEN EXISTS (SELECT 1 FROM greenroom.threads WHERE thread_id = %(thread)s)
            THEN true ELSE greenroom.delete_thread(%(thread)s, %(rows)s, %(bytes)s) END""",
        {"thread": thread_id, "rows": SMALL_ROWS, "bytes": SMALL_BYTES},
    )


# --- recovery ------------------------------------------------------------------------------------


async def next_generation(connection: Connection) -> int:
    """The generation of a start of a server: later than every one before, also where clocks are
    set back; and, another database being chosen, most likely than those of the one before."""
    cursor = await connection.execute(
        """
        UPDATE greenroom.registry SET starts = greatest(
            starts + 1, (extract(epoch FROM clock_timestamp()) * 1e9)::bigint)
        WHERE shard = 0 RETURNING starts"""
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["starts"]


async def take_epoch(connection: Connection, generation: int, shard: Shard = WHOLE) -> int:
    """Makes the caller the one registry that may write, of its shard and its generation.

    Raises:
        Superseded: there was one of a later generation, of whatever shard.
    """
    cursor = await connection.execute(
        "SELECT greenroom.take_epoch(%s, %s) AS epoch", (generation, shard.number)
    )
    row = await cursor.fetchone()
    if row is None or row["epoch"] is None:
        raise Superseded("A server that was started later uses this database.")
    return row["epoch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class InFlight(OfRun):
    """A run as the database knows it.

    Attributes:
        deaths: how often its process died.
        due_in_s: seconds until a delayed run is due; None or negative: it is.
    """

    facts: RunFacts
    status: RunStatus
    attempt: int
    deaths: int
    actor: str | None
    multitask_strategy: MultitaskStrategy
    stop: CancelAction | None
    due_in_s: float | None


_FACTS = (
    "run_id",
    "thread_id",
    "assistant_id",
    "graph_id",
    "temporary",
    "resumable",
    "resumes",
    "webhook",
)
_IN_FLIGHT = """
SELECT run_id::text, thread_id, assistant_id::text, graph_id, status, attempt, deaths, actor,
    temporary, resumable, resumes, webhook, multitask_strategy, stop,
    extract(epoch FROM due_at - clock_timestamp())::float8 AS due_in_s
FROM greenroom.runs"""


async def in_flight(connection: Connection, shard: Shard = WHOLE) -> list[InFlight]:
    """Every run of the shard's threads that is not over, in the order of admission."""
    cursor = await connection.execute(
        f"{_IN_FLIGHT} WHERE status IN ('pending', 'running') AND {is_of(shard)} ORDER BY admitted"
    )
    return [_found(row) for row in await cursor.fetchall()]


async def abandoned_threads(connection: Connection, shard: Shard = WHOLE) -> list[str]:
    """The ids of the shard's threads that went with their stateless run, and left something."""
    cursor = await connection.execute(
        f"""
        SELECT DISTINCT thread_id FROM greenroom.runs r
        WHERE temporary AND status NOT IN ('pending', 'running') AND {is_of(shard)}
            AND NOT EXISTS (SELECT 1 FROM greenroom.threads t WHERE t.thread_id = r.thread_id)"""
    )
    return [row["thread_id"] for row in await cursor.fetchall()]


async def find_run(connection: Connection, run_id: str) -> InFlight | None:
    """One run, over or not."""
    cursor = await connection.execute(f"{_IN_FLIGHT} WHERE run_id = %s", (run_id,))
    row = await cursor.fetchone()
    return _found(row) if row is not None else None


async def was_cancel_heard(connection: Connection, name: str) -> bool:
    """Whether `note_cancel` was written."""
    cursor = await connection.execute("SELECT 1 FROM greenroom.cancels WHERE name = %s", (name,))
    return await cursor.fetchone() is not None


def _found(row: dict[str, Any]) -> InFlight:
    facts = RunFacts(**{name: row.pop(name) for name in _FACTS})
    return InFlight(**{**row, "facts": facts, "status": RunStatus(row["status"])})


# --- what actors write ---------------------------------------------------------------------------


async def store_values(
    pool: Pool, thread_id: str, values: bytes | None, *, held: tuple[int, int] | None = None
) -> None:
    """The thread's values after a change that the registry keeps runs away from.

    Args:
        held: the epoch of the registry that does, and its shard's number. Once it was superseded
            nobody keeps runs away any more, and these values may be older than a run's.

    Raises:
        Superseded: it was; nothing was written.
    """
    text = values.decode() if values is not None else None
    facets = facets_of(values) if values is not None else {}
    try:
        # A pipeline without a BEGIN is one transaction.
        async with pool.connection() as connection, connection.pipeline():
            if held is not None:
                await connection.execute("SELECT greenroom.hold_epoch(%s, %s)", held)
            await connection.execute(_STORE_VALUES, (text, Jsonb(facets), thread_id))
    except psycopg.Error as error:
        if error.sqlstate == EPOCH_SUPERSEDED:
            raise Superseded("The registry that asked for this was superseded.") from None
        raise


_STORE_VALUES = """
UPDATE greenroom.threads SET "values" = %s, facets = %s, state_updated_at = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE thread_id = %s"""
