"""Assistants, threads and runs, as the HTTP edge reads them.

Searches by metadata or values go two ways. First along the order that was asked for: a filter that
most rows pass (a graph id) is answered after a few. When the first `WALK` rows do not hold a page,
few rows match, and an index finds those; they are collected and sorted. The planner cannot make
this choice itself, since it does not know how common a piece of JSON is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Literal, LiteralString, cast

import orjson
import psycopg
from psycopg.types.json import Jsonb

from greenroom.core.errors import Conflict, DatabaseUnavailable, InvalidRequest
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import AssistantFilter, JsonObject, Page, ThreadFilter
from greenroom.persistence.database import Connection, Pool, retrying, timestamp
from greenroom.persistence.facets import is_facet, without_nul

WALK = 2000
LONGEST_TTL_MINUTES = 60 * 24 * 365 * 1000

_ASSISTANT = (
    "assistant_id, graph_id, config, context, metadata, name, created_at, updated_at, version,"
    " description"
)
_THREAD = (
    "thread_id, created_at, updated_at, state_updated_at, metadata, status, config,"
    ' "values", error, interrupts, ever_ran, ttl_minutes, ttl_strategy, expires_at'
)
_RUN = (
    "run_id, thread_id, assistant_id, metadata, status, kwargs, multitask_strategy, created_at,"
    " updated_at"
)
_NOT_DELETED = (
    "NOT EXISTS (SELECT 1 FROM greenroom.operations WHERE subject = runs.thread_id)"
    " AND (NOT temporary"
    " OR EXISTS (SELECT 1 FROM greenroom.threads t WHERE t.thread_id = runs.thread_id))"
)
"""A run whose thread is being deleted is not shown any more, nor a stateless one that is over."""
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
ASSISTANT_KEPT_S = 5.0
ASSISTANTS_KEPT = 1000

_ASSISTANT_ORDERS = frozenset({"assistant_id", "graph_id", "name", "created_at", "updated_at"})
_THREAD_ORDERS = frozenset({"thread_id", "status", "created_at", "updated_at", "state_updated_at"})

Conditions = list[tuple[str, Any]]
"""SQL with one placeholder, and what goes there."""


async def register_assistants(pool: Pool, graphs: Iterable[str]) -> None:
    """Gives each graph its system assistant. Idempotent; one that was deleted comes back."""
    rows = [(system_assistant_id(graph_id), graph_id) for graph_id in sorted(set(graphs))]

    async def insert(conn: Connection) -> None:
        async with conn.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO greenroom.assistants (assistant_id, graph_id, name, metadata)"
                """ VALUES (%s, %s, %s, '{"created_by": "system"}') ON CONFLICT DO NOTHING""",
                [(assistant_id, graph_id, graph_id) for assistant_id, graph_id in rows],
            )

    await retrying(pool, insert)


class PostgresRecords:
    """`core.ports.Records` over a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._assistants: dict[str, tuple[float, JsonObject]] = {}
        self._searches = asyncio.Semaphore(max(1, pool.max_size // 2))

    async def ready(self) -> None:
        """Raises DatabaseUnavailable with a sentence when the database cannot be reached."""
        async with self._pool.connection(timeout=2.0) as conn:
            await conn.execute("SELECT 1")

    # --- assistants

    async def get_assistant(self, assistant_id: str) -> JsonObject | None:
        """An assistant as it was at most some seconds ago: every create of a run asks for one."""
        kept = self._assistants.get(assistant_id)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        found = await self._find_assistant(assistant_id)
        if found is not None:
            if len(self._assistants) >= ASSISTANTS_KEPT:
                self._assistants.clear()
            self._assistants[assistant_id] = (time.monotonic() + ASSISTANT_KEPT_S, found)
        return found

    async def _find_assistant(self, assistant_id: str) -> JsonObject | None:
        if not _is_uuid(assistant_id):
            return None
        rows = await self._rows(
            f"SELECT {_ASSISTANT} FROM greenroom.assistants WHERE assistant_id = %s",
            [assistant_id],
        )
        return _assistant(rows[0]) if rows else None

    async def search_assistants(
        self, where: AssistantFilter, *, limit: int, offset: int, sort_by: str, descending: bool
    ) -> Page:
        order = _order("assistant_id", sort_by, _ASSISTANT_ORDERS, descending)
        sql, params = _where(_of_assistants(where))
        rows = await self._search(
            f"SELECT {_ASSISTANT} FROM greenroom.assistants {sql} {order} LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=[_assistant(row) for row in rows[:limit]], has_more=len(rows) > limit)

    async def count_assistants(self, where: AssistantFilter) -> int:
        sql, params = _where(_of_assistants(where))
        rows = await self._search(f"SELECT count(*) AS n FROM greenroom.assistants {sql}", params)
        return rows[0]["n"]

    # --- threads

    async def create_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any],
        if_exists: Literal["raise", "do_nothing"],
        ttl: Mapping[str, Any] | None,
    ) -> JsonObject:
        """A new thread, or the one that exists, untouched, with ``do_nothing``.

        Raises:
            Conflict: it exists and ``if_exists`` is ``raise``, or it is being deleted.
            InvalidRequest: the metadata or the ttl cannot be stored.
        """
        minutes, strategy = _ttl(ttl)
        while True:
            rows = await self._rows(
                "INSERT INTO greenroom.threads (thread_id, metadata, ttl_minutes, ttl_strategy,"
                " created_at, updated_at, state_updated_at)"
                " SELECT %s, %s, m, %s, t, t, t"
                " FROM (SELECT %s::float8 AS m, clock_timestamp() AS t) AS given"
                " WHERE NOT EXISTS (SELECT 1 FROM greenroom.operations WHERE subject = %s)"
                f" ON CONFLICT (thread_id) DO NOTHING RETURNING {_THREAD}",
                [thread_id, Jsonb(dict(metadata)), strategy, minutes, thread_id],
            )
            if rows:
                return _thread(rows[0])
            if await self._is_being_deleted(thread_id):
                raise Conflict(
                    f"Thread with ID {thread_id} is being deleted. Try again when it is gone, or"
                    " choose another ID."
                )
            if if_exists == "raise":
                raise Conflict(f"Thread with ID {thread_id} already exists")
            # None when it was deleted in between; then it can be made.
            if found := await self.get_thread(thread_id):
                return found

    async def _is_being_deleted(self, thread_id: str) -> bool:
        """Its record is gone already, its checkpoints are not."""
        return bool(
            await self._rows("SELECT 1 FROM greenroom.operations WHERE subject = %s", [thread_id])
        )

    async def get_thread(self, thread_id: str) -> JsonObject | None:
        rows = await self._rows(
            f"SELECT {_THREAD} FROM greenroom.threads WHERE thread_id = %s", [thread_id]
        )
        return _thread(rows[0]) if rows else None

    async def patch_thread(
        self, thread_id: str, *, metadata: Mapping[str, Any] | None, ttl: Mapping[str, Any] | None
    ) -> JsonObject | None:
        """Merges metadata, shallowly; a ttl counts from now. None when there is no such thread."""
        minutes, strategy = _ttl(ttl)
        rows = await self._rows(
            "UPDATE greenroom.threads SET metadata = metadata || %s,"
            " updated_at = clock_timestamp(), ttl_minutes = coalesce(m, ttl_minutes),"
            " ttl_strategy = coalesce(%s, ttl_strategy)"
            f" FROM (SELECT %s::float8 AS m) AS given WHERE thread_id = %s RETURNING {_THREAD}",
            [Jsonb(dict(metadata or {})), strategy, minutes, thread_id],
        )
        return _thread(rows[0]) if rows else None

    async def thread_storage(self, thread_id: str) -> JsonObject | None:
        """How much a thread keeps: JSON as text, blobs as they are; None when there is none.

        A channel's values are counted once per version, whether they are blobs or stand in the
        checkpoint itself.
        """
        rows = await self._search(_STORAGE, [thread_id] * 5)
        if not rows:
            return None
        row = rows[0]
        channels = row["channels"] or []
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
        self, where: ThreadFilter, *, limit: int, offset: int, sort_by: str, descending: bool
    ) -> Page:
        order = _order("thread_id", sort_by, _THREAD_ORDERS, descending)
        plain, contained = _of_threads(where)
        rows = None
        if contained:
            rows = await self._walk(plain, contained, order, limit, offset)
        if rows is None:
            sql, params = _where(plain + contained)
            source = "greenroom.threads"
            if contained:
                # MATERIALIZED keeps the planner from walking in the order until it finds a page.
                source, sql = f"found JOIN {source} USING (thread_id)", _found(sql)
                query = f"{sql} SELECT {_THREAD} FROM {source} {order} LIMIT %s OFFSET %s"
            else:
                query = f"SELECT {_THREAD} FROM {source} {sql} {order} LIMIT %s OFFSET %s"
            rows = await self._search(query, [*params, limit + 1, offset])
        return Page(items=[_thread(row) for row in rows[:limit]], has_more=len(rows) > limit)

    async def _walk(
        self, plain: Conditions, contained: Conditions, order: str, limit: int, offset: int
    ) -> list[JsonObject] | None:
        """The page, if the first rows in the order hold it or are all there are; else None."""
        sql, params = _where(plain)
        match, values = _where(contained)
        rows = await self._search(
            "WITH first AS MATERIALIZED ("
            f" SELECT * FROM greenroom.threads {sql} {order} LIMIT %s),"
            f" page AS (SELECT {_THREAD} FROM first {match} {order} LIMIT %s OFFSET %s)"
            " SELECT page.*, seen FROM (SELECT count(*) AS seen FROM first) AS counted"
            f" LEFT JOIN page ON true {order}",
            [*params, WALK, *values, limit + 1, offset],
        )
        page = [row for row in rows if row["thread_id"] is not None]
        return page if len(page) > limit or rows[0]["seen"] < WALK else None

    async def count_threads(self, where: ThreadFilter) -> int:
        plain, contained = _of_threads(where)
        sql, params = _where(plain + contained)
        rows = await self._search(f"SELECT count(*) AS n FROM greenroom.threads {sql}", params)
        return rows[0]["n"]

    # --- runs

    async def get_run(self, thread_id: str | None, run_id: str) -> JsonObject | None:
        if not _is_uuid(run_id):
            return None
        rows = await self._rows(
            f"SELECT {_RUN} FROM greenroom.runs WHERE run_id = %s AND {_NOT_DELETED}", [run_id]
        )
        if not rows or thread_id not in (None, rows[0]["thread_id"]):
            return None
        return _run(rows[0])

    async def list_runs(
        self, thread_id: str, *, limit: int | None, offset: int, status: str | None
    ) -> list[JsonObject] | None:
        """Newest first; None when the thread does not exist."""
        conditions: Conditions = [("thread_id = %s", thread_id)]
        if status is not None:
            conditions.append(("status = %s", status))
        sql, params = _where(conditions)
        rows = await self._rows(
            f"SELECT {_RUN} FROM greenroom.runs {sql} AND {_NOT_DELETED}"
            " ORDER BY created_at DESC, run_id DESC"
            " LIMIT %s OFFSET %s",
            [*params, limit, offset],
        )
        if not rows and not await self._rows(
            "SELECT 1 FROM greenroom.threads WHERE thread_id = %s", [thread_id]
        ):
            return None
        return [_run(row) for row in rows]

    async def _rows(self, sql: str, params: list[Any]) -> list[JsonObject]:
        async def fetch(conn: Connection) -> list[JsonObject]:
            cursor = await conn.execute(cast(LiteralString, sql), params)
            return await cursor.fetchall()

        try:
            return await retrying(self._pool, fetch)
        except psycopg.DataError as error:
            raise InvalidRequest(_unstorable(error)) from None
        except psycopg.errors.QueryCanceled:
            raise DatabaseUnavailable(
                "The database did not answer this in time: ask for less, e.g. with more filters or"
                " a smaller offset, or try again when it is less busy."
            ) from None

    async def _search(self, sql: str, params: list[Any]) -> list[JsonObject]:
        """As `_rows`, for what may take long: others always find a connection."""
        async with self._searches:
            return await self._rows(sql, params)


