"""The unmodified Python SDK, and the very payloads that the SDKs send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.conformance.talking import BRIEF, Talk, names, ok, uuid

COUNT = {"count": 0}
QUESTION = {"messages": [{"role": "user", "content": "hi"}]}


async def test_a_chat_from_thread_to_tokens(sdk: LangGraphClient) -> None:
    thread = await sdk.threads.create(metadata={"user": "eve"})
    created: list[Any] = []
    parts = [
        part
        async for part in sdk.runs.stream(
            thread["thread_id"],
            "agent",
            input=QUESTION,
            stream_mode=["messages-tuple", "values"],
            stream_resumable=True,
            on_disconnect="continue",
            on_run_created=created.append,
        )
    ]
    assert parts[0].event == "metadata"
    assert created == [{"run_id": parts[0].data["run_id"], "thread_id": thread["thread_id"]}]
    tokens = [part.data[0]["content"] for part in parts if part.event == "messages"]
    assert "".join(tokens) == "tok0 tok1 tok2 tok3 tok4 "
    state = await sdk.threads.get_state(thread["thread_id"])
    assert [m["type"] for m in state["values"]["messages"]] == ["human", "ai"]


async def test_an_error_is_a_part_of_a_stream_and_an_exception_of_a_wait(
    sdk: LangGraphClient, thread_id: str
) -> None:
    parts = [part async for part in sdk.runs.stream(thread_id, "fails", input={"x": 1})]
    assert parts[-1].event == "error"
    with pytest.raises(Exception, match="ValueError: boom: x=2"):
        await sdk.runs.wait(None, "fails", input={"x": 1})
    output = await sdk.runs.wait(None, "fails", input={"x": 1}, raise_error=False)
    assert output == {"__error__": {"error": "ValueError", "message": "boom: x=2"}}


async def test_create_join_get_list(sdk: LangGraphClient, thread_id: str) -> None:
    run = await sdk.runs.create(thread_id, "counter", input=COUNT, metadata={"n": 1})
    output = await sdk.runs.join(thread_id, run["run_id"])
    assert output == {"count": 3, "log": ["one", "two", "three"]}
    assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "success"
    assert [r["run_id"] for r in await sdk.runs.list(thread_id)] == [run["run_id"]]
    await sdk.runs.delete(thread_id, run["run_id"])
    assert await sdk.runs.list(thread_id) == []


async def test_join_stream_replays_and_filters(sdk: LangGraphClient, thread_id: str) -> None:
    run = await sdk.runs.create(
        thread_id,
        "counter",
        input=COUNT,
        stream_mode=["values", "updates"],
        stream_resumable=True,
    )
    await sdk.runs.join(thread_id, run["run_id"])
    joined = [
        part.event
        async for part in sdk.runs.join_stream(
            thread_id, run["run_id"], last_event_id="-1", stream_mode=["values"]
        )
    ]
    assert joined == ["values"] * 4
    whole = [
        part.event
        async for part in sdk.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
    ]
    assert whole == ["metadata", "values", *["updates", "values"] * 3]


async def test_join_stream_filters_several_modes(sdk: LangGraphClient, thread_id: str) -> None:
    """The SDK repeats the key."""
    run = await sdk.runs.create(
        thread_id, "counter", input=COUNT, stream_mode=["values", "updates"], stream_resumable=True
    )
    await sdk.runs.join(thread_id, run["run_id"])
    joined = [
        part.event
        async for part in sdk.runs.join_stream(
            thread_id, run["run_id"], last_event_id="-1", stream_mode=["values", "updates"]
        )
    ]
    assert joined == ["values", *["updates", "values"] * 3]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel(sdk: LangGraphClient, talk: Talk, thread_id: str, action: Any) -> None:
    run_id = await talk.running(thread_id)
    await sdk.runs.cancel(thread_id, run_id, wait=True, action=action)
    if action == "interrupt":
        assert (await sdk.runs.get(thread_id, run_id))["status"] == "interrupted"
    else:
        with pytest.raises(NotFoundError):
            await sdk.runs.get(thread_id, run_id)


async def test_errors_have_their_classes(sdk: LangGraphClient, talk: Talk, thread_id: str) -> None:
    with pytest.raises(NotFoundError):
        await sdk.threads.get(uuid())
    with pytest.raises(UnprocessableEntityError):
        await sdk.threads.get("x")
    with pytest.raises(UnprocessableEntityError):
        await sdk.runs.create(thread_id, "nope", input={})
    await talk.running(thread_id)
    with pytest.raises(ConflictError):
        await sdk.runs.create(thread_id, "trivial", input={}, multitask_strategy="reject")
    with pytest.raises(ConflictError):
        await sdk.threads.create(thread_id=thread_id)


async def test_a_human_in_the_loop(sdk: LangGraphClient, thread_id: str) -> None:
    stopped = await sdk.runs.wait(thread_id, "approval", input={"question": "go?"})
    assert stopped["__interrupt__"][0]["value"] == {"question": "go?"}
    assert (await sdk.threads.get(thread_id))["status"] == "interrupted"
    done = await sdk.runs.wait(thread_id, "approval", command={"resume": "yes"})
    assert done == {"question": "go?", "answer": "yes", "done": True}


async def test_edit_and_branch_from_history(sdk: LangGraphClient, thread_id: str) -> None:
    await sdk.runs.wait(thread_id, "counter", input=COUNT)
    history = await sdk.threads.get_history(thread_id)
    assert len(history) == 5
    then = history[2]
    at = await sdk.threads.get_state(thread_id, checkpoint=then["checkpoint"])
    assert at["values"] == then["values"]
    forked = await sdk.threads.update_state(
        thread_id, {"count": 100}, checkpoint=then["checkpoint"]
    )
    output = await sdk.runs.wait(thread_id, "counter", input=None, checkpoint=forked["checkpoint"])
    assert output["count"] == 102


async def test_threads_are_searched_counted_copied_and_deleted(sdk: LangGraphClient) -> None:
    mark = {"mark": uuid()}
    thread = await sdk.threads.create(metadata=mark, graph_id="counter")
    assert thread["metadata"] == {**mark, "graph_id": "counter"}
    await sdk.threads.update(thread["thread_id"], metadata={"more": 1})
    (found,) = await sdk.threads.search(metadata=mark)
    assert found["metadata"]["more"] == 1
    assert await sdk.threads.count(metadata=mark) == 1
    await sdk.runs.wait(thread["thread_id"], "counter", input=COUNT)
    await sdk.threads.copy(thread["thread_id"])
    await sdk.threads.delete(thread["thread_id"])
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread["thread_id"])


async def test_assistants_are_searched_and_described(sdk: LangGraphClient) -> None:
    (assistant,) = await sdk.assistants.search(graph_id="parent")
    assistant_id = assistant["assistant_id"]
    assert (await sdk.assistants.get(assistant_id))["graph_id"] == "parent"
    assert {node["id"] for node in (await sdk.assistants.get_graph(assistant_id))["nodes"]} >= {
        "pre",
        "child",
    }
    assert (await sdk.assistants.get_schemas(assistant_id))["graph_id"] == "parent"
    assert set(await sdk.assistants.get_subgraphs(assistant_id)) == {"child"}


async def test_a_thread_is_followed(sdk: LangGraphClient, talk: Talk, thread_id: str) -> None:
    ended = asyncio.Event()

    async def follow() -> list[str]:
        heard = []
        async for part in await sdk.threads.join_stream(thread_id, stream_mode="lifecycle"):
            heard.append(part.event)
            if isinstance(part.data, dict) and part.data.get("status") == "run_done":
                break
        ended.set()
        return heard

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        while not ended.is_set():
            await sdk.runs.wait(thread_id, "trivial", input={"x": 1})
    assert "metadata" in await following


async def test_what_use_stream_sends(talk: Talk, thread_id: str) -> None:
    body = {
        "assistant_id": "agent",
        "input": QUESTION,
        "stream_mode": ["messages-tuple", "values", "updates", "custom"],
        "stream_resumable": True,
        "on_disconnect": "continue",
    }
    async with talk.listening("POST", f"/threads/{thread_id}/runs/stream", body) as stream:
        frames = await stream.rest()
    assert set(names(frames)) == {"metadata", "values", "updates", "messages"}
    run_id = frames[0].data["run_id"]
    again = await talk.joined(thread_id, run_id, "-1", cancel_on_disconnect=0)
    assert [f.raw for f in again] == [f.raw for f in frames]


async def test_what_the_stop_button_of_use_stream_sends(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/cancel?wait=0&action=interrupt"
    assert (await talk.call("POST", path)).status_code == 202
    assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_what_the_javascript_sdk_sends_for_a_batch(talk: Talk) -> None:
    body = [
        {
            "assistant_id": "slow",
            "input": BRIEF,
            "streamMode": "updates",
            "onCompletion": "keep",
            "multitaskStrategy": "reject",
        }
    ]
    (run,) = ok(await talk.post("/runs/batch", body))
    await talk.cancel(run["thread_id"], run["run_id"])


async def test_what_the_javascript_sdk_asks_of_a_state(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    state = ok(await talk.get(f"/threads/{thread_id}/state?subgraphs=false"))
    assert state["values"]["count"] == 3
    body = {"limit": 10, "before": None, "metadata": {}, "checkpoint": {}}
    assert ok(await talk.post(f"/threads/{thread_id}/history", {"limit": 10}))
    answer = await talk.post(f"/threads/{thread_id}/history", body)
    assert answer.status_code in (200, 422)


async def test_the_health_checks_of_the_clients(talk: Talk) -> None:
    assert ok(await talk.get("/ok"))["ok"] is True
    info = ok(await talk.get("/info"))
    assert info["version"]
    assert info["flags"]["assistants"] is True
