"""Stop always stops, and who blocks hurts nobody else."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.reliability.test_run_deaths import begin, thread
from tests.reliability.witness import HANGS_S, Effects, Seen, is_warm, until, view_into
from tests.serving import Served

WAYS = ["sleep", "loop", "c code", "swallow"]


@pytest.mark.parametrize("how", WAYS)
async def test_stop_stops_who_does_not_want_to_and_nobody_else_slows_down(
    http: httpx.AsyncClient, effects: Effects, how: str
) -> None:
    """One run blocks, another streams tokens, and `/ok` is asked all the while."""
    await is_warm(http)
    thread_id = await thread(http)
    blocking = Seen()
    body = {"assistant_id": "stubborn", "input": {"how": how}, "stream_mode": ["custom"]}
    path = f"/threads/{thread_id}/runs"
    stopped = asyncio.create_task(view_into(blocking, http, "POST", f"{path}/stream", json=body))
    await until(lambda: blocking.of("custom"))
    run_id = blocking.of("metadata")[0]["run_id"]

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

    asked_s = time.monotonic()
    params = {"wait": "true"}
    answer = await http.post(f"{path}/{run_id}/cancel", params=params)
    assert answer.is_success
    assert time.monotonic() - asked_s < HANGS_S
    await asyncio.wait_for(stopped, 10)
    assert (await http.get(f"{path}/{run_id}")).json()["status"] == "interrupted"
    found = (await http.get(f"/threads/{thread_id}")).json()
    assert found["status"] in ("idle", "interrupted")
    # The thread is free for another run.
    body = {"assistant_id": "steps", "input": {"n": 2, "i": 0}}
    assert (await http.post(f"{path}/wait", json=body)).json()["i"] == 2


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
