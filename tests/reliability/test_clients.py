"""The clients of event streaming while something dies under them: what they show in the end is the
state of the thread.

A model waits in the middle of its message until the death has happened. If its process has died,
the message is streamed anew, under another id, and the half one is gone everywhere.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client

from tests.clients.chromium import Browser
from tests.clients.conftest import Sdk, driven
from tests.reliability.conftest import MORTAL
from tests.reliability.witness import is_warm, kill_gateways, process_titled
from tests.serving import Served, serving
from tests.waiting import until

# The Python SDK leaves connections to the garbage collector when a stream is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

BOUND_S = 90.0
COUNT = 12
WHOLE = "".join(f"{number} " for number in range(COUNT))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What a test leaves is collected while its warnings are ignored."""
    yield
    gc.collect()


@pytest.fixture(params=["run", "registry", "gateway"])
def victim(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def sdk(node: str, server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sdk]:
    with driven(node, "langgraph-sdk-1", tmp_path_factory.mktemp("sdk"), server.url) as sdk:
        yield sdk


class Gate:
    """Where the model waits; it goes on when something has died."""

    def __init__(self, directory: Path, server: Served) -> None:
        self.path = directory / "gate"
        self.ready = directory / "gate.ready"
        self._server = server

    @property
    def input(self) -> dict[str, Any]:
        return {"gate": str(self.path), "count": COUNT, "delay": 0.01}

    async def died(self, victim: str) -> None:
        """Kills when the client has seen some tokens, and lets the model go on."""
        pid = self.path.with_suffix(".pid")
        await until(lambda: self.ready.exists() and pid.exists() and pid.read_text())
        if victim == "run":
            psutil.Process(int(pid.read_text())).kill()
        elif victim == "registry":
            process_titled(self._server, "RegistryActor").kill()
        else:
            kill_gateways(self._server)
        self.path.touch()

    async def beside(self, victim: str, client: Awaitable[Any]) -> Any:
        """Returns what the client tells in the end."""
        async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
            told = group.create_task(_told(client))
            await self.died(victim)
        return told.result()


async def _told(client: Awaitable[Any]) -> Any:
    return await client


@pytest.fixture
async def gate(tmp_path: Path, server: Served, http: httpx.AsyncClient) -> Gate:
    await is_warm(http)
    return Gate(tmp_path, server)


def text_of(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(each["text"] for each in content)


async def state_of(http: httpx.AsyncClient, thread_id: str) -> list[str]:
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    return [text_of(each) for each in state["values"]["messages"]]


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_the_javascript_sdk(sdk: Sdk, gate: Gate, victim: str, transport: str) -> None:
    """What awaits a half message gets it, marked as broken; the next one is whole."""
    asked = {"graph": "gated", "input": gate.input, "ready": str(gate.ready)}
    playing = sdk.play("eventOutlive", transport=transport, **asked)
    (seen,) = await gate.beside(victim, playing)
    assert seen["output"] == seen["state"] == ["hello", WHOLE]
    assert seen["values"][-1] == 2
    assert seen["whole"] == [WHOLE]
    assert seen["broken"] == (victim == "run")


@pytest.mark.parametrize(
    ("victim", "transport"),
    [("run", "sse"), ("registry", "sse"), ("gateway", "websocket"), ("gateway", "sse")],
)
async def test_the_hooks_of_react(
    browser: Browser,
    server: Served,
    http: httpx.AsyncClient,
    gate: Gate,
    victim: str,
    transport: str,
) -> None:
    await shows_the_state(browser, server, http, gate, victim, transport)


@pytest.mark.slow
async def test_the_hooks_of_react_when_a_gateway_dies(browser: Browser, tmp_path: Path) -> None:
    """HAProxy breaks the streams off. Ray's own proxy, which stands before the other tests' server,
    ends them cleanly."""
    with serving(tmp_path / "server", MORTAL) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            await is_warm(http)
            await shows_the_state(browser, server, http, Gate(tmp_path, server), "gateway")


async def shows_the_state(
    browser: Browser,
    server: Served,
    http: httpx.AsyncClient,
    gate: Gate,
    victim: str,
    transport: str = "sse",
) -> None:
    given = {"sdk": "@langchain/react", "api": server.url, "graph": "gated", "input": gate.input}
    given |= {"transport": transport, "answer": WHOLE}
    told = await gate.beside(victim, browser.play("outlive", **given))
    assert told["error"] == ""
    assert told["messages"] == await state_of(http, told["thread"]) == ["hello", WHOLE]
    assert told["shown"][-1] == WHOLE


async def test_the_python_sdk_message_by_message(
    server: Served, http: httpx.AsyncClient, gate: Gate, victim: str
) -> None:
    """Who reads a half message is told by an error that it is broken; the next one is whole."""
    whole: list[str] = []
    broken: list[str] = []

    async def read(message: Any) -> None:
        parts: list[str] = []
        try:
            async for part in message.text:
                parts.append(part)
                if len(parts) == 3:
                    gate.ready.touch()
        except RuntimeError as error:
            broken.append(str(error))
        else:
            whole.append("".join(parts))

    async def follow(stream: Any, reading: list[asyncio.Task[None]]) -> None:
        async for message in stream.messages:
            reading.append(asyncio.create_task(read(message)))

    async def client() -> Any:
        async with (
            get_client(url=server.url) as sdk,
            sdk.threads.stream(assistant_id="gated") as stream,
        ):
            reading: list[asyncio.Task[None]] = []
            following = asyncio.create_task(follow(stream, reading))
            human = {"role": "user", "content": "hello"}
            await stream.run.start(input={"messages": [human], **gate.input})
            output = await stream.output
            await until(lambda: len(whole) == 1)
            following.cancel()
            await asyncio.gather(following, *reading, return_exceptions=True)
            return stream.thread_id, output

    thread_id, output = await gate.beside(victim, client())
    said = [text_of(each) for each in output["messages"]]
    assert said == await state_of(http, thread_id) == ["hello", WHOLE]
    assert whole == [WHOLE]
    assert len(broken) == (victim == "run")
    assert all("died" in each for each in broken)


async def test_a_remote_graph(server: Served, gate: Gate, victim: str) -> None:
    graph = RemoteGraph("gated", url=server.url)

    async def client() -> Any:
        given = {"messages": [{"role": "user", "content": "hello"}], **gate.input}
        async with await graph.astream_events(given, version="v3") as run:
            gate.ready.touch()
            return await run.output()

    output = await gate.beside(victim, client())
    assert [text_of(each) for each in output["messages"]] == ["hello", WHOLE]
