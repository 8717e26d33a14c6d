"""Crons of a real server, by the clock of the machine, with the official client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.receiving import Receiver, receiving
from tests.serving import Served

BOUND_S = 20.0


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(params=["", "/api"])
async def mounted(request: pytest.FixtureRequest, server: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url + request.param) as client:
        yield client


async def test_a_stateless_cron_fires_each_second_until_it_is_deleted(
    mounted: LangGraphClient, receiver: Receiver
) -> None:
    cron: dict[str, Any] = await mounted.crons.create(  # type: ignore[assignment]
        "counter",
        schedule="* * * * * *",
        input={"count": 0},
        metadata={"m": 1},
        webhook=receiver.url,
    )
    try:
        first, second = await receiver.next(), await receiver.next()
    finally:
        await mounted.crons.delete(cron["cron_id"])
    assert first.body["run_id"] != second.body["run_id"]
    for body in (first.body, second.body):
        assert (body["status"], body["metadata"]["m"]) == ("success", 1)
        assert body["kwargs"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    assert await mounted.crons.search(metadata={"m": 1}) == []


async def test_a_cron_is_changed_while_it_fires(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    cron: dict[str, Any] = await client.crons.create_for_thread(  # type: ignore[assignment]
        thread_id, "counter", schedule="* * * * * *", input={"count": 0}, timezone="Asia/Tokyo"
    )

    async def newest(number: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(BOUND_S):
            # There is no stream of a cron.
            while len(runs := await client.runs.list(thread_id, limit=100)) < number:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return runs  # type: ignore[return-value]

    await newest(1)
    changed = await client.crons.update(cron["cron_id"], input={"count": 40})
    fired = await newest(len(await client.runs.list(thread_id, limit=100)) + 2)
    assert fired[0]["kwargs"]["input"] == {"count": 40}
    end = datetime.now(UTC) - timedelta(seconds=1)
    changed = await client.crons.update(cron["cron_id"], end_time=end)
    assert changed["end_time"] == end.isoformat()
    number = len(await client.runs.list(thread_id, limit=100))
    (found,) = await client.crons.search(thread_id=thread_id)
    assert found["timezone"] == "Asia/Tokyo"
    assert await client.crons.count(thread_id=thread_id) == 1
    await client.threads.delete(thread_id)
    assert number >= 3
    assert await client.crons.count(thread_id=thread_id) == 0
