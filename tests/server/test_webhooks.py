"""Webhooks of a real server, received by a real one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.receiving import Receiver, receiving
from tests.server.starting import start, until_running
from tests.serving import free_port, serving
from tests.waiting import until

SLOW = {"steps": 200, "delay": 0.05}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def thread(http: httpx.AsyncClient) -> str:
    """The path of a new thread."""
    return f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"


async def test_the_receiver_gets_the_run_as_it_ended(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    run = await start(
        http,
        thread,
        "counter",
        input={"count": 0},
        webhook=receiver.url,
        metadata={"m": 1},
    )
    delivery = await receiver.next()
    assert (delivery.method, delivery.headers["content-type"]) == ("POST", "application/json")
    body = delivery.body
    stored = (await http.get(run)).json()
    assert {key: body[key] for key in stored} == stored
    assert body["status"] == "success"
    assert body["kwargs"]["webhook"] == receiver.url
    assert body["values"] == {"count": 3, "log": ["one", "two", "three"]}
    assert "error" not in body
    times = ["created_at", "run_started_at", "run_ended_at", "webhook_sent_at"]
    moments = [datetime.fromisoformat(body[name]) for name in times]
    assert moments == sorted(moments)


async def test_a_failed_run_says_what_failed(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    await start(http, thread, "fails", input={"x": 0}, webhook=receiver.url)
    body = (await receiver.next()).body
    assert (body["status"], body["values"]) == ("error", {"x": 1})
    assert body["error"] == {"error": "ValueError", "message": "boom: x=1"}


async def test_a_run_that_stops_at_an_interrupt_is_a_success(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    await start(http, thread, "approval", input={"question": "w"}, webhook=receiver.url)
    body = (await receiver.next()).body
    assert (body["status"], body["values"]) == ("success", {"question": "w"})


async def test_a_cancelled_run_says_by_whom(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    run = await start(http, thread, "slow", input=SLOW, webhook=receiver.url)
    await until_running(http, run)
    await http.post(f"{run}/cancel?wait=1")
    body = (await receiver.next()).body
    assert body["status"] == "interrupted"
    assert body["values"]["steps"] == SLOW["steps"]
    assert body["error"] == {
        "error": "UserInterrupt",
        "message": "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel",
    }


async def test_a_run_that_is_rolled_back_is_told_though_it_is_gone(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    run = await start(http, thread, "slow", input=SLOW, webhook=receiver.url)
    await until_running(http, run)
    await http.post(f"{run}/cancel?wait=1&action=rollback")
    body = (await receiver.next()).body
    assert run.endswith(body["run_id"])
    assert (body["status"], body["values"]) == ("interrupted", None)
    assert body["error"]["error"] == "UserRollback"
    assert (await http.get(run)).status_code == 404


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_every_run_that_another_one_displaces_is_told(
    http: httpx.AsyncClient, thread: str, receiver: Receiver, strategy: str
) -> None:
    running = await start(http, thread, "slow", input=SLOW, webhook=receiver.url)
    await until_running(http, running)
    waiting = await start(http, thread, "slow", input=SLOW, webhook=receiver.url)
    last = await start(
        http,
        thread,
        "counter",
        input={"count": 0},
        webhook=receiver.url,
        multitask_strategy=strategy,
    )
    bodies = [(await receiver.next()).body for _ in range(3)]
    told = {f"{thread}/runs/{body['run_id']}": body for body in bodies}
    assert set(told) == {running, waiting, last}
    assert told[last]["status"] == "success"
    for run in (running, waiting):
        assert told[run]["status"] == "interrupted"
        assert told[run]["error"]["error"] == f"User{strategy.capitalize()}"
    assert told[waiting]["run_started_at"] is None


async def test_a_stateless_run_tells_no_values(http: httpx.AsyncClient, receiver: Receiver) -> None:
    body = {"assistant_id": "counter", "input": {"count": 0}, "webhook": receiver.url}
    assert (await http.post("/runs/wait", json=body)).json()["count"] == 3
    told = (await receiver.next()).body
    assert (told["status"], told["values"], told["kwargs"]["temporary"]) == ("success", None, True)


@pytest.mark.parametrize("mount", ["", "/api"])
async def test_what_was_sent_is_listed_and_sent_again(
    http: httpx.AsyncClient, thread: str, receiver: Receiver, mount: str
) -> None:
    receiver.statuses.append(410)
    await start(http, thread, "counter", input={"count": 0}, webhook=receiver.url)
    first = await receiver.next()
    run_id = first.body["run_id"]
    path = f"{mount}/webhooks/deliveries"

    async def has(status: str) -> bool:
        return (await http.get(f"{path}/{run_id}")).json()["status"] == status

    await until(lambda: has("failed"))
    query = {"thread_id": first.body["thread_id"], "status": "failed"}
    (listed,) = (await http.get(path, params=query)).json()
    assert (listed["delivery_id"], listed["answer"], listed["attempts"]) == (run_id, "410", 1)
    assert listed["receiver"] == f"127.0.0.1:{receiver.port}"
    assert (await http.post(f"{path}/{run_id}/send")).status_code == 200
    again = await receiver.next()
    assert (again.raw, again.headers["webhook-id"]) == (first.raw, run_id)
    await until(lambda: has("delivered"))
    assert (await http.get(path, params=query)).json() == []


async def test_a_receiver_that_does_not_answer_delays_no_end(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    receiver.gate.clear()
    body = {"assistant_id": "counter", "input": {"count": 0}, "webhook": receiver.url}
    for _ in range(3):
        async with asyncio.timeout(60):
            await http.post(f"{thread}/runs/wait", json=body)
        assert (await http.get(thread)).json()["status"] == "idle"
    receiver.gate.set()


async def test_a_receiver_in_trouble_gets_the_same_letter_again(
    http: httpx.AsyncClient, thread: str, receiver: Receiver
) -> None:
    receiver.statuses.extend([500, 503])
    await start(http, thread, "trivial", input={"x": 0}, webhook=receiver.url)
    bodies = [(await receiver.next()).body for _ in range(3)]
    assert bodies[0] == bodies[1] == bodies[2]


@pytest.mark.slow
async def test_a_letter_survives_the_death_of_the_server(tmp_path: Path) -> None:
    """The receiver is down, then the whole server is killed; a new one delivers."""
    port = free_port()
    environment = {"GREENROOM_WEBHOOK_ALLOW_PRIVATE": "true", "GREENROOM_WEBHOOK_RETRY_S": "0.5"}
    body = {
        "assistant_id": "counter",
        "input": {"count": 0},
        "webhook": f"http://127.0.0.1:{port}/hook",
    }
    with serving(tmp_path, environment=environment) as served:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            assert (await http.post("/runs/wait", json=body)).status_code == 200
        served.stop(signal.SIGKILL)
    async with receiving(port=port) as receiver:
        with serving(tmp_path, environment=environment):
            # It may come while the server is still starting: the loop is free again afterwards.
            delivery = await receiver.next()
        assert (delivery.path, delivery.body["status"]) == ("/hook", "success")
