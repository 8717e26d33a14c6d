"""Sending to clients that may not read.

What a server has taken and a client has not waits in this process. So a large body is sent in
pieces, each only when the one before it is (nearly) on its way: then so much waits for a client and
no more. A client that takes nothing for ``timeout_s`` is cut: its connection is broken, which tells
it, should it ever read on, that this was not the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from greenroom.core.units import KIB

PIECE_BYTES = 64 * KIB
SEND_TIMEOUT_S = 60.0


class Stalled(Exception):
    """The client has not read for too long."""


async def put(send: Send, message: Message, timeout_s: float) -> None:
    """Sends a message.

    Raises:
        Stalled: the client has not read what was sent before.
    """
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            await send(message)
    except TimeoutError:
        if deadline.expired():
            raise Stalled from None
        raise


async def put_body(send: Send, body: bytes, *, more: bool, timeout_s: float) -> None:
    """Sends a part of a body, in pieces if it is large; raises as `put` does."""
    last = max(0, len(body) - PIECE_BYTES)
    for start in range(0, len(body) or 1, PIECE_BYTES):
        # A body that is one piece is passed on as it is, not copied.
        piece = body if not last else body[start : start + PIECE_BYTES]
        more_body = more or start < last
        message = {"type": "http.response.body", "body": piece, "more_body": more_body}
        await put(send, message, timeout_s)


class Pieces(Response):
    """A body that may be large; complete when it is made."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) <= PIECE_BYTES:
            await super().__call__(scope, receive, send)
            return
        timeout_s = scope["app"].state.edge.settings.send_timeout_s
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        try:
            await put(send, start, timeout_s)
            await put_body(send, bytes(self.body), more=False, timeout_s=timeout_s)
        except Stalled:
            break_connection(scope)


def break_connection(scope: Scope) -> None:
    """Ends the TCP connection of a request at once; what still waits in it is dropped.

    A server closes a connection only after the client has read what it was sent, and gives an
    application no way to say more than that. So the socket is found among those of this process by
    its two ends, and shut down. Where there is no `/proc` the server's own closing has to do.
    """
    ends = scope.get("client"), scope.get("server")
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            # A descriptor may close, or be another one, while it is looked at: a copy may not.
            with contextlib.suppress(OSError):
                copy = os.dup(int(name))
                try:
                    if stat.S_ISSOCK(os.fstat(copy).st_mode) and _shut_down(copy, ends):
                        return
                finally:
                    os.close(copy)


def _shut_down(descriptor: int, ends: tuple[object, object]) -> bool:
    found = socket.socket(fileno=descriptor)
    try:
        if (found.getpeername()[:2], found.getsockname()[:2]) != ends:
            return False
        found.shutdown(socket.SHUT_RDWR)
        return True
    finally:
        found.detach()
