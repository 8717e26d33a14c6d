"""The sweep of a first registry over a database that no registry keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from actors.common import metrics
from actors.common.metering import Meter
from actors.common.setup import RegistrySetup
from actors.registry.sweeping import Sweeper
from greenroom.persistence.database import Pool
from greenroom.settings import Settings


class _Nothing:
    """Has no operations to go on with."""

    async def sweep(self) -> None:
        pass


def sweeper_of(pool: Pool, dsn: str, *, thread_ttl_s: float | None) -> Sweeper:
    """Returns a sweeper with the default settings, which deletes what is expired but no threads.

    Args:
        thread_ttl_s: the time to live of threads without one of their own, or None.
    """
    settings = Settings()
    setup = RegistrySetup(
        namespace="sweeping",
        version="",
        generation=1,
        dsn=dsn,
        embedded=None,
        config_path=Path("langgraph.json"),
        drain_s=0.0,
        default_max_actors=1,
        cancel_grace_s=settings.cancel_grace_s,
        registry_silence_s=0.0,
        log_max_bytes=settings.log_max_bytes,
        max_queued_runs=None,
        resumable_ttl_s=settings.resumable_ttl_s,
        event_log_ttl_s=settings.event_log_ttl_s,
        event_log_max_bytes=settings.event_log_max_bytes,
        thread_ttl_s=thread_ttl_s,
        item_sweep_s=0.0,
    )
    nothing = cast(Any, _Nothing())
    return Sweeper(pool, setup, nothing, nothing, Meter(metrics.ALL))
