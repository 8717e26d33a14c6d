"""Runs land where their resources are, and what they say comes back from there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.conftest import PLACED
from tests.cluster.nodes import RayCluster
from tests.reliability.test_run_deaths import KEPT, begin
from tests.reliability.witness import Effects, Seen, told_as_done, view, view_into
from tests.serving import Served, free_port
from tests.waiting import until

GATEWAY_S = 90.0
"""Until a node that has joined has a gateway: seconds, or more on a busy machine."""


async def ran_on(http: httpx.AsyncClient, graph: str, **state: Any) -> dict[str, Any]:
    answer = await http.post("/runs/wait", json={"assistant_id": graph, "input": state})
    answer.raise_for_status()
    return answer.json()


async def answers(http: httpx.AsyncClient) -> bool:
    """Whether a gateway is there: Serve starts the second node's after the first is ready."""
    try:
        return (await http.get("/ok")).status_code == 200
    except httpx.TransportError:
        return False


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
        await until(lambda: answers(beside), within_s=GATEWAY_S)
        again = await view(beside, "GET", f"/threads/{thread_id}/runs/{run_id}/stream", last="-1")
    assert again.events == seen.events


LOOKING = """
import asyncio, json, sys, ray
from actors.calls.directory import Handles
from actors.gateway.machines import Machines

ray.init(address=sys.argv[1], namespace="greenroom", log_to_driver=False, configure_logging=False)

async def look():
    handles, machines = Handles("greenroom"), Machines(table="another machine's")
    actors = (await handles.call("registry", "overview"))["actors"]
    executing = next(each for each in actors if each["runs"])
    place, sample = executing["place"], {}

    async def sampled():
        nonlocal sample
        sample = await machines.sample({"it": place})
        return sample

    while not await sampled():
        await asyncio.sleep(0.05)
    await sampled()  # CPU is since the sample before
    return place, sample["it"], await machines.stacks(place)

place, sample, stacks = asyncio.run(look())
frames = [frame["function"] for each in stacks for frame in each["frames"]]
print(json.dumps([place.pid, sample.memory_bytes, sample.cpu_percent, frames]))
"""
"""A gateway looks at a run that another machine executes. Here both are one machine, so it is told
that it is another one."""


async def test_a_run_on_another_node_is_looked_into(
    http: httpx.AsyncClient, effects: Effects, cluster: RayCluster, tmp_path: Path
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    hold = tmp_path / "go"
    state = effects.input(n=20, hold=str(hold))
    run_id = await begin(http, thread_id, assistant_id="by_resource", input=state, **KEPT)
    path = f"/threads/{thread_id}/runs/{run_id}"

    shown: dict[str, Any] = {}

    async def executes() -> bool:
        answer = await http.get(f"{path}/stack")
        shown.update(answer.json())
        return answer.status_code == 200 and bool(shown["nodes"])

    await until(executes)
    assert shown["pid"] in [process.pid for process in cluster.nodes["second"].actors()]
    looked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LOOKING, cluster.address],
        env={**os.environ, **cluster.environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert looked.returncode == 0, looked.stderr
    pid, memory_bytes, cpu_percent, frames = json.loads(looked.stdout)
    assert pid == shown["pid"]
    assert memory_bytes > 10_000_000
    assert cpu_percent is not None
    assert frames
    hold.touch()
    await http.get(f"{path}/join")


async def test_every_node_has_a_gateway_and_the_registry_is_on_the_head(
    http: httpx.AsyncClient, cluster: RayCluster
) -> None:
    def has(node: str, *titles: str) -> bool:
        found = [process.cmdline()[0] for process in cluster.nodes[node].actors()]
        return all(any(each.startswith(f"ray::{title}") for each in found) for title in titles)

    gateway = "ServeReplica:greenroom:gateway"
    await until(lambda: has("head", gateway, "ProxyActor", "RegistryActor"), within_s=GATEWAY_S)
    await until(lambda: has("second", gateway, "ProxyActor"), within_s=GATEWAY_S)


async def test_a_run_of_a_node_that_is_lost_goes_on_elsewhere_and_so_does_its_stream(
    http: httpx.AsyncClient, effects: Effects, cluster: RayCluster, tmp_path: Path
) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    state = effects.input(n=20, hold=str(tmp_path / "go"))
    run_id = await begin(http, thread_id, assistant_id="by_resource", input=state, **KEPT)
    lost = cluster.nodes["second"]
    seen = Seen()
    # One connection, through the head's gateway.
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    viewer = asyncio.create_task(view_into(seen, http, "GET", path, last="-1"))
    await until(lambda: len(seen.steps) >= 3)
    await asyncio.to_thread(cluster.add, "second", gpus=1)
    assert seen.attempts == [1]
    await asyncio.to_thread(lost.kill)
    (tmp_path / "go").touch()
    async with asyncio.timeout(120):
        await viewer
    # An attempt is lost if another actor of that node gets it before Ray knows that it is dead.
    first, second = seen.attempts
    assert (first, second > 1) == (1, True)
    told_as_done(seen, effects.of(run_id), 20)
    # Death is Ray's notice, and then the run waits for nothing but its new actor.
    print(f"a lost node: the longest silence was {seen.gap_s:.1f} s")
    state = (await http.get(f"/threads/{thread_id}/state")).json()["values"]
    assert len(state["nodes"]) == 20


@pytest.mark.slow
async def test_runs_that_no_node_can_hold_end_and_say_so_until_one_comes(
    http: httpx.AsyncClient, cluster: RayCluster
) -> None:
    await asyncio.to_thread(cluster.lose, "second")
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": "by_resource", "input": {}}
    answer = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    error = answer.json()["__error__"]
    assert "No node can hold an actor of 'by_resource'" in error["message"]
    assert "the most that a node has is 0 second" in error["message"]
    await asyncio.to_thread(cluster.add, "second", gpus=1)
    await until(lambda: placed(http))


async def placed(http: httpx.AsyncClient) -> bool:
    return set((await ran_on(http, "by_resource")).get("nodes", [])) == {"second"}


def refused_by(cluster: RayCluster, data: Path, config: Path, **environment: str) -> str:
    """What `greenroom serve` says when it does not start."""
    given = {**os.environ, **cluster.environment, "GREENROOM_HAPROXY": "false", **environment}
    command = [sys.executable, "-m", "greenroom", "serve", "--address", cluster.address]
    options = ["--config", str(config), "--port", str(free_port()), "--data-dir", str(data)]
    done = subprocess.run(
        [*command, *options, "--namespace", "refused"],
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_the_embedded_database_is_refused_beyond_one_node(
    cluster: RayCluster, tmp_path: Path
) -> None:
    said = refused_by(cluster, tmp_path, PLACED)
    assert re.search(r"The embedded database serves one node, and this cluster has \d", said)
    assert "GREENROOM_DATABASE_URL" in said


def test_a_placement_that_no_node_can_satisfy_is_said_at_start(
    cluster: RayCluster, tmp_path: Path
) -> None:
    wide = json.loads(PLACED.read_text())
    wide["dependencies"] = [str(PLACED.parent)]
    wide["graphs"] = {"wide": f"{PLACED.parent / 'placed_graphs.py'}:steps"}
    wide["greenroom"] = {"graphs": {"wide": {"num_gpus": 8, "warm": 0}}}
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps(wide))
    given = {"GREENROOM_DATABASE_URL": cluster.dsn, "GREENROOM_PLACEMENT_PATIENCE_S": "1"}
    said = refused_by(cluster, tmp_path, config, **given)
    assert "No node can hold an actor of 'wide': it needs 0.5 CPU, 8 GPU; the most" in said
