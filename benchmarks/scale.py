"""How far one machine goes: streams that are open, and records that are stored.

    python -m benchmarks.scale streams --runs 10000
    python -m benchmarks.scale streams --runs 9000 --http1
    python -m benchmarks.scale stored --threads 1000000 --runs 10000000
    python -m benchmarks.scale constants

``streams`` begins so many runs that wait, opens a stream of each, and looks at what that takes;
then all runs end, and each stream must get its end. ``stored`` asks for what clients ask on a
database with so many records, then sweeps it, and prints what each statement of a sweep has read.
``constants`` measures what a run and an event take of each kind of process, for the model of
docs/scaling.md. The figures are JSON lines on the standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop
from psycopg import AsyncConnection

from benchmarks import http2
from benchmarks.client import PATIENCE_S, Api, Stopwatch, gathered, percentile, percentiles_of
from benchmarks.plans import Plan, open_explained
from benchmarks.processes import MIB
from benchmarks.stored import fill
from benchmarks.subjects import Greenroom
from benchmarks.sweeping import sweeper_of
from greenroom.core.scopes import SERVER
from greenroom.core.searches import RunFilter, ThreadFilter
from greenroom.machine import raise_open_files
from greenroom.persistence.records import PostgresRecords

KINDS = {
    "ServeReplica": "gateways",
    "RunActor": "run actors",
    "Registry": "registry",
    "Inspector": "inspectors",
    "haproxy": "HAProxy",
    "postgres": "PostgreSQL",
}
OPENING = 64
"""How many streams are being opened at once."""
IDLE_S = 20.0
TOKENS = 1000

Read = Callable[[bytes | None], None]
Open = Callable[[str, Read], Awaitable[None]]


def said(**figures: Any) -> None:
    print(json.dumps({**figures, "load": round(os.getloadavg()[0], 1)}), flush=True)


# --- streams -------------------------------------------------------------------------------------


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
            for name, work in (("ok", lambda _: api.get("/ok")), ("run", lambda _: _trivial(api))):
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


async def _trivial(api: Api) -> None:
    await api.wait(await api.thread(), "trivial", {"x": 1})


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


def memory_of(server: Greenroom) -> dict[str, float]:
    """Returns the MiB of the server's processes (PSS), by their kind."""
    found: dict[str, float] = defaultdict(float)
    for process in server.processes:
        with contextlib.suppress(psutil.Error):
            found[_kind(process)] += process.memory_full_info().pss / MIB
    return found


def shown_growth(
    of: str, before: dict[str, float], after: dict[str, float], number: int
) -> dict[str, float]:
    """Prints by how many KiB the processes have grown for each of a number of things."""
    grown = {
        kind: round((mib - before.get(kind, 0.0)) * 1024 / number, 1) for kind, mib in after.items()
    }
    said(kib_of=of, all=round(sum(grown.values()), 1), **grown)
    return after


# --- stored --------------------------------------------------------------------------------------


async def stored(server: Greenroom, threads: int, runs: int, requests: int) -> None:
    """Measures queries, a sweep and requests on a full database."""
    await server.start()
    await server.stop()
    watch = Stopwatch()
    some, pairs = await fill(server.database, threads, runs)
    size = sum(each.stat().st_size for each in server.database.rglob("*") if each.is_file())
    said(threads=threads, runs=runs, filled_s=round(watch.s), gib=round(size / 2**30, 1))
    await _explained(server, some, pairs)
    said(start_s=round(await server.start(), 2))
    async with server.connect(8) as api:
        figures = await percentiles_of(_requests(api, some, pairs), requests)
    for name in sorted({name.rsplit("_", 2)[0] for name in figures}):
        p50, p95 = figures[f"{name}_p50_ms"], figures[f"{name}_p95_ms"]
        said(request=name, p50=round(p50, 2), p95=round(p95, 2))


