"""The gateway as a Ray Serve deployment: it holds no state and imports no graph."""

from __future__ import annotations

import asyncio
import math
import os

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from actors.calls import ray_internals
from actors.calls.directory import Handles
from actors.common.garbage import freeze_startup_objects
from actors.common.memory import watch_memory
from actors.common.placement import HEAD, HEAD_SHARE
from actors.common.setup import RegistrySetup, configuration_of
from actors.gateway.custom_app import custom_app_of
from actors.gateway.routing import Registries
from actors.gateway.runtime import RayRuntime
from actors.inspector.asking import ARRIVAL_WAIT_S
from actors.registries import find_registries
from actors.setups import http_settings, ready_settings
from greenroom import tracing
from greenroom.core.access import Authenticator
from greenroom.environment import REQUESTS_AT_ONCE
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.encryption import load_sealing
from greenroom.http.app import create_app, drain
from greenroom.persistence.database import open_pool
from greenroom.persistence.records import PostgresRecords
from greenroom.settings import Settings

DATABASE_CONNECTIONS = 4
STATEMENT_TIMEOUT_S = 10.0
"""Without it a few slow searches would occupy all connections and stop every route."""
STARTS = 20
"""How often a gateway is started until its failure is the server's: Serve's own number."""
STARTS_WITH_CUSTOM = 3
"""The same with a custom application, whose failure seldom passes."""
STREAMS_REPLACED_S = 8.0
"""How long a gateway that is replaced goes on with its streams, and with clients that wait for
runs. Then it breaks them off, and their clients come back to another one."""
REPLACED_MARGIN_S = 10.0
"""How much longer than its requests wait for anything a gateway that is replaced may live. Serve
answers 500 to those that it cuts."""
RESERVED_CPUS = 0.1
"""Small enough for any node; above 0, so that the autoscaler does not remove the node as idle."""


class Gateway:
    """Answers HTTP: parses, asks the registry or the database, encodes.

    Args:
        settings: the server's settings.
        setup: the set-up of the first registry, in case none exists.
    """

    async def __init__(self, settings: Settings, setup: RegistrySetup) -> None:
        if setup.logs is not None:
            setup.logs.apply(actor="gateway")
        tracing.configure("gateway")
        handles = Handles(settings.ray_namespace)
        hello = await find_registries(handles, setup)
        self._database = await open_pool(
            await Registries(handles, hello["shards"]).shard(0, "dsn"),
            application_name="greenroom:gateway",
            max_size=DATABASE_CONNECTIONS,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
        )
        configuration = await asyncio.to_thread(configuration_of, setup)
        configuration = configuration.with_auth(settings.auth)
        authenticator = await asyncio.to_thread(authenticator_of, configuration, settings)
        sealing = await asyncio.to_thread(load_sealing, configuration, settings.encryption_keys)
        self._custom = custom_app_of(configuration)
        if self._custom is not None:
            await asyncio.to_thread(self._custom.start)
        freeze_startup_objects()
        watch_memory(self._database, collects=False)
        runtime = RayRuntime(
            handles,
            self._database,
            shards=hello["shards"],
            read_wait_s=settings.read_wait_s,
            fixed_graphs=frozenset() if settings.reload else frozenset(configuration.graphs),
            sealing=sealing,
        )
        self._app = create_app(
            runtime=runtime,
            records=PostgresRecords(self._database, sealing=sealing),
            graphs=list(configuration.graphs),
            default_graph=configuration.default_graph,
            shipped_graphs=configuration.shipped_graphs,
            broken_graphs=configuration.problems,
            store=configuration.store,
            authenticator=authenticator,
            sealing=sealing,
            rules=configuration.http,
            webhooks=configuration.webhooks.policy,
            custom=self._custom,
            settings=http_settings(settings, configuration),
        )

        if self._custom is not None:
            self._custom.loop_back(self._app)
        self._loop = asyncio.get_running_loop()
        ray_internals.on_replacement(self._replaced)

    def _replaced(self) -> None:
        later = self._loop.call_later
        self._loop.call_soon_threadsafe(later, STREAMS_REPLACED_S, drain, self._app)

    def __serve_build_asgi_app__(self) -> FastAPI:  # the name that Ray Serve looks for
        return self._app

    async def __del__(self) -> None:
        # Serve calls this when no request is left.
        await self._database.close()
        if self._custom is not None:
            await asyncio.to_thread(self._custom.stop)


def authenticator_of(configuration: Configuration, settings: Settings) -> Authenticator | None:
    """Loads the handlers of ``auth``, which are user code; None without any.

    Raises:
        ConfigurationError: they cannot be loaded.
    """
    spec = configuration.auth
    if spec is None:
        return None
    # Imported late: a server without `auth` does not pay for the SDK.
    from greenroom.auth.loading import load_authenticator

    os.environ.update(configuration.env)
    return load_authenticator(
        configuration,
        spec,
        within_s=settings.auth_timeout_s,
        settings=ready_settings(settings),
    )


def application(settings: Settings, setup: RegistrySetup, *, nodes: int = 1) -> Application:
    """Returns the Serve application, for `serve.run` and `serve_app.py`.

    Args:
        settings: the server's settings.
        setup: the set-up of the first registry, in case none exists.
        nodes: the number of nodes; above 1 it limits the gateways of each node to an even share.
            Without the limit the gateways of a lost node would restart, and stay, on the others.
    """
    replicas = settings.gateway_replicas
    custom = configuration_of(setup).http.app is not None
    replaced_s = ARRIVAL_WAIT_S + settings.inspect_s + REPLACED_MARGIN_S
    # An embedded database answers its own node only.
    beside = {HEAD: HEAD_SHARE} if setup.embedded is not None else {}
    deployment = serve.deployment(
        name="gateway",
        num_replicas=replicas,
        max_constructor_retry_count=STARTS_WITH_CUSTOM if custom else STARTS,
        max_ongoing_requests=REQUESTS_AT_ONCE,
        graceful_shutdown_timeout_s=replaced_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": RESERVED_CPUS, "resources": beside},
    )
    gateway = deployment(serve.ingress()(Gateway))
    if nodes > 1:
        gateway = gateway.options(max_replicas_per_node=math.ceil(replicas / nodes))
    return gateway.bind(settings, setup)
