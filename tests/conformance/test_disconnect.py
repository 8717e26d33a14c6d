"""What becomes of a run when somebody who follows it goes away."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.conformance.talking import Talk, ok, refused
from tests.waiting import until

LONG = {"steps": 1200, "delay": 0.05}
SOON_S = 9.0
"""Less than it takes until a heartbeat fails: the second one after the client has left."""


async def goes_on(talk: Talk, thread_id: str, run_id: str) -> None:
    """Two more steps happen, and then it is stopped."""
    async with talk.joining(thread_id, run_id) as stream:
        first = await stream.until("values", lambda data: "i" in data)
        await stream.until("values", lambda data: data["i"] > first.data["i"])
    assert await talk.status(thread_id, run_id) == "running"
    await talk.cancel(thread_id, run_id, wait=1)


@pytest.mark.parametrize("choice", [None, "continue"])
async def test_a_run_survives_its_creator(talk: Talk, thread_id: str, choice: str | None) -> None:
    given = {} if choice is None else {"on_disconnect": choice}
    async with talk.streaming(thread_id, "slow", input=LONG, **given) as stream:
        await stream.until("values")
        run_id = stream.heard[0].data["run_id"]
    await goes_on(talk, thread_id, run_id)


async def test_a_run_ends_with_its_creators_stream_if_told_so(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "slow", input=LONG, on_disconnect="cancel") as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
    assert await talk.ended(thread_id, run_id) == "interrupted"
    assert (await talk.settled(thread_id))["status"] == "interrupted"


async def left_waiting(talk: Talk, thread_id: str, choice: str) -> str:
    """A creator that waits, and leaves once its run is running; the run's id."""
    body = {"assistant_id": "slow", "input": LONG, "on_disconnect": choice}
    waiting = asyncio.create_task(talk.post(f"/threads/{thread_id}/runs/wait", body))

    async def running() -> str | None:
        runs = ok(await talk.get(f"/threads/{thread_id}/runs?status=running"))
        return runs[0]["run_id"] if runs else None

    run_id = await until(running)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    return run_id


async def test_a_run_ends_with_its_creators_wait_if_told_so(talk: Talk, thread_id: str) -> None:
    """Soon, although nothing is sent to it that could fail."""
    run_id = await left_waiting(talk, thread_id, "cancel")
    async with asyncio.timeout(SOON_S):
        assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_a_run_survives_its_creators_wait(talk: Talk, thread_id: str) -> None:
    run_id = await left_waiting(talk, thread_id, "continue")
    await goes_on(talk, thread_id, run_id)


async def test_a_background_run_does_not_care_for_on_disconnect(talk: Talk, thread_id: str) -> None:
    run = await talk.create(
        thread_id, "slow", input={"steps": 3, "delay": 0.05}, on_disconnect="cancel"
    )
    assert (await talk.join(thread_id, run["run_id"]))["i"] == 3


async def test_a_second_viewer_who_leaves_cancels_nothing(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(
        thread_id, "slow", input={"steps": 8, "delay": 0.05}, on_disconnect="cancel"
    ) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
        for query in ({}, {"cancel_on_disconnect": 0}, {"cancel_on_disconnect": "false"}):
            async with talk.joining(thread_id, run_id, **query) as second:
                await second.until("values")
        frames = await stream.rest()
    assert frames[-1].data["i"] == 8
    assert await talk.status(thread_id, run_id) == "success"


async def test_a_joiner_who_waits_and_leaves_cancels_nothing(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    with pytest.raises(httpx.ReadTimeout):
        await talk.http.get(f"/threads/{thread_id}/runs/{run_id}/join", timeout=0.2)
    await goes_on(talk, thread_id, run_id)


@pytest.mark.parametrize("value", [1, "true"])
async def test_a_joiner_cancels_when_leaving_if_it_said_so(
    talk: Talk, thread_id: str, value: object
) -> None:
    run_id = await talk.running(thread_id)
    async with talk.joining(thread_id, run_id, cancel_on_disconnect=value) as stream:
        await stream.until("values")
    assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_a_joiner_who_waits_cancels_when_leaving_if_it_said_so(
    talk: Talk, thread_id: str
) -> None:
    run_id = await talk.running(thread_id)
    with pytest.raises(httpx.ReadTimeout):
        await talk.http.get(
            f"/threads/{thread_id}/runs/{run_id}/join?cancel_on_disconnect=true", timeout=0.2
        )
    assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_leaving_after_the_end_cancels_nothing(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(
        thread_id, "trivial", input={"x": 1}, on_disconnect="cancel"
    ) as stream:
        await stream.rest()
        run_id = stream.heard[0].data["run_id"]
    assert await talk.status(thread_id, run_id) == "success"


async def test_a_pending_run_ends_with_its_creator_if_told_so(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    async with talk.streaming(
        thread_id, "trivial", input={"x": 1}, on_disconnect="cancel"
    ) as stream:
        run_id = stream.response.headers["content-location"].rpartition("/")[2]
    assert await talk.ended(thread_id, run_id) == "interrupted"
    assert await talk.status(thread_id, first) == "running"


async def test_a_stateless_run_survives_its_creator(talk: Talk) -> None:
    async with talk.streaming(
        None, "slow", input={"steps": 4, "delay": 0.05}, on_completion="keep", metadata={"k": "v"}
    ) as stream:
        await stream.until("values")
        run_id = stream.heard[0].data["run_id"]
        found = ok(await talk.post("/threads/search", {"status": "busy", "limit": 100}))
        runs = {
            run["run_id"]: thread["thread_id"]
            for thread in found
            for run in ok(await talk.get(f"/threads/{thread['thread_id']}/runs"))
        }
    assert await talk.ended(runs[run_id], run_id) == "success"


async def test_on_disconnect_is_validated_on_every_route(talk: Talk, thread_id: str) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, "on_disconnect": "bogus"}
    for end in ("", "/stream", "/wait"):
        refused(await talk.post(f"/threads/{thread_id}/runs{end}", body), 422)
