"""The store that graphs get: the same items as over HTTP, and what it does not keep."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
import psycopg
import pytest
from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp
from langgraph.store.postgres.aio import AsyncPostgresStore

from greenroom.core.errors import BadRequest, ConfigurationError, InvalidRequest, NotKept
from greenroom.core.store import IndexSpec, ItemQuery, StoreSpec, Vectors
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.embedded import Embedded
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.store import Store

BOUND_S = 30.0


@pytest.fixture
async def store(pool: Pool) -> Store:
    return Store(pool)


async def test_graphs_and_clients_see_the_same_items(pool: Pool, store: Store) -> None:
    records = PostgresRecords(pool)
    await store.aput(("users", "u1"), "of-a-graph", {"a": 1})
    await records.put_item(("users", "u1"), "of-a-client", b'{"b":2}', vectors=[], ttl_minutes=None)
    item = await store.aget(("users", "u1"), "of-a-client")
    assert item is not None
    assert (item.namespace, item.value) == (("users", "u1"), {"b": 2})
    assert isinstance(item.created_at, datetime.datetime)
    got = await records.get_item(("users", "u1"), "of-a-graph", refresh=False)
    assert got is not None
    assert orjson.loads(orjson.dumps(got["value"])) == {"a": 1}
    assert [found.key for found in await store.asearch(("users",))] == [
        "of-a-graph",
        "of-a-client",
    ]
    assert [found.key for found in await store.asearch(("users",), filter={"b": {"$gt": 1}})] == [
        "of-a-client"
    ]
    assert await store.alist_namespaces(prefix=("users",), max_depth=1) == [("users",)]
    await store.adelete(("users", "u1"), "of-a-client")
    assert await records.get_item(("users", "u1"), "of-a-client", refresh=False) is None


async def test_items_of_langgraphs_own_store_are_read_and_expire(pool: Pool, store: Store) -> None:
    """As an older server has left them: with a time to live in whole minutes."""
    theirs = AsyncPostgresStore(pool)  # type: ignore[arg-type]
    await theirs.aput(("old",), "ever", {"a": 1})
    await theirs.aput(("old",), "short", {"a": 2}, ttl=2)
    assert [item.key for item in await store.asearch(("old",))] == ["ever", "short"]
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT extract(epoch FROM expires_at - now())::float8 AS left FROM store"
            " WHERE key = 'short'"
        )
        row = await cursor.fetchone()
        assert row is not None
        assert row["left"] == pytest.approx(120, abs=30)
        await conn.execute("UPDATE store SET expires_at = now() WHERE key = 'short'")
    assert await store.aget(("old",), "short") is None
    # What such a server replaces has the time to live that it says, and not the one before.
    await store.aput(("old",), "replaced", {}, ttl=0.5)
    await theirs.aput(("old",), "replaced", {})
    await store.aget(("old",), "replaced")
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT expires_at FROM store WHERE key = 'replaced'")
        assert await cursor.fetchone() == {"expires_at": None}


async def test_a_sync_node_has_the_store_too(store: Store) -> None:
    def node() -> Any:
        store.put(("sync",), "k", {"a": 1}, ttl=5)
        return store.get(("sync",), "k"), store.search(("sync",)), store.list_namespaces()

    item, found, namespaces = await asyncio.wait_for(asyncio.to_thread(node), BOUND_S)
    assert item.value == {"a": 1}
    assert [each.key for each in found] == ["k"]
    assert namespaces == [("sync",)]


async def test_an_operation_that_fails_concerns_no_other(store: Store) -> None:
    """Several runs of a dense actor share the store; LangGraph's gives all of them one error."""
    results = await asyncio.gather(
        store.aput(("mine",), "k", {"a": 1}),
        store.asearch(("mine",), filter={"a": {"$in": [1]}}),
        store.aput(("mine",), "bad", {"a": object()}),
        store.aget(("mine",), "none"),
        return_exceptions=True,
    )
    assert results[0] is None
    assert isinstance(results[1], BadRequest)
    assert isinstance(results[2], NotKept)
    assert results[3] is None
    assert await store.aget(("mine",), "k") is not None


