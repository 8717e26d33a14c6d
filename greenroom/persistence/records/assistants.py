"""Assistants: lookups, searches, and the versions that clients make."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from psycopg.types.json import Jsonb

from greenroom.core.assistants import AssistantPatch, NewAssistant
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.idempotency import OnceKey
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    AssistantFilter,
    Page,
)
from greenroom.persistence.database import Pool, timestamp
from greenroom.persistence.making_once import HELD, MAY_MAKE, NOTED, params_of
from greenroom.persistence.records.keys import KeyRecords
from greenroom.persistence.records.queries import (
    Conditions,
    and_within,
    is_uuid,
    order_clause,
    pattern_of,
    where_clause,
    within,
)
from greenroom.persistence.scoping import named_condition
from greenroom.sealing import UNSEALED, Sealing

KEPT_S = 5.0
"""How long an assistant is kept for the runs that are created with it, in seconds."""
MOST_KEPT = 1000

_COLUMNS = (
    "assistant_id, graph_id, config, context, metadata, name, created_at, updated_at, version,"
    " description"
)
_VERSION_COLUMNS = (
    "assistant_id, version, graph_id, config, context, metadata, created_at, name, description"
)
_ORDERS = frozenset({"assistant_id", "graph_id", "name", "created_at", "updated_at"})

_CREATE = """
INSERT INTO greenroom.assistants (assistant_id, graph_id, name, description, config, context,
    metadata, change)
SELECT %(made_id)s::uuid, %(graph_id)s, %(name)s, %(description)s, %(config)s, %(context)s,
    %(metadata)s, %(change)s"""
_RETURNED = f"ON CONFLICT (assistant_id) DO NOTHING RETURNING {_COLUMNS}"
_CREATE_ONCE = f"""
{HELD}, made AS ({_CREATE} WHERE {MAY_MAKE} {_RETURNED}), {NOTED} SELECT * FROM made"""

# Rests on `config.configurable` being the same as `context`. One statement: two patches at the same
# time are two versions, and neither undoes the other.
_PATCH = f"""
UPDATE greenroom.assistants SET
    graph_id = coalesce(%(graph_id)s, graph_id), name = coalesce(%(name)s, name),
    description = coalesce(%(description)s, description),
    metadata = metadata || coalesce(%(metadata)s::jsonb, '{{{{}}}}'),
    config = coalesce(%(rest)s::jsonb, config - 'configurable')
        || CASE WHEN coalesce(%(values)s::jsonb, context) = '{{{{}}}}' THEN '{{{{}}}}'::jsonb
            ELSE jsonb_build_object('configurable', coalesce(%(values)s::jsonb, context)) END,
    context = coalesce(%(values)s::jsonb, context),
    version = newest + 1, newest = newest + 1, change = %(change)s, updated_at = clock_timestamp()
WHERE assistant_id = %(assistant)s AND {{scope}} AND NOT EXISTS (
    SELECT 1 FROM greenroom.assistant_versions
    WHERE assistant_id = %(assistant)s AND change = %(change)s)
RETURNING {_COLUMNS}"""

_SHOW = f"""
UPDATE greenroom.assistants a SET graph_id = v.graph_id, name = v.name,
    description = v.description, config = v.config, context = v.context, metadata = v.metadata,
    version = v.version, updated_at = clock_timestamp()
