"""Custom applications: their routes, middleware, lifespan and errors, in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from greenroom.core.edge_rules import HeaderSelection, HttpRules
from greenroom.core.errors import ConfigurationError
from greenroom.http.app import create_app, drain
from greenroom.http.custom import CustomApp
from greenroom.http.settings import HttpSettings
from tests.http.conftest import serving
from tests.http.edge_doubles import GRAPHS, THREAD, MemoryRecords, MemoryRuntime
from tests.waiting import until

BOUND_S = 20.0


class Marking:
    """A plain middleware: it marks every answer, and answers some itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"x-block" in headers:
            await PlainTextResponse("blocked by middleware", 451)(scope, receive, send)
            return
        if b"x-fail" in headers:
            raise ValueError("in the middleware")

        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                thread = threading.current_thread().name.encode()
                mark = [(b"x-mw", b"yes"), (b"x-thread", thread)]
                message = {**message, "headers": [*message["headers"], *mark]}
            await send(message)

        await self._app(scope, receive, marked)


class Thing(BaseModel):
    size: int


async def state(request: Request) -> Response:
    """The state that the lifespan has made.

    More is not shown.
    """
    made = request.app.state.made
    same = made["loop"] is asyncio.get_running_loop()
    return JSONResponse({"same_loop": same, "thread": threading.current_thread().name})


async def boom(request: Request) -> Response:
    raise {"value": ValueError, "runtime": RuntimeError}[request.query_params["kind"]]("custom")


async def teapot(request: Request) -> Response:
    raise HTTPException(418, "teapot", {"x-h": "1"})


async def searched(request: Request) -> Response:
    return JSONResponse({"custom": await request.json()})


async def block(request: Request) -> Response:
    time.sleep(float(request.query_params["s"]))  # noqa: ASYNC251 - that is what it is for
    return PlainTextResponse("at last")


async def events(request: Request) -> Response:
    async def each() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"data: {number}\n\n".encode()

    return StreamingResponse(each(), media_type="text/event-stream")


async def sub(request: Request) -> Response:
    return PlainTextResponse(request.scope["root_path"])


def plain(*, middleware: bool = False, **more: Any) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.made = {"loop": asyncio.get_running_loop()}
        yield
        app.state.left = True

    return Starlette(
        routes=[
            Route("/state", state),
            Route("/boom", boom),
            Route("/418", teapot),
            Route("/threads/search", searched, methods=["POST"]),
            Route("/ok", sub),
            Route("/block", block),
            Route("/events", events),
            Route("/items/{rest:path}", sub),
            Mount("/sub", routes=[Route("/x", sub)]),
        ],
        lifespan=more.pop("lifespan", lifespan),
        middleware=[Middleware(Marking)] if middleware else [],
        **more,
    )


@contextmanager
def started(app: Any) -> Iterator[CustomApp]:
    custom = CustomApp(lambda: app, "./app.py:app")
    custom.start()
    try:
        yield custom
    finally:
        custom.stop()


class Edge:
    """The routes around a custom application."""

    def __init__(self, custom: CustomApp | None, **rules: Any) -> None:
        self.records = MemoryRecords()
        self.runtime = MemoryRuntime(self.records)
        self.app = create_app(
            runtime=self.runtime,
            records=self.records,
            graphs=GRAPHS,
            rules=HttpRules(**rules),
            custom=custom,
        )
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://edge")


# --- routes -----------------------------------------------------------------------------------


async def test_a_custom_route_has_what_the_lifespan_has_made_in_a_thread_of_its_own() -> None:
    with started(plain()) as custom:
        answer = await Edge(custom).client.get("/state")
        assert answer.json() == {"same_loop": True, "thread": "custom-app"}
        assert (await Edge(custom).client.head("/state")).status_code == 200
    assert custom.app.state.left


async def test_a_custom_route_comes_before_the_built_in_one_of_its_method() -> None:
    with started(plain()) as custom:
        edge = Edge(custom)
        assert (await edge.client.post("/threads/search", json=[1])).json() == {"custom": [1]}
        answer = await edge.client.get("/threads/search")
        assert answer.json() == {"detail": "Invalid thread ID: must be a UUID"}
        assert (await edge.client.get("/state/")).status_code == 404
        assert (await edge.client.post("/state")).status_code == 404
        assert (await edge.client.get("/sub/x")).text == "/sub"
        # Health checks are the server's.
        assert (await edge.client.get("/ok")).json()["ok"] is True


