"""Assistants: lookups, searches, and the system assistant of each graph."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import AssistantFilter, JsonObject, Page
from greenroom.persistence.database import Connection, Pool, retrying, timestamp
from greenroom.persistence.records.queries import (
    Conditions,
    Queries,
    is_uuid,
    order_clause,
    pattern_of,
    where_clause,
)

KEPT_S = 5.0
"""How long a found assistant is cached, in seconds."""
MOST_KEPT = 1000

_COLUMNS = (
    "assistant_id, graph_id, config, context, metadata, name, created_at, updated_at, version,"
    " description"
)
_ORDERS = frozenset({"assistant_id", "graph_id", "name", "created_at", "updated_at"})
_REGISTER = """
INSERT INTO greenroom.assistants AS known (assistant_id, graph_id, name, metadata, config, context)
VALUES (%s, %s, %s, '{"created_by": "system"}', %s, %s) ON CONFLICT (assistant_id) DO UPDATE
SET config = excluded.config, context = excluded.context, updated_at = clock_timestamp()
WHERE (known.config, known.context) IS DISTINCT FROM (excluded.config, excluded.context)"""
_NAME = """
UPDATE greenroom.assistants SET name = %s, updated_at = clock_timestamp()
WHERE assistant_id = %s AND name <> %s"""


async def register_assistants(
    pool: Pool, graphs: Iterable[str], defaults: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Creates each graph's system assistant. Idempotent; a deleted one is created again.

    Args:
        graphs: the graphs' names.
        defaults: by graph, the config of its assistant; also with a ``context``, which has the keys
            of ``configurable`` as well.
    """
    configs = {graph_id: dict((defaults or {}).get(graph_id, {})) for graph_id in graphs}
    rows: list[tuple[Any, ...]] = []
    for graph_id, config in sorted(configs.items()):
        context = {**config.get("configurable", {}), **config.pop("context", {})}
        assistant_id = system_assistant_id(graph_id)
        rows.append((assistant_id, graph_id, graph_id, Jsonb(config), Jsonb(context)))

    async def insert(conn: Connection) -> None:
        async with conn.cursor() as cursor:
            await cursor.executemany(_REGISTER, rows)

    await retrying(pool, insert)


async def name_assistants(pool: Pool, names: Mapping[str, str]) -> None:
    """Names system assistants.

    Args:
        names: by graph, the name that its author gave it, or the graph's own.
    """
    rows = [(names[graph_id], system_assistant_id(graph_id)) for graph_id in sorted(names)]

    async def update(conn: Connection) -> None:
        async with conn.cursor() as cursor:
            await cursor.executemany(_NAME, [(name, its_id, name) for name, its_id in rows])

    await retrying(pool, update)


class AssistantRecords(Queries):
    """The queries of assistants."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._assistants: dict[str, tuple[float, JsonObject]] = {}

    async def get_assistant(self, assistant_id: str) -> JsonObject | None:
        """Returns an assistant, at most `KEPT_S` old: every create of a run needs one."""
        kept = self._assistants.get(assistant_id)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        found = await self._find_assistant(assistant_id)
        if found is not None:
            if len(self._assistants) >= MOST_KEPT:
                self._assistants.clear()
            self._assistants[assistant_id] = (time.monotonic() + KEPT_S, found)
        return found

    async def _find_assistant(self, assistant_id: str) -> JsonObject | None:
        if not is_uuid(assistant_id):
            return None
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.assistants WHERE assistant_id = %s",
            [assistant_id],
        )
        return _assistant(rows[0]) if rows else None

    async def search_assistants(
        self, where: AssistantFilter, *, limit: int, offset: int, sort_by: str, descending: bool
    ) -> Page:
        order = order_clause("assistant_id", sort_by, _ORDERS, descending)
        sql, params = where_clause(_of_assistants(where))
        rows = await self.search(
            f"SELECT {_COLUMNS} FROM greenroom.assistants {sql} {order} LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=[_assistant(row) for row in rows[:limit]], has_more=len(rows) > limit)

    async def count_assistants(self, where: AssistantFilter) -> int:
        sql, params = where_clause(_of_assistants(where))
        rows = await self.search(f"SELECT count(*) AS n FROM greenroom.assistants {sql}", params)
        return rows[0]["n"]


def _of_assistants(where: AssistantFilter) -> Conditions:
    conditions: Conditions = []
    if where.graph_id is not None:
        conditions.append(("graph_id = %s", where.graph_id))
    if where.metadata:
        conditions.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    if where.name is not None:
        conditions.append(("name ILIKE '%%' || %s || '%%' ESCAPE '!'", pattern_of(where.name)))
    return conditions


def _assistant(row: JsonObject) -> JsonObject:
    return {
        **row,
        "assistant_id": str(row["assistant_id"]),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }
