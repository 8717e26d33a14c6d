"""What a run and an event take of each kind of process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from psycopg import AsyncConnection

from benchmarks.client import Api, Stopwatch, gathered
from benchmarks.scale.figures import cpu_of, said, trivial
from benchmarks.subjects import Greenroom

TOKENS = 1000


async def constants(scratch: Path, seconds: float = 15.0) -> None:
    """Measures what trivial runs and streamed tokens take, isolated and dense."""
    for name, configuration in (("isolated", "langgraph.json"), ("dense", "dense.json")):
        server = Greenroom(name, "", scratch / name, configuration)
        await server.start()
        try:
            async with server.connect(40) as api:
                await gathered(lambda: trivial(api), 400, 8)
                await asyncio.sleep(10.0)  # actors that the first runs have wanted are there
                await _costs(server, f"a {name} run", lambda: trivial(api), 32, seconds)
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
    watch, wal, before = Stopwatch(), await _wal(server), cpu_of(server)

    async def client() -> None:
        nonlocal done
        while watch.s < seconds:
            await work()
            done += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s = watch.s
    cpu_ms = {
        kind: round((used_s - before.get(kind, 0.0)) * 1000 / done, 2)
        for kind, used_s in cpu_of(server).items()
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
