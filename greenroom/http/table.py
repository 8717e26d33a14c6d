"""Finds the route of a request by the shape of its path.

FastAPI tries all routes in order, which takes longer than many an answer: there are two hundred,
half of them on each mount. A route without a parameter for whole subpaths answers paths with as
many segments as it has itself, so the first segment and the number of them leave at most a dozen
routes to try.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from greenroom.http.mounting import path_within

Shape = tuple[str, int]
"""The first segment of a path, and how many there are; `ANY` for a route with a subpath."""
ANY = 0
_FOUND = "greenroom.route"


class RouteTable(BaseRoute):
    """All routes of an application, as one route.

    Args:
        mounts: the parts that each mount has, by the prefix of the mount. A part is a module with a
            ``router``.
    """

    def __init__(self, mounts: Mapping[str, Sequence[Any]]) -> None:
        self._mounts: list[tuple[str, dict[Shape, list[BaseRoute]]]] = []
        self.routes: list[BaseRoute] = []
        """The routes by themselves, for FastAPI's description of them."""
        for prefix, parts in mounts.items():
            by_shape: dict[Shape, list[BaseRoute]] = {}
            for part in parts:
                for shape, routes in _by_shape(part, prefix).items():
                    by_shape.setdefault(shape, []).extend(routes)
                    self.routes.extend(routes)
            self._mounts.append((prefix, by_shape))
        # Every path begins with the prefix that is empty.
        self._mounts.sort(key=lambda mount: len(mount[0]), reverse=True)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Returns how the first route matches that matches in full; else the first one with another
        method."""
        partial: Scope | None = None
        for route in self._candidates(scope):
            match, child = route.matches(scope)
            if match is Match.FULL:
                return match, {**child, _FOUND: route}
            if match is Match.PARTIAL and partial is None:
                partial = {**child, _FOUND: route}
        return (Match.NONE, {}) if partial is None else (Match.PARTIAL, partial)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request by the route that `matches` has found."""
        await scope[_FOUND].handle(scope, receive, send)

    def _candidates(self, scope: Scope) -> Iterable[BaseRoute]:
        if scope["type"] not in ("http", "websocket"):
            return
        path = path_within(scope)
        for prefix, by_shape in self._mounts:
            if path.startswith(f"{prefix}/"):
                first, count = _shape(path.removeprefix(prefix))
                yield from by_shape.get((first, count), ())
                yield from by_shape.get((first, ANY), ())
                return


@cache
def _by_shape(part: Any, prefix: str) -> dict[Shape, list[BaseRoute]]:
    """Returns the routes of a part by shape, which all applications of a process share.

    FastAPI makes what a route needs at its first request.
    """
    grouped: dict[Shape, list[BaseRoute]] = {}
    for route in part.router.routes:
        assert isinstance(route, (Route, WebSocketRoute))
        first, count = _shape(route.path)
        assert "{" not in first, f"{route.path} begins with a parameter"
        shape = (first, ANY if ":path}" in route.path else count)
        grouped.setdefault(shape, []).append(route)
    found: dict[Shape, list[BaseRoute]] = {}
    for shape, routes in grouped.items():
        included = APIRouter()
        included.include_router(APIRouter(routes=routes), prefix=prefix)
        found[shape] = included.routes
    return found


def _shape(path: str) -> Shape:
    segments = path.split("/")
    return segments[1], len(segments) - 1
