"""Streams and late answers as bytes and headers (platform API, sections 2 and 3)."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conformance.talking import HEARTBEAT, Talk, names, ok

COUNT = {"count": 0}


async def test_an_event_is_framed_event_data_id_with_crlf(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(thread_id, "counter", input=COUNT, stream_resumable=True)
    for frame in frames:
        data = json.dumps(frame.data, separators=(",", ":")).encode()
        assert frame.id is not None
        assert frame.raw == (
            b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n"
            % (frame.name.encode(), data, frame.id.encode())
        )


async def test_events_of_a_run_that_is_not_resumable_have_no_id(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(thread_id, "counter", input=COUNT)
    assert [frame.id for frame in frames] == [None] * len(frames)


async def test_ids_look_like_those_of_redis_and_grow(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(
        thread_id,
        "counter",
        input=COUNT,
        stream_resumable=True,
        stream_mode=["values", "updates", "custom", "debug"],
    )
    ids = [tuple(map(int, (frame.id or "").split("-"))) for frame in frames]
    assert all(len(parts) == 2 for parts in ids)
    assert [ms for ms, _ in ids] == sorted(ms for ms, _ in ids)


async def test_no_two_events_share_an_id(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(
        thread_id,
        "counter",
        input=COUNT,
        stream_resumable=True,
        stream_mode=["values", "updates", "custom", "debug", "tasks", "checkpoints"],
    )
    ids = [frame.id for frame in frames]
    assert len(set(ids)) == len(ids)


async def test_the_headers_of_a_stream(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "counter", input=COUNT) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"
        await stream.rest()


async def test_headers_come_before_the_run_starts(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    async with talk.streaming(thread_id, "counter", input=COUNT) as stream:
        second = stream.response.headers["content-location"].rpartition("/")[2]
        assert await talk.status(thread_id, second) == "pending"
        await talk.cancel(thread_id, run_id)
        frames = await stream.rest()
    assert names(frames)[0] == "metadata"


async def test_the_first_event_is_metadata_of_the_first_attempt(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "counter", input=COUNT) as stream:
        frames = await stream.rest()
        run_id = stream.response.headers["content-location"].rpartition("/")[2]
    assert frames[0].name == "metadata"
    assert frames[0].data == {"run_id": run_id, "attempt": 1}


async def test_a_stream_just_ends(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(thread_id, "counter", input=COUNT)
    assert names(frames) == ["metadata", *["values"] * 4]
    assert frames[-1].data == {"count": 3, "log": ["one", "two", "three"]}


async def test_an_error_is_the_last_event(talk: Talk, thread_id: str) -> None:
    frames = await talk.streamed(thread_id, "fails", input={"x": 1})
    assert names(frames) == ["metadata", "values", "values", "error"]
    assert frames[-1].data == {"error": "ValueError", "message": "boom: x=2"}


@pytest.mark.parametrize(
    ("end", "location"), [("", None), ("/stream", "stream"), ("/wait", "join")]
)
async def test_where_a_new_run_is(
    talk: Talk, thread_id: str, end: str, location: str | None
) -> None:
    answer = await talk.post(
        f"/threads/{thread_id}/runs{end}", {"assistant_id": "trivial", "input": {"x": 1}}
    )
    path = answer.headers["content-location"]
    run_id = path.rpartition("/")[2]
    assert path == f"/threads/{thread_id}/runs/{run_id}"
    assert answer.headers.get("location") == (location and f"{path}/{location}")
    await talk.join(thread_id, run_id)


@pytest.mark.parametrize("end", ["stream", "join"])
async def test_where_a_joined_run_is(talk: Talk, thread_id: str, end: str) -> None:
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    path = f"/threads/{thread_id}/runs/{run_id}"
    answer = await talk.get(f"{path}/{end}")
    assert answer.headers["content-location"] == path
    assert answer.headers["location"] == f"{path}/{end}"


async def test_where_a_cancelled_run_was(talk: Talk, thread_id: str) -> None:
    run_id = await talk.running(thread_id)
    answer = await talk.cancel(thread_id, run_id, wait=1)
    path = f"/threads/{thread_id}/runs/{run_id}"
    assert ok(answer) == {}
    assert answer.headers["content-location"] == path
    assert answer.headers["location"] == f"{path}/join"


async def test_the_location_of_a_stream_can_be_read(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "counter", input=COUNT, stream_resumable=True) as stream:
        frames = await stream.rest()
        location = stream.response.headers["location"]
    async with talk.listening("GET", location, headers={"last-event-id": "-1"}) as again:
        assert [f.raw for f in await again.rest()] == [f.raw for f in frames]


async def test_the_location_of_a_stateless_stream_can_be_read(talk: Talk) -> None:
    async with talk.streaming(
        None, "slow", input={"steps": 3, "delay": 0.1}, stream_resumable=True
    ) as stream:
        first = await stream.next()
        location = stream.response.headers["location"]
        async with talk.listening("GET", location, headers={"last-event-id": "-1"}) as again:
            replayed, frames = await asyncio.gather(again.rest(), stream.rest())
    assert first is not None
    assert [f.raw for f in replayed] == [first.raw, *(f.raw for f in frames)]


ELSEWHERE = "http://localhost:3000"
"""A page of another origin that a server on loopback lets in; the reference lets all in."""


async def test_browsers_of_other_origins_may_read_the_headers(talk: Talk) -> None:
    answer = await talk.get("/ok", headers={"origin": ELSEWHERE})
    assert answer.headers["access-control-allow-origin"] in ("*", ELSEWHERE)
    exposed = answer.headers["access-control-expose-headers"].replace(" ", "").split(",")
    assert {"x-pagination-total", "x-pagination-next", "content-location"} <= set(exposed)


async def test_browsers_of_other_origins_may_reconnect(talk: Talk) -> None:
    answer = await talk.get("/ok", headers={"origin": ELSEWHERE})
    assert "location" in answer.headers["access-control-expose-headers"].replace(" ", "").split(",")


async def test_a_preflight_allows_what_the_sdks_send(talk: Talk) -> None:
    answer = await talk.call(
        "OPTIONS",
        "/threads",
        headers={
            "origin": ELSEWHERE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,x-api-key,last-event-id",
        },
    )
    assert answer.status_code == 200
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert "x-api-key" in allowed
    assert "last-event-id" in allowed


async def test_an_answer_varies_by_origin(talk: Talk) -> None:
    answer = await talk.get("/ok", headers={"origin": ELSEWHERE})
    assert "origin" in answer.headers.get("vary", "").lower() or (
        answer.headers["access-control-allow-origin"] == "*"
    )


async def test_silence_is_broken_every_five_seconds(talk: Talk) -> None:
    threads = [await talk.new_thread() for _ in range(2)]
    still = {"steps": 1, "delay": 5.6}

    async def stream() -> None:
        async with talk.streaming(threads[0], "slow", input=still) as own:
            await own.until("metadata")
            run_id = own.heard[0].data["run_id"]
            async with talk.joining(threads[0], run_id) as joined:
                await asyncio.gather(own.rest(), joined.rest())
                # A busy machine takes its time over the run, too.
                assert 1 <= joined.heartbeats <= own.heartbeats

    async def wait() -> None:
        path = f"/threads/{threads[1]}/runs/wait"
        answer = await talk.post(path, {"assistant_id": "slow", "input": still})
        assert answer.content.startswith(b"\n{")
        assert answer.json()["i"] == 1

    async def thread_stream() -> None:
        async with talk.listening(
            "GET", f"/threads/{threads[0]}/stream?stream_modes=state_update"
        ) as s:
            await s.heartbeat()

    assert HEARTBEAT.startswith(b":")
    await asyncio.gather(stream(), wait(), thread_stream())
