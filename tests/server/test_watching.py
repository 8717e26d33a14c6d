"""What a real server tells people who watch it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.waiting import until

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


async def test_a_run_is_paused_stepped_steered_and_resumed(http: httpx.AsyncClient) -> None:
    run = await started(http, "slow", {"steps": 6, "delay": 0.2})
    path = path_of(run)
    assert (await http.post(f"{path}/pause")).status_code == 202

    async def waits() -> dict[str, Any] | None:
        found = (await http.get(path)).json()
        assert found["status"] == "running"
        return found["paused"] if found["paused"]["since"] else None

    first = await until(waits)
    assert first["next"]
    step = await http.post(f"{path}/step")
    assert step.status_code == 202
    second = await until(waits)
    assert second["since"] > first["since"]
    state = (await http.get(f"/threads/{run['thread_id']}/state")).json()
    assert state["next"] == second["next"] == ["step"]
    done = state["values"].get("i", 0)
    said = await http.post(f"{path}/input", json={"input": {"tag": "x"}})
    assert said.status_code == 202
    shown = (await http.get("/runtime")).json()
    rows = [row for actor in shown["actors"] for row in actor["runs"]]
    assert [row["paused"] for row in rows if row["run_id"] == run["run_id"]] == [True]
    assert (await http.post(f"{path}/resume")).json()["paused"] is None
    output = (await http.get(f"{path}/join")).json()
    assert output["i"] == 6
    assert [each.startswith("x") for each in output["trail"]] == [n >= done for n in range(6)]
    drawn = (await http.get(f"{path}/timeline")).json()
    kinds = [each["kind"] for each in drawn["spans"]]
    assert kinds.count("paused") == 2
    nodes = [each for each in drawn["spans"] if each["kind"] == "node"]
    assert [each["name"] for each in nodes if each["name"] == "step"] == ["step"] * 6
    assert all(each["start"] <= each["end"] and each["task_id"] for each in nodes)
    (attempt,) = drawn["attempts"]
    assert attempt["pid"]
    assert attempt["end"] == drawn["ended_at"]
    assert [each["status"] for each in drawn["inputs"]] == ["taken"]
    late = await http.post(f"{path}/pause")
    assert late.status_code == 409


async def test_a_paused_run_is_cancelled(http: httpx.AsyncClient) -> None:
    run = await started(http, "slow", SLOW)
    path = path_of(run)
    await http.post(f"{path}/pause")

    async def waits() -> bool:
        return bool((await http.get(path)).json()["paused"]["since"])

    await until(waits)
    await http.post(f"{path}/cancel", params={"wait": "true"})
    assert (await http.get(path)).json()["status"] == "interrupted"
    drawn = (await http.get(f"{path}/timeline")).json()
    (pause,) = [each for each in drawn["spans"] if each["kind"] == "paused"]
    assert pause["end"] is not None


@pytest.mark.parametrize(
    ("graph", "mode", "by"),
    [
        ("blocking", "sleep", "actor"),
        ("blocking", "cpu", "actor"),
        ("blocking", "gil", "signal"),
        ("blocking_sync", "sleep", "actor"),
    ],
)
async def test_the_stack_of_a_node_that_blocks_is_shown(
    http: httpx.AsyncClient, graph: str, mode: str, by: str, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    run = await started(http, graph, {"seconds": 60.0, "mode": mode, "until": str(seen)})
    path = path_of(run)
    node = "block_async" if graph == "blocking" else "block_sync_node"

    async def within_the_node() -> dict[str, Any] | None:
        answer = await http.get(f"{path}/stack")
        if answer.status_code != 200:
            assert answer.status_code in (409, 503), answer.text
            assert answer.json()["detail"]
            return None
        shown = answer.json()
        if mode == "gil" and shown["by"] != by:
            return None  # before the node has the lock
        functions = [each["function"] for one in shown["threads"] for each in one["frames"]]
        return shown if any(each.endswith(node) for each in functions) else None

    shown = await until(within_the_node)
    seen.touch()
    if by == "signal":
        assert shown["by"] == "signal"
        assert shown["tasks"] == []
    else:
        # A busy machine may not let the actor answer at once; then a signal is as good.
        assert shown["by"] in ("actor", "signal")
    (mine,) = [
        one
        for one in shown["threads"]
        if any(each["function"].endswith(node) for each in one["frames"])
    ]
    if shown["by"] == "actor":
        assert mine["of_this_run"]
        assert [each["node"] for each in shown["nodes"]]
        assert any(each["of_this_run"] for each in shown["tasks"])
    frame = next(each for each in mine["frames"] if each["function"].endswith(node))
    assert frame["file"].endswith("probe_graphs.py")
    assert frame["line"]
    assert frame["source"]
    assert shown["memory_bytes"] > 10_000_000
    os.kill(shown["pid"], 0)
    output = (await http.get(f"{path}/join")).json()
    assert output["out"] == "done", "the signal has not disturbed the node"
    over = await http.get(f"{path}/stack")
    assert over.status_code == 409
    assert "over (status: success)" in over.json()["detail"]


async def test_a_run_is_forked_while_it_is_executed(http: httpx.AsyncClient) -> None:
    run = await started(http, "slow", {"steps": 6, "delay": 0.2})
    path, thread = path_of(run), f"/threads/{run['thread_id']}"
    assert (await http.post(f"{path}/pause")).status_code == 202

    async def waits() -> bool:
        return bool((await http.get(path)).json()["paused"]["since"])

    await until(waits)
    state = (await http.get(f"{thread}/state")).json()
    done = state["values"].get("i", 0)
    params = {"checkpoint_id": state["checkpoint"]["checkpoint_id"], "input": None}
    body = {"id": 1, "method": "state.fork", "params": params}
    forked = (await http.post(f"{thread}/commands", json=body)).json()["result"]
    assert forked["thread_id"] == run["thread_id"]
    other = f"{thread}/runs/{forked['run_id']}"
    assert (await http.get(other)).json()["status"] == "pending", "it waits for the first one"
    assert (await http.post(f"{path}/resume")).status_code == 202
    whole = [str(n) for n in range(1, 7)]
    assert (await http.get(f"{path}/join")).json()["trail"] == whole
    assert (await http.get(f"{other}/join")).json()["trail"] == whole
    drawn = (await http.get(f"{other}/timeline")).json()
    nodes = [each["name"] for each in drawn["spans"] if each["kind"] == "node"]
    assert nodes.count("step") == 6 - done, "it went on from the checkpoint"
