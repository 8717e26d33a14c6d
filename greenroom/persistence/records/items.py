"""The items of the store: one SQL for graphs (`greenroom.persistence.store`) and for HTTP.

The tables are LangGraph's (`langgraph_tables`), and so is the text of a namespace: its labels,
joined with dots. What differs from LangGraph's own statements:

    a replaced item     keeps ``created_at``, and loses the vectors of its old value
    a read              shows no expired item, swept or not
    a time to live      may be a fraction of a minute (``ttl_s``)
    a filter            compares numbers as numbers, and finds null also where the key is missing
    a query             also shows the items without a vector, after those with one

Statements are not prepared: a plan that is made without the prefix would walk the wrong index.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString, TypeVar, cast

import psycopg

from greenroom.core.errors import DatabaseUnavailable, InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.core.store import ItemQuery, Namespace, NamespaceQuery, Vectors
from greenroom.persistence.database import Connection, Pool, retrying, rows_of, timestamp
from greenroom.persistence.records.item_conditions import LIVING, PARTS, below, matching, where_of
from greenroom.persistence.records.queries import Queries, unstorable
from greenroom.sealing import UNSEALED, Sealing

FULL_PRECISION_DIMS = 2000
"""Above it a vector has half precision (``halfvec``): pgvector indexes no longer one otherwise."""
MOST_DIMS = 4000
EXACT_ITEMS = 2000
"""Up to so many items below the prefix all vectors are compared; with more, the index is asked."""
NEAREST = 40
"""The least number of vectors that the index is asked for."""
BREADTH = 200
"""The least ``hnsw.ef_search``. With pgvector's 40 a query among vectors in clusters sometimes got
neighbours of a distant cluster; 200 takes a few milliseconds more."""
MOST_NEAREST = 1000
"""The largest ``hnsw.ef_search`` that pgvector allows."""

T = TypeVar("T")

# An older server, which knows whole minutes only, leaves the seconds of the item that it replaces.
_TTL = """(CASE WHEN ceil(s.ttl_s / 60) = s.ttl_minutes THEN s.ttl_s
    ELSE s.ttl_minutes * 60 END)"""
_COLUMNS = "s.prefix, s.key, s.value, s.created_at, s.updated_at"
_RAW_COLUMNS = "s.prefix, s.key, s.value::json AS value, s.created_at, s.updated_at"
_ORDER = "s.created_at, s.prefix, s.key"

_PUT = """
INSERT INTO store AS s (prefix, key, value, created_at, updated_at, expires_at, ttl_minutes, ttl_s)
VALUES (%(prefix)s, %(key)s, %(value)s::jsonb, now(), now(),
    now() + make_interval(secs => %(ttl_s)s::float8),
    ceil(%(ttl_s)s::float8 / 60), %(ttl_s)s::float8)
