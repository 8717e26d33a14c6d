"""A run that takes longer than its graph's ``timeout_s``."""

from __future__ import annotations

import asyncio
import time

import httpx

from tests.reliability.witness import HANGS_S, Effects, view


async def test_a_run_out_of_time_says_so_and_frees_its_thread(
    http: httpx.AsyncClient, effects: Effects
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "hasty", "input": effects.input(n=1000, delay=0.05)}
    path = f"/threads/{thread_id}/runs"
    seen = await view(http, "POST", f"{path}/stream", json=body)
    _, name, error = seen.events[-1]
    assert name == "error"
    assert error["error"] == "TimeoutError"
    assert "timeout_s of 1 seconds" in error["message"]
    (run,) = (await http.get(path)).json()
    assert run["status"] == "timeout"
    found = (await http.get(f"/threads/{thread_id}")).json()
    assert found["status"] == "error"
    assert found["error"] == error
    joined = (await http.get(f"{path}/{run['run_id']}/join")).json()
    assert joined == {"__error__": error}
    again = {"assistant_id": "steps", "input": effects.input(n=1, delay=0.0)}
    answer = await http.post(f"{path}/wait", json=again)
    assert answer.status_code == 200


async def test_whoever_does_not_let_itself_be_timed_out_is_killed(
    http: httpx.AsyncClient,
) -> None:
    """All at once, since each waits for its grace."""

    async def times_out(how: str) -> None:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        path = f"/threads/{thread_id}/runs"
        begun_s = time.monotonic()
        body = {"assistant_id": "hasty_stubborn", "input": {"how": how}}
        answer = (await http.post(f"{path}/wait", json=body)).json()
        assert time.monotonic() - begun_s < HANGS_S
        assert answer["__error__"]["error"] == "TimeoutError"
        (run,) = (await http.get(path)).json()
        assert run["status"] == "timeout"
        again = {"assistant_id": "steps", "input": {"n": 2, "i": 0}}
        assert (await http.post(f"{path}/wait", json=again)).json()["i"] == 2

    await asyncio.gather(*(times_out(how) for how in ("sleep", "loop", "c code", "swallow")))
