"""The main job, over a real socket, with the unmodified SDK."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

QUESTION = {"messages": [{"role": "user", "content": "hi"}]}


async def test_tokens_stream_after_the_metadata(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    parts = [
        part
        async for part in client.runs.stream(
            thread["thread_id"], "agent", input=QUESTION, stream_mode="messages-tuple"
        )
    ]
    assert parts[0].event == "metadata"
    assert parts[0].data["attempt"] == 1
    tokens = [part.data[0]["content"] for part in parts[1:]]
    assert "".join(tokens) == "tok0 tok1 tok2 tok3 tok4 "
    assert {part.event for part in parts[1:]} == {"messages"}


async def test_the_run_is_over_when_its_stream_closes(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    created = {}

    async for _ in client.runs.stream(
        thread["thread_id"],
        "counter",
        input={"count": 0},
        on_run_created=lambda run: created.update(run),
    ):
        pass
    run = await client.runs.get(thread["thread_id"], created["run_id"])
    assert run["status"] == "success"
    assert (await client.threads.get(thread["thread_id"]))["status"] == "idle"


async def test_values_state_and_history_tell_the_same(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    output = await client.runs.wait(thread_id, "counter", input={"count": 1})
    assert output == {"count": 4, "log": ["one", "two", "three"]}
    assert (await client.threads.get(thread_id))["values"] == output
    assert (await client.threads.get_state(thread_id))["values"] == output
    history = await client.threads.get_history(thread_id)
    assert [state["metadata"]["step"] for state in history] == [3, 2, 1, 0, -1]


async def test_a_failing_run_says_what_failed(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    parts = [
        part async for part in client.runs.stream(thread["thread_id"], "fails", input={"x": 0})
    ]
    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "ValueError", "message": "boom: x=1"}
    assert (await client.threads.get(thread["thread_id"]))["status"] == "error"


async def test_an_interrupted_thread_is_resumed_by_a_command(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    stopped = await client.runs.wait(thread_id, "approval", input={"question": "go?"})
    assert stopped["__interrupt__"][0]["value"] == {"question": "go?"}
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    done = await client.runs.wait(thread_id, "approval", command={"resume": "yes"})
    assert done == {"question": "go?", "answer": "yes", "done": True}
    assert (await client.threads.get(thread_id))["status"] == "idle"


async def test_reject_answers_409_and_leaves_the_first_run_alone(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    first = await client.runs.create(thread_id, "slow", input={"steps": 3, "delay": 0.1})
    with pytest.raises(ConflictError, match="already running"):
        await client.runs.create(
            thread_id, "counter", input={"count": 0}, multitask_strategy="reject"
        )
    await client.runs.join(thread_id, first["run_id"])
    assert (await client.runs.get(thread_id, first["run_id"]))["status"] == "success"


async def test_enqueued_runs_start_in_the_order_of_their_creation(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    runs = [
        await client.runs.create(
            thread_id,
            "slow",
            input={"steps": 2, "delay": 0.02, "tag": tag},
            multitask_strategy="enqueue",
        )
        for tag in "abc"
    ]
    await asyncio.gather(*(client.runs.join(thread_id, run["run_id"]) for run in runs))
    values = (await client.threads.get_state(thread_id))["values"]
    assert values["trail"] == ["a1", "a2", "b1", "b2", "c1", "c2"]


async def test_a_cancelled_run_stops_and_frees_its_thread(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    run = await client.runs.create(thread_id, "slow", input={"steps": 1000, "delay": 0.05})
    async for _ in client.runs.join_stream(thread_id, run["run_id"]):
        break
    await client.runs.cancel(thread_id, run["run_id"], wait=True)
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    assert (await client.threads.get(thread_id))["status"] == "interrupted"
    again = await client.runs.wait(thread_id, "counter", input={"count": 0})
    assert again["count"] == 3


async def test_a_joiner_replays_a_resumable_run_from_its_start(client: LangGraphClient) -> None:
    thread = await client.threads.create()
    thread_id = thread["thread_id"]
    run = await client.runs.create(
        thread_id, "counter", input={"count": 0}, stream_mode="updates", stream_resumable=True
    )
    await client.runs.join(thread_id, run["run_id"])
    parts = [
        part async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
    ]
    assert [part.event for part in parts] == ["metadata", "updates", "updates", "updates"]
    ids = [part.id for part in parts]
    assert len(set(ids)) == 4
    rest = [
        part
        async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id=ids[1])
    ]
    assert [part.id for part in rest] == ids[2:]


async def test_a_stateless_run_leaves_nothing(client: LangGraphClient) -> None:
    before = await client.threads.count()
    output = await client.runs.wait(None, "counter", input={"count": 0})
    assert output["count"] == 3
    for _ in range(100):
        if await client.threads.count() <= before:
            break
    else:
        pytest.fail("the temporary thread is still there")


async def test_both_mounts_reach_the_same_thread(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/api/threads", json={})).json()["thread_id"]
    answer = await http.post(f"/api/threads/{thread_id}/runs/wait", json={"input": {"count": 0}})
    assert answer.json()["count"] == 3  # no assistant_id: the configuration's default graph
    assert answer.headers["content-location"].startswith(f"/api/threads/{thread_id}/runs/")
    assert (await http.get(f"/threads/{thread_id}")).json()["values"]["count"] == 3
