"""The gateway as a Ray Serve deployment: it holds no state and imports no graph."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from actors.garbage import spare_what_stays
from actors.handles import ActorGone, Handles, answer, is_registry, registry_name
from actors.placement import HEAD, HEAD_SHARE
from actors.runtime import RayRuntime
from actors.setup import RegistrySetup, configuration_of
from greenroom import tracing
from greenroom.core.errors import ConfigurationError, Unavailable
from greenroom.http.app import create_app, drain
from greenroom.http.settings import HttpSettings
from greenroom.persistence.database import open_pool
from greenroom.persistence.records import PostgresRecords
from greenroom.settings import Settings

log = logging.getLogger("greenroom.gateway")

DATABASE_CONNECTIONS = 4
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
            hello["dsn"], application_name="greenroom:gateway", max_size=DATABASE_CONNECTIONS
        )
        configuration = await asyncio.to_thread(configuration_of, setup)
        spare_what_stays()
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
                max_body_bytes=settings.max_body_bytes,
                webhook_allow_private=settings.webhook_allow_private,
            ),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:  # the name that Ray Serve looks for
        return self._app

    async def __del__(self) -> None:
        # Serve calls this when it drains the replica: streams end, and their clients reconnect.
        drain(self._app)
        await self._database.close()


async def find_registries(handles: Handles, setup: RegistrySetup) -> dict[str, Any]:
    """What the first registry says of itself; makes it, and the others, unless they are there.

    Those that run older code (detached actors survive a redeploy), or are another number, are
    relieved: their runs stop after their superstep, and the new registries take them up.

    Raises:
        ConfigurationError: the database is the embedded one, and there are other nodes.
    """
    await asyncio.to_thread(refuse_embedded_beyond_one_node, handles, setup)
    while True:
        first = await _hello(handles, setup)
        found = [first]
        if first["version"] == setup.version:
            # All of one generation, the first one's: who is of a later one supersedes the others.
            same = dataclasses.replace(setup, generation=first["generation"])
            found += await asyncio.gather(*(_hello(handles, each) for each in same.shards()[1:]))
        if not any(_is_older(hello, setup) for hello in found):
            return first
        await _relieve(handles, setup)


async def _hello(handles: Handles, setup: RegistrySetup) -> dict[str, Any]:
    """What a registry says of itself once it has recovered; made unless it is there."""
    name = registry_name(setup.shard.number)
    while True:
        try:
            registry = await asyncio.to_thread(handles.make_registry, setup)
            return await answer(registry.hello.remote(), name)
        except (ActorGone, Unavailable):
            # For some milliseconds after its death Ray still gives out the dead one.
            handles.forget(name)
            await asyncio.sleep(0.2)


def _is_older(hello: dict[str, Any], setup: RegistrySetup) -> bool:
    return hello["version"] != setup.version and hello["generation"] < setup.generation


async def _relieve(handles: Handles, setup: RegistrySetup) -> None:
    """Drains and ends the registries of earlier starts, however many there are."""
    names = await asyncio.to_thread(handles.names)
    # The first one last: whoever finds that knows that there may be others.
    names = sorted(filter(is_registry, names), reverse=True)
    drained = await asyncio.gather(*(_drained(handles, name, setup) for name in names))
    for name, is_drained in zip(names, drained, strict=True):
        if is_drained:
            await asyncio.to_thread(handles.kill, name)


async def _drained(handles: Handles, name: str, setup: RegistrySetup) -> bool:
    try:
        registry = await handles.find(name)
        hello = await answer(registry.hello.remote(), name)
        if not _is_older(hello, setup):
            return False  # another gateway was faster
        log.info("relieving a registry that runs older code", extra={"pid": hello["pid"]})
        await answer(registry.drain.remote(setup.drain_s, relieved=True), name)
    except (ActorGone, Unavailable):
        handles.forget(name)
        return False
    return True


def refuse_embedded_beyond_one_node(handles: Handles, setup: RegistrySetup) -> None:
    """Raises ConfigurationError when there are nodes that the database would not answer."""
    if setup.embedded is None:
        return
    nodes = len(handles.cluster_view().nodes)
    if nodes > 1:
        raise ConfigurationError(
            f"The embedded database serves one node, and this cluster has {nodes}: give every"
            " node the same PostgreSQL with GREENROOM_DATABASE_URL (or --database-url)."
        )


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
