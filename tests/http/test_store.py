"""The routes of the store, on records in memory: bodies, answers, embedding, refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from greenroom.core.errors import Unanswered
from greenroom.core.filters import Condition
from greenroom.core.store import IndexSpec, ItemQuery, NamespaceQuery, StoreSpec
from tests.http.edge_doubles import NOW, MemoryRecords, MemoryRuntime

ITEM = {"namespace": ["users", "u1"], "key": "k", "value": {"a": 1}}
SHOWN = {**ITEM, "created_at": NOW, "updated_at": NOW}
INDEX = IndexSpec(dims=2, embed="./e.py:embed")


@pytest.fixture(params=["", "/api"])
def mount(request: pytest.FixtureRequest) -> str:
    return request.param


def with_store(app: FastAPI, **spec: Any) -> None:
    app.state.edge = dataclasses.replace(app.state.edge, store=StoreSpec(**spec))


async def put(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.put("/store/items", json={**ITEM, **body})


async def delete(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    return await client.request("DELETE", "/store/items", json=body)


async def test_an_item_is_put_got_found_and_deleted(
    client: httpx.AsyncClient, records: MemoryRecords, mount: str
) -> None:
    stored = await client.put(f"{mount}/store/items", json=ITEM)
    assert (stored.status_code, stored.content) == (204, b"")
    where = {"namespace": "users.u1", "key": "k"}
    got = await client.get(f"{mount}/store/items", params=where)
    assert (got.status_code, got.json()) == (200, SHOWN)
    found = await client.post(f"{mount}/store/items/search", json={"namespace_prefix": ["users"]})
    assert found.json() == {"items": [{**SHOWN, "score": None}]}
    listed = await client.post(f"{mount}/store/namespaces", json={})
    assert listed.json() == {"namespaces": [["users", "u1"]]}
    gone = await client.request(
        "DELETE", f"{mount}/store/items", json={"namespace": ["users", "u1"], "key": "k"}
    )
    assert (gone.status_code, gone.content) == (204, b"")
    got = await client.get(f"{mount}/store/items", params=where)
    assert (got.status_code, got.json()) == (200, None)
    assert records.items == {}


async def test_a_large_value_stays_what_it_is(
    client: httpx.AsyncClient, records: MemoryRecords, app: FastAPI
) -> None:
    settings = dataclasses.replace(app.state.edge.settings, max_body_bytes=10_000_000)
    app.state.edge = dataclasses.replace(app.state.edge, settings=settings)
    value = {"b": "y" * 3_000_000, "n": 1}
    assert (await put(client, value=value)).status_code == 204
    got = await client.get("/store/items", params={"namespace": "users.u1", "key": "k"})
    assert got.json()["value"] == value
    refused = await put(client, value=["y" * 3_000_000])
    assert refused.status_code == 422
    assert "value must be an object" in refused.json()["detail"]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"namespace": ["a.b"]}, 422, "Namespace label 'a.b' must be a non-empty string without"),
        ({"namespace": ["", "x"]}, 422, "Namespace label '' must be a non-empty string without"),
        ({"namespace": []}, 400, "Namespace cannot be empty."),
        ({"namespace": ["langgraph"]}, 400, 'Root label for namespace cannot be "langgraph".'),
        ({"namespace": "x"}, 422, "namespace must be an array"),
        ({"namespace": ["x", 5]}, 422, "namespace[1] must be a string, not 5."),
        ({"namespace": None}, 422, "namespace is required."),
        ({"key": 5}, 422, "key must be a string, not 5."),
        ({"key": None}, 422, "key is required."),
        ({"value": "x"}, 422, 'value must be an object, not "x".'),
        ({"value": None}, 422, "value is required."),
        ({"value": []}, 422, "value must be an object, not []."),
        ({"ttl": 0}, 422, "ttl must be greater than 0.0, not 0."),
        ({"ttl": -1}, 422, "ttl must be greater than 0.0, not -1."),
        ({"ttl": "1"}, 422, 'ttl must be a number, not "1".'),
        ({"ttl": 1e9}, 422, "ttl must be at most 5256000.0"),
        ({"index": "text"}, 422, "index must be"),
        ({"index": True}, 422, "index must be"),
        ({"index": [""]}, 422, "index[0] must not be empty."),
        ({"index": [5]}, 422, "index[0] must be a string"),
    ],
)
async def test_an_item_that_cannot_be_is_refused(
    client: httpx.AsyncClient,
    records: MemoryRecords,
    changed: dict[str, Any],
    status: int,
    said: str,
) -> None:
    refused = await put(client, **changed)
    assert refused.status_code == status
    assert said in refused.json()["detail"]
    assert records.asked == []


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("namespace=users.u1", 400, "Key is required"),
        ("key=k", 422, "Namespace label '' must be"),
        ("namespace=&key=k", 422, "Namespace label '' must be"),
        ("namespace=x..y&key=k", 422, "Namespace label '' must be"),
        ("namespace=.x&key=k", 422, "Namespace label '' must be"),
        ("namespace=x&key=k&refresh_ttl=maybe", 422, "refresh_ttl must be true or false"),
    ],
)
async def test_a_read_of_nothing_is_refused(
    client: httpx.AsyncClient, query: str, status: int, said: str
) -> None:
    refused = await client.get(f"/store/items?{query}")
    assert refused.status_code == status
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"namespace_prefix": "f"}, 422, "namespace_prefix must be an array"),
        ({"namespace_prefix": [1]}, 422, "namespace_prefix[0] must be a string"),
        ({"namespace_prefix": ["f."]}, 422, "Namespace label 'f.' must be"),
        ({"filter": "x"}, 422, "filter must be an object"),
        ({"filter": {"s": {"$in": ["x"]}}}, 400, "Unsupported operator: $in"),
        ({"limit": -1}, 422, "limit must be at least 0, not -1."),
        ({"limit": 100_000}, 422, "limit must be at most 10000"),
        ({"offset": -1}, 422, "offset must be at least 0, not -1."),
        ({"query": 5}, 422, "query must be a string, not 5."),
        ({"refresh_ttl": "x"}, 422, 'refresh_ttl must be true or false, not "x".'),
    ],
)
async def test_a_search_that_means_nothing_is_refused(
    client: httpx.AsyncClient, body: Any, status: int, said: str
) -> None:
    refused = await client.post("/store/items/search", json=body)
    assert refused.status_code == status
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prefix": "a"}, "prefix must be an array"),
        ({"prefix": ["a."]}, "Namespace label 'a.' must be"),
        ({"suffix": [""]}, "Namespace label '' must be"),
        ({"max_depth": 0}, "max_depth must be at least 1, not 0."),
        ({"max_depth": -1}, "max_depth must be at least 1, not -1."),
        ({"limit": 10_001}, "limit must be at most 10000"),
    ],
)
async def test_a_list_of_namespaces_that_means_nothing_is_refused(
    client: httpx.AsyncClient, body: Any, said: str
) -> None:
    refused = await client.post("/store/namespaces", json=body)
    assert refused.status_code == 422
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"key": "k"}, 204), ({"namespace": [], "key": "k"}, 204), ({"namespace": ["x"]}, 422)],
)
async def test_a_deletion_needs_a_key(client: httpx.AsyncClient, body: Any, status: int) -> None:
    assert (await delete(client, body)).status_code == status


async def test_a_deletion_needs_a_body(client: httpx.AsyncClient) -> None:
    refused = await client.request("DELETE", "/store/items?namespace=x&key=k")
    assert (refused.status_code, refused.json()) == (
        422,
        {"detail": "Invalid JSON in request body"},
    )


# --- what a request asks for --------------------------------------------------------------------


async def test_a_search_has_defaults_and_asks_for_what_it_names(
    client: httpx.AsyncClient, records: MemoryRecords
) -> None:
    for body in ({}, {"namespace_prefix": None, "filter": None, "limit": 0, "query": ""}):
        await client.post("/store/items/search", json=body)
        assert records.asked.pop() == ("search_items", ItemQuery())
    await client.post(
        "/store/items/search",
        json={
            "namespace_prefix": ["f"],
            "filter": {"n": {"$gt": 1}},
            "limit": 3,
            "offset": 2,
            "refresh_ttl": False,
        },
    )
    expected = ItemQuery(
        prefix=("f",), conditions=(Condition(("n",), "$gt", 1),), limit=3, offset=2, refresh=False
    )
    assert records.asked.pop() == ("search_items", expected)


async def test_a_list_of_namespaces_asks_for_what_it_names(
    client: httpx.AsyncClient, records: MemoryRecords
) -> None:
    await client.post("/store/namespaces")
    assert records.asked.pop() == ("list_namespaces", NamespaceQuery())
    body = {"prefix": ["a", "*"], "suffix": ["1"], "max_depth": 2, "limit": 0, "offset": 1}
    await client.post("/store/namespaces", json=body)
    expected = NamespaceQuery(prefix=("a", "*"), suffix=("1",), max_depth=2, limit=0, offset=1)
    assert records.asked.pop() == ("list_namespaces", expected)


async def test_a_time_to_live_is_the_items_or_the_default_or_none(
    client: httpx.AsyncClient, records: MemoryRecords, app: FastAPI
) -> None:
    async def kept(**body: Any) -> float | None:
        assert (await put(client, **body)).status_code == 204
        return records.asked.pop()[-1]

    assert await kept() is None
    assert await kept(ttl=0.5) == 0.5
    with_store(app, default_ttl_minutes=60.0)
    assert await kept() == 60
    assert await kept(ttl=5) == 5
    assert await kept(ttl=None) is None


async def test_a_read_refreshes_as_it_says_or_as_the_configuration_says(
    client: httpx.AsyncClient, records: MemoryRecords, app: FastAPI
) -> None:
    async def refreshes(query: str) -> bool:
        await client.get(f"/store/items?namespace=x&key=k{query}")
        return records.asked.pop()[-1]

    assert await refreshes("")
    assert not await refreshes("&refresh_ttl=false")
    with_store(app, refresh_on_read=False)
    assert not await refreshes("")
    assert not await refreshes("&refresh_ttl=")
    assert await refreshes("&refresh_ttl=True")


# --- what is embedded ---------------------------------------------------------------------------


async def test_without_an_index_nothing_is_embedded(
    client: httpx.AsyncClient, runtime: MemoryRuntime, records: MemoryRecords
) -> None:
    await put(client, index=["text"])
    assert records.asked.pop() == ("put_item", ("users", "u1"), "k", [], None)
    await client.post("/store/items/search", json={"query": "cat"})
    assert runtime.embedded == []


async def test_with_an_index_texts_and_queries_are_embedded(
    client: httpx.AsyncClient, runtime: MemoryRuntime, records: MemoryRecords, app: FastAPI
) -> None:
    with_store(app, index=INDEX)
    vectors = [("text", [1.0, 0.0])]
    for index, fields in ((None, None), (["body"], ["body"])):
        await put(client, index=index)
        assert runtime.embedded.pop() == ({"a": 1}, fields)
        assert records.asked.pop() == ("put_item", ("users", "u1"), "k", vectors, None)
    for index in (False, []):
        await put(client, index=index)
        assert records.asked.pop() == ("put_item", ("users", "u1"), "k", [], None)
    await client.post("/store/items/search", json={"query": ""})
    assert runtime.embedded == []
    await client.post("/store/items/search", json={"query": "cat"})
    assert runtime.embedded.pop() == ("cat",)
    assert records.asked.pop()[1].vector == [0.0, 1.0]


async def test_an_embedding_that_fails_is_told_and_nothing_is_stored(
    client: httpx.AsyncClient, runtime: MemoryRuntime, records: MemoryRecords, app: FastAPI
) -> None:
    with_store(app, index=INDEX)
    runtime.fail = Unanswered("The embedding ./e.py:embed raised ValueError: no.")
    said = {"detail": "The embedding ./e.py:embed raised ValueError: no."}
    refused = await put(client)
    assert (refused.status_code, refused.json()) == (503, said)
    refused = await client.post("/store/items/search", json={"query": "cat"})
    assert (refused.status_code, refused.json()) == (503, said)
    assert records.asked == []
