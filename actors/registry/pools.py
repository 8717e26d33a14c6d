"""The pools of a registry: by graph, and by actor; what each graph's runs may take."""

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
"""How long an actor that nobody needs stays."""
GROW_PATIENCE_S = 0.5
"""How long runs must have waited before a pool starts more actors than there are CPUs."""


class ActorPools:
    """The pool of each graph; graphs with the same placement share one.

    Attributes:
        timeouts_s: by graph, how long an attempt may take; graphs without a bound are missing.
    """

    def __init__(self, configuration: Configuration, setup: RegistrySetup) -> None:
        self._setup = setup
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
        """Adds a graph, with actors of its own, unless it is known.

        They are kept warm until nobody has used the graph for `IDLE_S`.
        """
        if self.knows(graph.graph_id):
            return
        if graph.placement.timeout_s:
            self.timeouts_s[graph.graph_id] = graph.placement.timeout_s
        self._max_attempts[graph.graph_id] = graph.placement.max_attempts
        spec = pool_spec(graph.placement, self._setup)
        # Clients choose the names: not each is worth a process for ever, and one at every start.
        self._pools[graph.graph_id] = ActorPool(
            dataclasses.replace(spec, graphs=(graph.graph_id,)),
            patience_s=GROW_PATIENCE_S,
            eager_limit=eager_limit(self._setup),
            warm_for_s=IDLE_S,
        )

    def of_graph(self, graph_id: str) -> ActorPool:
        """The pool of a graph that is known."""
        return self._pools[graph_id]

    def with_spec(self, spec: PoolSpec) -> ActorPool | None:
        """The pool that an actor of this specification belongs to."""
        return next((pool for pool in self._pools.values() if pool.spec == spec), None)

    def timeout_s(self, graph_id: str) -> float:
        """How many seconds an attempt of the graph may take; 0: without a bound."""
        return self.timeouts_s.get(graph_id, 0.0)

    def max_attempts(self, graph_id: str) -> int:
        """How often a run of the graph is started when its process dies."""
        return self._max_attempts.get(graph_id, 1)

    @property
    def distinct(self) -> list[ActorPool]:
        """Every pool once."""
        return list({id(pool): pool for pool in self._pools.values()}.values())

    @property
    def has_failed_starts(self) -> bool:
        """Whether an actor did not start, and none of its pool has since."""
        return any(pool.failed_starts for pool in self.distinct)

    def is_cold(self, *, now_s: float) -> bool:
        """Whether a pool that is to be warm has no actor that is ready."""
        return any(pool.warm(now_s=now_s) and not pool.has_ready for pool in self.distinct)

    # --- actors --------------------------------------------------------------------------------

    @property
    def actors(self) -> list[str]:
        """The names of the actors of all pools, in whatever state."""
        return [*self._of_actor]

    def of_actor(self, name: str) -> ActorPool | None:
        """The pool of an actor that is not known to be dead."""
        return self._of_actor.get(name)

    def add_actor(self, name: str, pool: ActorPool) -> None:
        """An actor is about to be started, or was adopted."""
        self._of_actor[name] = pool

    def remove_actor(self, name: str) -> ActorPool | None:
        """Forgets an actor; the pool that it was in."""
        return self._of_actor.pop(name, None)

    # --- figures -------------------------------------------------------------------------------

    def counts(self, pids: dict[str, int]) -> dict[str, Any]:
        """Actors and slots, for `info`.

        Args:
            pids: of actors, as far as known.
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
