"""The time to an answer: of one run after the other, and of many at once."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from benchmarks.client import Api, RunFailed, Stopwatch, gathered, percentile
from benchmarks.subjects import Connected, Greenroom, Subject
from benchmarks.workloads.scales import TOKENS, Figures, Scale, said

CLIENTS = (1, 8, 32)
STREAMS = 32
TOKEN_S = 0.02
"""How many other streams there are beside a first token, and the pause between their tokens."""
OKS = 200


async def ttft(subject: Subject, scale: Scale) -> Figures:
    """Measures the time to the first of 50 tokens, one run after the other."""
    async with subject.connect(4) as way:
        return await _first_tokens(way, scale.ttft_runs) | await _oks(way)


async def beside(subject: Subject, scale: Scale) -> Figures:
    """Measures the same while 32 other streams get 50 tokens a second each."""
    async with subject.connect(STREAMS + 4) as way:
        threads = await gathered(way.thread, STREAMS)
        begun = [asyncio.Event() for _ in threads]
        streams = [
            asyncio.create_task(_paced(way, thread_id, scale.paced_tokens, each))
            for thread_id, each in zip(threads, begun, strict=True)
        ]
        await asyncio.gather(*(each.wait() for each in begun))
        figures = await _first_tokens(way, scale.ttft_runs) | await _oks(way)
        if any(stream.done() for stream in streams):
            raise RunFailed("the other streams ended too early")
        await asyncio.gather(*streams)
    return figures


async def _paced(way: Connected, thread_id: str, tokens: int, begun: asyncio.Event) -> None:
    async for arrived in way.stream(thread_id, "agent", said(tokens, TOKEN_S), TOKENS):
        if arrived:
            begun.set()


async def _first_tokens(way: Connected, runs: int) -> Figures:
    first_ms: list[float] = []
    total_ms: list[float] = []
    for turn in range(runs + 2):
        thread_id = await way.thread()
        watch = Stopwatch()
        first = None
        async for tokens in way.stream(thread_id, "agent", said(50), TOKENS):
            if tokens and first is None:
                first = watch.ms
        if first is None:
            raise RunFailed("a stream without a token")
        if turn >= 2:
            first_ms.append(first)
            total_ms.append(watch.ms)
    return {
        "first_token_ms": percentile(first_ms, 50),
        "first_token_p95_ms": percentile(first_ms, 95),
        "total_ms": percentile(total_ms, 50),
    }


async def _oks(way: Connected) -> Figures:
    """Measures what `/ok` takes, if it is a server."""
    if not isinstance(way, Api):
        return {}
    taken_ms: list[float] = []
    for _ in range(OKS):
        watch = Stopwatch()
        await way.get("/ok")
        taken_ms.append(watch.ms)
    return {"ok_ms": percentile(taken_ms, 50), "ok_p95_ms": percentile(taken_ms, 95)}


async def rps(subject: Subject, scale: Scale) -> Figures:
    """Measures runs of a trivial graph, each on a thread of its own, from create to answer."""
    figures: Figures = {}
    for clients in CLIENTS:
        figures |= await _rps(subject, clients, scale.rps_s)
    return figures


async def _rps(subject: Subject, clients: int, seconds: float) -> Figures:
    taken_ms: list[float] = []
    failed = 0
    async with subject.connect(clients + 4) as way:
        await warm_up(subject, way, clients)
        # Enough at first; where they run out, making one is measured with its run.
        threads = await gathered(way.thread, int(max(64, seconds * 200)))
        before = subject.processes.cpu_s()
        watch = Stopwatch()

        async def client() -> None:
            nonlocal failed
            while watch.s < seconds:
                thread_id = threads.pop() if threads else await way.thread()
                run = Stopwatch()
                try:
                    await way.wait(thread_id, "trivial", {"x": 1})
                except (RunFailed, aiohttp.ClientError, TimeoutError):
                    failed += 1
                taken_ms.append(run.ms)

        await asyncio.gather(*(client() for _ in range(clients)))
        elapsed_s = watch.s
        cpu_s = subject.processes.cpu_s_since(before)
    return {
        f"runs_per_s_{clients}": (len(taken_ms) - failed) / elapsed_s,
        f"p50_ms_{clients}": percentile(taken_ms, 50),
        f"p95_ms_{clients}": percentile(taken_ms, 95),
        f"cpu_ms_per_run_{clients}": cpu_s * 1000 / len(taken_ms),
        f"failed_{clients}": failed,
    }


async def warm_up(subject: Subject, way: Connected, clients: int) -> None:
    """Executes runs until everything that is made on demand exists, and a little longer."""
    await gathered(lambda: trivial(way), 2 * clients, clients)
    if isinstance(subject, Greenroom):
        async with asyncio.timeout(60):
            while await subject.is_growing():  # noqa: ASYNC110 - the server has nothing to wait on
                await asyncio.sleep(0.2)
    await gathered(lambda: trivial(way), 2 * clients, clients)


async def trivial(way: Connected) -> None:
    await way.wait(await way.thread(), "trivial", {"x": 1})


async def slow(subject: Subject, scale: Scale) -> Figures:
    """Measures concurrent runs that only sleep: for one second, and for ten tenths of a second."""
    figures: Figures = {}
    # One run per actor can only queue these; once shows how.
    sizes = scale.sleepers[:1] if subject.name == "greenroom" else scale.sleepers
    shapes = {"once": (1, 1.0), "ten_times": (10, 0.1)}
    if subject.name == "greenroom":
        del shapes["ten_times"]
    for shape, (steps, delay) in shapes.items():
        for runs in sizes:
            total_s, failed = await _sleepers(subject, runs, {"steps": steps, "delay": delay})
            figures |= {f"{shape}_{runs}_s": total_s, f"failed_{shape}_{runs}": failed}
    return figures


async def _sleepers(subject: Subject, runs: int, values: dict[str, Any]) -> tuple[float, int]:
    async with subject.connect(runs + 8) as way:
        threads = await gathered(way.thread, runs)
        watch = Stopwatch()

        async def one(thread_id: str) -> bool:
            try:
                await way.wait(thread_id, "slow", values)
            except (RunFailed, aiohttp.ClientError, TimeoutError):
                return False
            return True

        ended = await asyncio.gather(*(one(thread_id) for thread_id in threads))
        return watch.s, ended.count(False)
