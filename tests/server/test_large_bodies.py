"""What large request bodies cost the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import httpx
import psutil
import pytest

from tests.serving import Served

MIB = 1024 * 1024
BOUND_S = 120.0
ASKING = """
import http.client, sys, threading, time

stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
connection = http.client.HTTPConnection(sys.argv[1], timeout=float(sys.argv[2]))
slowest_s = 0.0
while not stopped.wait(0.01):
    asked_s = time.monotonic()
    connection.request("GET", "/ok")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    slowest_s = max(slowest_s, time.monotonic() - asked_s)
print(slowest_s)
"""


def large(size: int) -> bytes:
    """JSON of so many small objects: as Python's, 25 times as large."""
    return b'{"assistant_id":"ctx","after_seconds":3600,"input":{"pad":[%b]}}' % b",".join(
        [b'{"a":1}'] * (size // 8)
    )


def gateways(server: Served) -> list[psutil.Process]:
    return [p for title, p in server.actors().items() if title.startswith("ServeReplica")]


def held_mib(processes: list[psutil.Process]) -> float:
    """By the processes and what they have started.

    A child that has not executed its program yet has the memory and the title of its parent.
    """
    total = 0
    for process in processes:
        total += process.memory_info().rss
        for child in process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.cmdline() != process.cmdline():
                    total += child.memory_info().rss
    return total / MIB


async def cost(server: Served, http: httpx.AsyncClient, body: bytes, count: int) -> list[float]:
    """The most MiB that the gateway held more, and the longest that ``/ok`` took meanwhile."""
    processes = gateways(server)
    before, most = held_mib(processes), 0.0
    stopped = asyncio.Event()
    # A process of its own: this one is busy with the bodies.
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASKING, server.url.removeprefix("http://"), str(BOUND_S)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def watch() -> None:
        nonlocal most
        while not stopped.is_set():
            most = max(most, await asyncio.to_thread(held_mib, processes))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    headers = {"content-type": "application/json"}
    try:
        answers = await asyncio.gather(
            *(http.post("/runs", content=body, headers=headers) for _ in range(count))
        )
    finally:
        stopped.set()
        await watching
        slowest_s, _ = await asking.communicate(b"")
    for answer in answers:
        assert answer.status_code == 200, answer.text[:300]
        run = answer.json()
        path = f"/threads/{run['thread_id']}/runs/{run['run_id']}/cancel?action=rollback"
        assert (await http.post(path)).status_code < 300
    return [most - before, float(slowest_s)]


async def test_a_large_body_costs_the_gateway_no_more_than_six_times_its_bytes(
    server: Served,
) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        await cost(server, http, large(4 * MIB), 1)
        body = large(20 * MIB)
        most_mib, slowest_s = await cost(server, http, body, 1)
    print(f"most {most_mib:.0f} MiB of {len(body) / MIB:.0f}, /ok at most {slowest_s:.3f} s")
    # The process that takes it apart has a dozen MiB of its own.
    assert most_mib <= 6 * len(body) / MIB + 20


@pytest.mark.slow
async def test_two_bodies_of_53_mb(server: Served) -> None:
    """`/ok` took at most 34 to 84 ms in six rounds; the machine may have a load besides."""
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        body = large(53_000_000)
        most_mib, slowest_s = await cost(server, http, body, 2)
    print(f"most {most_mib:.0f} MiB of {2 * len(body) / MIB:.0f}, /ok at most {slowest_s:.3f} s")
    assert most_mib <= 6 * 2 * len(body) / MIB + 40
    assert slowest_s < 1.0
