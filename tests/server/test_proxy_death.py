"""HAProxy, through which everything comes, is killed: clients come back and miss nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import httpx
import psutil
from langgraph_sdk.client import LangGraphClient

from tests.serving import Served

RUN = {"steps": 60, "delay": 0.1}
AWAY_S = 60.0
"""Ray Serve looks every second, and starts a proxy anew after three failed looks; here machines
are busy."""


def proxies(server: Served) -> list[psutil.Process]:
    found = []
    for process in server.descendants():
        with suppress(psutil.NoSuchProcess):
            if process.name() == "haproxy":
                found.append(process)
    return found


async def until_it_answers(http: httpx.AsyncClient) -> float:
    """Seconds until somebody answers again; at least once nobody does."""
    begun_s, refused = time.monotonic(), False
    while True:
        try:
            if (await http.get("/ok")).is_success and refused:
                return time.monotonic() - begun_s
        except httpx.TransportError:
            refused = True
        await asyncio.sleep(0.05)


async def test_who_reconnects_after_the_death_of_the_proxy_misses_nothing(
    client: LangGraphClient, http: httpx.AsyncClient, server: Served
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    run = await client.runs.create(
        thread_id, "slow", input=RUN, stream_mode="updates", stream_resumable=True
    )
    parts, last, away = [], "-1", None
    async with asyncio.timeout(2 * AWAY_S):
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                async for part in client.runs.join_stream(
                    thread_id, run["run_id"], last_event_id=last
                ):
                    parts.append(part)
                    last = part.id or last
                    if len(parts) == 5 and away is None:
                        (proxy,) = proxies(server)
                        proxy.kill()
                        away = asyncio.create_task(until_it_answers(http))
                if len([p for p in parts if "step" in p.data]) == RUN["steps"]:
                    break
            await asyncio.sleep(0.1)
    assert away is not None
    assert await away < AWAY_S
    steps = [p.data["step"]["trail"][0] for p in parts if p.event == "updates" and "step" in p.data]
    assert steps == [str(n) for n in range(1, RUN["steps"] + 1)]
    sequence = [int(part.id.partition("-")[2]) for part in parts if part.id]
    assert sequence == sorted(set(sequence))
    assert [p.data["attempt"] for p in parts if p.event == "metadata"] == [1]
    assert len(proxies(server)) == 1
    assert (await http.get("/ok")).is_success
    print(f"{away.result()=}")
