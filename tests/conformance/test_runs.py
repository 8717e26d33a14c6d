"""Creating, listing, getting and deleting runs, and their options (platform API, section 5)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.conformance.talking import BRIEF, UNKNOWN, Talk, names, ok, refused, uuid

RUN_KEYS = {
    *("run_id", "thread_id", "assistant_id", "metadata", "status", "kwargs"),
    *("multitask_strategy", "created_at", "updated_at"),
}
KWARGS = {
    *("input", "command", "config", "context", "stream_mode", "interrupt_before"),
    *("interrupt_after", "webhook", "feedback_keys", "temporary", "subgraphs", "resumable"),
    *("checkpoint_during", "durability"),
}
ENDS = pytest.mark.parametrize("end", ["", "/stream", "/wait"])


async def assistant_id(talk: Talk, graph: str) -> str:
    return ok(await talk.post("/assistants/search", {"graph_id": graph}))[0]["assistant_id"]


async def test_a_new_run_is_pending_and_complete(talk: Talk, thread_id: str) -> None:
    run = await talk.create(thread_id, "counter", input={"count": 0}, metadata={"mine": 1})
    assert set(run) >= RUN_KEYS
    assert run["status"] == "pending"
    assert run["thread_id"] == thread_id
    assert run["assistant_id"] == await assistant_id(talk, "counter")
    assert run["metadata"]["mine"] == 1
    assert run["metadata"]["graph_id"] == "counter"
    assert set(run["kwargs"]) >= KWARGS
    assert run["kwargs"]["input"] == {"count": 0}
    assert run["kwargs"]["stream_mode"] == ["values"]
    assert run["kwargs"]["durability"] == "async"
    assert run["multitask_strategy"] == "enqueue"
    await talk.join(thread_id, run["run_id"])
    after = await talk.run(thread_id, run["run_id"])
    assert after["status"] == "success"
    assert after["created_at"] == run["created_at"]
    assert after["updated_at"] >= run["updated_at"]


async def test_the_configurable_of_a_run_names_it(talk: Talk, thread_id: str) -> None:
    run = await talk.create(thread_id, "trivial", input={"x": 1})
    configurable = run["kwargs"]["config"]["configurable"]
    assert configurable["run_id"] == run["run_id"]
    assert configurable["thread_id"] == thread_id
    assert configurable["graph_id"] == "trivial"
    assert configurable["assistant_id"] == run["assistant_id"]
    await talk.join(thread_id, run["run_id"])


async def test_an_assistant_may_be_named_by_its_id(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(thread_id, await assistant_id(talk, "trivial"), input={"x": 1})
    assert output == {"x": 2}


@ENDS
async def test_an_unknown_graph_is_refused_with_those_that_exist(
    talk: Talk, thread_id: str, end: str
) -> None:
    answer = await talk.post(f"/threads/{thread_id}/runs{end}", {"assistant_id": "nope"})
    detail = refused(answer, 422)
    assert detail.startswith("Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID")
    assert "counter" in detail


@ENDS
async def test_an_unknown_assistant_is_not_found(talk: Talk, thread_id: str, end: str) -> None:
    answer = await talk.post(f"/threads/{thread_id}/runs{end}", {"assistant_id": UNKNOWN})
    assert refused(answer, 404) == "Thread or assistant not found."


@ENDS
async def test_an_unknown_thread_is_not_found(talk: Talk, end: str) -> None:
    answer = await talk.post(f"/threads/{uuid()}/runs{end}", {"assistant_id": "trivial"})
    assert refused(answer, 404) == "Thread or assistant not found."


@ENDS
async def test_a_run_without_an_assistant_is_refused(talk: Talk, thread_id: str, end: str) -> None:
    refused(await talk.post(f"/threads/{thread_id}/runs{end}", {"input": {}}), 422)


async def test_if_not_exists_makes_the_thread(talk: Talk) -> None:
    thread_id = uuid()
    output = await talk.wait(
        thread_id, "trivial", input={"x": 1}, if_not_exists="create", metadata={"mine": 1}
    )
    assert output == {"x": 2}
    thread = await talk.thread(thread_id)
    assert thread["metadata"]["mine"] == 1
    assert thread["metadata"]["graph_id"] == "trivial"


async def test_a_run_names_its_graph_on_the_thread(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "trivial", input={"x": 1})
    metadata = (await talk.thread(thread_id))["metadata"]
    assert metadata["graph_id"] == "trivial"
    assert metadata["assistant_id"] == await assistant_id(talk, "trivial")


async def test_no_input_on_a_fresh_thread_fails_in_the_run(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(thread_id, "counter", input=None)
    assert names(frames)[-1] == "error"
    assert frames[-1].data == {
        "error": "EmptyInputError",
        "message": "Received no input for __start__",
    }
    assert (await talk.thread(thread_id))["status"] == "error"


async def test_input_of_the_wrong_type_fails_in_the_run(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(thread_id, "counter", input="text")
    assert output["__error__"]["error"] == "InvalidUpdateError"


async def test_a_failed_run_shows_on_run_and_thread(talk: Talk, thread_id: str) -> None:
    answer = await talk.post(
        f"/threads/{thread_id}/runs/wait", {"assistant_id": "fails", "input": {"x": 1}}
    )
    assert ok(answer) == {"__error__": {"error": "ValueError", "message": "boom: x=2"}}
    thread = await talk.thread(thread_id)
    assert thread["status"] == "error"
    assert thread["error"] == {"error": "ValueError", "message": "boom: x=2"}
    assert thread["values"] == {"x": 2}
    (run,) = ok(await talk.get(f"/threads/{thread_id}/runs"))
    assert run["status"] == "error"
    state = await talk.state(thread_id)
    assert state["next"] == ["boom"]
    assert "boom: x=2" in state["tasks"][0]["error"]


async def test_a_failed_thread_recovers(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "fails", input={"x": 1})
    assert await talk.wait(thread_id, "trivial", input={"x": 5}) == {"x": 6}
    thread = await talk.thread(thread_id)
    assert thread["status"] == "idle"
    assert not thread.get("error")


async def test_a_delayed_run_waits_with_its_thread_busy(talk: Talk, thread_id: str) -> None:
    begun_s = time.monotonic()
    run = await talk.create(thread_id, "trivial", input={"x": 1}, after_seconds=1)
    assert (await talk.thread(thread_id))["status"] == "busy"
    assert await talk.status(thread_id, run["run_id"]) == "pending"
    assert await talk.join(thread_id, run["run_id"]) == {"x": 2}
    assert 0.9 < time.monotonic() - begun_s < 10
    assert (await talk.thread(thread_id))["status"] == "idle"


async def test_a_negative_delay_means_now(talk: Talk, thread_id: str) -> None:
    assert await talk.wait(thread_id, "trivial", input={"x": 1}, after_seconds=-5) == {"x": 2}


async def test_what_is_enqueued_behind_a_delayed_run_goes_first(talk: Talk, thread_id: str) -> None:
    tagged = {"steps": 1, "delay": 0.02}
    late = await talk.create(thread_id, "slow", input={**tagged, "tag": "late"}, after_seconds=1.5)
    await talk.wait(thread_id, "slow", input={**tagged, "tag": "now"})
    await talk.join(thread_id, late["run_id"])
    assert (await talk.state(thread_id))["values"]["trail"] == ["now1", "late1"]


async def test_a_command_wins_over_an_input(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "approval", input={"question": "?"})
    output = await talk.wait(
        thread_id, "approval", input={"question": "other"}, command={"resume": "yes"}
    )
    assert output == {"question": "?", "answer": "yes", "done": True}


async def test_the_thread_of_the_path_wins_over_that_of_the_config(
    talk: Talk, thread_id: str
) -> None:
    output = await talk.wait(
        thread_id, "factory", input={}, config={"configurable": {"thread_id": UNKNOWN}}
    )
    assert output["seen"]["thread_id"] == thread_id


async def test_config_reaches_the_graph(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(
        thread_id,
        "factory",
        input={},
        config={"configurable": {"greeting": "salut"}, "metadata": {"m": "1"}, "tags": ["t"]},
        metadata={"mine": "2"},
    )
    assert output["out"] == "salut"
    assert output["seen"]["greeting"] == "salut"
    metadata = output["seen"]["_metadata"]
    assert (metadata["m"], metadata["mine"], metadata["graph_id"]) == ("1", "2", "factory")


@pytest.mark.parametrize(
    "given",
    [{"context": {"user": "eve", "n": 3}}, {"config": {"configurable": {"user": "eve", "n": 3}}}],
)
async def test_context_and_configurable_mirror_each_other(
    talk: Talk, thread_id: str, given: dict[str, Any]
) -> None:
    run = await talk.create(thread_id, "ctx", input={}, **given)
    assert run["kwargs"]["context"] == {"user": "eve", "n": 3}
    assert run["kwargs"]["config"]["configurable"]["user"] == "eve"
    output = await talk.join(thread_id, run["run_id"])
    assert output["ctx"] == {"user": "eve", "n": 3}
    assert output["store_ok"] is True


@ENDS
async def test_context_and_configurable_together_are_refused(
    talk: Talk, thread_id: str, end: str
) -> None:
    body = {
        "assistant_id": "ctx",
        "input": {},
        "context": {"n": 1},
        "config": {"configurable": {"n": 2}},
    }
    detail = refused(await talk.post(f"/threads/{thread_id}/runs{end}", body), 400)
    assert detail.startswith("Cannot specify both configurable and context")


async def test_a_recursion_limit_holds(talk: Talk, thread_id: str) -> None:
    output = await talk.wait(
        thread_id,
        "slow",
        input={"steps": 50, "delay": 0},
        config={"recursion_limit": 5},
    )
    assert output["__error__"]["error"] == "GraphRecursionError"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({}, 5),
        ({"durability": "sync"}, 5),
        ({"durability": "async"}, 5),
        ({"durability": "exit"}, 1),
        ({"checkpoint_during": False}, 1),
        ({"checkpoint_during": True}, 5),
    ],
)
async def test_durability_says_how_many_checkpoints_stay(
    talk: Talk, thread_id: str, asked: dict[str, Any], kept: int
) -> None:
    await talk.wait(thread_id, "counter", input={"count": 0}, **asked)
    history = await talk.history(thread_id)
    assert len(history) == kept
    assert history[0]["values"]["count"] == 3


async def test_durability_exit_keeps_the_last_checkpoint_of_a_failure(
    talk: Talk, thread_id: str
) -> None:
    await talk.wait(thread_id, "fails", input={"x": 1}, durability="exit")
    (only,) = await talk.history(thread_id)
    assert (only["values"], only["next"]) == ({"x": 2}, ["boom"])


async def test_runs_are_listed_newest_first(talk: Talk, thread_id: str) -> None:
    made = [(await talk.create(thread_id, "trivial", input={"x": n}))["run_id"] for n in range(12)]
    await talk.join(thread_id, made[-1])
    path = f"/threads/{thread_id}/runs"
    newest_first = made[::-1]

    async def listed(query: str) -> list[str]:
        return [run["run_id"] for run in ok(await talk.get(f"{path}?{query}"))]

    assert await listed("") == newest_first[:10]
    assert await listed("limit=3") == newest_first[:3]
    assert await listed("limit=100&offset=10") == newest_first[10:]
    assert await listed("limit=0") == []
    assert await listed("status=success&limit=50") == newest_first
    assert await listed("status=running") == []


async def test_a_list_of_runs_may_be_of_some_fields(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "trivial", input={"x": 1})
    path = f"/threads/{thread_id}/runs"
    (run,) = ok(await talk.get(f"{path}?select=run_id&select=status"))
    assert set(run) == {"run_id", "status"}


async def test_a_status_that_does_not_exist_lists_nothing(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "trivial", input={"x": 1})
    assert ok(await talk.get(f"/threads/{thread_id}/runs?status=bogus")) == []


async def test_runs_of_an_unknown_thread_are_not_listed(talk: Talk) -> None:
    refused(await talk.get(f"/threads/{uuid()}/runs"), 404)


async def test_a_limit_must_be_a_number(talk: Talk, thread_id: str) -> None:
    detail = refused(await talk.get(f"/threads/{thread_id}/runs?limit=x"), 400)
    assert detail.startswith("invalid literal for int()")


async def test_an_unknown_run_is_not_found(talk: Talk, thread_id: str) -> None:
    refused(await talk.get(f"/threads/{thread_id}/runs/{uuid()}"), 404)
    detail = refused(await talk.delete(f"/threads/{thread_id}/runs/{uuid()}"), 404)
    assert detail == "Run not found"


async def test_a_finished_run_can_be_deleted(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    await talk.join(thread_id, run_id)
    assert (await talk.delete(f"/threads/{thread_id}/runs/{run_id}")).status_code == 204
    assert await talk.status(thread_id, run_id) == "deleted"
    assert ok(await talk.get(f"/threads/{thread_id}/runs")) == []


async def test_with_a_deleted_run_go_its_checkpoints(talk: Talk, thread_id: str) -> None:
    first = (await talk.create(thread_id, "counter", input={"count": 0}))["run_id"]
    await talk.join(thread_id, first)
    second = (await talk.create(thread_id, "counter", input={"count": 10}))["run_id"]
    await talk.join(thread_id, second)
    assert (await talk.delete(f"/threads/{thread_id}/runs/{second}")).status_code == 204
    assert (await talk.thread(thread_id))["values"]["count"] == 3
    assert len(await talk.history(thread_id)) == 5


async def test_deleting_a_running_run_stops_it(talk: Talk, thread_id: str) -> None:
    """Nothing is written any more, and the thread is free."""
    run_id = await talk.running(thread_id)
    assert (await talk.delete(f"/threads/{thread_id}/runs/{run_id}")).status_code == 204
    assert await talk.status(thread_id, run_id) == "deleted"
    output = await talk.wait(thread_id, "trivial", input={"x": 1}, multitask_strategy="reject")
    assert output == {"x": 2}
    assert len(await talk.history(thread_id)) == 3


async def test_deleting_a_pending_run_leaves_the_running_one(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    second = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    assert (await talk.delete(f"/threads/{thread_id}/runs/{second}")).status_code == 204
    assert await talk.status(thread_id, second) == "deleted"
    assert await talk.status(thread_id, first) == "running"


@ENDS
async def test_unknown_keys_are_ignored(talk: Talk, thread_id: str, end: str) -> None:
    body = {
        "assistant_id": "trivial",
        "input": {"x": 1},
        "bogus": True,
        "recursion_limit": {"deep": [1]},
        "stream_resumable": False,
    }
    answer = await talk.post(f"/threads/{thread_id}/runs{end}", body)
    assert answer.status_code == 200
    await talk.settled(thread_id)
    assert (await talk.thread(thread_id))["values"] == {"x": 2}


NULLS = {
    name: None
    for name in (
        *("config", "context", "metadata", "stream_mode", "stream_subgraphs"),
        *("stream_resumable", "feedback_keys", "interrupt_before", "interrupt_after"),
        *("checkpoint", "checkpoint_id", "webhook", "multitask_strategy", "on_completion"),
        *("on_disconnect", "after_seconds", "if_not_exists", "checkpoint_during", "durability"),
        *("command", "langsmith_tracer"),
    )
}


@ENDS
async def test_an_explicit_null_means_absent(talk: Talk, thread_id: str, end: str) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, **NULLS}
    answer = await talk.post(f"/threads/{thread_id}/runs{end}", body)
    assert answer.status_code == 200, answer.text
    await talk.settled(thread_id)
    assert (await talk.thread(thread_id))["values"] == {"x": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream_mode": ["values", "bogus"]},
        {"multitask_strategy": "bogus"},
        {"if_not_exists": "bogus"},
        {"durability": "bogus"},
        {"after_seconds": "soon"},
        {"config": []},
        {"config": {"recursion_limit": "x"}},
        {"context": "x"},
        {"metadata": []},
        {"command": "x"},
        {"command": {"goto": ["alt", {"node": "ia", "input": {}}]}},
        {"interrupt_before": 7},
        {"checkpoint_id": "x"},
        {"checkpoint": "x"},
        {"feedback_keys": "x"},
        {"webhook": 7},
        {"webhook": "ftp://example.com"},
        {"webhook": "/relative"},
        {"assistant_id": 7},
    ],
    ids=str,
)
async def test_a_wrong_option_is_refused_with_a_sentence(
    talk: Talk, thread_id: str, wrong: dict[str, Any]
) -> None:
    body = {"assistant_id": "trivial", "input": {"x": 1}, **wrong}
    answers = await asyncio.gather(
        *(talk.post(f"/threads/{thread_id}/runs{end}", body) for end in ("", "/stream", "/wait"))
    )
    for answer in answers:
        assert len(refused(answer, 422)) > 10
    assert ok(await talk.get(f"/threads/{thread_id}/runs")) == []


async def test_a_webhook_to_the_machine_itself_is_refused_with_a_sentence(edge: Talk) -> None:
    thread_id = await edge.new_thread()
    body = {"assistant_id": "counter", "input": {}, "webhook": "http://127.0.0.1/x"}
    for end in ("", "/stream", "/wait"):
        answer = await edge.post(f"/threads/{thread_id}/runs{end}", body)
        assert len(refused(answer, 422)) > 10
    assert ok(await edge.get(f"/threads/{thread_id}/runs")) == []


async def test_the_values_of_a_thread_come_with_the_end_of_its_first_run(
    talk: Talk, thread_id: str
) -> None:
    async with talk.streaming(thread_id, "slow", input=BRIEF) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        assert (await talk.thread(thread_id))["values"] is None
        assert (await talk.state(thread_id))["values"]["trail"]
        await stream.rest()
    assert (await talk.thread(thread_id))["values"]["i"] == 6
