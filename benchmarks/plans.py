"""Connections that explain each statement before they execute it: what it reads, and how.

    pool = open_explained(dsn, plans)
    ... any function that takes a pool ...
    plans[-1].blocks

A statement is executed twice, the first time in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import orjson
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from greenroom.persistence.database import Pool, register_json

_EXPLAINED = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "(")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How PostgreSQL executed a statement.

    Attributes:
        sql: the statement, on one line.
        ms: the time of its execution.
        blocks: the blocks of 8 KiB that it looked at, in memory or not.
        scanned: the tables that it read from their beginning.
    """

    sql: str
    ms: float
    blocks: int
    scanned: tuple[str, ...]


def open_explained(dsn: str, plans: list[Plan]) -> Pool:
    """Returns a pool, to be opened and closed by its caller.

    Args:
        plans: gets the plan of each statement that is executed.
    """

    class Explaining(AsyncConnection[Any]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            text = query.decode() if isinstance(query, bytes) else str(query)
            if text.lstrip().upper().startswith(_EXPLAINED):
                async with self.transaction(force_rollback=True):
                    found = await super().execute(
                        cast(Any, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}"), params
                    )
                    (row,) = await found.fetchall()
                plans.append(_plan(text, row))
            return await super().execute(query, params, **options)

    async def configure(connection: AsyncConnection[Any]) -> None:
        register_json(connection)

    return cast(
        Pool,
        AsyncConnectionPool(
            dsn,
            connection_class=Explaining,
            kwargs={"autocommit": True, "row_factory": dict_row},
            configure=configure,
            min_size=1,
            max_size=1,
            open=False,
        ),
    )


def _plan(text: str, row: dict[str, Any]) -> Plan:
    (explained,) = orjson.loads(orjson.dumps(next(iter(row.values()))))
    root = explained["Plan"]
    return Plan(
        sql=" ".join(text.split()),
        ms=explained["Execution Time"],
        blocks=root["Shared Hit Blocks"] + root["Shared Read Blocks"],
        scanned=tuple(
            node["Relation Name"] for node in _nodes(root) if node["Node Type"] == "Seq Scan"
        ),
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
