"""What streams carry, and what large and long states take."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator

from benchmarks.client import Api, RunFailed, Stopwatch, gathered, percentile
from benchmarks.subjects import Connected, Server, Subject
from benchmarks.workloads.answering import warm_up
from benchmarks.workloads.scales import TOKENS, Figures, Scale, said

HISTORY = 1000
"""The checkpoints of one thread."""


async def tokens(subject: Subject, scale: Scale) -> Figures:
    """Measures tokens per second on one stream and on eight, from the request to the end.

    The clock starts at the request and not at the first token: bare LangGraph gives all its time to
    a node that never waits, so that its reader gets the first token after the last one was made.
    """
    figures: Figures = {}
    for streams in (1, 8):
        async with subject.connect(streams + 4) as way:
            await warm_up(subject, way, streams)
            threads = await gathered(way.thread, streams)
            watch = Stopwatch()
            seen = await asyncio.gather(*(_streamed(way, each, scale.tokens) for each in threads))
            figures[f"events_per_s_{streams}"] = sum(seen) / watch.s
    return figures


async def _streamed(way: Connected, thread_id: str, number: int) -> int:
    """Returns the number of tokens that a run has streamed."""
    count = 0
    async for arrived in way.stream(thread_id, "agent", said(number), TOKENS):
        count += arrived
    if count < number:
        raise RunFailed(f"{count} of {number} tokens")
    return count


async def burst(subject: Subject, scale: Scale) -> Figures:
    """Measures thousands of events at once: live, for a late joiner, and after the run's end."""
    number = scale.burst_events
    values = {"events": number, "hold": 0.0}
    async with subject.connect(8) as way:
        live_ms = [
            await _until(way.stream(await way.thread(), "burst", values, "custom"), number)
            for _ in range(3)
        ]
        figures = {"live_ms": statistics.median(live_ms)}
        if isinstance(way, Api):
            figures |= await _joins(way, number, scale.joins)
    return figures


async def _joins(api: Api, number: int, joins: int) -> Figures:
    thread_id = await api.thread()
    hold_s = 8.0 + joins * 0.2
    body = {
        "assistant_id": "burst",
        "input": {"events": number, "hold": hold_s},
        "stream_mode": "custom",
        "stream_resumable": True,
    }
    run_id = (await api.post(f"/threads/{thread_id}/runs", body))["run_id"]

    async def join() -> float:
        return await _until(api.join(thread_id, run_id, "custom", "-1"), number)

    await join()  # from here on everything is in the log
    logged_ms = [await join() for _ in range(joins)]
    await api.get(f"/threads/{thread_id}/runs/{run_id}/join")
    figures = {"join_ms": percentile(logged_ms, 50), "join_max_ms": max(logged_ms)}
    with contextlib.suppress(RunFailed):
        figures["replay_ms"] = percentile([await join() for _ in range(joins)], 50)
    return figures


async def _until(stream: AsyncIterator[int], number: int) -> float:
    """Returns the milliseconds until a number of events has arrived.

    Raises:
        RunFailed: the stream ended before.
    """
    watch = Stopwatch()
    seen = 0
    async for arrived in stream:
        seen += arrived
        if seen >= number:
            return watch.ms
    raise RunFailed(f"{seen} of {number} events")


async def idle(subject: Server, scale: Scale) -> Figures:
    """Measures the cost of silent streams: many clients join one run that sleeps."""
    streams = scale.idle_streams
    opened = asyncio.Semaphore(0)
    async with subject.connect(streams + 8) as api:
        thread_id = await api.thread()
        sleeping = {"steps": 1, "delay": scale.idle_s + 60.0 + streams / 50}
        body = {"assistant_id": "slow", "input": sleeping, "stream_mode": "updates"}
        run_id = (await api.post(f"/threads/{thread_id}/runs", body))["run_id"]
        path = f"/threads/{thread_id}/runs/{run_id}"
        await asyncio.sleep(1.0)
        before, before_mib = subject.processes.cpu_s(), subject.processes.pss_mib()
        watch = Stopwatch()
        await asyncio.sleep(scale.idle_s / 2)
        quiet_share = subject.processes.cpu_s_since(before) / watch.s

        async def listen() -> None:
            async for _ in api.join(thread_id, run_id, "updates", None, opened.release):
                pass

        watch = Stopwatch()
        listeners = [asyncio.create_task(listen()) for _ in range(streams)]
        async with asyncio.timeout(120):
            for _ in range(streams):
                await opened.acquire()
        open_s = watch.s
        await asyncio.sleep(2.0)
        before, watch = subject.processes.cpu_s(), Stopwatch()
        await asyncio.sleep(scale.idle_s)
        share = subject.processes.cpu_s_since(before) / watch.s
        added_mib = subject.processes.pss_mib() - before_mib
        broken = sum(listener.done() for listener in listeners)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        await api.post(f"{path}/cancel", None)
    return {
        "quiet_cpu_percent": quiet_share * 100,
        "cpu_percent": share * 100,
        "added_mib": added_mib,
        "open_s": open_s,
        "broken": broken,
    }


async def blob(subject: Subject, scale: Scale) -> Figures:
    """Measures runs with a large state: made, answered and stored."""
    figures: Figures = {}
    async with subject.connect(8) as way:
        for mib in scale.blob_mib:
            taken_ms: list[float] = []
            thread_id = ""
            for _ in range(scale.blob_runs):
                thread_id = await way.thread()
                watch = Stopwatch()
                await way.wait(thread_id, "blob", {"size": mib * 1024 * 1024})
                taken_ms.append(watch.ms)
            figures[f"run_{mib}_mib_ms"] = percentile(taken_ms, 50)
            if isinstance(way, Api):
                watch = Stopwatch()
                await way.get(f"/threads/{thread_id}/state")
                figures[f"state_{mib}_mib_ms"] = watch.ms
    return figures


async def history(subject: Server, scale: Scale) -> Figures:
    """Measures the read of a thread's history, all of it in one answer."""
    async with subject.connect(4) as api:
        thread_id = await api.thread()
        body = {
            "assistant_id": "loop",
            "input": {"steps": HISTORY - 2},  # with the input and what begins the graph
            "config": {"recursion_limit": 2 * HISTORY},
        }
        await api.post(f"/threads/{thread_id}/runs/wait", body)
        taken_ms: list[float] = []
        states = b""
        for _ in range(scale.joins):
            watch = Stopwatch()
            states = await api.get(f"/threads/{thread_id}/history?limit={HISTORY}")
            taken_ms.append(watch.ms)
        if (found := states.count(b'"parent_checkpoint_id"')) != HISTORY:
            raise RunFailed(f"{found} of {HISTORY} checkpoints")
    return {"read_ms": percentile(taken_ms, 50), "read_max_ms": max(taken_ms)}
