"""Graphs that call models by handle, in real run actors, as clients of the real SDK see it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from langgraph_sdk.client import LangGraphClient

from tests.serving import Served

HELLO: Any = {"messages": [{"role": "user", "content": "Hello"}]}
PATIENCE_S = 60.0


async def tokens(client: LangGraphClient, graph: str, **options: Any) -> list[str]:
    stream = client.runs.stream(None, graph, input=HELLO, stream_mode="messages-tuple", **options)
    parts = [part async for part in stream]
    assert [part.data for part in parts if part.event == "error"] == []
    found = [part.data[0]["content"] for part in parts if part.event == "messages"]
    return [content for content in found if content]


async def counts(client: LangGraphClient, app: str) -> dict[str, Any]:
    state: Any = await client.runs.wait(None, "asked", input={"app": app})
    return state["counts"]


async def until_cancelled(client: LangGraphClient, number: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while (await counts(client, "others"))["cancelled"] < number:
        assert time.monotonic() < deadline_s, "The model was not told."


async def test_tokens_come_one_by_one_from_the_model_to_the_client(client: LangGraphClient) -> None:
    configured: Any = {"configurable": {"max_tokens": 30}}
    words = await tokens(client, "talk", config=configured)
    assert len(words) == 30
    assert all(word.endswith(" ") for word in words)


async def test_a_node_that_is_no_coroutine_streams_too(client: LangGraphClient) -> None:
    assert len(await tokens(client, "of_threads")) == 5


async def test_an_agent_calls_tools_and_fills_in_its_verdict(client: LangGraphClient) -> None:
    state: Any = await client.runs.wait(None, "agent", input=HELLO)
    assert [message["type"] for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    call = state["messages"][1]["tool_calls"][0]
    assert state["messages"][2]["content"] == call["args"]["text"][::-1]
    assert [type(value) for value in state["verdict"].values()] == [str, int, bool]


async def test_runs_that_come_together_share_the_steps_of_the_model(
    client: LangGraphClient,
) -> None:
    before = await counts(client, "tiny")
    # Long enough that the first one has not ended when the last one begins.
    configured: Any = {"configurable": {"max_tokens": 400}}
    await asyncio.gather(*(tokens(client, "talk", config=configured) for _ in range(8)))
    after = await counts(client, "tiny")
    assert after["tokens"] - before["tokens"] == 3200
    assert after["steps"] - before["steps"] < 1600


async def test_an_application_of_ray_serve_llm_is_spoken_to_in_its_class(
    client: LangGraphClient,
) -> None:
    words = await tokens(client, "of_ray_llm")
    assert "".join(words) == "qwen heard ChatCompletionRequest: Hello "


async def test_stop_reaches_the_model(client: LangGraphClient) -> None:
    before = (await counts(client, "others"))["cancelled"]
    thread = await client.threads.create()
    run: dict[str, Any] = {}
    # Not joined later: the only token might be gone by then.
    stream = client.runs.stream(
        thread["thread_id"],
        "endless",
        input=HELLO,
        stream_mode="messages-tuple",
        on_run_created=run.update,
    )
    async with asyncio.timeout(PATIENCE_S):
        async for part in stream:
            assert part.event != "error", part.data
            if part.event == "messages":
                await client.runs.cancel(thread["thread_id"], run["run_id"])
    ended = await client.runs.get(thread["thread_id"], run["run_id"])
    assert ended["status"] == "interrupted"
    await until_cancelled(client, before + 1)


async def test_what_the_deployment_raises_is_the_runs_error(client: LangGraphClient) -> None:
    stream = client.runs.stream(None, "refused", input=HELLO, stream_mode=["messages-tuple"])
    parts = [part async for part in stream]
    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "ValueError", "message": "That is too long for me."}


async def test_an_application_that_is_not_there_is_named(client: LangGraphClient) -> None:
    stream = client.runs.stream(None, "nobody", input=HELLO)
    parts = [part async for part in stream]
    assert parts[-1].event == "error"
    assert "Application 'nobody' does not exist" in parts[-1].data["message"]


async def test_nodes_with_a_share_of_a_gpu_are_placed_on_the_same_one(
    client: LangGraphClient, server: Served
) -> None:
    """Two actors with a quarter each, beside a model that has the other half."""
    asked: Any = {"query": "warm bread", "documents": ["cold steel", "fresh bread"], "repeat": 200}
    states: Any = await asyncio.gather(
        *(client.runs.wait(None, "similar", input=asked) for _ in range(2))
    )
    assert [state["best"] for state in states] == ["fresh bread", "fresh bread"]
    assert [state["visible"] for state in states] == ["0", "0"]
