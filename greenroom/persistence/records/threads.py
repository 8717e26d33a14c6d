"""Threads: lookups, searches, changes of metadata and time to live, size.

A search by metadata or values has two methods. The first one walks along the requested order: a
filter that most rows pass (a graph id) is answered after a few rows. When the first `WALK` rows do
not hold a page, few rows match, and the second method finds them by an index and sorts them. The
planner cannot make this choice, since it does not know the frequency of a piece of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from psycopg.types.json import Jsonb

from greenroom.core.answering import PendingInterrupts
from greenroom.core.errors import Conflict, InvalidRequest, NotFound
from greenroom.core.idempotency import OnceKey
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    Page,
    ThreadFilter,
)
from greenroom.persistence.answering import MARK
from greenroom.persistence.database import timestamp
from greenroom.persistence.facets import is_facet, without_nul
from greenroom.persistence.making_once import HELD, MAY_MAKE, NOTED, params_of
from greenroom.persistence.records.keys import KeyRecords
from greenroom.persistence.records.queries import (
    Conditions,
    and_within,
    order_clause,
    where_clause,
    within,
)

WALK = 2000
"""The rows that the first method reads."""
UUID_PATTERN = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
LONGEST_TTL_MINUTES = 60 * 24 * 365 * 1000

_COLUMNS = (
    "thread_id, created_at, updated_at, state_updated_at, metadata, status, config,"
    ' "values", error, interrupts, ever_ran, ttl_minutes, ttl_strategy, expires_at'
)
_COLUMNS_WITHOUT_STATE = _COLUMNS.replace(' "values",', ' NULL AS "values",').replace(
    " interrupts,", " NULL AS interrupts,"
)
_STORAGE = """
WITH stored AS (
    SELECT checkpoint_ns, channel, version, coalesce(octet_length(blob), 0) AS bytes
    FROM checkpoint_blobs WHERE thread_id = %s
    UNION ALL
    SELECT c.checkpoint_ns, v.key, c.checkpoint -> 'channel_versions' ->> v.key,
        octet_length(v.value::text)
    FROM checkpoints c CROSS JOIN LATERAL jsonb_each(c.checkpoint -> 'channel_values') v
    WHERE c.thread_id = %s),
versions AS (
    SELECT channel, max(bytes) AS bytes FROM stored GROUP BY checkpoint_ns, channel, version),
channels AS (
    SELECT channel, count(*)::int8 AS versions, sum(bytes)::int8 AS bytes
    FROM versions GROUP BY channel ORDER BY channel)
SELECT t.thread_id, c.*, w.*, (SELECT jsonb_agg(to_jsonb(channels)) FROM channels) AS channels
FROM greenroom.threads t,
    (SELECT count(*) AS checkpoints,
            coalesce(sum(octet_length((checkpoint - 'channel_values')::text)
                + octet_length(metadata::text)), 0)::int8 AS checkpoint_bytes
        FROM checkpoints WHERE thread_id = %s) c,
    (SELECT count(*) AS writes, coalesce(sum(octet_length(blob)), 0)::int8 AS write_bytes
        FROM checkpoint_writes WHERE thread_id = %s) w
