"""Measures how long a run's first event takes on both protocols.

    python -m benchmarks.first_event

A round is one run of each way, one after the other, each on a thread of its own that the run itself
creates, on the same warm actor. All times begin when the request that starts the run is sent:

    older       `POST /threads/{id}/runs/stream`, until `metadata` and until the first `values`
    resumable   the same with `stream_resumable`: its events are kept, as those of a log are
    open log    `run.start` by `POST /threads/{id}/commands`, until the run's first event
                (`lifecycle`) and its first `values` on a log that was opened before
    at once     the same, with the log opened by a second request right behind the first one, as the
                clients do it

`WARM_UP` rounds do not count. The differences are those of the pairs of a round, so that other work
on the machine, which lasts longer than a round, counts on both sides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks.subjects import Greenroom, Server

ROUNDS, WARM_UP = 200, 20
INPUT = {"messages": [{"role": "user", "content": "x"}]}
CHANNELS = ["values", "messages", "lifecycle", "input", "checkpoints"]

Times = dict[str, float]
"""Milliseconds by the name of an event."""
Way = Callable[[aiohttp.ClientSession], Awaitable[Times]]


async def names(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """Yields the names of an event stream's events as they arrive."""
    async for line in answer.content:
        if line.startswith(b"event: "):
            yield line[7:].strip().decode()


async def arrivals(answer: aiohttp.ClientResponse, began_s: float, first: str) -> Times:
    """Reads an event stream until the first event and the first ``values`` are there."""
    found: Times = {}
    async for name in names(answer):
        took_ms = 1e3 * (time.perf_counter() - began_s)
        found.setdefault("first" if name == first else name, took_ms)
        if {"first", "values"} <= set(found):
            return {"first": found["first"], "values": found["values"]}
    raise RuntimeError(f"The stream ended after {sorted(found)}.")


def older(*, resumable: bool) -> Way:
    async def run(http: aiohttp.ClientSession) -> Times:
        body = {
            "assistant_id": "agent",
            "input": INPUT,
            "if_not_exists": "create",
            "stream_mode": ["values", "messages-tuple"],
            "stream_resumable": resumable,
        }
        path = f"/threads/{uuid.uuid4()}/runs/stream"
        began_s = time.perf_counter()
        async with http.post(path, json=body, raise_for_status=True) as answer:
            found = await arrivals(answer, began_s, "metadata")
            await answer.read()
        return found

    return run


async def start(http: aiohttp.ClientSession, thread_id: str) -> None:
    params = {"assistant_id": "agent", "input": INPUT}
    command = {"id": 1, "method": "run.start", "params": params}
    path = f"/threads/{thread_id}/commands"
    async with http.post(path, json=command, raise_for_status=True) as answer:
        told: Any = json.loads(await answer.read())
        if told["type"] != "success":
            raise RuntimeError(str(told))


async def until_over(answer: aiohttp.ClientResponse) -> None:
    """Reads a log until its run has ended: the next one begins on an idle server."""
    async for line in answer.content:
        if line.startswith(b"data: ") and b'"completed"' in line:
            return
    raise RuntimeError("The log ended before its run.")


def opened(http: aiohttp.ClientSession, thread_id: str) -> Any:
    path = f"/threads/{thread_id}/stream/events"
    return http.post(path, json={"channels": CHANNELS}, raise_for_status=True)


async def open_log(http: aiohttp.ClientSession) -> Times:
    thread_id = str(uuid.uuid4())
    async with opened(http, thread_id) as answer:
        began_s = time.perf_counter()
        starting = asyncio.create_task(start(http, thread_id))
        found = await arrivals(answer, began_s, "lifecycle")
        await starting
        await until_over(answer)
    return found


async def at_once(http: aiohttp.ClientSession) -> Times:
    thread_id = str(uuid.uuid4())
    began_s = time.perf_counter()
    starting = asyncio.create_task(start(http, thread_id))
    await asyncio.sleep(0)  # the clients send the command first
    async with opened(http, thread_id) as answer:
        found = await arrivals(answer, began_s, "lifecycle")
        await starting
        await until_over(answer)
    return found


WAYS: dict[str, Way] = {
    "older": older(resumable=False),
    "older, resumable": older(resumable=True),
    "open log": open_log,
    "at once": at_once,
}


async def measured(url: str, rounds: int) -> dict[str, list[Times]]:
    """Returns the times of each round, by way."""
    found: dict[str, list[Times]] = {name: [] for name in WAYS}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(url, timeout=timeout) as http:
        for number in range(-WARM_UP, rounds):
            # Each way is as often first, and comes as often after each other one.
            turned = [*WAYS][number % len(WAYS) :] + [*WAYS][: number % len(WAYS)]
            for name in turned if number % 2 else reversed(turned):
                times = await WAYS[name](http)
                if number >= 0:
                    found[name].append(times)
    return found


def report(found: dict[str, list[Times]]) -> str:
    """Returns the table of the medians, and of those of the pairs' differences."""
    lines = [
        "| way | first event, ms | later by | first `values`, ms | later by |",
        "|---|---|---|---|---|",
    ]
    for name, times in found.items():
        cells: list[str] = []
        for event in ("first", "values"):
            pairs = zip(times, found["older"], strict=True)
            later = [mine[event] - theirs[event] for mine, theirs in pairs]
            cells.append(f"{statistics.median(each[event] for each in times):.1f}")
            cells.append(f"{statistics.median(later):+.1f}" if name != "older" else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


async def main(rounds: int, url: str | None) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="greenroom-bench-"))
    server: Server | None = None
    try:
        if url is None:
            server = Greenroom("greenroom", "Greenroom", scratch / "server", "langgraph.json")
            await server.start()
            url = server.url
        print(report(await measured(url, rounds)))
    finally:
        if server is not None:
            await server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--url", help="of a server that runs already; else one is started")
    given = parser.parse_args()
    uvloop.run(main(given.rounds, given.url))
