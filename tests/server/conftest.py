"""One real server for all tests of this folder; tests keep apart by their threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.serving import Served, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It may call this machine, tries again at once and sweeps all the time."""
    environment = {
        "GREENROOM_WEBHOOK_ALLOW_PRIVATE": "true",
        "GREENROOM_WEBHOOK_RETRY_S": "0.1",
        "GREENROOM_SWEEP_INTERVAL_S": "0.2",
    }
    with serving(tmp_path_factory.mktemp("server"), environment=environment) as served:
        yield served


@pytest.fixture
async def client(server: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


@pytest.fixture
async def http(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        yield http
