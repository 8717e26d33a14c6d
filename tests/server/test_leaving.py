"""Clients that leave before anything was answered have left all the same (`on_disconnect`)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import httpx

from tests.serving import Served

CLIENTS = 100
LONGEST_S = (0.3, 1.0, 5.0, 20.0)
"""The next one only when the server was too busy to admit a run in the time before."""
BOUND_S = 120.0


async def leave_soon(http: httpx.AsyncClient, path: str, after_s: float) -> None:
    """Asks for a run that would take half a minute, and breaks the connection."""
    body = {
        "assistant_id": "slow",
        "input": {"steps": 300, "delay": 0.1},
        "on_disconnect": "cancel",
        "multitask_strategy": "enqueue",
    }
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(after_s), http.stream("POST", path, json=body) as answer:
            async for _ in answer.aiter_raw():
                pass


async def runs_of(http: httpx.AsyncClient, thread_id: str) -> list[dict[str, Any]]:
    return (await http.get(f"/threads/{thread_id}/runs?limit=100")).json()


async def over(http: httpx.AsyncClient, threads: list[str]) -> list[str]:
    """How the runs of the threads ended, once they all have."""
    async with asyncio.timeout(BOUND_S):
        while True:
            found = [run for thread_id in threads for run in await runs_of(http, thread_id)]
            statuses = [run["status"] for run in found]
            if not {"pending", "running"} & set(statuses):
                return statuses
            await asyncio.sleep(0.2)


async def test_runs_of_clients_that_leave_at_once_are_cancelled(server: Served) -> None:
    """On a thread for each ten of them: some leave before their run is stored, some while it is,
    some while it waits, some while it is executed."""
    limits = httpx.Limits(max_connections=2 * CLIENTS, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:
        threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(10)]
        draw = random.Random(7)
        statuses: list[str] = []
        for longest_s in LONGEST_S:
            await asyncio.gather(
                *(
                    leave_soon(
                        http,
                        f"/threads/{threads[number % 10]}/runs/{('stream', 'wait')[number % 2]}",
                        draw.uniform(0, longest_s),
                    )
                    for number in range(CLIENTS)
                )
            )
            statuses = await over(http, threads)
            if statuses:
                break
    assert statuses, "nobody's run was admitted: this test shows nothing"
    assert set(statuses) == {"interrupted"}


async def test_a_run_of_a_client_that_leaves_goes_on_if_it_shall(server: Served) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "slow", "input": {"steps": 5, "delay": 0.1}}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await http.post(f"/threads/{thread_id}/runs/wait", json=body)
        assert set(await over(http, [thread_id])) <= {"success"}
