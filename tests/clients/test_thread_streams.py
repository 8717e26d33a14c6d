"""Event streaming with the clients of this repository's languages: the Python SDK, RemoteGraph, and
the JavaScript SDK."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client

from tests.clients.breaking import BreakingProxy
from tests.clients.conftest import Sdk
from tests.clients.test_use_stream import tokens
from tests.serving import Served

# The Python SDK leaves connections to the garbage collector when a stream is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

BOUND_S = 30.0
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
BLOCKS = "".join(f"tok{number} " for number in range(5))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What a test leaves is collected while its warnings are ignored."""
    yield
    gc.collect()


@pytest.fixture(params=["sse", "websocket"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


def said(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(each["text"] for each in content)


# --- the Python SDK -------------------------------------------------------------------------------


async def test_every_projection_has_its_part(server: Served, transport: Any) -> None:
    async with (
        get_client(url=server.url) as client,
        client.threads.stream(assistant_id="crew", transport=transport) as thread,
    ):
        await thread.run.start(input=HELLO)
        found: dict[str, list[Any]] = {}

        async def read() -> None:
            channels = ["values", "messages", "tool_calls", "subgraphs"]
            async for channel, item in thread.interleave_projections(channels):
                found.setdefault(channel, []).append(item)
                if channel == "values" and len(item["messages"]) == 4:
                    return

        await asyncio.wait_for(read(), BOUND_S)
        output = await asyncio.wait_for(thread.output, BOUND_S)
        state = await client.threads.get_state(thread.thread_id)
        assert [said(each) for each in output["messages"]] == [
            said(each) for each in state["values"]["messages"]
        ]
        (call,) = found["tool_calls"]
        assert call.name == "weather"
        assert "sunny in Rome" in str(await asyncio.wait_for(call.output, BOUND_S))
        assert found["subgraphs"][0].path[0].startswith("editor:")
        assert {len(each["messages"]) for each in found["values"]} == {1, 2, 3, 4}


async def test_messages_arrive_token_by_token(
    server: Served, transport: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    async with (
        get_client(url=server.url) as client,
        client.threads.stream(assistant_id="gated", transport=transport) as thread,
    ):
        await thread.run.start(input={**HELLO, "gate": str(gate)})
        parts: list[str] = []

        async def deltas(message: Any) -> None:
            async for delta in message.text:
                parts.append(delta)
                if len(parts) == 5:
                    gate.touch()  # the other half comes only after the first was seen

        async def read() -> None:
            # The tokens come while the messages are iterated.
            async for message in thread.messages:
                reading.append(asyncio.create_task(deltas(message)))

        reading = [asyncio.create_task(read())]
        await asyncio.wait_for(thread.output, BOUND_S)
        async with asyncio.timeout(BOUND_S):
            await reading[1]
        reading[0].cancel()
        assert "".join(parts) == tokens(10)


async def test_an_interrupt_of_a_subgraph_is_answered(server: Served, transport: Any) -> None:
    async with (
        get_client(url=server.url) as client,
        client.threads.stream(assistant_id="trip", transport=transport) as thread,
    ):
        await thread.run.start(input={"place": "Oslo"})
        async with asyncio.timeout(BOUND_S):
            while not thread.interrupts:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)
        (question,) = thread.interrupts
        assert question["value"] == {"book": "Oslo"}
        assert question["namespace"][0].startswith("booking:")
        await thread.run.respond("yes")
        output = await asyncio.wait_for(thread.output, BOUND_S)
        assert output == {"place": "Oslo", "approved": "yes"}


async def test_a_failed_run_raises(server: Served, transport: Any) -> None:
    async with (
        get_client(url=server.url) as client,
        client.threads.stream(assistant_id="talkative", transport=transport) as thread,
    ):
        await thread.run.start(input={"messages": [{"role": "user", "content": "fail boom"}]})
        with pytest.raises(RuntimeError, match="boom"):
            await asyncio.wait_for(thread.output, BOUND_S)


def test_the_synchronous_client_has_the_same(server: Served) -> None:
    with (
        get_sync_client(url=server.url) as client,
        client.threads.stream(assistant_id="talkative") as thread,
    ):
        thread.run.start(input=HELLO)
        assert said(thread.output["messages"][-1]) == BLOCKS


async def test_a_broken_connection_goes_on_where_it_was(server: Served, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with BreakingProxy(server.url, cuts=[4]).open() as proxy:
        async with (
            get_client(url=proxy.url) as client,
            client.threads.stream(assistant_id="gated") as thread,
        ):
            await thread.run.start(input={**HELLO, "gate": str(gate)})
            ids: list[str] = []
            async for event in thread.subscribe(["messages", "values", "lifecycle"]):
                ids.append(event["event_id"])
                if len(ids) == 4:
                    async with httpx.AsyncClient() as http:
                        await http.get(f"{proxy.url}/break")
                    gate.touch()
                if event["event_id"].endswith(":end"):
                    break
    assert len(ids) == len(set(ids))


# --- RemoteGraph ----------------------------------------------------------------------------------


async def test_a_remote_graph_streams_as_a_local_one(server: Served) -> None:
    graph = RemoteGraph("parent", url=server.url)
    async with await graph.astream_events({}, version="v3") as run:
        updates = []
        async for update in run.extensions["updates"]:
            updates.append(update)
            if "child" in update:
                break
        assert (await run.output())["value"] == 111
    assert updates[0] == {"pre": {"value": 1}}
    assert {"child_a": {"value": 11}} in updates


# --- the JavaScript SDK ---------------------------------------------------------------------------


@pytest.fixture
def sdk(sdks: dict[str, Sdk]) -> Sdk:
    return sdks["langgraph-sdk-1"]


async def test_javascript_streams_a_thread(sdk: Sdk, transport: str) -> None:
    told = await sdk.play("eventStream", transport=transport)
    assert [each["kind"] for each in told] == ["thread"], told
    (seen,) = told
    assert seen["texts"] == [BLOCKS]
    assert seen["output"] == ["hello", BLOCKS]
    assert seen["values"] == [1, 2]


async def test_javascript_answers_an_interrupt(sdk: Sdk, transport: str) -> None:
    told = await sdk.play("eventInterrupt", transport=transport)
    (seen,) = [each for each in told if each["kind"] == "interrupt"]
    assert seen["payload"] == {"book": "Oslo"}
    assert seen["state"] == {"place": "Oslo", "approved": "yes"}
