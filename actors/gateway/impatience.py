"""Cuts connections on which a request is begun and not ended, where HAProxy does not do so.

Ray Serve's own proxy, and each gateway, listen with uvicorn, which waits for ever for the rest of a
request's head. Serve calls `cut_half_requests` in each of these processes before it listens
(``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``, set by `greenroom.environment`).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvicorn.protocols.http.auto as chosen

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # uvicorn without its extras; `ray[serve]` brings them
    HttpToolsProtocol = None

HALF_REQUEST_S = 10.0


def cut_half_requests() -> list[Any]:
    """Has uvicorn use a protocol that is impatient; returns no middleware.

    Without httptools it changes nothing.
    """
    if HttpToolsProtocol is not None and chosen.AutoHTTPProtocol is HttpToolsProtocol:
        chosen.AutoHTTPProtocol = cast(Any, impatient(HttpToolsProtocol))
    return []


def impatient(base: type[Any], patience_s: float = HALF_REQUEST_S) -> type[Any]:
    """Returns the protocol with a limit on the time from a request's first byte, of the first one
    from the connection, to the end of its head."""

    class Impatient(base):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._have_head()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._deadline is None:
                self._await_head()

        def on_headers_complete(self) -> None:
            self._have_head()
            super().on_headers_complete()

        def _await_head(self) -> None:
            self._deadline = self.loop.call_later(patience_s, self._cut)

        def _have_head(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _cut(self) -> None:
            self._deadline = None
            self.transport.close()

    return Impatient