def _requests(
    api: Api, threads: list[str], runs: list[tuple[str, str]]
) -> dict[str, Callable[[int], Awaitable[Any]]]:
    def thread(turn: int) -> str:
        return threads[turn % len(threads)]

    def searching(what: str, **body: Any) -> Callable[[int], Awaitable[Any]]:
        return lambda _: api.post(f"/{what}/search", {"limit": 10, **body})

    begun = {"assistant_id": "trivial", "input": {"x": 1}}
    return {
        "get a run": lambda i: api.get("/threads/{}/runs/{}".format(*runs[i % len(runs)])),
        "list a thread's runs": lambda i: api.get(f"/threads/{thread(i)}/runs?limit=10"),
        "get a thread": lambda i: api.get(f"/threads/{thread(i)}"),
        "search threads": searching("threads"),
        "search threads by status idle": searching("threads", status="idle"),
        "search threads by status busy": searching("threads", status="busy"),
        "search threads, offset 1,000": searching("threads", offset=1000),
        "search threads by metadata of 1 in 1,000": lambda i: api.post(
            "/threads/search", {"metadata": {"customer": i * 37 % 1000}, "limit": 10}
        ),
        "search threads by metadata of none": searching("threads", metadata={"customer": -1}),
        "search threads by a value": lambda i: api.post(
            "/threads/search", {"values": {"x": i * 997 % 100_000 + 1}, "limit": 10}
        ),
        "search runs": searching("runs"),
        "search runs by status error": searching("runs", status="error"),
        "search runs by status pending": searching("runs", status="pending"),
        "search runs of a thread": lambda i: api.post(
            "/runs/search", {"thread_id": thread(i), "limit": 10}
        ),
        "search assistants": searching("assistants", graph_id="trivial"),
        "create a thread": lambda _: api.post("/threads", {"metadata": {"customer": 7}}),
        "create a run": lambda i: api.post(f"/threads/{thread(i)}/runs", begun),
        "create a stateless run": lambda _: api.post("/runs", begun),
        "a trivial run": lambda _: _trivial(api),
    }


async def _explained(server: Greenroom, threads: list[str], runs: list[tuple[str, str]]) -> None:
    """Explains the queries of requests, and two sweeps: what each statement has read, and how long
    it took in the database alone."""
    from greenroom.persistence.embedded import start_embedded

    plans: list[Plan] = []
    embedded = await asyncio.to_thread(start_embedded, server.database)
    try:
        pool = open_explained(embedded.dsn, plans)
        await pool.open()
        try:
            records = PostgresRecords(pool)
            for name, query in _queries(records, threads, runs).items():
                reads: list[tuple[int, float]] = []
                for turn in range(20):
                    plans.clear()
                    await query(turn)
                    reads.append((sum(p.blocks for p in plans), sum(p.ms for p in plans)))
                blocks, ms = zip(*reads, strict=True)
                said(
                    query=name,
                    blocks=round(percentile(blocks, 95)),
                    p50=round(percentile(ms, 50), 2),
                    p95=round(percentile(ms, 95), 2),
                )
            sweeper = sweeper_of(pool, embedded.dsn, thread_ttl_s=50.0 * 365 * 86_400)
            for which in ("the first of all", "the next"):
                plans.clear()
                watch = Stopwatch()
                await sweeper.sweep()
                said(sweep=which, s=round(watch.s, 2), statements=len(plans))
                for plan in sorted(plans, key=lambda each: -each.blocks)[:5]:
                    about = {"scanned": plan.scanned, "sql": plan.sql[:120]}
                    said(blocks=plan.blocks, ms=round(plan.ms, 2), **about)
        finally:
            await pool.close()
    finally:
        embedded.release()


def _queries(
    records: PostgresRecords, threads: list[str], runs: list[tuple[str, str]]
) -> dict[str, Callable[[int], Awaitable[Any]]]:
    """Returns what the gateway asks the database for each of `_requests` that only reads."""

    def of_threads(offset: int = 0, **where: Any) -> Awaitable[Any]:
        return records.search_threads(
            ThreadFilter(**where),
            limit=10,
            offset=offset,
            sort_by="updated_at",
            descending=True,
            scope=SERVER,
        )

    def of_runs(**where: Any) -> Awaitable[Any]:
        return records.search_runs(
            RunFilter(**where), limit=10, offset=0, descending=True, scope=SERVER
        )

    def thread(turn: int) -> str:
        return threads[turn % len(threads)]

    return {
        "get a run": lambda i: records.get_run(*runs[i % len(runs)], scope=SERVER),
        "list a thread's runs": lambda i: records.list_runs(
            thread(i), limit=10, offset=0, status=None, scope=SERVER
        ),
        "get a thread": lambda i: records.get_thread(thread(i), scope=SERVER),
        "search threads": lambda _: of_threads(),
        "search threads by status idle": lambda _: of_threads(status="idle"),
        "search threads by status busy": lambda _: of_threads(status="busy"),
        "search threads, offset 1,000": lambda _: of_threads(offset=1000),
        "search threads by metadata of 1 in 1,000": lambda i: of_threads(
            metadata={"customer": i * 37 % 1000}
        ),
        "search threads by metadata of none": lambda _: of_threads(metadata={"customer": -1}),
        "search threads by a value": lambda i: of_threads(values={"x": i * 997 % 100_000 + 1}),
        "search runs": lambda _: of_runs(),
        "search runs by status error": lambda _: of_runs(status="error"),
        "search runs by status pending": lambda _: of_runs(status="pending"),
        "search runs of a thread": lambda i: of_runs(thread_id=thread(i)),
    }


