"""The JavaScript SDK from npm, unmodified, in both of its code lines, on Node.js."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from tests.clients.breaking import BreakingProxy
from tests.clients.conftest import Sdk, Told
from tests.serving import Served


def of(told: Iterable[Told], kind: str) -> list[Told]:
    return [
        {key: value for key, value in one.items() if key != "kind"}
        for one in told
        if one["kind"] == kind
    ]


def only(told: Iterable[Told], kind: str) -> Told:
    (one,) = of(told, kind)
    return one


def text(parts: Iterable[Told]) -> str:
    return "".join(part["data"][0]["content"] for part in parts if part["event"] == "messages")


def tokens(count: int) -> str:
    return "".join(f"tok{number} " for number in range(count))


def question(**options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], **options}


async def test_tokens_stream_and_the_run_tells_its_ids(sdk: Sdk) -> None:
    told = await sdk.play("stream", graph="agent", input=question(), streamMode="messages-tuple")
    parts = of(told, "part")
    assert parts[0]["event"] == "metadata"
    assert {part["event"] for part in parts[1:]} == {"messages"}
    assert text(parts) == tokens(5)
    created = only(told, "created")
    assert created["run_id"] == parts[0]["data"]["run_id"]
    assert created["thread_id"] == created["expected_thread_id"]
    status = only(told, "status")
    assert (status["run"], status["thread"]) == ("success", "idle")


async def test_several_modes_come_in_the_order_of_the_graph(sdk: Sdk) -> None:
    told = await sdk.play(
        "stream", graph="counter", input={"count": 0}, streamMode=["values", "updates", "custom"]
    )
    parts = of(told, "part")
    step = ["custom", "updates", "values"]
    assert [part["event"] for part in parts] == ["metadata", "values", *step, *step, *step]
    assert parts[-1]["data"] == {"count": 3, "log": ["one", "two", "three"]}
    assert all("id" not in part for part in parts)  # only resumable streams have ids


async def test_subgraphs_stream_under_their_names(sdk: Sdk) -> None:
    told = await sdk.play(
        "stream", graph="parent", input={"value": 0}, streamMode="updates", streamSubgraphs=True
    )
    events = [part["event"].split(":")[0] for part in of(told, "part")]
    assert events == ["metadata", "updates", "updates|child", "updates|child", "updates"]


async def test_a_run_without_a_thread(sdk: Sdk) -> None:
    told = await sdk.play("stateless")
    assert text(of(told, "part")) == tokens(5)
    assert only(told, "output")["output"]["count"] == 4


async def test_late_viewers_of_a_running_run_see_all_of_it(sdk: Sdk) -> None:
    told = await sdk.play("join")
    first = of(told, "first")
    assert text(first) == tokens(20)
    assert len({part["id"] for part in first}) == len(first)
    assert of(told, "second") == first
    assert of(told, "after") == first
    assert of(told, "filtered") == [part for part in first if part["event"] == "values"]
    assert only(told, "output")["output"] == first[-1]["data"]
    assert only(told, "status")["run"] == "success"


async def test_a_broken_stream_goes_on_without_a_gap_or_a_repetition(
    sdk: Sdk, server: Served
) -> None:
    """The connection breaks twice: in mid-run, and while the rest is being replayed."""
    async with BreakingProxy(server.url, cuts=[5, 4]).open() as proxy:
        told = await sdk.play(
            "reconnect", proxy.url, directUrl=server.url, nTokens=30, delay=0.05, breakAfter=[5, 9]
        )
    assert proxy.broken == 2
    parts, complete = of(told, "part"), of(told, "complete")
    assert text(parts) == tokens(30)
    assert parts == complete
    posted, first, second = [one for one in proxy.requests if one.path.endswith("/stream")]
    assert (posted.method, posted.last_event_id) == ("POST", None)
    assert (first.method, first.last_event_id) == ("GET", parts[4]["id"])
    assert (second.method, second.last_event_id) == ("GET", parts[8]["id"])


async def test_a_stream_that_breaks_when_the_run_is_over_is_replayed_to_its_end(
    sdk: Sdk, server: Served
) -> None:
    async with BreakingProxy(server.url, cuts=[3]).open() as proxy:
        told = await sdk.play(
            "reconnect", proxy.url, directUrl=server.url, nTokens=10, delay=0, breakAfter=[3]
        )
    assert proxy.broken == 1
    assert of(told, "part") == of(told, "complete")
    assert text(of(told, "part")) == tokens(10)


@pytest.mark.parametrize("wait", [True, False], ids=["waiting", "at_once"])
async def test_cancel_keeps_what_was_done(sdk: Sdk, wait: bool) -> None:
    told = await sdk.play("cancel", action="interrupt", wait=wait)
    thread = only(told, "thread")
    assert thread["status"] == "interrupted"
    assert thread["values"]["tag"] == "x"
    assert only(told, "runs")["statuses"] == ["interrupted", "success"]


@pytest.mark.parametrize("wait", [True, False], ids=["waiting", "at_once"])
async def test_rollback_leaves_the_thread_as_it_was(sdk: Sdk, wait: bool) -> None:
    told = await sdk.play("cancel", action="rollback", wait=wait)
    values = {"steps": 1, "delay": 0, "i": 1, "trail": ["1"]}
    assert only(told, "thread") == {"status": "idle", "values": values}
    assert only(told, "runs")["statuses"] == ["success"]


async def test_a_cancelled_run_goes_on_with_no_input(sdk: Sdk) -> None:
    told = await sdk.play("goOn")
    assert only(told, "stopped")["next"] == ["step"]
    assert only(told, "output")["output"]["trail"] == [str(step) for step in range(1, 21)]


async def test_an_interrupt_waits_for_its_answer(sdk: Sdk) -> None:
    told = await sdk.play("interrupt")
    parts = of(told, "part")
    (asked,) = parts[-1]["data"]["__interrupt__"]
    assert asked["value"] == {"question": "May I?"}
    waiting = only(told, "waiting")
    assert waiting["status"] == "interrupted"
    assert [one["id"] for one in waiting["interrupts"]] == [asked["id"]]
    state = only(told, "state")
    assert state["next"] == ["ask"]
    assert [one["id"] for one in state["interrupts"]] == [asked["id"]]
    final = {"question": "May I?", "answer": "yes", "done": True}
    assert of(told, "resumed")[-1]["data"] == final
    assert only(told, "done")["status"] == "idle"


async def test_two_interrupts_are_answered_by_their_ids(sdk: Sdk) -> None:
    output = only(await sdk.play("resumeById"), "output")["output"]
    assert (output["a"], output["b"]) == ("a? yes", "b? yes")


async def test_wait_gives_the_output_and_raises_what_the_graph_raised(sdk: Sdk) -> None:
    told = await sdk.play("wait")
    assert only(told, "output")["output"] == {"count": 4, "log": ["one", "two", "three"]}
    assert only(told, "raised")["message"] == "ValueError: boom: x=1"
    error = {"error": "ValueError", "message": "boom: x=1"}
    assert only(told, "error")["output"]["__error__"] == error
    last = of(told, "part")[-1]
    assert (last["event"], last["data"]) == ("error", error)


async def test_errors_have_a_status_and_a_sentence_and_are_not_retried(sdk: Sdk) -> None:
    told = await sdk.play("errors")
    assert of(told, "accepted") == []
    assert {one["name"]: one["status"] for one in of(told, "refused")} == {
        "unknownThread": 404,
        "unknownRun": 404,
        "runOnUnknownThread": 404,
        "joinUnknownRun": 404,
        "cancelUnknownRun": 404,
        "sameThreadTwice": 409,
        "busyThread": 409,
        "stateOfBusyThread": 409,
        "malformedThread": 422,
        "unknownGraph": 422,
        "unknownMode": 422,
    }
    for refused in of(told, "refused"):
        assert refused["message"].startswith(f'HTTP {refused["status"]}: {{"detail":"')


async def test_assistants_are_found_and_tell_their_graphs(sdk: Sdk) -> None:
    told = await sdk.play("assistants")
    assert only(told, "found")["graphs"] == ["agent"]
    assert only(told, "page") == {"size": 2, "next": "2"}
    assert only(told, "count")["count"] == 1
    same = only(told, "same")
    assert same["assistant"]["assistant_id"] == same["id"]
    assert only(told, "graph")["nodes"] == ["__start__", "call_model", "__end__"]
    schemas = only(told, "schemas")
    assert {"graph_id", "input_schema", "output_schema", "state_schema"} <= set(schemas["names"])
    assert set(schemas["input"]) == {"messages", "n_tokens", "delay"}
    assert only(told, "subgraphs")["names"] == ["child"]
    assert only(told, "output")["answer"] == tokens(5)


async def test_threads_are_found_forked_updated_copied_and_deleted(sdk: Sdk) -> None:
    told = await sdk.play("threads", mark=str(uuid.uuid4()))
    found = only(told, "found")
    assert found["ids"] == [found["threadId"]]
    assert (found["metadata"]["graph_id"], found["metadata"]["more"]) == ("counter", 1)
    assert only(told, "history")["steps"] == [3, 2, 1, 0, -1]
    earlier = {"values": {"count": 2, "log": ["one"]}, "next": ["two"]}
    assert only(told, "earlier") == earlier
    assert only(told, "forked")["output"] == {"count": 4, "log": ["one", "two", "three"]}
    assert only(told, "updated") == {"count": 70, "next": ["three"]}
    assert only(told, "copied")["values"]["count"] == 70
    assert only(told, "deleted")["status"] == 404


async def test_the_stream_of_a_thread_tells_every_run(sdk: Sdk) -> None:
    told = await sdk.play("threadStream")
    parts = of(told, "part")
    assert [part["event"] for part in parts] == ["metadata", *["values"] * 4]
    assert only(told, "done")["data"]["run_id"] == parts[0]["data"]["run_id"]
    assert only(told, "output")["output"] == parts[-1]["data"]


async def test_crons_are_made_found_changed_and_deleted(sdk: Sdk) -> None:
    told = await sdk.play("crons")
    stateless, on_thread = of(told, "cron")
    assert (stateless["thread_id"], stateless["on_run_completed"]) == (None, "keep")
    assert on_thread["next_run_date"].endswith("-01-01T04:00:00+00:00")
    assert only(told, "found")["crons"] == [on_thread]
    changed = only(told, "changed")
    assert (changed["cron_id"], changed["enabled"]) == (on_thread["cron_id"], False)
    assert only(told, "left")["count"] == 0
