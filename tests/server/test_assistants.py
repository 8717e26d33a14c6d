"""Assistants on a real server, with the SDK: several gateways, a registry, and runs that stop."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

STEPS = {"steps": 400, "delay": 0.05}


async def test_an_assistant_from_its_making_to_its_end(client: LangGraphClient) -> None:
    assistants = client.assistants
    made = await assistants.create(
        "ctx", context={"user": "eve"}, name="Eve's", description="d", metadata={"for": "sdk"}
    )
    its_id = made["assistant_id"]
    try:
        with pytest.raises(ConflictError):
            await assistants.create("ctx", assistant_id=its_id)
        again = await assistants.create("ctx", assistant_id=its_id, if_exists="do_nothing")
        assert again == made
        assert (await client.runs.wait(None, its_id, input={}))["ctx"] == {"user": "eve"}
        changed = await assistants.update(its_id, context={"user": "ann"}, metadata={"more": 1})
        assert (changed["version"], changed["metadata"]) == (2, {"for": "sdk", "more": 1})
        assert (await client.runs.wait(None, its_id, input={}))["ctx"] == {"user": "ann"}
        versions = await assistants.get_versions(its_id)
        assert [each["version"] for each in versions] == [2, 1]
        assert (await assistants.set_latest(its_id, 1))["context"] == {"user": "eve"}
        assert (await client.runs.wait(None, its_id, input={}))["ctx"] == {"user": "eve"}
        assert await assistants.count(metadata={"for": "sdk"}) == 1
        found = await assistants.search(metadata={"for": "sdk"}, select=["name"])
        assert [dict(each) for each in found] == [{"name": "Eve's"}]
        assert (await assistants.get_schemas(its_id))["graph_id"] == "ctx"
    finally:
        await assistants.delete(its_id)
    with pytest.raises(NotFoundError):
        await assistants.get(its_id)


async def test_no_gateway_uses_what_an_assistant_was(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """Every request may meet another gateway, which may have kept an older version."""
    made = await client.assistants.create("ctx", context={"n": 0})
    its_id = made["assistant_id"]
    body = {"assistant_id": its_id, "input": {}}
    headers = {"connection": "close"}
    try:
        for number in range(1, 8):
            change = {"context": {"n": number}}
            await http.patch(f"/assistants/{its_id}", json=change, headers=headers)
            answers = await asyncio.gather(
                *(http.post("/runs", json=body, headers=headers) for _ in range(6))
            )
            runs = [answer.json() for answer in answers]
            assert [run["kwargs"]["context"] for run in runs] == [{"n": number}] * 6
            assert {run["assistant_version"] for run in runs} == {number + 1}
    finally:
        await client.assistants.delete(its_id)


@pytest.mark.parametrize("delete_threads", [False, True])
async def test_a_deletion_stops_what_runs_waits_and_is_delayed(
    client: LangGraphClient, http: httpx.AsyncClient, delete_threads: bool
) -> None:
    made = await client.assistants.create("slow")
    its_id = made["assistant_id"]
    thread_id = (await client.threads.create())["thread_id"]
    runs = [
        await client.runs.create(thread_id, its_id, input=STEPS, **more)
        for more in ({}, {"multitask_strategy": "enqueue"}, {"after_seconds": 600})
    ]
    async for part in client.runs.join_stream(thread_id, runs[0]["run_id"]):
        if part.event == "values":
            break
    await client.assistants.delete(its_id, delete_threads=delete_threads)
    if delete_threads:
        assert (await http.get(f"/threads/{thread_id}")).status_code == 404
        return
    for run in runs:
        await client.runs.join(thread_id, run["run_id"])
        assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
    body = {"assistant_id": its_id, "input": {}}
    assert (await http.post(f"/threads/{thread_id}/runs", json=body)).status_code == 404
    # The thread is there for others.
    output = await client.runs.wait(thread_id, "slow", input={"steps": 1, "delay": 0})
    assert output["steps"] == 1


async def test_under_api_a_graphs_name_names_its_assistant(http: httpx.AsyncClient) -> None:
    shown = (await http.get("/api/assistants/trivial")).json()
    versions = (await http.post("/api/assistants/trivial/versions", json={})).json()
    assert versions[0]["version"] == shown["version"]
    path = "/api/assistants/trivial/latest"
    again = (await http.post(path, json={"version": shown["version"]})).json()
    assert {**again, "updated_at": None} == {**shown, "updated_at": None}
