"""One server for the tests of this folder: with models beside it, a log file and a collector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.models.collector import Collector, collecting
from tests.serving import Served, serving

CONFIG = Path(__file__).parent / "langgraph.json"


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("models")
    environment = {
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_GATEWAY_REPLICAS": "1",
        # Ray believes in a GPU, so shares of it can be handed out where there is none.
        "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}',
        "GREENROOM_LOG_FILE": str(directory / "logs" / "greenroom.jsonl"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with serving(directory, CONFIG, environment=environment) as served:
        yield served


@pytest.fixture
async def client(server: Served) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client
