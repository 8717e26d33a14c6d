"""Speaking to runs of a real server: routes, strategy, streams and the run that follows."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.reliability.witness import Seen, view_into
from tests.waiting import until

SLOW = {"steps": 8, "delay": 0.15}


async def begin(http: httpx.AsyncClient, **body: Any) -> tuple[str, Seen, asyncio.Task[None]]:
    """Begins a run of ten steps; returns its path, and what its creator sees."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    seen = Seen()
    path = f"/threads/{thread_id}/runs"
    body = {"assistant_id": "slow", "input": SLOW, "stream_mode": ["values", "updates"]} | body
    viewer = asyncio.create_task(view_into(seen, http, "POST", f"{path}/stream", json=body))
    run_id = (await until(lambda: seen.of("metadata")))[0]["run_id"]
    await until(lambda: any("step" in each for each in seen.of("updates")))
    return f"{path}/{run_id}", seen, viewer


async def test_a_run_that_is_executed_takes_what_is_said(http: httpx.AsyncClient) -> None:
    path, seen, viewer = await begin(http)
    said = await http.post(f"{path}/input", json={"input": {"tag": "x"}})
    assert said.status_code == 202
    unknown = await http.post(f"{path}/input", json={"input": {"tga": "x"}})
    assert unknown.status_code == 422
    assert "no key 'tga'" in unknown.json()["detail"]
    wrong = await http.post(f"{path}/input", json={"input": {"steps": "many"}})
    assert wrong.status_code == 422
    nowhere = await http.post(f"{path}/input", json={"input": {"tag": "x"}, "as_node": "no"})
    assert "no node 'no'" in nowhere.json()["detail"]
    await viewer
    assert seen.attempts == [1]
    (told,) = seen.of("input")
    assert told["input_id"] == said.json()["input_id"]
    last = seen.of("values")[-1]
    assert last["i"] == 8
    tagged = [each.startswith("x") for each in last["trail"]]
    assert tagged == sorted(tagged)
    assert tagged[-1]
    over = await http.post(f"{path}/input", json={"input": {"tag": "y"}})
    assert over.status_code == 409


async def test_inject_joins_the_run_and_its_stream(http: httpx.AsyncClient) -> None:
    path, seen, viewer = await begin(http)
    runs = path.rpartition("/")[0]
    body = {"assistant_id": "slow", "input": {"tag": "x"}, "multitask_strategy": "inject"}
    other = Seen()
    answer = await http.post(runs, json=body)
    assert answer.json()["run_id"] == path.rpartition("/")[2]
    assert answer.headers["greenroom-input-id"]
    body["input"] = {"tag": "y"}
    await view_into(other, http, "POST", f"{runs}/stream", json=body)
    await viewer
    assert len(seen.of("input")) == 2
    assert other.of("values")[-1] == seen.of("values")[-1]
    assert seen.of("values")[-1]["trail"][-1].startswith("y")
    assert len((await http.get(runs)).json()) == 1


async def test_what_nobody_took_starts_the_next_run(http: httpx.AsyncClient) -> None:
    # Its only step is under way, so nothing can be taken.
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    runs = f"/threads/{thread_id}/runs"
    config = {"configurable": {"mark": "m"}}
    body = {"assistant_id": "slow", "input": {"steps": 1, "delay": 1.0}, "config": config}
    run = (await http.post(runs, json=body)).json()
    path = f"{runs}/{run['run_id']}"

    async def is_executed() -> bool:
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        return state["next"] == ["step"]

    await until(is_executed)
    said = await http.post(f"{path}/input", json={"input": {"tag": "x", "delay": 0.0}})
    assert (await http.get(f"{path}/join")).json()["trail"] == ["1"]
    found = (await http.get(f"{path}/input")).json()
    (each,) = found
    assert each["status"] == "started"
    follower = (await http.get(f"{runs}/{each['for_run_id']}")).json()
    assert follower["kwargs"]["input"] == {"tag": "x", "delay": 0.0}
    assert follower["kwargs"]["config"]["configurable"]["mark"] == "m"
    output = await http.get(f"{runs}/{each['for_run_id']}/join")
    assert output.json()["trail"] == ["1", "x1"]
    assert said.json()["run_id"] == run["run_id"]
