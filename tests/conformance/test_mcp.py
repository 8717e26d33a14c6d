"""MCP: the protocol's messages, assistants as tools, and what a call answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.conformance.talking import Talk, ok, uuid

BOTH = {"accept": "application/json, text/event-stream"}


class Mcp:
    """Sends messages of one client."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.session: dict[str, str] = {}

    async def send(self, message: Any, **headers: str) -> httpx.Response:
        sent = {**BOTH, **self.session, **headers}
        return await self._talk.call("POST", "/mcp", json=message, headers=sent)

    async def ask(self, method: str, params: Any = None, identity: Any = 1) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": identity, "method": method}
        answer = ok(await self.send(message | ({"params": params} if params else {})))
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", identity)
        return answer

    async def result(self, method: str, params: Any = None) -> dict[str, Any]:
        return (await self.ask(method, params))["result"]

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.result("tools/call", {"name": name, "arguments": arguments})

    async def tools(self) -> dict[str, dict[str, Any]]:
        tools = (await self.result("tools/list"))["tools"]
        assert len({tool["name"] for tool in tools}) == len(tools)
        return {tool["name"]: tool for tool in tools}


@pytest.fixture
async def mcp(talk: Talk) -> Mcp:
    return Mcp(talk)


@pytest.fixture
async def twins(talk: Talk) -> AsyncIterator[str]:
    """Two assistants of one name."""
    name = f"twin-{uuid()}"
    made = [
        ok(await talk.post("/assistants", {"graph_id": "counter", "name": name})) for _ in range(2)
    ]
    yield name
    for assistant in made:
        await talk.delete(f"/assistants/{assistant['assistant_id']}")


def text_of(result: dict[str, Any]) -> str:
    (content,) = result["content"]
    assert content["type"] == "text"
    return content["text"]


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_initialize_agrees_on_the_clients_version(mcp: Mcp, version: str) -> None:
    result = await mcp.result("initialize", {"protocolVersion": version, "capabilities": {}})
    assert result["protocolVersion"] == version
    assert result["capabilities"] == {"tools": {"listChanged": False}}


async def test_initialize_offers_the_latest_version_else(mcp: Mcp) -> None:
    result = await mcp.result("initialize", {"protocolVersion": "1999-01-01"})
    assert result["protocolVersion"] == "2025-11-25"


async def test_a_notification_gets_202(mcp: Mcp) -> None:
    answer = await mcp.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize(
    "message", [[], [{"jsonrpc": "2.0", "id": 1, "method": "ping"}], "ping", {"id": 1}]
)
async def test_what_is_no_message_is_400(mcp: Mcp, message: Any) -> None:
    assert (await mcp.send(message)).status_code == 400


async def test_other_methods_are_not_found(mcp: Mcp) -> None:
    assert (await mcp.ask("resources/list"))["error"]["code"] == -32601


async def test_there_is_no_stream_of_the_server(talk: Talk) -> None:
    assert (await talk.call("GET", "/mcp", headers=BOTH)).status_code == 405


async def test_a_client_that_accepts_neither_json_nor_events_is_refused(mcp: Mcp) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await mcp.send(ping, accept="text/html")).status_code == 400


async def test_graphs_are_tools_with_their_schema(mcp: Mcp) -> None:
    tools = await mcp.tools()
    assert tools["counter"]["title"] == "counter"
    assert tools["counter"]["inputSchema"]["properties"]["count"]["type"] == "integer"
    assert tools["counter"]["annotations"]["readOnlyHint"] is False


async def test_messages_are_one_text(mcp: Mcp) -> None:
    schema = (await mcp.tools())["agent"]["inputSchema"]
    assert schema["properties"]["messages"]["type"] == "string"
    assert "messages" in schema["required"]
    result = await mcp.call("agent", messages="hi", n_tokens=2, delay=0.0)
    assert "tok0 tok1" in text_of(result)


async def test_arguments_may_be_left_out(mcp: Mcp) -> None:
    result = await mcp.result("tools/call", {"name": "counter"})
    assert not result.get("isError")


async def test_an_unknown_tool_is_an_error_of_the_protocol(mcp: Mcp) -> None:
    error = (await mcp.ask("tools/call", {"name": "nosuch"}))["error"]
    assert error == {"code": -32602, "message": "Unknown tool: nosuch"}


async def test_what_a_graph_raises_is_an_error_of_the_tool(mcp: Mcp) -> None:
    result = await mcp.call("fails", x=3)
    assert result["isError"] is True
    assert text_of(result).startswith("ValueError")


async def test_the_message_of_what_a_graph_raises_is_told(mcp: Mcp) -> None:
    assert text_of(await mcp.call("fails", x=3)).startswith("ValueError: ")


async def test_the_result_of_a_tool_is_json(mcp: Mcp) -> None:
    result = await mcp.call("counter", count=3)
    assert json.loads(text_of(result)) == {"count": 6, "log": ["one", "two", "three"]}
    assert result["structuredContent"]["count"] == 6


async def test_a_question_of_a_graph_is_no_success(mcp: Mcp) -> None:
    result = await mcp.call("approval", question="May I?")
    assert result["isError"] is True
    assert "May I?" in text_of(result)


async def test_assistants_of_one_name_are_two_tools(mcp: Mcp, twins: str) -> None:
    names = [tool["name"] for tool in (await mcp.tools()).values() if tool["title"] == twins]
    assert len(names) == 2
    for name in names:
        assert not (await mcp.call(name, count=1)).get("isError")


async def test_progress_is_told_to_a_client_that_asks_for_it(mcp: Mcp) -> None:
    params = {"name": "counter", "arguments": {"count": 1}, "_meta": {"progressToken": "p"}}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = await mcp.send(call)
    assert answer.text.count('"progressToken":"p"') >= 3


async def test_an_answer_is_an_event_stream_where_nothing_else_is_accepted(mcp: Mcp) -> None:
    answer = await mcp.send(
        {"jsonrpc": "2.0", "id": 1, "method": "ping"}, accept="text/event-stream"
    )
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_any_kind_of_answer_may_be_accepted(mcp: Mcp) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert (await mcp.send(ping, accept="*/*")).status_code == 200


async def test_an_unknown_version_in_the_header_is_refused(mcp: Mcp) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    refused = await mcp.send(ping, **{"mcp-protocol-version": "1999-01-01"})
    assert refused.status_code == 400


async def test_there_is_no_session_to_end(talk: Talk) -> None:
    assert (await talk.delete("/mcp")).status_code == 405


async def test_a_cancelled_call_ends_early(mcp: Mcp, talk: Talk) -> None:
    started = await mcp.send({"jsonrpc": "2.0", "id": 0, "method": "initialize"})
    mcp.session = {"mcp-session-id": started.headers["mcp-session-id"]}
    arguments = {"steps": 100, "delay": 0.1, "tag": uuid()}
    params = {"name": "slow", "arguments": arguments}
    calling = asyncio.create_task(mcp.ask("tools/call", params, identity="a"))
    cancel = {"method": "notifications/cancelled", "params": {"requestId": "a"}}
    while not calling.done():
        # Until the run is there, there is nothing to cancel.
        assert (await mcp.send({"jsonrpc": "2.0", **cancel})).status_code == 202
        await asyncio.wait((calling,), timeout=0.1)
    result = (await calling)["result"]
    assert result["isError"] is True
    assert "100" not in text_of(result)
