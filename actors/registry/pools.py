"""The pools of a registry, by graph and by actor; the time-outs and attempts of each graph."""

from __future__ import annotations

import dataclasses
from typing import Any

from actors.common import metrics
from actors.common.metering import Labels, Meter
from actors.common.placement import PoolSpec
from actors.common.setup import RegistrySetup
from actors.registry.pool import ActorPool
from actors.registry.pool_specs import eager_limit, pool_spec, pool_specs
from greenroom.graphs.configuration import Configuration, GraphSpec

IDLE_S = 60.0
"""How long a surplus actor stays idle before it is stopped."""
GROW_PATIENCE_S = 0.5
"""How long actors must be missing before a pool starts more (`ActorPool`)."""


class ActorPools:
    """The pool of each graph; graphs with the same placement share one.

    Attributes:
        timeouts_s: the time-out of an attempt in seconds, by graph; an absent graph has none.
        problem: why the last actor that did not start did not; empty for none.
    """

    def __init__(self, configuration: Configuration, setup: RegistrySetup) -> None:
        self._setup = setup
        self.problem = ""
        self.timeouts_s = {
            graph_id: graph.placement.timeout_s
            for graph_id, graph in configuration.graphs.items()
            if graph.placement.timeout_s
        }
        self._max_attempts = {
            graph_id: graph.placement.max_attempts
            for graph_id, graph in configuration.graphs.items()
        }
        eager = eager_limit(setup)
        self._pools = {
            graph_id: pool
            for spec in pool_specs(configuration, setup)
            for pool in [ActorPool(spec, patience_s=GROW_PATIENCE_S, eager_limit=eager)]
            for graph_id in spec.graphs
        }
        self._of_actor: dict[str, ActorPool] = {}

    # --- graphs --------------------------------------------------------------------------------

    def knows(self, graph_id: str) -> bool:
        """Whether the graph is served."""
        return graph_id in self._pools

    def serve(self, graph: GraphSpec) -> None:
        """Adds a graph with its own pool, unless it is known.

        The pool keeps actors warm until the graph is unused for `IDLE_S`.
        """
        if self.knows(graph.graph_id):
            return
        if graph.placement.timeout_s:
            self.timeouts_s[graph.graph_id] = graph.placement.timeout_s
        self._max_attempts[graph.graph_id] = graph.placement.max_attempts
        spec = pool_spec(graph.placement, self._setup)
        # Clients choose the names, so not every graph deserves a process for ever.
        self._pools[graph.graph_id] = ActorPool(
            dataclasses.replace(spec, graphs=(graph.graph_id,)),
            patience_s=GROW_PATIENCE_S,
            eager_limit=eager_limit(self._setup),
            warm_for_s=IDLE_S,
        )

    def of_graph(self, graph_id: str) -> ActorPool:
        """Returns the pool of a known graph.

        Raises:
            KeyError: the graph is not known.
        """
        return self._pools[graph_id]

    def with_spec(self, spec: PoolSpec) -> ActorPool | None:
        """Returns the pool of a specification, or None."""
        return next((pool for pool in self._pools.values() if pool.spec == spec), None)

    def timeout_s(self, graph_id: str) -> float:
        """Returns the time-out of the graph's attempts in seconds; 0 for none."""
        return self.timeouts_s.get(graph_id, 0.0)

    def max_attempts(self, graph_id: str) -> int:
        """Returns the number of attempts that a run of the graph may have."""
        return self._max_attempts.get(graph_id, 1)

    @property
    def distinct(self) -> list[ActorPool]:
        """Every pool once."""
        return list({id(pool): pool for pool in self._pools.values()}.values())

    @property
    def has_failed_starts(self) -> bool:
        """Whether a pool has a failed start and no successful start since."""
        return any(pool.failed_starts for pool in self.distinct)

    def is_cold(self, *, now_s: float) -> bool:
        """Whether a pool that should be warm has no ready actor."""
        return any(pool.warm(now_s=now_s) and not pool.has_ready for pool in self.distinct)

    # --- actors --------------------------------------------------------------------------------

    @property
    def actors(self) -> list[str]:
        """The names of the actors of all pools, in any state."""
        return [*self._of_actor]

    def of_actor(self, name: str) -> ActorPool | None:
        """Returns the pool of an actor; None if the actor is dead or unknown."""
        return self._of_actor.get(name)

    def add_actor(self, name: str, pool: ActorPool) -> None:
        """Adds an actor that is about to start, or was adopted, to a pool."""
        self._of_actor[name] = pool

    def remove_actor(self, name: str) -> ActorPool | None:
        """Forgets an actor; returns its pool, or None."""
        return self._of_actor.pop(name, None)

    # --- figures -------------------------------------------------------------------------------

    def counts(self, pids: dict[str, int]) -> dict[str, Any]:
        """Returns the numbers of actors and slots, for `info`.

        Args:
            pids: the known process ids, by actor.
        """
        pools = self.distinct
        members = [member for pool in pools for member in pool.members.values()]
        return {
            "actors": len(members),
            "places": sum(pool.spec.max_actors * pool.spec.runs_per_actor for pool in pools),
            "waiting_for_a_place": sum(len(pool.waiting) for pool in pools),
            "pool": [
                {
                    "actor": member.name,
                    "pid": pids.get(member.name),
                    "state": str(member.state),
                    "runs": sorted(member.runs),
                }
                for member in members
            ],
        }

    def measure(self, meter: Meter) -> None:
        """Sets the gauges of the pools."""
        actors: dict[Labels, float] = {}
        for pool in self.distinct:
            for member in pool.members.values():
                labels = (pool.label, str(member.state))
                actors[labels] = actors.get(labels, 0) + 1
        meter.set(metrics.POOL_ACTORS, actors)
        for metric, value in (
            (metrics.POOL_FREE, lambda pool: pool.free_slots),
            (metrics.POOL_WAITING, lambda pool: len(pool.waiting)),
        ):
            values = {(pool.label,): value(pool) for pool in self.distinct}
            meter.set(metric, values)
