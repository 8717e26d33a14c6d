"""The store: items over HTTP, by the SDK and within graphs."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.conformance.talking import BOUND_S, Talk, ok


@pytest.fixture
def root() -> str:
    """The first label of a test's namespaces, which no other test has."""
    return f"t{uuid4().hex}"


async def put(talk: Talk, namespace: list[str], key: str, value: Any, **more: Any) -> None:
    body = {"namespace": namespace, "key": key, "value": value, **more}
    answer = await talk.call("PUT", "/store/items", json=body)
    assert (answer.status_code, answer.content) == (204, b"")


async def search(talk: Talk, *prefix: str, **body: Any) -> list[dict[str, Any]]:
    answer = await talk.post("/store/items/search", {"namespace_prefix": list(prefix), **body})
    return ok(answer)["items"]


async def keys(talk: Talk, *prefix: str, **body: Any) -> list[str]:
    return [item["key"] for item in await search(talk, *prefix, **body)]


async def test_an_item_from_put_to_delete(talk: Talk, root: str) -> None:
    await put(talk, [root, "u1"], "k", {"a": 1})
    where = {"namespace": f"{root}.u1", "key": "k"}
    item = ok(await talk.get("/store/items", params=where))
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    assert (item["namespace"], item["key"], item["value"]) == ([root, "u1"], "k", {"a": 1})
    assert await search(talk, root) == [{**item, "score": None}]
    for _ in range(2):
        body = {"namespace": [root, "u1"], "key": "k"}
        answer = await talk.call("DELETE", "/store/items", json=body)
        assert (answer.status_code, answer.content) == (204, b"")
    assert ok(await talk.get("/store/items", params=where)) is None


async def test_a_put_replaces_the_value_whole(talk: Talk, root: str) -> None:
    await put(talk, [root], "k", {"a": 1})
    await put(talk, [root], "k", {"b": 2})
    [item] = await search(talk, root)
    assert item["value"] == {"b": 2}


async def test_a_replaced_item_keeps_when_it_was_created(talk: Talk, root: str) -> None:
    await put(talk, [root], "k", {"a": 1})
    [first] = await search(talk, root)
    await put(talk, [root], "k", {"b": 2})
    [second] = await search(talk, root)
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


@pytest.mark.parametrize(
    ("namespace", "status"),
    [(["a.b"], 422), (["", "x"], 422), ([], 400), (["langgraph"], 400), ("x", 422)],
)
async def test_a_namespace_that_cannot_be_is_refused(
    talk: Talk, namespace: Any, status: int
) -> None:
    body = {"namespace": namespace, "key": "k", "value": {}}
    assert (await talk.call("PUT", "/store/items", json=body)).status_code == status


@pytest.mark.parametrize("value", ["text", None, [1]])
async def test_a_value_is_an_object(talk: Talk, root: str, value: Any) -> None:
    body = {"namespace": [root], "key": "k", "value": value}
    assert (await talk.call("PUT", "/store/items", json=body)).status_code == 422


async def test_a_read_needs_a_key(talk: Talk) -> None:
    assert (await talk.get("/store/items", params={"namespace": "x"})).status_code == 400


async def test_filters(talk: Talk, root: str) -> None:
    values = {"a": {"n": 1, "s": "x", "d": {"k": 1}}, "b": {"n": 2.5, "s": "y", "d": {"k": 2}}}
    for key, value in values.items():
        await put(talk, [root], key, value, index=False)
    for given, expected in (
        ({"n": 1}, ["a"]),
        ({"n": {"$eq": 1}}, ["a"]),
        ({"n": {"$ne": 1}}, ["b"]),
        ({"n": {"$gt": 1}}, ["b"]),
        ({"n": {"$gte": 1}}, ["a", "b"]),
        ({"n": {"$lt": 10}}, ["a", "b"]),
        ({"n": {"$gt": 0, "$lte": 2}}, ["a"]),
        ({"s": "x", "n": 1}, ["a"]),
        ({"d": {"k": {"$gt": 1}}}, ["b"]),
        ({"missing": None}, ["a", "b"]),
        ({"d.k": 1}, []),
        (None, ["a", "b"]),
    ):
        assert await keys(talk, root, filter=given) == expected, given
    assert await keys(talk, root, limit=1, offset=1) == ["b"]
    body = {"namespace_prefix": [root], "filter": {"s": {"$in": ["x"]}}}
    assert (await talk.post("/store/items/search", body)).status_code == 400


async def test_an_item_without_the_key_is_no_match(talk: Talk, root: str) -> None:
    await put(talk, [root], "a", {"n": 1}, index=False)
    await put(talk, [root], "b", {}, index=False)
    assert await keys(talk, root, filter={"n": {"$gte": 0}}) == ["a"]


async def test_a_search_without_anything_finds_items(talk: Talk, root: str) -> None:
    await put(talk, [root], "k", {})
    assert ok(await talk.post("/store/items/search", {}))["items"]


