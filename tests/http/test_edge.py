"""What holds for every route: errors, bodies, CORS, the system's own routes, the documents."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from greenroom.core.errors import DatabaseUnavailable, TooManyRequests, Unavailable
from greenroom.core.identity import system_assistant_id
from greenroom.core.lifecycle import IllegalTransition
from greenroom.core.ports import DrawQuestion, SchemasQuestion, SubgraphsQuestion
from greenroom.http import health
from greenroom.http.app import create_app
from tests.http.edge_doubles import GRAPHS, THREAD, UNKNOWN

COUNTER = system_assistant_id("counter")
EXPOSED = (
    "x-pagination-total, x-pagination-next, content-location, location, greenroom-input-id,"
    " mcp-session-id,"
    " ratelimit, ratelimit-policy, retry-after"
)


@pytest.mark.parametrize("path", ["/", "/ok", "/api/ok"])
async def test_the_server_says_that_it_is_well(client, path):
    answer = await client.get(path)
    assert answer.content == b'{"ok":true,"services":{}}'
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("path", ["/", "/ok", "/info", "/metrics", "/api/ok", "/openapi.json"])
async def test_a_head_is_a_get_without_its_body(client, path):
    answer, whole = await client.head(path), await client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == whole.headers["content-type"]


async def test_a_head_says_whether_a_thread_is_there(client, records):
    assert (await client.head(f"/threads/{THREAD}")).status_code == 404
    records.add_thread()
    assert (await client.head(f"/threads/{THREAD}")).status_code == 200


@pytest.mark.parametrize(
    "path", [f"/threads/{THREAD}/stream", f"/api/threads/{THREAD}/runs/{UNKNOWN}/join", "/threads"]
)
async def test_a_head_of_what_does_not_answer_at_once_is_refused(client, path):
    assert (await client.head(path)).status_code == 405


@pytest.mark.parametrize("path", ["/threads", "/api/runs/wait", "/assistants/search"])
async def test_a_slash_too_many_is_redirected_with_method_and_body(client, path):
    answer = await client.post(f"{path}/?a=1", json={})
    assert answer.status_code == 307
    assert httpx.URL(answer.headers["location"]).raw_path == f"{path}?a=1".encode()
    assert (await client.post("/nope/", json={})).status_code == 404


async def test_the_services_are_asked_only_on_request(client, records, runtime):
    runtime.counts["pool"] = [{"state": "starting"}, {"state": "ready"}]
    well = {"database": "ok", "registry": "ok", "actors": "ok"}
    assert (await client.get("/ok?check_db=1")).json() == {"ok": True, "services": well}
    runtime.counts["pool"].pop()
    services = {**well, "actors": "none is ready"}
    assert (await client.get("/ok?check_db=1")).json() == {"ok": True, "services": services}
    records.down = DatabaseUnavailable("The database cannot be reached.")
    runtime.fail = Unavailable("A registry restarts.")
    assert (await client.get("/ok")).status_code == 200
    answer = await client.get("/ok?check_db=1")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    services = {
        "database": "The database cannot be reached.",
        "registry": "A registry restarts.",
        "actors": "unknown",
    }
    assert answer.json() == {"ok": False, "services": services}


async def test_a_service_that_does_not_answer_is_said(client, runtime, monkeypatch):
    async def never():
        await asyncio.Event().wait()

    monkeypatch.setattr(health, "SERVICE_S", 0.01)
    monkeypatch.setattr(runtime, "info", never)
    answer = await client.get("/ok?check_db=1")
    assert answer.status_code == 503
    assert answer.json()["services"]["registry"] == "no answer within 0.01 s"


async def test_info_is_there_while_the_registry_restarts(client, runtime):
    assert (await client.get("/info")).json()["counts"] == runtime.counts
    runtime.fail = Unavailable("restarting")
    shown = (await client.get("/info")).json()
    assert shown["counts"] is None
    assert shown["flags"]["assistants"] is True
    assert shown["langgraph_py_version"].startswith("1.")


async def test_info_says_which_graphs_are_broken(runtime, records):
    broken = {"bad": "Graph 'bad': importing ./bad.py failed."}
    app = create_app(runtime=runtime, records=records, graphs=["bad"], broken_graphs=broken)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        assert (await client.get("/info")).json()["broken_graphs"] == broken


async def test_metrics_come_for_prometheus_and_as_json(client, runtime):
    answer = await client.get("/metrics")
    assert answer.text == runtime.told
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await client.get("/metrics?format=json")).json() == runtime.counts


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nope", 404, "Not Found"),
        ("GET", f"/runs/{UNKNOWN}", 404, "Not Found"),
        ("GET", "/runs", 405, "Method Not Allowed"),
        ("PUT", f"/threads/{THREAD}", 405, "Method Not Allowed"),
    ],
)
async def test_unknown_paths_and_methods_have_the_references_bodies(
    client, method, path, status, detail
):
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("body", [b"{bad json", b"", b"\xff", b'{"a":"\\ud800"}', b"\x00"])
async def test_what_is_no_json_is_refused(client, body):
    answer = await client.post("/threads", content=body)
    assert (answer.status_code, answer.json()) == (422, {"detail": "Invalid JSON in request body"})


async def test_a_nul_character_is_refused_wherever_it_is(client):
    for body in (rb'{"metadata":{"a":"\u0000"}}', rb'{"metadata":{"a\\\u0000":1}}'):
        answer = await client.post("/threads", content=body)
        assert (answer.status_code, "NUL" in answer.json()["detail"]) == (422, True)
    harmless = rb'{"metadata":{"a":"\\u0000"}}'
    assert (await client.post("/threads", content=harmless)).status_code == 200
    for path in ("/api/threads/a%00b", f"/threads/{THREAD}/runs?status=%00"):
        assert (await client.get(path)).status_code == 422


async def test_a_body_that_is_too_deep_is_refused(client):
    for depth, status in ((90, 200), (101, 422), (3_000, 422)):
        body = b'{"metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}"
        assert (await client.post("/threads", content=body)).status_code == status
    wide = b'{"metadata":{"a":[' + b",".join([b"[]"] * 500) + b"]}}"
    assert (await client.post("/threads", content=wide)).status_code == 200


async def test_a_body_that_is_too_long_is_refused_while_it_comes(client):
    answer = await client.post("/threads", content=b" " * 100_001)
    assert answer.status_code == 413
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 10_000

    answer = await client.post("/threads", content=endless())
    assert (answer.status_code, sent) == (413, 11)


async def test_the_unexpected_is_a_500_that_shows_nothing(client, records):
    records.down = RuntimeError("secret")
    answer = await client.post(
        f"/threads/{THREAD}/runs",
        json={"assistant_id": "counter"},
        headers={"origin": "https://app"},
    )
    assert (answer.status_code, answer.content) == (500, b"Internal Server Error")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_errors_that_are_bugs_of_ours_show_nothing_either(client, records):
    records.down = IllegalTransition("secret")
    answer = await client.get(f"/assistants/{COUNTER}")
    assert (answer.status_code, answer.content) == (500, b"Internal Server Error")


async def test_an_error_may_carry_headers(client, records):
    records.down = TooManyRequests("Slower, please.", 7)
    answer = await client.get(f"/assistants/{COUNTER}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"detail": "Slower, please."}


async def test_other_origins_may_read_what_the_sdks_need(client):
    answer = await client.get("/ok", headers={"origin": "https://app"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == EXPOSED
    assert answer.headers["vary"] == "Origin"


async def test_a_preflight_allows_what_the_sdks_send(client):
    answer = await client.options(
        "/threads",
        headers={
            "origin": "https://app",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,last-event-id,x-api-key",
            "access-control-request-private-network": "true",
        },
    )
    assert (answer.status_code, answer.content) == (200, b"OK")
    headers = answer.headers
    assert headers["access-control-allow-methods"] == (
        "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"
    )
    assert headers["access-control-allow-headers"] == "content-type,last-event-id,x-api-key"
    assert headers["access-control-max-age"] == "600"
    assert headers["access-control-allow-private-network"] == "true"


async def test_assistants_are_found(client):
    answer = await client.post("/assistants/search", json={"limit": 1, "select": ["name"]})
    assert answer.json() == [{"name": "counter"}]
    assert answer.headers["x-pagination-total"] == "2"
    assert answer.headers["x-pagination-next"] == "1"
    assert (await client.post("/assistants/count", json={})).content == b"2"
    assert (await client.get(f"/assistants/{COUNTER}")).json()["graph_id"] == "counter"
    assert (await client.get(f"/assistants/{UNKNOWN}")).json() == {"detail": "Not Found"}
    answer = await client.get("/assistants/counter")
    assert answer.json() == {"detail": "Invalid assistant ID: must be a UUID"}


async def test_assistants_of_a_graph_that_does_not_exist_are_not_found(client):
    for path in ("/assistants/search", "/assistants/count"):
        answer = await client.post(path, json={"graph_id": "nope"})
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("Graph 'nope' not found. Expected one of: [")


async def test_graphs_are_drawn_by_name_or_id(client, runtime):
    for name, xray in (("counter", "true"), (COUNTER, "2"), (COUNTER, "")):
        assert (await client.get(f"/assistants/{name}/graph?xray={xray}")).status_code == 200
    assert [question.xray for question in runtime.questions] == [True, 2, False]
    assert isinstance(runtime.questions[0], DrawQuestion)
    assert (await client.get(f"/assistants/{COUNTER}/graph?xray=x")).status_code == 422


async def test_schemas_are_asked_for(client, runtime):
    await client.get(f"/assistants/{COUNTER}/schemas")
    await client.get(f"/assistants/{COUNTER}/subgraphs?recurse=true")
    await client.get(f"/assistants/{COUNTER}/subgraphs/child")
    assert runtime.questions == [
        SchemasQuestion(graph_id="counter", config={}),
        SubgraphsQuestion(graph_id="counter", recurse=True, config={}),
        SubgraphsQuestion(graph_id="counter", namespace="child", config={}),
    ]
    assert (await client.get("/assistants/counter/schemas")).status_code == 422


@pytest.mark.parametrize(
    ("graphs", "default", "chosen"),
    [(("counter",), None, "counter"), (GRAPHS, "approval", "approval")],
)
async def test_the_gateway_mount_assumes_the_graph(runtime, records, graphs, default, chosen):
    app = create_app(runtime=runtime, records=records, graphs=graphs, default_graph=default)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        assert (await client.post("/api/runs", json={})).status_code == 200
        assert (await client.post("/runs", json={})).status_code == 422
    assert runtime.requests[0].graph_id == chosen


async def test_the_document_describes_both_mounts_and_every_status(client):
    document = (await client.get("/openapi.json")).json()
    paths = document["paths"]
    assert {path for path in paths if path.startswith("/api/")} == {
        f"/api{path}" for path in paths if not path.startswith("/api/")
    }
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert {"422", "503"} <= set(operation["responses"]), (path, method)
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    assert (await client.get("/docs")).status_code == 200


async def test_every_reference_of_the_document_leads_somewhere(client):
    document = (await client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]

    def references(part):
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