async def test_errors_of_custom_routes_are_what_they_are_elsewhere() -> None:
    with started(plain()) as custom:
        client = Edge(custom).client
        answer = await client.get("/boom?kind=value")
        assert (answer.status_code, answer.json()) == (400, {"detail": "custom"})
        answer = await client.get("/418")
        assert (answer.status_code, answer.json()) == (418, {"detail": "teapot"})
        assert answer.headers["x-h"] == "1"
        answer = await client.get("/boom?kind=runtime")
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_handlers_of_the_application_come_first() -> None:
    async def mine(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"mine: {error}", 409)

    with started(plain(exception_handlers={ValueError: mine})) as custom:
        answer = await Edge(custom).client.get("/boom?kind=value")
        assert (answer.status_code, answer.text) == (409, "mine: custom")


async def test_a_stream_and_a_socket_of_the_application_work() -> None:
    app = FastAPI()
    app.add_api_route("/events", events)

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close()

    with started(app) as custom:
        edge = Edge(custom)
        assert (await edge.client.get("/events")).text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        sent: list[Any] = []
        told = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]

        async def receive() -> Any:
            return told.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "query_string": b"", "headers": []}
        await edge.app(scope, receive, send)
        assert [each["type"] for each in sent] == [
            "websocket.accept",
            "websocket.send",
            "websocket.close",
        ]
        assert sent[1]["text"] == "HELLO"


@pytest.mark.parametrize("middleware", [False, True])
async def test_draining_breaks_streams_off_and_leaves_who_has_no_answer_yet(
    middleware: bool,
) -> None:
    async def endless(request: Request) -> Response:
        async def each() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.Event().wait()

        return StreamingResponse(each())

    go_on = threading.Event()

    async def late(request: Request) -> Response:
        await asyncio.to_thread(go_on.wait, BOUND_S)
        return PlainTextResponse("at last")

    app = plain(middleware=middleware)
    app.routes.extend([Route("/endless", endless), Route("/late", late)])
    with started(app) as custom:
        edge = Edge(custom)
        async with (
            asyncio.timeout(BOUND_S),
            serving(edge.app) as url,
            httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
            client.stream("GET", "/endless") as stream,
        ):
            parts = stream.aiter_raw()
            assert await anext(parts) == b"begun"
            waiting = asyncio.create_task(client.get("/late"))
            await until(lambda: len(edge.app.state.edge.connections) == 2)
            drain(edge.app)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(parts)
            assert not waiting.done()
            go_on.set()
            assert (await waiting).text == "at last"
            await until(lambda: not len(edge.app.state.edge.connections))


async def test_a_route_that_blocks_delays_no_other_answer() -> None:
    with started(plain()) as custom:
        client = Edge(custom).client
        blocked = asyncio.create_task(client.get("/block?s=0.4"))
        answered = 0
        async with asyncio.timeout(BOUND_S):
            while not blocked.done():
                assert (await client.post("/threads", json={})).status_code == 200
                answered += 1
                await asyncio.sleep(0)  # nothing else there lets the other one go on
        assert (await blocked).text == "at last"
        # In one event loop it would be at most one.
        assert answered > 3


async def test_a_client_that_leaves_ends_the_route() -> None:
    left = threading.Event()

    async def waiting(request: Request) -> Response:
        try:
            await asyncio.sleep(BOUND_S)
        finally:
            left.set()
        return Response()

    with started(Starlette(routes=[Route("/wait", waiting)])) as custom:
        asking = asyncio.create_task(Edge(custom).client.get("/wait"))
        done, _ = await asyncio.wait([asking], timeout=0.05)
        assert not done
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.to_thread(left.wait, BOUND_S)


# --- middleware -------------------------------------------------------------------------------


async def test_custom_middleware_is_around_everything() -> None:
    with started(plain(middleware=True)) as custom:
        edge = Edge(custom)
        for path in ("/state", "/info", "/docs", "/ok", "/nope", "/api/info"):
            answer = await edge.client.get(path)
            assert answer.headers["x-mw"] == "yes", path
            assert answer.headers["x-thread"] == "custom-app"
        blocked = await edge.client.post("/threads", json={}, headers={"x-block": "1"})
        assert (blocked.status_code, blocked.text) == (451, "blocked by middleware")
        failed = await edge.client.get("/info", headers={"x-fail": "1"})
        assert (failed.status_code, failed.text) == (500, "Internal Server Error")
        made = await edge.client.post("/threads", json={})
        assert made.status_code == 200
        assert made.headers["content-type"] == "application/json"


