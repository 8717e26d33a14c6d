"""The mount under ``/api``: the same handlers, other conventions (platform API, section 0)."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.talking import BRIEF, Talk, names, ok, refused, uuid
from tests.waiting import until

NAMES = ["a name", "user:7", "wörter", "x" * 255]


async def test_a_thread_in_use_rejects_by_default(gateway: Talk) -> None:
    thread_id = uuid()
    await gateway.running(thread_id)
    answer = await gateway.post(f"/threads/{thread_id}/runs", {"input": {"count": 0}})
    assert refused(answer, 409).startswith("Thread is already running")


async def test_what_a_request_says_means_the_same_on_both_mounts(gateway: Talk, talk: Talk) -> None:
    thread_id = uuid()
    first = await gateway.running(thread_id)
    run = await gateway.create(thread_id, "trivial", input={"x": 1}, multitask_strategy="interrupt")
    assert await gateway.join_json(thread_id, run["run_id"]) == {"x": 2}
    assert await talk.status(thread_id, first) == "interrupted"


async def test_a_run_ends_with_its_creators_stream_by_default(gateway: Talk) -> None:
    thread_id = uuid()
    async with gateway.streaming(thread_id, "slow", input={"steps": 400, "delay": 0.05}) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
    assert await gateway.ended(thread_id, run_id) == "interrupted"


async def test_a_run_survives_if_it_is_told_to(gateway: Talk) -> None:
    thread_id = uuid()
    async with gateway.streaming(
        thread_id, "slow", input=BRIEF, on_disconnect="continue"
    ) as stream:
        await stream.until("values")
        run_id = stream.heard[0].data["run_id"]
    assert await gateway.ended(thread_id, run_id) == "success"


async def test_threads_are_made_on_the_way(gateway: Talk, talk: Talk) -> None:
    thread_id = uuid()
    output = await gateway.wait(thread_id, "trivial", input={"x": 1})
    assert output == {"x": 2}
    assert (await talk.thread(thread_id))["values"] == {"x": 2}


async def test_a_thread_may_be_required(gateway: Talk) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, "if_not_exists": "reject"}
    refused(await gateway.post(f"/threads/{uuid()}/runs/wait", body), 404)


async def test_the_default_graph_is_assumed(gateway: Talk) -> None:
    answer = await gateway.post(f"/threads/{uuid()}/runs/wait", {"input": {"count": 0}})
    assert ok(answer)["count"] == 3


@pytest.mark.parametrize("name", NAMES)
async def test_a_thread_may_have_any_name(gateway: Talk, name: str) -> None:
    name = f"{name[:200]}{uuid()}" if len(name) < 255 else f"{uuid()}{name}"[:255]
    answer = await gateway.post(f"/threads/{name}/runs/wait", {"input": {"count": 0}})
    assert ok(answer)["count"] == 3
    thread = await gateway.thread(name)
    assert (thread["thread_id"], thread["values"]["count"]) == (name, 3)
    assert (await gateway.state(name))["values"]["count"] == 3
    (run,) = ok(await gateway.get(f"/threads/{name}/runs"))
    assert run["thread_id"] == name
    location = answer.headers["content-location"]
    assert ok(await gateway.http.get(location))["run_id"] == run["run_id"]
    # The other mount could not be asked about such a thread, so it does not list it.
    listed = ok(await gateway.http.post("/threads/search", json={"limit": 1000}))
    assert name not in [thread["thread_id"] for thread in listed]
    listed = ok(await gateway.http.post("/api/threads/search", json={"limit": 1000}))
    assert name in [thread["thread_id"] for thread in listed]


@pytest.mark.parametrize("name", ["x" * 256, "a%0Ab", "%07"])
async def test_a_name_that_is_none_is_refused(gateway: Talk, name: str) -> None:
    refused(await gateway.post(f"/threads/{name}/runs", {"input": {"count": 0}}), 422)


async def test_all_runs_are_listed(gateway: Talk) -> None:
    thread_id = uuid()
    for n in range(12):
        await gateway.wait(thread_id, "trivial", input={"x": n})
    runs = ok(await gateway.get(f"/threads/{thread_id}/runs"))
    assert len(runs) == 12
    assert runs == sorted(runs, key=lambda run: run["created_at"], reverse=True)
    assert len(ok(await gateway.get(f"/threads/{thread_id}/runs?limit=5&offset=10"))) == 2


async def test_joining_is_a_stream_unless_json_is_asked_for(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id, input={"steps": 6, "delay": 0.05})
    async with gateway.listening("GET", f"/threads/{thread_id}/runs/{run_id}/join") as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        frames, output = await asyncio.gather(stream.rest(), gateway.join_json(thread_id, run_id))
    assert set(names(frames)) == {"metadata", "values"}
    assert frames[-1].data["i"] == output["i"] == 6


@pytest.mark.parametrize("headers", [{}, {"last-event-id": "-1"}])
async def test_a_joiner_gets_every_event_with_its_id(
    gateway: Talk, headers: dict[str, str]
) -> None:
    """The front end of the gateway never says ``stream_resumable``, and relies on that."""
    thread_id = uuid()
    body = {"input": BRIEF, "on_disconnect": "continue"}
    async with gateway.streaming(thread_id, "slow", **body) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        run_id = stream.heard[0].data["run_id"]
        path = f"/threads/{thread_id}/runs/{run_id}/stream"
        async with gateway.listening("GET", path, headers=headers) as joiner:
            await asyncio.gather(stream.rest(), joiner.rest())
    assert [frame.id for frame in joiner.heard] == [frame.id for frame in stream.heard]
    assert None not in [frame.id for frame in stream.heard]
    async with gateway.listening("GET", path, headers=headers) as late:
        assert await late.rest() == stream.heard


async def test_a_run_need_not_be_resumable(gateway: Talk) -> None:
    thread_id = uuid()
    body = {"input": {"x": 1}, "stream_resumable": False}
    async with gateway.streaming(thread_id, "trivial", **body) as stream:
        frames = await stream.rest()
    assert {frame.id for frame in frames} == {None}


async def test_a_graphs_name_is_its_assistants(gateway: Talk) -> None:
    assistant = ok(await gateway.get("/assistants/trivial"))
    assert assistant == ok(await gateway.get(f"/assistants/{assistant['assistant_id']}"))
    for part in ("graph", "schemas", "subgraphs"):
        ok(await gateway.get(f"/assistants/trivial/{part}"))
    refused(await gateway.get("/assistants/nobody"), 422)


async def test_a_thread_that_is_not_there_yet_is_empty(gateway: Talk) -> None:
    thread_id = uuid()
    assert ok(await gateway.post(f"/threads/{thread_id}/history", {"limit": 10})) == []
    assert ok(await gateway.get(f"/threads/{thread_id}/history")) == []
    assert ok(await gateway.get(f"/threads/{thread_id}/runs")) == []
    state = ok(await gateway.get(f"/threads/{thread_id}/state"))
    assert (state["values"], state["next"], state["checkpoint"]) == ({}, [], None)
    refused(await gateway.get(f"/threads/{thread_id}"), 404)
    values = {"values": {"x": 1}}
    refused(await gateway.post(f"/threads/{thread_id}/state", values), 404)


async def test_where_runs_are(gateway: Talk) -> None:
    thread_id = uuid()
    for end, location in (("", None), ("/stream", "stream"), ("/wait", "join")):
        answer = await gateway.post(
            f"/threads/{thread_id}/runs{end}",
            {"assistant_id": "trivial", "input": {"x": 1}, "multitask_strategy": "enqueue"},
        )
        path = answer.headers["content-location"]
        assert path.startswith(f"/api/threads/{thread_id}/runs/")
        assert answer.headers.get("location") == (location and f"{path}/{location}")


async def test_cancelling_answers_202_or_204(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id)
    answer = await gateway.cancel(thread_id, run_id)
    assert (answer.status_code, answer.content) == (202, b"")
    assert await gateway.ended(thread_id, run_id) == "interrupted"
    run_id = await gateway.running(thread_id)
    answer = await gateway.cancel(thread_id, run_id, wait="true")
    assert (answer.status_code, answer.content) == (204, b"")
    assert await gateway.status(thread_id, run_id) == "interrupted"


async def test_a_run_that_is_over_cannot_be_cancelled(gateway: Talk) -> None:
    thread_id = uuid()
    await gateway.wait(thread_id, "trivial", input={"x": 1})
    (run,) = ok(await gateway.get(f"/threads/{thread_id}/runs"))
    detail = refused(await gateway.cancel(thread_id, run["run_id"]), 409)
    assert detail == f"Run {run['run_id']} is not cancellable (status: success)"
    unknown = uuid()
    detail = refused(await gateway.cancel(thread_id, unknown), 404)
    assert detail == f"Run {unknown} not found"


async def test_cancelling_twice_is_no_conflict(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id)
    answers = await asyncio.gather(*(gateway.cancel(thread_id, run_id) for _ in range(3)))
    assert 202 in {answer.status_code for answer in answers}
    assert {answer.status_code for answer in answers} <= {202, 409}


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel_then_stream(gateway: Talk, action: str) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/stream?action={action}"
    async with gateway.listening("POST", path) as stream:
        assert set(names(await stream.rest())) <= {"values"}
    expected = "interrupted" if action == "interrupt" else "deleted"
    assert await gateway.ended(thread_id, run_id) == expected


async def test_cancel_then_stream_that_waits(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id)
    path = f"/threads/{thread_id}/runs/{run_id}/stream?action=interrupt&wait=1"
    assert (await gateway.post(path)).status_code == 204
    assert await gateway.status(thread_id, run_id) == "interrupted"


async def test_a_post_to_the_stream_without_an_action_only_joins(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id, input=BRIEF)
    async with gateway.listening("POST", f"/threads/{thread_id}/runs/{run_id}/stream") as stream:
        frames = await stream.rest()
    assert frames[-1].data["i"] == 6


async def test_a_get_never_cancels(gateway: Talk) -> None:
    thread_id = uuid()
    run_id = await gateway.running(thread_id, input=BRIEF)
    for end in ("stream", "join"):
        path = f"/threads/{thread_id}/runs/{run_id}/{end}?action=interrupt"
        async with gateway.listening("GET", path) as stream:
            await stream.until("values")
    assert await gateway.ended(thread_id, run_id) == "success"


async def test_waiting_for_a_failed_run_shows_the_state_that_it_left(gateway: Talk) -> None:
    output = await gateway.wait(uuid(), "fails", input={"x": 1})
    assert output == {"x": 2, "__error__": {"error": "ValueError", "message": "boom: x=2"}}


async def test_waiting_for_a_run_that_failed_at_once_says_its_status(gateway: Talk) -> None:
    output = await gateway.wait(uuid(), "counter", input=None)
    assert output == {"status": "error", "error": "Received no input for __start__"}


async def test_both_mounts_see_the_same_runs(gateway: Talk, talk: Talk) -> None:
    thread_id = await talk.new_thread()
    run_id = await gateway.running(thread_id)
    async with talk.joining(thread_id, run_id) as stream:
        await stream.until("values")
        assert ok(await talk.cancel(thread_id, run_id, wait=1)) == {}
    assert await gateway.status(thread_id, run_id) == "interrupted"


async def test_a_stateless_run_goes_with_its_thread(gateway: Talk) -> None:
    answer = await gateway.post("/runs/wait", {"input": {"count": 0}})
    assert ok(answer)["count"] == 3
    path = answer.headers["content-location"]
    assert path.startswith("/api/threads/")

    async def gone() -> bool | None:
        found = await gateway.http.get(path.rpartition("/runs/")[0])
        return found.status_code == 404 or None

    assert await until(gone)
