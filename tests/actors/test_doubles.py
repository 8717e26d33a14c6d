"""The double of the way between actors loses, repeats and delays as it is told."""

from __future__ import annotations

import asyncio

import pytest

from actors.common.placement import PoolSpec
from greenroom.core.errors import Unreachable
from tests.actors.doubles import BOUND_S, Cluster, until

SPEC = PoolSpec(graphs=("g",), version="v", runs_per_actor=1)


class Registry:
    """Counts what it executed."""

    def __init__(self) -> None:
        self.executed = 0

    async def count(self) -> int:
        self.executed += 1
        return self.executed


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def cluster(registry: Registry) -> Cluster:
    cluster = Cluster()
    cluster.add("run-1", SPEC)
    cluster.serve("registry", registry)
    return cluster


@pytest.mark.parametrize("executed", [True, False])
async def test_a_lost_call_was_executed_or_not(
    cluster: Cluster, registry: Registry, executed: bool
) -> None:
    cluster.lose("count", executed=executed)
    with pytest.raises(Unreachable):
        await cluster.call("registry", "count")
    assert registry.executed == int(executed)
    assert await cluster.ask("registry", "count") == 1 + int(executed)


async def test_who_asks_again_is_answered_in_the_end(cluster: Cluster, registry: Registry) -> None:
    cluster.lose("count", times=2, executed=True)
    assert await cluster.ask("registry", "count") == 3


async def test_a_repeated_call_is_executed_twice(cluster: Cluster, registry: Registry) -> None:
    cluster.repeat("count")
    assert await cluster.call("registry", "count") == 2
    assert await cluster.call("registry", "count") == 3


async def test_a_late_answer_waits_for_its_gate(cluster: Cluster, registry: Registry) -> None:
    gate = cluster.delay("count")
    late = asyncio.create_task(cluster.call("registry", "count"))
    await until(lambda: registry.executed)
    assert await cluster.call("registry", "count") == 2
    assert not late.done()
    gate.set()
    assert await asyncio.wait_for(late, BOUND_S) == 1


async def test_calls_of_actors_misbehave_too(cluster: Cluster) -> None:
    cluster.lose("beat", executed=True)
    with pytest.raises(Unreachable):
        await cluster.call("run-1", "beat", 1)
    assert cluster.actors["run-1"].beats == 1


async def test_what_happens_at_random_happens_again_with_the_same_seed() -> None:
    seen: list[list[tuple[str, str]]] = []
    for _ in range(2):
        registry, cluster = Registry(), Cluster()
        cluster.serve("registry", registry)
        cluster.misbehave(seed=7, share=0.5)
        for _ in range(50):
            await cluster.ask("registry", "count")
        assert {kind for _, kind in cluster.happened} == {"lost", "unanswered", "twice", "late"}
        seen.append(cluster.happened)
    assert seen[0] == seen[1]
