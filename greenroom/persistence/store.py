"""The store of graphs: LangGraph's `AsyncPostgresStore` with the statements of `records.items`.

So a graph and a client of the HTTP routes see the same items, by the same rules. It also differs
from its parent in how it executes operations: each by itself. LangGraph's gathers the operations
that several runs of a process ask for, and gives all of them the error of one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol, cast

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from langgraph.store.postgres.aio import AsyncPostgresStore

from greenroom.core.errors import InvalidRequest, NotKept
from greenroom.core.filters import conditions_of
from greenroom.core.ports import JsonObject
from greenroom.core.store import (
    LONGEST_TTL_MINUTES,
    ItemQuery,
    NamespaceQuery,
    StoreSpec,
    Vectors,
    check_labels,
)
from greenroom.persistence.database import Pool
from greenroom.persistence.json_columns import encode
from greenroom.persistence.records import ItemQueries
from greenroom.sealing import UNSEALED, Sealing

DEEPEST = 200
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class Embedder(Protocol):
    """Calls the embedding of the configuration in this process (`greenroom.graphs.embedding`)."""

    async def of_item(self, value: Mapping[str, Any], fields: list[str] | None) -> Vectors: ...

    async def of_query(self, text: str) -> list[float] | None: ...


class Store(AsyncPostgresStore):
    """The store of a process's graphs, bound to the running event loop.

    Args:
        pool: connections to the database.
        spec: ``store`` of `langgraph.json`.
        embedder: calls the embedding of ``spec.index``; None: there is none.
        sealing: seals the values of items.
    """

    def __init__(
        self,
        pool: Pool,
        spec: StoreSpec | None = None,
        embedder: Embedder | None = None,
        *,
        sealing: Sealing = UNSEALED,
    ) -> None:
        spec = spec or StoreSpec()
        super().__init__(
            cast(Any, pool),
            ttl=TTLConfig(
                refresh_on_read=spec.refresh_on_read,
                omit_expired=True,
                default_ttl=spec.default_ttl_minutes,
            ),
        )
        self._items = ItemQueries(pool, raw=False, sealing=sealing)
        self._embedder = embedder

    # Without its queue: each operation is executed by itself.
    aget = BaseStore.aget
    asearch = BaseStore.asearch
    aput = BaseStore.aput
    adelete = BaseStore.adelete
    alist_namespaces = BaseStore.alist_namespaces

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Executes operations one after the other; returns their results.

        Raises:
            NotKept: a value is not JSON, so it would not come back as it is.
            InvalidRequest, BadRequest: a namespace, a filter or a time to live cannot be one.
        """
        return [await self._executed(op) for op in ops]

    async def _executed(self, op: Op) -> Result:
        match op:
            case GetOp():
                namespace = check_labels(op.namespace)
                row = await self._items.get_row(namespace, op.key, refresh=op.refresh_ttl)
                return None if row is None else Item(**_fields(row))
            case PutOp():
                return await self._put(op)
            case SearchOp():
                return await self._search(op)
            case ListNamespacesOp():
                return await self._list(op)
            case _:
                raise InvalidRequest(f"The store has no operation {type(op).__name__}.")

    async def _put(self, op: PutOp) -> None:
        namespace = check_labels(op.namespace)
        if op.value is None:
            await self._items.delete_row(namespace, op.key)
            return
        if op.ttl is not None and not 0 < op.ttl <= LONGEST_TTL_MINUTES:
            raise InvalidRequest(
                f"ttl must be between 0 and {LONGEST_TTL_MINUTES} minutes, or None, not {op.ttl}."
            )
        value = json_of(op.value)
        vectors: Vectors = []
        if self._embedder is not None and op.index is not False:
            vectors = await self._embedder.of_item(op.value, op.index)
        await self._items.put_row(namespace, op.key, value, vectors=vectors, ttl_minutes=op.ttl)

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        conditions = conditions_of(op.filter)
        vector = None
        if op.query and self._embedder is not None:
            vector = await self._embedder.of_query(op.query)
        rows = await self._items.search_rows(
            ItemQuery(
                prefix=check_labels(op.namespace_prefix),
                conditions=conditions,
                vector=vector,
                limit=op.limit,
                offset=op.offset,
                refresh=op.refresh_ttl,
            )
        )
        return [SearchItem(**_fields(row), score=row["score"]) for row in rows]

    async def _list(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        paths = {each.match_type: each.path for each in op.match_conditions or ()}
        if op.max_depth is not None and op.max_depth < 1:
            raise InvalidRequest(f"max_depth must be at least 1, not {op.max_depth}.")
        query = NamespaceQuery(
            prefix=check_labels(cast(tuple[str, ...], paths.get("prefix", ()))),
            suffix=check_labels(cast(tuple[str, ...], paths.get("suffix", ()))),
            max_depth=op.max_depth,
            limit=op.limit,
            offset=op.offset,
        )
        return [tuple(namespace) for namespace in await self._items.namespaces(query)]

    async def sweep_ttl(self) -> int:
        """Does nothing: a registry of the server deletes expired items."""
        return 0


def _fields(row: JsonObject) -> dict[str, Any]:
    created_at: datetime = row["created_at"]
    return {
        "namespace": tuple(row["prefix"].split(".")),
        "key": row["key"],
        "value": row["value"],
        "created_at": created_at,
        "updated_at": row["updated_at"],
    }


def json_of(value: Mapping[str, Any]) -> bytes:
    """Encodes the value of an item.

    Raises:
        NotKept: it holds a value that JSON has no form for. The message names its place and type;
            a datetime, for example, would come back as a string.
    """
    _check(value, "value", 0)
    return encode(dict(value))


def _check(value: Any, where: str, depth: int) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        if _NO_TEXT.search(value):
            raise NotKept(
                f"{where} of an item has a NUL character or a lone surrogate, which PostgreSQL"
                " cannot store."
            )
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotKept(f"{where} of an item is {value}, which JSON does not have.")
        return
    if depth > DEEPEST:
        raise NotKept(f"{where} of an item is nested more than {DEEPEST} levels deep.")
    if isinstance(value, Mapping):
        for key, inner in cast(Mapping[Any, Any], value).items():
            if not isinstance(key, str):
                raise NotKept(
                    f"{where} of an item has the key {key!r}: keys are strings in the store."
                )
            _check(key, where, depth)
            _check(inner, f"{where}.{key}", depth + 1)
        return
    if isinstance(value, list | tuple):
        for number, inner in enumerate(cast(list[Any], value)):
            _check(inner, f"{where}[{number}]", depth + 1)
        return
    raise NotKept(
        f"{where} of an item is a {type(value).__name__}, and would not come back as one: put"
        " text, numbers, lists and dicts."
    )
