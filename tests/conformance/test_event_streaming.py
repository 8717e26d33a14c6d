"""Event streaming: commands to a thread, and its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conformance.talking import Listening, Talk, uuid

CHANNELS = ["values", "messages", "lifecycle", "input"]
HI = {"messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def log(talk: Talk, thread_id: str, **more: Any) -> AsyncIterator[Listening]:
    body = {"channels": CHANNELS, **more}
    path = f"/threads/{thread_id}/stream/events"
    async with talk.listening("POST", path, body) as stream:
        yield stream


async def command(talk: Talk, thread_id: str, method: str, **params: Any) -> Any:
    body = {"id": 1, "method": method, "params": params}
    answer = await talk.post(f"/threads/{thread_id}/commands", body)
    assert answer.status_code == 200
    assert answer.json()["id"] == 1
    return answer.json()


def shape(stream: Listening) -> list[tuple[str, Any]]:
    """The events without what is different in each run."""
    return [
        (f.name, f.data["params"]["data"].get("event") if f.name != "values" else None)
        for f in stream.heard
    ]


async def test_a_run_on_a_thread_that_does_not_exist_yet(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        answer = await command(talk, thread_id, "run.start", assistant_id="agent", input=HI)
        assert set(answer) == {"type", "id", "result", "meta"}
        assert answer["type"] == "success"
        await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "completed")
    kinds = shape(stream)
    assert kinds[0] == ("lifecycle", "running")
    assert kinds[1] == ("values", None)
    assert kinds[-1] == ("lifecycle", "completed")
    messages = [event for name, event in kinds if name == "messages"]
    assert messages[:2] == ["message-start", "content-block-start"]
    assert messages[-2:] == ["content-block-finish", "message-finish"]
    seqs = [frame.data["seq"] for frame in stream.heard]
    assert seqs == sorted(set(seqs))
    ids = [frame.data["event_id"] for frame in stream.heard]
    assert len(ids) == len(set(ids))
    assert all(frame.data["type"] == "event" for frame in stream.heard)


async def test_whoever_comes_later_gets_the_same(talk: Talk) -> None:
    thread_id = uuid()
    over = lambda data: data["params"]["data"]["event"] == "completed"  # noqa: E731
    async with log(talk, thread_id) as stream:
        await command(talk, thread_id, "run.start", assistant_id="counter", input={"count": 0})
        await stream.until("lifecycle", over)
    async with log(talk, thread_id, channels=["lifecycle"]) as again:
        await again.until("lifecycle", over)
    places = {f.data["event_id"]: f.data["seq"] for f in stream.heard}
    for frame in again.heard:
        assert places[frame.data["event_id"]] == frame.data["seq"]


async def test_an_interrupt_is_asked_and_answered(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        await command(
            talk, thread_id, "run.start", assistant_id="approval", input={"question": "May I?"}
        )
        asked = (await stream.until("input.requested")).data["params"]
        await stream.until(
            "lifecycle", lambda data: data["params"]["data"]["event"] == "interrupted"
        )
        interrupt_id = asked["data"]["interrupt_id"]
        unknown = await command(
            talk, thread_id, "input.respond", namespace=[], interrupt_id="x", response="no"
        )
        assert unknown["error"] == "no_such_interrupt"
        answer = await command(
            talk,
            thread_id,
            "input.respond",
            namespace=asked["namespace"],
            interrupt_id=interrupt_id,
            response="yes",
        )
        assert answer["type"] == "success"
        await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "completed")
    last = [f for f in stream.heard if f.name == "values"][-1]
    assert last.data["params"]["data"]["answer"] == "yes"


async def asked(talk: Talk, thread_id: str, stream: Listening) -> dict[str, Any]:
    """A thread that waits; the parameters of the answer."""
    await command(talk, thread_id, "run.start", assistant_id="approval", input={"question": "?"})
    params = (await stream.until("input.requested")).data["params"]
    await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "interrupted")
    return {"namespace": params["namespace"], "interrupt_id": params["data"]["interrupt_id"]}


async def test_an_answered_interrupt_is_not_answered_again(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        answer = await asked(talk, thread_id, stream)
        first = await command(talk, thread_id, "input.respond", **answer, response="yes")
        assert first["type"] == "success"
        await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "completed")
    again = await command(talk, thread_id, "input.respond", **answer, response="no")
    assert again["error"] == "no_such_interrupt"


async def test_of_two_answers_at_once_one_counts(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        answer = await asked(talk, thread_id, stream)
        both = await asyncio.gather(
            *(
                command(talk, thread_id, "input.respond", **answer, response=response)
                for response in ("yes", "no")
            )
        )
        await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "completed")
    assert sorted(each["type"] for each in both) == ["error", "success"]
    (refused,) = [each for each in both if each["type"] == "error"]
    assert refused["error"] == "no_such_interrupt"
    runs = (await talk.get(f"/threads/{thread_id}/runs")).json()
    assert [run["status"] for run in runs] == ["success", "success"]


async def test_a_failed_run_says_why(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        await command(talk, thread_id, "run.start", assistant_id="fails", input={"x": 0})
        failed = await stream.until(
            "lifecycle", lambda data: data["params"]["data"]["event"] == "failed"
        )
    assert "boom" in failed.data["params"]["data"]["error"]


async def test_namespaces_and_depth_choose_events(talk: Talk) -> None:
    thread_id = uuid()
    over = lambda data: data["params"]["data"]["event"] == "completed"  # noqa: E731
    async with (
        log(talk, thread_id, channels=["values", "lifecycle"]) as everything,
        log(talk, thread_id, channels=["values", "lifecycle"], namespaces=[["child"]]) as child,
    ):
        await command(talk, thread_id, "run.start", assistant_id="parent", input={})
        root = lambda data: over(data) and not data["params"]["namespace"]  # noqa: E731
        await everything.until("lifecycle", root)
        await child.until("lifecycle", over)
    assert {len(f.data["params"]["namespace"]) for f in everything.heard} == {0, 1}
    assert {len(f.data["params"]["namespace"]) for f in child.heard} == {1}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nope", {}, "unknown_command"),
        ("run.start", {"input": {}}, "invalid_argument"),
        ("agent.getTree", {}, "no_such_run"),
        ("input.respond", {"interrupt_id": "x", "response": 1, "namespace": []}, "no_such_run"),
    ],
)
async def test_a_refused_command_has_a_code(
    talk: Talk, method: str, params: dict[str, Any], code: str
) -> None:
    answer = await command(talk, uuid(), method, **params)
    assert (answer["type"], answer["error"]) == ("error", code)


@pytest.mark.parametrize("body", [{}, {"method": "run.start"}, {"id": "1", "method": "x"}])
async def test_what_is_no_command_is_refused(talk: Talk, body: Any) -> None:
    answer = await talk.post(f"/threads/{uuid()}/commands", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_argument")


@pytest.mark.parametrize("channels", [None, [], "values", ["nope"]])
async def test_a_filter_without_channels_is_refused(talk: Talk, channels: Any) -> None:
    body = {} if channels is None else {"channels": channels}
    answer = await talk.post(f"/threads/{uuid()}/stream/events", body)
    assert answer.status_code == 400


async def test_a_state_is_got_by_command(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        await command(talk, thread_id, "run.start", assistant_id="counter", input={"count": 0})
        await stream.until("lifecycle", lambda data: data["params"]["data"]["event"] == "completed")
    answer = await command(talk, thread_id, "state.get", namespace=[])
    assert answer["result"]["values"]["count"] > 0


async def test_a_run_that_is_cancelled_while_it_waits_has_an_end(talk: Talk) -> None:
    thread_id = uuid()
    async with log(talk, thread_id) as stream:
        first = await command(talk, thread_id, "run.start", assistant_id="slow", input={})
        waits = await command(talk, thread_id, "run.start", assistant_id="slow", input={})
        await stream.until("lifecycle")
        for answer in (waits, first):
            path = f"/threads/{thread_id}/runs/{answer['result']['run_id']}/cancel?wait=1"
            await talk.post(path)
        for _ in range(2):
            await stream.until(
                "lifecycle", lambda data: data["params"]["data"]["event"] == "interrupted"
            )
