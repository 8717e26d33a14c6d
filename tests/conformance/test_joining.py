"""Following a run that somebody else created: joins, replays, filters, waiting."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.talking import BRIEF, UNKNOWN, Frame, Talk, names, ok, refused, uuid

COUNT = {"count": 0}
FUTURE = "99999999999999-0"


def raw(frames: list[Frame]) -> list[bytes]:
    return [frame.raw for frame in frames]


async def resumable(talk: Talk, thread_id: str, graph: str = "slow", **body) -> list[Frame]:
    """The frames of a resumable run that is over."""
    return await talk.streamed(
        thread_id,
        graph,
        **{"input": {"steps": 3, "delay": 0.02}, "stream_resumable": True, **body},
    )


def run_of(frames: list[Frame]) -> str:
    return frames[0].data["run_id"]


@pytest.mark.parametrize("start", ["-1", "0"])
async def test_a_resumable_run_is_replayed_from_its_start(
    talk: Talk, thread_id: str, start: str
) -> None:
    frames = await resumable(talk, thread_id)
    assert raw(await talk.joined(thread_id, run_of(frames), start)) == raw(frames)


async def test_a_resumable_run_is_replayed_after_every_id(talk: Talk, thread_id: str) -> None:
    frames = await resumable(talk, thread_id)
    joined = await asyncio.gather(
        *(talk.joined(thread_id, run_of(frames), frame.id) for frame in frames)
    )
    for n, rest in enumerate(joined, 1):
        assert raw(rest) == raw(frames[n:])


@pytest.mark.parametrize("after", [None, FUTURE])
async def test_joining_a_resumable_run_that_is_over_gives_nothing_new(
    talk: Talk, thread_id: str, after: str | None
) -> None:
    frames = await resumable(talk, thread_id)
    assert await talk.joined(thread_id, run_of(frames), after) == []


async def test_joining_with_garbage_gives_nothing_but_the_end(talk: Talk, thread_id: str) -> None:
    frames = await resumable(talk, thread_id)
    assert await talk.joined(thread_id, run_of(frames), "garbage") == []


@pytest.mark.parametrize("after", [None, "-1", "0", FUTURE])
async def test_joining_a_run_that_is_over_and_was_not_kept_gives_nothing(
    talk: Talk, thread_id: str, after: str | None
) -> None:
    frames = await resumable(talk, thread_id, stream_resumable=False)
    assert await talk.joined(thread_id, run_of(frames), after) == []


async def test_the_error_of_a_failed_run_is_replayed(talk: Talk, thread_id: str) -> None:
    frames = await resumable(talk, thread_id, "fails", input={"x": 1})
    assert names(frames)[-1] == "error"
    assert raw(await talk.joined(thread_id, run_of(frames), "-1")) == raw(frames)
    assert raw(await talk.joined(thread_id, run_of(frames), frames[-2].id)) == raw(frames[-1:])


@pytest.mark.parametrize("kept", [True, False])
async def test_a_joiner_in_mid_run_gets_what_comes_from_now_on(
    talk: Talk, thread_id: str, kept: bool
) -> None:
    async with talk.streaming(thread_id, "slow", input=BRIEF, stream_resumable=kept) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        async with talk.joining(thread_id, run_of(stream.heard)) as late:
            joined, _ = await asyncio.gather(late.rest(), stream.rest())
    assert "metadata" not in names(joined)
    assert raw(joined) == raw(stream.heard)[-len(joined) :]
    assert joined[-1].data["i"] == 6


@pytest.mark.parametrize("start", ["-1", "0"])
async def test_a_late_joiner_of_a_resumable_run_misses_nothing_and_gets_nothing_twice(
    talk: Talk, thread_id: str, start: str
) -> None:
    async with talk.streaming(thread_id, "slow", input=BRIEF, stream_resumable=True) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        async with talk.joining(thread_id, run_of(stream.heard), start) as late:
            joined, _ = await asyncio.gather(late.rest(), stream.rest())
    assert raw(joined) == raw(stream.heard)


async def test_a_reconnect_continues_after_the_last_event_seen(talk: Talk, thread_id: str) -> None:
    """As the SDKs do it: the stream breaks, Location is read with Last-Event-ID."""
    async with talk.streaming(
        thread_id, "slow", input=BRIEF, stream_resumable=True, on_disconnect="continue"
    ) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        first = list(stream.heard)
        location = stream.response.headers["location"]
    async with talk.listening(
        "GET", location, headers={"last-event-id": first[-1].id or ""}
    ) as again:
        rest = await again.rest()
    assert [f.data["i"] for f in [*first, *rest] if "i" in f.data] == list(range(7))


async def test_live_events_ignore_the_last_event_id_of_a_run_that_is_not_kept(
    talk: Talk, thread_id: str
) -> None:
    async with talk.streaming(thread_id, "slow", input=BRIEF) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        async with talk.joining(thread_id, run_of(stream.heard), "-1") as late:
            joined, _ = await asyncio.gather(late.rest(), stream.rest())
    assert raw(joined) == raw(stream.heard)[-len(joined) :]
    assert "metadata" not in names(joined)


async def test_whoever_joins_before_the_start_gets_everything(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    run_id = (await talk.create(thread_id, "counter", input=COUNT))["run_id"]
    async with talk.joining(thread_id, run_id) as stream:
        await talk.cancel(thread_id, first)
        frames = await stream.rest()
    assert names(frames) == ["metadata", *["values"] * 4]


async def test_several_viewers_see_the_same(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    async with talk.streaming(thread_id, "slow", input=BRIEF) as stream:
        run_id = stream.response.headers["content-location"].rpartition("/")[2]
        async with (
            talk.joining(thread_id, run_id) as second,
            talk.joining(thread_id, run_id) as third,
        ):
            await talk.cancel(thread_id, first)
            views = await asyncio.gather(stream.rest(), second.rest(), third.rest())
    assert raw(views[0]) == raw(views[1]) == raw(views[2])
    assert len(views[0]) >= 8


@pytest.mark.parametrize(
    "query",
    [
        'stream_mode=["updates","custom"]',
        "stream_mode=%5B%22updates%22%2C%22custom%22%5D",
    ],
)
async def test_a_joiner_may_filter_modes_with_json(talk: Talk, thread_id: str, query: str) -> None:
    await filters(talk, thread_id, query)


@pytest.mark.parametrize(
    "query", ["stream_mode=updates,custom", "stream_mode=updates&stream_mode=custom"]
)
async def test_a_joiner_may_filter_modes_in_every_encoding(
    talk: Talk, thread_id: str, query: str
) -> None:
    await filters(talk, thread_id, query)


async def filters(talk: Talk, thread_id: str, query: str) -> None:
    frames = await resumable(
        talk, thread_id, "counter", input=COUNT, stream_mode=["values", "updates", "custom"]
    )
    path = f"/threads/{thread_id}/runs/{run_of(frames)}/stream?{query}"
    async with talk.listening("GET", path, headers={"last-event-id": "-1"}) as stream:
        joined = await stream.rest()
    assert raw(joined) == [f.raw for f in frames if f.name in ("updates", "custom")]


async def test_one_mode_is_a_filter_too_and_drops_metadata(talk: Talk, thread_id: str) -> None:
    frames = await resumable(
        talk, thread_id, "counter", input=COUNT, stream_mode=["values", "updates"]
    )
    joined = await talk.joined(thread_id, run_of(frames), "-1", stream_mode="values")
    assert raw(joined) == [f.raw for f in frames if f.name == "values"]


async def test_an_empty_filter_is_none(talk: Talk, thread_id: str) -> None:
    """The Python SDK sends None as an empty value."""
    frames = await resumable(talk, thread_id)
    joined = await talk.joined(thread_id, run_of(frames), "-1", stream_mode="")
    assert raw(joined) == raw(frames)


async def test_a_mode_that_the_run_does_not_have_gives_nothing(talk: Talk, thread_id: str) -> None:
    frames = await resumable(talk, thread_id)
    assert await talk.joined(thread_id, run_of(frames), "-1", stream_mode="custom") == []


async def test_joining_waits_for_the_end_and_answers_the_state(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "slow", input=BRIEF))["run_id"]
    assert (await talk.join(thread_id, run_id))["i"] == 6
    assert await talk.status(thread_id, run_id) == "success"
    assert (await talk.join(thread_id, run_id))["i"] == 6


async def test_joining_an_older_run_answers_the_state_of_now(talk: Talk, thread_id: str) -> None:
    first = (await talk.create(thread_id, "counter", input=COUNT))["run_id"]
    assert (await talk.join(thread_id, first))["count"] == 3
    await talk.wait(thread_id, "counter", input={"count": 10})
    assert (await talk.join(thread_id, first))["count"] == 13


async def test_joining_a_failed_run_answers_its_error(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "fails", input={"x": 1}))["run_id"]
    for _ in range(2):
        assert await talk.join(thread_id, run_id) == {
            "__error__": {"error": "ValueError", "message": "boom: x=2"}
        }


async def test_waiting_for_an_interrupt_answers_state_and_interrupts(
    talk: Talk, thread_id: str
) -> None:
    output = await talk.wait(thread_id, "approval", input={"question": "go?"})
    (interrupt,) = output.pop("__interrupt__")
    assert interrupt["value"] == {"question": "go?"}
    assert output == {"question": "go?"}


async def test_joining_an_interrupted_thread_answers_its_interrupts(
    talk: Talk, thread_id: str
) -> None:
    run_id = (await talk.create(thread_id, "approval", input={"question": "go?"}))["run_id"]
    for _ in range(2):
        (interrupt,) = (await talk.join(thread_id, run_id))["__interrupt__"]
        assert interrupt["value"] == {"question": "go?"}


@pytest.mark.parametrize("end", ["stream", "join"])
async def test_an_unknown_run_cannot_be_joined(talk: Talk, thread_id: str, end: str) -> None:
    for path in (f"/threads/{thread_id}/runs/{uuid()}", f"/threads/{UNKNOWN}/runs/{uuid()}"):
        assert refused(await talk.get(f"{path}/{end}"), 404) == "Run not found"


async def test_a_run_can_be_joined_under_its_own_thread_only(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    await talk.join(thread_id, run_id)
    other = await talk.new_thread()
    refused(await talk.get(f"/threads/{other}/runs/{run_id}"), 404)


async def test_the_run_is_over_when_its_stream_ends(talk: Talk, thread_id: str) -> None:
    for graph, status in (("trivial", "success"), ("fails", "error"), ("approval", "success")):
        frames = await talk.streamed(thread_id, graph, input={"x": 1, "question": "?"})
        assert await talk.status(thread_id, run_of(frames)) == status


async def test_a_reader_that_pauses_gets_everything(talk: Talk, thread_id: str) -> None:
    """It reads nothing while the run emits 20 MB and ends."""
    lines = ["y" * 1000] * 5000
    async with talk.streaming(
        thread_id, "counter", input={"count": 0, "log": lines}, stream_mode="values"
    ) as stream:
        run_id = stream.response.headers["content-location"].rpartition("/")[2]
        first = await stream.next()
        await talk.join(thread_id, run_id)
        frames = await stream.rest()
    assert first is not None
    assert first.name == "metadata"
    assert [f.data["count"] for f in frames] == [0, 1, 2, 3]
    assert [len(f.data["log"]) for f in frames] == [5000, 5001, 5002, 5003]


async def test_a_reader_that_pauses_holds_nobody_up(talk: Talk, thread_id: str) -> None:
    lines = ["y" * 1000] * 5000
    async with talk.streaming(
        thread_id, "counter", input={"count": 0, "log": lines}, stream_mode="values"
    ) as stream:
        await stream.next()
        other = await talk.new_thread()
        assert await talk.wait(other, "trivial", input={"x": 1}) == {"x": 2}
        assert ok(await talk.get("/ok"))["ok"]
        await stream.rest()
