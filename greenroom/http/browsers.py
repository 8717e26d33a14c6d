"""What pages of other origins may do: CORS, and the ``Host`` and ``Origin`` of a local server.

A server on loopback has no other protection than its address, and every page that a user of the
machine opens can send requests there. Such a page has three ways in, and each has its rule:

- It reads answers. CORS names the origins that may: pages of this machine, and those of
  ``http.cors``.
- It sends without reading. A browser names the page's ``Origin`` in every request that is not a
  plain GET, so those of strangers are refused; a form or ``text/plain`` has no preflight
  (`greenroom.http.bodies` wants JSON).
- Its own name leads to 127.0.0.1 (DNS rebinding). Then its requests are of its own origin, but
  their ``Host`` is that name, so strange names are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from greenroom.core.addresses import is_loopback
from greenroom.core.edge_rules import Cors
from greenroom.http.mounting import INSIDE

_EXPOSED = (
    *("x-pagination-total", "x-pagination-next", "content-location", "location"),
    "greenroom-input-id",
    *("mcp-session-id", "ratelimit", "ratelimit-policy", "retry-after"),
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED_CODE = 1008
"""WebSockets: a policy was violated."""


def cors_arguments(cors: Cors | None, hosts: Collection[str] | None) -> dict[str, Any]:
    """Returns the arguments of Starlette's ``CORSMiddleware``.

    Args:
        cors: ``http.cors``, or None. An absent key has the server's own value, not Starlette's.
        hosts: of a server on loopback, the other names that it is known by; else None.
    """
    cors = cors or Cors()
    origins = list(cors.allow_origins or ())
    expressions = [cors.allow_origin_regex] if cors.allow_origin_regex else []
    if hosts is not None:
        names = "".join(f"|{re.escape(name)}" for name in sorted(hosts))
        local = rf"([a-z0-9-]+\.)*localhost|127(\.\d{{1,3}}){{3}}|\[::1\]{names}"
        expressions.append(rf"https?://({local})(:\d+)?")
    elif not origins and not expressions:
        origins = ["*"]
    return {
        "allow_origins": origins,
        "allow_origin_regex": "|".join(f"(?:{each})" for each in expressions) or None,
        "allow_methods": list(cors.allow_methods or ("*",)),
        "allow_headers": list(cors.allow_headers or ("*",)),
        # With "*" any page could act as the user who looks at it.
        "allow_credentials": cors.allow_credentials and "*" not in origins,
        "expose_headers": list(
            cors.expose_headers if cors.expose_headers is not None else _EXPOSED
        ),
        "max_age": cors.max_age_s,
        "allow_private_network": True,
    }


class Neighbours:
    """A middleware of a server on loopback: refuses what a page of a stranger has sent.

    Args:
        hosts: the names beside those of loopback under which the server is asked.
        cors: from `cors_arguments`; pages of its origins may send anything.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], cors: dict[str, Any]) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._origins = frozenset(cors["allow_origins"])
        self._expression = re.compile(cors["allow_origin_regex"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or INSIDE in scope:
            await self._app(scope, receive, send)
            return
        why = self._refusal(scope)
        if why is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _REFUSED_CODE, "reason": why[:120]})
        else:
            await JSONResponse({"detail": why}, 403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        for host in headers.getlist("host"):
            name = _name_of(host)
            if not (is_loopback(name) or name in self._hosts):
                return (
                    f"This server listens on loopback only, and does not answer as {name[:80]!r}."
                    " Name it in GREENROOM_ALLOWED_HOSTS if a proxy of yours asks so."
                )
        origin = headers.get("origin")
        if origin is None or scope.get("method") in _SAFE or self._knows(origin):
            return None
        return (
            f"Pages of {origin[:80]!r} may not change anything here. Name the origin in"
            " 'http.cors.allow_origins' of langgraph.json if it is yours."
        )

    def _knows(self, origin: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return self._expression.fullmatch(origin) is not None


def _name_of(host: str) -> str:
    """The name of a ``Host`` header, without its port; a malformed one as it is."""
    try:
        return (urlsplit(f"//{host}").hostname or host).lower()
    except ValueError:
        return host
