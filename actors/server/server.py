"""Starts and stops a whole server: database, Ray, registries, warm actors, gateway.

`greenroom serve` and tests use it. On an existing cluster it adds only its actors and its Serve
applications, and removes only these.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import ray
import ray.actor
import ray.exceptions
from ray import serve
from ray.serve.config import HTTPOptions

from actors.calls import ray_internals
from actors.calls.directory import Handles
from actors.calls.names import INSPECTOR, REGISTRY, is_registry, is_run_actor, registry_name
from actors.common.placement import ClusterView, impossible
from actors.common.setup import RegistrySetup
from actors.gateway import deployment
from actors.registries import find_registries, make_registry, refuse_embedded_beyond_one_node
from actors.registry.pool_specs import pool_specs
from actors.server import applications
from actors.server.bounding import bounded
from actors.server.early import Early
from actors.server.haproxy_failure import haproxy_failure
from actors.server.own_ray import SHUTDOWN_S, OwnRay
from actors.server.patience import too_late, until_answered, until_in_time
from actors.server.preparing import prepare_database
from actors.server.standin import StandIn
from actors.setups import registry_setup
from greenroom.core.errors import ConfigurationError, GreenroomError
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.environment import forget_secrets, haproxy_available, haproxy_dir
from greenroom.graphs.configuration import RESERVED_APPLICATION, Configuration
from greenroom.persistence.embedded import Embedded
from greenroom.settings import Settings

log = logging.getLogger("greenroom.server")

APPLICATION = RESERVED_APPLICATION
HELLO_S = 5.0
SERVE_SHUTDOWN_S = deployment.STREAMS_REPLACED_S + 7.0
ACTORS_SHUTDOWN_S = 5.0
DRAIN_MARGIN_S = 2.0


Progress = Callable[[str], None]


class Server:
    """Starts and stops all parts of a server.

    Args:
        settings: the server's settings; ``ray_address`` None starts a local Ray.
        configuration: the configuration; it is read before, so that its errors appear first.
        early: what was started before this module was imported. `stop` ends it.
        faults: faults for tests.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        early: Early,
        *,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self._settings = settings
        self._early = early
        self._configuration = configuration
        self._faults = faults
        self._embedded: Embedded | None = None
        self._handles = Handles(settings.ray_namespace)
        self._own_ray: OwnRay | None = None
        self._generation = 0
        self._joined = False
        self._served = False
        self._stand_in: StandIn | None = None

    def start(self, progress: Progress) -> None:
        """Starts the server; returns when it answers requests and has warm actors.

        Args:
            progress: called with a sentence before each step.

        Raises:
            GreenroomError: a step failed; the message says why. The started parts run until `stop`.
        """
        models = applications.load(self._configuration)
        if self._configuration.applications:
            self._early.start_fork_server()
        if self._settings.ray_address is None:
            self._own_ray = OwnRay(self._settings, self._configuration, self._early)
        dsn = self._settings.database_url
        if dsn is None:
            progress("Starting PostgreSQL")
            self._embedded = self._early.database()
            dsn = self._embedded.dsn
        progress("Preparing the database")
        self._generation = asyncio.run(prepare_database(dsn, self._configuration))
        setup = registry_setup(
            self._settings,
            self._configuration,
            dsn,
            generation=self._generation,
            faults=self._faults,
        )
        # Ray's processes inherit the environment of this one.
        forget_secrets(self._configuration.webhooks.variables)
        progress("Starting Ray")
        self._start_ray()
        refuse_embedded_beyond_one_node(self._handles, setup)
        cluster = self._refuse_impossible(setup)
        progress("Starting the registry and warm actors")
        registries = self._find_registries(setup)
        hellos = [registry.hello.remote() for registry in registries]
        progress("Starting Ray Serve")
        self._start_serve()
        self._look_after_haproxy()
        for name, model in models.items():
            progress(f"Deploying {name}")
            applications.deploy(name, model)
        progress("Starting the gateway")
        gateway = deployment.application(self._settings, setup, nodes=len(cluster.nodes))
        applications.run_gateway(gateway, name=APPLICATION)
        if self._settings.ray_address is None:
            # Only here the port is one of this machine.
            until_answered(self._settings.url, self._settings.start_patience_s)
        progress("Waiting for the warm actors")
        self._wait_for_registries(hellos)
        self._wait_until_warm(registries)

    def renew(self) -> list[str]:
        """Has the next runs executed by the code of the graphs as it is now.

        Runs that are under way end with the code that they began with.

        Returns:
            the reasons why that cannot be; the next runs have the old code then.
        """
        calls: list[Any] = []
        for name in filter(is_registry, self._handles.names()):
            self._handles.forget(name)  # the registry that this server started may be dead
            registry: Any = self._handles.get(name)
            calls.append(registry.renew.remote())
        return [problem for problems in ray.get(calls) for problem in problems]

    def redeploy(self, configuration: Configuration) -> None:
        """Serves another configuration: with new registries, actors and gateways.

        Streams break off and are resumed. Runs stop after their superstep, and go on with the new
        code.

        Raises:
            ConfigurationError: the gateway does not start.
        """
        dsn = self._settings.database_url
        if dsn is None:
            assert self._embedded is not None
            dsn = self._embedded.dsn
        self._configuration = configuration
        self._generation = asyncio.run(prepare_database(dsn, configuration))
        setup = registry_setup(
            self._settings, configuration, dsn, generation=self._generation, faults=self._faults
        )
        for name in filter(is_registry, self._handles.names()):
            self._handles.forget(name)
        cluster = self._refuse_impossible(setup)
        hello = asyncio.run(find_registries(self._handles, setup))
        gateway = deployment.application(self._settings, setup, nodes=len(cluster.nodes))
        applications.run_gateway(gateway, name=APPLICATION)
        self._wait_until_warm(
            [self._handles.get(registry_name(number)) for number in range(hello["shards"])]
        )

    def _start_serve(self) -> None:
        """Starts Serve.

        If its proxies are late, the second try connects to the running Serve and does not wait for
        them; `until_answered` does.
        """
        options = HTTPOptions(host=self._settings.host, port=self._settings.port)
        try:
            until_in_time(
                lambda: serve.start(http_options=options),
                what="Ray Serve",
                patience_s=self._settings.start_patience_s,
                clean=lambda: None,
            )
        except ray.exceptions.RayError as error:
            raise haproxy_failure(error) or error from None
        self._served = True

    def _look_after_haproxy(self) -> None:
        """Starts the stand-in for HAProxy, with a local Ray only."""
        if self._settings.ray_address is None and self._settings.haproxy and haproxy_available():
            self._stand_in = StandIn(haproxy_dir(self._settings.data_dir))
            self._stand_in.start()

    def _find_registries(self, setup: RegistrySetup) -> list[Any]:
        if self._settings.ray_address is None:
            return [make_registry(self._handles, each) for each in setup.shards()]
        hello = asyncio.run(find_registries(self._handles, setup))
        return [self._handles.get(registry_name(number)) for number in range(hello["shards"])]

    def _start_ray(self) -> None:
        settings = self._settings
        if self._own_ray is not None:
            self._own_ray.start()
        else:
            ray.init(
                address=settings.ray_address,
                namespace=settings.ray_namespace,
                log_to_driver=False,
                configure_logging=False,
                job_config=ray_internals.job_without_search_path(),
            )
        self._joined = True

    def _refuse_impossible(self, setup: RegistrySetup) -> ClusterView:
        """Returns the cluster's nodes; refuses a placement that no node can ever satisfy.

        An existing cluster may have just started, so it has `placement_patience_s` to show its
        nodes and its autoscaler.

        Raises:
            ConfigurationError: a placement is impossible.
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

    def _wait_for_registries(self, hellos: list[Any]) -> None:
        patience_s = self._settings.start_patience_s
        try:
            ray.get(hellos, timeout=patience_s)
        except ray.exceptions.GetTimeoutError:
            raise too_late("The registry", patience_s) from None

    def _wait_until_warm(self, registries: list[Any]) -> None:
        patience_s = self._settings.start_patience_s
        deadline_s = time.monotonic() + patience_s
        while time.monotonic() < deadline_s:
            try:
                if all(ray.get([each.is_warm.remote(5.0) for each in registries], timeout=30)):
                    return
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, GreenroomError) else error from None
            except ray.exceptions.GetTimeoutError:
                continue  # a registry is busy; its actors go on starting
        raise ConfigurationError(
            f"No actor was ready within {patience_s:g} s. Does the cluster have the resources"
            " that the graphs' placements ask for?"
        )

    def stop(self) -> None:
        """Stops all parts that `start` has started, also after a start that failed half-way.

        A local Ray may be broken by now (the terminal's Ctrl-C also reaches its processes), so
        every step of the orderly shutdown has a time-out. If a later start has relieved this
        server's registries, their actors and runs stay.
        """
        if self._stand_in is not None:
            self._stand_in.stop()
        own = self._own_ray is not None
        relieved = self._joined and not own and self._is_relieved()
        if relieved:
            # A later start owns the actors and runs now.
            bounded(ray.shutdown, SHUTDOWN_S)
        elif self._joined:
            bounded(self._drain, self._settings.drain_s + DRAIN_MARGIN_S)
            if self._served and not own:
                # Other applications of the cluster stay.
                for name in (APPLICATION, *self._configuration.applications):
                    bounded(partial(serve.delete, name), SERVE_SHUTDOWN_S)
            bounded(self._end_actors, ACTORS_SHUTDOWN_S)
            bounded(ray.shutdown, SHUTDOWN_S)
        if self._own_ray is not None:
            self._own_ray.stop()
        if relieved and self._embedded is not None:
            self._embedded.release()
        else:
            self._early.stop()

    def _is_relieved(self) -> bool:
        hello: dict[str, Any] = {}

        def ask() -> None:
            # Looks the name up again: the registry that this server started may be dead.
            self._handles.forget(REGISTRY)
            first: Any = self._handles.get(REGISTRY)
            hello.update(cast("dict[str, Any]", ray.get(first.hello.remote())))

        bounded(ask, HELLO_S)
        return hello.get("generation", 0) > self._generation

    def _drain(self) -> None:
        registries: list[Any] = [
            self._handles.get(name) for name in self._handles.names() if is_registry(name)
        ]
        ray.get([registry.drain.remote(self._settings.drain_s) for registry in registries])

    def _end_actors(self) -> None:
        names = self._handles.names()
        # The registries first: they would replace the other actors. Of the registries the first one
        # last: a start that finds it makes the missing ones beside it, of its generation.
        for name in sorted(names, key=lambda name: (not is_registry(name), name == REGISTRY)):
            if is_registry(name) or name.startswith(INSPECTOR) or is_run_actor(name):
                self._handles.kill(name)
