"""Prepares the start of a server: its database, and the set-up of its registries."""

from __future__ import annotations

import hashlib
import os

from actors.common.setup import RegistrySetup, WebhookSettings
from actors.server.code_version import code_version
from actors.server.early import embedded_directory
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.core.sharding import Shard
from greenroom.environment import terminal_socket
from greenroom.graphs.configuration import Configuration
from greenroom.logs import LogSettings
from greenroom.persistence import upkeep
from greenroom.persistence.database import open_pool, retrying
from greenroom.persistence.journal import next_generation
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import register_assistants
from greenroom.settings import Settings


def registry_setup(
    settings: Settings,
    configuration: Configuration,
    dsn: str,
    *,
    generation: int,
    faults: Faults = NO_FAULTS,
) -> RegistrySetup:
    """Returns the set-up of a server's first registry.

    Args:
        settings: the server's settings.
        configuration: the server's configuration.
        dsn: the database.
        generation: from `prepare_database`.
        faults: faults for tests.

    Raises:
        ConfigurationError: a header of webhooks names a variable that is not set.
    """
    shards = settings.registry_shards
    webhooks = WebhookSettings(
        allow_private=settings.webhook_allow_private,
        timeout_s=settings.webhook_timeout_s,
        max_attempts=settings.webhook_attempts,
        first_retry_s=settings.webhook_retry_s,
        kept_s=settings.webhook_retention_s,
        headers=configuration.webhooks.filled({**os.environ, **configuration.env}),
        secrets=tuple((settings.webhook_secrets or "").split()),
        loopback=configuration.webhooks.policy.loopback,
        own_url=settings.url + configuration.http.mount_prefix,
        disabled="webhooks" in configuration.http.disabled,
    )
    # With other secrets the registry that sends webhooks is another one, though the code is equal.
    secret = repr((sorted(webhooks.headers.items()), webhooks.secrets))
    version = code_version(configuration, hashlib.sha256(secret.encode()).hexdigest())
    return RegistrySetup(
        namespace=settings.ray_namespace,
        # Another number of registries distributes the threads differently, also with equal code.
        version=version if shards == 1 else f"{version}/{shards}",
        generation=generation,
        shard=Shard(0, shards),
        url=settings.url,
        dsn=dsn,
        encryption_keys=settings.encryption_keys,
        seals=settings.encryption_keys is not None or configuration.encryption is not None,
        reloads=settings.reload,
        debug_port=settings.debug_port,
        embedded=embedded_directory(settings) if settings.database_url is None else None,
        drain_s=settings.drain_s,
        config_path=settings.config.resolve(),
        configuration=None if configuration.graphs else configuration,
        problems=configuration.problems,
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
        event_log_ttl_s=settings.event_log_ttl_s,
        event_log_max_bytes=settings.event_log_max_bytes,
        thread_ttl_s=settings.thread_ttl_s,
        sweep_interval_s=settings.sweep_interval_s,
        thread_sweep_s=(configuration.thread_ttl.sweep_interval_minutes or 0.0) * 60,
        thread_sweep_limit=configuration.thread_ttl.sweep_limit,
        item_sweep_s=configuration.store.sweep_interval_minutes * 60,
        webhooks=webhooks,
        logs=LogSettings(
            level=settings.log_level,
            form=settings.log_format,
            file=settings.log_file.resolve() if settings.log_file is not None else None,
            # With a Ray of its own, all processes are on the machine of the terminal.
            terminal=terminal_socket(settings.data_dir) if settings.ray_address is None else None,
        ),
        faults=faults,
    )


async def prepare_database(dsn: str, configuration: Configuration) -> int:
    """Brings the schema up to date, registers one assistant per graph, and counts this start.

    Returns:
        the generation of this start, larger than that of every earlier start.

    Raises:
        ConfigurationError, DatabaseUnavailable: as `migrate`.
    """
    await migrate(dsn, index=configuration.store.index)
    pool = await open_pool(dsn, application_name="greenroom:start")
    try:
        graphs = configuration.graphs
        defaults = {graph_id: spec.defaults for graph_id, spec in graphs.items()}
        descriptions = {graph_id: spec.description for graph_id, spec in graphs.items()}
        await register_assistants(pool, graphs, defaults, descriptions)
        await upkeep.set_default_ttl(pool, configuration.thread_ttl)
        return await retrying(pool, next_generation)
    finally:
        await pool.close()
