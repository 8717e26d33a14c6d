"""Stop always stops, and who blocks hurts nobody else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx
import pytest

from tests.reliability.test_run_deaths import begin, thread
from tests.reliability.witness import HANGS_S, Effects, Seen, is_warm, view_into
from tests.serving import Served
from tests.waiting import until

WAYS = [("sleep", "loop"), ("c code", "swallow")]
"""Two at a time, since each waits for its grace; of each two only one takes a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocking:
    """A run that does not stop by itself, and its viewer."""

    thread_id: str
    run_id: str
    viewer: asyncio.Task[None]
    seen: Seen


async def blocking(
    http: httpx.AsyncClient, effects: Effects, how: str, graph: str = "stubborn"
) -> Blocking:
    thread_id = await thread(http)
    seen = Seen(heard=effects.heard())
    state = {"how": how, "heard": str(seen.heard)}
    body = {"assistant_id": graph, "input": state, "stream_mode": ["custom"]}
    path = f"/threads/{thread_id}/runs/stream"
    viewer = asyncio.create_task(view_into(seen, http, "POST", path, json=body))
    await until(lambda: seen.of("custom"))
    run_id = seen.of("metadata")[0]["run_id"]
    return Blocking(thread_id=thread_id, run_id=run_id, viewer=viewer, seen=seen)


async def stop(http: httpx.AsyncClient, run: Blocking) -> None:
    path = f"/threads/{run.thread_id}/runs"
    asked_s = time.monotonic()
    answer = await http.post(f"{path}/{run.run_id}/cancel", params={"wait": "true"})
    assert answer.is_success
    assert time.monotonic() - asked_s < HANGS_S
    await asyncio.wait_for(run.viewer, 10)
    assert (await http.get(f"{path}/{run.run_id}")).json()["status"] == "interrupted"
    found = (await http.get(f"/threads/{run.thread_id}")).json()
    assert found["status"] in ("idle", "interrupted")
    # The thread is free for another run.
    body = {"assistant_id": "steps", "input": {"n": 2, "i": 0}}
    assert (await http.post(f"{path}/wait", json=body)).json()["i"] == 2


@pytest.mark.parametrize("ways", WAYS, ids=" and ".join)
async def test_stop_stops_who_does_not_want_to_and_nobody_else_slows_down(
    http: httpx.AsyncClient, effects: Effects, ways: tuple[str, str]
) -> None:
    """Two runs block, another streams tokens, and `/ok` is asked all the while."""
    await is_warm(http)
    runs = await asyncio.gather(*(blocking(http, effects, how) for how in ways))

    talking = Seen()
    body = {"assistant_id": "tokens", "stream_mode": ["messages-tuple"]}
    body |= {"input": {"messages": ["hello"], "count": 60, "delay": 0.03}}
    talk = asyncio.create_task(view_into(talking, http, "POST", "/runs/stream", json=body))
    slowest_s = 0.0
    while not talk.done():
        asked_s = time.monotonic()
        (await http.get("/ok")).raise_for_status()
        slowest_s = max(slowest_s, time.monotonic() - asked_s)
        await asyncio.sleep(0.05)
    await talk
    assert len(talking.of("messages")) >= 120
    assert talking.gap_s < HANGS_S
    assert slowest_s < HANGS_S

    await asyncio.gather(*(stop(http, run) for run in runs))


async def test_a_run_that_obeys_is_stopped_at_once(
    http: httpx.AsyncClient, effects: Effects, server: Served
) -> None:
    await is_warm(http)
    thread_id = await thread(http)
    state = effects.input(n=100, delay=0.1)
    run_id = await begin(http, thread_id, assistant_id="steps", input=state)
    await until(lambda: len(effects.of(run_id)) >= 2)
    asked_s = time.monotonic()
    path = f"/threads/{thread_id}/runs/{run_id}"
    assert (await http.post(f"{path}/cancel", params={"wait": "true"})).is_success
    assert time.monotonic() - asked_s < HANGS_S
    assert (await http.get(path)).json()["status"] == "interrupted"


async def test_runs_that_share_because_of_overflow_are_stopped_in_time_whoever_blocks(
    http: httpx.AsyncClient, effects: Effects
) -> None:
    """One stands still since the other one blocks; its stop costs the other one an attempt."""
    patient = effects.input(n=1000, delay=0.1)
    thread_id = await thread(http)
    run_id = await begin(http, thread_id, assistant_id="burst", input=patient)
    await until(lambda: effects.of(run_id))
    other = await blocking(http, effects, "sleep", "burst_stubborn")
    assert await overflowing(http, run_id, other.run_id) == 1

    asked_s = time.monotonic()
    path = f"/threads/{thread_id}/runs/{run_id}"
    assert (await http.post(f"{path}/cancel", params={"wait": "true"})).is_success
    assert time.monotonic() - asked_s < HANGS_S
    assert (await http.get(path)).json()["status"] == "interrupted"

    await until(lambda: len(other.seen.of("custom")) == 2)
    assert other.seen.attempts == [1, 2]
    assert await overflowing(http, other.run_id) == 0
    await stop(http, other)


async def overflowing(http: httpx.AsyncClient, *run_ids: str) -> int:
    """Returns how many runs share an actor beyond its slots, where these are on one actor."""
    shown = (await http.get("/runtime")).json()
    (actor,) = [
        each for each in shown["actors"] if {*run_ids} <= {run["run_id"] for run in each["runs"]}
    ]
    (pool,) = [each for each in shown["pools"] if each["name"] == actor["pool"]]
    assert pool["overflow"] == 3
    return pool["overflowing"]
