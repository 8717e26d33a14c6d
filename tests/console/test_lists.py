"""Crons, webhooks, the runtime at this moment, and graphs in which the running node is lit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.core.identity import system_assistant_id
from tests.console.conftest import Place
from tests.receiving import receiving
from tests.waiting import until


@pytest.fixture
def place(open_place: Place) -> Place:
    return open_place


async def test_a_cron_is_switched_off_and_on_and_deleted(place: Place) -> None:
    cron: Any = await place.client.crons.create(
        "talkative", schedule="30 4 1 1 *", timezone="Europe/Berlin", input={"messages": []}
    )
    told = await place.see("lists.switches", cron=cron["cron_id"], graph="talkative")
    for each in ("30 4 1 1 *", "Europe/Berlin", "a new one each time"):
        assert each in told["shown"]
    assert told["kept"] == 1
    left = await place.client.crons.search(assistant_id=cron["assistant_id"], limit=1000)
    assert cron["cron_id"] not in [each["cron_id"] for each in left]


async def test_a_webhook_is_sent_again(place: Place) -> None:
    async with receiving() as receiver:
        thread = (await place.client.threads.create())["thread_id"]
        await place.client.runs.wait(thread, "counter", input={"count": 1}, webhook=receiver.url)
        first = await receiver.next()
        [run] = await place.client.runs.list(thread)
        told = await place.see("lists.sendsAgain", delivery=run["run_id"])
        second = await receiver.next()
    assert f"127.0.0.1:{receiver.port}" in told["shown"]
    assert second.headers["webhook-id"] == first.headers["webhook-id"] == run["run_id"]


@pytest.fixture
async def run(place: Place) -> AsyncIterator[dict[str, Any]]:
    """A run that goes on until the test is over."""
    thread = (await place.client.threads.create())["thread_id"]
    given = {"steps": 2000, "delay": 0.2}
    run: Any = await place.client.runs.create(thread, "slow", input=given)

    async def goes_on() -> bool:
        return (await place.client.runs.get(thread, run["run_id"]))["status"] == "running"

    await until(goes_on)
    yield run
    found = await place.client.runs.get(thread, run["run_id"])
    if found["status"] == "running":
        await place.client.runs.cancel(thread, run["run_id"], wait=True)


async def test_a_run_is_seen_on_its_actor(place: Place, run: dict[str, Any]) -> None:
    names = {"run": run["run_id"], "thread": run["thread_id"], "node": "step"}
    told = await place.see("lists.watched", **names)
    assert "busy" in told["row"]
    assert "MiB" in told["row"]
    assert told["tiles"][0].split()[0] == "Running"
    assert int(told["tiles"][0].split()[1]) >= 1
    assert any("busy" in each for each in told["pools"])
    assert told["whileHidden"] == 0


async def test_the_node_that_runs_is_lit(place: Place, run: dict[str, Any]) -> None:
    told = await place.see(
        "lists.lit",
        assistant=system_assistant_id("slow"),
        node="step",
        run=run["run_id"],
        thread=run["thread_id"],
    )
    assert told["told"] == "step: 1 run here now"
    assert "step may lead to end" in told["words"]
    assert told["listed"] == 1
