"""The routes for people who watch a server."""

from __future__ import annotations

import httpx
import pytest

from tests.http.edge_doubles import NOW, RUN, THREAD, UNKNOWN, MemoryRecords, MemoryRuntime


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_the_runtime_is_shown_with_the_threads_that_wait_for_a_human(
    client: httpx.AsyncClient, records: MemoryRecords, mount: str
) -> None:
    records.add_run()
    records.threads[THREAD]["status"] = "interrupted"
    shown = (await client.get(f"{mount}/runtime")).json()
    assert shown["totals"] == {"running": 7, "pending": 0, "interrupted": 1}
    assert [run["run_id"] for run in shown["actors"][0]["runs"]] == [RUN]


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_the_life_of_a_run_is_drawn_with_what_its_actor_has_noted(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime, mount: str
) -> None:
    records.add_run()
    shown = (await client.get(f"{mount}/threads/{THREAD}/runs/{RUN}/timeline")).json()
    assert [each["kind"] for each in shown["spans"]] == ["queued", "running", "starting", "node"]
    assert shown["spans"][-1]["name"] == "step"
    assert shown["spans"][-1]["end"] is None
    assert runtime.asked_notes == [(RUN, 1, "a1")]


async def test_of_a_run_that_is_over_no_actor_is_asked(
    client: httpx.AsyncClient, records: MemoryRecords, runtime: MemoryRuntime
) -> None:
    records.add_run(status="success")
    shown = (await client.get(f"/threads/{THREAD}/runs/{RUN}/timeline")).json()
    assert shown["ended_at"] == "1970-01-01T00:00:09.000+00:00"
    assert runtime.asked_notes == []
    missing = await client.get(f"/threads/{THREAD}/runs/{UNKNOWN}/timeline")
    assert missing.status_code == 404


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_a_run_is_paused_stepped_and_resumed(
    client: httpx.AsyncClient, records: MemoryRecords, mount: str
) -> None:
    records.add_run()
    path = f"{mount}/threads/{THREAD}/runs/{RUN}"
    for action in ("step", "resume"):
        early = await client.post(f"{path}/{action}")
        assert early.status_code == 409
        assert "Pause it first" in early.json()["detail"]
    for action in ("pause", "step"):
        done = await client.post(f"{path}/{action}")
        assert done.status_code == 202
        assert done.json() == {
            "run_id": RUN,
            "thread_id": THREAD,
            "paused": {"since": NOW, "next": ["n"]},
        }
    resumed = await client.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["paused"]) == (202, None)
    records.runs[RUN]["status"] = "success"
    assert (await client.post(f"{path}/pause")).status_code == 409
    nowhere = await client.post(f"{mount}/threads/{THREAD}/runs/{UNKNOWN}/pause")
    assert nowhere.status_code == 404
