"""Headers of a request that its runs get, and headers that its log line shows (``http``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom.core.edge_rules import HeaderSelection

log = logging.getLogger("greenroom.requests")

_passed: ContextVar[Mapping[str, str]] = ContextVar("passed", default=MappingProxyType({}))


def passed_headers() -> Mapping[str, str]:
    """Returns the headers of the current request that its runs get."""
    return _passed.get()


class PassedHeaders:
    """A middleware that keeps the selected headers of a request for its runs.

    By a context variable: every way of making a run, MCP and A2A too, gets them.
    """

    def __init__(self, app: ASGIApp, selection: HeaderSelection) -> None:
        self._app = app
        self._selection = selection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            _passed.set(self._selection.of(Headers(scope=scope).items()))
        await self._app(scope, receive, send)


class LoggedRequests:
    """A middleware that logs each request with the selected headers."""

    def __init__(self, app: ASGIApp, selection: HeaderSelection) -> None:
        self._app = app
        self._selection = selection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_s = time.monotonic()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            log.info(
                f"{scope['method']} {scope['path']} {status}",
                extra={
                    "action": "request",
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "latency_ms": round((time.monotonic() - begun_s) * 1000),
                    "req_header": self._selection.of(Headers(scope=scope).items()),
                },
            )
