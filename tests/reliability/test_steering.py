"""What is said to a run whose process is killed is taken once, in order, by the next attempt."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.reliability.stage import Stage
from tests.reliability.witness import Effects, Seen, is_warm, process_of, view_into
from tests.waiting import until

KEPT = {"stream_resumable": True, "stream_mode": ["updates", "values"]}


async def say(http: httpx.AsyncClient, path: str, word: str) -> dict[str, Any]:
    answer = await http.post(f"{path}/input", json={"input": {"log": [word]}})
    assert answer.status_code == 202, answer.text
    return answer.json()


@pytest.mark.parametrize("graph", ["steps", "crowd"])
async def test_what_is_said_before_a_kill_is_taken_after_it(
    http: httpx.AsyncClient, effects: Effects, graph: str
) -> None:
    await is_warm(http)
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    seen = Seen()
    body = {"assistant_id": graph, "input": effects.input(n=6, delay=0.3), "durability": "sync"}
    runs = f"/threads/{thread_id}/runs"
    viewer = asyncio.create_task(
        view_into(seen, http, "POST", f"{runs}/stream", json={**body, **KEPT})
    )
    run_id = (await until(lambda: seen.of("metadata")))[0]["run_id"]
    path = f"{runs}/{run_id}"
    await until(lambda: seen.steps)
    first = await say(http, path, "a")
    await until(lambda: seen.of("input"))
    process = await process_of(http, run_id)
    await until(lambda: len(seen.steps) >= 2)
    second, third = await say(http, path, "b"), await say(http, path, "c")
    process.kill()
    await viewer
    assert seen.attempts == [1, 2]
    told = seen.of("input")
    assert [event["input_id"] for event in told] == [
        each["input_id"] for each in (first, second, third)
    ]
    assert [event["number"] for event in told] == [1, 2, 3]
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    words = [word for word in state["values"]["log"] if not word.isdigit()]
    assert words == ["a", "b", "c"]
    assert state["values"]["i"] == 6
    listed = (await http.get(f"{path}/input")).json()
    assert [each["status"] for each in listed] == ["taken"] * 3
    assert [each["taken"]["step"] for each in listed] == [event["step"] for event in told]
    history = (await http.get(f"/threads/{thread_id}/history?limit=100")).json()
    steps = {each["checkpoint_id"]: each["metadata"]["step"] for each in history}
    for each in listed:
        assert steps[each["taken"]["checkpoint_id"]] == each["taken"]["step"]


async def test_a_registry_that_dies_while_it_hands_on_starts_the_next_run_once(
    http: httpx.AsyncClient, effects: Effects, stage: Stage
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "crowd", "input": effects.input(n=1, delay=1.0)}
    runs = f"/threads/{thread_id}/runs"
    run_id = (await http.post(runs, json=body)).json()["run_id"]
    await process_of(http, run_id)
    stage.plan("hand_on", "kill")
    await say(http, f"{runs}/{run_id}", "a")
    await http.get(f"{runs}/{run_id}/join")
    assert stage.reached("hand_on")

    async def rests() -> bool:
        return (await http.get(f"/threads/{thread_id}")).json()["status"] == "idle"

    await until(rests)
    assert len((await http.get(runs)).json()) == 2
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    assert state["values"]["log"].count("a") == 1


async def test_a_registry_that_dies_between_store_and_notice_has_it_taken(
    http: httpx.AsyncClient, effects: Effects, stage: Stage
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "crowd", "input": effects.input(n=30, delay=0.1)}
    runs = f"/threads/{thread_id}/runs"
    run_id = (await http.post(runs, json=body)).json()["run_id"]
    await process_of(http, run_id)
    stage.plan("said", "kill")
    said = await say(http, f"{runs}/{run_id}", "a")
    await http.get(f"{runs}/{run_id}/join")
    listed = (await http.get(f"{runs}/{run_id}/input")).json()
    assert [(each["input_id"], each["status"]) for each in listed] == [(said["input_id"], "taken")]
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    assert state["values"]["log"].count("a") == 1
