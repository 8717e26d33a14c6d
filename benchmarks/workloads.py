"""The workloads: each is a function from a subject to named figures.

The figures of one call belong to one round; the table has the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import psutil

from benchmarks.client import Api, RunFailed, Stopwatch, gathered, percentile, percentiles_of
from benchmarks.items import figures_of, fill_items, recall
from benchmarks.stored import fill
from benchmarks.subjects import Connected, Greenroom, Server, Subject

Figures = dict[str, float]

TOKENS = "messages-tuple"
VARIANTS = ("none", "async_sleep", "async_cpu", "sync_sleep", "sync_cpu")
BLOCK_S = 2.0
CLIENTS = (1, 8, 32)
HISTORY = 1000
"""The checkpoints of one thread."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The amounts of one round."""

    ttft_runs: int = 30
    rps_s: float = 8.0
    sleepers: tuple[int, ...] = (200, 500)
    variants: tuple[str, ...] = VARIANTS
    paced_tokens: int = 250
    tokens: int = 20_000
    idle_streams: int = 1000
    idle_s: float = 20.0
    blob_mib: tuple[int, ...] = (1, 10)
    blob_runs: int = 5
    burst_events: int = 5000
    joins: int = 7
    stored_threads: int = 100_000
    stored_runs: int = 1_000_000
    stored_requests: int = 200
    items: int = 100_000


QUICK = Scale(
    ttft_runs=10,
    rps_s=2.0,
    sleepers=(200,),
    variants=("none", "async_sleep", "sync_cpu"),
    paced_tokens=140,
    tokens=5_000,
    idle_streams=100,
    idle_s=5.0,
    blob_runs=2,
    joins=3,
    stored_threads=2_000,
    stored_runs=20_000,
    stored_requests=30,
    items=5_000,
)


@dataclass(frozen=True)
class Workload:
    """A measurement.

    Attributes:
        of: the subjects that it measures.
        alone: whether it starts and stops its subject itself, while no other subject runs.
    """

    name: str
    run: Callable[[Any, Scale], Awaitable[Figures]]
    of: frozenset[str]
    alone: bool = False


def said(tokens: int, delay_s: float = 0.0) -> dict[str, Any]:
    """Returns the input of a run that streams a number of tokens."""
    messages = [{"role": "user", "content": "hi"}]
    return {"messages": messages, "n_tokens": tokens, "delay": delay_s}


# --- latency and throughput ----------------------------------------------------------------------


async def ttft(subject: Subject, scale: Scale) -> Figures:
    """Measures the time to the first of 50 tokens, one run after the other."""
    first_ms: list[float] = []
    total_ms: list[float] = []
    async with subject.connect(4) as way:
        for turn in range(scale.ttft_runs + 2):
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
        await _warm_up(subject, way, clients)
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


async def _warm_up(subject: Subject, way: Connected, clients: int) -> None:
    """Executes runs until everything that is made on demand exists, and a little longer."""
    await gathered(lambda: _trivial(way), 2 * clients, clients)
    if isinstance(subject, Greenroom):
        async with asyncio.timeout(60):
            while await subject.is_growing():  # noqa: ASYNC110 - the server has nothing to wait on
                await asyncio.sleep(0.2)
    await gathered(lambda: _trivial(way), 2 * clients, clients)


async def _trivial(way: Connected) -> None:
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


# --- isolation -----------------------------------------------------------------------------------


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

        await _warm_up(subject, way, 2)
        await asyncio.gather(one(0.01), one(0.01))
        watch = Stopwatch()
        await asyncio.gather(one(BLOCK_S), one(BLOCK_S))
        return {"two_s": watch.s}


# --- events --------------------------------------------------------------------------------------


async def tokens(subject: Subject, scale: Scale) -> Figures:
    """Measures tokens per second on one stream and on eight, from the request to the end.

    The clock starts at the request and not at the first token: bare LangGraph gives all its time to
    a node that never waits, so that its reader gets the first token after the last one was made.
    """
    figures: Figures = {}
    for streams in (1, 8):
        async with subject.connect(streams + 4) as way:
            await _warm_up(subject, way, streams)
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


# --- on its own ----------------------------------------------------------------------------------


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
                    await _trivial(way)
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
            await gathered(lambda: _trivial(api), 4, 1)
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
        "create_wait": lambda i: _trivial(api),
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


# --- all of them ---------------------------------------------------------------------------------

BARES = frozenset({"bare", "bare-pooled"})
GREENROOMS = frozenset({"greenroom", "dense"})
SERVERS = GREENROOMS | {"reference", "aegra"}
EVERYONE = BARES | SERVERS

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("startup", startup, SERVERS, alone=True),
        Workload("memory", memory, SERVERS, alone=True),
        Workload("cold", cold, frozenset({"greenroom", "reference", "aegra"}), alone=True),
        Workload("stored", stored, frozenset({"greenroom"}), alone=True),
        Workload("items", items, frozenset({"greenroom"}), alone=True),
        # Before the pools have grown: an actor that ends meanwhile would show as less than nothing.
        Workload("idle", idle, SERVERS),
        Workload("ttft", ttft, EVERYONE),
        Workload("rps", rps, EVERYONE | {"reference-few"}),
        Workload("slow", slow, EVERYONE),
        Workload("block", block, SERVERS),
        Workload("cpu", cpu, EVERYONE),
        Workload("tokens", tokens, EVERYONE),
        Workload("burst", burst, EVERYONE),
        Workload("blob", blob, EVERYONE),
        Workload("history", history, SERVERS),
    )
}
