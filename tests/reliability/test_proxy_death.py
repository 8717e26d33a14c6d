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
from tests.reliability.witness import Effects, proxies
from tests.serving import serving

LENGTH = 60
AWAY_S = 10.0
"""Two seconds where the machine has time; Ray Serve alone takes five there."""


async def until_it_answers(url: str) -> float:
    """Seconds until somebody who comes now is answered."""
    begun_s = time.monotonic()
    while True:
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(base_url=url, timeout=AWAY_S) as http:
                if (await http.get("/ok")).is_success:
                    return time.monotonic() - begun_s
        await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_who_reconnects_after_the_death_of_the_proxy_misses_nothing(
    tmp_path: Path, effects: Effects
) -> None:
    """The SDK joins the run again with the id of the last event that it saw."""
    with serving(tmp_path / "server", MORTAL) as server:
        async with get_client(url=server.url) as client:
            thread_id = (await client.threads.create())["thread_id"]
            state = effects.input(n=LENGTH, delay=0.1)
            run = await client.runs.create(thread_id, "steps", input=state, **KEPT)
            parts, last, away = [], "-1", None
            async with asyncio.timeout(60 + 2 * AWAY_S):
                while not parts or parts[-1].data.get("i") != LENGTH:
                    joined = client.runs.join_stream(
                        thread_id, run["run_id"], last_event_id=last, stream_mode=["values"]
                    )
                    with suppress(httpx.TransportError, httpx.HTTPStatusError):
                        async for part in joined:
                            parts.append(part)
                            last = part.id or last
                            if len(parts) == 5 and away is None:
                                # There may be two, and the older one may have the stream.
                                killed = proxies(server)
                                for proxy in killed:
                                    with suppress(psutil.NoSuchProcess):
                                        proxy.kill()
                                await asyncio.to_thread(psutil.wait_procs, killed, 10)
                                away = asyncio.create_task(until_it_answers(server.url))
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
            # The one that stood in goes when Serve's new one is there.
            async with asyncio.timeout(60):
                while len(proxies(server)) != 1:  # noqa: ASYNC110 - a process tells nobody
                    await asyncio.sleep(0.1)
