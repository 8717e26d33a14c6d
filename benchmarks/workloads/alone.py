"""Servers that a workload starts itself, while no other subject runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

from benchmarks.client import Api, Stopwatch, gathered, percentiles_of
from benchmarks.items import figures_of, fill_items, recall
from benchmarks.stored import fill
from benchmarks.subjects import Greenroom, Server
from benchmarks.workloads.answering import trivial
from benchmarks.workloads.scales import Figures, Scale


async def startup(subject: Server, scale: Scale) -> Figures:
    """Measures the time from the command to an answer: first with cold files, then again."""
    shutil.rmtree(subject.scratch, ignore_errors=True)
    _cool()
    cold_s = await subject.start()
    watch = Stopwatch()
    await subject.stop()
    stop_s = watch.s
    warm_s = await subject.start()
    await subject.stop()
    return {"cold_s": cold_s, "warm_s": warm_s, "stop_s": stop_s}


def _cool() -> None:
    """Drops the system's cache of Python's libraries, as far as no process uses them."""
    packages = os.path.dirname(os.path.dirname(psutil.__file__))
    for directory, _, names in os.walk(packages):
        for name in names:
            with contextlib.suppress(OSError):
                file = os.open(os.path.join(directory, name), os.O_RDONLY)
                try:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(file)


async def cold(subject: Server, scale: Scale) -> Figures:
    """Measures the first three seconds of 8 clients of a server that has just started.

    Of Greenroom also where a burst may share processes (``overflow``).
    """
    figures = {"runs_per_s": await _first_seconds(subject)}
    if isinstance(subject, Greenroom):
        sharing = Greenroom("overflow", "", subject.scratch.with_name("overflow"), "overflow.json")
        figures["overflow_runs_per_s"] = await _first_seconds(sharing)
    return figures


async def _first_seconds(subject: Server, clients: int = 8, seconds: float = 3.0) -> float:
    shutil.rmtree(subject.scratch, ignore_errors=True)
    await subject.start()
    done = 0
    try:
        async with subject.connect(clients) as way:
            watch = Stopwatch()

            async def client() -> None:
                nonlocal done
                while watch.s < seconds:
                    await trivial(way)
                    done += watch.s < seconds

            await asyncio.gather(*(client() for _ in range(clients)))
    finally:
        await subject.stop()
    return done / seconds


async def memory(subject: Server, scale: Scale) -> Figures:
    """Measures the memory of all idle processes, and the memory of each further run actor."""
    await subject.start()
    try:
        async with subject.connect(40) as api:
            await gathered(lambda: trivial(api), 4, 1)
            await asyncio.sleep(5.0)
            figures = {"idle_mib": subject.processes.pss_mib()}
            if isinstance(subject, Greenroom) and subject.name == "greenroom":
                actors = await subject.actors()
                sleeping = {"steps": 1, "delay": 30.0}
                runs = [
                    asyncio.create_task(api.wait(await api.thread(), "slow", sleeping))
                    for _ in range(5)
                ]
                await asyncio.sleep(20.0)
                added = await subject.actors() - actors
                grown_mib = subject.processes.pss_mib() - figures["idle_mib"]
                figures["per_actor_mib"] = grown_mib / max(1, added)
                await asyncio.gather(*runs)
    finally:
        await subject.stop()
    return figures


async def stored(subject: Greenroom, scale: Scale) -> Figures:
    """Measures reads and runs on a full database."""
    shutil.rmtree(subject.scratch, ignore_errors=True)
    await subject.start()
    try:
        threads, runs = await fill(subject.database, scale.stored_threads, scale.stored_runs)
        async with subject.connect(8) as api:
            return await _requests(api, threads, runs, scale.stored_requests)
    finally:
        await subject.stop()


async def _requests(
    api: Api, threads: list[str], runs: list[tuple[str, str]], number: int
) -> Figures:
    requests: dict[str, Callable[[int], Awaitable[Any]]] = {
        "get_run": lambda i: api.get("/threads/{}/runs/{}".format(*runs[i % len(runs)])),
        "list_runs": lambda i: api.get(f"/threads/{threads[i % len(threads)]}/runs?limit=10"),
        "get_thread": lambda i: api.get(f"/threads/{threads[i % len(threads)]}"),
        "search": lambda i: api.post("/threads/search", {"limit": 10}),
        "search_status": lambda i: api.post("/threads/search", {"status": "idle", "limit": 10}),
        "search_metadata": lambda i: api.post(
            "/threads/search", {"metadata": {"customer": i * 37 % 1000}, "limit": 10}
        ),
        "search_page": lambda i: api.post("/threads/search", {"limit": 10, "offset": 1000}),
        "create_wait": lambda i: trivial(api),
    }
    return await percentiles_of(requests, number)


async def items(subject: Greenroom, scale: Scale) -> Figures:
    """Measures the store with many items, on a server with an index of its own."""
    server = Greenroom("items", "", subject.scratch.with_name("items"), "items.json")
    shutil.rmtree(server.scratch, ignore_errors=True)
    await server.start()
    try:
        await fill_items(server.database, scale.items)
        async with server.connect(8) as api:
            figures = await figures_of(api, scale.items, scale.stored_requests)
            return figures | {"recall_percent": await recall(api, server.database)}
    finally:
        await server.stop()
