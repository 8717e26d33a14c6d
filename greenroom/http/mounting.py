"""Serves everything below a path (``http.mount_prefix``)."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

AT_THE_ROOT = ("/", "/ok", "/metrics")
"""Paths that are answered without the prefix, for probes that know no other."""
OWN = "greenroom.own"
"""The key of a scope that no custom application answers or changes."""

INSIDE = "greenroom.inside"
"""The key of the scope of a request that code of this process has made; no client can set it."""


def path_within(scope: Scope) -> str:
    """Returns the path of a request without the prefix."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


class Mounted:
    """The outermost middleware of a server with a prefix.

    It puts the prefix before a ``Location`` of the server, which clients follow. A
    ``Content-Location`` stays, since clients take ids from its end.

    Args:
        prefix: a path without a slash at its end.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or INSIDE in scope:
            await self._app(scope, receive, send)
            return
        root: str = scope.get("root_path", "")
        path = path_within(scope)
        if path.startswith(f"{self._prefix}/"):
            await self._app({**scope, "root_path": root + self._prefix}, receive, self._sent(send))
        elif path in AT_THE_ROOT:
            await self._app({**scope, OWN: True}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif path == self._prefix:
            await RedirectResponse(f"{root}{self._prefix}/")(scope, receive, send)
        else:
            await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)

    def _sent(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                location = headers.get("location", "")
                if location.startswith("/") and not location.startswith(f"{self._prefix}/"):
                    headers["location"] = self._prefix + location
                    message = {**message, "headers": headers.raw}
            await send(message)

        return sent
