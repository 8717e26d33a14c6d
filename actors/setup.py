"""What an actor is told when it is made: plain records, importable without LangGraph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.pool import PoolSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RunActorSetup:
    """What a run actor needs to know.

    Attributes:
        name: its Ray name; also in ``application_name`` of its database connections.
        dsn: the database.
        config_path: the configuration file, on this node.
        spec: its placement; ``spec.graphs`` are the graphs that it loads.
        timeouts_s: per graph, how long a run may take; a graph that is not named may take for ever.
        log_max_bytes: encoded events that one run keeps in memory.
        registry_silence_s: without a word from a registry for so long, the actor ends itself.
    """

    name: str
    namespace: str
    dsn: str
    config_path: Path
    spec: PoolSpec
    timeouts_s: dict[str, float]
    log_max_bytes: int
    registry_silence_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySetup:
    """What a registry needs to know.

    Attributes:
        dsn: the database.
        config_path: the configuration file, on the registry's node.
        default_max_actors: for placements that name no bound.
        cancel_grace_s: what a cancelled run gets to stop by itself.
        max_queued_runs: pending runs of the whole server, or None for no limit.
        resumable_ttl_s: how long the durable events of a finished run are kept.
    """

    namespace: str
    dsn: str
    config_path: Path
    default_max_actors: int
    cancel_grace_s: float
    registry_silence_s: float
    log_max_bytes: int
    max_queued_runs: int | None
    resumable_ttl_s: float
