"""What routes make of the answers of handlers: refusals, filters, and changes of ``value``."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from langgraph_sdk import Auth

from greenroom.auth.authenticator import HandlerAuthenticator
from greenroom.auth.calls import Inline
from greenroom.core.access import AuthSpec
from greenroom.core.identity import system_assistant_id
from greenroom.core.limits import Limits
from greenroom.http.app import create_app
from greenroom.http.settings import HttpSettings
from greenroom.sealing import UNSEALED, Sealing
from greenroom.sealing.aes import AesGcm
from tests.http.edge_doubles import GRAPHS, THREAD, MemoryRecords, MemoryRuntime

COUNTER = system_assistant_id("counter")
OPENAPI = {
    "securitySchemes": {"k": {"type": "http", "scheme": "bearer"}},
    "security": [{"k": []}],
    "paths": {"/threads": {"post": [{"k": ["write"]}]}, "/nowhere": {"get": []}},
}
RUN = {"assistant_id": "counter", "input": {"n": 1}}

Decide = Callable[[Any, Any], Any]


class Handlers:
    """Handlers that a test changes; they note each check."""

    def __init__(self) -> None:
        self.checks: list[tuple[str, Any]] = []
        self.bodies: list[Any] = []
        self.decide: Decide = lambda ctx, value: None
        self.auth = Auth()

        @self.auth.authenticate
        async def authenticate(body: Any, authorization: str | None) -> Any:
            self.bodies.append(body)
            if authorization == "none":
                raise Auth.exceptions.HTTPException(headers={"WWW-Authenticate": "Bearer"})
            return "ada"

        @self.auth.on
        async def on(ctx: Any, value: Any) -> Any:
            self.checks.append((f"{ctx.resource}.{ctx.action}", dict(value)))
            return self.decide(ctx, value)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def served(records: MemoryRecords, runtime: MemoryRuntime, handlers: Handlers) -> FastAPI:
    spec = AuthSpec(target="a.py:auth", openapi=OPENAPI)
    return create_app(
        runtime=runtime,
        records=records,
        graphs=GRAPHS,
        settings=HttpSettings(heartbeat_s=5.0, limits=Limits(runs=9)),
        authenticator=HandlerAuthenticator(handlers.auth, spec, Inline()),
    )


@pytest.fixture
async def http(served: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        yield client


async def test_a_refusal_has_its_headers_and_those_of_cors(http) -> None:
    headers = {"authorization": "none", "origin": "http://page"}
    answer = await http.post("/threads", json={}, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "access-control-allow-origin" in answer.headers
    asked = {"origin": "http://page", "access-control-request-method": "POST"}
    preflight = await http.options("/threads", headers=asked)
    assert preflight.status_code == 200


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_unknown_paths_are_authenticated_first(http, mount: str) -> None:
    path = f"{mount}/nope"
    assert (await http.get(path, headers={"authorization": "none"})).status_code == 401
    assert (await http.get(path)).status_code == 404
    for open_path in ("/ok", "/info"):
        answer = await http.get(mount + open_path, headers={"authorization": "none"})
        assert answer.status_code == 200


async def test_a_body_that_the_handler_has_read_is_read_again(http, handlers, records) -> None:
    answer = await http.post("/threads", json={"metadata": {"x": 1}})
    assert answer.json()["metadata"] == {"x": 1}
    assert handlers.bodies == [{"metadata": {"x": 1}}]


async def test_a_websocket_without_credentials_is_refused(served) -> None:
    sent: list[Any] = []
    scope = {
        "type": "websocket",
        "path": "/threads/x/stream/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", b"none")],
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await served(scope, receive, send)
    assert [each["type"] for each in sent] == ["websocket.close"]


async def test_security_schemes_are_in_the_document(http) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"] == OPENAPI["securitySchemes"]
    assert document["security"] == [{"k": []}]
    assert document["paths"]["/threads"]["post"]["security"] == [{"k": ["write"]}]
    assert "security" not in document["paths"]["/threads/{thread_id}"]["get"]


async def test_the_checks_of_a_run_and_what_they_see(http, handlers, records) -> None:
    records.add_thread()
    await http.post(f"/threads/{THREAD}/runs", json={**RUN, "metadata": {"m": 1}})
    ((check, value),) = handlers.checks
    assert check == "threads.create_run"
    assert value["thread_id"] == uuid.UUID(THREAD)
    assert value["assistant_id"] == uuid.UUID(COUNTER)
    assert (value["status"], value["metadata"]) == ("pending", {"m": 1})
    assert value["kwargs"]["input"] == {"n": 1}
    handlers.checks.clear()
    mine = (await http.post("/assistants", json={"graph_id": "counter"})).json()["assistant_id"]
    await http.post("/runs", json={**RUN, "assistant_id": mine})
    assert [check for check, _ in handlers.checks] == [
        *("assistants.create", "assistants.read", "threads.create_run")
    ]
    assert handlers.checks[-1][1]["thread_id"] is None


@pytest.mark.parametrize("large", [False, True])
async def test_a_handler_changes_a_run(http, handlers, runtime, large: bool) -> None:
    def change(ctx: Any, value: Any) -> None:
        if ctx.action == "create_run":
            value["kwargs"]["input"]["n"] += 1
            value["kwargs"]["config"]["configurable"]["tenant"] = "red"
            value["metadata"] = {"by": "handler"}

    handlers.decide = change
    filler = "x" * 2_000_000 if large else ""
    body = {**RUN, "input": {"n": 1, "filler": filler}, "metadata": {"by": "client"}}
    assert (await http.post("/runs", json=body)).status_code == 200
    (request,) = runtime.requests
    kwargs = orjson.loads(request.kwargs)
    assert kwargs["input"]["n"] == 2
    assert kwargs["config"]["configurable"]["tenant"] == kwargs["context"]["tenant"] == "red"
    assert orjson.loads(request.metadata)["by"] == "handler"
    assert request.caller == "owner:ada"


async def test_a_handler_adds_to_the_context_of_a_client(http, handlers, runtime) -> None:
    def change(ctx: Any, value: Any) -> None:
        value["kwargs"]["config"]["configurable"]["tenant"] = "red"

    handlers.decide = change
    assert (await http.post("/runs", json={**RUN, "context": {"mine": 1}})).status_code == 200
    kwargs = orjson.loads(runtime.requests[0].kwargs)
    assert kwargs["context"] == {"mine": 1, "tenant": "red"}


async def test_metadata_that_a_handler_sets_are_stored(http, handlers, runtime, records) -> None:
    def change(ctx: Any, value: Any) -> None:
        value["metadata"] = {**(value.get("metadata") or {}), "by": ctx.action}

    handlers.decide = change
    thread = (await http.post("/threads", json={})).json()
    assert thread["metadata"] == {"by": "create"}
    changed = await http.patch(f"/threads/{thread['thread_id']}", json={"metadata": {"x": 1}})
    assert changed.json()["metadata"] == {"by": "update", "x": 1}
    made = (await http.post("/assistants", json={"graph_id": "counter"})).json()
    assert made["metadata"] == {"by": "create"}
    cron = {"assistant_id": "counter", "schedule": "0 0 * * *"}
    cron_id = (await http.post("/runs/crons", json=cron)).json()["cron_id"]
    (saved,) = runtime.saved
    assert orjson.loads(saved.metadata) == {"by": "create"}
    assert orjson.loads(saved.payload)["metadata"] == {"by": "create_run"}
    assert (saved.user_id, orjson.loads(saved.user)["identity"]) == ("ada", "ada")
    await http.patch(f"/runs/crons/{cron_id}", json={"enabled": False})
    assert orjson.loads(runtime.saved[-1].metadata) == {"by": "update"}
    copied = await http.post(f"/threads/{thread['thread_id']}/copy")
    assert copied.json()["metadata"] == {"by": "create"}
    await http.post("/threads/search", json={"metadata": {"y": 1}})
    name, where, *_ = records.asked[-1]
    assert (name, where.metadata) == ("search_threads", {"y": 1, "by": "search"})


@pytest.mark.parametrize("metadata", ["x", [1], 7])
async def test_metadata_that_are_no_object_are_a_mistake(http, handlers, metadata: Any) -> None:
    def change(ctx: Any, value: Any) -> None:
        value["metadata"] = metadata

    handlers.decide = change
    answer = await http.post("/threads", json={})
    assert (answer.status_code, "no object" in answer.text) == (500, True)


async def test_the_store_goes_by_the_namespace_of_the_handler(http, handlers, records) -> None:
    def change(ctx: Any, value: Any) -> None:
        value["namespace"] = ["ada", *value["namespace"]]

    handlers.decide = change
    item = {"namespace": ["docs"], "key": "k", "value": {"x": 1}}
    assert (await http.put("/store/items", json=item)).status_code == 204
    assert list(records.items) == [(("ada", "docs"), "k")]
    found = await http.get("/store/items", params={"namespace": "docs", "key": "k"})
    assert found.json()["namespace"] == ["ada", "docs"]
    searched = await http.post("/store/items/search", json={})
    assert len(searched.json()["items"]) == 1
    listed = await http.post("/store/namespaces", json={})
    assert listed.json() == {"namespaces": [["ada", "docs"]]}
    await http.request("DELETE", "/store/items", json={"namespace": ["docs"], "key": "k"})
    assert not records.items


@pytest.mark.parametrize("namespace", ["ada", None, [1], ["a.b"], [""]])
async def test_a_namespace_that_is_none_stores_nothing(http, handlers, records, namespace) -> None:
    def change(ctx: Any, value: Any) -> None:
        value["namespace"] = namespace

    handlers.decide = change
    item = {"namespace": ["docs"], "key": "k", "value": {"x": 1}}
    assert (await http.put("/store/items", json=item)).status_code in (422, 500)
    assert not records.items


async def test_a_filter_of_the_store_is_for_searches_only(http, handlers, records) -> None:
    handlers.decide = lambda ctx, value: {"owner": "ada"}
    item = {"namespace": ["docs"], "key": "k", "value": {"x": 1}}
    place = {"namespace": "docs", "key": "k"}
    for answer in (
        await http.put("/store/items", json=item),
        await http.get("/store/items", params=place),
        await http.request("DELETE", "/store/items", json={"namespace": ["docs"], "key": "k"}),
        await http.post("/store/namespaces", json={}),
    ):
        assert answer.status_code == 500
        assert "value['namespace']" in answer.json()["detail"]
    assert not records.items
    await http.post("/store/items/search", json={"filter": {"x": 1}})
    _, query = records.asked[-1]
    assert [(each.path, each.operand) for each in query.conditions] == [
        (("x",), 1),
        (("owner",), "ada"),
    ]
    handlers.decide = lambda ctx, value: {"tags": {"$contains": "x"}}
    answer = await http.post("/store/items/search", json={})
    assert answer.status_code == 500
    handlers.decide = lambda ctx, value: {"$or": [{"a": 1}, {"b": 1}]}
    assert (await http.post("/store/items/search", json={})).status_code == 500


@pytest.mark.parametrize(
    "path", ["/threads", "/threads/search", "/runs", "/runs/crons", "/assistants", "/mcp"]
)
async def test_who_may_do_nothing_is_told_so_and_does_nothing(
    http, handlers, records, runtime, path: str
) -> None:
    handlers.decide = lambda ctx, value: False
    bodies = {
        "/runs": RUN,
        "/runs/crons": {"assistant_id": "counter", "schedule": "0 0 * * *"},
        "/assistants": {"graph_id": "counter"},
        "/mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    }
    answer = await http.post(path, json=bodies.get(path, {}))
    if path == "/mcp":
        assert answer.json()["error"]["message"] == "Forbidden"
    else:
        assert (answer.status_code, answer.json()) == (403, {"detail": "Forbidden"})
    assert not records.threads
    assert not runtime.requests
    assert not runtime.saved


async def test_a_rollback_needs_the_right_to_delete(http, handlers, records) -> None:
    records.add_run()
    path = f"/threads/{THREAD}/runs/{next(iter(records.runs))}/cancel"

    def no_deletes(ctx: Any, value: Any) -> Any:
        return ctx.action != "delete"

    handlers.decide = no_deletes
    assert (await http.post(path, params={"action": "rollback"})).status_code == 403
    assert [check for check, _ in handlers.checks] == ["threads.update", "threads.delete"]
    assert (await http.post(path)).status_code == 202


async def test_who_may_only_read_does_not_cancel_by_leaving(http, handlers, records) -> None:
    records.add_run()
    path = f"/threads/{THREAD}/runs/{next(iter(records.runs))}/join"
    handlers.decide = lambda ctx, value: ctx.action == "read"
    answer = await http.get(path, params={"cancel_on_disconnect": "true"})
    assert answer.status_code == 403


@pytest.mark.parametrize("keys", ["", "k:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="])
async def test_the_user_of_a_run_is_stored_as_its_input_is(
    http, handlers, runtime, served, keys: str
) -> None:
    sealing = Sealing(AesGcm.of_text(keys)) if keys else UNSEALED
    served.state.edge = replace(served.state.edge, sealing=sealing)
    await http.post("/runs", json=RUN)
    cron = {"assistant_id": "counter", "schedule": "0 0 * * *"}
    await http.post("/runs/crons", json=cron)
    for user in (runtime.requests[0].user, runtime.saved[0].user):
        assert ('"ada"' in user) is not bool(keys)
        assert orjson.loads(sealing.open_json(user.encode()))["identity"] == "ada"
