"""The logical CPUs and memory of a local Ray: bookkeeping only, enough for all actors to fit."""

from __future__ import annotations

import os

from greenroom.core.units import MIB
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.placements import PlacementSpec
from greenroom.settings import Settings

RAY_DIR_PREFIX = "gr-ray-"
"""How the directory of a local Ray begins, in the temporary directory."""
RAY_DIR_BELOW = "r"
"""Ray's own directory, with its logs, within that one. Short: it has paths of Unix sockets."""
APPLICATION_CPUS = 8
"""The logical CPUs for each application of the configuration."""
SHIPPED_CPUS = 64
"""The logical CPUs for the actors of shipped graphs, which are unknown at the start."""


def _most_actors(placement: PlacementSpec, settings: Settings) -> int:
    """Returns the most actors of a placement; each registry may have one, also above the limit.

    Where the code is reloaded, there are new actors and a spare process beside those that leave.
    """
    most = max(placement.max_actors or settings.default_max_actors, settings.registry_shards)
    return 2 * most + 1 if settings.reload else most


def logical_cpus(configuration: Configuration, settings: Settings) -> int:
    """Returns the logical CPUs of a local Ray: enough for every actor that may start."""
    wanted = sum(
        _most_actors(graph.placement, settings) * graph.placement.num_cpus
        for graph in configuration.graphs.values()
    )
    beside = APPLICATION_CPUS * len(configuration.applications)
    shipped = SHIPPED_CPUS if configuration.shipped_graphs else 0
    return max(os.cpu_count() or 1, int(wanted) + 4 + beside) + shipped


def logical_memory(configuration: Configuration, settings: Settings) -> int | None:
    """Returns the logical memory of a local Ray in bytes, enough for every actor that may start;
    None if no graph reserves memory."""
    wanted_mib = sum(
        _most_actors(graph.placement, settings) * graph.placement.memory_mib
        for graph in configuration.graphs.values()
    )
    return wanted_mib * MIB or None
