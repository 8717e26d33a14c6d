"""Deletes what nobody needs any more, now and then, in small batches.

Expired threads go through their registry, which keeps runs away meanwhile; the rest is rows that
nothing refers to, and of several registries the first one's. Batches follow one another with the
loop free in between, and every interval begins anew: what one sweep leaves, the next one finds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import psycopg

from actors.common.setup import RegistrySetup
from actors.registry.thread_operations import ThreadOperations
from greenroom.core.errors import DatabaseUnavailable, GreenroomError
from greenroom.persistence import migrations, outbox, tails, upkeep
from greenroom.persistence.database import Pool

log = logging.getLogger("greenroom.sweeping")

BATCH = 100
MAX_BATCHES = 100
SAVED_HEADS_KEPT_S = 3600.0
WEBHOOKS_KEPT_S = 86_400.0
CANCELS_KEPT_S = 3600.0
OVERLAP_S = 120.0
"""A run's end is stamped before it is committed, by up to the time that a transaction may take."""


class Sweeper:
    """Sweeps at intervals.

    Args:
        operations: delete threads, and go on with what is half done.
    """

    def __init__(self, pool: Pool, setup: RegistrySetup, operations: ThreadOperations) -> None:
        self._pool = pool
        self._setup = setup
        self._operations = operations
        self._is_finished = False
        self._swept_s: float | None = None
        """Since when only what has ended lately is looked at; at the start, at everything."""

    async def keep(self) -> None:
        """Never ends."""
        while True:
            await asyncio.sleep(self._setup.sweep_interval_s)
            try:
                await self.sweep()
            except (DatabaseUnavailable, psycopg.Error) as error:
                log.warning("not swept this time", extra={"reason": str(error)[:200]})

    async def sweep(self) -> None:
        """One sweep over everything that is this registry's."""
        await self._operations.sweep()
        await _in_batches(self._delete_threads)
        if not self._setup.shard.is_first:
            return
        await self._finish_migrations()
        begun_s = time.monotonic()
        within_s = begun_s - self._swept_s + OVERLAP_S if self._swept_s is not None else None
        tails_left = await _in_batches(
            lambda: tails.delete_expired(
                self._pool, self._setup.resumable_ttl_s, max_runs=BATCH, within_s=within_s
            )
        )
        heads_left = await _in_batches(
            lambda: upkeep.delete_saved_heads(
                self._pool, SAVED_HEADS_KEPT_S, max_runs=BATCH, within_s=within_s
            )
        )
        if not tails_left and not heads_left:
            self._swept_s = begun_s
        await _in_batches(
            lambda: outbox.delete_finished(self._pool, WEBHOOKS_KEPT_S, max_rows=BATCH)
        )

        await _in_batches(
            lambda: upkeep.delete_heard_cancels(self._pool, CANCELS_KEPT_S, max_rows=BATCH)
        )

    async def _finish_migrations(self) -> None:
        """Takes away what older versions needed, once nobody of an older server is left."""
        if self._is_finished:
            return
        self._is_finished = await migrations.is_finished(self._pool)
        if not self._is_finished and await migrations.is_alone(self._pool, self._setup.generation):
            await migrations.finish(self._setup.dsn)

    async def _delete_threads(self) -> int:
        """Deletes one batch of expired threads; returns how many are gone."""
        expired = await upkeep.expired_threads(
            self._pool, self._setup.thread_ttl_s, limit=BATCH, shard=self._setup.shard
        )
        deleted = 0
        for thread_id in expired:
            try:
                deleted += await self._operations.delete_expired(thread_id)
            except GreenroomError as error:  # in use again, or by another request: another time
                log.debug("thread not deleted", extra={"reason": str(error)})
        return deleted


async def _in_batches(step: Callable[[], Awaitable[int]]) -> bool:
    """Repeats a step while it finds a full batch, within bounds; says whether more may be left."""
    for _ in range(MAX_BATCHES):
        if await step() < BATCH:
            return False
    return True
