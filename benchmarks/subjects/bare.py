"""LangGraph without a server."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import Stopwatch
from benchmarks.processes import Processes
from benchmarks.subjects.subject import Connected, Subject

BARE_CONNECTIONS = 8


class Bare(Subject):
    """LangGraph in this process, durable in an embedded PostgreSQL: the limit for any server.

    Args:
        scratch: an empty directory.
        pooled: without the lock of the stock saver, which serialises its calls.
    """

    def __init__(self, scratch: Path, *, pooled: bool) -> None:
        self.name = "bare-pooled" if pooled else "bare"
        self.title = f"bare LangGraph, {'our pooled' if pooled else 'stock'} saver"
        self._pooled = pooled
        self._directory = scratch / "pg"
        self._graphs: dict[str, Any] = {}

    async def start(self) -> float:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

        from greenroom.persistence.checkpoints import PooledSaver
        from greenroom.persistence.database import open_pool
        from greenroom.persistence.embedded import start_embedded
        from greenroom.persistence.migrations import migrate

        watch = Stopwatch()
        self._database = await asyncio.to_thread(start_embedded, self._directory)
        self._pool = await open_pool(
            self._database.dsn, application_name="bench", min_size=1, max_size=BARE_CONNECTIONS
        )
        pool: Any = self._pool
        await migrate(self._database.dsn)
        saver = PooledSaver(pool) if self._pooled else AsyncPostgresSaver(pool)
        graphs = _bench_graphs()
        for name in ("agent", "trivial", "slow", "blob", "burst", "burn"):
            self._graphs[name] = getattr(graphs, name).copy(update={"checkpointer": saver})
        self.processes = Processes(os.getpid(), self._directory, alone=True)
        return watch.s

    async def stop(self) -> None:
        if self._graphs:
            self._graphs = {}
            await self._pool.close()
            await asyncio.to_thread(self._database.stop)

    @asynccontextmanager
    async def connect(self, connections: int) -> AsyncGenerator[Connected]:
        yield self

    async def thread(self) -> str:
        return str(uuid.uuid4())

    async def wait(self, thread_id: str, graph: str, values: dict[str, Any]) -> None:
        await self._graphs[graph].ainvoke(values, _config(thread_id))

    async def stream(
        self, thread_id: str, graph: str, values: dict[str, Any], mode: str
    ) -> AsyncIterator[int]:
        mode = "messages" if mode == "messages-tuple" else mode
        async for _ in self._graphs[graph].astream(values, _config(thread_id), stream_mode=mode):
            yield 1


def _bench_graphs() -> Any:
    from benchmarks.graphs import bench_graphs

    return bench_graphs


def _config(thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id}}
