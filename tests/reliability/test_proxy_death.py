"""HAProxy, through which everything comes, is killed: clients come back and miss nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from langgraph_sdk import get_client

from tests.reliability.conftest import MORTAL
from tests.reliability.test_run_deaths import KEPT
from tests.reliability.witness import Effects
from tests.serving import Served, serving

LENGTH = 60
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


@pytest.mark.slow
async def test_who_reconnects_after_the_death_of_the_proxy_misses_nothing(
    tmp_path: Path, effects: Effects
) -> None:
    """The SDK joins the run again with the id of the last event that it saw."""
    with serving(tmp_path / "server", MORTAL) as server:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60) as http,
            get_client(url=server.url) as client,
        ):
            thread_id = (await client.threads.create())["thread_id"]
            state = effects.input(n=LENGTH, delay=0.1)
            run = await client.runs.create(thread_id, "steps", input=state, **KEPT)
            parts, last, away = [], "-1", None
            async with asyncio.timeout(2 * AWAY_S):
                while not parts or parts[-1].data.get("i") != LENGTH:
                    joined = client.runs.join_stream(
                        thread_id, run["run_id"], last_event_id=last, stream_mode=["values"]
                    )
                    with suppress(httpx.TransportError, httpx.HTTPStatusError):
                        async for part in joined:
                            parts.append(part)
                            last = part.id or last
                            if len(parts) == 5 and away is None:
                                (proxy,) = proxies(server)
                                proxy.kill()
                                away = asyncio.create_task(until_it_answers(http))
                    await asyncio.sleep(0.1)
                assert away is not None
                print(f"nobody answered for {await away:.1f} s")
            assert away.result() < AWAY_S
            steps = [
                part.data["i"] for part in parts if part.event == "values" and "i" in part.data
            ]
            assert steps == list(range(1, LENGTH + 1))
            sequence = [int(part.id.partition("-")[2]) for part in parts if part.id]
            assert sequence == sorted(set(sequence))
            assert effects.of(run["run_id"]).total() == LENGTH
            assert len(proxies(server)) == 1
