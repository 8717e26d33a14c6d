"""Runs without a thread, and batches (platform API, section 5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.talking import Talk, names, ok, refused, uuid
from tests.waiting import until


async def gone(talk: Talk, thread_id: str) -> bool | None:
    return (await talk.get(f"/threads/{thread_id}")).status_code == 404 or None


async def test_a_background_run_goes_with_its_thread(talk: Talk) -> None:
    run = await talk.create(None, "trivial", input={"x": 1})
    assert run["status"] == "pending"
    assert run["kwargs"]["temporary"] is True
    await until(lambda: gone(talk, run["thread_id"]))
    assert await talk.status(run["thread_id"], run["run_id"]) == "deleted"


async def test_a_background_run_says_where_it_is(talk: Talk) -> None:
    answer = await talk.post("/runs", {"assistant_id": "trivial", "input": {"x": 1}})
    assert answer.headers["content-location"] == f"/runs/{answer.json()['run_id']}"


async def test_a_wait_answers_and_leaves_nothing(talk: Talk) -> None:
    answer = await talk.post("/runs/wait", {"assistant_id": "trivial", "input": {"x": 1}})
    assert ok(answer) == {"x": 2}
    path = answer.headers["content-location"]
    assert answer.headers["location"] == f"{path}/join"
    _, _, thread_id, _, _ = path.split("/")
    await until(lambda: gone(talk, thread_id))


async def test_a_stream_says_where_it_is_without_a_thread(talk: Talk) -> None:
    async with talk.streaming(None, "trivial", input={"x": 1}) as stream:
        frames = await stream.rest()
        headers = stream.response.headers
    assert names(frames) == ["metadata", "values", "values"]
    path = f"/runs/{frames[0].data['run_id']}"
    assert headers["content-location"] == path
    assert headers["location"] == f"{path}/stream"


async def test_a_kept_run_leaves_run_and_thread(talk: Talk) -> None:
    run = await talk.create(None, "trivial", input={"x": 1}, on_completion="keep")
    assert await talk.join(run["thread_id"], run["run_id"]) == {"x": 2}
    assert await talk.status(run["thread_id"], run["run_id"]) == "success"
    assert (await talk.thread(run["thread_id"]))["values"] == {"x": 2}


async def test_a_failure_is_told_and_cleaned_up(talk: Talk) -> None:
    answer = await talk.post("/runs/wait", {"assistant_id": "fails", "input": {"x": 1}})
    assert ok(answer) == {"__error__": {"error": "ValueError", "message": "boom: x=2"}}
    thread_id = answer.headers["content-location"].split("/")[2]
    await until(lambda: gone(talk, thread_id))
    frames = await talk.streamed(None, "fails", input={"x": 1})
    assert frames[-1].data == {"error": "ValueError", "message": "boom: x=2"}


async def test_a_thread_in_the_body_is_ignored(talk: Talk, thread_id: str) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, "thread_id": thread_id}
    assert ok(await talk.post("/runs", body))["thread_id"] != thread_id


async def test_its_metadata_names_no_graph(talk: Talk) -> None:
    run = await talk.create(None, "trivial", input={"x": 1}, metadata={"mine": 1})
    assert run["metadata"]["mine"] == 1
    assert "graph_id" not in run["metadata"]


async def test_stateless_runs_do_not_meet(talk: Talk) -> None:
    outputs = await asyncio.gather(
        *(talk.wait(None, "trivial", input={"x": n}, multitask_strategy="reject") for n in range(6))
    )
    assert outputs == [{"x": n + 1} for n in range(6)]


async def test_a_stateless_run_can_be_cancelled(talk: Talk) -> None:
    async with talk.streaming(
        None, "slow", input={"steps": 400, "delay": 0.05}, on_completion="keep"
    ) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
        answer = await talk.post("/runs/cancel", {"status": "running"})
        assert answer.status_code == 204
        await stream.rest()
    assert run_id


async def test_a_batch_makes_a_run_of_each(talk: Talk) -> None:
    bodies = [
        {"assistant_id": "trivial", "input": {"x": n}, "on_completion": "keep"} for n in range(3)
    ]
    runs = ok(await talk.post("/runs/batch", bodies))
    assert [run["status"] for run in runs] == ["pending"] * 3
    outputs = await asyncio.gather(*(talk.join(r["thread_id"], r["run_id"]) for r in runs))
    assert outputs == [{"x": n + 1} for n in range(3)]


@pytest.mark.parametrize("wrong", [[], {}, [7], [{"assistant_id": "nope"}]], ids=str)
async def test_a_wrong_batch_is_refused(talk: Talk, wrong: Any) -> None:
    refused(await talk.post("/runs/batch", wrong), 422)


async def test_a_wrong_completion_is_refused(talk: Talk) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, "on_completion": "bogus"}
    for end in ("", "/stream", "/wait"):
        refused(await talk.post(f"/runs{end}", body), 422)


async def test_runs_cannot_be_listed_without_a_thread(talk: Talk) -> None:
    answer = await talk.get("/runs")
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert refused(await talk.get(f"/runs/{uuid()}"), 404) == "Not Found"