async def test_a_query_finds_the_most_similar_first_and_then_the_unscored(
    talk: Talk, root: str
) -> None:
    await put(talk, [root], "none", {"text": "cat cat"}, index=False)
    await put(talk, [root], "dogs", {"text": "dog dog cat"})
    await put(talk, [root], "cats", {"text": "cat cat", "tags": ["car", "other"]})
    await put(talk, [root], "own", {"text": "cat", "body": "dog"}, index=["body"])
    await put(talk, [root], "without", {"other": 1})
    found = await search(talk, root, query="cat")
    assert [item["key"] for item in found] == ["cats", "dogs", "own", "none", "without"]
    scores = [item["score"] for item in found]
    assert scores[:3] == pytest.approx([0.9988, 0.4490, 0.0099], abs=1e-3)
    assert scores[3:] == [None, None]
    assert await keys(talk, root, query="dog", limit=1, offset=1) == ["dogs"]
    assert await keys(talk, root, query="cat", limit=2, offset=2) == ["own", "none"]
    await put(talk, [root], "cats", {"text": "dog"})
    assert (await keys(talk, root, query="cat"))[0] == "dogs"
    assert await keys(talk, root, query="") != []


async def test_namespaces(talk: Talk, root: str) -> None:
    for labels in (["x", "1"], ["x", "2"], ["y", "1"]):
        for key in ("k", "l"):
            await put(talk, [root, *labels], key, {}, index=False)

    async def listed(**body: Any) -> list[str]:
        found = ok(await talk.post("/store/namespaces", body))["namespaces"]
        return [".".join(namespace[1:]) for namespace in found if namespace[0] == root]

    assert await listed(prefix=[root]) == ["x.1", "x.2", "y.1"]
    assert await listed(prefix=[root, "x"]) == ["x.1", "x.2"]
    assert await listed(prefix=[root, "*", "1"]) == ["x.1", "y.1"]
    assert await listed(prefix=[root], suffix=["1"]) == ["x.1", "y.1"]
    assert await listed(prefix=[root], max_depth=2) == ["x", "y"]
    assert await listed(prefix=[root], limit=1, offset=1) == ["x.2"]
    assert await listed(prefix=[root, "none"]) == []


async def test_a_read_of_nothing_leaves_no_namespace(talk: Talk, root: str) -> None:
    ok(await talk.get("/store/items", params={"namespace": f"{root}.ghost", "key": "k"}))
    found = ok(await talk.post("/store/namespaces", {"prefix": [root]}))
    assert found == {"namespaces": []}


async def test_a_graph_and_a_client_have_the_same_items(
    talk: Talk, sdk: LangGraphClient, root: str
) -> None:
    await sdk.store.put_item([root], "of-the-client", {"text": "dog dog"})
    graph_puts = {"namespace": [root], "key": "of-the-graph", "value": {"text": "cat"}}
    output = await talk.wait(
        None,
        "remembering",
        input={"put": graph_puts, "search": {"namespace": [root], "query": "dog"}},
    )
    assert [key for key, _, _ in output["found"]] == ["of-the-client", "of-the-graph"]
    found = await sdk.store.search_items([root], query="dog")
    assert [item["key"] for item in found["items"]] == ["of-the-client", "of-the-graph"]
    assert [item["score"] for item in found["items"]] == pytest.approx(
        [score for _, _, score in output["found"]]
    )
    item = await sdk.store.get_item([root], "of-the-graph")
    assert item["value"] == {"text": "cat"}
    listed = await sdk.store.list_namespaces([root])
    assert listed["namespaces"] == [[root]]
    await sdk.store.delete_item([root], "of-the-graph")
    output = await talk.wait(None, "remembering", input={"search": {"namespace": [root]}})
    assert [key for key, _, _ in output["found"]] == ["of-the-client"]


async def test_an_item_that_has_expired_is_not_there(talk: Talk, root: str) -> None:
    await put(talk, [root], "k", {}, ttl=0.0001)
    await put(talk, [root], "ever", {}, ttl=None)
    await talk.post("/store/items/search", {"namespace_prefix": [root], "refresh_ttl": False})
    async with asyncio.timeout(BOUND_S):
        while len(await search(talk, root, refresh_ttl=False)) > 1:
            pass
    assert await keys(talk, root, refresh_ttl=False) == ["ever"]


@pytest.mark.parametrize("ttl", [0, -1, "1"])
async def test_a_time_to_live_is_a_number_above_zero(talk: Talk, root: str, ttl: Any) -> None:
    body = {"namespace": [root], "key": "k", "value": {}, "ttl": ttl}
    assert (await talk.call("PUT", "/store/items", json=body)).status_code == 422


@pytest.mark.parametrize("body", [{"limit": -1}, {"offset": -1}, {"namespace_prefix": "x"}])
async def test_a_search_that_means_nothing_is_refused(talk: Talk, body: Any) -> None:
    assert (await talk.post("/store/items/search", body)).status_code == 422
