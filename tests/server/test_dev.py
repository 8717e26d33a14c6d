"""`greenroom dev`: the next run has what has changed in the project, and runs under way do not."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Served, serving
from tests.waiting import BOUND_S

GRAPH = """
import asyncio
import os

from typing_extensions import TypedDict
from langgraph.graph import START, StateGraph


class State(TypedDict, total=False):
    waits_for: str
    said: str


async def say(state):
    while (path := state.get("waits_for")) and not os.path.exists(path):
        await asyncio.sleep(0.02)
    return {"said": "first" + os.environ.get("SUFFIX", "")}


builder = StateGraph(State)
builder.add_node("say", say)
builder.add_edge(START, "say")
graph = builder.compile()
"""


class Project:
    """The project that is served."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "langgraph.json"
        self.served: Served
        self.reset()

    def reset(self) -> None:
        self.write("agent.py", GRAPH)
        self.write(".env", "")
        self.configure("agent")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)

    def configure(self, *graphs: str) -> None:
        names = {name: "./agent.py:graph" for name in graphs}
        placement = {"defaults": {"warm": 1}}
        content = {"dependencies": ["."], "graphs": names, "env": ".env", "greenroom": placement}
        self.write("langgraph.json", json.dumps(content))

    async def says(self, text: str) -> None:
        """Waits until the terminal shows it."""
        log = self.served.log
        await until(lambda: asyncio.sleep(0.05, log.read_text()), lambda said: text in said)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("dev")
    project = Project(root)
    with serving(
        root / "data",
        project.config,
        arguments=("--no-browser",),
        environment={"GREENROOM_HAPROXY": "false", "GREENROOM_GATEWAY_REPLICAS": "1"},
        program=("-m", "greenroom", "dev"),
    ) as served:
        project.served = served
        yield project


@pytest.fixture
async def http(started: Project) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=started.served.url, timeout=60) as http:
        yield http


@pytest.fixture
async def project(started: Project, http: httpx.AsyncClient) -> Project:
    """The project as it was at first, and taken up."""
    started.reset()
    await until_said(http, "first")
    return started


async def run(http: httpx.AsyncClient, graph: str = "agent", **given: Any) -> Any:
    body = {"assistant_id": graph, "input": given}
    return (await http.post("/runs/wait", json=body)).json()


async def until_said(http: httpx.AsyncClient, said: str) -> None:
    await until(lambda: run(http), lambda output: output.get("said") == said)


async def until(ask: Callable[[], Any], holds: Callable[[Any], object]) -> None:
    """Asks until the answer is as it should be; one breaks off while a gateway is replaced."""
    deadline_s = time.monotonic() + BOUND_S
    while True:
        try:
            found = await ask()
            if holds(found):
                return
        except httpx.TransportError as error:
            found = error
        assert time.monotonic() < deadline_s, found


async def test_the_next_run_has_the_change_and_the_run_under_way_has_not(
    project: Project, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "agent", "input": {"waits_for": str(tmp_path / "go")}}
    created = (await http.post(f"/threads/{thread_id}/runs", json=body)).json()
    path = f"/threads/{thread_id}/runs/{created['run_id']}"
    await until(lambda: http.get(path), lambda answer: answer.json()["status"] == "running")

    project.write("agent.py", GRAPH.replace("first", "second").replace('"say"', '"tell"'))
    await until_said(http, "second")
    (tmp_path / "go").touch()
    assert (await http.get(f"{path}/join")).json()["said"] == "first"
    # Its thread stays, and who asks about graphs sees the new one.
    body = {"assistant_id": "agent", "input": {"waits_for": None}}
    answer = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    assert answer.json()["said"] == "second"

    async def nodes() -> set[str]:
        drawn = (await http.get("/assistants/agent/graph")).json()
        return {node["id"] for node in drawn["nodes"]}

    await until(nodes, lambda found: "tell" in found)
    await project.says("agent.py: taken up in")


async def test_code_that_does_not_load_stands_in_the_terminal_and_the_old_code_goes_on(
    project: Project, http: httpx.AsyncClient
) -> None:
    project.write("agent.py", GRAPH.replace("return", "retrun"))
    await project.says("retrun")
    await project.says("The code from before goes on.")
    assert "retrun" in (await http.get("/runtime")).json()["problem"]
    for _ in range(3):
        assert (await run(http))["said"] == "first"
    project.write("agent.py", GRAPH.replace("first", "mended"))
    await until_said(http, "mended")
    assert (await http.get("/runtime")).json()["problem"] is None


async def test_a_change_of_the_same_size_and_the_same_second_is_taken_up(
    project: Project, http: httpx.AsyncClient
) -> None:
    file = project.config.parent / "agent.py"
    before = file.stat()
    project.write("agent.py", GRAPH.replace("first", "again"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    await until_said(http, "again")


async def test_a_changed_configuration_and_its_variables_are_taken_up(
    project: Project, http: httpx.AsyncClient
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    project.write(".env", "SUFFIX=-and-more\n")
    project.configure("agent", "other")
    await until(lambda: run(http, "other"), lambda output: output.get("said") == "first-and-more")
    await until_said(http, "first-and-more")
    assert (await http.get(f"/threads/{thread_id}")).status_code == 200
    project.configure("agent")
    await until(
        lambda: http.post("/runs/wait", json={"assistant_id": "other", "input": {}}),
        lambda answer: answer.status_code == 422,
    )
