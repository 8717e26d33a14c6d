"""A tracing span for each request, in the client's trace if the request names one."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greenroom import tracing

PROBES = frozenset({"/", "/ok", "/info", "/metrics"})
"""Paths without spans, since machines request them every few seconds."""


class RequestSpans:
    """A middleware that makes a span for each request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1") or None
        method = scope["method"]
        with tracing.span(method, parent=parent, kind="server", path=scope["path"]) as span:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                # The route is known only now; a path with ids is not usable as a span's name.
                if (route := scope.get("route")) is not None:
                    span.update_name(f"{method} {route.path}")
