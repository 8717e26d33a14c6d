"""Two nodes and a server on them, for the tests of this folder that only look."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.cluster.nodes import RayCluster, ray_cluster
from tests.reliability.witness import Effects
from tests.serving import Served, serving

PLACED = Path(__file__).parent / "langgraph.json"
PATIENCE_S = 5


@contextlib.contextmanager
def served_on(
    cluster: RayCluster,
    data: Path,
    config: Path = PLACED,
    *,
    environment: Mapping[str, str] | None = None,
    arguments: tuple[str, ...] = (),
) -> Iterator[Served]:
    """`greenroom serve` on a cluster that is there."""
    settings = {
        "GREENROOM_HAPROXY": "false",
        "GREENROOM_DATABASE_URL": cluster.dsn,
        "GREENROOM_RAY_ADDRESS": cluster.address,
        "GREENROOM_PLACEMENT_PATIENCE_S": str(PATIENCE_S),
    }
    settings = {**cluster.environment, **settings, **(environment or {})}
    with serving(data, config, environment=settings, arguments=arguments) as served:
        yield served


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.add("head")
        cluster.add("second", gpus=1)
        yield cluster


@pytest.fixture(scope="package")
def server(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("served")
    with served_on(cluster, data, arguments=("--replicas", "2")) as served:
        yield served


@pytest.fixture
async def http(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path)
