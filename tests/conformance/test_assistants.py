"""The assistants that every graph has, and what their graphs look like."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import pytest

from tests.conformance.talking import UNKNOWN, Talk, ok, refused

GRAPHS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def id_of(graph: str) -> str:
    return str(uuid5(GRAPHS, graph))


async def test_every_graph_has_an_assistant(talk: Talk) -> None:
    found = ok(await talk.post("/assistants/search", {"limit": 100}))
    system = {a["graph_id"]: a for a in found if a["metadata"].get("created_by") == "system"}
    assert {"agent", "counter", "parent", "hesitant"} <= set(system)
    counter = system["counter"]
    assert counter["assistant_id"] == id_of("counter")
    assert (counter["name"], counter["version"]) == ("counter", 1)
    assert (counter["config"], counter["context"]) == ({}, {})


async def test_assistants_are_searched_with_ten_by_default(talk: Talk) -> None:
    answer = await talk.post("/assistants/search", {})
    assert len(ok(answer)) == 10
    assert answer.headers["x-pagination-next"] == "10"
    assert int(answer.headers["x-pagination-total"]) >= 11


@pytest.mark.parametrize(
    "where", [{"graph_id": "counter"}, {"graph_id": "counter", "name": "counter"}]
)
async def test_assistants_are_found(talk: Talk, where: dict[str, Any]) -> None:
    (found,) = ok(await talk.post("/assistants/search", where))
    assert found["assistant_id"] == id_of("counter")


async def test_assistants_are_counted(talk: Talk) -> None:
    assert ok(await talk.post("/assistants/count", {"graph_id": "counter"})) == 1
    assert ok(await talk.post("/assistants/count", {"name": "nope"})) == 0
    assert ok(await talk.post("/assistants/count", {})) >= 13


@pytest.mark.parametrize("path", ["/assistants/search", "/assistants/count"])
async def test_assistants_of_an_unknown_graph_are_not_found(talk: Talk, path: str) -> None:
    detail = refused(await talk.post(path, {"graph_id": "nope"}), 404)
    assert detail.startswith("Graph 'nope' not found. Expected one of: ['agent', 'approval', ")


async def test_an_assistant_is_got(talk: Talk) -> None:
    assistant = ok(await talk.get(f"/assistants/{id_of('agent')}"))
    assert assistant["graph_id"] == "agent"
    refused(await talk.get(f"/assistants/{UNKNOWN}"), 404)
    detail = refused(await talk.get("/assistants/agent"), 422)
    assert detail == "Invalid assistant ID: must be a UUID"


@pytest.mark.parametrize("name", ["parent", id_of("parent")])
async def test_a_graph_is_drawn(talk: Talk, name: str) -> None:
    drawing = ok(await talk.get(f"/assistants/{name}/graph"))
    assert [node["id"] for node in drawing["nodes"]] == ["__start__", "pre", "child", "__end__"]
    assert {"source": "__start__", "target": "pre"} in drawing["edges"]


async def test_an_xray_shows_the_inside_of_subgraphs(talk: Talk) -> None:
    drawing = ok(await talk.get(f"/assistants/{id_of('parent')}/graph?xray=true"))
    nodes = {node["id"] for node in drawing["nodes"]}
    assert {"child:child_a", "child:child_b"} <= nodes


async def test_schemas_are_json_schemas(talk: Talk) -> None:
    schemas = ok(await talk.get(f"/assistants/{id_of('agent')}/schemas"))
    assert schemas["graph_id"] == "agent"
    assert "messages" in schemas["input_schema"]["properties"]
    assert "messages" in schemas["output_schema"]["properties"]
    assert "n_tokens" in schemas["state_schema"]["properties"]
    assert "system" in schemas["context_schema"]["properties"]
    refused(await talk.get("/assistants/agent/schemas"), 422)


async def test_subgraphs_have_schemas_too(talk: Talk) -> None:
    path = f"/assistants/{id_of('parent')}/subgraphs"
    assert set(ok(await talk.get(path))) == {"child"}
    found = ok(await talk.get(f"{path}/child"))
    assert "value" in found["child"]["state_schema"]["properties"]
    assert ok(await talk.get(f"{path}/bogus")) == {}
    assert ok(await talk.get(f"/assistants/{id_of('counter')}/subgraphs")) == {}
