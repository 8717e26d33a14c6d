"""The system assistants: one for each graph, which every start of a server registers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from greenroom.core.identity import system_assistant_id
from greenroom.persistence.database import Connection, Pool, retrying

_CREATE = """
INSERT INTO greenroom.assistants (assistant_id, graph_id, name, description, metadata, config,
    context, configured)
VALUES (%(assistant_id)s, %(graph_id)s, %(name)s, %(description)s, '{"created_by": "system"}',
    %(config)s, %(context)s, %(configured)s)
ON CONFLICT (assistant_id) DO NOTHING"""

_KNOWN = """
SELECT graph_id, name, description, config, context, configured FROM greenroom.assistants
WHERE assistant_id = %s FOR UPDATE"""

_BRING_IN_LINE = """
UPDATE greenroom.assistants SET graph_id = %(graph_id)s, name = %(name)s,
    description = %(description)s, config = %(config)s, context = %(context)s,
    configured = %(configured)s,
    version = CASE WHEN %(is_new)s THEN newest + 1 ELSE version END,
    newest = CASE WHEN %(is_new)s THEN newest + 1 ELSE newest END,
    updated_at = CASE WHEN %(is_new)s THEN clock_timestamp() ELSE updated_at END
WHERE assistant_id = %(assistant_id)s"""

_NAME = """
UPDATE greenroom.assistants
SET name = %(name)s, updated_at = clock_timestamp(),
    configured = coalesce(configured, '{}') || jsonb_build_object('name', %(name)s::text)
WHERE assistant_id = %(assistant)s
    AND coalesce(configured ->> 'name', name) <> %(name)s"""


async def register_assistants(
    pool: Pool,
    graphs: Iterable[str],
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    descriptions: Mapping[str, str | None] | None = None,
) -> None:
    """Creates each graph's system assistant, or brings it in line with the configuration.

    Idempotent; a deleted one is created again. A changed one gets one more version: its name,
    description and graph are as configured, its metadata stay, and so do its config and context
    unless ``defaults`` has changed since the last call.

    Args:
        graphs: the graphs' names.
        defaults: by graph, the config of its assistant; also with a ``context``, which has the keys
            of ``configurable`` as well.
        descriptions: by graph, the description in the configuration.
    """
    for graph_id in sorted(graphs):
        config = dict((defaults or {}).get(graph_id, {}))
        context = {**config.get("configurable", {}), **config.pop("context", {})}
        wanted: dict[str, Any] = {
            "graph_id": graph_id,
            "name": graph_id,
            "description": (descriptions or {}).get(graph_id),
            "config": config,
            "context": context,
        }

        async def register(conn: Connection, wanted: dict[str, Any] = wanted) -> None:
            async with conn.transaction():
                await _register(conn, wanted)

        await retrying(pool, register)


async def _register(conn: Connection, wanted: dict[str, Any]) -> None:
    assistant_id = system_assistant_id(wanted["graph_id"])
    cursor = await conn.execute(_CREATE, _params(assistant_id, wanted, _configured(wanted)))
    if cursor.rowcount:
        return
    known = await (await conn.execute(_KNOWN, (assistant_id,))).fetchone()
    if known is None:  # deleted in between
        return await _register(conn, wanted)
    # A record without it is from before clients could change anything.
    last = known.pop("configured") or _configured(known)
    wanted = {**wanted, "name": last["name"]}
    configured = _configured(wanted)
    if all(configured[key] == last[key] for key in ("config", "context")):
        # What a client has changed of them stays.
        wanted |= {"config": known["config"], "context": known["context"]}
    if known != wanted or configured != last:
        params = _params(assistant_id, wanted, configured)
        await conn.execute(_BRING_IN_LINE, {**params, "is_new": known != wanted})


def _configured(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a start has set, by which the next one sees what has changed since."""
    return {key: fields[key] for key in ("name", "config", "context")}


def _params(
    assistant_id: str, fields: Mapping[str, Any], configured: Mapping[str, Any]
) -> dict[str, Any]:
    parts = {"config": fields["config"], "context": fields["context"], "configured": configured}
    return {
        **fields,
        "assistant_id": assistant_id,
        **{name: Jsonb(part) for name, part in parts.items()},
    }


async def name_assistants(pool: Pool, names: Mapping[str, str]) -> None:
    """Names system assistants as their graphs' authors do. Makes no new version.

    A name that a client has given stays, unless the author's has changed: this is called whenever
    an inspector starts, also in the middle of a server's life.

    Args:
        names: by graph, the name that its author gave it, or the graph's own.
    """
    rows = [
        {"assistant": system_assistant_id(graph_id), "name": names[graph_id]}
        for graph_id in sorted(names)
    ]

    async def update(conn: Connection) -> None:
        async with conn.cursor() as cursor:
            await cursor.executemany(_NAME, rows)

    await retrying(pool, update)
