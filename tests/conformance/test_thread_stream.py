"""The stream of a whole thread (platform API, section 5)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conformance.talking import Listening, Talk, names, ok, refused, uuid

COUNT = {"count": 0}
ID = re.compile(r"\d+-\d+")


@asynccontextmanager
async def watching(
    talk: Talk, thread_id: str, query: str = "", after: str | None = None
) -> AsyncIterator[Listening]:
    """The thread's stream; nothing announces that it listens, so it is given a moment."""
    headers = {} if after is None else {"last-event-id": after}
    async with talk.listening("GET", f"/threads/{thread_id}/stream{query}", headers=headers) as s:
        await asyncio.sleep(0.3)
        yield s


def done(run_id: str):
    return lambda data: data.get("status") == "run_done" and data["run_id"] == run_id


@pytest.mark.parametrize("query", ["", "?stream_modes=run_modes"])
async def test_it_has_all_events_of_all_runs(talk: Talk, thread_id: str, query: str) -> None:
    async with watching(talk, thread_id, query) as stream:
        for graph, mode in (("counter", "values"), ("trivial", "updates")):
            own = await talk.streamed(thread_id, graph, input={"count": 0}, stream_mode=mode)
            run_id = own[0].data["run_id"]
            before = len(stream.heard)
            await stream.until("metadata", done(run_id))
            heard = stream.heard[before:]
            assert [(f.name, f.data) for f in heard[:-1]] == [(f.name, f.data) for f in own]
            assert heard[-1].data == {"status": "run_done", "run_id": run_id}
    assert all(ID.fullmatch(frame.id or "") for frame in stream.heard)


async def test_it_tells_of_enqueued_runs_in_their_order(talk: Talk, thread_id: str) -> None:
    async with watching(talk, thread_id, "?stream_modes=lifecycle") as stream:
        runs = [(await talk.create(thread_id, "trivial", input={"x": n}))["run_id"] for n in "123"]
        await stream.until("metadata", done(runs[-1]))
    ended = [f.data["run_id"] for f in stream.heard if "status" in f.data]
    assert ended == runs


async def test_lifecycle_has_only_start_and_end(talk: Talk, thread_id: str) -> None:
    async with watching(talk, thread_id, "?stream_modes=lifecycle") as stream:
        run_id = (await talk.create(thread_id, "counter", input=COUNT))["run_id"]
        await stream.until("metadata", done(run_id))
    assert [f.data for f in stream.heard] == [
        {"run_id": run_id, "attempt": 1},
        {"status": "run_done", "run_id": run_id},
    ]


async def test_lifecycle_tells_the_end_of_runs_that_fail_or_stop(
    talk: Talk, thread_id: str
) -> None:
    async with watching(talk, thread_id, "?stream_modes=lifecycle") as stream:
        failed = (await talk.create(thread_id, "fails", input={"x": 1}))["run_id"]
        await stream.until("metadata", done(failed))
        stopped = await talk.running(thread_id)
        await talk.cancel(thread_id, stopped)
        await stream.until("metadata", done(stopped))


async def test_state_update_tells_of_changes_by_hand(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    async with watching(talk, thread_id, "?stream_modes=state_update") as stream:
        ok(await talk.post(f"/threads/{thread_id}/state", {"values": {"count": 40}}))
        frame = await stream.until("state_update")
    assert names(stream.heard) == ["state_update"]
    assert frame.data["thread_id"] == thread_id
    assert frame.data["state"]["values"]["count"] == 40


async def test_modes_may_be_combined_with_a_comma(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    async with watching(talk, thread_id, "?stream_modes=lifecycle,state_update") as stream:
        run_id = (await talk.create(thread_id, "counter", input=COUNT))["run_id"]
        await stream.until("metadata", done(run_id))
        ok(await talk.post(f"/threads/{thread_id}/state", {"values": {"count": 40}}))
        await stream.until("state_update")


@pytest.mark.parametrize(
    "query",
    [
        '?stream_modes=["lifecycle","state_update"]',
        "?stream_mode=lifecycle",
    ],
)
async def test_modes_may_be_given_in_every_encoding(talk: Talk, thread_id: str, query: str) -> None:
    async with watching(talk, thread_id, query) as stream:
        run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
        await stream.until("metadata", done(run_id))
    assert names(stream.heard) == ["metadata", "metadata"]


async def test_of_repeated_keys_at_least_the_last_counts(talk: Talk, thread_id: str) -> None:
    query = "?stream_modes=state_update&stream_modes=lifecycle"
    async with watching(talk, thread_id, query) as stream:
        run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
        await stream.until("metadata", done(run_id))
    assert names(stream.heard) == ["metadata", "metadata"]


async def test_an_unknown_mode_is_refused(talk: Talk, thread_id: str) -> None:
    answer = await talk.get(f"/threads/{thread_id}/stream?stream_modes=bogus")
    assert refused(answer, 422).startswith("Invalid stream mode")


async def test_a_watcher_of_an_unknown_thread_waits_for_it(talk: Talk) -> None:
    thread_id = uuid()
    async with watching(talk, thread_id) as stream:
        await talk.new_thread(thread_id=thread_id)
        run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
        await stream.until("metadata", done(run_id))


@pytest.mark.parametrize("after", ["-1", "garbage"])
async def test_its_last_event_id_must_look_like_one_of_redis(
    talk: Talk, thread_id: str, after: str
) -> None:
    answer = await talk.get(f"/threads/{thread_id}/stream", headers={"last-event-id": after})
    assert refused(answer, 422) == "Invalid last-event-id: must be a valid Redis stream ID"


@pytest.mark.parametrize("after", ["0-0", "1795331102595-0"])
async def test_it_takes_the_ids_that_it_gives(talk: Talk, thread_id: str, after: str) -> None:
    async with watching(talk, thread_id, after=after) as stream:
        run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
        await stream.until("metadata", done(run_id))
    assert names(stream.heard) == ["metadata", "values", "values", "metadata"]


async def test_leaving_it_cancels_nothing(talk: Talk, thread_id: str) -> None:
    async with watching(talk, thread_id) as stream:
        run_id = await talk.running(thread_id)
        await stream.until("values")
    async with talk.joining(thread_id, run_id) as joined:
        await joined.until("values")
    assert await talk.status(thread_id, run_id) == "running"


async def test_two_watchers_see_the_same(talk: Talk, thread_id: str) -> None:
    async with watching(talk, thread_id) as first, watching(talk, thread_id) as second:
        run_id = (await talk.create(thread_id, "counter", input=COUNT))["run_id"]
        await asyncio.gather(
            first.until("metadata", done(run_id)), second.until("metadata", done(run_id))
        )
    assert [f.data for f in first.heard] == [f.data for f in second.heard]
