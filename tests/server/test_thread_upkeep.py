"""Threads that expire, their storage, pruning, and runs that are deleted: on a real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server.starting import start, until_running
from tests.waiting import until

BOUND_S = 20.0
SLOW = {"steps": 200, "delay": 0.05}
COUNTED = {"count": 3, "log": ["one", "two", "three"]}


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> str:
    """The path of a new thread."""
    return f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"


async def finish(http: httpx.AsyncClient, thread: str, assistant: str, **body: Any) -> str:
    """Creates a run and waits for its end; returns its path."""
    run = await start(http, thread, assistant, **body)
    await http.get(f"{run}/join", headers={"accept": "application/json"})
    return run


async def until_gone(http: httpx.AsyncClient, path: str) -> None:
    async def is_gone() -> bool:
        return (await http.get(path)).status_code == 404

    await until(is_gone, within_s=BOUND_S)


async def until_pruned(http: httpx.AsyncClient, thread: str) -> None:
    """Returns when the thread was pruned: it has no next expiry then."""

    async def is_pruned() -> bool:
        return (await http.get(f"{thread}?include=ttl")).json()["ttl"]["expires_at"] is None

    await until(is_pruned, within_s=BOUND_S)


async def history(http: httpx.AsyncClient, thread: str) -> list[Any]:
    return (await http.get(f"{thread}/history?limit=100")).json()


# --- storage and pruning ------------------------------------------------------------------------


async def test_storage_counts_what_a_thread_keeps(http: httpx.AsyncClient, thread: str) -> None:
    nothing = (await http.get(f"{thread}/storage")).json()
    assert nothing == {
        "thread_id": thread.removeprefix("/threads/"),
        "total_bytes": 0,
        "checkpoints": {"count": 0, "bytes": 0},
        "channel_values": {"count": 0, "bytes": 0, "by_channel": {}},
        "pending_writes": {"count": 0, "bytes": 0},
    }
    await finish(http, thread, "counter", input={"count": 0})
    some = (await http.get(f"{thread}/storage")).json()
    assert some["checkpoints"]["count"] == 5
    channels = some["channel_values"]["by_channel"]
    assert channels["count"] == {"versions": 4, "bytes": 4}  # 0 to 3, a digit each
    assert channels["log"]["versions"] == 3
    assert some["channel_values"]["bytes"] == sum(c["bytes"] for c in channels.values())
    assert some["channel_values"]["count"] == sum(c["versions"] for c in channels.values())
    assert some["pending_writes"]["count"] > 0
    parts = ("checkpoints", "channel_values", "pending_writes")
    assert some["total_bytes"] == sum(some[part]["bytes"] for part in parts)
    unknown = await http.get("/threads/6f239382-2b65-4fb7-b8d4-8033152bb374/storage")
    assert unknown.status_code == 404


async def test_keep_latest_keeps_the_state_and_nothing_before_it(
    http: httpx.AsyncClient, thread: str
) -> None:
    await finish(http, thread, "counter", input={"count": 0})
    await finish(http, thread, "counter", input={"count": 0})
    (newest, *_) = await history(http, thread)
    before = (await http.get(f"{thread}/storage")).json()
    body = {"thread_ids": [thread.removeprefix("/threads/")], "strategy": "keep_latest"}
    assert (await http.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    (kept,) = await history(http, thread)
    assert (kept["values"], kept["checkpoint"]) == (newest["values"], newest["checkpoint"])
    after = (await http.get(f"{thread}/storage")).json()
    assert after["checkpoints"]["count"] == 1
    assert after["total_bytes"] < before["total_bytes"] / 2
    assert (await http.get(thread)).json()["values"] == newest["values"]
    await finish(http, thread, "counter", input={"count": 7})
    assert (await http.get(thread)).json()["values"]["count"] == 10


async def test_keep_latest_keeps_a_question_that_waits_for_its_answer(
    http: httpx.AsyncClient, thread: str
) -> None:
    await finish(http, thread, "counter", input={"count": 0})
    await finish(http, thread, "approval", input={"question": "go?"})
    body = {"thread_ids": [thread.removeprefix("/threads/")], "strategy": "keep_latest"}
    assert (await http.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    await finish(http, thread, "approval", command={"resume": "yes"})
    assert (await http.get(thread)).json()["values"]["answer"] == "yes"


async def test_a_thread_with_a_run_is_not_pruned(http: httpx.AsyncClient, thread: str) -> None:
    run = await start(http, thread, "slow", input=SLOW)
    await until_running(http, run)
    body = {"thread_ids": [thread.removeprefix("/threads/")], "strategy": "keep_latest"}
    assert (await http.post("/threads/prune", json=body)).json() == {"pruned_count": 0}
    assert (await http.get(run)).json()["status"] == "running"
    assert (await http.post("/threads/prune", json=body | {"strategy": "delete"})).json() == {
        "pruned_count": 1
    }
    assert (await http.get(thread)).status_code == 404


# --- time to live -------------------------------------------------------------------------------


async def test_a_thread_is_deleted_when_its_time_to_live_is_over(
    http: httpx.AsyncClient,
) -> None:
    body = {"ttl": {"ttl": 60, "strategy": "delete"}}
    thread = f"/threads/{(await http.post('/threads', json=body)).json()['thread_id']}"
    stays = f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"
    run = await finish(http, thread, "counter", input={"count": 0})
    shown = (await http.get(f"{thread}?include=ttl")).json()
    assert (shown["ttl"]["strategy"], shown["ttl"]["ttl_minutes"]) == ("delete", 60)
    assert shown["ttl"]["expires_at"] > shown["updated_at"]
    assert "ttl" not in (await http.get(thread)).json()
    await http.patch(thread, json={"ttl": {"ttl": 0.005}})
    await until_gone(http, thread)
    assert (await http.get(run)).status_code == 404
    assert (await http.get(f"{thread}/storage")).status_code == 404
    assert (await http.get(stays)).status_code == 200


async def test_a_thread_keeps_its_latest_checkpoint_when_its_time_to_live_is_over(
    http: httpx.AsyncClient,
) -> None:
    body = {"ttl": {"ttl": 60, "strategy": "keep_latest"}}
    thread = f"/threads/{(await http.post('/threads', json=body)).json()['thread_id']}"
    await finish(http, thread, "counter", input={"count": 0})
    (newest, *older) = await history(http, thread)
    assert older
    await http.patch(thread, json={"ttl": {"ttl": 0.005, "strategy": "keep_latest"}})
    await until_pruned(http, thread)
    (kept,) = await history(http, thread)
    assert (kept["checkpoint"], kept["values"]) == (newest["checkpoint"], newest["values"])
    metrics = (await http.get("/metrics")).text
    for name in ("swept_threads", "freed_checkpoints", "freed_bytes"):
        assert f'greenroom_{name}_total{{outcome="pruned"' in metrics
    # It goes on as before, and expires again after that.
    await finish(http, thread, "counter", input={"count": 0})
    await until_pruned(http, thread)
    assert len(await history(http, thread)) == 1


async def test_an_expired_question_still_waits_for_its_answer(http: httpx.AsyncClient) -> None:
    body = {"ttl": {"ttl": 60, "strategy": "keep_latest"}}
    thread = f"/threads/{(await http.post('/threads', json=body)).json()['thread_id']}"
    await finish(http, thread, "approval", input={"x": 1})
    before = (await http.get(f"{thread}/state")).json()
    assert before["interrupts"]
    await http.patch(thread, json={"ttl": {"ttl": 0.005, "strategy": "keep_latest"}})
    await until_pruned(http, thread)
    after = (await http.get(f"{thread}/state")).json()
    assert (after["interrupts"], after["next"]) == (before["interrupts"], before["next"])


async def test_a_run_keeps_its_thread_until_it_has_ended(http: httpx.AsyncClient) -> None:
    thread = f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"
    run = await start(http, thread, "slow", input={"steps": 15, "delay": 0.1})
    # Over at once; several sweeps pass while the run goes on.
    await http.patch(thread, json={"ttl": {"ttl": 0.001}})
    ended = await http.get(f"{run}/join", headers={"accept": "application/json"})
    assert ended.json()["i"] == 15
    await until_gone(http, thread)


async def test_a_thread_gets_its_time_to_live_later(http: httpx.AsyncClient) -> None:
    thread = f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"
    await http.patch(thread, json={"ttl": {"ttl": 60}})
    shown = (await http.get(f"{thread}?include=ttl")).json()
    assert shown["ttl"]["ttl_minutes"] == 60
    await http.patch(thread, json={"ttl": {"ttl": 0.005}})
    await until_gone(http, thread)


# --- what a thread shows ------------------------------------------------------------------------


async def test_error_and_interrupts_are_shown_once_the_first_run_has_ended(
    http: httpx.AsyncClient, thread: str
) -> None:
    run = await start(http, thread, "slow", input=SLOW)
    await until_running(http, run)
    busy = (await http.get(thread)).json()
    assert (busy["status"], busy["values"]) == ("busy", None)
    assert {"error", "interrupts"} & set(busy) == set()
    await http.post(f"{run}/cancel?wait=1")
    ended = (await http.get(thread)).json()
    assert (ended["error"]["error"], ended["interrupts"]) == ("UserInterrupt", {})


# --- runs that are deleted ----------------------------------------------------------------------


async def test_the_only_run_takes_the_state_with_it(http: httpx.AsyncClient, thread: str) -> None:
    run = await finish(http, thread, "counter", input={"count": 0})
    assert (await http.delete(run)).status_code == 204
    assert (await http.get(run)).status_code == 404
    assert (await http.get(thread)).json()["values"] is None
    assert await history(http, thread) == []
    assert (await http.get(f"{thread}/storage")).json()["total_bytes"] == 0
    assert (await http.delete(run)).json() == {"detail": "Run not found"}


async def test_the_newest_run_gives_way_to_what_was_before(
    http: httpx.AsyncClient, thread: str
) -> None:
    await finish(http, thread, "counter", input={"count": 0})
    before = await history(http, thread)
    run = await finish(http, thread, "fails", input={"x": 0})
    assert (await http.get(thread)).json()["status"] == "error"
    assert (await http.delete(run)).status_code == 204
    after = (await http.get(thread)).json()
    assert (after["values"], after["status"], after["error"]) == (COUNTED, "idle", None)
    assert len(await history(http, thread)) == len(before)


async def test_an_older_run_takes_only_its_checkpoints(
    http: httpx.AsyncClient, thread: str
) -> None:
    first = await finish(http, thread, "counter", input={"count": 0})
    second = await finish(http, thread, "fails", input={"x": 0})
    before = (await http.get(thread)).json()
    assert (await http.delete(first)).status_code == 204
    after = (await http.get(thread)).json()
    for name in ("values", "status", "error"):
        assert after[name] == before[name]
    left = {state["metadata"]["run_id"] for state in await history(http, thread)}
    assert left == {second.rpartition("/")[2]}


async def test_an_answer_that_is_deleted_can_be_given_again(
    http: httpx.AsyncClient, thread: str
) -> None:
    """The resume value lies on the question's checkpoint, which stays: it must go too."""
    await finish(http, thread, "approval", input={"question": "delete the database?"})
    run = await finish(http, thread, "approval", command={"resume": "YES"})
    assert (await http.get(thread)).json()["values"]["answer"] == "YES"
    assert (await http.delete(run)).status_code == 204
    asked = (await http.get(thread)).json()
    assert asked["status"] == "interrupted"
    assert "answer" not in asked["values"]
    (interrupts,) = asked["interrupts"].values()
    assert interrupts[0]["value"] == {"question": "delete the database?"}
    await finish(http, thread, "approval", command={"resume": "NO"})
    assert (await http.get(thread)).json()["values"]["answer"] == "NO"