ON CONFLICT (prefix, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
    expires_at = excluded.expires_at, ttl_minutes = excluded.ttl_minutes, ttl_s = excluded.ttl_s,
    created_at = CASE WHEN s.expires_at <= now() THEN excluded.created_at ELSE s.created_at END"""

_DELETE_VECTORS = "DELETE FROM store_vectors WHERE prefix = %(prefix)s AND key = %(key)s"
_PUT_VECTORS = """
INSERT INTO store_vectors (prefix, key, field_name, embedding)
SELECT %(prefix)s, %(key)s, field, embedding
FROM unnest(%(fields)s::text[], %(vectors)s::{type}[]) AS given (field, embedding)"""

_DELETE_EXPIRED = """
DELETE FROM store WHERE (prefix, key) IN (SELECT prefix, key FROM store
    WHERE expires_at <= now() ORDER BY expires_at LIMIT %(max_rows)s FOR UPDATE SKIP LOCKED)
RETURNING 1"""


class ItemQueries(Queries):
    """The items as rows; every method may be repeated.

    Args:
        pool: connections to the database.
        raw: values as JSON text, to be passed on, and not parsed.
        sealing: seals the values, not their vectors.
    """

    def __init__(self, pool: Pool, *, raw: bool = True, sealing: Sealing = UNSEALED) -> None:
        super().__init__(pool, sealing=sealing)
        self._columns = _RAW_COLUMNS if raw else _COLUMNS
        self._has_vectors: bool | None = None

    async def put_row(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        vectors: Vectors,
        ttl_minutes: float | None,
    ) -> None:
        """`core.store.Items.put_item`."""
        value = await self._sealing.apart(self._sealing.seal_json, value)
        item = {"prefix": ".".join(namespace), "key": key}
        ttl_s = None if ttl_minutes is None else ttl_minutes * 60
        stored = {**item, "value": value.decode(), "ttl_s": ttl_s}

        async def put(conn: Connection) -> None:
            if not await self._vectors_exist(conn):
                await _execute(conn, _PUT, stored)
                return
            async with conn.transaction():
                # First: it locks the item, so that the vectors of a concurrent put are seen below.
                await _execute(conn, _PUT, stored)
                await _execute(conn, _DELETE_VECTORS, item)
                if vectors:
                    kind = vector_type(len(vectors[0][1]))
                    fields = {
                        "fields": [field for field, _ in vectors],
                        "vectors": [_literal(vector) for _, vector in vectors],
                    }
                    await _execute(conn, _PUT_VECTORS.format(type=kind), {**item, **fields})

        await self._done(put)

    async def get_row(self, namespace: Namespace, key: str, *, refresh: bool) -> JsonObject | None:
        """Returns the row of an item."""
        item: dict[str, Any] = {"prefix": ".".join(namespace), "key": key}
        sql = (
            f"SELECT {self._columns}, {_TTL} IS NOT NULL AS expires FROM store s"
            f" WHERE s.prefix = %(prefix)s AND s.key = %(key)s AND {LIVING}"
        )

        async def get(conn: Connection) -> JsonObject | None:
            found = await _execute(conn, sql, item)
            if refresh:
                await _refresh(conn, found)
            return found[0] if found else None

        row = await self._done(get)
        return row and (await self.opened([row], "value"))[0]

    async def delete_row(self, namespace: Namespace, key: str) -> None:
        """Deletes an item; its vectors go with it."""

        async def delete(conn: Connection) -> None:
            await _execute(
                conn,
                "DELETE FROM store WHERE prefix = %(prefix)s AND key = %(key)s",
                {"prefix": ".".join(namespace), "key": key},
            )

        await self._done(delete)

    async def search_rows(self, query: ItemQuery) -> list[JsonObject]:
        """Returns the rows that a search finds, each with its ``score``.

        Raises:
            InvalidRequest: there are conditions on values, which are sealed.
        """
        if query.conditions and self._sealing.is_on:
            raise InvalidRequest(
                "The values of the store are encrypted, so that no filter can look into them:"
                " search by namespace, or with a query."
            )

        async def search(conn: Connection) -> list[JsonObject]:
            if query.vector is None or not await self._vectors_exist(conn):
                found = await self._unscored(conn, query)
            else:
                found = await self._scored(conn, query, query.vector)
            if query.refresh:
                await _refresh(conn, found)
            return found

        async with self._searches:
            rows = await self._done(search)
        return await self.opened(rows, "value")

    async def _unscored(self, conn: Connection, query: ItemQuery) -> list[JsonObject]:
        where, params = where_of(query)
        sql = (
            f"SELECT {self._columns}, {_TTL} IS NOT NULL AS expires, NULL AS score FROM store s"
            f" WHERE {where} ORDER BY {_ORDER} LIMIT %(limit)s OFFSET %(offset)s"
        )
        return await _execute(conn, sql, params)

    async def _scored(
        self, conn: Connection, query: ItemQuery, vector: list[float]
    ) -> list[JsonObject]:
        where, params = where_of(query)
        params["vector"] = _literal(vector)
        distance = f"v.embedding <=> %(vector)s::{vector_type(len(vector))}"
        if await _has_many(conn, query.prefix):
            # The index gives neighbours one after the other, and may miss one. It is asked only
            # where they fill the page, so that the order of the other items does not matter.
            near = await self._nearest(conn, query, where, params, distance)
            if near is not None:
                return near
        sql = f"""
            WITH best AS (SELECT v.prefix, v.key, 1 - min({distance}) AS score
                FROM store_vectors v JOIN store s USING (prefix, key)
                WHERE {where} GROUP BY v.prefix, v.key)
            SELECT {self._columns}, {_TTL} IS NOT NULL AS expires, best.score
            FROM store s LEFT JOIN best USING (prefix, key) WHERE {where}
            ORDER BY best.score DESC NULLS LAST, {_ORDER} LIMIT %(limit)s OFFSET %(offset)s"""
        return await _execute(conn, sql, params)

    async def _nearest(
        self, conn: Connection, query: ItemQuery, where: str, params: dict[str, Any], distance: str
    ) -> list[JsonObject] | None:
        """Asks the vector index; returns None if it does not fill the page."""
        wanted = query.offset + query.limit
        asked = max(NEAREST, 2 * wanted)
        if asked > MOST_NEAREST:
            return None
        sql = f"""
            WITH near AS MATERIALIZED (
                SELECT v.prefix, v.key, {distance} AS distance
                FROM store_vectors v JOIN store s USING (prefix, key)
                WHERE {where} ORDER BY {distance} LIMIT %(asked)s),
            best AS (SELECT prefix, key, min(distance) AS distance FROM near GROUP BY prefix, key)
            SELECT {self._columns}, {_TTL} IS NOT NULL AS expires, 1 - best.distance AS score
            FROM best JOIN store s USING (prefix, key)
            ORDER BY score DESC, {_ORDER} LIMIT %(wanted)s"""
        async with conn.transaction():
            await conn.execute(
                "SELECT set_config('hnsw.ef_search', %s, true),"
                " set_config('hnsw.iterative_scan', 'strict_order', true)",
                (str(max(BREADTH, asked)),),
                prepare=False,
            )
            found = await _execute(conn, sql, {**params, "asked": asked, "wanted": wanted})
        return found[query.offset :] if len(found) >= wanted else None

    async def namespaces(self, query: NamespaceQuery) -> list[list[str]]:
        """Returns the namespaces that a query finds, in the order of their labels."""
        conditions, params = matching(query)
        parts = f"({PARTS})[1:%(max_depth)s]" if query.max_depth is not None else PARTS
        sql = (
            f'SELECT DISTINCT {parts} COLLATE "C" AS namespace FROM store s'
            f" WHERE {' AND '.join([LIVING, *conditions])}"
            " ORDER BY namespace LIMIT %(limit)s OFFSET %(offset)s"
        )
        params |= {"max_depth": query.max_depth, "limit": query.limit, "offset": query.offset}
        async with self._searches:
            found = await self._done(lambda conn: _execute(conn, sql, params))
        return [row["namespace"] for row in found]

    async def _vectors_exist(self, conn: Connection) -> bool:
        # Asked once: the table is made at the start of a server, before its processes.
        if self._has_vectors is None:
            found = await _execute(
                conn, "SELECT to_regclass('store_vectors') IS NOT NULL AS there", {}
            )
            self._has_vectors = bool(found[0]["there"])
        return self._has_vectors

    async def _done(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await retrying(self._pool, work)
        except psycopg.errors.ProgramLimitExceeded:
            raise InvalidRequest(
                "The namespace and the key are too long for the database's index: keep them under"
                " 2,500 bytes together."
            ) from None
        except psycopg.DataError as error:
            raise InvalidRequest(unstorable(error)) from None
        except psycopg.errors.QueryCanceled:
            raise DatabaseUnavailable(
                "The database did not answer this in time: ask for less, e.g. with a longer"
                " namespace_prefix or a smaller offset, or try again when it is less busy."
            ) from None


class ItemRecords(ItemQueries):
    """`core.store.Items` over a pool."""

    async def put_item(
        self,
        namespace: Namespace,
        key: str,
        value: bytes,
        *,
        vectors: Vectors,
        ttl_minutes: float | None,
    ) -> None:
        await self.put_row(namespace, key, value, vectors=vectors, ttl_minutes=ttl_minutes)

    async def get_item(self, namespace: Namespace, key: str, *, refresh: bool) -> JsonObject | None:
        row = await self.get_row(namespace, key, refresh=refresh)
        return _shown(row) if row is not None else None

    async def delete_item(self, namespace: Namespace, key: str) -> None:
        await self.delete_row(namespace, key)

    async def search_items(self, query: ItemQuery) -> list[JsonObject]:
        return [{**_shown(row), "score": row["score"]} for row in await self.search_rows(query)]

    async def list_namespaces(self, query: NamespaceQuery) -> list[list[str]]:
        return await self.namespaces(query)


async def delete_expired_items(pool: Pool, *, max_rows: int = 100) -> int:
    """Deletes expired items; returns their number. ``max_rows`` means that more may be left."""
    return len(await rows_of(pool, _DELETE_EXPIRED, {"max_rows": max_rows}))


def vector_type(dims: int) -> str:
    """Returns the type of the column that holds vectors of so many numbers."""
    return "vector" if dims <= FULL_PRECISION_DIMS else "halfvec"


def _shown(row: JsonObject) -> JsonObject:
    return {
        "namespace": row["prefix"].split("."),
        "key": row["key"],
        "value": row["value"],
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }


async def _execute(conn: Connection, sql: str, params: dict[str, Any]) -> list[JsonObject]:
    cursor = await conn.execute(cast(LiteralString, sql), params, prepare=False)
    return await cursor.fetchall() if cursor.description is not None else []


async def _refresh(conn: Connection, found: list[JsonObject]) -> None:
    """Begins the time to live of the rows anew; writes only where one has any."""
    expiring = [row for row in found if row["expires"]]
    if expiring:
        await _execute(
            conn,
            f"UPDATE store s SET expires_at = now() + make_interval(secs => {_TTL})"
            " FROM unnest(%(prefixes)s::text[], %(keys)s::text[]) AS read (prefix, key)"
            f" WHERE s.prefix = read.prefix AND s.key = read.key AND {_TTL} IS NOT NULL"
            f" AND {LIVING}",
            {
                "prefixes": [row["prefix"] for row in expiring],
                "keys": [row["key"] for row in expiring],
            },
        )


async def _has_many(conn: Connection, prefix: Namespace) -> bool:
    """Returns whether more than `EXACT_ITEMS` items are below a prefix."""
    inside, params = below(prefix)
    found = await _execute(
        conn,
        f"SELECT count(*) > %(most)s AS many FROM (SELECT 1 FROM store s WHERE {inside}"
        " LIMIT %(most)s + 1) AS counted",
        {**params, "most": EXACT_ITEMS},
    )
    return bool(found[0]["many"])


def _literal(vector: Sequence[float]) -> str:
    return "[" + ",".join(map(repr, vector)) + "]"