async def test_a_batch_is_executed_in_order(store: Store) -> None:
    found = await store.abatch(
        [
            PutOp(("b",), "k", {"a": 1}),
            GetOp(("b",), "k"),
            SearchOp(("b",)),
            ListNamespacesOp(),
            PutOp(("b",), "k", None),
            GetOp(("b",), "k"),
        ]
    )
    assert found[0] is None
    assert found[1].value == {"a": 1}  # type: ignore[union-attr]
    assert len(found[2]) == 1  # type: ignore[arg-type]
    assert found[3:] == [[("b",)], None, None]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"when": datetime.datetime(2026, 1, 1)}, "value.when of an item is a datetime"),
        ({"id": uuid.UUID(int=1)}, "value.id of an item is a UUID"),
        ({"a": [{"b": b"x"}]}, r"value.a\[0\].b of an item is a bytes"),
        ({"a": {1: 2}}, "value.a of an item has the key 1"),
        ({"a": float("nan")}, "value.a of an item is nan"),
        ({"a": "x\0y"}, "value.a of an item has a NUL character"),
        ({"a\0": 1}, "NUL character"),
        ({"a": {1, 2}}, "value.a of an item is a set"),
        ({"a": "\ud800"}, "NUL character or a lone surrogate"),
    ],
)
async def test_what_would_come_back_otherwise_is_refused(
    store: Store, value: Any, said: str
) -> None:
    with pytest.raises(NotKept, match=said):
        await store.aput(("x",), "k", value)
    assert await store.aget(("x",), "k") is None


async def test_what_json_has_comes_back_equal(store: Store) -> None:
    value = {"i": 2**70, "f": 1.5, "s": "é", "n": None, "b": True, "l": [1, [2]], "d": {"x": {}}}
    await store.aput(("x",), "k", value)
    item = await store.aget(("x",), "k")
    assert item is not None
    assert item.value == value


async def test_wrong_arguments_are_refused_with_a_sentence(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="ttl must be between 0 and"):
        await store.aput(("x",), "k", {}, ttl=0)
    with pytest.raises(InvalidRequest, match="max_depth must be at least 1"):
        await store.alist_namespaces(max_depth=0)
    with pytest.raises(ValueError, match="cannot contain periods"):
        await store.aput(("a.b",), "k", {})
    with pytest.raises(InvalidRequest, match="without periods"):
        await store.abatch([GetOp(("a.b",), "k")])


async def test_the_configuration_has_defaults_for_times_to_live(pool: Pool) -> None:
    async def expiries() -> dict[str, float | None]:
        async with pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT key, extract(epoch FROM expires_at - now())::float8 AS left FROM store"
            )
            return {row["key"]: row["left"] for row in await cursor.fetchall()}

    store = Store(pool, StoreSpec(default_ttl_minutes=10, refresh_on_read=False))
    await store.aput(("t",), "default", {})
    await store.aput(("t",), "own", {}, ttl=1)
    await store.aput(("t",), "never", {}, ttl=None)
    left = await expiries()
    assert left["default"] == pytest.approx(600, abs=30)
    assert left["own"] == pytest.approx(60, abs=30)
    assert left["never"] is None
    async with pool.connection() as conn:
        await conn.execute("UPDATE store SET expires_at = expires_at - interval '40 s'")
    await store.aget(("t",), "own")
    assert (await expiries())["own"] == pytest.approx(20, abs=19)
    await store.aget(("t",), "own", refresh_ttl=True)
    assert (await expiries())["own"] == pytest.approx(60, abs=19)


# --- the index ----------------------------------------------------------------------------------


class Counting:
    """Counts cats, dogs and cars."""

    async def of_item(self, value: Mapping[str, Any], fields: list[str] | None) -> Vectors:
        paths = ["text"] if fields is None else fields
        return [(path, self._vector(value[path])) for path in paths if path in value]

    async def of_query(self, text: str) -> list[float] | None:
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        return [float(text.count(word)) for word in ("cat", "dog", "car")] + [0.1]