WHERE t.thread_id = %s"""
_ORDERS = frozenset({"thread_id", "status", "created_at", "updated_at", "state_updated_at"})


# MATERIALIZED keeps the planner from walking in the order until it finds a page. Only the rows of
# the page are looked up once more.
_PAGE_OF_FOUND = f"""
    WITH found AS MATERIALIZED (
        SELECT {", ".join(sorted(_ORDERS))} FROM greenroom.threads {{where}}),
    page AS (SELECT thread_id FROM found {{order}} LIMIT %s OFFSET %s)
    SELECT {_COLUMNS} FROM page JOIN greenroom.threads USING (thread_id) {{order}}"""

_CREATE = """
    INSERT INTO greenroom.threads (thread_id, metadata, ttl_minutes, ttl_strategy,
        created_at, updated_at, state_updated_at)
    SELECT %(made_id)s, %(metadata)s, m, %(strategy)s, t, t, t
    FROM (SELECT %(minutes)s::float8 AS m, clock_timestamp() AS t) AS given
    WHERE NOT EXISTS (SELECT 1 FROM greenroom.operations WHERE subject = %(made_id)s)"""
_RETURNED = f"ON CONFLICT (thread_id) DO NOTHING RETURNING {_COLUMNS}"
_CREATE_ONCE = f"""
{HELD}, made AS ({_CREATE} AND {MAY_MAKE} {_RETURNED}), {NOTED} SELECT * FROM made"""


class ThreadRecords(KeyRecords):
    """The queries of threads, and the changes that a client may make."""

    async def create_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any],
        if_exists: Literal["raise", "do_nothing"],
        ttl: Mapping[str, Any] | None,
        scope: Scope,
        once: OnceKey | None = None,
    ) -> JsonObject:
        minutes, strategy = _ttl(ttl)
        given = {"metadata": Jsonb(dict(metadata)), "strategy": strategy, "minutes": minutes}
        given |= {"made_id": thread_id} if once is None else params_of(once, thread_id)
        sql = f"{_CREATE} {_RETURNED}" if once is None else _CREATE_ONCE
        while True:
            rows = await self.rows(sql, given)
            if rows:
                return (await self._shown_threads(rows))[0]
            if await self._is_being_deleted(thread_id):
                raise Conflict(
                    f"Thread with ID {thread_id} is being deleted. Try again when it is gone, or"
                    " choose another ID."
                )
            found = await self.get_thread(thread_id, scope=SERVER)
            state = "free" if once is None else await self.key_state(once, thread_id)
            if state == "gone" or (state == "made" and found is None):
                raise NotFound(f"Thread with ID {thread_id} not found")
            if state == "free" and if_exists == "raise":
                raise Conflict(f"Thread with ID {thread_id} already exists")
            # None when the thread was deleted in between; then it can be created.
            if found is None or scope.is_everything:
                if found is not None:
                    return found
                continue
            found = await self.get_thread(thread_id, scope=scope)
            if found is None:
                raise Conflict(f"Thread with ID {thread_id} already exists")
            return found

    async def _is_being_deleted(self, thread_id: str) -> bool:
        """Returns whether the thread's record is deleted but its checkpoints are not."""
        return bool(
            await self.rows("SELECT 1 FROM greenroom.operations WHERE subject = %s", [thread_id])
        )

    async def get_thread(
        self, thread_id: str, *, scope: Scope, with_state: bool = True
    ) -> JsonObject | None:
        sql, values = and_within(scope)
        columns = _COLUMNS if with_state else _COLUMNS_WITHOUT_STATE
        rows = await self.rows(
            f"SELECT {columns} FROM greenroom.threads WHERE thread_id = %s{sql}",
            [thread_id, *values],
        )
        return (await self._shown_threads(rows))[0] if rows else None

    async def pending_interrupts(self, thread_id: str, *, scope: Scope) -> PendingInterrupts | None:
        sql, values = and_within(scope)
        rows = await self.rows(
            f"SELECT interrupts, {MARK} AS mark, metadata ->> 'assistant_id' AS assistant_id"
            f" FROM greenroom.threads WHERE thread_id = %s{sql}",
            [thread_id, *values],
        )
        if not rows:
            return None
        (row,) = await self.opened(rows, "interrupts")
        of_tasks: Any = orjson.loads(orjson.dumps(row["interrupts"])) or {}
        return PendingInterrupts(
            values={
                str(one.get("id")): one.get("value") for found in of_tasks.values() for one in found
            },
            mark=row["mark"],
            assistant_id=row["assistant_id"],
        )

    async def patch_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any] | None,
        ttl: Mapping[str, Any] | None,
        scope: Scope,
    ) -> JsonObject | None:
        minutes, strategy = _ttl(ttl)
        sql, values = and_within(scope)
        rows = await self.rows(
            "UPDATE greenroom.threads SET metadata = metadata || %s,"
            " updated_at = clock_timestamp(), ttl_minutes = coalesce(m, ttl_minutes),"
            " ttl_strategy = coalesce(%s, ttl_strategy)"
            " FROM (SELECT %s::float8 AS m) AS given"
            f" WHERE thread_id = %s{sql} RETURNING {_COLUMNS}",
            [Jsonb(dict(metadata or {})), strategy, minutes, thread_id, *values],
        )
        return (await self._shown_threads(rows))[0] if rows else None

    async def thread_storage(self, thread_id: str, *, scope: Scope) -> JsonObject | None:
        # A channel's values count once per version, both in blobs and in the checkpoint itself.
        sql, values_of_scope = and_within(scope, "t.metadata")
        rows = await self.search(f"{_STORAGE}{sql}", [*[thread_id] * 5, *values_of_scope])
        if not rows:
            return None
        row = rows[0]
        channels: list[dict[str, Any]] = row["channels"] or []
        values = {"count": sum(c["versions"] for c in channels)}
        values["bytes"] = sum(c["bytes"] for c in channels)
        return {
            "thread_id": row["thread_id"],
            "total_bytes": row["checkpoint_bytes"] + values["bytes"] + row["write_bytes"],
            "checkpoints": {"count": row["checkpoints"], "bytes": row["checkpoint_bytes"]},
            "channel_values": {**values, "by_channel": {c.pop("channel"): c for c in channels}},
            "pending_writes": {"count": row["writes"], "bytes": row["write_bytes"]},
        }

    async def search_threads(
        self,
        where: ThreadFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page:
        order = order_clause("thread_id", sort_by, _ORDERS, descending)
        plain, contained = _of_threads(where, scope, is_sealed=self._sealing.is_on)
        rows = None
        if contained:
            rows = await self._walk(plain, contained, order, limit, offset)
        if rows is None:
            sql, params = where_clause(plain + contained)
            if contained:
                query = _PAGE_OF_FOUND.format(where=sql, order=order)
            else:
                query = f"SELECT {_COLUMNS} FROM greenroom.threads {sql} {order} LIMIT %s OFFSET %s"
            rows = await self.search(query, [*params, limit + 1, offset])
        return Page(items=await self._shown_threads(rows[:limit]), has_more=len(rows) > limit)

    async def _shown_threads(self, rows: list[JsonObject]) -> list[JsonObject]:
        opened = await self.opened(rows, "values", "error", "interrupts")
        return [_thread(row) for row in opened]

    async def _walk(
        self, plain: Conditions, contained: Conditions, order: str, limit: int, offset: int
    ) -> list[JsonObject] | None:
        """Returns the page, if the first `WALK` rows hold it or there are no more; else None."""
        sql, params = where_clause(plain)
        match, values = where_clause(contained)
        rows = await self.search(
            "WITH first AS MATERIALIZED ("
            f" SELECT * FROM greenroom.threads {sql} {order} LIMIT %s),"
            f" page AS (SELECT {_COLUMNS} FROM first {match} {order} LIMIT %s OFFSET %s)"
            " SELECT page.*, seen FROM (SELECT count(*) AS seen FROM first) AS counted"
            f" LEFT JOIN page ON true {order}",
            [*params, WALK, *values, limit + 1, offset],
        )
        page = [row for row in rows if row["thread_id"] is not None]
        return page if len(page) > limit or rows[0]["seen"] < WALK else None

    async def count_threads(self, where: ThreadFilter, *, scope: Scope) -> int:
        plain, contained = _of_threads(where, scope, is_sealed=self._sealing.is_on)
        sql, params = where_clause(plain + contained)
        return await self.counted(f"greenroom.threads {sql}", params)


def _of_threads(
    where: ThreadFilter, scope: Scope, *, is_sealed: bool = False
) -> tuple[Conditions, Conditions]:
    """Returns the conditions on columns, and those on the content of JSON.

    Raises:
        InvalidRequest: there are conditions on values, which are sealed.
    """
    if where.values and is_sealed:
        raise InvalidRequest(
            "The values of threads are encrypted, so that no search can look into them: leave"
            " 'values' out, and search by 'metadata', which is not encrypted."
        )
    plain: Conditions = []
    contained = within(scope)
    if where.ids is not None:
        plain.append(("thread_id = ANY(%s)", list(where.ids)))
    if where.status is not None:
        plain.append(("status = %s", where.status))
    if where.uuids_only:
        plain.append(("thread_id ~ %s", UUID_PATTERN))
    if where.metadata:
        contained.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    if where.values:
        values = without_nul(where.values)
        if facets := {name: value for name, value in values.items() if is_facet(value)}:
            contained.append(("facets <> '{}' AND facets @> %s", Jsonb(facets)))
        contained.append(('greenroom.searchable("values") @> %s', Jsonb(values)))
    return plain, contained


def _ttl(ttl: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
    """Returns minutes and strategy of ``{"ttl": minutes, "strategy": "delete"}``."""
    if ttl is None:
        return None, None
    minutes, strategy = ttl.get("ttl"), ttl.get("strategy") or "delete"
    if (
        isinstance(minutes, bool)
        or not isinstance(minutes, int | float)
        or not 0 < minutes < LONGEST_TTL_MINUTES
    ):
        raise InvalidRequest("ttl.ttl must be a positive number of minutes.")
    if strategy not in ("delete", "keep_latest"):
        raise InvalidRequest("ttl.strategy must be 'delete' or 'keep_latest'.")
    return float(minutes), strategy


def _thread(row: JsonObject) -> JsonObject:
    """Returns a thread in the API's shape, without ``error`` and ``interrupts`` until its first
    run has ended."""
    thread = {
        "thread_id": row["thread_id"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "state_updated_at": timestamp(row["state_updated_at"]),
        "metadata": row["metadata"],
        "status": row["status"],
        "config": row["config"],
        "values": row["values"],
    }
    if row["ever_ran"]:
        thread["error"] = row["error"]
        thread["interrupts"] = row["interrupts"] or orjson.Fragment(b"{}")
    if row["ttl_minutes"] is not None:
        thread["ttl"] = {
            "strategy": row["ttl_strategy"],
            "ttl_minutes": row["ttl_minutes"],
            # None: it was pruned, and has no next expiry until it changes.
            "expires_at": timestamp(row["expires_at"]) if row["expires_at"] else None,
        }
    return thread
