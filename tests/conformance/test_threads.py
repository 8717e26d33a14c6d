"""Threads and their records: creating, finding, changing, copying, deleting (section 4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.talking import Talk, ok, refused, uuid
from tests.waiting import until

COUNT = {"count": 0}
THREAD_KEYS = {
    *("thread_id", "created_at", "updated_at", "metadata", "status", "config", "values"),
}


async def search(talk: Talk, **body: Any) -> list[dict[str, Any]]:
    return ok(await talk.post("/threads/search", body))


async def test_a_new_thread_is_idle_and_empty(talk: Talk) -> None:
    thread = ok(await talk.post("/threads", {"metadata": {"mine": 1}}))
    assert set(thread) >= THREAD_KEYS
    assert thread["status"] == "idle"
    assert thread["values"] is None
    assert thread["metadata"] == {"mine": 1}
    assert thread["created_at"].endswith("+00:00")
    assert await talk.thread(thread["thread_id"]) == thread


async def test_a_thread_that_exists_is_not_made_again(talk: Talk) -> None:
    thread_id = await talk.new_thread(metadata={"n": 1})
    detail = refused(await talk.post("/threads", {"thread_id": thread_id}), 409)
    assert detail == f"Thread with ID {thread_id} already exists"
    same = ok(
        await talk.post(
            "/threads",
            {"thread_id": thread_id, "if_exists": "do_nothing", "metadata": {"n": 2}},
        )
    )
    assert (same["thread_id"], same["metadata"]) == (thread_id, {"n": 1})


async def test_many_creators_of_one_thread_make_one(talk: Talk) -> None:
    thread_id = uuid()
    answers = await asyncio.gather(
        *(talk.post("/threads", {"thread_id": thread_id}) for _ in range(8))
    )
    assert sorted(a.status_code for a in answers) == [200, *[409] * 7]


async def test_a_thread_can_begin_with_states(talk: Talk) -> None:
    thread = ok(
        await talk.post(
            "/threads",
            {
                "metadata": {"graph_id": "counter"},
                "supersteps": [
                    {"updates": [{"values": {"count": 1, "log": []}, "as_node": "__input__"}]},
                    {"updates": [{"values": {"count": 5, "log": ["one"]}, "as_node": "one"}]},
                ],
            },
        )
    )
    state = await talk.state(thread["thread_id"])
    assert state["values"] == {"count": 5, "log": ["one"]}
    assert state["next"] == ["two"]
    assert (await talk.wait(thread["thread_id"], "counter", input=None))["count"] == 7


async def test_states_that_do_not_fit_leave_a_thread_and_a_sentence(talk: Talk) -> None:
    answer = await talk.post(
        "/threads", {"supersteps": [{"updates": [{"values": {}, "as_node": "one"}]}]}
    )
    assert answer.status_code == 201
    assert "was created, but there were problems updating the state" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"if_exists": "bogus"},
        {"metadata": []},
        {"thread_id": "x"},
        {"ttl": "soon"},
        {"supersteps": "x"},
        {"supersteps": [{"updates": "x"}]},
    ],
    ids=str,
)
async def test_a_wrong_option_is_refused(talk: Talk, wrong: dict[str, Any]) -> None:
    refused(await talk.post("/threads", wrong), 422)


async def test_an_unknown_thread_is_not_found(talk: Talk) -> None:
    thread_id = uuid()
    sentence = f"Thread with ID {thread_id} not found"
    assert refused(await talk.get(f"/threads/{thread_id}"), 404) == sentence
    assert refused(await talk.delete(f"/threads/{thread_id}"), 404) == sentence
    answer = await talk.call("PATCH", f"/threads/{thread_id}", json={"metadata": {}})
    assert refused(answer, 404) == "Not Found"


async def test_metadata_is_merged(talk: Talk) -> None:
    thread_id = await talk.new_thread(metadata={"a": 1, "b": {"c": 1}})
    answer = await talk.call(
        "PATCH", f"/threads/{thread_id}", json={"metadata": {"b": {"d": 2}, "e": None}}
    )
    merged = {"a": 1, "b": {"d": 2}, "e": None}
    assert ok(answer)["metadata"] == merged
    assert (await talk.thread(thread_id))["metadata"] == merged


async def test_a_change_may_be_answered_with_nothing(talk: Talk, thread_id: str) -> None:
    answer = await talk.call(
        "PATCH",
        f"/threads/{thread_id}",
        json={"metadata": {"a": 1}},
        headers={"prefer": "return=minimal"},
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await talk.thread(thread_id))["metadata"] == {"a": 1}


async def test_threads_are_found_by_metadata(talk: Talk) -> None:
    mark = uuid()
    made = [await talk.new_thread(metadata={"mark": mark, "n": n}) for n in range(3)]
    found = await search(talk, metadata={"mark": mark})
    assert {t["thread_id"] for t in found} == set(made)
    assert [t["metadata"]["n"] for t in found] == [2, 1, 0]
    (one,) = await search(talk, metadata={"mark": mark, "n": 1})
    assert one["thread_id"] == made[1]
    assert await search(talk, metadata={"mark": uuid()}) == []
    assert ok(await talk.post("/threads/count", {"metadata": {"mark": mark}})) == 3


async def test_a_search_is_paged(talk: Talk) -> None:
    mark = uuid()
    for n in range(5):
        await talk.new_thread(metadata={"mark": mark, "n": n})
    where = {"metadata": {"mark": mark}, "sort_by": "created_at", "sort_order": "asc"}
    first = await talk.post("/threads/search", {**where, "limit": 2})
    assert [t["metadata"]["n"] for t in ok(first)] == [0, 1]
    assert first.headers["x-pagination-next"] == "2"
    assert int(first.headers["x-pagination-total"]) >= 3
    last = await talk.post("/threads/search", {**where, "limit": 2, "offset": 4})
    assert [t["metadata"]["n"] for t in ok(last)] == [4]
    assert "x-pagination-next" not in last.headers
    assert last.headers["x-pagination-total"] == "5"


async def test_threads_are_found_by_status(talk: Talk) -> None:
    mark = {"mark": uuid()}
    idle, waiting, failed, busy = [await talk.new_thread(metadata=mark) for _ in range(4)]
    await asyncio.gather(
        talk.wait(idle, "trivial", input={"x": 1}),
        talk.wait(waiting, "approval", input={"question": "?"}),
        talk.wait(failed, "fails", input={"x": 1}),
        talk.running(busy),
    )
    for status, thread_id in (
        ("idle", idle),
        ("interrupted", waiting),
        ("error", failed),
        ("busy", busy),
    ):
        (found,) = await search(talk, metadata=mark, status=status)
        assert found["thread_id"] == thread_id
        assert ok(await talk.post("/threads/count", {"metadata": mark, "status": status})) == 1


async def test_threads_are_found_by_id(talk: Talk) -> None:
    made = [await talk.new_thread() for _ in range(3)]
    found = await search(talk, ids=made[:2])
    assert {t["thread_id"] for t in found} == set(made[:2])


async def test_threads_are_found_by_values(talk: Talk) -> None:
    mark = {"mark": uuid()}
    ran = await talk.new_thread(metadata=mark)
    await talk.wait(ran, "trivial", input={"x": 41})
    (found,) = await search(talk, metadata=mark, values={"x": 42})
    assert found["thread_id"] == ran
    assert await search(talk, metadata=mark, values={"x": 43}) == []


async def test_threads_that_never_ran_do_not_break_a_search_by_values(talk: Talk) -> None:
    mark = {"mark": uuid()}
    await talk.new_thread(metadata=mark)
    ran = await talk.new_thread(metadata=mark)
    await talk.wait(ran, "trivial", input={"x": 41})
    (found,) = await search(talk, metadata=mark, values={"x": 42})
    assert found["thread_id"] == ran


async def test_a_search_may_be_of_some_fields(talk: Talk) -> None:
    mark = {"mark": uuid()}
    await talk.new_thread(metadata=mark)
    (found,) = await search(talk, metadata=mark, select=["thread_id", "status"])
    assert set(found) == {"thread_id", "status"}


async def test_a_search_may_extract(talk: Talk) -> None:
    mark = {"mark": uuid()}
    thread_id = await talk.new_thread(metadata=mark)
    await talk.wait(thread_id, "counter", input=COUNT)
    (found,) = await search(
        talk, metadata=mark, extract={"last": "values.log[-1]", "count": "values.count"}
    )
    assert found["extracted"] == {"last": "three", "count": 3}


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 5000}, {"offset": -1}, {"status": "bogus"}]
)
async def test_a_wrong_search_is_refused(talk: Talk, wrong: dict[str, Any]) -> None:
    refused(await talk.post("/threads/search", wrong), 422)


async def test_a_search_for_ids_that_are_none_is_refused(talk: Talk) -> None:
    refused(await talk.post("/threads/search", {"ids": ["x"]}), 422)


async def test_a_copy_has_state_and_history(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "counter", input=COUNT)
    copied = ok(await talk.post(f"/threads/{thread_id}/copy"))
    assert copied["thread_id"] != thread_id
    copy_id = copied["thread_id"]
    assert (await talk.state(copy_id))["values"] == (await talk.state(thread_id))["values"]
    assert len(await talk.history(copy_id)) == 5
    await talk.wait(copy_id, "counter", input={"count": 10})
    assert (await talk.state(thread_id))["values"]["count"] == 3


async def test_a_copy_of_an_interrupted_thread_can_be_resumed(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "approval", input={"question": "?"})
    copy_id = ok(await talk.post(f"/threads/{thread_id}/copy"))["thread_id"]
    assert (await talk.wait(copy_id, "approval", command={"resume": "yes"}))["answer"] == "yes"
    assert (await talk.thread(thread_id))["status"] == "interrupted"


async def test_an_unknown_thread_cannot_be_copied(talk: Talk) -> None:
    assert refused(await talk.post(f"/threads/{uuid()}/copy"), 409) == "Conflict"


async def test_a_deleted_thread_is_gone_with_its_runs(talk: Talk, thread_id: str) -> None:
    run_id = (await talk.create(thread_id, "trivial", input={"x": 1}))["run_id"]
    await talk.join(thread_id, run_id)
    answer = await talk.delete(f"/threads/{thread_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/runs", f"/runs/{run_id}", "/state"):
        refused(await talk.get(f"/threads/{thread_id}{path}"), 404)


async def test_deleting_a_thread_ends_the_streams_of_its_runs(talk: Talk, thread_id: str) -> None:
    async with talk.streaming(thread_id, "slow", input={"steps": 1200, "delay": 0.05}) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        assert (await talk.delete(f"/threads/{thread_id}")).status_code == 204
        refused(await talk.get(f"/threads/{thread_id}"), 404)
        async with asyncio.timeout(30):
            await stream.rest()


async def test_a_thread_of_a_deleted_id_begins_anew(talk: Talk, thread_id: str) -> None:
    """What the deleted one had is not seen, also not of a run that was in flight."""
    await talk.running(thread_id)
    assert (await talk.delete(f"/threads/{thread_id}")).status_code == 204
    await talk.new_thread(thread_id=thread_id)
    thread = await talk.thread(thread_id)
    assert (thread["status"], thread["values"]) == ("idle", None)
    assert await talk.history(thread_id) == []
    assert await talk.wait(thread_id, "trivial", input={"x": 1}) == {"x": 2}


async def test_threads_are_pruned_together(talk: Talk) -> None:
    made = [await talk.new_thread() for _ in range(3)]
    body = {"thread_ids": [*made[:2], uuid()], "strategy": "delete"}
    assert ok(await talk.post("/threads/prune", body)) == {"pruned_count": 2}
    refused(await talk.get(f"/threads/{made[0]}"), 404)
    await talk.thread(made[2])


@pytest.mark.parametrize("strategy", ["delete", "keep_latest"])
async def test_a_thread_with_a_ttl_is_made(talk: Talk, strategy: str) -> None:
    thread_id = await talk.new_thread(ttl={"ttl": 60, "strategy": strategy})

    async def there() -> bool | None:
        return (await talk.thread(thread_id))["thread_id"] == thread_id or None

    assert await until(there)


@pytest.mark.parametrize(
    "values",
    ["\U0001f3ad", "a\u2028b\u2029c", "\x7f\x01", "é" * 1000],
    ids=["emoji", "separators", "controls", "long"],
)
async def test_every_character_survives(talk: Talk, values: str) -> None:
    await survives(talk, values)


async def test_a_backslash_before_u0000_survives(talk: Talk) -> None:
    """Six characters that only look like an escape."""
    await survives(talk, "\\u0000 in words")


async def survives(talk: Talk, values: str) -> None:
    thread_id = await talk.new_thread(metadata={"text": values})
    assert (await talk.thread(thread_id))["metadata"]["text"] == values
    frames = await talk.streamed(
        thread_id, "approval", input={"question": values}, stream_resumable=True
    )
    assert frames[1].data["question"] == values
    assert (await talk.state(thread_id))["values"]["question"] == values
