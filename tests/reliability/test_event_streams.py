"""Event streaming beside deaths, with the Python SDK: its log has no gap, one order, and an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client

from tests.reliability.witness import Effects, is_warm, kill_gateways, process_of, process_titled
from tests.serving import Served
from tests.waiting import until

BOUND_S = 90.0
CHANNELS = ["values", "messages", "updates", "lifecycle", "input", "checkpoints"]
SLOW = {"n": 12, "delay": 0.1}


class Log:
    """What a client has seen of a thread's log."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def of(self, method: str) -> list[Any]:
        return [each["params"]["data"] for each in self.events if each["method"] == method]

    @property
    def lives(self) -> list[str]:
        return [each["event"] for each in self.of("lifecycle")]


@contextlib.asynccontextmanager
async def listening(url: str, thread_id: str, transport: Any = "sse") -> AsyncIterator[Any]:
    async with (
        get_client(url=url) as client,
        client.threads.stream(thread_id, assistant_id="steps", transport=transport) as stream,
    ):
        log = Log()

        async def listen() -> None:
            async for event in stream.subscribe(CHANNELS):
                log.events.append(event)

        task = asyncio.create_task(listen())
        try:
            yield stream, log
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def replayed(http: httpx.AsyncClient, thread_id: str, ends: int) -> list[Any]:
    """The log as a new client gets it, until so many runs have ended in it."""
    found: list[Any] = []
    path = f"/threads/{thread_id}/stream/events"
    async with (
        asyncio.timeout(BOUND_S),
        http.stream("POST", path, json={"channels": CHANNELS}) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                ends -= found[-1]["event_id"].endswith(":end")
                if not ends:
                    break
    return found


def places(events: list[Any]) -> list[tuple[str, int]]:
    return [(each["event_id"], each["seq"]) for each in events]


def in_order(events: list[Any]) -> None:
    seqs = [each["seq"] for each in events]
    assert seqs == sorted(set(seqs))
    ids = [each["event_id"] for each in events]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("transport", ["sse", "websocket"])
@pytest.mark.parametrize("victim", ["run", "registry", "gateway"])
async def test_a_log_goes_on_when_something_dies_under_it(
    http: httpx.AsyncClient, server: Served, victim: str, transport: str
) -> None:
    if (victim, transport) == ("registry", "websocket"):
        pytest.skip("The registry has no part in how the events travel.")
    await is_warm(http)
    thread_id = str(uuid.uuid4())
    async with listening(server.url, thread_id, transport) as (stream, log):
        run_id = (await stream.run.start(input=SLOW))["run_id"]
        await until(lambda: len(log.of("updates")) >= 3)
        if victim == "run":
            (await process_of(http, run_id)).kill()
        elif victim == "registry":
            process_titled(server, "RegistryActor").kill()
        else:
            kill_gateways(server)
        await until(lambda: "completed" in log.lives, within_s=BOUND_S)
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        assert log.of("values")[-1] == state["values"]
        in_order(log.events)
        assert log.lives[0] == "running"
        assert log.lives.count("completed") == 1
    again = await replayed(http, thread_id, 1)
    assert same_places(log.events, again)
    assert places(await replayed(http, thread_id, 1)) == places(again)
    in_order(again)


def same_places(seen: list[Any], again: list[Any]) -> bool:
    """Whoever comes later sees the same events at the same places. The tail may lack what was
    shown within its interval before a death, so only what is durable is compared."""
    known = dict(places(seen))
    return all(known.get(event_id, seq) == seq for event_id, seq in places(again))


async def test_every_way_to_end_is_told(http: httpx.AsyncClient, server: Served) -> None:
    """Completed, cancelled while it waits, cancelled, rolled back, killed once too often."""
    await is_warm(http)
    thread_id = str(uuid.uuid4())

    async def cancel(run_id: str, action: str) -> None:
        path = f"/threads/{thread_id}/runs/{run_id}/cancel?wait=1&action={action}"
        (await http.post(path)).raise_for_status()

    async with listening(server.url, thread_id) as (stream, log):
        first = (await stream.run.start(input={"n": 400, "delay": 0.1}))["run_id"]
        waits = (await stream.run.start(input=SLOW))["run_id"]
        await until(lambda: len(log.of("updates")) >= 2)
        await cancel(waits, "interrupt")
        await cancel(first, "interrupt")
        await until(lambda: log.lives.count("interrupted") >= 2)
        gone = (await stream.run.start(input={"n": 400, "delay": 0.1}))["run_id"]
        await until(lambda: log.lives.count("running") >= 2)
        await cancel(gone, "rollback")
        await until(lambda: log.lives.count("interrupted") >= 3)
        await stream.run.start(input={"n": 1})
        await until(lambda: "completed" in log.lives)
        in_order(log.events)
    again = await replayed(http, thread_id, 3)
    ends = {each["event_id"]: each["params"]["data"]["event"] for each in again if is_end(each)}
    assert [*ends.values()] == ["interrupted", "interrupted", "completed"]
    assert f"{first}:end" in ends
    assert f"{waits}:end" in ends


async def started(http: httpx.AsyncClient, graph: str, given: dict[str, Any]) -> str:
    """A new thread with a run for its log."""
    thread_id = str(uuid.uuid4())
    params = {"assistant_id": graph, "input": given}
    command = {"id": 1, "method": "run.start", "params": params}
    answer = await http.post(f"/threads/{thread_id}/commands", json=command)
    assert answer.json()["type"] == "success", answer.text
    return thread_id


async def told_as(http: httpx.AsyncClient, thread_id: str, end: str) -> Any:
    """Waits for the end of a thread's only run, which its log tells once; returns what it says.

    Who listened while a process died may have seen a beginning that the log does not keep.
    """
    await replayed(http, thread_id, 1)
    told = await replayed(http, thread_id, 1)
    in_order(told)
    lives = [each["params"]["data"] for each in told if each["method"] == "lifecycle"]
    assert [each["event"] for each in lives] == ["running", end]
    return lives[-1]


async def test_a_run_that_dies_too_often_or_is_out_of_time_is_told_as_failed(
    http: httpx.AsyncClient, effects: Effects
) -> None:
    deadly = {"n": 5, "die": effects.death("step-2", always=True)}
    await is_warm(http)

    async def failed(graph: str, given: dict[str, Any]) -> str:
        thread_id = await started(http, graph, given)
        end = await told_as(http, thread_id, "failed")
        assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "error"
        return str(end["error"])

    died, out_of_time = await asyncio.gather(
        failed("steps", deadly), failed("hasty", {"n": 400, "delay": 0.1})
    )
    assert "died 3 times" in died
    assert "timeout_s" in out_of_time


def is_end(event: Any) -> bool:
    return event["event_id"].endswith(":end")
