"""Speaking to a run: what is refused, what is passed on, and what its client is answered."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from greenroom.core.errors import InvalidRequest
from tests.http.edge_doubles import NOW, RUN, THREAD, UNKNOWN, MemoryRecords, MemoryRuntime

RUNS = f"/threads/{THREAD}/runs"
MOUNTS = ("", "/api")


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


async def a_run(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post(RUNS, json={"assistant_id": "counter", "input": {"x": 1}, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["run_id"]


def said_to(runtime: MemoryRuntime, run_id: str) -> list[Any]:
    return [new for _, new in runtime.records.inputs.get(run_id, {}).values()]


@pytest.mark.parametrize("mount", MOUNTS)
async def test_what_is_said_has_an_id_and_a_number(client, runtime, mount):
    run_id = await a_run(client)
    path = f"{mount}{RUNS}/{run_id}/input"
    answer = await client.post(path, json={"input": {"x": 2}})
    assert answer.status_code == 202
    (new,) = said_to(runtime, run_id)
    assert answer.json() == {
        "input_id": new.input_id,
        "run_id": run_id,
        "number": 1,
        "status": "waiting",
        "for_run_id": run_id,
        "said_at": NOW,
    }
    assert (new.thread_id, new.as_node, new.if_over) == (THREAD, None, "reject")
    assert orjson.loads(new.content) == {"input": {"x": 2}, "command": None}
    second = await client.post(path, json={"input": {"x": 3}, "as_node": "n", "if_over": "drop"})
    assert second.json()["number"] == 2
    assert said_to(runtime, run_id)[1].as_node == "n"
    listed = await client.get(path)
    assert [each["number"] for each in listed.json()] == [1, 2]


async def test_the_graph_is_asked_whether_its_state_can_take_it(client, runtime):
    run_id = await a_run(client)
    await client.post(f"{RUNS}/{run_id}/input", json={"command": {"goto": "n"}})
    question = runtime.questions[-1]
    assert question.graph_id == "counter"
    assert orjson.loads(question.said) == {"input": None, "command": {"goto": "n"}}
    runtime.refused_input = InvalidRequest("The state of graph 'counter' has no key 'y'.")
    refused = await client.post(f"{RUNS}/{run_id}/input", json={"input": {"y": 1}})
    assert (refused.status_code, refused.json()["detail"]) == (
        422,
        "The state of graph 'counter' has no key 'y'.",
    )
    assert len(said_to(runtime, run_id)) == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "Say something"),
        ({"input": None}, "Say something"),
        ({"command": {}}, "Say something"),
        ({"command": {"resume": "yes"}}, "command.resume"),
        ({"input": {"x": 1}, "command": {"goto": "n"}}, "one of them"),
        ({"as_node": "n", "command": {"update": {}}}, "one of them"),
        ({"input": {"x": 1}, "if_over": "wait"}, "if_over"),
        ({"input": {"x": 1}, "as_node": 5}, "as_node"),
    ],
)
async def test_what_cannot_be_meant_is_refused(client, body, sentence):
    run_id = await a_run(client)
    answer = await client.post(f"{RUNS}/{run_id}/input", json=body)
    assert answer.status_code == 422
    assert sentence in str(answer.json())


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_run_that_is_not_there_hears_nothing(client, method):
    run_id = await a_run(client)
    body = {"input": {"x": 1}} if method == "POST" else None
    for path in (f"{RUNS}/{RUN}/input", f"/threads/{UNKNOWN}/runs/{run_id}/input"):
        answer = await client.request(method, path, json=body)
        assert answer.status_code == 404
    answer = await client.request(method, f"{RUNS}/no-uuid/input", json=body)
    assert answer.status_code == 422
    # A stateless run has no path of its own to be spoken to.
    assert (await client.request(method, f"/runs/{run_id}/input", json=body)).status_code == 404


async def test_a_run_that_is_over_refuses(client, runtime):
    run_id = await a_run(client)
    runtime.finish(run_id)
    answer = await client.post(f"{RUNS}/{run_id}/input", json={"input": {"x": 1}})
    assert answer.status_code == 409
    assert "over" in answer.json()["detail"]


async def test_a_key_says_it_once(client, runtime):
    run_id = await a_run(client)
    answers = [
        await client.post(
            f"{RUNS}/{run_id}/input", json={"input": {"x": 1}}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert len(said_to(runtime, run_id)) == 1
    other = await client.post(
        f"{RUNS}/{run_id}/input", json={"input": {"x": 2}}, headers={"Idempotency-Key": "k"}
    )
    assert other.status_code == 422


# --- the strategy inject --------------------------------------------------------------------------


@pytest.mark.parametrize("mount", MOUNTS)
async def test_inject_is_an_ordinary_run_on_a_free_thread(client, runtime, mount):
    answer = await client.post(
        mount + RUNS,
        json={"assistant_id": "counter", "input": {"x": 1}, "multitask_strategy": "inject"},
    )
    assert answer.status_code == 200
    assert answer.json()["multitask_strategy"] == "inject"
    assert answer.json()["run_id"] == runtime.requests[-1].run_id
    assert "greenroom-input-id" not in answer.headers


async def test_inject_answers_with_the_run_that_it_was_said_to(client, runtime):
    run_id = await a_run(client)
    answer = await client.post(
        RUNS, json={"assistant_id": "counter", "input": {"x": 2}, "multitask_strategy": "inject"}
    )
    assert answer.status_code == 200
    assert answer.json()["run_id"] == run_id
    assert answer.headers["content-location"] == f"{RUNS}/{run_id}"
    (new,) = said_to(runtime, run_id)
    assert answer.headers["greenroom-input-id"] == new.input_id
    assert orjson.loads(new.content)["input"] == {"x": 2}
    assert len(runtime.requests) == 1


async def test_inject_waits_for_the_run_that_it_was_said_to(client, runtime):
    run_id = await a_run(client)
    asking = asyncio.create_task(
        client.post(
            f"{RUNS}/wait",
            json={"assistant_id": "counter", "input": {"x": 2}, "multitask_strategy": "inject"},
        )
    )
    await runtime.opened.wait()
    runtime.finish(run_id, {"x": 3})
    answer = await asking
    assert answer.json() == {"x": 3}
    assert answer.headers["location"] == f"{RUNS}/{run_id}/join"


async def test_inject_streams_the_run_that_it_was_said_to_from_now_on(client, runtime):
    run_id = await a_run(client)
    asking = asyncio.create_task(
        client.post(
            f"{RUNS}/stream",
            json={"assistant_id": "counter", "input": {"x": 2}, "multitask_strategy": "inject"},
        )
    )
    await runtime.opened.wait()
    assert runtime.follows[-1] == {"after": -1, "modes": None, "with_ids": False}
    runtime.emit(run_id, "values", {"x": 2})
    runtime.finish(run_id)
    answer = await asking
    assert "metadata" not in answer.text
    assert 'data: {"x":2}' in answer.text


@pytest.mark.parametrize(
    "field",
    [{"after_seconds": 1}, {"checkpoint_id": RUN}, {"checkpoint": {"checkpoint_id": RUN}}],
)
async def test_inject_refuses_what_only_a_new_run_could_have(client, field):
    answer = await client.post(
        RUNS,
        json={"assistant_id": "counter", "multitask_strategy": "inject", "input": {}, **field},
    )
    assert answer.status_code == 422
    assert "inject" in answer.json()["detail"]


async def test_inject_is_refused_if_the_state_cannot_take_it_and_a_run_is_active(client, runtime):
    body = {"assistant_id": "counter", "multitask_strategy": "inject", "input": {"y": 1}}
    runtime.refused_input = InvalidRequest("The state has no key 'y'.")
    first = await client.post(RUNS, json=body)
    assert first.status_code == 200
    second = await client.post(RUNS, json=body)
    assert (second.status_code, second.json()["detail"]) == (422, "The state has no key 'y'.")
    answer = {**body, "command": {"resume": "yes"}, "input": None}
    assert "resume" in (await client.post(RUNS, json=answer)).json()["detail"]


async def test_a_cron_speaks_to_nobody(client):
    answer = await client.post(
        f"{RUNS}/crons",
        json={"assistant_id": "counter", "schedule": "0 0 * * *", "multitask_strategy": "inject"},
    )
    assert answer.status_code == 422
    assert "inject" in answer.json()["detail"]
