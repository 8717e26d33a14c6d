"""A whole server in one process's care: database, Ray, registry, warm actors, gateway.

Used by `greenroom serve` and by tests. On an existing cluster it only adds its actors and its Serve
application, and takes only those away again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import ray
import ray.actor
import ray.exceptions
from ray import serve
from ray.serve.config import HTTPOptions

import actors
import greenroom
from actors.calls import ray_internals
from actors.calls.directory import Handles
from actors.calls.names import INSPECTOR, REGISTRY, is_registry, is_run_actor, registry_name
from actors.common.placement import ClusterView, impossible
from actors.common.setup import RegistrySetup, WebhookSettings
from actors.gateway import deployment
from actors.registries import find_registries, make_registry, refuse_embedded_beyond_one_node
from actors.registry.pool_specs import pool_specs
from actors.server import applications, processes
from actors.server.standin import StandIn
from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.core.sharding import Shard
from greenroom.core.units import MIB
from greenroom.environment import haproxy_dir
from greenroom.graphs.configuration import RESERVED_APPLICATION, Configuration
from greenroom.graphs.placements import PlacementSpec
from greenroom.logs import LogSettings
from greenroom.persistence.database import open_pool, retrying
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.journal import next_generation
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import register_assistants
from greenroom.settings import Settings

log = logging.getLogger("greenroom.server")

APPLICATION = RESERVED_APPLICATION
START_PATIENCE_S = 120.0
HELLO_S = 5.0
SERVE_SHUTDOWN_S = 8.0
ACTORS_SHUTDOWN_S = 5.0
RAY_SHUTDOWN_S = 10.0
DRAIN_MARGIN_S = 2.0
DESCENDANTS_GRACE_S = 1.0
APPLICATION_CPUS = 8
"""What a local Ray hands out to each application of the configuration: bookkeeping, too."""
SHIPPED_CPUS = 64
"""For the actors of graphs that are not known at the start; bookkeeping, like the others."""

MAX_SOURCES = 5000
SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__"})

Progress = Callable[[str], None]


class Server:
    """Starts and stops everything that a server consists of.

    Args:
        settings: of the server; ``ray_address`` None starts a Ray of its own.
        configuration: already read, so that its errors came first.
        faults: for tests.
    """

    def __init__(
        self, settings: Settings, configuration: Configuration, *, faults: Faults = NO_FAULTS
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._faults = faults
        self._embedded: Embedded | None = None
        self._handles = Handles(settings.ray_namespace)
        self._ray_dir: Path | None = None
        self._generation = 0
        self._joined = False
        self._served = False
        self._stand_in: StandIn | None = None

    def start(self, progress: Progress) -> None:
        """Returns when the server answers requests and a run would start at once.

        Raises:
            GreenroomError: with a sentence; what was started is running until `stop`.
        """
        models = applications.load(self._configuration)
        dsn = self._settings.database_url
        if dsn is None:
            progress("Starting PostgreSQL")
            self._embedded = start_embedded(embedded_directory(self._settings))
            dsn = self._embedded.dsn
        progress("Preparing the database")
        self._generation = asyncio.run(prepare_database(dsn, list(self._configuration.graphs)))
        progress("Starting Ray")
        self._start_ray()
        setup = registry_setup(
            self._settings,
            self._configuration,
            dsn,
            generation=self._generation,
            faults=self._faults,
        )
        refuse_embedded_beyond_one_node(self._handles, setup)
        cluster = self._refuse_impossible(setup)
        progress("Starting the registry and warm actors")
        registries = self._find_registries(setup)
        hellos = [registry.hello.remote() for registry in registries]
        progress("Starting Ray Serve")
        serve.start(
            http_options=HTTPOptions(host=self._settings.host, port=self._settings.port),
        )
        self._served = True
        self._look_after_haproxy()
        for name, model in models.items():
            progress(f"Deploying {name}")
            applications.deploy(name, model)
        progress("Starting the gateway")
        serve.run(
            deployment.application(self._settings, setup, nodes=len(cluster.nodes)),
            name=APPLICATION,
            route_prefix="/",
            blocking=False,
        )
        progress("Waiting for the warm actors")
        ray.get(hellos, timeout=START_PATIENCE_S)
        self._wait_until_warm(registries)

    def _look_after_haproxy(self) -> None:
        """On a cluster of its own Serve does that alone."""
        if self._settings.ray_address is None and hasattr(os, "pidfd_open"):
            self._stand_in = StandIn(haproxy_dir(self._settings.data_dir))
            self._stand_in.start()

    def _find_registries(self, setup: RegistrySetup) -> list[Any]:
        if self._settings.ray_address is None:
            return [make_registry(self._handles, each) for each in setup.shards()]
        hello = asyncio.run(find_registries(self._handles, setup))
        return [self._handles.get(registry_name(number)) for number in range(hello["shards"])]

    def _start_ray(self) -> None:
        settings = self._settings
        if settings.ray_address is not None:
            ray.init(
                address=settings.ray_address,
                namespace=settings.ray_namespace,
                log_to_driver=False,
                configure_logging=False,
            )
            self._joined = True
            return
        processes.adopt_orphans()
        # Short, because Ray puts Unix sockets below it, whose paths are limited to 107 bytes.
        self._ray_dir = Path(tempfile.mkdtemp(prefix="gr-ray-"))
        ray.init(
            num_cpus=_logical_cpus(self._configuration, settings),
            _memory=_logical_memory(self._configuration, settings),
            object_store_memory=settings.object_store_mib * MIB,
            include_dashboard=settings.dashboard,
            namespace=settings.ray_namespace,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(self._ray_dir),
        )
        self._joined = True
        if not settings.dashboard:
            ray_internals.end_onlookers()

    def _refuse_impossible(self, setup: RegistrySetup) -> ClusterView:
        """What the cluster is; ConfigurationError for a placement that no node can ever satisfy.

        A cluster that was just started gets a while to show its nodes and its autoscaler.
        """
        patience_s = setup.placement_patience_s if self._settings.ray_address is not None else 0.0
        deadline_s = time.monotonic() + patience_s
        while True:
            cluster = self._handles.cluster_view()
            found = (impossible(s, cluster) for s in pool_specs(self._configuration, setup))
            reason = next((reason for reason in found if reason is not None), None)
            if reason is None:
                return cluster
            if time.monotonic() > deadline_s:
                raise ConfigurationError(reason)
            time.sleep(0.5)

    def _wait_until_warm(self, registries: list[Any]) -> None:
        deadline_s = time.monotonic() + START_PATIENCE_S
        while time.monotonic() < deadline_s:
            try:
                if all(ray.get([each.is_warm.remote(5.0) for each in registries], timeout=30)):
                    return
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, GreenroomError) else error from None
        raise ConfigurationError(
            f"No actor was ready within {START_PATIENCE_S:g} s. Does the cluster have the resources"
            " that the graphs' placements ask for?"
        )

    def stop(self) -> None:
        """Ends everything that `start` started, also when that failed half-way, or died meanwhile.

        A Ray of the server's own may be broken by now (the terminal's Ctrl-C reaches all of its
        processes too), so every polite step is bounded.
        """
        if self._stand_in is not None:
            self._stand_in.stop()
        own = self._ray_dir is not None
        relieved = self._joined and not own and self._is_relieved()
        if relieved:
            # By a later start, whose actors and runs these are now.
            _bounded(ray.shutdown, RAY_SHUTDOWN_S)
        elif self._joined:
            _bounded(self._drain, self._settings.drain_s + DRAIN_MARGIN_S)
            if self._served and not own:
                # Others may serve on the cluster too.
                for name in (APPLICATION, *self._configuration.applications):
                    _bounded(partial(serve.delete, name), SERVE_SHUTDOWN_S)
            _bounded(self._end_actors, ACTORS_SHUTDOWN_S)
            _bounded(ray.shutdown, RAY_SHUTDOWN_S)
        if self._ray_dir is not None:
            # Serve and its proxies too: politely ending what nobody else uses takes seconds.
            processes.end_descendants(DESCENDANTS_GRACE_S)
            shutil.rmtree(self._ray_dir, ignore_errors=True)
        if self._embedded is not None:
            self._embedded.release() if relieved else self._embedded.stop()

    def _is_relieved(self) -> bool:
        hello: dict[str, Any] = {}

        def ask() -> None:
            # The one whose name it is now: that which this server started may be dead.
            self._handles.forget(REGISTRY)
            first: Any = self._handles.get(REGISTRY)
            hello.update(cast("dict[str, Any]", ray.get(first.hello.remote())))

        _bounded(ask, HELLO_S)
        return hello.get("generation", 0) > self._generation

    def _drain(self) -> None:
        registries: list[Any] = [
            self._handles.get(name) for name in self._handles.names() if is_registry(name)
        ]
        ray.get([registry.drain.remote(self._settings.drain_s) for registry in registries])

    def _end_actors(self) -> None:
        names = self._handles.names()
        # The registries first: they would replace the others. Of those the first one last: a start
        # that finds that one makes what is missing beside it, and of its generation.
        for name in sorted(names, key=lambda name: (not is_registry(name), name == REGISTRY)):
            if is_registry(name) or name.startswith(INSPECTOR) or is_run_actor(name):
                self._handles.kill(name)


def _bounded(step: Callable[[], None], limit_s: float) -> None:
    """Does a step of the shutdown, and goes on to the next one if it fails or takes too long."""

    def attempt() -> None:
        try:
            step()
        except Exception:  # whatever is broken is ended by the next, ruder step
            log.debug("a step of the shutdown failed", exc_info=True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(limit_s)


def registry_setup(
    settings: Settings,
    configuration: Configuration,
    dsn: str,
    *,
    generation: int,
    faults: Faults = NO_FAULTS,
) -> RegistrySetup:
    """What the first registry of a server is made of; `prepare_database` gives its generation."""
    shards = settings.registry_shards
    version = code_version(configuration)
    return RegistrySetup(
        namespace=settings.ray_namespace,
        # Other registries than there are have other threads, whatever code they run.
        version=version if shards == 1 else f"{version}/{shards}",
        generation=generation,
        shard=Shard(0, shards),
        url=settings.url,
        dsn=dsn,
        embedded=embedded_directory(settings) if settings.database_url is None else None,
        drain_s=settings.drain_s,
        config_path=settings.config.resolve(),
        configuration=None if configuration.graphs else configuration,
        default_max_actors=settings.default_max_actors,
        max_starts=max(1, (os.cpu_count() or 1) // 2) if settings.ray_address is None else 0,
        placement_patience_s=settings.placement_patience_s,
        cancel_grace_s=settings.cancel_grace_s,
        registry_silence_s=settings.registry_silence_s,
        inspect_s=settings.inspect_s,
        log_max_bytes=settings.log_max_bytes,
        actor_log_max_bytes=settings.actor_log_max_bytes,
        max_queued_runs=settings.max_queued_runs,
        resumable_ttl_s=settings.resumable_ttl_s,
        thread_ttl_s=settings.thread_ttl_s,
        sweep_interval_s=settings.sweep_interval_s,
        webhooks=WebhookSettings(
            allow_private=settings.webhook_allow_private,
            timeout_s=settings.webhook_timeout_s,
            max_attempts=settings.webhook_attempts,
            first_retry_s=settings.webhook_retry_s,
        ),
        logs=LogSettings(
            level=settings.log_level,
            form=settings.log_format,
            file=settings.log_file.resolve() if settings.log_file is not None else None,
        ),
        faults=faults,
    )


def embedded_directory(settings: Settings) -> Path:
    """Where the embedded database of a data directory lives."""
    return settings.data_dir.resolve() / "pg"


def code_version(configuration: Configuration) -> str:
    """Changes with Greenroom's code, the configuration, and Python files beside the graphs.

    Detached actors outlive a redeploy; this tells those that run other code. By content: the same
    code has the same version on every node, whenever and wherever to it was copied.
    """
    ours = [Path(cast(str, package.__file__)).parent for package in (greenroom, actors)]
    about = dataclasses.replace(configuration, root=Path(), import_paths=())
    digest = hashlib.sha256(repr(about).encode())
    for root in (*ours, configuration.root):
        for file in sorted(_sources(root))[:MAX_SOURCES]:
            digest.update(f"{file.relative_to(root)}:".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if not each.startswith(".") and each not in SKIPPED]
        yield from (Path(folder) / name for name in files if name.endswith(".py"))


async def prepare_database(dsn: str, graphs: list[str]) -> int:
    """Brings the schema up to date, registers one assistant per graph, and counts this start.

    Returns:
        the generation of this start, later than every one before.
    """
    await migrate(dsn)
    pool = await open_pool(dsn, application_name="greenroom:start")
    try:
        await register_assistants(pool, graphs)
        return await retrying(pool, next_generation)
    finally:
        await pool.close()


def _most_actors(placement: PlacementSpec, settings: Settings) -> int:
    """One for each registry is more than a placement allows that allows fewer."""
    return max(placement.max_actors or settings.default_max_actors, settings.registry_shards)


def _logical_cpus(configuration: Configuration, settings: Settings) -> int:
    """CPUs that a local Ray hands out: bookkeeping, enough for every actor that may be started."""
    wanted = sum(
        _most_actors(graph.placement, settings) * graph.placement.num_cpus
        for graph in configuration.graphs.values()
    )
    beside = APPLICATION_CPUS * len(configuration.applications)
    shipped = SHIPPED_CPUS if configuration.shipped_graphs else 0
    return max(os.cpu_count() or 1, int(wanted) + 4 + beside) + shipped


def _logical_memory(configuration: Configuration, settings: Settings) -> int | None:
    """Bytes of memory that a local Ray hands out, likewise; None where no graph asks for any."""
    wanted_mib = sum(
        _most_actors(graph.placement, settings) * graph.placement.memory_mib
        for graph in configuration.graphs.values()
    )
    return wanted_mib * MIB or None
