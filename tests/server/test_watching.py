"""What a real server tells people who watch it."""

from __future__ import annotations

import os
from typing import Any

import httpx

from tests.reliability.witness import until

SLOW = {"steps": 40, "delay": 0.15}


async def started(http: httpx.AsyncClient, graph: str, given: dict[str, Any]) -> dict[str, Any]:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    body = {"assistant_id": graph, "input": given}
    return (await http.post(f"/threads/{thread_id}/runs", json=body)).json()


def path_of(run: dict[str, Any]) -> str:
    return f"/threads/{run['thread_id']}/runs/{run['run_id']}"


async def test_the_runtime_shows_actors_runs_and_the_queue(http: httpx.AsyncClient) -> None:
    run = await started(http, "slow", SLOW)
    queued = (
        await http.post(
            f"/threads/{run['thread_id']}/runs",
            json={"assistant_id": "slow", "input": {}, "multitask_strategy": "enqueue"},
        )
    ).json()

    async def in_its_node() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
        shown = (await http.get("/runtime")).json()
        for actor in shown["actors"]:
            for row in actor["runs"]:
                if row["run_id"] == run["run_id"] and row["node"] == "step":
                    return shown, actor, row
        return None

    shown, actor, row = await until(in_its_node)
    assert row["assistant_id"] == run["assistant_id"]
    assert row["since"] >= run["created_at"]
    assert actor["kind"] == "run"
    os.kill(actor["pid"], 0)
    assert actor["memory_bytes"] > 10_000_000
    assert actor["host"]
    (waiting,) = [each for each in shown["queue"] if each["run_id"] == queued["run_id"]]
    assert waiting["waits_for"] == {"kind": "run", "run_id": run["run_id"]}
    (pool,) = [each for each in shown["pools"] if each["name"] == actor["pool"]]
    assert pool["busy"] >= 1
    assert pool["limit"] >= pool["actors"]
    assert shown["totals"]["running"] >= 1
    assert len(shown["rates"]) == 60
    assert sum(each["started"] for each in shown["rates"]) >= 1
    assert shown["latency"]["queued_ms"]["p50"] >= 0
    again = (await http.get("/runtime")).json()
    (same,) = [each for each in again["actors"] if each["name"] == actor["name"]]
    assert same["cpu_percent"] is not None
    for each in (queued, run):
        await http.post(f"{path_of(each)}/cancel", params={"wait": "true"})
