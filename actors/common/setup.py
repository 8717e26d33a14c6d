"""The set-up of each kind of actor: plain records, importable without LangGraph."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actors.common.clock import WALL_CLOCK, Clock
from actors.common.placement import PoolSpec
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.units import MIB
from greenroom.graphs.configuration import Configuration, read_configuration
from greenroom.logs import LogSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RunActorSetup:
    """The set-up of a run actor.

    Attributes:
        name: its Ray name; also in ``application_name`` of its database connections.
        namespace: the server's Ray namespace.
        dsn: the database.
        encryption_keys: the keys that seal state (`greenroom.sealing.aes`); None: there are none.
        config_path: the configuration file, on this node.
        configuration: the file's contents; None: the actor reads the file.
        registry: the Ray name of the registry that it reports to.
        spec: its placement; ``spec.graphs`` are the graphs that it loads.
        problems: why graphs cannot be loaded, by graph.
        timeouts_s: the time-out of an attempt in seconds, by graph; an absent graph has none.
        log_max_bytes: the limit of encoded events that one run keeps in memory.
        actor_log_max_bytes: the limit of encoded events that all its runs keep together.
        registry_silence_s: the actor ends itself after so many seconds without a registry's call.
        logs: the log settings; None leaves the process's logging unchanged.
        debug_port: where the search for the port of its debugger begins; None lets none in.
        faults: faults for tests.
    """

    name: str
    namespace: str
    dsn: str = field(repr=False)  # it may have a password
    encryption_keys: str | None = field(default=None, repr=False)
    config_path: Path
    configuration: Configuration | None = None
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    registry: str
    spec: PoolSpec
    timeouts_s: dict[str, float]
    log_max_bytes: int
    actor_log_max_bytes: int = 256 * MIB
    registry_silence_s: float
    logs: LogSettings | None = None
    debug_port: int | None = None
    faults: Faults = NO_FAULTS


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectorSetup:
    """The set-up of an inspector.

    Attributes:
        spec: ``spec.graphs`` are the graphs that it loads, ``spec.version`` is their code.
        inspect_s: the time-out of a question in seconds.
        name, dsn, encryption_keys, config_path, configuration, problems, registry_silence_s, logs:
            as in `RunActorSetup`.
    """

    name: str
    dsn: str = field(repr=False)  # it may have a password
    encryption_keys: str | None = field(default=None, repr=False)
    config_path: Path
    configuration: Configuration | None = None
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    spec: PoolSpec
    inspect_s: float
    registry_silence_s: float
    logs: LogSettings | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSettings:
    """The settings of webhook deliveries.

    Attributes:
        allow_private: whether receivers may be on this machine and in private networks.
        timeout_s: seconds for one POST, from the look-up of the receiver's name to its answer.
        max_attempts: the number of POSTs before a delivery is given up.
        first_retry_s: the pause after the first POST in seconds; each later pause is twice as long.
        kept_s: how many seconds a finished delivery is kept.
        headers: headers of each POST.
        secrets: the secrets that sign each POST, each with a signature of its own.
        loopback: receivers may be on this machine.
        own_url: the address below which a relative URL is.
        disabled: no run has a webhook.
    """

    allow_private: bool = False
    timeout_s: float = 10.0
    max_attempts: int = 6
    first_retry_s: float = 1.0
    kept_s: float = 86_400.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    loopback: bool = False
    own_url: str = ""
    disabled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrySetup:
    """The set-up of a registry.

    Limits of numbers (of actors, starts and waiting runs) concern the whole server; each registry
    gets its share.

    Attributes:
        version: the version of code and configuration; it decides whether a registry is relieved.
        generation: the number of this start; the later of two versions stays.
        shard: this registry's number, and the number of registries.
        url: the server's URL for clients on this machine.
        dsn: the database.
        seals: whether state is stored sealed.
        reloads: whether the code of the graphs changes while the server runs
            (`RegistryActor.renew`).
        debug_port: as of `RunActorSetup`.
        embedded: the directory of the embedded database that the registry keeps running, or None.
        config_path: the configuration file, on the registry's node.
        configuration: the file's contents, if they refer to no other file; then no node needs the
            file. None: each actor reads the file.
        drain_s: the seconds that running runs get to stop when the registry is relieved.
        default_max_actors: the limit of actors for placements without a limit.
        max_starts: the limit of concurrent starts in a pool that has ready actors; each start takes
            a CPU for one or two seconds. 0 for no limit: on a cluster a start that waits for a node
            would block the others, and Ray limits the concurrent starts of a node.
        placement_patience_s: how many seconds an actor waits if no node can hold it and no
            autoscaler can add such a node.
        cancel_grace_s: the seconds that a cancelled run gets to stop by itself.
        inspect_s: the time-out of a question about a graph or a state, in seconds.
        max_queued_runs: the limit of runs that wait for a slot or their thread; None for no limit.
        resumable_ttl_s: how many seconds the durable events of a finished run are kept.
        event_log_ttl_s: the same of a run that belongs to the log of its thread.
        event_log_max_bytes: how many bytes of events the log of one thread keeps.
        thread_ttl_s: unused threads without their own time to live are deleted after so many
            seconds; None: never.
        sweep_interval_s: seconds between two sweeps for expired data.
        thread_sweep_s: the least number of seconds between two sweeps for expired threads.
        thread_sweep_limit: the threads that one sweep of a registry deletes or prunes at most.
        item_sweep_s: the least number of seconds between two sweeps for expired items of the store.
        logs: the log settings; None leaves the process's logging unchanged.
        clock: the time by which crons are due.
        namespace, encryption_keys, problems, registry_silence_s, log_max_bytes,
            actor_log_max_bytes, faults: as in `RunActorSetup`.
    """

    namespace: str
    version: str
    generation: int
    shard: Shard = WHOLE
    url: str = ""
    dsn: str = field(repr=False)  # it may have a password
    encryption_keys: str | None = field(default=None, repr=False)
    seals: bool = False
    reloads: bool = False
    debug_port: int | None = None
    embedded: Path | None
    config_path: Path
    configuration: Configuration | None = None
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
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
    event_log_ttl_s: float
    event_log_max_bytes: int
    thread_ttl_s: float | None = None
    sweep_interval_s: float = 10.0
    thread_sweep_s: float = 0.0
    thread_sweep_limit: int = 1000
    item_sweep_s: float = 300.0
    placement_patience_s: float = 30.0
    webhooks: WebhookSettings = WebhookSettings()
    logs: LogSettings | None = None
    faults: Faults = NO_FAULTS
    clock: Clock = WALL_CLOCK

    def shards(self) -> list[RegistrySetup]:
        """Returns the set-up of each registry of the server."""
        of = self.shard.of
        return [dataclasses.replace(self, shard=Shard(number, of)) for number in range(of)]


def configuration_of(setup: RunActorSetup | InspectorSetup | RegistrySetup) -> Configuration:
    """Returns an actor's configuration; reads the file unless the set-up has its contents.

    Raises:
        ConfigurationError: the file is missing or invalid.
    """
    configuration = setup.configuration or read_configuration(setup.config_path)
    return configuration.with_problems(setup.problems)
