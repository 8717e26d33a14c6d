"""Clients of MCP: the official one of the package `mcp`, and `langchain-mcp-adapters`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from langchain_core.tools import ToolException
from langchain_mcp_adapters.client import MultiServerMCPClient
from langgraph_sdk import get_client
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client

from tests.serving import Served
from tests.waiting import BOUND_S, until

MOUNTS = ("", "/api")
LONG = {"steps": 600, "delay": 0.1}
QUESTION = {"messages": "hi", "n_tokens": 2, "delay": 0.0}


@contextlib.asynccontextmanager
async def connected(url: str, version: str | None = None) -> AsyncIterator[ClientSession]:
    """A session of the official client.

    Args:
        version: the protocol version that it asks for; None for the latest.
    """
    async with asyncio.timeout(BOUND_S), streamable_http_client(url) as (read, write, _):
        async with ClientSession(read, write) as session:
            if version is None:
                await session.initialize()
            else:
                await asked_for(session, version)
            yield session


async def asked_for(session: ClientSession, version: str) -> None:
    params = types.InitializeRequestParams(
        protocolVersion=version,
        capabilities=types.ClientCapabilities(),
        clientInfo=types.Implementation(name="test", version="1"),
    )
    request = types.ClientRequest(types.InitializeRequest(params=params))
    result = await session.send_request(request, types.InitializeResult)
    assert result.protocolVersion == version
    await session.send_notification(types.ClientNotification(types.InitializedNotification()))


@pytest.fixture(params=MOUNTS, ids=("platform", "gateway"))
def url(request: pytest.FixtureRequest, server: Served) -> str:
    return f"{server.url}{request.param}/mcp"


@pytest.fixture
async def own_slow(server: Served) -> AsyncIterator[str]:
    """An assistant of this test, so that its runs can be told from all others."""
    async with get_client(url=server.url) as sdk:
        made = await sdk.assistants.create("slow", name=f"slow {uuid.uuid4()}")
        yield made["assistant_id"]
        await sdk.assistants.delete(made["assistant_id"])


async def tool_of(session: ClientSession, server: Served, assistant_id: str) -> str:
    async with get_client(url=server.url) as sdk:
        title = (await sdk.assistants.get(assistant_id))["name"]
    (found,) = [tool for tool in (await session.list_tools()).tools if tool.title == title]
    return found.name


async def until_run_is(server: Served, assistant_id: str, statuses: set[str]) -> None:
    """Waits until the assistant has one run, with one of the statuses; none: until it is gone."""
    body = {"assistant_id": assistant_id}
    async with httpx.AsyncClient(base_url=server.url) as http:

        async def has_them() -> bool:
            runs = (await http.post("/runs/search", json=body)).json()
            return {run["status"] for run in runs} == statuses

        await until(has_them, within_s=BOUND_S)


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def test_graphs_are_listed_with_schema_and_description(url: str) -> None:
    async with connected(url) as session:
        tools: dict[str, types.Tool] = {}
        cursor = None
        while True:
            page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            tools |= {tool.name: tool for tool in page.tools}
            if (cursor := page.nextCursor) is None:
                break
    agent, counter = tools["agent"], tools["counter"]
    assert agent.description == "Runs the assistant agent."
    assert agent.inputSchema["properties"]["messages"]["type"] == "string"
    assert "messages" in agent.inputSchema["required"]
    assert counter.inputSchema["properties"]["count"]["type"] == "integer"


async def test_a_call_runs_the_graph(url: str) -> None:
    async with connected(url) as session:
        await session.send_ping()
        result = await session.call_tool("counter", {"count": 3})
    assert not result.isError
    assert result.structuredContent == {"count": 6, "log": ["one", "two", "three"]}
    assert json.loads(text_of(result)) == result.structuredContent


async def test_a_call_leaves_no_thread(url: str, server: Served) -> None:
    mark = str(uuid.uuid4())
    async with connected(url) as session:
        assert not (await session.call_tool("slow", {"steps": 1, "tag": mark})).isError
    async with get_client(url=server.url) as sdk:
        assert await sdk.threads.search(values={"tag": mark}) == []


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_every_version_of_the_protocol_is_spoken(server: Served, version: str) -> None:
    async with connected(f"{server.url}/mcp", version) as session:
        assert (await session.call_tool("agent", QUESTION)).structuredContent is not None


async def test_progress_is_told_node_by_node(url: str) -> None:
    told: list[tuple[float, str | None]] = []
    async with connected(url) as session:

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, message))

        result = await session.call_tool(
            "slow", {"steps": 3, "delay": 0.01}, progress_callback=heard
        )
    assert not result.isError
    assert told == [(1, "reset is done"), *((n, "step is done") for n in (2, 3, 4))]


async def test_what_a_graph_raises_is_an_error_of_the_tool(url: str) -> None:
    async with connected(url) as session:
        result = await session.call_tool("fails", {"x": 3})
    assert result.isError
    assert text_of(result).startswith("ValueError: ")


async def test_a_question_of_the_graph_is_told(url: str) -> None:
    async with connected(url) as session:
        result = await session.call_tool("approval", {"question": "May I?"})
    assert result.isError
    assert "stopped to ask" in text_of(result)
    assert '"May I?"' in text_of(result)


async def test_an_unknown_tool_is_an_error_of_the_protocol(url: str) -> None:
    async with connected(url) as session:
        with pytest.raises(McpError, match="Unknown tool: nosuch") as raised:
            await session.call_tool("nosuch")
        assert raised.value.error.code == types.INVALID_PARAMS
        with pytest.raises(McpError, match="Method not found: resources/list"):
            await session.list_resources()


async def test_a_cancelled_call_stops_its_run(url: str, server: Served, own_slow: str) -> None:
    """The client gives up, and says so on another connection; its stream stays open."""
    async with connected(url) as session:
        name = await tool_of(session, server, own_slow)
        calling = asyncio.create_task(
            session.call_tool(name, LONG, read_timeout_seconds=timedelta(seconds=BOUND_S))
        )
        await until_run_is(server, own_slow, {"running"})
        request_id = session._request_id - 1
        params = types.CancelledNotificationParams(requestId=request_id, reason="Enough.")
        await session.send_notification(
            types.ClientNotification(types.CancelledNotification(params=params))
        )
        result = await calling
        assert result.isError
        assert text_of(result) == "The run was cancelled."
    await until_run_is(server, own_slow, set())


async def test_an_id_in_flight_is_refused_and_free_again_after_the_end(
    url: str, server: Served, own_slow: str
) -> None:
    async with connected(url) as session:
        name = await tool_of(session, server, own_slow)
    headers = {"accept": "application/json", "mcp-session-id": str(uuid.uuid4())}
    async with httpx.AsyncClient(headers=headers, timeout=BOUND_S) as http:

        async def call(**arguments: Any) -> dict[str, Any]:
            params = {"name": name, "arguments": arguments}
            asked = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            return (await http.post(url, json=asked)).json()

        calling = asyncio.create_task(call(**LONG))
        await until_run_is(server, own_slow, {"running"})
        assert (await call(steps=1))["error"]["message"].startswith("A call with the id 7 is in")
        cancel = {"method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await http.post(url, json={"jsonrpc": "2.0", **cancel})).status_code == 202
        assert (await calling)["result"]["isError"]
        assert (await call(steps=1))["result"]["structuredContent"]["i"] == 1


@pytest.mark.parametrize("progress", [False, True], ids=["json", "events"])
async def test_a_client_that_leaves_stops_its_run(
    url: str, server: Served, own_slow: str, progress: bool
) -> None:
    async with connected(url) as session:
        name = await tool_of(session, server, own_slow)
        told = asyncio.Event()

        async def heard(*_: Any) -> None:
            told.set()

        calling = asyncio.create_task(
            session.call_tool(name, LONG, progress_callback=heard if progress else None)
        )
        await until_run_is(server, own_slow, {"running"})
        if progress:
            await told.wait()  # it is told while the run goes on
        calling.cancel()
    await until_run_is(server, own_slow, set())


@pytest.mark.parametrize("transport", ["http", "streamable_http"])
async def test_the_tools_of_langchain_call_graphs(url: str, transport: Any) -> None:
    client = MultiServerMCPClient({"greenroom": {"url": url, "transport": transport}})
    async with asyncio.timeout(BOUND_S):
        tools = {tool.name: tool for tool in await client.get_tools()}
        assert tools["agent"].description == "Runs the assistant agent."
        assert set(tools["counter"].args) == {"count", "log"}
        (content,) = await tools["counter"].ainvoke({"count": 3})
        assert json.loads(content["text"])["count"] == 6
        (content,) = await tools["agent"].ainvoke(QUESTION)
        said = json.loads(content["text"])["messages"]
    assert [message["type"] for message in said] == ["human", "ai"]


async def test_the_tools_of_langchain_tell_errors(url: str) -> None:
    client = MultiServerMCPClient(
        {"greenroom": {"url": url, "transport": "http"}}, handle_tool_errors=False
    )
    async with asyncio.timeout(BOUND_S):
        (fails,) = [tool for tool in await client.get_tools() if tool.name == "fails"]
        with pytest.raises(ToolException, match="ValueError: "):
            await fails.ainvoke({"x": 3})
