"""A run that takes longer than its graph's ``timeout_s``."""

from __future__ import annotations

import httpx

from tests.reliability.witness import Effects, view


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
