"""A paused run survives the death of its process and of the registry, and waits again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.reliability.stage import Stage
from tests.reliability.witness import Effects, is_warm, process_of
from tests.waiting import until


async def paused(http: httpx.AsyncClient, effects: Effects, graph: str) -> tuple[str, Any]:
    """A run that waits after its first steps; its path and its record."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    runs = f"/threads/{thread_id}/runs"
    body = {"assistant_id": graph, "input": effects.input(n=6, delay=0.4), "durability": "async"}
    run_id = (await http.post(runs, json=body)).json()["run_id"]
    path = f"{runs}/{run_id}"
    await until(lambda: effects.of(run_id))
    assert (await http.post(f"{path}/pause")).status_code == 202
    return path, await waiting(http, path)


async def waiting(http: httpx.AsyncClient, path: str, after: int = 0) -> Any:
    """The record of a run that waits, in an attempt after this one."""

    async def waits() -> Any:
        drawn = (await http.get(f"{path}/timeline")).json()
        record = (await http.get(path)).json()  # behind it: it has what the timeline shows
        pauses = [each for each in drawn["spans"] if each["kind"] == "paused"]
        is_so = pauses and pauses[-1]["end"] is None and pauses[-1]["attempt"] > after
        return record if is_so and record["status"] == "running" else None

    return await until(waits)


@pytest.mark.parametrize("graph", ["steps", "crowd"])
async def test_a_paused_run_comes_back_paused_after_kill_9(
    http: httpx.AsyncClient, effects: Effects, graph: str
) -> None:
    await is_warm(http)
    path, before = await paused(http, effects, graph)
    run_id = path.rpartition("/")[2]
    done = effects.of(run_id)
    process = await process_of(http, run_id)
    process.kill()
    after = await waiting(http, path, after=1)
    assert after["paused"] == before["paused"]
    assert effects.of(run_id) == done, "nothing was executed again"
    assert (await http.post(f"{path}/step")).status_code == 202

    async def stepped() -> bool:
        since = (await http.get(path)).json()["paused"]["since"]
        return since is not None and since > before["paused"]["since"]

    await until(stepped)
    assert sum(effects.of(run_id).values()) == sum(done.values()) + 1
    assert (await http.post(f"{path}/resume")).status_code == 202
    output = (await http.get(f"{path}/join")).json()
    assert output["i"] == 6
    assert sum(effects.of(run_id).values()) == 6
    drawn = (await http.get(f"{path}/timeline")).json()
    assert [each["why"] for each in drawn["attempts"]] == ["died", None]
    kinds = [each["kind"] for each in drawn["spans"]]
    assert kinds.count("paused") == 3
    assert kinds.count("recovering") == 1
    assert drawn["attempts"][0]["pid"] == process.pid


async def test_a_registry_that_dies_after_it_stored_a_resume_has_the_run_go_on(
    http: httpx.AsyncClient, effects: Effects, stage: Stage
) -> None:
    path, _ = await paused(http, effects, "crowd")
    stage.plan("paused", "kill")
    resumed = await http.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (202, None)
    assert stage.reached("paused")
    output = (await http.get(f"{path}/join")).json()
    assert output["i"] == 6
