"""The custom application of ``http.app``: its routes, its middleware, and its thread.

An application may block: it may call a database without ``await``, or compute. In the gateway's
event loop that would stop every stream, so it lives in a thread with an event loop of its own: its
lifespan, its routes and its middleware, so that what the lifespan makes belongs to the loop that
uses it. A request crosses over to that loop, and its messages cross back:

    built-in route, no custom middleware      stays in the gateway's loop
    custom route                              over and back
    built-in route, custom middleware         over, back for the route, and each message both ways

So a custom route that blocks hurts custom routes only, unless the application has middleware, which
every answer passes through (docs/decisions/0011).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.errors import ConfigurationError
from greenroom.core.waiting import cancelled
from greenroom.http.edge import Connections
from greenroom.http.gates import is_public
from greenroom.http.mounting import INSIDE, OWN, path_within

log = logging.getLogger(__name__)

Guard = Callable[[ASGIApp], ASGIApp]

START_S = 60.0
STOP_S = 5.0
OURS = frozenset({"/ok", "/metrics", "/docs", "/openapi.json"})
"""Paths of the server that no application replaces."""
_INNER = ("app", "router", "endpoint", "route", "path_params")
"""What an application writes into a scope about itself."""


def across(app: ASGIApp, loop: asyncio.AbstractEventLoop) -> ASGIApp:
    """Returns an application that executes ``app`` in another event loop, and receives and sends in
    the caller's. A cancellation crosses over, too."""

    async def crossing(scope: Scope, receive: Receive, send: Send) -> None:
        here = asyncio.get_running_loop()

        def back(call: Callable[..., Any]) -> Callable[..., Any]:
            async def called(*args: Any) -> Any:
                return await _in(here, call(*args))

            return called

        await _in(loop, app(scope, back(receive), back(send)))

    return crossing


async def _in(loop: asyncio.AbstractEventLoop, work: Any) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


