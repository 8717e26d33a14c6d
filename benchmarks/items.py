"""The store with 100,000 items: searches with a query and without, puts, reads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, sql

from benchmarks.client import Api, percentiles_of
from benchmarks.graphs.embed import TOPICS, vector

USERS = 1000
RECALL_QUERIES = 20

ITEMS = """
INSERT INTO store (prefix, key, value, created_at, updated_at)
SELECT 'bench.u' || mod(n, %(users)s), 'k' || n, jsonb_build_object('n', n, 'text',
        mod(n, %(topics)s) || ' text ' || n, 'body', repeat('lorem ipsum ', 20)), at, at
FROM generate_series(1, %(items)s) n,
    LATERAL (SELECT now() - (%(items)s - n) * interval '1 second' AS at) moments"""

VECTORS = "COPY store_vectors (prefix, key, field_name, embedding) FROM STDIN"
INDEX = """
CREATE INDEX store_vectors_embedding_idx ON store_vectors
    USING hnsw (embedding vector_cosine_ops)"""


def text_of(number: int) -> str:
    return f"{number % TOPICS} text {number}"


async def fill_items(database: Path, items: int) -> None:
    """Stores items with their vectors; the vector index is made anew, which is faster."""
    from greenroom.persistence.embedded import start_embedded

    embedded = await asyncio.to_thread(start_embedded, database)
    try:
        async with await AsyncConnection.connect(embedded.dsn, autocommit=True) as connection:
            await connection.execute(ITEMS, {"items": items, "users": USERS, "topics": TOPICS})
            await connection.execute("DROP INDEX store_vectors_embedding_idx")
            async with connection.cursor() as cursor, cursor.copy(VECTORS) as copy:
                for number in range(1, items + 1):
                    numbers = ",".join(f"{each:.6f}" for each in vector(text_of(number)))
                    place = (f"bench.u{number % USERS}", f"k{number}", "text")
                    await copy.write_row((*place, f"[{numbers}]"))
            await connection.execute("SET maintenance_work_mem = '1GB'")
            await connection.execute(INDEX)
            await connection.execute("VACUUM ANALYZE store, store_vectors")
            await connection.execute("CHECKPOINT")
    finally:
        embedded.release()


async def figures_of(api: Api, items: int, requests: int) -> dict[str, float]:
    """Measures requests one after the other; the first three of each kind do not count."""

    def search(**body: Any) -> Awaitable[Any]:
        return api.post("/store/items/search", body)

    def query(turn: int) -> str:
        return f"{turn * 37 % TOPICS} question {turn}"

    kinds: dict[str, Callable[[int], Awaitable[Any]]] = {
        "search": lambda turn: search(namespace_prefix=["bench"]),
        "search_page": lambda turn: search(namespace_prefix=["bench"], offset=1000),
        "search_user": lambda turn: search(namespace_prefix=["bench", f"u{turn * 37 % USERS}"]),
        "query": lambda turn: search(namespace_prefix=["bench"], query=query(turn)),
        "query_user": lambda turn: search(
            namespace_prefix=["bench", f"u{turn * 37 % USERS}"], query=query(turn)
        ),
        "query_filter": lambda turn: search(
            namespace_prefix=["bench"], query=query(turn), filter={"n": {"$gt": items // 2}}
        ),
        "put": lambda turn: api.put(
            "/store/items",
            {"namespace": ["new"], "key": str(turn), "value": {"text": query(turn)}},
        ),
        "get": lambda turn: api.get(
            f"/store/items?namespace=bench.u{turn * 37 % USERS}&key=k{turn * 37 % USERS + USERS}"
        ),
    }
    return await percentiles_of(kinds, requests)


async def recall(api: Api, database: Path) -> float:
    """Returns the part of the ten most similar items that a query finds, in percent."""
    from greenroom.persistence.embedded import start_embedded

    embedded = await asyncio.to_thread(start_embedded, database)
    found = 0
    try:
        async with await AsyncConnection.connect(embedded.dsn, autocommit=True) as connection:
            await connection.execute("SET enable_indexscan = off")
            for turn in range(RECALL_QUERIES):
                query = f"{random.Random(turn).randrange(TOPICS)} other question {turn}"
                body = {"namespace_prefix": ["bench"], "query": query}
                answer = await api.post("/store/items/search", body)
                best = await _best(connection.cursor(), query)
                found += len({item["key"] for item in answer["items"]} & best)
    finally:
        embedded.release()
    return 100 * found / (10 * RECALL_QUERIES)


async def _best(cursor: AsyncCursor[Any], query: str) -> set[str]:
    numbers = ",".join(f"{each:.6f}" for each in vector(query))
    statement = sql.SQL(
        "SELECT key FROM store_vectors WHERE prefix LIKE 'bench.%'"
        " ORDER BY embedding <=> {} LIMIT 10"
    ).format(sql.Literal(f"[{numbers}]"))
    await cursor.execute(statement)
    return {row[0] for row in await cursor.fetchall()}
