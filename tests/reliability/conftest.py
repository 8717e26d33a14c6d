"""One server that survives what the tests of this folder do to its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.reliability.stage import Stage
from tests.reliability.witness import Effects
from tests.serving import Served, serving

MORTAL = Path(__file__).parent / "langgraph.json"
GRACE_S = 2.5
"""What a cancelled run gets to stop. Tests wait that long for those that do not."""
INSPECT_S = 10.0
"""What a question about a state may take. Tests wait that long for one that hangs; what must not
wait for it has so long to come first, and a run that is stopped takes `GRACE_S` of it."""
READS = "reads"
"""File in the server's directory: in which processes factories were called for readers."""


@pytest.fixture(scope="package")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, stage: Stage) -> Iterator[Served]:
    # Without HAProxy it starts sooner; what concerns that has a server of its own.
    directory = tmp_path_factory.mktemp("reliability")
    environment = {
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_CANCEL_GRACE_S": str(GRACE_S),
        "GREENROOM_INSPECT_S": str(INSPECT_S),
        "MORTAL_READS": str(directory / READS),
        "STAGE": str(stage.directory),
    }
    program = ("-m", "tests.reliability.faulty_server")
    with serving(directory, MORTAL, environment=environment, program=program) as served:
        yield served


@pytest.fixture
async def client(server: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


@pytest.fixture
async def http(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path)
