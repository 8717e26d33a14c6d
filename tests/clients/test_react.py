"""The hooks of @langchain/react, unmodified, in a real browser, on a page of another origin."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.chromium import Browser
from tests.clients.test_use_stream import Page, the_run_of, tokens
from tests.serving import Served


@pytest.fixture(params=["sse", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def page(browser: Browser, server: Served) -> Page:
    return Page(browser, "@langchain/react", server.url)


async def test_tokens_arrive_one_by_one(page: Page, server: Served, transport: str) -> None:
    given = {"n_tokens": 15, "delay": 0.05}
    told = await page.play("send", input=given, transport=transport)
    assert told["messages"] == ["hello", tokens(15)]
    assert told["error"] == ""
    assert urlsplit(told["origin"]).port != urlsplit(server.url).port
    shown = told["shown"]
    assert len(shown) > 3
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))


async def test_stop_cancels_the_run(page: Page, server: Served, tmp_path: Path) -> None:
    told = await page.play("stop", graph="gated", input={"gate": str(tmp_path / "gate")})
    assert told["shown"][-1].startswith("tok0 tok1 ")
    assert [one for one in told["requests"] if one["path"].endswith("/cancel")]
    assert (await the_run_of(told["thread"], server.url))["status"] == "interrupted"


async def test_an_interrupt_is_shown_and_answered(page: Page, transport: str) -> None:
    given = {"question": "May I?"}
    told = await page.play("interrupt", graph="approval", input=given, transport=transport)
    assert told["asked"] == given
    assert told["values"] == {**given, "answer": "yes", "done": True, "messages": []}
    assert (told["interrupt"], told["error"]) == ("", "")


async def test_a_reload_in_mid_run_shows_the_run(
    page: Page, tmp_path: Path, transport: str
) -> None:
    given = {"gate": str(tmp_path / "gate")}
    told = await page.play("reload", graph="gated", input=given, transport=transport)
    assert told["rejoined"] == "loading"
    assert told["messages"] == ["hello", tokens(10)]


async def test_a_message_is_edited(page: Page) -> None:
    told = await page.play("fork", input={"n_tokens": 3})
    answer = tokens(3)
    assert told["before"] == ["first", answer, "second", answer]
    assert told["messages"] == ["edited", answer]


async def test_two_tabs_show_the_same_run(page: Page, tmp_path: Path) -> None:
    told = await page.play("tabs", graph="gated", input={"gate": str(tmp_path / "gate")})
    assert told["meanwhile"] == "loading"
    assert told["messages"] == told["seen"]["messages"] == ["hello", tokens(10)]


async def test_tools_and_subgraphs_are_shown(page: Page) -> None:
    told = await page.play("crew", graph="crew")
    (tool,) = map(json.loads, told["tools"])
    assert tool["name"] == "weather"
    assert tool["args"] == {"city": "Rome"}
    assert "sunny in Rome" in json.dumps(tool["output"])
    assert any(tokens(3) in each for each in told["subgraphs"])


async def test_an_agent_that_a_tool_calls_is_shown_with_its_messages(
    page: Page, tmp_path: Path
) -> None:
    told = await page.play("squad", graph="squad", input={"gate": str(tmp_path / "gate")})
    (agent,) = map(json.loads, told["subagents"])
    expected = {"id": "task-1", "name": "writer", "taskInput": "write a line"}
    assert agent == {**expected, "status": "complete"}
    assert any(tokens(3) in each for each in told["meanwhile"])
    assert told["messages"] == [
        *("hello", "I ask the writer.", f"writer says: {tokens(3)}", "That is all."),
    ]


async def test_an_error_of_the_graph_is_shown(page: Page) -> None:
    told: dict[str, Any] = await page.play("fail", graph="fails", input={"x": 0})
    assert "boom" in told["error"]
