"""A database that stands still, or is locked: Stop stops, and afterwards all goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psutil
import pytest

from tests.reliability.conftest import GRACE_S
from tests.reliability.test_registries import database_of
from tests.reliability.test_run_deaths import begin, thread
from tests.reliability.witness import Effects, Seen, is_warm, process_of, view_into
from tests.serving import Served
from tests.waiting import BOUND_S, until

SUITE_S = 4.0
LONG_S = 70.0
"""Longer than two transactions of the registry may take."""


@asynccontextmanager
async def stopped_database(server: Served) -> AsyncIterator[None]:
    """PostgreSQL and all of its processes get no CPU, as on a machine that swaps."""
    postmaster = int((server.data_dir / "pg" / "data" / "postmaster.pid").read_text().split()[0])
    parent = psutil.Process(postmaster)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


async def blocking(
    http: httpx.AsyncClient, effects: Effects, thread_id: str, how: str
) -> tuple[str, asyncio.Task[None]]:
    """A run whose node has begun and does not listen; and who views it."""
    seen = Seen(heard=effects.heard())
    state = {"how": how, "heard": str(seen.heard)}
    body = {"assistant_id": "stubborn", "input": state, "stream_mode": ["custom"]}
    path = f"/threads/{thread_id}/runs/stream"
    viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
    await until(lambda: seen.of("custom"))
    return seen.of("metadata")[0]["run_id"], viewer


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def over(http: httpx.AsyncClient, thread_id: str, run_id: str) -> str:
    async def ended() -> str | None:
        answer = await http.get(f"/threads/{thread_id}/runs/{run_id}")
        status = answer.json().get("status") if answer.is_success else None
        return status if status not in (None, "pending", "running") else None

    return await until(ended, within_s=BOUND_S)  # type: ignore[return-value]


async def test_stop_stops_a_run_while_postgresql_stands_still(
    server: Served, http: httpx.AsyncClient, effects: Effects
) -> None:
    """The actor is told, and killed after its grace, before anything is stored."""
    await is_warm(http)
    thread_id = await thread(http)
    run_id, viewer = await blocking(http, effects, thread_id, "sleep")
    process = await process_of(http, run_id)
    async with stopped_database(server):
        asked_s = time.monotonic()
        path = f"/threads/{thread_id}/runs/{run_id}/cancel"
        cancelling = asyncio.create_task(http.post(path))
        await until(lambda: is_gone(process), within_s=8 * GRACE_S)
        assert time.monotonic() - asked_s >= GRACE_S - 0.5
    answer = await asyncio.wait_for(cancelling, BOUND_S)
    assert answer.is_success, answer.text
    assert await over(http, thread_id, run_id) == "interrupted"
    await asyncio.wait_for(viewer, BOUND_S)
    after = {"assistant_id": "steps", "input": {"n": 2, "i": 0}}
    assert (await http.post(f"/threads/{thread_id}/runs/wait", json=after)).json()["i"] == 2


@pytest.mark.parametrize("lock_s", [SUITE_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
@pytest.mark.timeout(400)
async def test_after_a_lock_on_the_registrys_tables_all_goes_on(
    server: Served, http: httpx.AsyncClient, effects: Effects, lock_s: float
) -> None:
    """Under it one run ends, one loses its process and one is cancelled."""
    await is_warm(http)
    ending, dying, stopping = [await thread(http) for _ in range(3)]
    short = effects.input(n=3, delay=0.1)
    ends = await begin(http, ending, assistant_id="steps", input=short)
    state = effects.input(n=20, delay=0.1)
    dies = await begin(http, dying, assistant_id="steps", input=state, durability="sync")
    stops, viewer = await blocking(http, effects, stopping, "swallow")
    process = await process_of(http, dies)
    async with database_of(server) as database:
        async with database.transaction():
            await database.execute("LOCK TABLE greenroom.runs")
            process.kill()
            path = f"/threads/{stopping}/runs/{stops}/cancel"
            cancelling = asyncio.create_task(http.post(path))
            await asyncio.sleep(lock_s)
    answer = await asyncio.wait_for(cancelling, BOUND_S)
    # Longer than a client waits: the run was told all the same.
    assert answer.is_success or answer.status_code == 503, answer.text
    assert await over(http, ending, ends) == "success"
    assert await over(http, dying, dies) == "success"
    assert await over(http, stopping, stops) == "interrupted"
    await asyncio.wait_for(viewer, BOUND_S)
    for thread_id in (ending, dying, stopping):
        after = {"assistant_id": "steps", "input": {"n": 2, "i": 0, "delay": 0.0}}
        found = await http.post(f"/threads/{thread_id}/runs/wait", json=after)
        assert found.json()["i"] == 2, found.text
