"""Replaces the actors of a registry when the code of the graphs has changed (`greenroom dev`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.calls.names import new_run_actor_name
from actors.common.placement import PoolSpec
from actors.registry.inspecting import Inspectors
from actors.registry.pool import Renewal
from actors.registry.pools import ActorPools
from actors.registry.starting import Starter
from greenroom.core.sharding import Shard

LOOK_S = 0.02


class Renewals:
    """The renewal of all actors, and processes that wait for the next one.

    Attributes:
        spares: the names of these processes. They have loaded all but the graphs, and loading the
            graphs takes a fraction of the time that a process takes.
    """

    def __init__(self, pools: ActorPools, starter: Starter, shard: Shard) -> None:
        self._pools = pools
        self._starter = starter
        self._shard = shard
        self.spares: dict[PoolSpec, str] = {}

    async def begin(self, wake: Callable[[], None]) -> bool:
        """Has all actors replaced; waits for the first new one of each pool.

        Runs that are under way end on the old ones. A pool whose new actor does not start keeps
        its old ones, so the old code goes on.

        Args:
            wake: makes the pools look for the actors that they want.

        Returns:
            whether all pools have a new one.
        """
        pools = self._pools.distinct
        for pool in pools:
            pool.renew()
        wake()
        while any(pool.renewal is Renewal.UNDER_WAY for pool in pools):  # noqa: ASYNC110 - of pools
            await asyncio.sleep(LOOK_S)
        return not any(pool.renewal is Renewal.FAILED for pool in pools)

    async def end(self, inspectors: Inspectors | None) -> None:
        """Does what runs do not wait for."""
        if inspectors is not None:
            await inspectors.renew()
        await self.make_spares()

    async def make_spares(self) -> None:
        """Makes a process for the next renewal of each pool that has none."""
        for pool in self._pools.distinct:
            if pool.spec in self.spares or pool.spec.is_scarce:
                continue
            name = self.spares[pool.spec] = new_run_actor_name(self._shard.number)
            await self._starter.make_spare(name, pool.spec)