FROM greenroom.assistant_versions v
WHERE a.assistant_id = %s AND v.assistant_id = a.assistant_id AND v.version = %s{{scope}}
RETURNING {", ".join(f"a.{name.strip()}" for name in _COLUMNS.split(","))}"""


class AssistantRecords(KeyRecords):
    """The queries of assistants."""

    def __init__(self, pool: Pool, *, sealing: Sealing = UNSEALED) -> None:
        super().__init__(pool, sealing=sealing)
        self._assistants: dict[tuple[str, Scope], tuple[float, JsonObject]] = {}

    async def get_assistant(self, assistant_id: str, *, scope: Scope) -> JsonObject | None:
        found = await self._find_assistant(assistant_id, _COLUMNS, scope)
        return _shown(found) if found is not None else None

    async def assistant_of_run(
        self, assistant_id: str, *, scope: Scope, fresh: bool = False
    ) -> JsonObject | None:
        """Returns an assistant with its ``revision``, unless ``fresh`` at most `KEPT_S` old: every
        create of a run needs one. The admission of the run refuses an old one."""
        key = (assistant_id, scope)
        kept = self._assistants.get(key)
        if not fresh and kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        self._assistants.pop(key, None)
        found = await self._find_assistant(assistant_id, f"{_COLUMNS}, revision", scope)
        if found is None:
            return None
        found = _shown(found)
        if len(self._assistants) >= MOST_KEPT:
            self._assistants.clear()
        self._assistants[key] = (time.monotonic() + KEPT_S, found)
        return found

    async def _find_assistant(
        self, assistant_id: str, columns: str, scope: Scope
    ) -> JsonObject | None:
        if not is_uuid(assistant_id):
            return None
        sql, values = and_within(scope)
        rows = await self.rows(
            f"SELECT {columns} FROM greenroom.assistants WHERE assistant_id = %s{sql}",
            [assistant_id, *values],
        )
        return rows[0] if rows else None

    async def create_assistant(
        self,
        new: NewAssistant,
        *,
        if_exists: Literal["raise", "do_nothing"],
        scope: Scope,
        once: OnceKey | None = None,
    ) -> JsonObject:
        change = uuid.uuid4()
        made_id = new.assistant_id
        given: dict[str, Any] = {
            "graph_id": new.graph_id,
            "name": new.name,
            "description": new.description,
            "config": Jsonb(dict(new.config)),
            "context": Jsonb(dict(new.context)),
            "metadata": Jsonb(dict(new.metadata)),
            "change": change,
        }
        given |= {"made_id": made_id} if once is None else params_of(once, made_id)
        sql = f"{_CREATE} {_RETURNED}" if once is None else _CREATE_ONCE
        while True:
            rows = await self.rows(sql, given)
            if rows:
                return _shown(rows[0])
            found = await self._find_assistant(made_id, f"{_COLUMNS}, change", SERVER)
            state = "free" if once is None else await self.key_state(once, made_id)
            if state == "gone" or (state == "made" and found is None):
                raise NotFound(f"Assistant {made_id} not found")
            # None when the assistant was deleted in between; then it can be created.
            if found is None:
                continue
            # A statement that is repeated after a lost connection finds its own row.
            if found.pop("change") == change:
                return _shown(found)
            refused = state == "free" and if_exists == "raise"
            if refused or await self._find_assistant(made_id, "1", scope) is None:
                raise Conflict(f"Assistant {made_id} already exists")
            return _shown(found)

    async def patch_assistant(
        self, assistant_id: str, patch: AssistantPatch, *, scope: Scope
    ) -> JsonObject | None:
        sql, values = named_condition(scope)
        rows = await self.rows(
            _PATCH.format(scope=sql),
            {
                **values,
                "assistant": assistant_id,
                "change": uuid.uuid4(),
                "graph_id": patch.graph_id,
                "name": patch.name,
                "description": patch.description,
                "metadata": _json(patch.metadata),
                "rest": _json(patch.rest),
                "values": _json(patch.values),
            },
        )
        if rows:
            return _shown(rows[0])
        # A statement that is repeated after a lost connection changes nothing more.
        return await self.get_assistant(assistant_id, scope=scope)

    async def assistant_versions(
        self,
        assistant_id: str,
        *,
        metadata: Mapping[str, Any] | None,
        limit: int,
        offset: int,
        scope: Scope,
    ) -> list[JsonObject] | None:
        if await self._find_assistant(assistant_id, "assistant_id", scope) is None:
            return None
        conditions: Conditions = [("assistant_id = %s", assistant_id)]
        if metadata:
            conditions.append(("metadata @> %s", Jsonb(dict(metadata))))
        sql, params = where_clause(conditions)
        rows = await self.rows(
            f"SELECT {_VERSION_COLUMNS} FROM greenroom.assistant_versions {sql}"
            " ORDER BY version DESC LIMIT %s OFFSET %s",
            [*params, limit, offset],
        )
        return [_shown(row) for row in rows]

    async def show_version(
        self, assistant_id: str, version: int | None, *, scope: Scope
    ) -> JsonObject | None:
        sql, values = and_within(scope, "a.metadata")
        rows = await self.rows(_SHOW.format(scope=sql), [assistant_id, version, *values])
        if rows:
            return _shown(rows[0])
        if await self._find_assistant(assistant_id, "assistant_id", scope) is None:
            return None
        raise NotFound(f"Version {version} not found for assistant {assistant_id}")

    async def search_assistants(
        self,
        where: AssistantFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page:
        order = order_clause("assistant_id", sort_by, _ORDERS, descending)
        order = order.replace("ORDER BY name", "ORDER BY lower(name)")
        sql, params = where_clause(_of_assistants(where) + within(scope))
        rows = await self.search(
            f"SELECT {_COLUMNS} FROM greenroom.assistants {sql} {order} LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=[_shown(row) for row in rows[:limit]], has_more=len(rows) > limit)

    async def count_assistants(self, where: AssistantFilter, *, scope: Scope) -> int:
        sql, params = where_clause(_of_assistants(where) + within(scope))
        return await self.counted(f"greenroom.assistants {sql}", params)


def _of_assistants(where: AssistantFilter) -> Conditions:
    conditions: Conditions = []
    if where.graph_id is not None:
        conditions.append(("graph_id = %s", where.graph_id))
    if where.metadata:
        conditions.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    if where.name is not None:
        conditions.append(("name ILIKE '%%' || %s || '%%' ESCAPE '!'", pattern_of(where.name)))
    return conditions


def _json(part: Mapping[str, Any] | None) -> Jsonb | None:
    return None if part is None else Jsonb(dict(part))


def _shown(row: JsonObject) -> JsonObject:
    moments = {key: timestamp(row[key]) for key in ("created_at", "updated_at") if key in row}
    return {**row, "assistant_id": str(row["assistant_id"]), **moments}
