"""Updates of a state whose answer is lost: applied once, whoever dies over it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.reliability.mortal_graphs import told
from tests.reliability.test_run_deaths import thread
from tests.reliability.witness import is_warm, process_titled
from tests.serving import Served
from tests.waiting import BOUND_S, until

UPDATE = {"values": {"log": ["x"]}, "as_node": "step"}


class Wary:
    """A thread of a graph whose factory does what it is told when it is closed."""

    def __init__(self, http: httpx.AsyncClient, thread_id: str) -> None:
        self.http = http
        self.thread_id = thread_id
        self.told = told(thread_id)
        self.closing: Path = self.told.with_suffix(".closing")

    def forget(self) -> None:
        for path in (self.told, self.closing):
            path.unlink(missing_ok=True)

    def closed(self) -> int:
        return len(self.closing.read_text().splitlines()) if self.closing.exists() else 0

    async def log(self) -> list[str]:
        state = await self.http.get(f"/threads/{self.thread_id}/state")
        return state.raise_for_status().json()["values"]["log"]

    async def history(self) -> list[Any]:
        found = await self.http.post(f"/threads/{self.thread_id}/history", json={"limit": 100})
        return found.raise_for_status().json()

    async def update(self) -> httpx.Response:
        async with asyncio.timeout(BOUND_S):
            path = f"/threads/{self.thread_id}/state"
            return await self.http.post(path, json=UPDATE, timeout=BOUND_S)


@pytest.fixture
async def wary(http: httpx.AsyncClient) -> Any:
    await is_warm(http)
    wary = Wary(http, await thread(http))
    run = {"assistant_id": "wary", "input": {"n": 1}}
    answer = await http.post(f"/threads/{wary.thread_id}/runs/wait", json=run)
    assert answer.raise_for_status().json()["i"] == 1
    try:
        yield wary
    finally:
        wary.forget()


async def test_an_update_is_applied_once_although_the_registry_dies_over_it(
    wary: Wary, server: Served
) -> None:
    """B4: it was asked for again, and the value stood there twice."""
    before, checkpoints = await wary.log(), len(await wary.history())
    wary.told.write_text("sleep")
    updating = asyncio.create_task(wary.update())
    await until(wary.closed)
    process_titled(server, "RegistryActor").kill()
    answer = (await updating).raise_for_status().json()
    wary.forget()
    assert await wary.log() == [*before, "x"]
    newest, *older = await wary.history()
    assert len(older) == checkpoints
    assert answer["checkpoint_id"] == newest["checkpoint_id"]


async def test_an_update_whose_process_dies_over_it_is_applied_once_and_answered(
    wary: Wary, server: Served
) -> None:
    """B4: it was applied 13 times, and each time another process was killed."""
    before, checkpoints = await wary.log(), len(await wary.history())
    wary.told.write_text("die")
    answer = await wary.update()
    assert answer.status_code == 503
    assert "detail" in answer.json()
    assert wary.closed() <= 3
    wary.forget()
    assert await wary.log() == [*before, "x"]
    assert len(await wary.history()) == checkpoints + 1
