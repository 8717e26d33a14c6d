"""The unmodified Python SDK against the edge, over a real socket."""

from __future__ import annotations

import asyncio

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.errors import ConflictError, NotFoundError, UnprocessableEntityError

from tests.http.edge_doubles import THREAD, UNKNOWN


@pytest.fixture
async def sdk(url):
    async with get_client(url=url) as client:
        yield client


@pytest.fixture(autouse=True)
def thread(records):
    records.add_thread(graph_id="counter")


def finishing(runtime, output, *, events=()):
    """Lets every run that is created emit these events and end."""
    create = runtime.create

    async def finished(request):
        created = await create(request)
        for name, data in events:
            runtime.emit(request.run_id, name, data)
        runtime.finish(request.run_id, output)
        return created

    runtime.create = finished


async def test_a_stream_tells_its_run_before_its_events(sdk, runtime):
    finishing(runtime, None, events=[("values", {"count": 1}), ("messages", [{}, {}])])
    made = []
    parts = [
        part
        async for part in sdk.runs.stream(
            THREAD,
            "counter",
            input={"count": 0},
            stream_mode=["values", "messages-tuple"],
            stream_resumable=False,
            on_run_created=made.append,
        )
    ]
    assert [part.event for part in parts] == ["metadata", "values", "messages"]
    assert made == [{"run_id": runtime.requests[0].run_id, "thread_id": THREAD}]


async def test_waiting_joining_and_listing(sdk, runtime):
    finishing(runtime, {"count": 4})
    assert await sdk.runs.wait(THREAD, "counter", input={}) == {"count": 4}
    assert await sdk.runs.wait(None, "counter", input={}) == {"count": 4}
    run_id = runtime.requests[0].run_id
    assert await sdk.runs.join(THREAD, run_id) == {"count": 4}
    assert [run["run_id"] for run in await sdk.runs.list(THREAD)] == [run_id]
    assert (await sdk.runs.get(THREAD, run_id))["status"] == "success"


async def test_a_failed_wait_raises_in_the_client(sdk, runtime):
    finishing(runtime, {"__error__": {"error": "ValueError", "message": "boom"}})
    with pytest.raises(Exception, match="ValueError: boom"):
        await sdk.runs.wait(THREAD, "counter", input={})


async def test_a_resumable_run_is_joined_from_the_start(sdk, runtime):
    finishing(runtime, None, events=[("values", 1), ("updates", 2)])
    run = await sdk.runs.create(THREAD, "counter", stream_resumable=True)
    stream = sdk.runs.join_stream(THREAD, run["run_id"], last_event_id="-1", stream_mode=["values"])
    assert [(part.event, part.data) async for part in stream] == [("values", 1)]


async def test_a_broken_stream_is_taken_up_where_it_broke(app, sdk, runtime):
    """The server drains in mid-stream; the client follows Location with the last id."""
    stream = sdk.runs.stream(THREAD, "counter", stream_resumable=True, stream_mode="values")
    first = await anext(stream)
    assert first.event == "metadata"
    run_id = runtime.requests[0].run_id
    app.state.edge.connections.drain()
    await asyncio.wait_for(app.state.edge.connections.until_idle(), 5)
    app.state.edge.connections.draining = False
    runtime.emit(run_id, "values", {"n": 1})
    runtime.finish(run_id)
    rest = [part async for part in stream]
    assert [(part.event, part.data) for part in rest] == [("values", {"n": 1})]
    assert runtime.follows[-1]["after"] == 1 << 32


async def test_threads_state_and_assistants(sdk, runtime):
    made = await sdk.threads.create(metadata={"a": 1}, ttl=5, if_exists="do_nothing")
    assert (await sdk.threads.get(made["thread_id"]))["metadata"] == {"a": 1}
    assert len(await sdk.threads.search(metadata={}, select=["thread_id"], limit=5)) == 2
    assert await sdk.threads.count() == 2
    assert (await sdk.threads.update(THREAD, metadata={"b": 1}))["metadata"]["b"] == 1
    assert (await sdk.threads.get_state(THREAD))["values"] == {"count": 1}
    assert await sdk.threads.update_state(THREAD, {"count": 2}) == {"checkpoint_id": "c1"}
    runtime.answer = b"[]"
    assert await sdk.threads.get_history(THREAD, before={"checkpoint_id": UNKNOWN}) == []
    (counter, _) = await sdk.assistants.search()
    await sdk.assistants.get_graph(counter["assistant_id"], xray=True)
    await sdk.threads.copy(THREAD)
    await sdk.threads.delete(THREAD)


async def test_cancelling(sdk, runtime):
    run = await sdk.runs.create(THREAD, "counter")
    assert await sdk.runs.cancel(THREAD, run["run_id"], wait=True, action="interrupt") == {}
    with pytest.raises(NotFoundError):
        await sdk.runs.cancel(THREAD, run["run_id"])
    await sdk.runs.delete(THREAD, run["run_id"])


async def test_a_batch(sdk, runtime):
    made = await sdk.runs.create_batch([{"assistant_id": "counter", "input": {}}] * 2)
    assert [run["status"] for run in made] == ["pending"] * 2


async def test_errors_become_the_sdks_classes(sdk):
    with pytest.raises(UnprocessableEntityError, match="Invalid assistant: 'nope'"):
        await sdk.runs.create(THREAD, "nope")
    with pytest.raises(NotFoundError, match="not found"):
        await sdk.threads.get(UNKNOWN)
    with pytest.raises(ConflictError, match="already exists"):
        await sdk.threads.create(thread_id=THREAD)
