"""A custom application beside ``auth``: no order and no middleware opens a built-in route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from greenroom.core.edge_rules import HttpRules
from greenroom.core.errors import ConfigurationError
from greenroom.core.limits import Limits, Rate
from greenroom.graphs.configuration import parse_configuration
from greenroom.http.app import create_app
from greenroom.http.custom import CustomApp
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import GRAPHS, MemoryRecords, MemoryRuntime
from tests.http.test_custom import started
from tests.http.test_users import as_user, authenticator

ORDERS = ("middleware_first", "auth_first")
ALICE = as_user("alice")
DAY = 86_400


class Rewriting:
    """Makes another request of some, as a middleware may."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", []))
        if path := headers.get(b"x-path"):
            scope = {**scope, "path": path.decode(), "raw_path": path}
        if token := headers.get(b"x-cookie"):
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", token)]}
        if b"x-user" in headers:
            scope = {**scope, "user": None, "auth": None}
        await self._app(scope, receive, send)


async def whoami(request: Request) -> Response:
    user = request.scope.get("user")
    return JSONResponse({"user": None if user is None else user.identity})


@contextmanager
def custom_app() -> Iterator[CustomApp]:
    routes = [Route("/mine", whoami), Route("/", whoami), Route("/threads/count", whoami)]
    with started(Starlette(routes=routes, middleware=[Middleware(Rewriting)])) as custom:
        yield custom


@asynccontextmanager
async def client(
    *, order: Any, all_routes: bool, limits: Limits | None = None, prefix: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    records = MemoryRecords()
    with custom_app() as custom:
        app = create_app(
            runtime=MemoryRuntime(records),
            records=records,
            graphs=GRAPHS,
            rules=HttpRules(
                app="x", middleware_order=order, custom_route_auth=all_routes, mount_prefix=prefix
            ),
            custom=custom,
            settings=HttpSettings(limits=limits or Limits()),
            authenticator=authenticator(),
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            yield client


@pytest.mark.parametrize("all_routes", [True, False])
@pytest.mark.parametrize("order", ORDERS)
async def test_built_in_routes_want_credentials_whatever_the_application_does(
    order: str, all_routes: bool
) -> None:
    async with client(order=order, all_routes=all_routes) as http:
        for path in ("/threads/search", "/api/threads/search"):
            assert (await http.post(path, json={})).status_code == 401
            assert (await http.post(path, json={}, headers=ALICE)).status_code == 200
        # Nor through a path of the application, or one that nobody is authenticated for.
        for path in ("/mine", "/ok", "/info"):
            told = {"x-path": "/threads/search"}
            assert (await http.post(path, json={}, headers=told)).status_code in (401, 405)
            told = {"x-path": "/assistants/search", "x-user": "1"}
            assert (await http.post(path, json={}, headers=told)).status_code in (401, 405)
        got = await http.get("/mine", headers={"x-path": "/metrics"})
        assert got.status_code == 401
        assert (await http.get("/ok")).status_code == 200


@pytest.mark.parametrize("order", ORDERS)
async def test_custom_routes_are_open_unless_said_otherwise(order: str) -> None:
    async with client(order=order, all_routes=False) as http:
        for path in ("/mine", "/", "/threads/count"):
            for headers in ({}, ALICE):
                answer = await http.get(path, headers=headers)
                assert (answer.status_code, answer.json()) == (200, {"user": None})


@pytest.mark.parametrize("order", ORDERS)
async def test_custom_routes_want_credentials_where_that_is_said(order: str) -> None:
    async with client(order=order, all_routes=True) as http:
        for path in ("/mine", "/", "/threads/count"):
            refused = await http.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            answer = await http.get(path, headers=ALICE)
            assert (answer.status_code, answer.json()) == (200, {"user": "alice"})


async def test_a_middleware_before_the_authentication_may_bring_the_credentials() -> None:
    cookie = {"x-cookie": ALICE["authorization"]}
    async with client(order="middleware_first", all_routes=True) as http:
        assert (await http.post("/threads/search", json={}, headers=cookie)).status_code == 200
        assert (await http.get("/mine", headers=cookie)).json() == {"user": "alice"}
    async with client(order="auth_first", all_routes=True) as http:
        assert (await http.post("/threads/search", json={}, headers=cookie)).status_code == 401


@pytest.mark.parametrize("order", ORDERS)
async def test_below_a_prefix_nothing_else_is_open(order: str) -> None:
    async with client(order=order, all_routes=False, prefix="/agents") as http:
        assert (await http.get("/ok")).status_code == 200
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/agents/metrics")).status_code == 401
        assert (await http.get("/agents/mine")).status_code == 200
        assert (await http.post("/agents/threads/search", json={})).status_code == 401


@pytest.mark.parametrize("order", ORDERS)
async def test_users_have_limits_of_their_own_behind_one_address(order: str) -> None:
    limits = Limits(requests=Rate(2, DAY))
    async with client(order=order, all_routes=False, limits=limits) as http:
        for who in ("alice", "bob"):
            answers = [
                (await http.post("/threads/search", json={}, headers=as_user(who))).status_code
                for _ in range(3)
            ]
            assert answers == [200, 200, 429]


@pytest.mark.parametrize("order", ORDERS)
async def test_who_is_not_let_in_and_custom_routes_count_by_address(order: str) -> None:
    async with client(order=order, all_routes=False, limits=Limits(requests=Rate(2, DAY))) as http:
        refused = [await http.post("/threads/search", json={}) for _ in range(3)]
        assert [each.status_code for each in refused] == [401, 401, 429]
        assert refused[1].headers["ratelimit"].startswith('"requests";r=0;t=')
        assert (await http.get("/mine")).status_code == 429
        # Those who have credentials are not concerned.
        answer = await http.post("/threads/search", json={}, headers=ALICE)
        assert answer.status_code == 200
        assert (await http.get("/ok")).status_code == 200


@pytest.mark.parametrize("order", ORDERS)
async def test_authenticated_custom_routes_count_for_their_user(order: str) -> None:
    async with client(order=order, all_routes=True, limits=Limits(requests=Rate(2, DAY))) as http:
        assert (await http.get("/mine", headers=ALICE)).json() == {"user": "alice"}
        assert (await http.post("/threads/search", json={}, headers=ALICE)).status_code == 200
        assert (await http.get("/mine", headers=ALICE)).status_code == 429
        assert (await http.get("/mine", headers=as_user("bob"))).status_code == 200
        assert (await http.get("/mine")).status_code == 401


def test_custom_routes_cannot_be_authenticated_without_auth(tmp_path: Any) -> None:
    content = {"graphs": {"g": "./g.py:g"}, "http": {"enable_custom_route_auth": True}}
    configuration = parse_configuration(content, tmp_path)
    with pytest.raises(ConfigurationError, match="needs 'auth'"):
        configuration.with_auth(None)
    assert configuration.with_auth("greenroom.auth:api_keys").http.custom_route_auth
