"""A connection that breaks: a TCP proxy that cuts event streams in the middle of an event."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"^([A-Z]+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)
_STREAM = b"content-type: text/event-stream"
_EVENT = b"event: "
_INTO_THE_EVENT = 24  # bytes of the event at which it is cut off


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    last_event_id: str | None


class BreakingProxy:
    """Passes bytes between clients and a server, and breaks what it was told to break.

    A stream that is to be cut stops in the middle of an event and breaks when somebody asks for
    ``/break``: whoever has read what came before. (A client may drop what it has received and not
    yet read when its connection breaks, so a cut without asking would race with the reading.)

    Args:
        target: base address of the server.
        cuts: how many events pass on the first, second, ... event stream before it is cut in the
            middle of the next event; later streams pass whole.

    Attributes:
        url: base address for the client.
        requests: what the client asked for, in order.
        broken: how many streams were cut.
    """

    def __init__(self, target: str, cuts: Sequence[int]) -> None:
        address = urlsplit(target)
        self._target = (address.hostname, address.port)
        self._cuts = list(cuts)
        self._asked = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.requests: list[Request] = []
        self.broken = 0

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[BreakingProxy]:
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self._asked.set()
            for writer in self._writers:
                writer.close()
            await asyncio.gather(*self._connections)
            await server.wait_closed()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        up_reader, up_writer = await asyncio.open_connection(*self._target)
        ends = {writer, up_writer}
        self._writers |= ends
        ways = [
            asyncio.create_task(self._forward(reader, writer, up_writer)),
            asyncio.create_task(self._answer(up_reader, writer)),
        ]
        # When one way ends, the other has nothing left to say.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in ends:
            end.close()
            with contextlib.suppress(OSError):
                await end.wait_closed()
        self._writers -= ends
        self._connections.discard(connection)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        while data := await reader.read(65536):
            if match := _REQUEST.match(data):
                header = re.search(rb"(?i)^last-event-id: (.*?)\r?$", match[3], re.MULTILINE)
                request = Request(
                    method=match[1].decode(),
                    path=match[2].decode(),
                    last_event_id=header[1].decode() if header else None,
                )
                if request.path == "/break":
                    self._asked.set()
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                    continue
                self.requests.append(request)
            up_writer.write(data)
            await up_writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        passing: int | None = None
        while data := await reader.read(65536):
            already = len(seen)
            seen += data
            if passing is None and _STREAM in seen.lower() and self._cuts:
                passing = self._cuts.pop(0)
            if passing is not None:
                starts = [match.start() for match in re.finditer(_EVENT, seen)]
                if len(starts) > passing:
                    writer.write(seen[already : starts[passing] + _INTO_THE_EVENT])
                    await writer.drain()
                    await self._asked.wait()
                    self._asked.clear()
                    self.broken += 1
                    return
            writer.write(data)
            await writer.drain()
