"""Feedback about runs: its addresses, its routes, and the event that ends a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from tests.http.edge_doubles import RUN, THREAD, UNKNOWN, MemoryRecords, MemoryRuntime

MOUNTS = ("", "/api")
BOUND_S = 10.0


@pytest.fixture(params=MOUNTS, ids=("platform", "gateway"))
def mount(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def run(records: MemoryRecords) -> None:
    records.add_run(status="success")


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "", {"json": {"key": "k", "score": 1, "comment": "good"}}),
        ("POST", "/k", {"json": {"score": 1, "comment": "good"}}),
        ("POST", "/k", {"params": {"score": "1", "comment": "good"}}),
        ("POST", "/k?score=1", {"json": {"comment": "good"}}),
        ("GET", "/k", {"params": {"score": "1", "comment": "good"}}),
    ],
)
async def test_feedback_is_stored_and_listed(
    client: httpx.AsyncClient, mount: str, method: str, path: str, said: dict[str, Any]
) -> None:
    of_run = f"{mount}/runs/{RUN}/feedback"
    answer = await client.request(method, f"{of_run}{path}", **said)
    made = answer.raise_for_status().json()
    assert (made["key"], made["score"], made["comment"], made["value"]) == ("k", 1, "good", None)
    assert (await client.get(of_run)).json() == [made]
    assert (await client.get(of_run, params={"offset": 1})).json() == []


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("", {"score": 1}, "key is required."),
        ("", {"key": "k"}, "Feedback needs a score"),
        ("/k", {}, "Feedback needs a score"),
        ("/k?score=high", {}, "score must be a number, not 'high'."),
        ("/k", {"score": "high"}, "score must be"),
        (f"/{'k' * 256}", {"score": 1}, "at most 255 characters"),
    ],
)
async def test_feedback_that_says_nothing_is_refused(client, path, body, says: str) -> None:
    answer = await client.post(f"/runs/{RUN}/feedback{path}", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_feedback_is_about_a_run_that_exists(client: httpx.AsyncClient) -> None:
    of_run = f"/runs/{UNKNOWN}/feedback"
    assert (await client.get(of_run)).status_code == 404
    assert (await client.post(of_run, json={"key": "k", "score": 1})).status_code == 404
    assert (await client.get(f"{of_run}/k", params={"score": 1})).status_code == 404
    assert (await client.get("/runs/x/feedback")).status_code == 422


async def test_the_same_key_of_a_request_stores_feedback_once(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"key": "thumbs", "score": 1}
    path = f"/runs/{RUN}/feedback"
    answers = [(await client.post(path, json=body, headers=key)).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len((await client.get(path)).json()) == 1


async def streamed(
    client: httpx.AsyncClient, runtime: MemoryRuntime, path: str, **body: Any
) -> list[tuple[str, Any]]:
    asking = asyncio.create_task(client.post(path, json={"assistant_id": "counter", **body}))
    async with asyncio.timeout(BOUND_S):
        await runtime.admitted.wait()
        runtime.emit(runtime.requests[-1].run_id, "values", {"n": 1})
        runtime.finish(runtime.requests[-1].run_id)
        answer = (await asking).raise_for_status()
    return events(answer)


def events(answer: httpx.Response) -> list[tuple[str, Any]]:
    frames = [f for f in answer.text.split("\r\n\r\n") if f.startswith("event: ")]
    named = (frame.removeprefix("event: ").split("\r\ndata: ") for frame in frames)
    return [(name, orjson.loads(data.partition("\r\n")[0])) for name, data in named]


async def test_a_stream_ends_with_the_addresses(client, runtime, mount: str) -> None:
    path = f"{mount}/threads/{THREAD}/runs/stream"
    told = await streamed(client, runtime, path, feedback_keys=["thumbs", "so so"])
    run_id = runtime.requests[-1].run_id
    of_run = f"http://edge{mount}/runs/{run_id}/feedback"
    assert told[-1] == ("feedback", {"thumbs": f"{of_run}/thumbs", "so so": f"{of_run}/so%20so"})
    assert [name for name, _ in told] == ["metadata", "values", "feedback"]
    # A joiner gets them as well, unless it asks for some modes only.
    join = f"{mount}/threads/{THREAD}/runs/{run_id}/stream"
    runtime.records.runs[run_id]["status"] = "pending"
    assert events(await client.get(join))[-1] == told[-1]
    some = await client.get(join, params={"stream_mode": "values"})
    assert [name for name, _ in events(some)] == ["values"]


async def test_without_keys_or_the_run_there_is_no_event(client, runtime) -> None:
    path = f"/threads/{THREAD}/runs/stream"
    told = await streamed(client, runtime, path)
    assert [name for name, _ in told] == ["metadata", "values"]
    runtime.admitted.clear()
    asking = asyncio.create_task(
        client.post(path, json={"assistant_id": "counter", "feedback_keys": ["k"]})
    )
    async with asyncio.timeout(BOUND_S):
        await runtime.admitted.wait()
        run_id = runtime.requests[-1].run_id
        runtime.finish(run_id)
        del runtime.records.runs[run_id]  # it is rolled back
        assert [name for name, _ in events(await asking)] == ["metadata"]


async def test_a_run_that_is_not_kept_cannot_have_feedback(client, runtime, mount: str) -> None:
    body = {"assistant_id": "counter", "feedback_keys": ["k"]}
    answer = await client.post(f"{mount}/runs/stream", json=body)
    assert answer.status_code == 422
    assert "needs a run that is kept" in answer.json()["detail"]
    told = await streamed(client, runtime, f"{mount}/runs/stream", **body, on_completion="keep")
    assert told[-1][0] == "feedback"