# --- filters and orders -------------------------------------------------------------------------


def _of_assistants(where: AssistantFilter) -> Conditions:
    conditions: Conditions = []
    if where.graph_id is not None:
        conditions.append(("graph_id = %s", where.graph_id))
    if where.metadata:
        conditions.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    if where.name is not None:
        conditions.append(("name ILIKE '%%' || %s || '%%' ESCAPE '!'", _literal(where.name)))
    return conditions


def _of_threads(where: ThreadFilter) -> tuple[Conditions, Conditions]:
    """Conditions on columns, and conditions on what JSON contains."""
    plain: Conditions = []
    contained: Conditions = []
    if where.ids is not None:
        plain.append(("thread_id = ANY(%s)", list(where.ids)))
    if where.status is not None:
        plain.append(("status = %s", where.status))
    if where.metadata:
        contained.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    if where.values:
        values = without_nul(where.values)
        if facets := {name: value for name, value in values.items() if is_facet(value)}:
            contained.append(("facets <> '{}' AND facets @> %s", Jsonb(facets)))
        contained.append(('greenroom.searchable("values") @> %s', Jsonb(values)))
    return plain, contained


def _where(conditions: Conditions) -> tuple[str, list[Any]]:
    if not conditions:
        return "", []
    return "WHERE " + " AND ".join(sql for sql, _ in conditions), [value for _, value in conditions]


