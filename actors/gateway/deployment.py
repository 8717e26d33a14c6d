"""The gateway as a Ray Serve deployment: it holds no state and imports no graph."""

from __future__ import annotations

import asyncio
import math

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from actors.calls.directory import Handles
from actors.common.garbage import freeze_startup_objects
from actors.common.placement import HEAD, HEAD_SHARE
from actors.common.setup import RegistrySetup, configuration_of
from actors.gateway.runtime import RayRuntime
from actors.registries import find_registries
from greenroom import tracing
from greenroom.http.app import create_app, drain
from greenroom.http.settings import HttpSettings
from greenroom.persistence.database import open_pool
from greenroom.persistence.records import PostgresRecords
from greenroom.settings import Settings

DATABASE_CONNECTIONS = 4
STATEMENT_TIMEOUT_S = 10.0
"""Some slow searches would have every connection, and with them every route."""
MAX_ONGOING_REQUESTS = 10_000
"""A stream holds one for its whole life; Serve's default is 5."""
RESERVED_CPUS = 0.1
"""Little enough for any node, and enough for the autoscaler not to take that node for idle."""


class Gateway:
    """Answers HTTP: parses, asks the registry or the database, encodes.

    Args:
        settings: of the server.
        setup: what the first registry is made of, should there be none yet.
    """

    async def __init__(self, settings: Settings, setup: RegistrySetup) -> None:
        if setup.logs is not None:
            setup.logs.apply(actor="gateway")
        tracing.configure("gateway")
        handles = Handles(settings.ray_namespace)
        hello = await find_registries(handles, setup)
        self._database = await open_pool(
            hello["dsn"],
            application_name="greenroom:gateway",
            max_size=DATABASE_CONNECTIONS,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
        )
        configuration = await asyncio.to_thread(configuration_of, setup)
        freeze_startup_objects()
        runtime = RayRuntime(
            handles,
            self._database,
            shards=hello["shards"],
            read_wait_s=settings.read_wait_s,
            fixed_graphs=frozenset(configuration.graphs),
        )
        self._app = create_app(
            runtime=runtime,
            records=PostgresRecords(self._database),
            graphs=list(configuration.graphs),
            default_graph=configuration.default_graph,
            shipped_graphs=configuration.shipped_graphs,
            settings=HttpSettings(
                heartbeat_s=settings.heartbeat_s,
                send_timeout_s=settings.send_timeout_s,
                max_body_bytes=settings.max_body_bytes,
                bodies_max_bytes=settings.bodies_max_bytes,
                webhook_allow_private=settings.webhook_allow_private,
            ),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # the name that Ray Serve looks for
        return self._app

    async def __del__(self) -> None:
        # Serve calls this when it drains the replica: streams end, and their clients reconnect.
        drain(self._app)
        await self._database.close()


def application(settings: Settings, setup: RegistrySetup, *, nodes: int = 1) -> Application:
    """The Serve application, for `serve.run` and `serve_app.py`.

    Args:
        nodes: over how many the gateways are spread evenly. Serve spreads them once, but those of
            a lost node come back on the others, and stay there, unless they may not.
    """
    replicas = settings.gateway_replicas
    # An embedded database answers nobody from another node.
    beside = {HEAD: HEAD_SHARE} if setup.embedded is not None else {}
    deployment = serve.deployment(
        name="gateway",
        num_replicas=replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=2.0,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5.0,
        logging_config={"enable_access_log": False},
        ray_actor_options={"num_cpus": RESERVED_CPUS, "resources": beside},
    )
    gateway = deployment(serve.ingress()(Gateway))
    if nodes > 1:
        gateway = gateway.options(max_replicas_per_node=math.ceil(replicas / nodes))
    return gateway.bind(settings, setup)
