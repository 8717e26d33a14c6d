"""Cancelling: every stage of a run, both actions, with and without waiting."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.talking import SLOW, UNKNOWN, Talk, names, ok, refused, uuid

NOTHING_MATCHES = (
    "No matching runs to cancel. Please verify the thread ID and run IDs are correct, and the "
    "runs haven't been deleted or completed."
)


@pytest.mark.parametrize("wait", [None, 0, "false"])
async def test_a_cancel_answers_202_at_once(talk: Talk, thread_id: str, wait: object) -> None:
    run_id = await talk.running(thread_id)
    answer = await talk.cancel(thread_id, run_id, **({} if wait is None else {"wait": wait}))
    assert (answer.status_code, answer.content) == (202, b"")
    assert await talk.ended(thread_id, run_id) == "interrupted"
    thread = await talk.settled(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["values"]["i"] >= 1


@pytest.mark.parametrize("wait", [1, "true"])
async def test_a_cancel_that_waits_answers_when_the_run_has_stopped(
    talk: Talk, thread_id: str, wait: object
) -> None:
    run_id = await talk.running(thread_id)
    assert ok(await talk.cancel(thread_id, run_id, wait=wait)) == {}
    assert await talk.status(thread_id, run_id) == "interrupted"
    thread = await talk.thread(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["values"]["i"] >= 1


async def test_the_stream_of_a_cancelled_run_just_ends(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "slow", input=SLOW) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
        await talk.cancel(thread_id, run_id)
        assert set(names(await stream.rest())) <= {"values"}
    assert await talk.status(thread_id, run_id) == "interrupted"


@pytest.mark.parametrize("wait", [0, 1])
async def test_a_rollback_leaves_nothing_of_the_run(talk: Talk, thread_id: str, wait: int) -> None:
    await talk.wait(thread_id, "slow", input={"steps": 1, "delay": 0, "tag": "z"})
    before = await talk.history(thread_id)
    async with talk.streaming(thread_id, "slow", input=SLOW) as stream:
        await stream.until("values", lambda data: len(data["trail"]) > 1)
        run_id = stream.heard[0].data["run_id"]
        answer = await talk.cancel(thread_id, run_id, action="rollback", wait=wait)
        assert answer.status_code == (200 if wait else 202)
        await stream.rest()
    assert await talk.ended(thread_id, run_id) == "deleted"
    thread = await talk.settled(thread_id)
    assert thread["status"] == "idle"
    assert thread["values"]["trail"] == ["z1"]
    assert await talk.history(thread_id) == before


async def test_a_rollback_of_the_first_run_leaves_an_empty_thread(
    talk: Talk, thread_id: str
) -> None:
    run_id = await talk.running(thread_id)
    await talk.cancel(thread_id, run_id, action="rollback", wait=1)
    thread = await talk.settled(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", None)
    assert await talk.history(thread_id) == []
    assert (await talk.state(thread_id))["values"] == {}


async def pending_cancelled(talk: Talk, thread_id: str, action: str) -> tuple[str, str]:
    """A running run, and a pending one behind it that was cancelled."""
    first = await talk.running(thread_id)
    second = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    assert (await talk.cancel(thread_id, second, action=action)).status_code == 202
    return first, second


async def test_a_pending_run_is_interrupted(talk: Talk, thread_id: str) -> None:
    first, second = await pending_cancelled(talk, thread_id, "interrupt")
    assert await talk.status(thread_id, second) == "interrupted"
    assert await talk.status(thread_id, first) == "running"


async def test_a_pending_run_that_is_rolled_back_is_only_interrupted(
    talk: Talk, thread_id: str
) -> None:
    first, second = await pending_cancelled(talk, thread_id, "rollback")
    assert await talk.ended(thread_id, second) == "interrupted"
    assert await talk.status(thread_id, first) == "running"


async def test_a_thread_stays_busy_when_a_pending_run_is_cancelled(
    talk: Talk, thread_id: str
) -> None:
    await pending_cancelled(talk, thread_id, "interrupt")
    assert (await talk.thread(thread_id))["status"] == "busy"


async def test_a_pending_run_that_is_cancelled_never_starts(talk: Talk, thread_id: str) -> None:
    """Its stream ends without events, and the thread is as it was."""
    await talk.running(thread_id)
    async with talk.streaming(thread_id, "trivial", input={"x": 1}) as stream:
        second = stream.response.headers["content-location"].rpartition("/")[2]
        assert ok(await talk.cancel(thread_id, second, wait=1)) == {}
        assert await stream.rest() == []
    assert await talk.status(thread_id, second) == "interrupted"


async def test_a_delayed_run_that_is_cancelled_leaves_the_thread_as_it_was(
    talk: Talk, thread_id: str
) -> None:
    await talk.wait(thread_id, "trivial", input={"x": 1})
    run_id = (await talk.create(thread_id, "trivial", input={"x": 5}, after_seconds=60))["run_id"]
    assert (await talk.thread(thread_id))["status"] == "busy"
    await talk.cancel(thread_id, run_id, wait=1)
    thread = await talk.settled(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", {"x": 2})


async def test_waiting_for_a_run_that_is_cancelled_ends(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    joining = asyncio.create_task(talk.get(f"/threads/{thread_id}/runs/{run_id}/join"))
    await talk.cancel(thread_id, run_id, wait=1)
    assert (await joining).status_code == 200


async def test_waiting_for_a_pending_run_that_is_cancelled_ends(talk: Talk, thread_id: str) -> None:
    await talk.running(thread_id)
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    joining = asyncio.create_task(talk.get(f"/threads/{thread_id}/runs/{run_id}/join"))
    await talk.cancel(thread_id, run_id)
    assert (await joining).status_code == 200


async def test_waiting_for_a_run_that_is_rolled_back_ends(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "slow", input=SLOW) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
        joining = asyncio.create_task(talk.get(f"/threads/{thread_id}/runs/{run_id}/join"))
        await talk.cancel(thread_id, run_id, action="rollback", wait=1)
        assert isinstance(ok(await joining), dict)


async def test_a_finished_run_cannot_be_cancelled(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    await talk.join(thread_id, run_id)
    for query in ({}, {"wait": 1}, {"action": "rollback"}):
        assert refused(await talk.cancel(thread_id, run_id, **query), 404) == NOTHING_MATCHES
    assert await talk.status(thread_id, run_id) == "success"
    assert (await talk.thread(thread_id))["values"] == {"x": 2}


async def test_an_unknown_run_cannot_be_cancelled(talk: Talk, thread_id: str) -> None:
    assert refused(await talk.cancel(thread_id, uuid()), 404) == "No runs found to cancel."
    assert refused(await talk.cancel(UNKNOWN, uuid()), 404) == "No runs found to cancel."


async def test_a_run_of_another_thread_cannot_be_cancelled(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    other = await talk.new_thread()
    refused(await talk.cancel(other, run_id), 404)
    assert await talk.status(thread_id, run_id) == "running"


async def test_cancelling_twice_does_no_harm(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    answers = await asyncio.gather(*(talk.cancel(thread_id, run_id) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {202, 404}
    assert answers[0].status_code == 202 or 202 in {a.status_code for a in answers}
    assert await talk.ended(thread_id, run_id) == "interrupted"


@pytest.mark.parametrize("query", [{"action": "bogus"}, {"wait": "bogus"}])
async def test_what_is_no_action_means_interrupt(
    talk: Talk, thread_id: str, query: dict[str, str]
) -> None:
    run_id = await talk.running(thread_id)
    assert (await talk.cancel(thread_id, run_id, **query)).status_code == 202
    assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_a_cancelled_run_can_be_continued(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(
        thread_id, "slow", input={"steps": 6, "delay": 0.1, "tag": "a"}
    ) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        await talk.cancel(thread_id, stream.heard[0].data["run_id"], wait=1)
    output = await talk.wait(thread_id, "slow", input=None)
    assert output["trail"] == [f"a{n}" for n in range(1, 7)]
    assert (await talk.thread(thread_id))["status"] == "idle"


async def test_a_thread_takes_runs_right_after_a_cancel(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    await talk.cancel(thread_id, run_id, wait=1)
    output = await talk.wait(thread_id, "trivial", input={"x": 1}, multitask_strategy="reject")
    assert output["x"] == 2


async def test_some_runs_of_a_thread_are_cancelled_together(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    queued = [(await talk.create(thread_id, "trivial", input={"x": n}))["run_id"] for n in (1, 2)]
    answer = await talk.post(
        "/runs/cancel", {"thread_id": thread_id, "run_ids": [first, queued[0]]}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert await talk.ended(thread_id, first) == "interrupted"
    assert await talk.ended(thread_id, queued[0]) == "interrupted"
    assert await talk.ended(thread_id, queued[1]) == "success"


async def test_a_bulk_rollback_deletes(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    answer = await talk.post(
        "/runs/cancel",
        {"thread_id": thread_id, "run_ids": [first]},
        params={"action": "rollback"},
    )
    assert answer.status_code == 204
    assert await talk.ended(thread_id, first) == "deleted"


async def test_a_bulk_cancel_that_meets_nothing_is_404(talk: Talk, thread_id: str) -> None:
    refused(await talk.post("/runs/cancel", {"thread_id": thread_id, "run_ids": [uuid()]}), 404)


@pytest.mark.parametrize(
    "body", [{}, {"status": "bogus"}, {"thread_id": UNKNOWN}, {"run_ids": [UNKNOWN]}]
)
async def test_a_bulk_cancel_needs_runs_or_a_status(talk: Talk, body: dict[str, object]) -> None:
    refused(await talk.post("/runs/cancel", body), 422)


async def test_every_pending_run_is_cancelled_by_status(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    delayed = (await talk.create(thread_id, "trivial", input={"x": 1}, after_seconds=60))["run_id"]
    assert (await talk.post("/runs/cancel", {"status": "pending"})).status_code == 204
    assert await talk.ended(thread_id, delayed) == "interrupted"
    assert await talk.status(thread_id, first) == "running"


async def test_every_running_run_is_cancelled_by_status(talk: Talk) -> None:
    threads = [await talk.new_thread() for _ in range(2)]
    runs = await asyncio.gather(*(talk.running(t) for t in threads))
    assert (await talk.post("/runs/cancel", {"status": "all"})).status_code == 204
    for thread_id, run_id in zip(threads, runs, strict=True):
        assert await talk.ended(thread_id, run_id) == "interrupted"


async def test_cancel_then_stream_gives_what_is_left(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/stream?action=interrupt"
    async with talk.listening("POST", path) as stream:
        assert set(names(await stream.rest())) <= {"values"}
    assert await talk.status(thread_id, run_id) == "interrupted"


async def test_cancel_then_stream_that_waits_answers_204(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    answer = await talk.post(path, params={"action": "rollback", "wait": 1})
    assert answer.status_code == 204
    assert await talk.status(thread_id, run_id) == "deleted"


async def test_a_run_that_blocks_is_stopped_all_the_same(talk: Talk, thread_id: str) -> None:
    """Its node sleeps in C, in a thread."""
    async with talk.streaming(
        thread_id, "blocking_sync", input={"seconds": 100, "mode": "sleep"}
    ) as stream:
        await stream.until("metadata")
        run_id = stream.heard[0].data["run_id"]
        async with asyncio.timeout(60):
            await talk.cancel(thread_id, run_id, wait=1)
    assert await talk.status(thread_id, run_id) == "interrupted"
    assert (await talk.settled(thread_id))["status"] in ("idle", "interrupted")