# --- constants -----------------------------------------------------------------------------------


async def constants(scratch: Path, seconds: float = 15.0) -> None:
    """Measures what trivial runs and streamed tokens take, isolated and dense."""
    for name, configuration in (("isolated", "langgraph.json"), ("dense", "dense.json")):
        server = Greenroom(name, "", scratch / name, configuration)
        await server.start()
        try:
            async with server.connect(40) as api:
                await gathered(lambda: _trivial(api), 400, 8)
                await asyncio.sleep(10.0)  # actors that the first runs have wanted are there
                await _costs(server, f"a {name} run", lambda: _trivial(api), 32, seconds)
                await _costs(
                    server, f"{TOKENS} tokens at once, {name}", lambda: _talk(api, 0.0), 2, seconds
                )
                # Of isolated runs only as many as there are processes.
                talking = 8 if name == "isolated" else 32
                await _costs(
                    server,
                    f"{TOKENS} tokens, 50 a second, {name}",
                    lambda: _talk(api, 0.02),
                    talking,
                    1.0,
                )
        finally:
            await server.stop()


async def _costs(
    server: Greenroom, of: str, work: Callable[[], Awaitable[None]], clients: int, seconds: float
) -> None:
    """Prints the CPU of each kind of process, and the bytes of WAL, of each piece of work."""
    done = 0
    watch, wal, before = Stopwatch(), await _wal(server), _cpu_of(server)

    async def client() -> None:
        nonlocal done
        while watch.s < seconds:
            await work()
            done += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s = watch.s
    cpu_ms = {
        kind: round((used_s - before.get(kind, 0.0)) * 1000 / done, 2)
        for kind, used_s in _cpu_of(server).items()
    }
    wal_kib = (await _wal(server) - wal) / 1024 / done
    said(cpu_ms_of=of, a_second=round(done / elapsed_s, 1), wal_kib=round(wal_kib, 1), **cpu_ms)


async def _talk(api: Api, delay_s: float) -> None:
    messages = [{"role": "user", "content": "hi"}]
    values = {"messages": messages, "n_tokens": TOKENS, "delay": delay_s}
    async for _ in api.stream(await api.thread(), "agent", values, "messages-tuple"):
        pass


async def _wal(server: Greenroom) -> int:
    """Returns how many bytes the database has written to its log."""
    from greenroom.persistence.embedded import start_embedded

    embedded = await asyncio.to_thread(start_embedded, server.database)
    try:
        async with await AsyncConnection.connect(embedded.dsn) as connection:
            found = await connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            (bytes_written,) = await found.fetchone() or (0,)
            return int(bytes_written)
    finally:
        embedded.release()


def _cpu_of(server: Greenroom) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for process in server.processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[_kind(process)] += times.user + times.system
    return found


def _kind(process: psutil.Process) -> str:
    title = " ".join(process.cmdline()[:1]) or process.name()
    return next((kind for part, kind in KINDS.items() if part in title), "Ray and others")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("what", choices=("streams", "stored", "constants"))
    parser.add_argument("--runs", type=int, help="default 10,000; stored: 10,000,000")
    parser.add_argument("--threads", type=int, default=1_000_000, help="of stored runs")
    parser.add_argument("--requests", type=int, default=200, help="of each kind, to stored runs")
    parser.add_argument("--wait", type=float, help="seconds that each run waits")
    parser.add_argument("--http1", action="store_true", help="a connection for each stream")
    given = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="greenroom-scale-"))
    server = Greenroom("scale", "", scratch / "server", "scale.json")

    async def measure() -> None:
        try:
            if given.what == "constants":
                await constants(scratch)
            elif given.what == "streams":
                runs = given.runs or 10_000
                wait_s = given.wait or 90.0 + runs / 50
                await streams(server, runs, wait_s, over_http1=given.http1)
            else:
                await stored(server, given.threads, given.runs or 10_000_000, given.requests)
        finally:
            await server.stop()

    raise_open_files()
    try:
        uvloop.run(measure())
    except RuntimeError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
