"""Requests with an Idempotency-Key on every route that creates: the same one, and another one."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from greenroom.core.errors import Conflict, NotFound, TooManyRequests, Unavailable
from greenroom.http.parameters import MAX_KEY
from tests.actors.doubles import until
from tests.http.edge_doubles import THREAD, MemoryRecords, MemoryRuntime

RUN = {"assistant_id": "counter", "input": {"count": 0}}
CRON = {"assistant_id": "counter", "schedule": "* * * * *"}
ROUTES: dict[str, Any] = {
    "/threads": {"metadata": {"a": 1}},
    f"/threads/{THREAD}/copy": None,
    f"/threads/{THREAD}/runs": RUN,
    f"/threads/{THREAD}/runs/crons": CRON,
    "/runs": RUN,
    "/runs/batch": [RUN, RUN],
    "/runs/crons": CRON,
    "/assistants": {"graph_id": "counter"},
}


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


def keyed(key: str = "k") -> dict[str, str]:
    return {"idempotency-key": key}


def counts(records: MemoryRecords) -> tuple[int, ...]:
    kinds = (records.threads, records.runs, records.crons, records.assistants)
    return tuple(len(kind) for kind in kinds)


@pytest.mark.parametrize("mount", ["", "/api"])
@pytest.mark.parametrize("path", ROUTES)
async def test_the_same_request_makes_nothing_a_second_time(client, records, path, mount):
    first = await client.post(mount + path, json=ROUTES[path], headers=keyed())
    assert first.status_code == 200, first.text
    there = counts(records)
    again = await client.post(mount + path, json=ROUTES[path], headers=keyed())
    assert again.status_code == 200, again.text
    assert counts(records) == there
    assert ids(again.json()) == ids(first.json())
    assert again.headers.get("content-location") == first.headers.get("content-location")
    another = await client.post(mount + path, json=ROUTES[path], headers=keyed("another"))
    assert counts(records) > there
    assert ids(another.json()) != ids(first.json())


def ids(answer: Any) -> list[str]:
    records = answer if isinstance(answer, list) else [answer]
    found = [r.get("run_id") or r.get("cron_id") or r.get("thread_id") for r in records]
    return [each or r["assistant_id"] for each, r in zip(found, records, strict=True)]


async def test_both_mounts_have_the_same_keys(client, records):
    first = await client.post("/threads", json={}, headers=keyed())
    again = await client.post("/api/threads", json={}, headers=keyed())
    assert again.json() == first.json()


@pytest.mark.parametrize(
    ("path", "body"),
    [("/runs", {**RUN, "input": {"count": 1}}), ("/runs/wait", RUN), ("/threads", RUN)],
)
async def test_another_request_with_a_key_is_refused(client, records, path, body):
    await client.post("/runs", json=RUN, headers=keyed())
    there = counts(records)
    answer = await client.post(path, json=body, headers=keyed())
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "This Idempotency-Key was used with another path or body. Use a new key for a new request, "
        "or repeat the first one without changes.",
    )
    assert counts(records) == there


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY + 1), "a\tb", "caf\u00ad"])
async def test_a_key_that_is_no_key_is_refused(client, records, key):
    there = counts(records)
    answer = await client.post("/threads", json={}, headers={b"idempotency-key": key.encode("l1")})
    assert answer.status_code == 422
    assert "1 to 255 printable characters" in answer.json()["detail"]
    assert counts(records) == there


async def test_two_keys_are_refused(client):
    both = [("idempotency-key", "a"), ("idempotency-key", "b")]
    assert (await client.post("/threads", json={}, headers=both)).status_code == 422


async def test_a_key_has_up_to_255_characters(client):
    for key in ("!", "x" * MAX_KEY, "a key"):
        answer = await client.post("/threads", json={}, headers=keyed(key))
        assert answer.status_code == 200


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusal", [Conflict("The thread is taken."), TooManyRequests("Full.")])
async def test_a_create_that_was_refused_leaves_the_key_free(client, runtime, records, refusal):
    runtime.fail = refusal
    refused = await client.post("/runs", json=RUN, headers=keyed())
    assert refused.status_code == refusal.status_hint
    assert not records.keys
    runtime.fail = None
    other = {**RUN, "input": {"count": 1}}
    assert (await client.post("/runs", json=other, headers=keyed())).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/runs", {"assistant_id": "nothing"}, 422),
        ("/runs", {"assistant_id": 7}, 422),
        ("/threads/656ebb01-2f41-4e1c-8df6-f83b6e2bb98e/runs", RUN, 404),
        ("/threads", {"thread_id": THREAD}, 409),
        ("/runs/crons", {**CRON, "schedule": "never"}, 422),
        ("/assistants", {"graph_id": "nothing"}, 404),
        ("/threads/656ebb01-2f41-4e1c-8df6-f83b6e2bb98e/copy", None, 409),
    ],
)
async def test_no_mistake_takes_a_key(client, records, path, body, status):
    answer = await client.post(path, json=body, headers=keyed())
    assert answer.status_code == status, answer.text
    assert not records.keys


async def test_a_key_is_kept_when_it_is_unknown_what_was_made(client, runtime, records):
    runtime.fail = Unavailable("The run could not be stored.")
    assert (await client.post("/runs", json=RUN, headers=keyed())).status_code == 503
    ((_, held),) = records.keys.items()
    runtime.fail = None
    answer = await client.post("/runs", json=RUN, headers=keyed())
    assert answer.json()["run_id"] == held.once.new_run_id(held.once.new_id())


async def test_a_refused_repetition_does_not_free_the_key(client, runtime, records):
    await client.post("/runs", json=RUN, headers=keyed())
    runtime.fail = TooManyRequests("Full.")
    assert (await client.post("/runs", json=RUN, headers=keyed())).status_code == 429
    assert records.keys["k"].made


async def test_a_key_that_another_request_frees_is_reserved_again(client, runtime, records):
    """The other one was refused; then the registry makes nothing with the ids of the freed key."""
    create = runtime.create
    asked = []

    async def freed(request):
        asked.append(request)
        if len(asked) == 1:
            assert await records.release(request.once)
            raise NotFound("The key is free.")
        return await create(request)

    runtime.create = freed
    answer = await client.post("/runs", json=RUN, headers=keyed())
    assert answer.json()["run_id"] == asked[1].run_id != asked[0].run_id
    assert [*records.runs] == [asked[1].run_id]


async def test_a_request_whose_key_is_freed_all_the_time_gets_its_refusal(client, runtime, records):
    async def freed(request):
        await records.release(request.once)
        raise Conflict("The thread is taken.")

    runtime.create = freed
    answer = await client.post("/runs", json=RUN, headers=keyed())
    assert (answer.status_code, answer.json()["detail"]) == (409, "The thread is taken.")


async def test_a_copy_whose_key_was_freed_meanwhile_is_not_left_behind(client, runtime, records):
    """Another request with the key was refused, since a run was on the thread; this one was not."""
    copy, copies = runtime.copy_thread, []

    async def freed(thread_id, copy_id, **given):
        await copy(thread_id, copy_id, **given)
        copies.append(copy_id)
        if len(copies) == 1:
            assert await records.release(records.keys["k"].once)

    runtime.copy_thread = freed
    answer = await client.post(f"/threads/{THREAD}/copy", headers=keyed())
    assert answer.json()["thread_id"] == copies[1]
    assert {*records.threads} == {THREAD, copies[1]}


# --- what became of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
async def test_what_was_deleted_is_not_made_again(client, runtime, records, path):
    await client.post(path, json=ROUTES[path], headers=keyed())
    there = counts(records)
    runtime.created.clear()
    for kind in (records.threads, records.runs, records.crons, records.assistants):
        made = records.keys["k"].made
        for its_id in [each for each in kind if each in made]:
            del kind[its_id]
    gone = counts(records)
    assert gone < there
    answer = await client.post(path, json=ROUTES[path], headers=keyed())
    assert answer.status_code == 409, answer.text
    assert "deleted. Use another key to create a new one." in answer.json()["detail"]
    assert counts(records) == gone


async def test_a_run_that_the_registry_has_forgotten_is_answered_from_its_record(
    client, runtime, records
):
    first = (await client.post("/runs", json=RUN, headers=keyed())).json()
    runtime.finish(first["run_id"])
    runtime.created.clear()
    again = await client.post("/runs", json=RUN, headers=keyed())
    assert (again.json()["run_id"], again.json()["status"]) == (first["run_id"], "success")
    assert len(runtime.requests) == 1


@pytest.mark.parametrize("path", ["/runs/wait", f"/threads/{THREAD}/runs/wait"])
async def test_a_repeated_wait_waits_for_the_same_run(client, runtime, path):
    first = asyncio.create_task(client.post(path, json=RUN, headers=keyed()))
    await runtime.opened.wait()
    second = asyncio.create_task(client.post(path, json=RUN, headers=keyed()))
    await until(lambda: runtime.open == 2)
    ((run_id, _),) = runtime.endings.items()
    runtime.finish(run_id, {"count": 1})
    answers = await asyncio.gather(first, second)
    assert [answer.json() for answer in answers] == [{"count": 1}] * 2
    assert len({answer.headers["content-location"] for answer in answers}) == 1


@pytest.mark.parametrize("path", ["/runs/stream", f"/threads/{THREAD}/runs/stream"])
async def test_a_repeated_stream_joins_the_same_run_from_its_first_event(client, runtime, path):
    body = {**RUN, "stream_resumable": True}
    first = asyncio.create_task(client.post(path, json=body, headers=keyed()))
    await runtime.opened.wait()
    ((run_id, _),) = runtime.endings.items()
    runtime.emit(run_id, "values", {"count": 1})
    runtime.finish(run_id)
    again = await client.post(path, json=body, headers=keyed())
    assert again.text == (await first).text
    assert '"count":1' in again.text
    assert len(runtime.requests) == 1


async def test_a_thread_without_its_supersteps_gets_them_from_the_repetition(
    client, runtime: MemoryRuntime, records
):
    """The gateway died in between."""
    steps = [{"updates": [{"values": {"count": 1}, "as_node": "a"}]}]
    body = {"metadata": {"graph_id": "counter"}, "supersteps": steps}
    runtime.fail = Unavailable("The inspector is being replaced.")
    assert (await client.post("/threads", json=body, headers=keyed())).status_code == 503
    runtime.fail = None
    for _ in range(2):
        assert (await client.post("/threads", json=body, headers=keyed())).status_code == 200
    lost, repeated = runtime.questions
    assert lost.update_id == repeated.update_id != ""
    assert len(records.threads) == 2


async def test_a_request_without_a_key_reserves_none(client, records):
    for path, body in ROUTES.items():
        await client.post(path, json=body)
    assert not records.keys


async def test_a_batch_of_which_some_runs_were_refused_is_completed(client, runtime, records):
    create = runtime.create

    async def few(request):
        if len(records.runs) == 2:
            raise TooManyRequests("Full.")
        return await create(request)

    runtime.create = few
    batch = [RUN] * 3
    assert (await client.post("/runs/batch", json=batch, headers=keyed())).status_code == 429
    there = {*records.runs}
    runtime.create = create
    answer = await client.post("/runs/batch", json=batch, headers=keyed())
    made = [run["run_id"] for run in answer.json()]
    assert (len({*made}), there < {*made}, {*made} == {*records.runs}) == (3, True, True)


async def test_twenty_at_once_make_one_run(live: httpx.AsyncClient, runtime, records):
    answers = await asyncio.gather(
        *(live.post("/runs", json=RUN, headers=keyed()) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert len(records.runs) == 1


async def test_the_description_of_the_api_names_the_header(app):
    paths = app.openapi()["paths"]
    named = {
        path
        for path, operations in paths.items()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "Idempotency-Key"
    }
    routes = {path.replace(THREAD, "{thread_id}") for path in ROUTES}
    routes |= {f"{path}/{end}" for path in _RUNS for end in ("wait", "stream")}
    # `test_inputs.py` and `test_event_streaming.py` have these.
    routes |= {f"/threads/{{thread_id}}/{end}" for end in ("runs/{run_id}/input", "commands")}
    # `test_feedback.py` has these.
    routes |= {f"/runs/{{run_id}}/feedback{key}" for key in ("", "/{key}")}
    assert named == routes | {f"/api{path}" for path in routes}


_RUNS = ("/runs", "/threads/{thread_id}/runs")
