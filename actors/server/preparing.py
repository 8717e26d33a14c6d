"""Prepares the database at the start of a server."""

from __future__ import annotations

from greenroom.graphs.configuration import Configuration
from greenroom.persistence import upkeep
from greenroom.persistence.database import open_pool, retrying
from greenroom.persistence.journal import next_generation
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import register_assistants


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
