"""What one gateway is: the application, and its connections to the registries and the database."""

from __future__ import annotations

import asyncio
import os

from fastapi import FastAPI

from actors.calls import ray_internals
from actors.calls.directory import Handles
from actors.common.garbage import freeze_startup_objects
from actors.common.memory import watch_memory
from actors.common.setup import RegistrySetup, configuration_of
from actors.gateway.custom_app import custom_app_of
from actors.gateway.routing import Registries
from actors.gateway.runtime import RayRuntime
from actors.registries import find_registries
from actors.setups import http_settings, ready_settings
from greenroom import tracing
from greenroom.core.access import Authenticator
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.encryption import load_sealing
from greenroom.http.app import create_app, drain
from greenroom.http.custom import CustomApp
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.records import PostgresRecords
from greenroom.settings import Settings

DATABASE_CONNECTIONS = 4
STATEMENT_TIMEOUT_S = 10.0
"""Without it a few slow searches would occupy all connections and stop every route."""


class Replica:
    """Answers HTTP: parses, asks the registry or the database, encodes.

    Attributes:
        app: the application.
    """

    def __init__(self, app: FastAPI, database: Pool, custom: CustomApp | None) -> None:
        self.app = app
        self._database = database
        self._custom = custom

    @classmethod
    async def start(cls, settings: Settings, setup: RegistrySetup, replaced_s: float) -> Replica:
        """Starts the gateway of this process.

        Args:
            settings: the server's settings.
            setup: the set-up of the first registry, in case none exists.
            replaced_s: how long its streams go on when it is replaced.
        """
        if setup.logs is not None:
            setup.logs.apply(actor="gateway")
        tracing.configure("gateway")
        handles = Handles(settings.ray_namespace)
        hello = await find_registries(handles, setup)
        database = await open_pool(
            await Registries(handles, hello["shards"]).shard(0, "dsn"),
            application_name="greenroom:gateway",
            max_size=DATABASE_CONNECTIONS,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
        )
        configuration = await asyncio.to_thread(configuration_of, setup)
        configuration = configuration.with_auth(settings.auth)
        authenticator = await asyncio.to_thread(_authenticator_of, configuration, settings)
        sealing = await asyncio.to_thread(load_sealing, configuration, settings.encryption_keys)
        custom = custom_app_of(configuration)
        if custom is not None:
            await asyncio.to_thread(custom.start)
        freeze_startup_objects()
        watch_memory(database, collects=False)
        runtime = RayRuntime(
            handles,
            database,
            shards=hello["shards"],
            read_wait_s=settings.read_wait_s,
            fixed_graphs=frozenset() if settings.reload else frozenset(configuration.graphs),
            sealing=sealing,
        )
        app = create_app(
            runtime=runtime,
            records=PostgresRecords(database, sealing=sealing),
            graphs=list(configuration.graphs),
            default_graph=configuration.default_graph,
            shipped_graphs=configuration.shipped_graphs,
            broken_graphs=configuration.problems,
            store=configuration.store,
            authenticator=authenticator,
            sealing=sealing,
            rules=configuration.http,
            webhooks=configuration.webhooks.policy,
            custom=custom,
            settings=http_settings(settings, configuration),
        )
        if custom is not None:
            custom.loop_back(app)
        loop = asyncio.get_running_loop()

        def replaced() -> None:
            loop.call_soon_threadsafe(loop.call_later, replaced_s, drain, app)

        ray_internals.on_replacement(replaced)
        return cls(app, database, custom)

    async def stop(self) -> None:
        """Ends its connections, and the custom application."""
        await self._database.close()
        if self._custom is not None:
            await asyncio.to_thread(self._custom.stop)


def _authenticator_of(configuration: Configuration, settings: Settings) -> Authenticator | None:
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
