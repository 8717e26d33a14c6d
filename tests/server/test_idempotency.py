"""An Idempotency-Key on a real server: two gateways, a registry, runs that end and are deleted."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

BODY: dict[str, Any] = {"assistant_id": "counter", "input": {"count": 0}}


def keyed(key: str) -> dict[str, str]:
    # A connection of its own: each request may meet another gateway.
    return {"idempotency-key": key, "connection": "close"}


@pytest.mark.parametrize("path", ["runs", "runs/wait", "runs/stream"])
async def test_twenty_at_once_make_one_run(http: httpx.AsyncClient, path: str) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    headers = keyed(str(uuid.uuid4()))
    url = f"/threads/{thread_id}/{path}"
    answers = await asyncio.gather(*(http.post(url, json=BODY, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["content-location"] for answer in answers}) == 1
    (run,) = (await http.get(f"/threads/{thread_id}/runs")).json()
    if path == "runs/wait":
        assert len({answer.text for answer in answers}) == 1
    later = await http.post(url, json=BODY, headers=headers)
    assert later.headers["content-location"].endswith(run["run_id"])
    assert len((await http.get(f"/threads/{thread_id}/runs")).json()) == 1
    await http.delete(f"/threads/{thread_id}")
    gone = await http.post(url, json=BODY, headers=headers)
    assert gone.status_code == 409, gone.text


async def test_everything_else_that_is_created_is_created_once(http: httpx.AsyncClient) -> None:
    made: list[str] = []
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    never = {"assistant_id": "counter", "schedule": "0 0 1 1 *", "enabled": False}
    for path, body, name in (
        ("/threads", {"metadata": {"graph_id": "counter"}, "supersteps": _STEPS}, "thread_id"),
        (f"/threads/{thread_id}/copy", None, "thread_id"),
        ("/runs/crons", never, "cron_id"),
        (f"/threads/{thread_id}/runs/crons", never, "cron_id"),
        ("/assistants", {"graph_id": "counter"}, "assistant_id"),
    ):
        headers = keyed(str(uuid.uuid4()))
        answers = await asyncio.gather(
            *(http.post(path, json=body, headers=headers) for _ in range(5))
        )
        assert {answer.status_code for answer in answers} == {200}, (path, answers[0].text)
        (its_id,) = {answer.json()[name] for answer in answers}
        made.append(its_id)
    assert len((await http.post(f"/threads/{made[0]}/history", json={"limit": 10})).json()) == 1
    for its_id in (thread_id, *made[:2]):
        await http.delete(f"/threads/{its_id}")
    await http.delete(f"/runs/crons/{made[2]}")
    await http.delete(f"/assistants/{made[4]}")


_STEPS = [{"updates": [{"values": {"count": 5}, "as_node": "__start__"}]}]
