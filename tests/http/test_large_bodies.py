"""Large request bodies: passed on as they are, refused for the same reasons, bounded together."""

from __future__ import annotations

import asyncio

import httpx
import orjson
import pytest

from greenroom.http import bodies
from greenroom.http.settings import HttpSettings
from tests.http.edge_doubles import THREAD

RUNS = f"/threads/{THREAD}/runs"
BOUND_S = 30


@pytest.fixture
def settings() -> HttpSettings:
    return HttpSettings(max_body_bytes=8_000_000, bodies_max_bytes=10_000_000)


@pytest.fixture(autouse=True)
def thread(records):
    records.add_thread(graph_id="counter")


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LARGE_BYTES", 100_000)


def body(**given) -> bytes:
    return orjson.dumps({"assistant_id": "counter", "input": {"log": ["x" * 200_000]}, **given})


def post(client: httpx.AsyncClient, path: str, content: bytes):
    return client.post(path, content=content, headers={"content-type": "application/json"})


async def test_a_large_run_is_the_run_that_a_small_one_would_be(client, runtime):
    command = {"update": {"k": "y" * 200_000}, "goto": "one"}
    asked = body(command=command, stream_mode=["values"], metadata={"a": 1})
    answer = await post(client, RUNS, asked)
    assert answer.status_code == 200
    kwargs = orjson.loads(runtime.requests[0].kwargs)
    assert kwargs == answer.json()["kwargs"]
    assert kwargs["input"] == {"log": ["x" * 200_000]}
    assert kwargs["command"] == command
    assert runtime.requests[0].resumes
    assert answer.json()["metadata"]["a"] == 1


async def test_a_large_state_is_passed_on(client, runtime):
    values = {"log": ["x" * 200_000]}
    answer = await post(client, f"/threads/{THREAD}/state", orjson.dumps({"values": values}))
    assert answer.status_code == 200
    assert orjson.loads(runtime.questions[0].values) == values


async def test_a_large_batch_is_as_a_small_one(client, runtime):
    answer = await post(client, "/runs/batch", b"[%b,%b]" % (body(), body()))
    assert [len(run["kwargs"]["input"]["log"][0]) for run in answer.json()] == [200_000] * 2
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_a_large_run_without_a_thread_is_answered_whole(client, runtime):
    answer = await post(client, "/runs", body(metadata={"a": 1}))
    assert int(answer.headers["content-length"]) == len(answer.content)
    run = answer.json()
    assert run["kwargs"]["input"] == {"log": ["x" * 200_000]}
    assert run["kwargs"]["config"]["metadata"] == run["metadata"]
    assert run["metadata"]["a"] == 1
    assert list(run)[3:7] == ["metadata", "status", "kwargs", "multitask_strategy"]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (body()[:-1], "Invalid JSON in request body"),
        (body().replace(b"xx", b"\xff\xff", 1), "Invalid JSON in request body"),
        (body().replace(b"xx", b"\\ud800", 1), "Invalid JSON in request body"),
        (body().replace(b'"input"', b'"input":NaN,"x"', 1), "Invalid JSON in request body"),
        (body(context={"a": "NUL"}).replace(b"NUL", b"a\\u0000"), "holds a NUL character"),
        (b'{"input":%b1%b}' % (b"[" * 90_000, b"]" * 90_000), None),
        (b'{"pad":"%b","input":%b1%b}' % (b"x" * 200_000, b"[" * 101, b"]" * 101), "100 levels"),
        (body(assistant_id=3), "assistant_id must be a string, not 3."),
        (body(command={"update": "x" * 100_000}), "command.update must be an object"),
        (b'["%b"]' % (b"x" * 200_000), "The request body must be an object"),
        (b"1" * 9_000_000, "longer than"),
    ],
    # Short names: pytest puts them into the environment of the child, which has a limit.
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_with_a_large_body_is_said_as_of_a_small_one(client, content, detail):
    answer = await post(client, RUNS, content)
    assert answer.status_code == (413 if detail == "longer than" else 422)
    assert (detail or "") in answer.json()["detail"]


async def test_all_bodies_together_have_a_bound_and_room_comes_back(client, runtime):
    """The first one is admitted so slowly that the second one finds its bytes still there."""
    admitting, admitted, create = asyncio.Event(), asyncio.Event(), runtime.create

    async def slowly(request):
        admitting.set()
        await admitted.wait()
        return await create(request)

    runtime.create = slowly
    huge = body(context={"pad": "x" * 5_500_000})
    first = asyncio.create_task(post(client, RUNS, huge))
    await asyncio.wait_for(admitting.wait(), BOUND_S)
    refused = await post(client, RUNS, huge)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "bodies_max_bytes" in refused.json()["detail"]
    small = asyncio.create_task(post(client, RUNS, body()))
    admitted.set()
    assert (await first).status_code == (await small).status_code == 200
    assert (await post(client, RUNS, huge)).status_code == 200


async def test_a_client_that_breaks_off_gives_its_bytes_back(app, client):
    async def broken():
        yield body()[:150_000]
        raise ConnectionError("gone")

    await client.post(RUNS, content=broken())
    inner = app.middleware_stack
    while not isinstance(inner, bodies.CountedBodies):
        inner = getattr(inner, "app", None) or inner._app
    assert inner.size_bytes == 0
