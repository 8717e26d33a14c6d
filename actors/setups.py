"""Derives what each process is told from the server's settings and its configuration."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from actors.common.code_version import code_version
from actors.common.setup import RegistrySetup, WebhookSettings
from greenroom.core.faults import NO_FAULTS, Faults
from greenroom.core.sharding import Shard
from greenroom.environment import terminal_socket
from greenroom.graphs.configuration import Configuration
from greenroom.http.settings import HttpSettings
from greenroom.logs import LogSettings
from greenroom.settings import Settings

if TYPE_CHECKING:
    from greenroom.auth.ready import ReadySettings


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


def embedded_directory(settings: Settings) -> Path:
    """Returns the directory of the embedded database, within the data directory."""
    return settings.data_dir.resolve() / "pg"


def http_settings(settings: Settings, configuration: Configuration) -> HttpSettings:
    """Returns the settings of a gateway's routes."""
    return HttpSettings(
        heartbeat_s=settings.heartbeat_s,
        event_log_ttl_s=max(settings.event_log_ttl_s, settings.resumable_ttl_s),
        event_log_max_bytes=settings.event_log_max_bytes,
        send_timeout_s=settings.send_timeout_s,
        max_body_bytes=settings.max_body_bytes,
        bodies_max_bytes=settings.bodies_max_bytes,
        webhook_allow_private=settings.webhook_allow_private,
        hosts=settings.hosts,
        openai=settings.openai or configuration.http.openai,
        console=settings.console and "ui" not in configuration.http.disabled,
        thread_ttl=settings.thread_ttl_s is not None
        or configuration.thread_ttl.default_minutes is not None,
        limits=settings.limits,
    )


def ready_settings(settings: Settings) -> ReadySettings:
    """Returns the settings of ready-made handlers of ``auth``."""
    # Imported late: a server without `auth` does not pay for the SDK.
    from greenroom.auth.ready import ReadySettings

    return ReadySettings(
        data_dir=settings.data_dir,
        api_keys=settings.api_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        jwks_url=settings.jwt_jwks_url,
        algorithms=tuple(settings.jwt_algorithms.replace(",", " ").split()),
        leeway_s=settings.jwt_leeway_s,
        identity_claim=settings.jwt_identity_claim,
        permissions_claim=settings.jwt_permissions_claim,
        admin=settings.jwt_admin,
    )
