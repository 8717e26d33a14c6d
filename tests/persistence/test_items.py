"""The store's items in PostgreSQL: what graphs and clients of the routes have in common."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import psycopg
import pytest

from greenroom.core.errors import BadRequest, InvalidRequest
from greenroom.core.filters import conditions_of
from greenroom.core.store import IndexSpec, ItemQuery, NamespaceQuery, Vectors
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.embedded import Embedded
from greenroom.persistence.migrations import migrate
from greenroom.persistence.records import PostgresRecords, delete_expired_items, items

INDEX = IndexSpec(dims=4, embed="./embed.py:embed")


@pytest.fixture(scope="module")
def indexed_dsn(postgres: Embedded) -> Iterator[str]:
    """A database with vectors; each test has namespaces of its own in it."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    dsn = postgres.dsn.replace("/postgres?", f"/{name}?")
    asyncio.run(migrate(dsn, index=INDEX))
    yield dsn
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
async def vectors_pool(indexed_dsn: str) -> AsyncIterator[Pool]:
    pool = await open_pool(indexed_dsn, application_name="greenroom:test", max_size=8)
    yield pool
    await pool.close()


class Shop:
    """Puts and searches below one label, which no other test has."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.records = PostgresRecords(pool)
        self.root = uuid.uuid4().hex[:8]

    async def put(
        self,
        key: str,
        value: dict[str, Any],
        *labels: str,
        vectors: Vectors | None = None,
        ttl: float | None = None,
    ) -> None:
        await self.records.put_item(
            (self.root, *labels),
            key,
            orjson.dumps(value),
            vectors=vectors or [],
            ttl_minutes=ttl,
        )

    async def get(self, key: str, *labels: str, refresh: bool = False) -> dict[str, Any] | None:
        found = await self.records.get_item((self.root, *labels), key, refresh=refresh)
        return orjson.loads(orjson.dumps(found))

    async def search(self, *labels: str, **query: Any) -> list[dict[str, Any]]:
        query["conditions"] = conditions_of(query.pop("filter", None))
        found = await self.records.search_items(ItemQuery(prefix=(self.root, *labels), **query))
        return orjson.loads(orjson.dumps(found))

    async def keys(self, *labels: str, **query: Any) -> list[str]:
        return [item["key"] for item in await self.search(*labels, **query)]

    async def age(self, minutes: float) -> None:
        """Lets time pass for all items."""
        async with self.pool.connection() as conn:
            await conn.execute(
                "UPDATE store SET expires_at = expires_at - make_interval(secs => %s)"
                " WHERE split_part(prefix, '.', 1) = %s",
                (minutes * 60, self.root),
            )

    async def expiries(self) -> dict[str, float | None]:
        """The seconds that each item has left."""
        async with self.pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT key, extract(epoch FROM expires_at - now())::float8 AS left FROM store"
                " WHERE split_part(prefix, '.', 1) = %s",
                (self.root,),
            )
            return {row["key"]: row["left"] for row in await cursor.fetchall()}


@pytest.fixture
async def shop(vectors_pool: Pool) -> Shop:
    return Shop(vectors_pool)


# --- items --------------------------------------------------------------------------------------


async def test_a_replaced_item_keeps_when_it_was_created(shop: Shop) -> None:
    await shop.put("k", {"a": 1, "n": 1.5, "big": 12345678901234567})
    first = await shop.get("k")
    await shop.put("k", {"b": 2})
    second = await shop.get("k")
    assert first is not None
    assert second is not None
    assert first["value"] == {"a": 1, "n": 1.5, "big": 12345678901234567}
    assert second["value"] == {"b": 2}
    assert second["created_at"] == first["created_at"] == first["updated_at"]
    assert second["updated_at"] > first["updated_at"]
    assert second["namespace"] == [shop.root]


async def test_a_deleted_item_is_gone_and_so_is_its_namespace(shop: Shop) -> None:
    await shop.put("k", {"a": 1}, "deep")
    await shop.records.delete_item((shop.root, "deep"), "k")
    await shop.records.delete_item((shop.root, "deep"), "k")
    assert await shop.get("k", "deep") is None
    assert await shop.records.list_namespaces(NamespaceQuery(prefix=(shop.root,))) == []


async def test_a_read_makes_no_namespace(shop: Shop) -> None:
    assert await shop.get("k", "ghost") is None
    await shop.records.delete_item((shop.root, "ghost"), "k")
    assert await shop.records.list_namespaces(NamespaceQuery(prefix=(shop.root,))) == []


async def test_labels_with_signs_of_patterns_are_taken_literally(shop: Shop) -> None:
    for label in ("user_1", "userX1", "100%", "1000", "back\\slash", "a'b", 'a"b', "[x]", "é"):
        await shop.put("k", {"label": label}, label, "inner")
    for label in ("user_1", "100%", "back\\slash", "a'b", 'a"b', "[x]", "é"):
        [item] = await shop.search(label)
        assert item["value"] == {"label": label}
        query = NamespaceQuery(prefix=(shop.root, label))
        assert await shop.records.list_namespaces(query) == [[shop.root, label, "inner"]]


async def test_a_prefix_ends_at_a_label(shop: Shop) -> None:
    await shop.put("near", {}, "foo")
    await shop.put("far", {}, "foobar")
    assert await shop.keys("foo") == ["near"]


async def test_a_key_that_no_index_can_hold_is_refused_with_a_sentence(shop: Shop) -> None:
    long = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(2000))
    with pytest.raises(InvalidRequest, match="too long for the database's index"):
        await shop.put(long, {})
    await shop.put("k" * 2000, {"a": 1})
    assert await shop.get("k" * 2000) is not None


# --- filters ------------------------------------------------------------------------------------

FILTERED = {
    "a": {"n": 1, "s": "x", "d": {"k": 1}, "l": [1, 2], "z": None, "b": True},
    "b": {"n": 2.5, "s": "y", "d": {"k": 2}, "l": [2]},
    "c": {"n": "3", "s": "x"},
    "d": {},
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"n": 1}, "a"),
        ({"n": 1.0}, "a"),
        ({"n": {"$eq": 1}}, "a"),
        ({"n": {"$ne": 1}}, "bcd"),
        ({"n": {"$gt": 1}}, "b"),
        ({"n": {"$gte": 1}}, "ab"),
        ({"n": {"$lt": 2.5}}, "a"),
        ({"n": {"$lte": 2.5}}, "ab"),
        ({"n": {"$lt": 10}}, "ab"),
        ({"n": {"$gt": 0, "$lt": 2}}, "a"),
        ({"n": {"$gte": "3"}}, "c"),
        ({"s": {"$gt": "x"}}, "b"),
        ({"s": "x", "n": 1}, "a"),
        ({"d": {"k": 1}}, "a"),
        ({"d": {"k": {"$gt": 1}}}, "b"),
        ({"d": {"k": None}}, ""),
        ({"d": {}}, "ab"),
        ({"l": {"0": 2}}, ""),
        ({"d.k": 1}, ""),
        ({"l": [1, 2]}, "a"),
        ({"l": 1}, ""),
        ({"z": None}, "abcd"),
        ({"s": None}, "d"),
        ({"missing": None}, "abcd"),
        ({"missing": {"$ne": None}}, ""),
        ({"b": True}, "a"),
        ({"b": 1}, ""),
        ({}, "abcd"),
        (None, "abcd"),
    ],
)
async def test_a_filter_finds(shop: Shop, given: Any, expected: str) -> None:
    for key, value in FILTERED.items():
        await shop.put(key, value)
    assert "".join(await shop.keys(filter=given)) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"s": {"$in": ["x"]}}, r"Unsupported operator: \$in. Use one of \$eq, \$ne"),
        ({"n": {"$gt": 1, "x": 2}}, "Unsupported operator: x"),
        ({"$or": [{"n": 1}]}, r"Unsupported operator: \$or. A filter names keys"),
        ({"n": {"$gt": None}}, "compares with a number or a string"),
        ({"n": {"$lt": True}}, "compares with a number or a string"),
        ({str(n): n for n in range(101)}, "100 conditions, not 101"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(given: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        conditions_of(given)


def test_a_filter_that_never_ends_is_refused() -> None:
    given: dict[str, Any] = {}
    for _ in range(30):
        given = {"k": given}
    with pytest.raises(BadRequest, match="20 levels deep"):
        conditions_of(given)


# --- searches -----------------------------------------------------------------------------------


async def test_without_a_query_items_come_in_the_order_of_their_creation(shop: Shop) -> None:
    for key in "bac":
        await shop.put(key, {})
    await shop.put("b", {"again": True})
    found = await shop.search()
    assert [item["key"] for item in found] == ["b", "a", "c"]
    assert [item["score"] for item in found] == [None, None, None]
    assert await shop.keys(limit=1, offset=1) == ["a"]


async def test_a_query_gives_the_scored_items_and_then_all_others(shop: Shop) -> None:
    await shop.put("none", {"n": 1})
    await shop.put("dog", {"n": 2}, vectors=[("text", [0, 1, 0, 0])])
    await shop.put("both", {"n": 3}, vectors=[("a", [0, 1, 0, 0]), ("b", [1, 1, 0, 0])])
    await shop.put("cat", {"n": 4}, vectors=[("text", [2, 0, 0, 0])])
    await shop.put("later", {"n": 5})
    cat = [1.0, 0.0, 0.0, 0.0]
    found = await shop.search(vector=cat)
    assert [item["key"] for item in found] == ["cat", "both", "dog", "none", "later"]
    scores = [item["score"] for item in found]
    assert scores[0] == pytest.approx(1)
    assert scores[1] == pytest.approx(0.7071, abs=1e-4)
    assert scores[2:] == [0, None, None]
    assert await shop.keys(vector=cat, limit=2, offset=2) == ["dog", "none"]
    assert await shop.keys(vector=cat, filter={"n": {"$gt": 2}}) == ["cat", "both", "later"]


async def test_a_replaced_item_loses_the_vectors_of_its_old_value(shop: Shop) -> None:
    await shop.put("k", {}, vectors=[("a", [1, 0, 0, 0]), ("b", [0, 1, 0, 0])])
    await shop.put("k", {}, vectors=[("a", [0, 0, 1, 0])])
    [item] = await shop.search(vector=[0, 1, 0, 0])
    assert item["score"] == 0
    await shop.put("k", {})
    [item] = await shop.search(vector=[0, 1, 0, 0])
    assert item["score"] is None


async def test_concurrent_puts_leave_the_vectors_of_one_of_them(shop: Shop) -> None:
    def vectors(number: int) -> Vectors:
        return [(f"f{n}", [float(number), 1, 0, 0]) for n in range(number)]

    await asyncio.gather(*(shop.put("k", {"n": n}, vectors=vectors(n)) for n in range(1, 9)))
    item = await shop.get("k")
    assert item is not None
    async with shop.pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT count(*) AS n FROM store_vectors WHERE prefix = %s", (shop.root,)
        )
        row = await cursor.fetchone()
    assert row == {"n": item["value"]["n"]}


async def test_the_index_and_the_comparison_of_all_find_the_same(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        vectors = [("a", [1.0, number / 10, 0, 0]), ("b", [0, 0, 1.0, number])]
        await shop.put(f"k{number:02}", {"n": number}, vectors=vectors)
    await shop.put("none", {"n": 100})
    asked = {"vector": [1.0, 0.1, 0, 0], "filter": {"n": {"$gte": 5}}}
    exact = await shop.search(**asked, limit=20, offset=3)
    last = await shop.keys(**asked, limit=100)
    monkeypatch.setattr(items, "EXACT_ITEMS", 10)
    assert await shop.search(**asked, limit=20, offset=3) == exact
    # More than the index has: the items without a vector belong to the page.
    assert await shop.keys(**asked, limit=100) == last
    assert last[-1] == "none"
    assert len(last) == 56


async def test_vectors_of_an_index_that_is_not_configured_any_more_do_not_stay(
    shop: Shop, pool: Pool
) -> None:
    await shop.put("k", {}, vectors=[("a", [1, 0, 0, 0])])
    await shop.put("k", {})  # as a server without 'store.index' puts it
    [item] = await shop.search(vector=[1, 0, 0, 0])
    assert item["score"] is None
    # And a database that never had an index has no table to look into.
    plain = Shop(pool)
    await plain.put("k", {"a": 1})
    assert await plain.keys(vector=[1, 0, 0, 0]) == ["k"]


# --- times to live ------------------------------------------------------------------------------


async def test_an_expired_item_does_not_exist_before_it_is_swept(shop: Shop) -> None:
    await shop.put("short", {}, ttl=0.5)
    await shop.put("ever", {})
    created = (await shop.search())[0]["created_at"]
    await shop.age(1)
    assert await shop.get("short") is None
    assert await shop.keys() == ["ever"]
    await shop.put("only", {}, "there", ttl=1)
    await shop.age(2)
    query = NamespaceQuery(prefix=(shop.root,))
    assert await shop.records.list_namespaces(query) == [[shop.root]]
    # A new item of that name is new.
    await shop.put("short", {}, ttl=1)
    item = await shop.get("short")
    assert item is not None
    assert item["created_at"] > created


async def test_a_read_begins_the_time_to_live_anew_unless_told_not_to(shop: Shop) -> None:
    for key in ("got", "found", "kept"):
        await shop.put(key, {"key": key}, ttl=1.5)
    await shop.put("ever", {"key": "ever"})
    await shop.age(1)
    await shop.get("kept", refresh=False)
    await shop.search(filter={"key": "kept"}, refresh=False)
    await shop.get("got", refresh=True)
    await shop.search(filter={"key": "found"}, refresh=True)
    await shop.get("ever", refresh=True)
    left = await shop.expiries()
    assert left["kept"] == pytest.approx(30, abs=15)
    assert left["got"] == pytest.approx(90, abs=15)
    assert left["found"] == pytest.approx(90, abs=15)
    assert left["ever"] is None


async def test_a_sweep_deletes_expired_items_in_batches(pool: Pool) -> None:
    shop = Shop(pool)
    for number in range(5):
        await shop.put(f"k{number}", {}, ttl=1)
    await shop.put("ever", {})
    await shop.put("long", {}, ttl=60)
    await shop.age(2)
    assert await delete_expired_items(pool, max_rows=3) == 3
    assert await delete_expired_items(pool, max_rows=3) == 2
    assert set(await shop.expiries()) == {"ever", "long"}


# --- namespaces ---------------------------------------------------------------------------------


@pytest.fixture
async def tree(pool: Pool) -> PostgresRecords:
    records = PostgresRecords(pool)
    for namespace in ("a.x.1", "a.x.2", "a.y.1", "b.x.1", "b", "a-b.x"):
        labels = tuple(namespace.split("."))
        await records.put_item(labels, "k", b"{}", vectors=[], ttl_minutes=None)
        await records.put_item(labels, "k2", b"{}", vectors=[], ttl_minutes=None)
    return records


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "a.x.1 a.x.2 a.y.1 a-b.x b b.x.1"),
        ({"prefix": ("a",)}, "a.x.1 a.x.2 a.y.1"),
        ({"prefix": ("a", "*", "1")}, "a.x.1 a.y.1"),
        ({"prefix": ("*", "x")}, "a.x.1 a.x.2 a-b.x b.x.1"),
        ({"suffix": ("1",)}, "a.x.1 a.y.1 b.x.1"),
        ({"suffix": ("x", "*")}, "a.x.1 a.x.2 b.x.1"),
        ({"prefix": ("a",), "suffix": ("1",)}, "a.x.1 a.y.1"),
        ({"max_depth": 1}, "a a-b b"),
        ({"max_depth": 2}, "a.x a.y a-b.x b b.x"),
        ({"max_depth": 1, "limit": 1, "offset": 1}, "a-b"),
        ({"limit": 2, "offset": 2}, "a.y.1 a-b.x"),
        ({"limit": 0}, ""),
        ({"prefix": ("zz",)}, ""),
        ({"prefix": ("a", "x", "1", "q")}, ""),
    ],
)
async def test_namespaces_are_found(
    tree: PostgresRecords, query: dict[str, Any], expected: str
) -> None:
    found = await tree.list_namespaces(NamespaceQuery(**query))
    assert [".".join(namespace) for namespace in found] == expected.split()
