"""How a start finds the registries that are there, replaces older ones, makes what is missing."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, cast

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.calls.names import registry_name
from actors.common.setup import RegistrySetup
from actors.registries import find_registries
from greenroom.core.sharding import Shard
from tests.actors.doubles import BOUND_S, Method, setup_of


class Registry:
    """A registry that only says who it is."""

    def __init__(self, setup: RegistrySetup) -> None:
        self.setup = setup
        self.drained = False
        self.dead = False
        self.hello = Method(self._hello)
        self.drain = Method(self._drain)

    async def _hello(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.dead:
            raise ActorGone("registry")
        setup = self.setup
        return {
            "version": setup.version,
            "generation": setup.generation,
            "shards": setup.shard.of,
            "pid": 1,
        }

    async def _drain(self, wait_s: float, *, relieved: bool) -> int:
        self.drained = relieved
        return 0


class Cluster:
    """The registries that are alive, by name."""

    def __init__(self, *setups: RegistrySetup) -> None:
        self.living = {registry_name(each.shard.number): Registry(each) for each in setups}
        self.killed: list[str] = []

    @property
    def generations(self) -> dict[str, int]:
        return {name: each.setup.generation for name, each in self.living.items()}


class OneHandles:
    """`Handles` of one process: a handle stays its actor's, whoever has the name later."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.known: dict[str, Registry] = {}

    def names(self) -> list[str]:
        return ["inspector-1", *self.cluster.living, "run-1"]

    def make_registry(self, setup: RegistrySetup) -> Registry:
        name = registry_name(setup.shard.number)
        self.known[name] = self.cluster.living.setdefault(name, Registry(setup))
        return self.known[name]

    async def find(self, name: str) -> Registry:
        if name not in self.known:
            if name not in self.cluster.living:
                raise ActorGone(name)
            self.known[name] = self.cluster.living[name]
        return self.known[name]

    def forget(self, name: str) -> None:
        self.known.pop(name, None)

    def kill(self, name: str) -> None:
        registry = self.known.pop(name)
        assert registry.drained
        if not registry.dead:
            registry.dead = True
            self.cluster.killed.append(name)
            del self.cluster.living[name]


def start(version: str, generation: int, shards: int) -> RegistrySetup:
    return setup_of(version=version, generation=generation, shard=Shard(0, shards))


async def found(cluster: Cluster, setup: RegistrySetup) -> dict[str, Any]:
    async with asyncio.timeout(BOUND_S):
        return await find_registries(
            cast(Handles, OneHandles(cluster)), setup, cast(Any, OneHandles.make_registry)
        )


async def test_all_are_made_where_there_are_none() -> None:
    cluster = Cluster()
    assert (await found(cluster, start("v/3", 1, 3)))["shards"] == 3
    assert cluster.generations == {"registry": 1, "registry-1": 1, "registry-2": 1}


async def test_older_ones_are_drained_and_ended_the_first_one_last() -> None:
    cluster = Cluster(*start("v/3", 1, 3).shards())
    assert (await found(cluster, start("v/2", 2, 2)))["shards"] == 2
    assert cluster.killed == ["registry-2", "registry-1", "registry"]
    assert cluster.generations == {"registry": 2, "registry-1": 2}


async def test_many_gateways_at_once_replace_them_once() -> None:
    cluster = Cluster(*start("v", 1, 1).shards())
    later = start("v/4", 2, 4)
    hellos = await asyncio.gather(*(found(cluster, later) for _ in range(3)))
    assert [hello["generation"] for hello in hellos] == [2, 2, 2]
    assert cluster.killed == ["registry"]
    assert len(cluster.living) == 4


async def test_what_is_missing_is_made_of_the_generation_that_is_there() -> None:
    """Of its own it would end the epochs of the others."""
    cluster = Cluster(*start("v/3", 1, 3).shards()[:2])
    await found(cluster, start("v/3", 2, 3))
    assert cluster.generations == {"registry": 1, "registry-1": 1, "registry-2": 1}
    assert cluster.killed == []


async def test_one_that_was_left_of_an_older_start_is_replaced_too() -> None:
    left = dataclasses.replace(start("v/2", 1, 2), shard=Shard(1, 2))
    cluster = Cluster(start("v/3", 2, 3), left)
    await found(cluster, start("v/3", 2, 3))
    assert cluster.killed == ["registry-1"]
    assert cluster.generations == {"registry": 2, "registry-1": 2, "registry-2": 2}


async def test_an_older_start_leaves_a_later_one_alone() -> None:
    cluster = Cluster(*start("v/2", 2, 2).shards())
    assert (await found(cluster, start("v/4", 1, 4)))["shards"] == 2
    assert cluster.killed == []
    assert set(cluster.living) == {"registry", "registry-1"}
