"""What leaves a run over a real server: its output, and metadata from everywhere."""

from __future__ import annotations

import uuid

import httpx
import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk.client import LangGraphClient

from tests.receiving import receiving

INPUT = {"a": 1, "secret": "forged"}
OUTPUT = {"a": 1, "b": None}
WHOLE = {"a": 1, "secret": "s2", "seen": ["a"], "b": None}


async def test_only_the_output_leaves_a_run_and_the_thread_keeps_the_state(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    async with receiving() as receiver:
        run = await client.runs.create(thread_id, "cut", input=INPUT, webhook=receiver.url)
        assert await client.runs.join(thread_id, run["run_id"]) == OUTPUT
        assert (await receiver.next()).body["values"] == OUTPUT
    assert (await client.threads.get(thread_id))["values"] == WHOLE
    assert (await client.threads.get_state(thread_id))["values"] == WHOLE
    assert await client.runs.join(thread_id, run["run_id"]) == OUTPUT
    assert await client.runs.wait(None, "cut", input=INPUT) == OUTPUT
    assert await RemoteGraph("cut", client=client).ainvoke(INPUT) == OUTPUT
    told = await http.post("/runs/stream", json={"assistant_id": "cut", "input": INPUT})
    assert '"b":null' in told.text
    assert "secret" not in told.text


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_a_failed_run_shows_no_more_than_its_output(
    http: httpx.AsyncClient, mount: str
) -> None:
    failing = {"assistant_id": "cut", "input": INPUT | {"ask": "fail"}, "if_not_exists": "create"}
    thread_id = str(uuid.uuid4())
    waited = await http.post(f"{mount}/threads/{thread_id}/runs/wait", json=failing)
    stateless = await http.post(f"{mount}/runs/wait", json=failing)
    [run] = (await http.get(f"{mount}/threads/{thread_id}/runs")).json()
    path = f"{mount}/threads/{thread_id}/runs/{run['run_id']}/join"
    joined = await http.get(path, headers={"accept": "application/json"})
    for answer in (waited, stateless, joined):
        assert answer.json().keys() == {"__error__"} | ({"a"} if mount else set())
    state = await http.get(f"{mount}/threads/{thread_id}/state")
    assert state.json()["values"]["secret"] == "s"


async def test_metadata_of_a_run_come_from_its_thread_its_config_and_itself(
    client: LangGraphClient,
) -> None:
    thread = await client.threads.create(metadata={"team": "blue", "k": "thread"})
    thread_id = thread["thread_id"]
    given = {
        "metadata": {"r": 1, "k": "run"},
        "config": {"metadata": {"m": 1, "k": "config"}, "tags": ["tg"]},
    }
    run = await client.runs.create(thread_id, "counter", input={"count": 0}, **given)  # type: ignore[arg-type]
    await client.runs.join(thread_id, run["run_id"])
    told = {"team": "blue", "r": 1, "m": 1, "k": "run"}.items()
    stored = await client.runs.get(thread_id, run["run_id"])
    assert run["metadata"] == stored["metadata"]
    assert run["metadata"].items() >= told  # type: ignore[union-attr]
    assert run["kwargs"] == stored["kwargs"]  # type: ignore[typeddict-item]
    assert stored["kwargs"]["config"]["metadata"] == stored["metadata"]  # type: ignore[typeddict-item]
    state = await client.threads.get_state(thread_id)
    assert state["metadata"].items() >= (told | {("thread_id", thread_id)})  # type: ignore[union-attr]
    found = await client.threads.get_history(thread_id, metadata={"team": "blue"})
    assert len(found) == 5
    config = (await client.threads.get(thread_id))["config"]  # type: ignore[typeddict-item]
    assert config == {"metadata": {"m": 1, "k": "config"}, "tags": ["tg"], "configurable": {}}
    copy = await client.threads.copy(thread_id)
    copied = (await client.threads.get_state(copy["thread_id"]))["metadata"]  # type: ignore[index]
    assert copied["thread_id"] == copy["thread_id"]  # type: ignore[index]


async def test_values_that_json_does_not_know_are_the_same_in_the_next_run(
    client: LangGraphClient,
) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    shown = {
        "mean": 1.5,
        "part": "1/3",
        "frame": {"a": {"0": 1, "1": 2}},
        "why": {"error": "ValueError", "message": "x"},
    }
    made = await client.runs.wait(thread_id, "odd_values", input={"kind": "make"})
    assert made == {"kind": "make", "value": shown}
    read = await client.runs.wait(thread_id, "odd_values", input={"kind": "read"})
    types = ["float64", "Fraction", "DataFrame", "ValueError"]
    assert read["found"] == {"types": types, "equal": True}  # type: ignore[call-overload]
    state = await client.threads.get_state(thread_id)
    assert state["values"]["value"] == shown  # type: ignore[call-overload]


async def test_a_value_that_cannot_be_kept_is_named(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    told = r"NotKept: The value of 'value' has a _thread.lock at \['client'\]"
    with pytest.raises(Exception, match=told):
        await client.runs.wait(thread_id, "odd_values", input={"kind": "lock"})
    state = await client.threads.get_state(thread_id)
    assert state["values"] == {"kind": "lock"}
