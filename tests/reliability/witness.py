"""What can be known from outside: side effects, streams, processes."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.serving import Served
from tests.waiting import until

GATEWAY = "ServeReplica:greenroom:gateway"
HANGS_S = 30.0
"""From here on it hangs. What a test blocks stays so for a minute, and no machine is so slow."""


@dataclass
class Effects:
    """The file in which nodes leave their traces, and markers for dying once."""

    directory: Path
    marks: int = 0

    @property
    def path(self) -> Path:
        return self.directory / "effects"

    def __post_init__(self) -> None:
        self.path.touch()

    def of(self, run_id: str) -> Counter[str]:
        lines = [line.split(" ") for line in self.path.read_text().splitlines()]
        return Counter(name for found, name, _ in lines if found == run_id)

    def input(self, **state: Any) -> dict[str, Any]:
        return {"effects": str(self.path), **state}

    def heard(self) -> Path:
        """A file of a run's own: its node does not listen before who views the run made it."""
        self.marks += 1
        return self.directory / f"heard-{self.marks}"

    def death(self, at: str, how: str = "kill", *, always: bool = False) -> dict[str, Any]:
        self.marks += 1
        once = None if always else str(self.directory / f"died-{self.marks}")
        return {"at": at, "how": how, "once": once}


@dataclass
class Seen:
    """What one viewer got of a stream.

    Attributes:
        events: ``(id, name, data)``.
        gap_s: the longest silence between two events.
        heard: a file to make at each event that a node wrote itself.
    """

    events: list[tuple[str | None, str, Any]] = field(default_factory=list)
    gap_s: float = 0.0
    last_s: float = 0.0
    heard: Path | None = None

    def add(self, event_id: str | None, name: str, data: Any) -> None:
        now_s = time.monotonic()
        if self.last_s:
            self.gap_s = max(self.gap_s, now_s - self.last_s)
        self.last_s = now_s
        self.events.append((event_id, name, data))
        if self.heard is not None and name == "custom":
            self.heard.touch()

    def of(self, name: str) -> list[Any]:
        return [data for _, found, data in self.events if found == name]

    @property
    def attempts(self) -> list[int]:
        return [data["attempt"] for data in self.of("metadata") if "attempt" in data]

    @property
    def numbers(self) -> list[int]:
        return [int(event_id.partition("-")[2]) for event_id, _, _ in self.events if event_id]

    @property
    def steps(self) -> list[int]:
        """The steps that ``updates`` told of."""
        return [data["step"]["i"] for data in self.of("updates") if "step" in data]


def told_as_done(seen: Seen, done: Counter[str], last: int) -> None:
    """Every step in its order up to the last, and twice only what was executed twice: a step that
    had been reported and not yet checkpointed when its process died."""
    steps = seen.steps
    assert sorted(set(steps)) == list(range(steps[0], last + 1))
    assert steps == sorted(steps)
    for step, times in Counter(steps).items():
        assert times <= done[f"step-{step}"]


async def frames(response: httpx.Response) -> AsyncIterator[tuple[str | None, str, Any]]:
    event_id, name, data = None, "", ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "id":
            event_id = value
        elif key == "event":
            name = value
        elif key == "data":
            data += value
        elif not line and (name or data):
            yield event_id, name, json.loads(data) if data else None
            event_id, name, data = None, "", ""


async def view(
    http: httpx.AsyncClient, method: str, path: str, *, last: str | None = None, **kwargs: Any
) -> Seen:
    """Reads a stream to its end, as one connection."""
    seen = Seen()
    await view_into(seen, http, method, path, last=last, **kwargs)
    return seen


async def view_into(
    seen: Seen,
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    last: str | None = None,
    **kwargs: Any,
) -> None:
    headers = {"last-event-id": last} if last is not None else {}
    async with http.stream(method, path, headers=headers, **kwargs) as response:
        response.raise_for_status()
        async for event in frames(response):
            seen.add(*event)


async def process_of(http: httpx.AsyncClient, run_id: str) -> psutil.Process:
    """The process that executes a run; waits for it."""

    async def find() -> psutil.Process | None:
        for member in (await http.get("/info")).json()["counts"]["pool"]:
            if run_id in member["runs"] and member["pid"]:
                return psutil.Process(member["pid"])
        return None

    return await until(find)  # type: ignore[arg-type]


def process_titled(server: Served, title: str) -> psutil.Process:
    return next(process for name, process in server.actors().items() if name.startswith(title))


def titled(server: Served, title: str) -> list[psutil.Process]:
    return [process for name, process in server.actors().items() if name.startswith(title)]


def gateways_of(server: Served) -> list[psutil.Process]:
    """The gateways that answer: of two, HAProxy has its connections with one. Serve's own proxy
    shares the requests among all."""
    gateways = titled(server, GATEWAY)
    if not gateways:
        raise ValueError("There is no gateway now.")
    through = proxies(server)
    if not through:
        return gateways
    ports = Counter(
        connection.raddr.port
        for proxy in through
        for connection in proxy.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED
    )

    def connections(gateway: psutil.Process) -> int:
        own = gateway.net_connections("tcp")
        return sum(ports[each.laddr.port] for each in own if each.status == psutil.CONN_LISTEN)

    return [max(gateways, key=connections)]


def kill_gateways(server: Served) -> None:
    """Kills the gateways that answer."""
    for gateway in gateways_of(server):
        gateway.kill()


def proxies(server: Served) -> list[psutil.Process]:
    """Its HAProxy processes."""
    found = []
    for process in server.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == "haproxy":
                found.append(process)
    return found


async def is_warm(http: httpx.AsyncClient, graph_pool: int = 1) -> None:
    """Waits until somebody is free again, so that a recovery does not wait for imports."""

    async def free() -> bool:
        pool = (await http.get("/info")).json()["counts"]["pool"]
        return sum(m["state"] == "ready" and not m["runs"] for m in pool) >= 3

    await until(free)


async def idle(http: httpx.AsyncClient, thread_id: str) -> dict[str, Any]:
    thread = (await http.get(f"/threads/{thread_id}")).json()
    assert thread["status"] in ("idle", "error"), thread["status"]
    return thread