async def test_streams_and_their_cancellation_go_through_middleware() -> None:
    class Slow(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            return await call_next(request)

    app = Starlette(middleware=[Middleware(Slow)])
    with started(app) as custom:
        edge = Edge(custom)
        async with serving(edge.app) as url, httpx.AsyncClient(base_url=url) as client:
            body = {"assistant_id": "counter", "on_disconnect": "cancel"}
            async with asyncio.timeout(BOUND_S):
                async with client.stream("POST", "/runs/stream", json=body) as stream:
                    lines = stream.aiter_lines()
                    assert await anext(lines) == "event: metadata"
                    run_id = edge.runtime.requests[0].run_id
                    edge.runtime.emit(run_id, "values", {"x": 1})
                    while (await anext(lines)) != "event: values":
                        pass
                await edge.runtime.cancelled.wait()
    assert [cancel.run_id for cancel, _ in edge.runtime.cancels] == [run_id]


# --- lifespan ---------------------------------------------------------------------------------


def test_a_lifespan_that_fails_is_a_sentence() -> None:
    @asynccontextmanager
    async def failing(app: Any) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    custom = CustomApp(lambda: plain(lifespan=failing), "./app.py:app")
    with pytest.raises(ConfigurationError, match=r"does not start: RuntimeError: no database"):
        custom.start()
    custom.stop()


# --- the description --------------------------------------------------------------------------


async def test_paths_of_a_starlette_application_are_described() -> None:
    with started(plain()) as custom:
        document = (await Edge(custom).client.get("/openapi.json")).json()
    assert document["info"]["title"] == "Greenroom"
    assert document["paths"]["/state"] == {
        "get": {"summary": "The state that the lifespan has made."}
    }
    assert "/items/{rest}" in document["paths"]
    # A path that both have keeps the built-in methods.
    assert set(document["paths"]["/threads/search"]) == {"post"}


async def test_a_fastapi_application_describes_itself_and_the_server() -> None:
    app = FastAPI(title="Mine", version="7")

    @app.post("/things")
    async def make(thing: Thing) -> Thing:
        return thing

    with started(app) as custom:
        client = Edge(custom).client
        document = (await client.get("/openapi.json")).json()
        wrong = await client.post("/things", json={"size": "x"})
    assert (document["info"]["title"], document["info"]["version"]) == ("Mine", "7")
    assert "Thing" in document["components"]["schemas"]
    assert {"/things", "/threads"} <= set(document["paths"])
    # FastAPI's own form.
    assert (wrong.status_code, wrong.json()["detail"][0]["loc"]) == (422, ["body", "size"])


# --- a prefix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "/api"])
async def test_everything_is_below_the_prefix(inner: str) -> None:
    with started(plain(middleware=True)) as custom:
        edge = Edge(custom, mount_prefix="/my/pre")
        client = edge.client
        assert (await client.get(f"/my/pre{inner}/info")).status_code == 200
        assert (await client.get("/my/pre/state")).json()["same_loop"]
        moved = await client.get("/my/pre")
        assert (moved.status_code, moved.headers["location"]) == (307, "/my/pre/")
        for path in ("/info", "/state", f"{inner}/threads", "/my/prefix/ok"):
            answer = await client.post(path, json={})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
        for path in ("/", "/ok", "/metrics"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "x-mw" not in answer.headers
        document = (await client.get("/my/pre/openapi.json")).json()
        assert document["servers"] == [{"url": "/my/pre"}]


async def test_a_location_leads_below_the_prefix() -> None:
    edge = Edge(None, mount_prefix="/my/pre")
    edge.records.add_thread(THREAD)
    body = {"assistant_id": "counter"}
    for inner in ("", "/api"):
        path = f"{inner}/threads/{THREAD}/runs"
        answer = await edge.client.post(f"/my/pre{path}", json=body)
        run_id = answer.json()["run_id"]
        assert answer.headers["content-location"] == f"{path}/{run_id}"
        location = answer.headers.get("location")
        assert location is None or location.startswith(f"/my/pre{path}/{run_id}")


# --- headers ----------------------------------------------------------------------------------

SELECTED = HeaderSelection(includes=("x-conf-*", "thread_id", "*key"), excludes=("x-conf-no",))


@pytest.mark.parametrize("path", ["/runs", f"/threads/{THREAD}/runs", "/api/runs"])
@pytest.mark.parametrize("values", [{"config": {"configurable": {"x-conf-a": "body"}}}, {}])
async def test_selected_headers_are_in_the_configurable_of_a_run(
    path: str, values: dict[str, Any]
) -> None:
    edge = Edge(None, configurable_headers=SELECTED)
    edge.records.add_thread(THREAD)
    headers = {
        "X-Conf-A": "Header",
        "x-conf-no": "1",
        "x-other": "1",
        "x-api-key": "secret",
        "thread_id": "another",
    }
    body = {"assistant_id": "counter", **values}
    assert (await edge.client.post(path, json=body, headers=headers)).status_code == 200
    kwargs = orjson.loads(edge.runtime.requests[0].kwargs)
    configurable = kwargs["config"]["configurable"]
    assert configurable["x-conf-a"] == "Header"
    assert not {"x-conf-no", "x-other", "x-api-key"} & set(configurable)
    assert configurable["thread_id"] == edge.runtime.requests[0].thread_id
    assert "Header" not in kwargs["context"].values()


async def test_selected_headers_do_not_contradict_a_context() -> None:
    edge = Edge(None, configurable_headers=SELECTED)
    body = {"assistant_id": "counter", "context": {"a": 1}}
    answer = await edge.client.post("/runs", json=body, headers={"x-conf-a": "1"})
    assert answer.status_code == 200
    kwargs = orjson.loads(edge.runtime.requests[0].kwargs)
    assert kwargs["config"]["configurable"]["x-conf-a"] == "1"
    assert kwargs["context"] == {"a": 1}


async def test_without_a_selection_a_run_has_no_header() -> None:
    edge = Edge(None)
    await edge.client.post("/runs", json={"assistant_id": "counter"}, headers={"x-conf-a": "1"})
    assert b"x-conf" not in edge.runtime.requests[0].kwargs


async def test_a_request_is_logged_with_the_selected_headers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "greenroom.requests")
    await Edge(None).client.get("/ok", headers={"x-log-a": "1"})
    assert caplog.records == []
    edge = Edge(None, logging_headers=HeaderSelection(includes=("x-log-*", "authorization")))
    await edge.client.get("/nope", headers={"x-log-a": "1", "authorization": "secret"})
    (line,) = caplog.records
    assert line.getMessage() == "GET /nope 404"
    assert vars(line)["req_header"] == {"x-log-a": "1"}


# --- parts that are switched off --------------------------------------------------------------

GONE = {
    "assistants": ["POST /assistants/search"],
    "threads": ["POST /threads", f"GET /threads/{THREAD}", f"GET /threads/{THREAD}/state"],
    "runs": ["POST /runs", f"GET /threads/{THREAD}/runs", "POST /runs/crons/search"],
    "store": ["GET /store/items?key=a"],
    "mcp": ["POST /mcp"],
    "a2a": ["GET /.well-known/agent-card.json?assistant_id=counter"],
    "meta": ["GET /", "GET /info", "GET /metrics", "GET /docs", "GET /openapi.json"],
    "ui": ["GET /console", "GET /console/threads"],
}


@pytest.mark.parametrize("part", GONE)
async def test_a_part_that_is_switched_off_is_not_found(part: str) -> None:
    edge = Edge(None, disabled=frozenset({part}))
    edge.records.add_thread(THREAD)
    for mount in ("", "/api"):
        for route in GONE[part]:
            method, path = route.split(" ")
            answer = await edge.client.request(method, f"{mount}{path}")
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"}), route
        assert (await edge.client.get(f"{mount}/ok")).json()["ok"] is True
    if part == "threads":
        answer = await edge.client.post(f"/threads/{THREAD}/runs", json={"assistant_id": "counter"})
        assert answer.status_code == 200


# --- calls of the server ----------------------------------------------------------------------


async def test_an_application_calls_the_server_without_a_connection() -> None:
    """Under any prefix and name, since no client can make such a request."""

    async def made(request: Request) -> Response:
        transport = httpx.ASGITransport(custom.call, root_path="/noauth")
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            answer = await client.post("/threads", json={})
            return JSONResponse({**answer.json(), "answered": answer.status_code})

    with started(Starlette(routes=[Route("/made", made)])) as custom:
        records = MemoryRecords()
        app = create_app(
            runtime=MemoryRuntime(records),
            records=records,
            graphs=GRAPHS,
            rules=HttpRules(mount_prefix="/pre"),
            settings=HttpSettings(hosts=frozenset()),
            custom=custom,
        )
        custom.loop_back(app)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = (await client.get("/pre/made")).json()
    assert answer["answered"] == 200
    assert answer["thread_id"] in records.threads
