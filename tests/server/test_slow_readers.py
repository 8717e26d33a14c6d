"""What clients cost that ask for a stream and then read nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.serving import Served, serving

MIB = 1024 * 1024
BOUND_S = 120.0
BUSY = ("pending", "running")
JOINED_S = 4.0
"""How long the run waits for its readers: who comes before its start gets all of it."""

GRAPH = """
from typing_extensions import TypedDict
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    events: int


async def talk(state: State):
    for _ in range(state["events"]):
        get_stream_writer()("x" * 1_000_000)
    return {}


graph = StateGraph(State)
graph.add_node("talk", talk)
graph.add_edge(START, "talk")
graph.add_edge("talk", END)
talkative = graph.compile()
"""


@dataclass
class Memory:
    """What gateway and run actors hold more than before."""

    server: Served
    before: dict[int, int] = field(default_factory=dict)
    most_mib: float = 0.0

    def processes(self) -> list[psutil.Process]:
        kinds = ("ServeReplica", "RunActor")
        return [p for title, p in self.server.actors().items() if title.startswith(kinds)]

    def begin(self) -> None:
        self.before = {p.pid: p.memory_info().rss for p in self.processes()}

    def mib(self) -> float:
        grown = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                rss = process.memory_info().rss
                # A process that was made meanwhile counts with what it holds beside others.
                grown += max(0, rss - self.before.setdefault(process.pid, rss))
        return grown / MIB

    async def watch(self) -> None:
        while True:
            self.most_mib = max(self.most_mib, await asyncio.to_thread(self.mib))
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def deaf(url: str, path: str, count: int) -> AsyncIterator[list[socket.socket]]:
    """Clients that ask for a stream and read nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.socket()
            connection.setblocking(False)
            connections.append(connection)
            await loop.sock_connect(connection, (host, int(port)))
            await loop.sock_sendall(
                connection, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def ended(http: httpx.AsyncClient, path: str) -> str:
    async with asyncio.timeout(BOUND_S):
        while (status := (await http.get(path)).json()["status"]) in BUSY:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        return status


async def settled(memory: Memory, mib: float) -> float:
    """What is held once it is no more than so much, or in the end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BOUND_S / 4):
            while memory.mib() > mib:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.5)
    return memory.mib()


async def cost_of(server: Served, body: dict[str, object], readers: int) -> tuple[float, float]:
    """MiB at most while the run and its deaf readers were there, and after they had left."""
    memory = Memory(server)
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        runs = f"/threads/{thread_id}/runs"
        warm = {**body, "input": {}} if body["assistant_id"] == "counter" else {**body}
        await http.post(f"{runs}/wait", json=warm | {"input": {"count": 0, "events": 1}})
        memory.begin()
        watching = asyncio.create_task(memory.watch())
        try:
            waiting_s = JOINED_S + readers / 50
            run = (await http.post(runs, json={**body, "after_seconds": waiting_s})).json()
            async with deaf(server.url, f"{runs}/{run['run_id']}/stream", readers) as clients:
                assert await ended(http, f"{runs}/{run['run_id']}") == "success"
                await asyncio.sleep(2)  # what is on its way to them arrives
                waiting = [len(each.recv(MIB, socket.MSG_PEEK)) for each in clients]
                assert min(waiting) > 10_000, "somebody came too late"
        finally:
            watching.cancel()
        return memory.most_mib, await settled(memory, 120)


async def test_readers_that_never_read_cost_little(server: Served) -> None:
    """Forty of them, beside a run with some twenty events of 1 MB: the log itself, and what waits
    for each reader, not the events once for each."""
    body = {
        "assistant_id": "counter",
        "input": {"count": 0, "log": ["x" * 1_000_000]},
        "stream_mode": ["values", "debug", "tasks", "checkpoints"],
    }
    most_mib, left_mib = await cost_of(server, body, readers=40)
    print(f"most {most_mib:.0f} MiB, left {left_mib:.0f} MiB")
    assert most_mib <= 250
    assert left_mib <= 150


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_five_hundred_readers_that_never_read_cost_half_a_gibibyte(tmp_path: Path) -> None:
    """Beside a run with 60 events of 1 MB; 64 MiB of that are the run's log."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "talking.py").write_text(GRAPH)
    config = folder / "langgraph.json"
    config.write_text(
        json.dumps({"dependencies": ["."], "graphs": {"talkative": "./talking.py:talkative"}})
    )
    with serving(tmp_path / "data", config) as served:
        body = {
            "assistant_id": "talkative",
            "input": {"events": 60},
            "stream_mode": ["custom"],
        }
        most_mib, left_mib = await cost_of(served, body, readers=500)
    print(f"most {most_mib:.0f} MiB, left {left_mib:.0f} MiB")
    assert most_mib <= 500
    assert left_mib <= 200
