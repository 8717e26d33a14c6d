"""A small load client for the LangGraph Platform API, and the statistics of its measurements.

Definitions: percentiles are nearest rank. A token is an ``event: messages`` of the stream, and its
time is the arrival of its chunk. A run has failed unless its answer is 200 without ``__error__``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp

PATIENCE_S = 180.0

T = TypeVar("T")


class RunFailed(Exception):
    """A run did not end as it should; the message shows the answer."""


def percentile(values: Sequence[float], rank: float) -> float:
    """Returns the percentile by nearest rank; needs at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(rank / 100 * (len(ordered) - 1))))]


async def gathered(work: Callable[[], Awaitable[T]], times: int, at_once: int = 16) -> list[T]:
    """Repeats ``work`` a number of times, ``at_once`` of them concurrently."""
    turns = asyncio.Semaphore(at_once)

    async def one() -> T:
        async with turns:
            return await work()

    return await asyncio.gather(*(one() for _ in range(times)))


class Counter:
    """Counts events in a byte stream, also those whose name is split between two chunks."""

    def __init__(self, event: str) -> None:
        self._mark = f"event: {event}".encode()
        self._rest = b""

    def count(self, chunk: bytes) -> int:
        data = self._rest + chunk
        self._rest = data[1 - len(self._mark) :]
        return data.count(self._mark)


class Api:
    """A client of one server, over HTTP.

    Args:
        url: the base address.
        connections: the largest number of open connections.
    """

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, connections: int) -> AsyncGenerator[Api]:
        async with aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
            read_bufsize=1 << 20,
        ) as http:
            yield cls(http)

    async def get(self, path: str) -> bytes:
        async with self._http.get(path, raise_for_status=True) as answer:
            return await answer.read()

    async def post(self, path: str, body: Any) -> Any:
        async with self._http.post(path, json=body, raise_for_status=True) as answer:
            return json.loads(await answer.read() or "null")

    async def put(self, path: str, body: Any) -> None:
        async with self._http.put(path, json=body, raise_for_status=True) as answer:
            await answer.read()

    async def thread(self) -> str:
        return (await self.post("/threads", {}))["thread_id"]

    async def wait(self, thread_id: str, graph: str, values: dict[str, Any]) -> None:
        """Creates a run and waits for its end.

        Raises:
            RunFailed: the run was refused, or ended with an error.
        """
        body = {"assistant_id": graph, "input": values}
        async with self._http.post(f"/threads/{thread_id}/runs/wait", json=body) as answer:
            content = await answer.read()
        if answer.status != 200 or b"__error__" in content[:1000]:
            raise RunFailed(f"{answer.status} {content[:200]!r}")

    async def stream(
        self, thread_id: str, graph: str, values: dict[str, Any], mode: str
    ) -> AsyncIterator[int]:
        """Creates a run and yields the number of ``mode`` events in each chunk, 0 included."""
        event = "messages" if mode == "messages-tuple" else mode
        body = {"assistant_id": graph, "input": values, "stream_mode": mode}
        async with self._http.post(f"/threads/{thread_id}/runs/stream", json=body) as got:
            async for number in self._events(got, event):
                yield number

    async def join(
        self,
        thread_id: str,
        run_id: str,
        event: str,
        last_event_id: str | None,
        opened: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[int]:
        """Joins a current or finished run, as `stream`; calls ``opened`` at the headers."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        path = f"/threads/{thread_id}/runs/{run_id}/stream"
        async with self._http.get(path, headers=headers) as got:
            opened()
            async for number in self._events(got, event):
                yield number

    async def _events(self, answer: aiohttp.ClientResponse, event: str) -> AsyncIterator[int]:
        if answer.status != 200:
            raise RunFailed(f"{answer.status} {(await answer.text())[:200]}")
        counter = Counter(event)
        async for chunk in answer.content.iter_any():
            if b"event: error" in chunk:
                raise RunFailed(chunk[-200:].decode(errors="replace"))
            yield counter.count(chunk)


class Stopwatch:
    """Returns the seconds since its construction."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def s(self) -> float:
        return time.perf_counter() - self._began

    @property
    def ms(self) -> float:
        return self.s * 1000


async def percentiles_of(
    requests: Mapping[str, Callable[[int], Awaitable[Any]]], number: int
) -> dict[str, float]:
    """Makes each request again and again; returns the percentiles of their times by name, in ms.

    Args:
        requests: each takes the number of its turn.
        number: how often; the first three turns are not counted.
    """
    figures: dict[str, float] = {}
    for name, request in requests.items():
        taken_ms: list[float] = []
        for turn in range(number + 3):
            watch = Stopwatch()
            await request(turn)
            if turn >= 3:
                taken_ms.append(watch.ms)
        figures |= {
            f"{name}_p50_ms": percentile(taken_ms, 50),
            f"{name}_p95_ms": percentile(taken_ms, 95),
        }
    return figures
