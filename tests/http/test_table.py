"""The table finds what a search through all routes in order would find."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, routing
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, compile_path

from greenroom.http.app import PARTS
from greenroom.http.table import RouteTable
from greenroom.wire.dialects import DIALECTS

METHODS = ("GET", "POST", "PUT", "DELETE")
WORDS = ("search", "runs", "x", "", "%2e", "{id}")


class Part:
    """What a module with routes is."""

    def __init__(self) -> None:
        self.router = APIRouter()


@dataclass(frozen=True)
class Known:
    """What is compared of a route."""

    endpoint: Any
    regex: re.Pattern[str]
    methods: frozenset[str]  # of a WebSocket none

    def matches(self, path: str, method: str | None) -> Match:
        if (method is None) is not (not self.methods) or not self.regex.match(path):
            return Match.NONE
        return Match.FULL if method is None or method in self.methods else Match.PARTIAL


def known(routes: Sequence[BaseRoute]) -> list[Known]:
    # An older FastAPI includes copies of the routes.
    contexts: Any = getattr(routing, "iter_route_contexts", lambda copies: copies)
    return [
        Known(
            each.endpoint,
            compile_path(each.path)[0],
            frozenset(getattr(each, "methods", None) or ()),
        )
        for each in contexts(routes)
    ]


def in_order(routes: Sequence[Known], path: str, method: str | None) -> tuple[Match, Any]:
    """How a request matches the first route that matches it in full, or by its path."""
    found = [(route.matches(path, method), route.endpoint) for route in routes]
    for match in (Match.FULL, Match.PARTIAL):
        for each in found:
            if each[0] is match:
                return each
    return Match.NONE, None


def paths() -> list[str]:
    """Paths of all routes, with one word or another for each of their parameters, and others."""
    templates = {
        getattr(route, "path", "") for _, part in PARTS for route in part.router.routes
    } | {"/nothing", "/", "//", "", "/threads/x/y/z/a/b", "/apis/threads", "/api"}
    made: set[str] = set()
    for template, word, dialect in itertools.product(templates, WORDS, DIALECTS):
        pieces = [word if piece.startswith("{") else piece for piece in template.split("/")]
        path = dialect.prefix + "/".join(pieces)
        made |= {path, f"{path}/", f"{path}/x"}
    return sorted(made)


def test_it_finds_what_a_search_in_order_finds() -> None:
    everything = APIRouter()
    for dialect, (_, part) in itertools.product(DIALECTS, PARTS):
        everything.include_router(part.router, prefix=dialect.prefix)
    all_routes = known(everything.routes)
    table = RouteTable({dialect.prefix: [part for _, part in PARTS] for dialect in DIALECTS})
    tried: dict[int, list[Known]] = {}
    seen: set[Match] = set()
    for path, method in itertools.product(paths(), (*METHODS, None)):
        root = "/below" if len(path) % 2 else ""
        scope = {"type": "http", "path": root + path, "root_path": root, "headers": []}
        scope |= {"type": "websocket"} if method is None else {"method": method}
        expected = in_order(all_routes, path, method)
        match, child = table.matches(scope)
        endpoint = None
        if match is not Match.NONE:
            route = child["greenroom.route"]
            its_own = tried.setdefault(id(route), known([route]))
            endpoint = in_order(its_own, path, method)[1]
        assert (match, endpoint) == expected, (path, method)
        seen.add(match)
    assert seen == {Match.NONE, Match.PARTIAL, Match.FULL}


async def answer(app: FastAPI, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        return await client.request(method, path)


@pytest.fixture
def app() -> FastAPI:
    first, second = Part(), Part()

    def answering(part: Part, method: str, path: str, text: str) -> None:
        async def endpoint(request: Request) -> Response:
            return PlainTextResponse(f"{text} {dict(request.path_params)}")

        part.router.add_api_route(path, endpoint, methods=[method])

    answering(first, "GET", "/a/{name}", "named")
    answering(first, "GET", "/a/known", "never")
    answering(first, "GET", "/files/{path:path}", "file")
    answering(second, "POST", "/a/{other}", "posted")
    answering(second, "GET", "/", "root")
    return FastAPI(routes=[RouteTable({"": [first, second], "/api": [second]})])


async def test_the_first_route_that_matches_answers(app: FastAPI) -> None:
    assert (await answer(app, "GET", "/a/known")).text == "named {'name': 'known'}"
    assert (await answer(app, "POST", "/a/b")).text == "posted {'other': 'b'}"
    assert (await answer(app, "POST", "/api/a/b")).text == "posted {'other': 'b'}"
    assert (await answer(app, "GET", "/files/a/b/c")).text == "file {'path': 'a/b/c'}"
    assert (await answer(app, "GET", "/")).text == "root {}"
    assert (await answer(app, "GET", "/api/")).text == "root {}"


async def test_another_method_a_slash_too_many_and_an_unknown_path(app: FastAPI) -> None:
    refused = await answer(app, "GET", "/api/a/b")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    redirected = await answer(app, "GET", "/a/b/")
    assert (redirected.status_code, redirected.headers["location"]) == (307, "http://t/a/b")
    assert (await answer(app, "GET", "/api")).headers["location"] == "http://t/api/"
    assert (await answer(app, "GET", "/api/files/a")).status_code == 404
    assert (await answer(app, "GET", "/b")).status_code == 404


def test_a_route_that_begins_with_a_parameter_is_refused() -> None:
    part = Part()
    part.router.add_api_route("/{name}", lambda: None)
    with pytest.raises(AssertionError, match="begins with a parameter"):
        RouteTable({"": [part]})
