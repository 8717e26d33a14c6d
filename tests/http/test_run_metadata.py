"""What a request says of metadata, and that nobody forges what the server says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from greenroom.core.identity import system_assistant_id
from tests.http.edge_doubles import THREAD, MemoryRecords
from tests.http.forging import FORGED

COUNTER = system_assistant_id("counter")
RUNS = f"/threads/{THREAD}/runs"


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


async def test_metadata_of_the_run_lie_over_the_configs_and_those_over_the_assistants(
    client, records, runtime
):
    records.assistants[COUNTER] |= {
        "metadata": {"a": "assistant", "b": "assistant", "c": "assistant", "d": "assistant"},
        "config": {"metadata": {"b": "its config", "c": "its config", "d": "its config"}},
    }
    config = {"metadata": {"c": "config", "d": "config"}, "tags": ["t"], "configurable": {"x": 1}}
    body = {"assistant_id": "counter", "input": "é", "metadata": {"d": "run"}, "config": config}
    shown = (await client.post(RUNS, json=body)).json()
    told = {"a": "assistant", "b": "its config", "c": "config", "d": "run"}
    assert shown["metadata"].items() >= told.items()
    assert shown["kwargs"]["config"]["metadata"] == shown["metadata"]
    (request,) = runtime.requests
    assert orjson.loads(request.defaults).items() >= {"a": "assistant", "b": "its config"}.items()
    ids = {"graph_id": "counter", "assistant_id": COUNTER}
    assert orjson.loads(request.metadata) == {"c": "config", "d": "run", **ids}
    assert orjson.loads(request.thread_config) == {
        "metadata": config["metadata"],
        "tags": ["t"],
        "configurable": {},
    }
    begin, end = request.metadata_at
    assert orjson.loads(request.kwargs[begin:end]) == shown["metadata"]
    assert orjson.loads(request.kwargs_with(b'{"x":1}'))["config"]["metadata"] == {"x": 1}


@pytest.mark.parametrize("where", ["metadata", "config", "assistant"])
async def test_metadata_name_neither_another_thread_nor_another_run(client, records, where):
    forged = {"thread_id": "f", "run_id": "f", "graph_id": "f", "assistant_id": "f", "mine": 1}
    body: dict[str, Any] = {"assistant_id": "counter"}
    if where == "metadata":
        body["metadata"] = forged
    elif where == "config":
        body["config"] = {"metadata": forged}
    else:
        records.assistants[COUNTER] |= {"metadata": forged}
    shown = (await client.post(RUNS, json=body)).json()
    told = {k: shown["metadata"].get(k) for k in forged}
    assert told == {
        "thread_id": None,
        "run_id": None,
        "graph_id": "counter",
        "assistant_id": COUNTER,
        "mine": 1,
    }


@pytest.mark.parametrize("path", [RUNS, "/runs"])
@pytest.mark.parametrize("where", ["configurable", "context", "assistant"])
async def test_the_servers_keys_are_its_own_and_are_in_no_context(client, records, path, where):
    given = {**FORGED, "mine": 1}
    body: dict[str, Any] = {"assistant_id": "counter"}
    if where == "configurable":
        body["config"] = {"configurable": given}
    elif where == "context":
        body["context"] = given
    else:
        records.assistants[COUNTER] |= {"config": {"configurable": given}, "context": given}
    kwargs = (await client.post(path, json=body)).json()["kwargs"]
    assert kwargs["context"] == {"mine": 1}
    configurable = kwargs["config"]["configurable"]
    assert configurable["mine"] == 1
    assert configurable["langgraph_auth_user"] is None
    assert configurable["langgraph_auth_user_id"] == ""
    assert configurable["langgraph_auth_permissions"] == []
    assert configurable["langgraph_request_id"] != "mine"
    assert configurable["__request_start_time_ms__"] > 1
    assert not {"langgraph_anything", "__pregel_task_id"} & set(configurable)
