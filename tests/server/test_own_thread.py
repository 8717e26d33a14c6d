"""Whatever keys a request has, another thread's record, state, question and events stay.

`tests/persistence/test_own_thread.py` draws many more requests, without a server.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

MINE = {"question": "mine"}


async def a_victim(http: httpx.AsyncClient) -> tuple[str, str]:
    """A thread with a question that waits; returns its id and its newest checkpoint's."""
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    stopped = await http.post(
        f"/threads/{thread_id}/runs/wait",
        json={"assistant_id": "approval", "input": {"question": "the secret"}},
    )
    assert "__interrupt__" in stopped.json()
    state = (await http.get(f"/threads/{thread_id}/state")).json()
    return thread_id, state["checkpoint"]["checkpoint_id"]


async def seen_of(http: httpx.AsyncClient, thread_id: str) -> list[Any]:
    paths = ("", "/state", "/history?limit=100", "/runs")
    return [(await http.get(f"/threads/{thread_id}{path}")).json() for path in paths]


@pytest.mark.parametrize(
    ("place", "status"),
    [
        ({"config": {"thread_id": "V"}}, 422),
        ({"config": {"checkpoint_id": "C", "thread_id": "V"}}, 422),
        ({"config": {"__pregel_checkpointer": None, "__x": 1}}, 422),
        ({"config": {"langgraph_auth_user": {"identity": "a"}, "user_id": "admin"}}, 422),
        ({"config": {"configurable": {"thread_id": "V", "run_id": "V"}}}, 200),
        ({"config": {"configurable": {"__pregel_checkpointer": None}}}, 200),
        ({"config": {"run_id": "V", "callbacks": ["V"], "unknown": 1}}, 200),
        ({"config": {"metadata": {"thread_id": "V"}}, "metadata": {"thread_id": "V"}}, 200),
        ({"context": {"thread_id": "V", "checkpoint_ns": ""}}, 200),
        ({"checkpoint": {"thread_id": "V"}, "thread_id": "V"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("resume", [False, True], ids=["input", "resume"])
async def test_a_request_reaches_its_own_thread(
    http: httpx.AsyncClient, place: dict[str, Any], status: int, resume: bool
) -> None:
    victim, checkpoint = await a_victim(http)
    before = await seen_of(http, victim)
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return {"V": victim, "C": checkpoint}.get(value, value) if isinstance(value, str) else value

    what = {"command": {"resume": "yes"}} if resume else {"input": MINE}
    body = {"assistant_id": "approval", **what, **filled(place)}
    answered = await http.post(f"/threads/{thread_id}/runs/stream", json=body)
    assert answered.status_code == status
    assert "the secret" not in answered.text
    if status == 422:
        assert "'config'" in answered.json()["detail"]
    elif not resume:
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        assert state["values"] == MINE
        assert state["checkpoint"]["thread_id"] == thread_id
        assert (await http.get(f"/threads/{thread_id}")).json()["status"] == "interrupted"
    assert await seen_of(http, victim) == before


async def test_a_state_update_reaches_its_own_thread(http: httpx.AsyncClient) -> None:
    victim, checkpoint = await a_victim(http)
    before = await seen_of(http, victim)
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    await http.post(
        f"/threads/{thread_id}/runs/wait", json={"assistant_id": "approval", "input": MINE}
    )
    there = {"thread_id": victim, "checkpoint_ns": "", "checkpoint_map": {"": checkpoint}}
    updated = await http.post(
        f"/threads/{thread_id}/state",
        json={"values": {"question": "x"}, "checkpoint": there, "config": {"thread_id": victim}},
    )
    assert updated.json()["checkpoint"]["thread_id"] == thread_id
    for where in ({"checkpoint": there}, {"checkpoint": {**there, "checkpoint_id": checkpoint}}):
        read = await http.post(f"/threads/{thread_id}/state/checkpoint", json=where)
        assert "the secret" not in read.text
        past = await http.post(f"/threads/{thread_id}/history", json={**where, "limit": 10})
        assert "the secret" not in past.text
    assert await seen_of(http, victim) == before
