"""Replaces the actors of a registry when the code of the graphs has changed (`greenroom dev`).

renew ──> a new actor in each pool ──ready──> the old ones leave after their last run
                  └─not ready──> the old code goes on, and the caller is told why
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.calls.names import new_run_actor_name
from actors.common.placement import PoolSpec
from actors.common.tasks import Tasks
from actors.registry.inspecting import Inspectors
from actors.registry.pool import ActorPool, Renewal
from actors.registry.pools import ActorPools
from actors.registry.starting import Starter

LOOK_S = 0.02
"""The pause between two looks at the pools that are being renewed."""


class Renewals:
    """Replaces actors, and keeps a spare process for each pool.

    A spare has imported all but the graphs. Loading the graphs takes a fraction of the time that a
    process takes.

    Args:
        pools: the pools of the registry.
        starter: makes the spare processes.
        inspectors: the inspectors of the registry; None if another registry keeps them.
        tasks: runs what runs do not wait for.
        shard: the number of the registry.
        wake: has the pools' wishes performed.
    """

    def __init__(
        self,
        pools: ActorPools,
        starter: Starter,
        inspectors: Inspectors | None,
        tasks: Tasks,
        shard: int,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._pools = pools
        self._starter = starter
        self._inspectors = inspectors
        self._tasks = tasks
        self._shard = shard
        self._wake = wake
        self._spares: dict[PoolSpec, str] = {}

    @property
    def spares(self) -> list[str]:
        """The names of the spare processes."""
        return [*self._spares.values()]

    def take_spare(self, pool: ActorPool) -> str | None:
        """Returns a spare process for the first actor of changed code, which is none any more."""
        return self._spares.pop(pool.spec, None) if pool.renewal is Renewal.UNDER_WAY else None

    async def make_spares(self) -> None:
        """Makes the missing spare processes."""
        for pool in self._pools.distinct:
            if pool.spec not in self._spares and not pool.spec.is_scarce:
                name = self._spares[pool.spec] = new_run_actor_name(self._shard)
                await self._starter.make_spare(name, pool.spec)

    def renew_adopted(self) -> None:
        """Has adopted actors replaced: they may have loaded the code of any time."""
        for pool in self._pools.distinct:
            if pool.members:
                pool.renew()

    async def renew(self) -> list[str]:
        """Replaces all actors, and waits for the first new one of each pool.

        Returns:
            why one of them did not start. Its pool keeps its old ones.
        """
        pools = self._pools.distinct
        for pool in pools:
            pool.renew()
        self._wake()
        while any(pool.renewal is Renewal.UNDER_WAY for pool in pools):  # noqa: ASYNC110 - of pools
            await asyncio.sleep(LOOK_S)
        if any(pool.renewal is Renewal.FAILED for pool in pools):
            return [self._pools.problem]
        self._tasks.spawn(self._renew_the_rest())
        return []

    async def _renew_the_rest(self) -> None:
        if self._inspectors is not None:
            await self._inspectors.renew()
        await self.make_spares()
