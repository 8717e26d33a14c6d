"""How many CPUs and how much memory a local Ray hands out: bookkeeping, so that all actors fit."""

from __future__ import annotations

import os

from greenroom.core.units import MIB
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.placements import PlacementSpec
from greenroom.settings import Settings

APPLICATION_CPUS = 8
"""What a local Ray hands out to each application of the configuration: bookkeeping, too."""
SHIPPED_CPUS = 64
"""For the actors of graphs that are not known at the start; bookkeeping, like the others."""


def _most_actors(placement: PlacementSpec, settings: Settings) -> int:
    """One for each registry is more than a placement allows that allows fewer."""
    return max(placement.max_actors or settings.default_max_actors, settings.registry_shards)


def logical_cpus(configuration: Configuration, settings: Settings) -> int:
    """CPUs that a local Ray hands out: bookkeeping, enough for every actor that may be started."""
    wanted = sum(
        _most_actors(graph.placement, settings) * graph.placement.num_cpus
        for graph in configuration.graphs.values()
    )
    beside = APPLICATION_CPUS * len(configuration.applications)
    shipped = SHIPPED_CPUS if configuration.shipped_graphs else 0
    return max(os.cpu_count() or 1, int(wanted) + 4 + beside) + shipped


def logical_memory(configuration: Configuration, settings: Settings) -> int | None:
    """Bytes of memory that a local Ray hands out, likewise; None where no graph asks for any."""
    wanted_mib = sum(
        _most_actors(graph.placement, settings) * graph.placement.memory_mib
        for graph in configuration.graphs.values()
    )
    return wanted_mib * MIB or None
