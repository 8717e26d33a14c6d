"""A receiver of webhooks: a real HTTP server on this machine that does as a test says."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

BOUND_S = 20.0


@dataclass
class Received:
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes


@dataclass
class Receiver:
    """Keeps what it is sent.

    Attributes:
        statuses: the answers to give, in order; when there are none left, 200.
        location: the `Location` of every answer, for redirects.
        gate: answers wait until it is open.
        now, most: how many connections are open, and how many were at once.
    """

    port: int = 0
    statuses: deque[int] = field(default_factory=deque)
    location: str | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    deliveries: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    now: int = 0
    most: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def next(self) -> Received:
        """The next request, bounded."""
        return await asyncio.wait_for(self.deliveries.get(), BOUND_S)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            lines = (line.split(": ", 1) for line in head[1:] if line)
            headers = {name.lower(): value for name, value in lines}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.deliveries.put_nowait(Received(method, path, headers, json.loads(body), body))
            status = self.statuses.popleft() if self.statuses else 200
            await self.gate.wait()
            more = f"location: {self.location}\r\n" if self.location else ""
            writer.write(f"HTTP/1.1 {status} So\r\n{more}content-length: 2\r\n\r\nok".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.now -= 1
            writer.close()


@asynccontextmanager
async def receiving(*, port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver with an open gate."""
    receiver = Receiver()
    receiver.gate.set()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", port)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.gate.set()
        server.close()
        await asyncio.wait_for(server.wait_closed(), BOUND_S)