def _found(where: str) -> str:
    return f"WITH found AS MATERIALIZED (SELECT thread_id FROM greenroom.threads {where})"


def _order(key: str, sort_by: str, allowed: frozenset[str], descending: bool) -> str:
    """An order with a tie-break, in the direction in which an index has both."""
    if sort_by not in allowed:
        raise InvalidRequest(
            f"Cannot sort by {sort_by!r}: choose one of {', '.join(sorted(allowed))}."
        )
    ahead, back = ("DESC", "ASC") if descending else ("ASC", "DESC")
    if sort_by == key:
        return f"ORDER BY {key} {ahead}"
    if sort_by == "status":
        # Within a status the newest first, ascending; the whole index backwards, descending.
        return f"ORDER BY status {ahead}, updated_at {back}, {key} {ahead}"
    return f"ORDER BY {sort_by} {ahead}, {key} {back}"


def _literal(text: str) -> str:
    """Text as an ILIKE pattern that means itself, with ``!`` as the escape."""
    for special in ("!", "%", "_"):
        text = text.replace(special, "!" + special)
    return text


def _ttl(ttl: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
    """Minutes and strategy of ``{"ttl": minutes, "strategy": "delete"}``."""
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


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _unstorable(error: psycopg.DataError) -> str:
    said = str(error)
    if error.sqlstate == "22P05" or "NUL" in said or "\\u0000" in said:
        return "The request holds a NUL character (\\u0000), which cannot be stored: remove it."
    reason = error.diag.message_primary or said.splitlines()[0]
    return f"The request holds a value that cannot be stored: {reason}."


# --- records in the API's shape -----------------------------------------------------------------


def _assistant(row: JsonObject) -> JsonObject:
    return {
        **row,
        "assistant_id": str(row["assistant_id"]),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }


def _thread(row: JsonObject) -> JsonObject:
    """Until its first run has ended, a thread has neither ``error`` nor ``interrupts``."""
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
            "expires_at": timestamp(row["expires_at"]),
        }
    return thread


def _run(row: JsonObject) -> JsonObject:
    return {
        **row,
        "run_id": str(row["run_id"]),
        "assistant_id": str(row["assistant_id"]),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "langsmith_session_name": None,
    }
