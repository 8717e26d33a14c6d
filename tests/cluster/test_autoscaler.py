"""Ray's autoscaler adds a node for a waiting run, and takes it away when nobody needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from actors.registry.pools import IDLE_S
from tests.cluster.conftest import PLACED, served_on
from tests.cluster.nodes import RayCluster, ray_cluster
from tests.serving import Served
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("growing")) as cluster:
        types = {"more": {"resources": {"CPU": 2, "extra": 1}, "max_workers": 2}}
        cluster.add_autoscaling_head("head", types)
        yield cluster


@pytest.fixture(scope="module")
def grown(growing: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("grown")
    config = directory / "langgraph.json"
    target = f"{PLACED.parent / 'placed_graphs.py'}:steps"
    extra = {"warm": 0, "max_actors": 2, "resources": {"extra": 1}}
    never = {"warm": 0, "resources": {"extra": 5}}
    graphs = {"anywhere": {}, "extra": extra, "never": never}
    content = {"graphs": dict.fromkeys(graphs, target), "greenroom": {"graphs": graphs}}
    config.write_text(json.dumps(content))
    with served_on(growing, directory / "data", config) as served:
        yield served


def raylets(cluster: RayCluster) -> int:
    return sum(process.name() == "raylet" for process in cluster.nodes["head"].tree())


async def test_a_node_comes_for_a_waiting_run_and_goes_when_it_is_idle(
    grown: Served, growing: RayCluster, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=grown.url, timeout=180) as http:
        assert raylets(growing) == 1
        body = {"assistant_id": "extra", "input": {"n": 2}}
        answer = await http.post("/runs/wait", json=body)
        assert answer.json()["i"] == 2
        assert raylets(growing) == 2
        # Its actor goes when it has been idle for long enough, and then the node.
        await until(lambda: raylets(growing) == 1, within_s=IDLE_S + 120, every_s=0.5)
        again = await http.post("/runs/wait", json={"assistant_id": "anywhere", "input": {}})
        assert again.json()["i"] == 3


async def test_what_no_type_of_node_has_is_said_by_the_runs_error(grown: Served) -> None:
    async with httpx.AsyncClient(base_url=grown.url, timeout=120) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        body = {"assistant_id": "never", "input": {}}
        answer = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    message = answer.json()["__error__"]["message"]
    assert "No node can hold an actor of 'never': it needs 0.5 CPU, 5 extra;" in message
    assert "no autoscaler can add one that has it" in message