class CustomApp:
    """An application of the configuration, in a thread of its own.

    Args:
        load: imports and returns it; called in that thread.
        target: its name in the configuration, for errors.
    """

    def __init__(self, load: Callable[[], Starlette], target: str) -> None:
        self._load = load
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="custom-app", daemon=True)
        self._leave: asyncio.Event | None = None
        self._living: asyncio.Task[None] | None = None
        self._server: ASGIApp | None = None
        self.app: Starlette

    def start(self) -> None:
        """Imports the application and enters its lifespan. Blocks.

        Raises:
            ConfigurationError: it cannot be imported, is no application, or its lifespan fails.
        """
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        try:
            started.result(START_S)
        except ConfigurationError:
            raise
        except TimeoutError:
            started.cancel()
            raise ConfigurationError(
                f"The application {self._target!r} (http.app) did not start within {START_S:g} s."
            ) from None
        except BaseException as error:  # the lifespan is user code and may raise anything
            log.debug("The custom application did not start.", exc_info=error)
            raise ConfigurationError(
                f"The application {self._target!r} (http.app) does not start:"
                f" {type(error).__name__}: {error}"
            ) from error

    def stop(self) -> None:
        """Leaves the lifespan and ends the thread; waits `STOP_S` at most."""
        if self._living is not None:
            stopped = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
            try:
                stopped.result(STOP_S)
            except TimeoutError:
                log.warning("The custom application did not stop within %g s.", STOP_S)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_S)

    def loop_back(self, server: ASGIApp) -> None:
        """Lets the application call the server without a connection. Call it in the event loop of
        the server."""
        self._server = across(_Marked(server), asyncio.get_running_loop())

    async def call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server, as an ASGI application in the event loop of this one.

        Raises:
            RuntimeError: there is no server yet: the lifespan has not begun.
        """
        if self._server is None:
            raise RuntimeError("The server answers once the lifespan of http.app has begun.")
        await self._server(scope, receive, send)

    def around(
        self, builtin: ASGIApp, connections: Connections, guard: Guard | None = None
    ) -> ASGIApp:
        """Returns what answers a request: the application's middleware around its routes and the
        built-in ones. Call it in the event loop of the built-in routes.

        Args:
            connections: the open answers of the server. When it drains, the streams and sockets of
                the application end too.
            guard: returns what lets a request in to a route of the application; it is called in
                that loop. None: every request is let in.
        """
        here = asyncio.get_running_loop()
        inner = across(_Inside(builtin), here)
        own: ASGIApp = self.app.router
        if guard is not None:
            own = across(guard(across(own, self._loop)), here)
        custom = across(self._stack(own, inner), self._loop)

        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket") or OWN in scope:
                await builtin(scope, receive, send)
                return
            is_own = self.has(scope)
            if not (is_own or self.app.user_middleware):
                await builtin(scope, receive, send)
                return
            outside = {name: scope[name] for name in _INNER if name in scope}
            scope = {**scope, "app": self.app, "greenroom.outside": outside}
            if is_own:
                await _until_drained(connections, custom, scope, receive, send)
            else:
                await custom(scope, receive, send)

        return answering

    def has(self, scope: Scope) -> bool:
        """Whether a route of the application answers a request, by its path and its method."""
        path = path_within(scope)
        if path in OURS:
            return False
        return any(route.matches(scope)[0] is Match.FULL for route in self.app.routes)

    def is_open(self, scope: Scope) -> bool:
        """Whether nobody is authenticated for a request, where only built-in routes ask for it."""
        return is_public(scope) or (OWN not in scope and self.has(scope))

    def _stack(self, own: ASGIApp, inner: ASGIApp) -> ASGIApp:
        app, router = self.app, self.app.router

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            await (own if self.has(scope) else inner)(scope, receive, send)

        # Starlette builds its middleware around the attribute `router`.
        app.router = routed  # type: ignore[assignment]
        try:
            return app.build_middleware_stack()
        finally:
            app.router = router

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _start(self) -> None:
        # In this thread: the import may make objects that want an event loop.
        self.app = found = self._load()
        found.exception_handlers.setdefault(HTTPException, _http_error)
        found.exception_handlers.setdefault(ValueError, _value_error)
        entered = self._loop.create_future()
        self._leave = asyncio.Event()
        self._living = asyncio.create_task(self._within(entered, self._leave))
        await entered

    async def _within(self, entered: asyncio.Future[None], leave: asyncio.Event) -> None:
        # One task enters and leaves the lifespan, as its task groups want it.
        try:
            async with self.app.router.lifespan_context(self.app):
                entered.set_result(None)
                await leave.wait()
        except BaseException as error:  # as of `start`
            if entered.done():
                log.exception("The custom application failed while it stopped.")
            else:
                entered.set_exception(error)

    async def _stop(self) -> None:
        assert self._leave is not None
        assert self._living is not None
        self._leave.set()
        await self._living


class _Inside:
    """The built-in routes, for a request that came through the custom middleware."""

    def __init__(self, builtin: ASGIApp) -> None:
        self._builtin = builtin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outside = scope.get("greenroom.outside", {})
        within = {name: value for name, value in scope.items() if name not in _INNER}
        await self._builtin({**within, **outside}, receive, send)


class _Marked:
    """The server, for requests of this process."""

    def __init__(self, server: ASGIApp) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server({**scope, INSIDE: True}, receive, send)


class CustomRoutes:
    """The middleware that has a custom application answer its requests.

    Args:
        custom: the application; it was started.
        connections, guard: as of `CustomApp.around`.
    """

    def __init__(
        self,
        app: ASGIApp,
        custom: CustomApp,
        connections: Connections,
        guard: Guard | None = None,
    ) -> None:
        self._app = app
        self._custom = custom
        self._connections = connections
        self._guard = guard
        self._answering: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._answering is None:
            # At the first request, as only then there is the event loop.
            self._answering = self._custom.around(self._app, self._connections, self._guard)
        await self._answering(scope, receive, send)


async def _until_drained(
    connections: Connections, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Executes a request, and breaks its answer off if that has begun when the server drains."""
    has_begun = False

    async def sending(message: Message) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    draining: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    connections.enter(draining)
    answering = asyncio.ensure_future(app(scope, receive, sending))
    try:
        await asyncio.wait((answering, draining), return_when=asyncio.FIRST_COMPLETED)
        if answering.done() or not has_begun:
            await answering
    finally:
        connections.leave(draining)
        await cancelled([answering])


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


def _value_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 400)


def merged(schema: dict[str, Any], custom: CustomApp) -> dict[str, Any]:
    """Adds the application's paths to an OpenAPI document; a FastAPI application's title, version
    and description replace the server's."""
    openapi: Callable[[], dict[str, Any]] | None = getattr(custom.app, "openapi", None)
    if openapi is None:
        for path, operations in _plain_paths(custom.app):
            schema["paths"].setdefault(path, {}).update(operations)
        return schema
    theirs = openapi()
    for path, operations in theirs.get("paths", {}).items():
        schema["paths"].setdefault(path, {}).update(operations)
    for kind, parts in theirs.get("components", {}).items():
        schema.setdefault("components", {}).setdefault(kind, {}).update(parts)
    schema["info"] = theirs.get("info", schema["info"])
    return schema


def _plain_paths(app: Starlette) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for route in app.routes:
        methods: set[str] = getattr(route, "methods", None) or set()
        if not methods or not getattr(route, "include_in_schema", False):
            continue
        said = (getattr(getattr(route, "endpoint", None), "__doc__", None) or "").strip()
        operation = {"summary": said.partition("\n")[0]} if said else {}
        names = {method.lower(): operation for method in sorted(methods - {"HEAD"})}
        found.append((getattr(route, "path_format", getattr(route, "path", "")), names))
    return found
