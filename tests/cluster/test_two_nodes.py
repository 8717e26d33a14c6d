"""Runs land where their resources are, and what they say comes back from there."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.cluster.nodes import RayCluster
from tests.reliability.witness import Effects, view
from tests.serving import Served


async def ran_on(http: httpx.AsyncClient, graph: str, **state: Any) -> dict[str, Any]:
    answer = await http.post("/runs/wait", json={"assistant_id": graph, "input": state})
    answer.raise_for_status()
    return answer.json()


async def test_a_run_lands_on_the_node_that_has_its_resource(http: httpx.AsyncClient) -> None:
    assert set((await ran_on(http, "by_resource"))["nodes"]) == {"second"}


async def test_a_run_lands_on_the_node_that_its_labels_name(http: httpx.AsyncClient) -> None:
    assert set((await ran_on(http, "by_label"))["nodes"]) == {"second"}


async def test_two_runs_share_a_gpu_by_halves(http: httpx.AsyncClient) -> None:
    both = await asyncio.gather(*(ran_on(http, "by_gpu", n=4, delay=0.5) for _ in range(2)))
    assert [(set(each["nodes"]), each["gpus"]) for each in both] == [({"second"}, ["0"])] * 2


async def test_a_stream_crosses_nodes_whole_and_in_order(
    http: httpx.AsyncClient, effects: Effects, cluster: RayCluster, server: Served
) -> None:
    other = cluster.environment["RAY_SERVE_WORKER_PROXY_HTTP_PORT"]
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {
        "assistant_id": "by_resource",
        "input": effects.input(n=30),
        "stream_mode": ["updates"],
        "stream_resumable": True,
    }
    seen = await view(http, "POST", f"/threads/{thread_id}/runs/stream", json=body)
    assert seen.steps == list(range(1, 31))
    run_id = seen.of("metadata")[0]["run_id"]
    # The gateway of the other node tells the same story from the same place.
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{other}", timeout=60) as beside:
        again = await view(beside, "GET", f"/threads/{thread_id}/runs/{run_id}/stream", last="-1")
    assert again.events == seen.events


async def test_every_node_has_a_gateway_and_the_registry_is_on_the_head(
    http: httpx.AsyncClient, cluster: RayCluster
) -> None:
    def titles(node: str) -> list[str]:
        return [
            process.cmdline()[0].removeprefix("ray::") for process in cluster.nodes[node].actors()
        ]

    for node in ("head", "second"):
        assert any(title.startswith("ServeReplica:greenroom:gateway") for title in titles(node))
        assert any(title.startswith("ProxyActor") for title in titles(node))
    assert any(title.startswith("RegistryActor") for title in titles("head"))
