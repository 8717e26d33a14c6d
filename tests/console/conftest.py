"""Chromium with the console of a server, driven through driver.mjs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.clients.chromium import Browser
from tests.serving import Served

pytest.register_assert_rewrite("tests.console.ways")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A server with its console, and somebody who looks at it.

    Attributes:
        url: of the server, with the prefix that it is mounted below.
        client: the SDK, as the same person.
        key: what the console asks for; empty where everybody is let in.
    """

    browser: Browser
    url: str
    client: LangGraphClient
    key: str = ""

    async def see(self, scenario: str, **options: Any) -> dict[str, Any]:
        """What a scenario of `scenarios/` tells. No page of it had a problem."""
        return await self.browser.play(scenario, url=self.url, key=self.key, **options)

    async def assistant(self, graph: str) -> str:
        """An assistant of a graph that this person sees: the handlers of the tests hide the graphs'
        own."""
        if not self.key:
            return graph
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.key} {graph}"))
        made = await self.client.assistants.create(
            graph, assistant_id=name, name=graph, if_exists="do_nothing"
        )
        return made["assistant_id"]

    async def waiting(self, graph: str, **given: Any) -> str:
        """Runs a graph until it asks something; returns its thread."""
        thread = await self.client.threads.create()
        await self.client.runs.wait(thread["thread_id"], graph, input=given)
        found = await self.client.threads.get(thread["thread_id"])
        assert found["status"] == "interrupted"
        return thread["thread_id"]

    async def values(self, thread_id: str) -> dict[str, Any]:
        """The state of a thread when its newest run has ended."""
        for run in await self.client.runs.list(thread_id, limit=1):
            await self.client.runs.join(thread_id, run["run_id"])
        state = await self.client.threads.get_state(thread_id)
        assert isinstance(state["values"], dict)
        return state["values"]


@pytest.fixture
async def open_place(visitor: Browser, server: Served) -> AsyncIterator[Place]:
    """The one server, which lets everybody in."""
    async with get_client(url=server.url) as client:
        yield Place(browser=visitor, url=server.url, client=client)


@pytest.fixture
async def closed_place(visitor: Browser, users: Served) -> AsyncIterator[Place]:
    """The server with users, below a prefix, as one of them."""
    key = "tok-alice"
    async with get_client(url=users.url, headers={"authorization": f"Bearer {key}"}) as client:
        yield Place(browser=visitor, url=users.url, client=client, key=key)
