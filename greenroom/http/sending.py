"""Sending to clients that may not read.

Sent bytes that a client has not read stay in this process's memory. So a large body is sent in
pieces, each only when the piece before it is (nearly) transmitted; this bounds the memory per
client. The connection of a client that reads nothing for ``timeout_s`` is broken, so that the
client can tell this from the end of the body.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Mapping, Sequence

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from greenroom.core.units import KIB
from greenroom.machine import descriptors

PIECE_BYTES = 64 * KIB
SEND_TIMEOUT_S = 60.0


class Stalled(Exception):
    """The client has read nothing for too long."""


async def put(send: Send, message: Message, timeout_s: float) -> None:
    """Sends a message.

    Args:
        timeout_s: the longest time, in seconds, that the client may read nothing.

    Raises:
        Stalled: the client has not read the earlier messages in time.
    """
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            await send(message)
    except TimeoutError:
        if deadline.expired():
            raise Stalled from None
        raise


async def put_body(send: Send, body: bytes | memoryview, *, more: bool, timeout_s: float) -> None:
    """Sends a part of a body, in pieces if it is large; raises as `put` does."""
    last = max(0, len(body) - PIECE_BYTES)
    for start in range(0, len(body) or 1, PIECE_BYTES):
        # A body of one piece is passed on without a copy.
        piece = bytes(body if not last else body[start : start + PIECE_BYTES])
        more_body = more or start < last
        message = {"type": "http.response.body", "body": piece, "more_body": more_body}
        await put(send, message, timeout_s)


class Pieces(Response):
    """An answer with a complete, possibly large body, sent in pieces.

    Args:
        parts: the body. Several parts of a large body are not copied into one, which would hold up
            this process.
    """

    def __init__(
        self,
        parts: Sequence[bytes | memoryview],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        size = sum(len(part) for part in parts)
        self._parts = parts if size > PIECE_BYTES else [b"".join(parts)]
        is_one = len(self._parts) == 1
        body = bytes(self._parts[0]) if is_one else b""
        super().__init__(body, status, {**(headers or {}), "content-length": str(size)}, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._parts) == 1 and len(self.body) <= PIECE_BYTES:
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
            for number, part in enumerate(self._parts, 1):
                more = number < len(self._parts)
                await put_body(send, part, more=more, timeout_s=timeout_s)
        except Stalled:
            break_connection(scope)


def break_connection(scope: Scope) -> None:
    """Ends the TCP connection of a request at once; unsent bytes are dropped.

    The HTTP server closes a connection only after the client has read all bytes, and an application
    cannot change that. So this function finds the socket among those of this process by its two
    addresses, and shuts it down.
    """
    ends = scope.get("client"), scope.get("server")
    for descriptor in descriptors():
        # A descriptor may be closed or reused meanwhile; a duplicate may not.
        with contextlib.suppress(OSError):
            copy = os.dup(descriptor)
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
