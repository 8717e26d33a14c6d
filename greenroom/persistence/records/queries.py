"""Queries PostgreSQL for records; holds the SQL that these queries share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, LiteralString, cast

import orjson
import psycopg

from greenroom.core.errors import DatabaseUnavailable, InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.persistence.database import Connection, Pool, retrying
from greenroom.persistence.json_columns import decode
from greenroom.persistence.scoping import condition
from greenroom.sealing import UNSEALED, Sealing

Conditions = list[tuple[str, Any]]
"""SQL conditions with one placeholder each, and its value; with several, and `Values`."""


class Values(tuple[Any, ...]):
    """The values of a condition with several placeholders, or none."""

    __slots__ = ()


def within(scope: Scope, column: str = "metadata") -> Conditions:
    """Returns the conditions of a scope; none for everything."""
    if scope.is_everything:
        return []
    sql, values = condition(scope, column)
    return [(sql, Values(values))]


def and_within(scope: Scope, column: str = "metadata") -> tuple[str, list[Any]]:
    """Returns ``AND ...`` for a scope, and its values; nothing for everything."""
    if scope.is_everything:
        return "", []
    sql, values = condition(scope, column)
    return f" AND {sql}", values


def of_thread(scope: Scope, thread: str) -> Conditions:
    """Returns the conditions that a thread is within a scope.

    Args:
        thread: the SQL of its id, e.g. ``runs.thread_id``.
    """
    if scope.is_everything:
        return []
    sql, values = condition(scope, "of_scope.metadata")
    exists = (
        "EXISTS (SELECT 1 FROM greenroom.threads of_scope"
        f" WHERE of_scope.thread_id = {thread} AND {sql})"
    )
    return [(exists, Values(values))]


class Queries:
    """Queries over a pool.

    Args:
        pool: long queries use up to half of its connections.
        sealing: opens what is stored sealed.
    """

    def __init__(self, pool: Pool, *, sealing: Sealing = UNSEALED) -> None:
        self._pool = pool
        self._sealing = sealing
        self._searches = asyncio.Semaphore(max(1, pool.max_size // 2))

    async def ready(self) -> None:
        async with self._pool.connection(timeout=2.0) as conn:
            await conn.execute("SELECT 1")

    async def rows(self, sql: str, params: list[Any] | dict[str, Any]) -> list[JsonObject]:
        async def fetch(conn: Connection) -> list[JsonObject]:
            cursor = await conn.execute(cast(LiteralString, sql), params)
            return await cursor.fetchall()

        try:
            return await retrying(self._pool, fetch)
        except psycopg.DataError as error:
            raise InvalidRequest(unstorable(error)) from None
        except psycopg.errors.QueryCanceled:
            raise DatabaseUnavailable(
                "The database did not answer this in time: ask for less, e.g. with more filters or"
                " a smaller offset, or try again when it is less busy."
            ) from None

    async def opened(
        self,
        rows: list[JsonObject],
        *columns: str,
        by: Callable[[Sealing, bytes], bytes] = Sealing.open_json,
    ) -> list[JsonObject]:
        """Opens sealed columns of rows.

        Args:
            columns: JSON, as `orjson.Fragment` or parsed; it comes back in the same form.
            by: opens the JSON of a column.

        Raises:
            CannotOpen: a column is sealed and cannot be opened.
        """
        if not self._sealing.is_on or not rows:
            return rows
        return await self._sealing.apart(
            lambda: [
                {**row, **{name: _opened(by, self._sealing, row[name]) for name in columns}}
                for row in rows
            ]
        )

    async def search(self, sql: str, params: list[Any]) -> list[JsonObject]:
        """Like `rows`, for queries that may take long: it leaves connections for other queries."""
        async with self._searches:
            return await self.rows(sql, params)

    async def counted(self, of: str, params: list[Any]) -> int:
        """Returns the number of rows of a table, with its conditions, as `search` finds them."""
        return (await self.search(f"SELECT count(*) AS n FROM {of}", params))[0]["n"]


def _opened(opening: Callable[[Sealing, bytes], bytes], sealing: Sealing, value: Any) -> Any:
    if value is None:
        return None
    text = opening(sealing, orjson.dumps(value))
    return orjson.Fragment(text) if isinstance(value, orjson.Fragment) else decode(text)


def where_clause(conditions: Conditions) -> tuple[str, list[Any]]:
    if not conditions:
        return "", []
    values: list[Any] = []
    for _, value in conditions:
        values += value if isinstance(value, Values) else [value]
    return "WHERE " + " AND ".join(sql for sql, _ in conditions), values


def order_clause(key: str, sort_by: str, allowed: frozenset[str], descending: bool) -> str:
    """Returns an ORDER BY with a tie-break, in the directions of an index."""
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


def pattern_of(text: str) -> str:
    """Returns an ILIKE pattern that matches the text literally, with ``!`` as the escape."""
    for special in ("!", "%", "_"):
        text = text.replace(special, "!" + special)
    return text


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def unstorable(error: psycopg.DataError) -> str:
    """Returns the sentence for a value that PostgreSQL refuses."""
    said = str(error)
    if error.sqlstate == "22P05" or "NUL" in said or "\\u0000" in said:
        return "The request holds a NUL character (\\u0000), which cannot be stored: remove it."
    reason = error.diag.message_primary or said.splitlines()[0]
    return f"The request holds a value that cannot be stored: {reason}."
