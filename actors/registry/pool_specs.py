"""The specifications of a configuration's pools."""

from __future__ import annotations

import dataclasses
import os

from actors.common.placement import HEAD, HEAD_SHARE, PoolSpec
from actors.common.setup import RegistrySetup
from greenroom.graphs.configuration import Configuration, PlacementSpec


def pool_specs(configuration: Configuration, setup: RegistrySetup) -> list[PoolSpec]:
    """Returns the specification of each pool; graphs with the same placement share one."""
    graphs_of: dict[PoolSpec, list[str]] = {}
    for graph in configuration.graphs.values():
        graphs_of.setdefault(pool_spec(graph.placement, setup), []).append(graph.graph_id)
    return [
        dataclasses.replace(spec, graphs=tuple(graph_ids)) for spec, graph_ids in graphs_of.items()
    ]


def pool_spec(placement: PlacementSpec, setup: RegistrySetup) -> PoolSpec:
    """Returns the specification of a placement's pool, without its graphs."""
    # An embedded database is on the head node and answers this node only.
    beside = {HEAD: HEAD_SHARE} if setup.embedded is not None else {}
    return PoolSpec(
        graphs=(),
        version=setup.version,
        runs_per_actor=placement.runs_per_actor,
        overflow=placement.overflow,
        warm=setup.shard.share(placement.warm),
        max_actors=setup.shard.share(placement.max_actors or setup.default_max_actors),
        num_cpus=placement.num_cpus,
        num_gpus=placement.num_gpus,
        resources=tuple(sorted({**placement.resources, **beside}.items())),
        accelerator_type=placement.accelerator_type,
        labels=tuple(sorted(placement.labels.items())),
        memory_mib=placement.memory_mib,
        max_runs=placement.max_runs_per_actor_life,
    )


def inspector_spec(graphs: tuple[str, ...], setup: RegistrySetup) -> PoolSpec:
    """Returns the specification of an inspector: it loads the given graphs, on the head node."""
    return PoolSpec(
        graphs=graphs,
        version=setup.version,
        runs_per_actor=8,
        resources=((HEAD, HEAD_SHARE),),
    )


def eager_limit(setup: RegistrySetup) -> int:
    """Returns `ActorPool`'s eager limit: this registry's share of one actor per CPU; 0 on a
    cluster, whose number of CPUs is unknown."""
    return setup.shard.share(os.cpu_count() or 1) if setup.max_starts else 0
