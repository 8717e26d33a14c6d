"""What runs do to each other."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from benchmarks.client import Api, RunFailed, Stopwatch, percentile
from benchmarks.subjects import Server, Subject
from benchmarks.workloads.answering import warm_up
from benchmarks.workloads.scales import TOKENS, Figures, Scale, said

BLOCK_S = 2.0


async def block(subject: Subject, scale: Scale) -> Figures:
    """Measures a stream of 20 ms per token while another run blocks its loop for 2 s."""
    figures: Figures = {}
    for variant in scale.variants:
        figures |= await _block(cast(Server, subject), variant, scale.paced_tokens)
    return figures


async def _block(subject: Server, variant: str, tokens: int) -> Figures:
    gaps_ms: list[float] = []
    ok_ms: list[float] = []
    failed = 0
    begun = asyncio.Event()
    over = asyncio.Event()
    async with subject.connect(8) as way:
        api = cast(Api, way)
        paced, other = await way.thread(), await way.thread()

        async def neighbour() -> None:
            nonlocal failed
            await begun.wait()
            if variant != "none":
                graph = "blocking" if variant.startswith("async") else "blocking_sync"
                mode = "cpu" if variant.endswith("cpu") else "sleep"
                try:
                    await way.wait(other, graph, {"seconds": BLOCK_S, "mode": mode})
                except RunFailed:  # the reference refuses what blocks its loop, where it sees it
                    failed += 1

        async def pings() -> None:
            while not over.is_set():
                watch = Stopwatch()
                await api.get(subject.health)
                ok_ms.append(watch.ms)
                await asyncio.sleep(0.05)

        beside = [asyncio.create_task(neighbour()), asyncio.create_task(pings())]
        seen, last = 0, None
        async for arrived in way.stream(paced, "agent", said(tokens, 0.02), TOKENS):
            if not arrived:
                continue
            now = time.perf_counter()
            if last is not None:
                gaps_ms.append((now - last) * 1000)
            last, seen = now, seen + arrived
            if seen > 25:
                begun.set()
        over.set()
        begun.set()
        await asyncio.gather(*beside)
    return {
        f"{variant}_p50_ms": percentile(gaps_ms, 50),
        f"{variant}_p99_ms": percentile(gaps_ms, 99),
        f"{variant}_max_ms": max(gaps_ms),
        f"{variant}_ok_p95_ms": percentile(ok_ms, 95),
        f"failed_neighbour_{variant}": failed,
    }


async def cpu(subject: Subject, scale: Scale) -> Figures:
    """Measures two concurrent runs that need 2 s of CPU each."""
    async with subject.connect(8) as way:

        async def one(seconds: float) -> None:
            await way.wait(await way.thread(), "burn", {"seconds": seconds})

        await warm_up(subject, way, 2)
        await asyncio.gather(one(0.01), one(0.01))
        watch = Stopwatch()
        await asyncio.gather(one(BLOCK_S), one(BLOCK_S))
        return {"two_s": watch.s}