async def test_a_graph_searches_by_meaning(empty_dsn: str) -> None:
    index = IndexSpec(dims=4, embed="./e.py:embed", fields=("text",))
    await migrate(empty_dsn, index=index)
    await migrate(empty_dsn, index=index)
    pool = await open_pool(empty_dsn, application_name="greenroom:test")
    store = Store(pool, StoreSpec(index=index), Counting())
    await store.aput(("d",), "cats", {"text": "cat cat"})
    await store.aput(("d",), "dogs", {"text": "dog dog cat"})
    await store.aput(("d",), "own", {"text": "cat", "body": "dog"}, index=["body"])
    await store.aput(("d",), "none", {"text": "cat"}, index=False)
    found = await store.asearch(("d",), query="cat", limit=10)
    assert [item.key for item in found] == ["cats", "dogs", "own", "none"]
    assert found[0].score == pytest.approx(0.9988, abs=1e-3)
    assert found[3].score is None
    # The records of the routes, with the same vector.
    same = await PostgresRecords(pool).search_items(
        ItemQuery(prefix=("d",), vector=[1.0, 0.0, 0.0, 0.1])
    )
    assert [item["score"] for item in same] == [item.score for item in found]
    await pool.close()


async def test_vectors_of_another_length_are_refused_at_the_start(empty_dsn: str) -> None:
    await migrate(empty_dsn, index=IndexSpec(dims=4, embed="a:b"))
    with pytest.raises(ConfigurationError, match=r"another embedding \(vector\(4\)\)"):
        await migrate(empty_dsn, index=IndexSpec(dims=8, embed="a:b"))
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute("DROP TABLE store_vectors, vector_migrations")
    await migrate(empty_dsn, index=IndexSpec(dims=8, embed="a:b"))


async def test_long_vectors_have_half_precision_and_an_index(empty_dsn: str) -> None:
    index = IndexSpec(dims=3072, embed="a:b")
    await migrate(empty_dsn, index=index)
    pool = await open_pool(empty_dsn, application_name="greenroom:test")
    records = PostgresRecords(pool)
    vector = [1.0] + [0.5] * 3071
    await records.put_item(("a",), "k", b"{}", vectors=[("$", vector)], ttl_minutes=None)
    [item] = await records.search_items(ItemQuery(vector=vector))
    assert item["score"] == pytest.approx(1)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = 'store_vectors_embedding_idx'"
        )
        row = await cursor.fetchone()
    assert row is not None
    assert "hnsw (embedding halfvec_cosine_ops)" in row["indexdef"]
    await pool.close()


async def test_a_user_who_may_not_create_the_extension_is_told_what_to_do(
    postgres: Embedded, empty_dsn: str
) -> None:
    name = f"u{uuid.uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")  # type: ignore[arg-type]
        cursor = await conn.execute("SELECT current_database()")
        row = await cursor.fetchone()
        assert row is not None
        await conn.execute(f"ALTER DATABASE {row[0]} OWNER TO {name}")  # type: ignore[arg-type]
        await conn.execute(f"GRANT ALL ON SCHEMA public TO {name}")  # type: ignore[arg-type]
    theirs = psycopg.conninfo.make_conninfo(empty_dsn, user=name, password="x")
    with pytest.raises(ConfigurationError, match="CREATE EXTENSION vector"):
        await migrate(theirs, index=IndexSpec(dims=4, embed="a:b"))
    await migrate(theirs)
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute("CREATE SCHEMA elsewhere")
        await conn.execute("CREATE EXTENSION vector SCHEMA elsewhere")
    with pytest.raises(ConfigurationError, match="a schema that the database user does not search"):
        await migrate(theirs, index=IndexSpec(dims=4, embed="a:b"))
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute("ALTER EXTENSION vector SET SCHEMA public")
    await migrate(theirs, index=IndexSpec(dims=4, embed="a:b"))
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as conn:
        await conn.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")  # type: ignore[arg-type]
        await conn.execute(f"DROP OWNED BY {name}")  # type: ignore[arg-type]
        await conn.execute(f"DROP ROLE {name}")  # type: ignore[arg-type]
