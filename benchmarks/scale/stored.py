"""Requests, queries and a sweep on a full database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.client import Api, Stopwatch, percentile, percentiles_of
from benchmarks.plans import Plan, open_explained
from benchmarks.scale.figures import said, trivial
from benchmarks.stored import fill
from benchmarks.subjects import Greenroom
from benchmarks.sweeping import sweeper_of
from greenroom.core.scopes import SERVER
from greenroom.core.searches import RunFilter, ThreadFilter
from greenroom.persistence.records import PostgresRecords


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
        "a trivial run": lambda _: trivial(api),
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
