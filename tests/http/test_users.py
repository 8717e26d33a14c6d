"""Two users at every route: what one has made does not exist for the other.

A row for each route of the OpenAPI document, on both mounts and in both directions. A route without
a row fails `test_each_route_has_a_row`: say there what the other user must be answered.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx
import orjson
import pytest
from fastapi import FastAPI
from fastapi.routing import APIWebSocketRoute

from greenroom.auth.authenticator import HandlerAuthenticator
from greenroom.auth.calls import Inline
from greenroom.core.access import AuthSpec
from greenroom.core.events import Event, first_seq
from greenroom.core.identity import system_assistant_id
from greenroom.core.pausing import Pause
from greenroom.core.thread_log import LogEvent, LogPart
from greenroom.http.app import PARTS, create_app
from greenroom.http.edge import Connections
from greenroom.http.openai.response_objects import response_id
from greenroom.http.settings import HttpSettings
from tests.http import owners
from tests.http.edge_doubles import GRAPHS, NOW, MemoryRecords, MemoryRuntime
from tests.http.test_deliveries import a_delivery

MOUNTS = ("", "/api")
COUNTER = system_assistant_id("counter")
HIDDEN = (
    "GET /a2a/{assistant_id}/.well-known/agent-card.json",
    "GET /a2a/{assistant_id}/.well-known/agent.json",
)
"""Routes that the OpenAPI document leaves out."""
SOCKET = "WEBSOCKET /threads/{thread_id}/stream/events"
"""The document has no WebSockets."""
MESSAGES = {"properties": {"messages": {"type": "array"}}, "required": []}
CHATS = {"input_schema": MESSAGES, "output_schema": MESSAGES}


@dataclass(frozen=True)
class Ids:
    thread: str
    run: str
    busy: str
    assistant: str
    cron: str
    response: str = ""

    def other(self) -> Ids:
        """Ids of nothing."""
        nothing = [f"656ebb01-2f41-4e1c-8df6-f83b6e2bb98{n}" for n in range(6)]
        return Ids(*nothing[:5], response=response_id(nothing[5]))


Body = Callable[[Ids], Any]


@dataclass(frozen=True)
class Row:
    """What a route is asked, and what the other user gets.

    Attributes:
        kind: ``same``: exactly what is answered about an id of nothing. ``list``: nothing of the
            maker's. ``conflict``: 409, since the id is taken. ``own``: something of the asker's
            own is made. ``rpc``: as ``same``, in JSON-RPC. ``open``: for everybody, without
            credentials. ``refused``: 403.
        body, query: of the request.
        runs: the run's id in the path is that of the run that is executed.
    """

    kind: Literal["same", "list", "conflict", "own", "rpc", "open", "refused"]
    body: Body | None = None
    query: Callable[[Ids], dict[str, Any]] | None = None
    busy: bool = False
    headers: dict[str, str] = field(default_factory=dict)


RUN: Body = lambda ids: {  # noqa: E731
    "assistant_id": "counter",
    "input": {},
    "if_not_exists": "reject",  # else the gateway's mount makes a thread of any free id
}
CRON: Body = lambda ids: {"assistant_id": "counter", "schedule": "0 0 * * *"}  # noqa: E731


SAID = {"messages": [{"role": "user", "content": "hi"}]}


def nothing(ids: Ids) -> Any:
    return {}


def rpc(method: str, params: Body = nothing) -> Body:
    return lambda ids: {"jsonrpc": "2.0", "id": 1, "method": method, "params": params(ids)}


ROWS: dict[str, Row] = {
    "POST /threads/{thread_id}/runs": Row("same", RUN),
    "GET /threads/{thread_id}/runs": Row("same"),
    "POST /threads/{thread_id}/runs/stream": Row("same", RUN),
    "POST /threads/{thread_id}/runs/wait": Row("same", RUN),
    "GET /threads/{thread_id}/runs/{run_id}": Row("same"),
    "DELETE /threads/{thread_id}/runs/{run_id}": Row("same"),
    "GET /threads/{thread_id}/runs/{run_id}/join": Row("same"),
    "GET /threads/{thread_id}/runs/{run_id}/stream": Row("same"),
    "POST /threads/{thread_id}/runs/{run_id}/stream": Row("same"),
    "POST /threads/{thread_id}/runs/{run_id}/cancel": Row("same", busy=True),
    "POST /threads/{thread_id}/runs/{run_id}/input": Row(
        "same", lambda ids: {"input": {"x": 1}}, busy=True
    ),
    "GET /threads/{thread_id}/runs/{run_id}/input": Row("same", busy=True),
    "GET /threads/{thread_id}/runs/{run_id}/stack": Row("same", busy=True),
    "POST /threads/{thread_id}/runs/{run_id}/pause": Row("same", busy=True),
    "POST /threads/{thread_id}/runs/{run_id}/step": Row("same", busy=True),
    "POST /threads/{thread_id}/runs/{run_id}/resume": Row("same", busy=True),
    "GET /threads/{thread_id}/runs/{run_id}/timeline": Row("same", busy=True),
    "POST /runs": Row("same", lambda ids: {"assistant_id": ids.assistant, "input": {}}),
    "POST /runs/stream": Row("same", lambda ids: {"assistant_id": ids.assistant, "input": {}}),
    "POST /runs/wait": Row("same", lambda ids: {"assistant_id": ids.assistant, "input": {}}),
    "POST /runs/batch": Row("same", lambda ids: [{"assistant_id": ids.assistant, "input": {}}]),
    "POST /runs/cancel": Row("same", lambda ids: {"thread_id": ids.thread, "run_ids": [ids.busy]}),
    "GET /runs/{run_id}/stream": Row("same"),
    "GET /webhooks/deliveries": Row("list"),
    "GET /webhooks/deliveries/{delivery_id}": Row("same"),
    "POST /webhooks/deliveries/{delivery_id}/send": Row("same"),
    "POST /runs/search": Row("list", nothing),
    "POST /runs/count": Row("list", nothing),
    "GET /runs/{run_id}": Row("same"),
    "GET /runs/{run_id}/wait": Row("same"),
    "POST /threads": Row("conflict", lambda i: {"thread_id": i.thread, "if_exists": "do_nothing"}),
    "POST /threads/search": Row("list", nothing),
    "POST /threads/count": Row("list", nothing),
    "POST /threads/prune": Row("same", lambda ids: {"thread_ids": [ids.thread]}),
    "GET /threads/{thread_id}": Row("same"),
    "PATCH /threads/{thread_id}": Row("same", lambda ids: {"metadata": {"x": 1}}),
    "DELETE /threads/{thread_id}": Row("same"),
    "POST /threads/{thread_id}/copy": Row("same"),
    "GET /threads/{thread_id}/storage": Row("same"),
    "GET /threads/{thread_id}/stream": Row("same"),
    "POST /threads/{thread_id}/commands": Row(
        "same", lambda ids: {"id": 1, "method": "state.get", "params": {}}
    ),
    "POST /threads/{thread_id}/stream/events": Row("same", lambda ids: {"channels": ["values"]}),
    SOCKET: Row("same", lambda ids: {"channels": ["values"]}),
    "GET /threads/{thread_id}/state": Row("same"),
    "POST /threads/{thread_id}/state": Row("same", lambda ids: {"values": {"x": 1}}),
    "PATCH /threads/{thread_id}/state": Row("same", lambda ids: {"metadata": {"x": 1}}),
    "GET /threads/{thread_id}/state/{checkpoint_id}": Row("same"),
    "POST /threads/{thread_id}/state/checkpoint": Row("same", nothing),
    "GET /threads/{thread_id}/history": Row("same"),
    "POST /threads/{thread_id}/history": Row("same", nothing),
    "PUT /store/items": Row("own", lambda i: {"namespace": ["docs"], "key": "k", "value": {}}),
    "GET /store/items": Row("list", query=lambda ids: {"namespace": "docs", "key": "k"}),
    "DELETE /store/items": Row("own", lambda ids: {"namespace": ["docs"], "key": "k"}),
    "POST /store/items/search": Row("list", nothing),
    "POST /store/namespaces": Row("list", nothing),
    "POST /assistants/search": Row("list", nothing),
    "POST /assistants/count": Row("list", nothing),
    "POST /assistants": Row(
        "conflict",
        lambda i: {"assistant_id": i.assistant, "graph_id": "counter", "if_exists": "do_nothing"},
    ),
    "GET /assistants/{assistant_id}": Row("same"),
    "PATCH /assistants/{assistant_id}": Row("same", lambda ids: {"name": "x"}),
    "DELETE /assistants/{assistant_id}": Row("same"),
    "POST /assistants/{assistant_id}/versions": Row("same", nothing),
    "POST /assistants/{assistant_id}/latest": Row("same", lambda ids: {"version": 1}),
    "GET /assistants/{assistant_id}/graph": Row("same"),
    "GET /assistants/{assistant_id}/schemas": Row("same"),
    "GET /assistants/{assistant_id}/subgraphs": Row("same"),
    "GET /assistants/{assistant_id}/subgraphs/{namespace}": Row("same"),
    "POST /runs/crons": Row(
        "same", lambda ids: {"assistant_id": ids.assistant, "schedule": "0 0 * * *"}
    ),
    "POST /threads/{thread_id}/runs/crons": Row("same", CRON),
    "POST /runs/crons/search": Row("list", nothing),
    "POST /runs/crons/count": Row("list", nothing),
    "GET /runs/crons/{cron_id}": Row("same"),
    "PATCH /runs/crons/{cron_id}": Row("same", lambda ids: {"enabled": False}),
    "DELETE /runs/crons/{cron_id}": Row("same"),
    "POST /runs/{run_id}/feedback": Row("same", lambda ids: {"key": "k", "score": 1}),
    "GET /runs/{run_id}/feedback": Row("same"),
    "POST /runs/{run_id}/feedback/{key}": Row("same", lambda ids: {"score": 1}),
    "GET /runs/{run_id}/feedback/{key}": Row("same", query=lambda ids: {"score": 1}),
    "POST /v1/chat/completions": Row("same", lambda ids: {"model": ids.assistant, **SAID}),
    "POST /v1/responses": Row(
        "same",
        lambda i: {"model": "counter", "input": "x", "previous_response_id": i.response},
    ),
    "GET /v1/responses/{response_id}": Row("same"),
    "DELETE /v1/responses/{response_id}": Row("same"),
    "POST /v1/responses/{response_id}/cancel": Row("same"),
    "GET /v1/models": Row("list"),
    "GET /v1/models/{model}": Row("same"),
    "POST /mcp": Row("list", rpc("tools/list")),
    "POST /a2a/{assistant_id}": Row("rpc", rpc("agent/getAuthenticatedExtendedCard")),
    "GET /a2a/{assistant_id}": Row("same"),
    HIDDEN[0]: Row("same"),
    HIDDEN[1]: Row("same"),
    "GET /.well-known/agent-card.json": Row(
        "same", query=lambda ids: {"assistant_id": ids.assistant}
    ),
    "GET /": Row("open"),
    "GET /ok": Row("open"),
    "GET /info": Row("open"),
    "GET /metrics": Row("refused"),
    "GET /runtime": Row("own"),
}


@dataclass
class World:
    app: FastAPI
    records: MemoryRecords
    runtime: MemoryRuntime
    client: httpx.AsyncClient
    mount: str
    maker: str
    asker: str

    async def ask(self, who: str, route: str, ids: Ids, row: Row) -> httpx.Response:
        method, path = route.split(" ")
        path = path.format(
            thread_id=ids.thread,
            run_id=ids.busy if row.busy else ids.run,
            assistant_id=ids.assistant,
            cron_id=ids.cron,
            checkpoint_id="1f0c0000-0000-6000-8000-000000000000",
            namespace="child",
            key="k",
            model=ids.assistant,
            response_id=ids.response,
            delivery_id=ids.run,
        )
        if method == "WEBSOCKET":
            return await self._through_a_socket(who, path, row, ids)
        if path.endswith(("/stream", "/stream/events")) and "/runs" not in path:
            return await self._looked_into(who, method, path, row, ids)
        return await self.client.request(
            method,
            self.mount + path,
            headers={**as_user(who), **row.headers},
            json=row.body(ids) if row.body is not None else None,
            params=row.query(ids) if row.query is not None else None,
        )

    async def _through_a_socket(self, who: str, path: str, row: Row, ids: Ids) -> httpx.Response:
        """What a WebSocket has said to a subscription until its client leaves."""
        assert row.body is not None
        asked = {"id": 1, "method": "subscription.subscribe", "params": row.body(ids)}
        told = [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": orjson.dumps(asked).decode()},
        ]
        sent = list[Any]()
        scope = {
            "type": "websocket",
            "path": self.mount + path,
            "root_path": "",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer tok-{who}".encode())],
        }
        await self._until_left(scope, told, {"type": "websocket.disconnect", "code": 1000}, sent)
        said = [orjson.loads(each["text"]) for each in sent if each["type"] == "websocket.send"]
        for each in said:
            each.get("result", {}).pop("subscription_id", None)
        closed = any(each["type"] == "websocket.close" for each in sent)
        return httpx.Response(403 if closed else 200, content=orjson.dumps(said))

    async def _looked_into(
        self, who: str, method: str, path: str, row: Row, ids: Ids
    ) -> httpx.Response:
        """What a stream that never ends has sent when its client leaves."""
        body = orjson.dumps(row.body(ids)) if row.body is not None else b""
        sent = list[Any]()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self.mount + path,
            "raw_path": (self.mount + path).encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer tok-{who}".encode())],
            "client": ("test", 1),
            "server": ("edge", 80),
        }

        told = [{"type": "http.request", "body": body, "more_body": False}]
        await self._until_left(scope, told, {"type": "http.disconnect"}, sent)
        body = b"".join(each.get("body", b"") for each in sent)
        return httpx.Response(sent[0]["status"], content=body.replace(b": heartbeat\n\n", b""))

    async def _until_left(
        self, scope: dict[str, Any], told: list[Any], left: dict[str, Any], sent: list[Any]
    ) -> None:
        leaves = asyncio.Event()

        async def receive() -> Any:
            if told:
                return told.pop(0)
            await leaves.wait()
            return left

        async def send(message: Any) -> None:
            sent.append(message)

        asking = asyncio.create_task(self.app(scope, receive, send))
        done, _ = await asyncio.wait((asking,), timeout=0.05)
        leaves.set()
        if not done:
            await asyncio.wait_for(asking, 5)

    def state_of_maker(self, ids: Ids) -> Any:
        records = self.records
        return copy.deepcopy(
            (
                records.threads.get(ids.thread),
                {
                    k: {**v, "kwargs": None}
                    for k, v in records.runs.items()
                    if k in (ids.run, ids.busy)
                },
                records.assistants.get(ids.assistant),
                {k: (v[0]["metadata"], v[1]) for k, v in records.crons.items() if k == ids.cron},
                {k: None for k in records.items if k[0][0] == self.maker},
            )
        )


def as_user(who: str) -> dict[str, str]:
    return {"authorization": f"Bearer tok-{who}"}


def authenticator() -> HandlerAuthenticator:
    return HandlerAuthenticator(owners.auth, AuthSpec(target="owners.py:auth"), Inline())


@functools.cache
def app_of_users() -> FastAPI:
    """One for all tests: its routes are made at its first request, in 40 ms."""
    records = MemoryRecords()
    return create_app(
        runtime=MemoryRuntime(records),
        records=records,
        graphs=GRAPHS,
        settings=HttpSettings(heartbeat_s=5.0, openai=True),
        authenticator=authenticator(),
    )


@pytest.fixture(params=[("alice", "bob"), ("bob", "alice")], ids=["alice", "bob"])
async def pair(request) -> Any:
    return request.param


@pytest.fixture(params=MOUNTS, ids=["root", "api"])
async def world(request, pair) -> Any:
    app, records = app_of_users(), MemoryRecords()
    runtime = MemoryRuntime(records)
    app.state.edge = replace(
        app.state.edge, runtime=runtime, records=records, connections=Connections()
    )
    app.middleware_stack = None
    runtime.answer = orjson.dumps(CHATS)
    runtime.thread_frames = [b'event: x\r\ndata: "secret of the maker"\r\n\r\n']
    secret = Event(first_seq(1), 1, "values", b'{"x":"secret of the maker"}')
    runtime.log_parts = [LogPart(events=[LogEvent(number=1, run_id="r", event=secret)])]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        yield World(app, records, runtime, client, request.param, *pair)
    assert len(app.state.edge.connections) == 0


async def made_by_maker(world: World) -> Ids:
    """Everything that a user can make, through the API."""
    begin = world.runtime.begin

    async def post(path: str, body: Any, method: str = "POST") -> Any:
        answer = await world.client.request(
            method, world.mount + path, json=body, headers=as_user(world.maker)
        )
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    marked = {"metadata": {"secret": f"of {world.maker}", "graph_id": "counter"}}
    thread = (await post("/threads", marked))["thread_id"]

    def ends(run_id: str) -> None:
        begin(run_id)
        world.runtime.finish(run_id, {"out": 1})

    world.runtime.begin = ends
    run = (await post(f"/threads/{thread}/runs", RUN(None)))["run_id"]
    world.runtime.begin = begin
    busy = (await post(f"/threads/{thread}/runs", RUN(None)))["run_id"]
    world.runtime.pauses[busy] = Pause(name="p", since=NOW)
    world.records.deliveries[run] = {**a_delivery(run), "thread_id": thread}
    world.runtime.begin = ends
    assistant = await post("/assistants", {"graph_id": "counter", "name": "mine", **marked})
    cron = await post("/runs/crons", CRON(None))
    item = {"namespace": ["docs"], "key": "k", "value": {"secret": "s"}}
    await post("/store/items", item, "PUT")
    response = await post("/v1/responses", {"model": "counter", "input": "hi"})
    return Ids(thread, run, busy, assistant["assistant_id"], cron["cron_id"], response["id"])


def routes() -> set[str]:
    paths = app_of_users().openapi()["paths"]
    found = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    sockets = {
        f"WEBSOCKET {mount}{route.path}"
        for mount in MOUNTS
        for _, part in PARTS
        for route in part.router.routes
        if isinstance(route, APIWebSocketRoute)
    }
    return found | set(HIDDEN) | sockets


def test_each_route_has_a_row() -> None:
    for mount in MOUNTS:
        of_mount = {
            f"{method} {path.removeprefix('/api') or '/'}"
            for method, path in (each.split(" ") for each in routes())
            if path.startswith("/api/") or path == "/api" or not mount
            if mount or not path.startswith("/api/")
        }
        missing = of_mount - set(ROWS)
        assert not missing, f"Say in ROWS what another user is answered by {sorted(missing)}."
    assert set(ROWS) <= {each.replace(" /api/", " /") for each in routes()} | set(HIDDEN)


@pytest.mark.parametrize("route", ROWS)
async def test_what_one_user_has_made_does_not_exist_for_the_other(
    world: World, route: str
) -> None:
    row = ROWS[route]
    if row.kind == "open":
        path = route.split(" ")[1]
        answer = await world.client.get(world.mount + path)
        assert answer.status_code == 200
        assert "recent" not in answer.text
        return
    without = await world.client.request(route.split(" ")[0], world.mount + "/threads/x")
    assert without.status_code == 401
    if row.kind == "refused":
        answer = await world.ask(world.asker, route, Ids("", "", "", "", ""), row)
        assert answer.status_code == 403
        assert "all users" in answer.text
        answer = await world.ask("root", route, Ids("", "", "", "", ""), row)
        assert answer.status_code == 200
        return
    ids = await made_by_maker(world)
    before = world.state_of_maker(ids)
    asked = await world.ask(world.asker, route, ids, row)
    secret = (f"of {world.maker}", f'"{world.maker}"', "secret of", *vars(ids).values())
    match row.kind:
        case "same" | "rpc":
            absent = ids.other()
            same = await world.ask(world.asker, route, absent, row)
            assert seen(asked, ids) == seen(same, absent)
        case "list":
            assert asked.status_code == 200
            empty = ({"items": []}, {"namespaces": []}, {"object": "list", "data": []})
            assert asked.json() in (0, [], None, *empty) or (
                asked.json() == {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}
            )
        case "conflict":
            assert asked.status_code == 409
        case "own":
            assert asked.status_code < 300
    if row.kind not in ("same", "rpc", "conflict"):
        assert not [each for each in secret if each in asked.text]
    assert world.state_of_maker(ids) == before
    # The row asks something that makes sense: its maker gets it.
    own = await world.ask(world.maker, route, ids, row)
    assert own.status_code < 300, own.text
    if row.kind == "list":
        assert own.json() != asked.json()
    if row.kind == "rpc":
        assert "result" in own.json()
    if route.endswith("/stream") and "/runs" not in route:
        assert "secret of the maker" in own.text


def seen(answer: httpx.Response, ids: Ids) -> tuple[Any, ...]:
    """An answer without the ids that were asked for."""
    text = answer.text
    for name, value in vars(ids).items():
        text = text.replace(value, f"<{name}>")
    headers = {key: value for key, value in answer.headers.items() if key != "content-length"}
    for key, value in headers.items():
        for name, given in vars(ids).items():
            headers[key] = value = value.replace(given, f"<{name}>")
    return answer.status_code, text, headers


@pytest.mark.parametrize("path", ["/runs", "/runs/batch", "/runs/wait", "/runs/stream"])
async def test_what_a_stateless_run_makes_is_its_creators(world: World, path: str) -> None:
    await made_by_maker(world)
    body = {**RUN(None), "on_completion": "keep", "metadata": {"owner": world.maker}}
    answer = await world.client.post(
        world.mount + path,
        json=[body] if path == "/runs/batch" else body,
        headers=as_user(world.asker),
    )
    assert answer.status_code == 200
    request = world.runtime.requests[-1]
    assert world.records.threads[request.thread_id]["metadata"]["owner"] == world.asker
    user = orjson.loads(request.user)
    assert user["identity"] == world.asker
    assert user["token"] == f"tok-{world.asker}"
    # No client is shown the user, and what the handler put there least of all.
    run = await world.client.get(
        f"{world.mount}/runs/{request.run_id}", headers=as_user(world.asker)
    )
    assert "tok-" not in run.text
    assert "tok-" not in answer.text


async def test_a_run_makes_no_thread_where_somebody_else_has_one(world: World) -> None:
    ids = await made_by_maker(world)
    before = world.state_of_maker(ids)
    answer = await world.client.post(
        f"{world.mount}/threads/{ids.thread}/runs",
        json={"assistant_id": "counter", "input": {}, "if_not_exists": "create"},
        headers=as_user(world.asker),
    )
    assert (answer.status_code, answer.json()) == (
        404,
        {"detail": "Thread or assistant not found."},
    )
    assert "content-location" not in answer.headers
    assert world.state_of_maker(ids) == before


async def test_a_key_of_one_user_is_not_that_of_another(world: World) -> None:
    body, headers = {"metadata": {"x": 1}}, {"idempotency-key": "same"}
    mine, again, other = [
        await world.client.post(
            world.mount + "/threads", json=body, headers={**as_user(who), **headers}
        )
        for who in (world.maker, world.maker, world.asker)
    ]
    assert mine.json()["thread_id"] == again.json()["thread_id"] != other.json()["thread_id"]
    assert other.json()["metadata"]["owner"] == world.asker


async def test_a_context_of_somebody_else_takes_no_message(world: World) -> None:
    ids = await made_by_maker(world)
    own = await world.client.post(
        world.mount + "/assistants", json={"graph_id": "counter"}, headers=as_user(world.asker)
    )
    message = {
        "role": "user",
        "messageId": "m",
        "contextId": ids.thread,
        "parts": [{"kind": "text", "text": "hi"}],
    }
    answer = await world.client.post(
        f"{world.mount}/a2a/{own.json()['assistant_id']}",
        json=rpc("message/send", lambda _: {"message": message})(ids),
        headers=as_user(world.asker),
    )
    assert answer.json()["error"] == {
        "code": -32602,
        "message": "Access denied to assistant or thread",
    }
    task = await world.client.post(
        f"{world.mount}/a2a/{own.json()['assistant_id']}",
        json=rpc("tasks/get", lambda _: {"id": ids.run})(ids),
        headers=as_user(world.asker),
    )
    assert "Task not found" in task.text


async def test_a_tool_of_somebody_else_is_unknown(world: World) -> None:
    await made_by_maker(world)
    listed = await world.client.post(
        world.mount + "/mcp", json=rpc("tools/list")(None), headers=as_user(world.maker)
    )
    (tool,) = listed.json()["result"]["tools"]
    called = await world.client.post(
        world.mount + "/mcp",
        json=rpc("tools/call", lambda _: {"name": tool["name"], "arguments": {}})(None),
        headers=as_user(world.asker),
    )
    assert called.json()["error"]["message"] == f"Unknown tool: {tool['name']}"


async def test_all_runs_of_one_user_are_cancelled_and_no_others(world: World) -> None:
    ids = await made_by_maker(world)
    path = world.mount + "/runs/cancel"
    asked = await world.client.post(path, json={"status": "all"}, headers=as_user(world.asker))
    assert asked.status_code == 404
    assert world.records.runs[ids.busy]["status"] == "running"
    own = await world.client.post(path, json={"status": "all"}, headers=as_user(world.maker))
    assert own.status_code == 204


async def test_a_cron_keeps_its_user_and_shows_only_the_name(world: World) -> None:
    await made_by_maker(world)
    (cron,) = world.runtime.saved
    assert orjson.loads(cron.user or "")["token"] == f"tok-{world.maker}"
    assert not cron.scope.is_everything
    assert orjson.loads(cron.payload)["metadata"]["owner"] == world.maker
    shown = await world.client.get(
        f"{world.mount}/runs/crons/{cron.cron_id}", headers=as_user(world.maker)
    )
    assert shown.json()["user_id"] == world.maker
    assert "tok-" not in shown.text


async def test_a_copy_belongs_to_who_makes_it(world: World) -> None:
    ids = await made_by_maker(world)
    answer = await world.client.post(
        f"{world.mount}/threads/{ids.thread}/copy", headers=as_user(world.maker)
    )
    copied = world.records.threads[answer.json()["thread_id"]]
    assert copied["metadata"]["owner"] == world.maker


async def test_who_reaches_everything_does(world: World) -> None:
    ids = await made_by_maker(world)
    answer = await world.client.get(f"{world.mount}/threads/{ids.thread}", headers=as_user("root"))
    assert answer.json()["metadata"]["owner"] == world.maker
