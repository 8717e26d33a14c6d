"""What an actor is told when it is made: plain records, importable without LangGraph."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from actors.common.placement import PoolSpec
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.units import MIB
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.logs import LogSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RunActorSetup:
    """What a run actor needs to know.

    Attributes:
        name: its Ray name; also in ``application_name`` of its database connections.
        dsn: the database.
        config_path: the configuration file, on this node.
        configuration: what it says, if that need not be read where the actor runs.
        registry: the Ray name of the registry that it reports to.
        spec: its placement; ``spec.graphs`` are the graphs that it loads.
        timeouts_s: per graph, how long a run may take; a graph that is not named may take for ever.
        log_max_bytes: encoded events that one run keeps in memory.
        actor_log_max_bytes: those that all its runs keep together.
        registry_silence_s: without a word from a registry for so long, the actor ends itself.
        logs: what is logged, and where to; None leaves that to the process.
        faults: for tests.
    """

    name: str
    namespace: str
    dsn: str
    config_path: Path
    configuration: Configuration | None = None
    registry: str
    spec: PoolSpec
    timeouts_s: dict[str, float]
    log_max_bytes: int
    actor_log_max_bytes: int = 256 * MIB
    registry_silence_s: float
    logs: LogSettings | None = None
    faults: Faults = NO_FAULTS


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectorSetup:
    """What an inspector needs to know.

    Attributes:
        spec: ``spec.graphs`` are the graphs that it loads, ``spec.version`` is their code's.
        inspect_s: what a question may take.
        name, dsn, config_path, configuration, registry_silence_s, logs: as of a run actor.
    """

    name: str
    dsn: str
    config_path: Path
    configuration: Configuration | None = None
    spec: PoolSpec
    inspect_s: float
    registry_silence_s: float
    logs: LogSettings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSettings:
    """How webhooks are sent.

    Attributes:
        allow_private: they may go to this machine and to private networks.
        timeout_s: what a receiver gets for one attempt, from looking up its name to its answer.
        max_attempts: how often a delivery is posted before it is given up.
        first_retry_s: the pause after the first attempt; every following one is twice as long.
    """

    allow_private: bool = False
    timeout_s: float = 10.0
    max_attempts: int = 6
    first_retry_s: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySetup:
    """What a registry needs to know.

    Attributes:
        version: of the code and the configuration; a registry of another version is relieved.
        generation: grows from start to start; of two versions the later one stays.
        shard: which of several registries it is. What is said of numbers below (of actors, of
            starts, of runs that wait) is said of the whole server; a registry has its share.
        url: where clients on this machine reach the server.
        dsn: the database.
        embedded: directory of the embedded database that the registry keeps running, or None.
        config_path: the configuration file, on the registry's node.
        configuration: what it says, if it names no file that would have to be there too: then
            other nodes need not have it either.
        drain_s: what running runs get when the registry is relieved.
        default_max_actors: for placements that name no bound.
        max_starts: how many actors a pool that works already may be starting at once; each takes a
            CPU for a second or two. 0 for no bound: on a cluster one that waits for a node would
            keep others from starting, and Ray bounds what a node starts at once.
        placement_patience_s: how long an actor waits where no node could hold it, and nobody can
            add one that could.
        cancel_grace_s: what a cancelled run gets to stop by itself.
        inspect_s: what a question about a graph or a state may take.
        max_queued_runs: runs that may wait for a slot or their thread, or None for no limit.
        resumable_ttl_s: how long the durable events of a finished run are kept.
        thread_ttl_s: threads without a time to live of their own are deleted when they were left
            alone for so long; None: never.
        sweep_interval_s: how often what nobody needs any more is looked for.
        logs: what is logged, and where to; None leaves that to the process.
    """

    namespace: str
    version: str
    generation: int
    shard: Shard = WHOLE
    url: str = ""
    dsn: str
    embedded: Path | None
    config_path: Path
    configuration: Configuration | None = None
    drain_s: float
    default_max_actors: int
    max_starts: int = 1
    cancel_grace_s: float
    registry_silence_s: float
    inspect_s: float = 30.0
    log_max_bytes: int
    actor_log_max_bytes: int = 256 * MIB
    max_queued_runs: int | None
    resumable_ttl_s: float
    thread_ttl_s: float | None = None
    sweep_interval_s: float = 10.0
    placement_patience_s: float = 30.0
    webhooks: WebhookSettings = WebhookSettings()
    logs: LogSettings | None = None
    faults: Faults = NO_FAULTS

    def shards(self) -> list[RegistrySetup]:
        """The same for each registry of the server."""
        of = self.shard.of
        return [dataclasses.replace(self, shard=Shard(number, of)) for number in range(of)]


def configuration_of(setup: RunActorSetup | InspectorSetup | RegistrySetup) -> Configuration:
    """What this actor's configuration says; reads the file, unless it came along.

    Raises:
        ConfigurationError: it is missing, or says something that cannot be meant.
    """
    return setup.configuration or read_configuration(setup.config_path)
