"""Runs that wait, each with an open stream."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

from benchmarks import http2
from benchmarks.client import PATIENCE_S, Api, Stopwatch, gathered, percentile, percentiles_of
from benchmarks.scale.figures import memory_of, said, shown_growth, trivial
from benchmarks.subjects import Greenroom
from greenroom.machine import raise_open_files

OPENING = 64
"""How many streams are being opened at once."""
IDLE_S = 20.0

Read = Callable[[bytes | None], None]
Open = Callable[[str, Read], Awaitable[None]]


class Streams:
    """What has come of the streams."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self.opened_ms: list[float] = []
        self.updates = self.ended = 0
        self.failures: list[str] = []
        self.all_ended = asyncio.Event()

    async def open(self, opening: Open, path: str) -> None:
        watch = Stopwatch()
        rest = b""

        def read(piece: bytes | None) -> None:
            nonlocal rest
            if piece is None:
                self.ended += 1
                self._look()
                return
            data = rest + piece
            self.updates += data.count(b"event: updates")
            rest = data[-13:]

        try:
            await opening(path, read)
            self.opened_ms.append(watch.ms)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{type(error).__name__}: {error}"[:200])
            self._look()

    def _look(self) -> None:
        if self.ended + len(self.failures) >= self._expected:
            self.all_ended.set()


async def streams(server: Greenroom, runs: int, wait_s: float, *, over_http1: bool) -> None:
    """Measures runs that wait, each with an open stream.

    Args:
        wait_s: how long each run waits; all of them must have begun, and all streams be open,
            before the first one ends.
    """
    said(start_s=round(await server.start(), 2), files=raise_open_files())
    memory = memory_of(server)
    async with server.connect(OPENING) as api:
        await api.wait(await api.thread(), "trivial", {"x": 1})
        watch = Stopwatch()
        began = asyncio.get_running_loop().time()
        paths = await gathered(lambda: _begin(api, wait_s), runs, OPENING)
        said(runs=runs, created_a_second=round(runs / watch.s))
        await asyncio.sleep(5.0)
        memory = shown_growth("a run that waits", memory, memory_of(server), runs)

        seen, watch = Streams(runs), Stopwatch()
        async with (_over_http1 if over_http1 else _over_http2)(server, runs) as opening:
            left = iter(paths)
            await gathered(lambda: seen.open(opening, next(left)), runs, OPENING)
            said(
                streams=len(seen.opened_ms),
                way="HTTP/1.1" if over_http1 else "HTTP/2",
                opened_a_second=round(runs / watch.s),
                opened_p50_ms=round(percentile(seen.opened_ms, 50), 1),
                opened_p95_ms=round(percentile(seen.opened_ms, 95), 1),
            )
            await asyncio.sleep(5.0)
            shown_growth("an open stream", memory, memory_of(server), runs)
            before, watch = server.processes.cpu_s(), Stopwatch()
            figures: dict[str, float | str] = {}
            for name, work in (("ok", lambda _: api.get("/ok")), ("run", lambda _: trivial(api))):
                try:
                    async with asyncio.timeout(60):
                        figures |= await percentiles_of({name: work}, 50)
                except TimeoutError:
                    figures[name] = "53 took more than a minute"
            await asyncio.sleep(max(0.0, IDLE_S - watch.s))
            share = server.processes.cpu_s_since(before) / watch.s
            said(cpu_percent=round(share * 100, 1), **figures)
            left_s = wait_s - (asyncio.get_running_loop().time() - began)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seen.all_ended.wait(), max(0.0, left_s) + PATIENCE_S)
        said(
            ended=seen.ended,
            updates=seen.updates,
            failed=len(seen.failures),
            failures=seen.failures[:3],
        )


async def _begin(api: Api, delay_s: float) -> str:
    path = f"/threads/{uuid.uuid4()}/runs"
    body = {
        "assistant_id": "slow",
        "input": {"steps": 1, "delay": delay_s},
        "stream_mode": "updates",
        "if_not_exists": "create",
    }
    return f"{path}/{(await api.post(path, body))['run_id']}/stream?stream_mode=updates"


@asynccontextmanager
async def _over_http2(server: Greenroom, streams: int) -> AsyncGenerator[Open]:
    host, port = server.url.removeprefix("http://").split(":")
    number = -(-streams // http2.STREAMS)
    connections = [await http2.Connection.open(host, int(port)) for _ in range(number)]
    turn = 0

    async def opening(path: str, read: Read) -> None:
        nonlocal turn
        turn += 1
        await connections[turn % number].get(path, read)

    try:
        yield opening
    finally:
        for connection in connections:
            connection.close()


@asynccontextmanager
async def _over_http1(server: Greenroom, streams: int) -> AsyncGenerator[Open]:
    # One address may have 80 % of the connections.
    addresses = ("127.0.0.2", "127.0.0.3")
    readers: set[asyncio.Task[None]] = set()
    async with contextlib.AsyncExitStack() as opened:
        sessions = [
            await opened.enter_async_context(
                aiohttp.ClientSession(
                    server.url,
                    connector=aiohttp.TCPConnector(limit=streams, local_addr=(address, 0)),
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
            for address in addresses
        ]
        turn = 0

        async def opening(path: str, read: Read) -> None:
            nonlocal turn
            turn += 1
            answer = await sessions[turn % len(sessions)].get(path)
            answer.raise_for_status()
            reader = asyncio.create_task(_reading(answer, read))
            readers.add(reader)
            reader.add_done_callback(readers.discard)

        try:
            yield opening
        finally:
            for reader in [*readers]:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


async def _reading(answer: aiohttp.ClientResponse, read: Read) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        async for piece in answer.content.iter_any():
            read(piece)
    read(None)
