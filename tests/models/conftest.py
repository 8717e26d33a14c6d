"""One server for the tests of this folder, with models beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.serving import Served, serving

CONFIG = Path(__file__).parent / "langgraph.json"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    environment = {
        "GREENROOM_HAPROXY": "false",
        # Ray believes in a GPU, so shares of it can be handed out where there is none.
        "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}',
    }
    with serving(tmp_path_factory.mktemp("models"), CONFIG, environment=environment) as served:
        yield served


@pytest.fixture
async def client(server: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client