async def test_a_running_run_is_stopped_and_leaves_nothing(
    http: httpx.AsyncClient, thread: str
) -> None:
    await finish(http, thread, "counter", input={"count": 0})
    run = await start(http, thread, "slow", input=SLOW)
    await until_running(http, run)
    waiting = await start(http, thread, "trivial", input={"x": 0})
    assert (await http.delete(run)).status_code == 204
    assert (await http.get(run)).status_code == 404
    await http.get(f"{waiting}/join", headers={"accept": "application/json"})
    runs = {state["metadata"].get("run_id") for state in await history(http, thread)}
    assert run.rpartition("/")[2] not in runs
    assert (await http.get(thread)).json()["status"] == "idle"


async def test_a_waiting_run_is_deleted_beside_the_running_one(
    http: httpx.AsyncClient, thread: str
) -> None:
    running = await start(http, thread, "slow", input=SLOW)
    await until_running(http, running)
    waiting = await start(http, thread, "trivial", input={"x": 0})
    assert (await http.delete(waiting)).status_code == 204
    assert (await http.get(waiting)).status_code == 404
    assert (await http.get(running)).json()["status"] == "running"
    await http.post(f"{running}/cancel?wait=1")


async def test_a_finished_run_is_not_deleted_under_a_running_one(
    http: httpx.AsyncClient, thread: str
) -> None:
    finished = await finish(http, thread, "counter", input={"count": 0})
    running = await start(http, thread, "slow", input=SLOW)
    await until_running(http, running)
    assert (await http.delete(finished)).status_code == 409
    await http.post(f"{running}/cancel?wait=1")
    assert (await http.delete(finished)).status_code == 204
