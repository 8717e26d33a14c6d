"""Deletes expired data at intervals, in small batches.

Each registry deletes the expired threads of its shard, and keeps runs off them meanwhile. The first
registry also deletes old rows that no other row refers to. The event loop is free between batches.
A sweep is bounded; the next one continues with the rest.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

import psycopg

from actors.common import metrics
from actors.common.metering import Meter
from actors.common.setup import RegistrySetup
from actors.registry.assistant_deletions import AssistantDeletions
from actors.registry.thread_operations import ThreadOperations
from greenroom.core.errors import DatabaseUnavailable, GreenroomError
from greenroom.core.idempotency import KEPT_S
from greenroom.persistence import (
    assistant_deletions,
    logged_runs,
    migrations,
    outbox,
    tails,
    upkeep,
)
from greenroom.persistence.database import Pool
from greenroom.persistence.records import delete_expired_items
from greenroom.persistence.sweep_positions import SweepPositions

log = logging.getLogger("greenroom.sweeping")

BATCH = 100
MAX_BATCHES = 100
SAVED_HEADS_KEPT_S = 3600.0
WEBHOOKS_KEPT_S = 3600.0
"""The least: within it an end may be announced again."""
CANCELS_KEPT_S = 3600.0
OVERLAP_S = 120.0
"""The time stamp of a run's end is earlier than its commit, by up to a transaction's duration."""


class Sweeper:
    """Sweeps at intervals.

    Args:
        pool: connections to the database.
        setup: the registry's set-up.
        operations: deletes and prunes threads, and continues unfinished operations.
        assistant_deletions: continues unfinished deletions of assistants.
        meter: counts what was freed.
    """

    def __init__(
        self,
        pool: Pool,
        setup: RegistrySetup,
        operations: ThreadOperations,
        assistant_deletions: AssistantDeletions,
        meter: Meter,
    ) -> None:
        self._pool = pool
        self._meter = meter
        self._setup = setup
        self._operations = operations
        self._assistant_deletions = assistant_deletions
        self._is_finished = False
        self._items_swept_s = -math.inf
        self._threads_swept_s = -math.inf
        self._complete_s: float | None = None
        """The start of the last sweep for threads that left none; the first one looks at all."""
        self._positions: SweepPositions | None = None
        self._trimmed_s: float | None = None
        """The start of the last complete sweep for logs that are too large."""

    async def keep(self) -> None:
        """Sweeps at each interval; never ends."""
        while True:
            await asyncio.sleep(self._setup.sweep_interval_s)
            try:
                await self.sweep()
            except (DatabaseUnavailable, psycopg.Error) as error:
                log.warning("not swept this time", extra={"reason": str(error)[:200]})

    async def sweep(self) -> None:
        """Performs one sweep over this registry's share of the data.

        Raises:
            DatabaseUnavailable, psycopg.Error: the database fails.
        """
        await self._operations.sweep()
        await self._assistant_deletions.sweep()
        await self._end_threads()
        if not self._setup.shard.is_first:
            return
        await self._finish_migrations()
        begun_s = time.monotonic()
        await self._sweep_ended(
            "events",
            self._setup.resumable_ttl_s,
            lambda ttl_s, within_s: tails.delete_expired(
                self._pool, ttl_s, max_runs=BATCH, within_s=within_s
            ),
        )
        await self._sweep_ended(
            "logs",
            self._log_ttl_s,
            lambda ttl_s, within_s: tails.delete_expired(
                self._pool, ttl_s, max_runs=BATCH, within_s=within_s, logged=True
            ),
        )
        await self._trim_logs()
        await self._sweep_ended("heads", SAVED_HEADS_KEPT_S, self._delete_heads)
        webhooks_kept_s = max(WEBHOOKS_KEPT_S, self._setup.webhooks.kept_s)
        await _in_batches(
            lambda: outbox.delete_finished(self._pool, webhooks_kept_s, max_rows=BATCH)
        )
        await _in_batches(lambda: assistant_deletions.delete_finished(self._pool, max_rows=BATCH))

        await _in_batches(
            lambda: upkeep.delete_heard_cancels(self._pool, CANCELS_KEPT_S, max_rows=BATCH)
        )

        await _in_batches(lambda: upkeep.delete_old_keys(self._pool, KEPT_S, max_rows=BATCH))
        await _in_batches(lambda: upkeep.delete_old_usage(self._pool, max_rows=BATCH))

        if time.monotonic() - self._items_swept_s >= self._setup.item_sweep_s:
            left = await _in_batches(lambda: delete_expired_items(self._pool, max_rows=BATCH))
            if not left:
                self._items_swept_s = begun_s

    async def _sweep_ended(
        self, kind: str, ttl_s: float, delete: Callable[[float, float | None], Awaitable[int]]
    ) -> None:
        """Deletes what runs have left that ended more than ``ttl_s`` seconds ago.

        It looks only at runs that ended since the last complete sweep of the kind, which the
        database knows beyond a restart (less `OVERLAP_S`); without one, at all that have left
        something.

        Args:
            delete: one batch, given ``ttl_s`` and how many seconds before that runs ended.
        """
        if self._positions is None:
            self._positions = await SweepPositions.stored(self._pool)
        positions, due_s = self._positions, time.monotonic() - ttl_s
        within_s = _since(positions.of(kind), due_s)
        if not await _in_batches(lambda: delete(ttl_s, within_s)):
            await positions.advance(kind, due_s)

    async def _delete_heads(self, ttl_s: float, within_s: float | None) -> int:
        deleted = await upkeep.delete_saved_heads(
            self._pool, ttl_s, max_runs=BATCH, within_s=within_s
        )
        return 0 if within_s is None else deleted  # without it none is left

    async def _trim_logs(self) -> None:
        begun_s = time.monotonic()
        since_s = self._trimmed_s
        within_s = self._log_ttl_s if since_s is None else begun_s - since_s + OVERLAP_S
        left = await _in_batches(
            lambda: logged_runs.trim(
                self._pool, self._setup.event_log_max_bytes, within_s=within_s, max_runs=BATCH
            )
        )
        if not left:
            self._trimmed_s = begun_s

    @property
    def _log_ttl_s(self) -> float:
        # A run of a log can also be joined like any other resumable run.
        return max(self._setup.event_log_ttl_s, self._setup.resumable_ttl_s)

    async def _finish_migrations(self) -> None:
        """Finishes migrations: drops the parts of the schema that only older versions need, once no
        older server is left."""
        if self._is_finished:
            return
        self._is_finished = await migrations.is_finished(self._pool)
        if not self._is_finished and await migrations.is_alone(self._pool, self._setup.generation):
            await migrations.finish(self._setup.dsn)

    async def _end_threads(self) -> None:
        """Deletes or prunes the expired threads, up to the limit of one sweep."""
        begun_s, left = time.monotonic(), self._setup.thread_sweep_limit
        if begun_s - self._threads_swept_s < self._setup.thread_sweep_s:
            return
        ttl_s, shard = self._setup.thread_ttl_s, self._setup.shard
        within_s = _since(self._complete_s, begun_s)
        while left > 0:
            batch = min(BATCH, left)
            expired = await upkeep.expired_threads(
                self._pool, ttl_s, limit=batch, shard=shard, within_s=within_s
            )
            if not expired:
                self._complete_s = begun_s
            ended = 0
            for thread in expired:
                try:
                    ended += await self._end_thread(thread)
                except GreenroomError as error:  # the thread is in use: the next sweep tries again
                    log.debug("thread not swept", extra={"reason": str(error)})
            left -= ended
            if ended < batch:
                break
        self._threads_swept_s = begun_s

    async def _end_thread(self, thread: upkeep.Expired) -> bool:
        """Deletes or prunes one thread; returns whether it was still expired."""
        before = await upkeep.size_of(self._pool, thread.thread_id)
        if thread.strategy == "delete":
            done = await self._operations.delete_expired(thread.thread_id)
            outcome, after = "deleted" if done else None, upkeep.Size(0, 0)
        else:
            outcome = await self._operations.prune_expired(thread.thread_id)
            after = await upkeep.size_of(self._pool, thread.thread_id)
        if outcome is None:
            return False
        self._meter.count(metrics.SWEPT_THREADS, outcome)
        if outcome != "refused":
            freed = max(0, before.checkpoints - after.checkpoints)
            self._meter.count(metrics.FREED_CHECKPOINTS, outcome, by=freed)
            self._meter.count(metrics.FREED_BYTES, outcome, by=max(0, before.bytes - after.bytes))
        return True


def _since(position_s: float | None, due_s: float) -> float | None:
    """Returns how many seconds before ``due_s`` a sweep begins; None for one that looks at all."""
    return None if position_s is None else max(0.0, due_s - position_s) + OVERLAP_S


async def _in_batches(step: Callable[[], Awaitable[int]]) -> bool:
    """Repeats a step while it finds a full batch, at most `MAX_BATCHES` times; returns whether more
    rows may be left."""
    for _ in range(MAX_BATCHES):
        if await step() < BATCH:
            return False
    return True
