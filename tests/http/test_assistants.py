"""The routes of assistants, and what a run takes from its assistant."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import httpx
import orjson
import pytest

from greenroom.core.errors import AssistantChanged
from greenroom.core.identity import system_assistant_id
from tests.http.edge_doubles import GRAPHS, THREAD, UNKNOWN, MemoryRecords, MemoryRuntime
from tests.http.forging import FORGED

COUNTER = system_assistant_id("counter")
RUNS = f"/threads/{THREAD}/runs"
RESERVED = {
    **FORGED,
    "thread_id": "another",
    "run_id": "another",
    "graph_id": "another",
    "assistant_id": "another",
    "checkpoint_id": "another",
    "checkpoint_ns": "another",
    "checkpoint_map": {"": "another"},
}
"""Keys of `configurable` and `context` that only the server sets for an assistant."""
MISPLACED = sorted(
    {"user_id", "thread_id", "graph_id", "assistant_id", "checkpoint_id", "checkpoint_ns"}
    | {"checkpoint_map", *(key for key in RESERVED if key.startswith(("__", "langgraph_")))}
)


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


@pytest.fixture(params=["", "/api"])
def prefix(request: pytest.FixtureRequest) -> str:
    return request.param


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    return answer.json()["detail"]


# --- create --------------------------------------------------------------------------------------


async def test_an_assistant_is_created_with_defaults(client, prefix):
    shown = (await client.post(f"{prefix}/assistants", json={"graph_id": "counter"})).json()
    uuid.UUID(shown.pop("assistant_id"))
    assert {k: v for k, v in shown.items() if not k.endswith("_at")} == {
        "graph_id": "counter",
        "name": "Untitled",
        "description": None,
        "config": {},
        "context": {},
        "metadata": {},
        "version": 1,
    }


@pytest.mark.parametrize(
    ("body", "config", "context"),
    [
        ({"config": {"configurable": {"a": 1}}}, {"configurable": {"a": 1}}, {"a": 1}),
        ({"context": {"a": 1}}, {"configurable": {"a": 1}}, {"a": 1}),
        (
            {"config": {"tags": ["t"], "configurable": {}}, "context": {"a": None}},
            {"tags": ["t"], "configurable": {"a": None}},
            {"a": None},
        ),
        ({"config": {"tags": ["t"], "run_name": None}}, {"tags": ["t"]}, {}),
        ({"config": {"configurable": RESERVED}}, {}, {}),
        ({"context": {**RESERVED, "user_id": "u"}}, {"configurable": {"user_id": "u"}}, None),
    ],
    ids=str,
)
async def test_config_and_context_are_two_names_for_the_same(client, body, config, context):
    answer = await client.post("/assistants", json={"graph_id": "counter", **body})
    shown = answer.json()
    assert shown["config"] == config
    assert shown["context"] == (config.get("configurable", {}) if context is None else context)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"graph_id": "nope"}, 404, "Graph 'nope' not found. Expected one of: ['approval', 'c"),
        ({"name": 5}, 422, "name"),
        ({"graph_id": ""}, 422, "graph_id"),
        ({"description": ["d"]}, 422, "description"),
        ({"context": "text"}, 422, "context"),
        ({"metadata": []}, 422, "metadata"),
        ({"config": {"recursion_limit": "x"}}, 422, "recursion_limit"),
        ({"config": {"recursion_limit": 0}}, 422, "recursion_limit"),
        ({"config": {"tags": "t"}}, 422, "tags"),
        ({"config": {"configurable": {"a": 1}}, "context": {"b": 1}}, 400, "Cannot specify both"),
        *(({"config": {key: "x"}}, 422, f"'{key}' beside 'configurable'") for key in MISPLACED),
    ],
    ids=str,
)
async def test_wrong_fields_are_refused(client, records, prefix, method, body, status, said):
    path = "/assistants" if method == "POST" else f"/assistants/{COUNTER}"
    before = dict(records.assistants)
    whole = {"graph_id": "counter", **body}
    assert said in refused(await client.request(method, f"{prefix}{path}", json=whole), status)
    assert records.assistants == before
    assert not [asked for asked in records.asked if asked[0] == "patch_assistant"]


@pytest.mark.parametrize("body", [{}, {"if_exists": "bogus", "graph_id": "counter"}], ids=str)
async def test_a_body_that_is_no_assistant_is_refused(client, body):
    refused(await client.post("/assistants", json=body), 422)


async def test_an_id_that_is_taken(client):
    body = {"graph_id": "counter", "assistant_id": UNKNOWN.upper(), "name": "mine"}
    created = (await client.post("/assistants", json=body)).json()
    assert created["assistant_id"] == UNKNOWN
    said = refused(await client.post("/assistants", json={**body, "name": "b"}), 409)
    assert said == f"Assistant {UNKNOWN} already exists"
    again = await client.post("/assistants", json={**body, "if_exists": "do_nothing"})
    assert again.json() == created
    said = refused(await client.post("/assistants", json={**body, "assistant_id": "x"}), 422)
    assert said == "Invalid assistant ID: must be a UUID"


# --- change, versions, delete --------------------------------------------------------------------


async def test_what_is_not_there(client, prefix):
    path = f"{prefix}/assistants/{UNKNOWN}"
    missing = f"Assistant {UNKNOWN} not found"
    assert refused(await client.patch(path, json={}), 404) == missing
    assert refused(await client.post(f"{path}/versions", json={}), 404) == missing
    assert refused(await client.post(f"{path}/latest", json={"version": 1}), 404) == missing
    said = f"Assistant with ID {UNKNOWN} not found"
    assert refused(await client.delete(path), 404) == said


async def test_ids_are_uuids_and_under_api_also_names(client, records, runtime):
    for method, end in [("PATCH", ""), ("DELETE", ""), ("POST", "/versions"), ("POST", "/latest")]:
        said = refused(await client.request(method, f"/assistants/counter{end}", json={}), 422)
        assert said == "Invalid assistant ID: must be a UUID"
        said = refused(await client.request(method, f"/api/assistants/nobody{end}", json={}), 422)
        assert said.startswith("Invalid assistant: 'nobody'. Must be either:")
    for end in ("", "/schemas", "/graph", "/subgraphs"):
        said = refused(await client.get(f"/api/assistants/nobody{end}"), 422)
        assert said.endswith(f"One of the registered graphs: {', '.join(GRAPHS)}")
    shown = await client.post("/api/assistants/counter/latest", json={"version": 1})
    assert shown.json()["assistant_id"] == COUNTER
    assert (await client.delete("/api/assistants/counter")).status_code == 204
    assert runtime.deleted_assistants == [(COUNTER, False)]


async def test_versions_are_listed_ten_at_a_time(client, records):
    path = f"/assistants/{COUNTER}/versions"
    assert (await client.post(path, json={})).status_code == 200
    where = {"limit": 2, "offset": 1, "metadata": {"a": 1}}
    await client.post(path, json=where)
    assert records.asked[-2:] == [
        ("assistant_versions", None, 10, 0),
        ("assistant_versions", {"a": 1}, 2, 1),
    ]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"metadata": 1}):
        refused(await client.post(path, json=wrong), 422)


async def test_a_version_is_a_number(client):
    path = f"/assistants/{COUNTER}/latest"
    said = f"Version None not found for assistant {COUNTER}"
    assert refused(await client.post(path, json={}), 404) == said
    for wrong in ({"version": "1"}, {"version": 1.5}, {"version": 2**40}):
        refused(await client.post(path, json=wrong), 422)


async def test_threads_are_deleted_if_that_is_asked_for(client, records, runtime, prefix):
    path = f"{prefix}/assistants/{COUNTER}?delete_threads=true"
    assert (await client.delete(path)).status_code == 204
    assert runtime.deleted_assistants == [(COUNTER, True)]


# --- runs ----------------------------------------------------------------------------------------

LAYERS = ("absent", "null", "value")


@pytest.mark.parametrize("name", ["configurable", "context"])
@pytest.mark.parametrize(("of_assistant", "of_run"), [*itertools.product(LAYERS, LAYERS)])
async def test_each_value_of_the_run_lies_over_the_assistants(
    client, records, name, of_assistant, of_run
):
    """Key by key; what is nested is replaced whole, and a null is a value."""
    told: dict[str, Any] = {}
    theirs: dict[str, Any] = {"only": "theirs"}
    own: dict[str, Any] = {}
    for layer, part, value in [
        (of_assistant, theirs, {"a": 1, "b": 2}),
        (of_run, own, {"b": 3}),
    ]:
        if layer != "absent":
            part["k"] = told["k"] = None if layer == "null" else value
    created = await client.post("/assistants", json={"graph_id": "counter", "context": theirs})
    body: dict[str, Any] = {"assistant_id": created.json()["assistant_id"], "input": {}}
    body |= {"context": own} if name == "context" else {"config": {"configurable": own}}
    kwargs = (await client.post(RUNS, json=body)).json()["kwargs"]
    assert kwargs["context"] == {"only": "theirs", **told}
    assert kwargs["config"]["configurable"].items() >= kwargs["context"].items()


FIELDS = {
    "tags": (["a"], ["r"]),
    "recursion_limit": (8, 5),
    "max_concurrency": (3, 2),
    "run_name": ("a", "r"),
}


@pytest.mark.parametrize("field", FIELDS)
async def test_each_field_of_the_run_replaces_the_assistants(client, field):
    theirs, own = FIELDS[field]
    body: dict[str, Any] = {"graph_id": "counter", "config": {field: theirs}}
    assistant_id = (await client.post("/assistants", json=body)).json()["assistant_id"]
    for config, told in [({}, theirs), ({field: own}, own), ({field: None}, theirs)]:
        body = {"assistant_id": assistant_id, "config": config}
        shown = (await client.post(RUNS, json=body)).json()
        assert shown["kwargs"]["config"][field] == told


async def test_a_run_names_the_version_that_it_took(client, records, runtime):
    records.assistants[COUNTER]["version"] = 7
    records.revisions[COUNTER] = 42
    shown = (await client.post(RUNS, json={"assistant_id": "counter"})).json()
    assert shown["assistant_version"] == 7
    (request,) = runtime.requests
    assert (request.assistant_version, request.assistant_revision) == (7, 42)


@pytest.mark.parametrize("path", [RUNS, "/runs", "/runs/batch"])
async def test_a_run_is_made_again_when_its_assistant_has_changed(client, records, runtime, path):
    """Another gateway has changed it, and this one knows an older one."""

    def admission(request: Any) -> None:
        if request.assistant_revision == 1:
            records.revisions[COUNTER] = 2
            records.assistants[COUNTER] |= {"context": {"model": "new"}, "version": 2}
            raise AssistantChanged("changed")

    runtime.admission = admission
    body = {"assistant_id": "counter", "input": {}}
    answer = await client.post(path, json=[body] if path.endswith("batch") else body)
    shown = answer.json()[0] if path.endswith("batch") else answer.json()
    assert shown["kwargs"]["context"] == {"model": "new"}
    assert shown["assistant_version"] == 2
    (request,) = runtime.requests
    assert (request.run_id, request.assistant_revision) == (shown["run_id"], 2)
    asked = [fresh for name, *_, fresh in records.asked if name == "assistant_of_run"]
    assert asked == [False, True]


async def test_no_run_is_made_with_an_assistant_that_was_deleted(client, records, runtime):
    def admission(request: Any) -> None:
        records.assistants.pop(COUNTER)
        raise AssistantChanged("changed")

    runtime.admission = admission
    answer = await client.post(RUNS, json={"assistant_id": "counter"})
    assert refused(answer, 404) == "Thread or assistant not found."
    assert runtime.requests == []


async def test_an_assistant_that_changes_all_the_time_is_not_waited_for(client, runtime):
    def admission(request: Any) -> None:
        raise AssistantChanged("changed")

    runtime.admission = admission
    answer = await client.post(RUNS, json={"assistant_id": "counter"})
    assert "changes all the time" in refused(answer, 503)
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("name", ["configurable", "context"])
@pytest.mark.parametrize("way", ["created", "stored"])
async def test_no_assistant_says_who_a_run_is(client, records, runtime, name, way):
    """Whether a client has made it, or an older server has stored it as it was sent."""
    given = {**RESERVED, "mine": 1}
    if way == "stored":
        records.assistants[COUNTER] |= {"config": {"configurable": given}, "context": given}
        assistant_id = COUNTER
    else:
        part = {"context": given} if name == "context" else {"config": {"configurable": given}}
        answer = await client.post("/assistants", json={"graph_id": "counter", **part})
        assistant_id = answer.json()["assistant_id"]
    shown = (await client.post(RUNS, json={"assistant_id": assistant_id, "input": {}})).json()
    assert shown["kwargs"]["context"] == {"mine": 1}
    configurable = shown["kwargs"]["config"]["configurable"]
    for key in RESERVED:
        assert configurable.get(key) != RESERVED[key] or configurable[key] is None
    assert {key: configurable[key] for key in ("thread_id", "run_id", "graph_id")} == {
        "thread_id": THREAD,
        "run_id": shown["run_id"],
        "graph_id": "counter",
    }
    assert configurable["assistant_id"] == assistant_id
    # It has input, and no checkpoint of an assistant: it does not resume.
    assert not runtime.requests[0].resumes


async def test_structures_are_asked_with_the_assistants_config(client, runtime: MemoryRuntime):
    body = {"graph_id": "counter", "context": {"model": "m"}}
    assistant_id = (await client.post("/assistants", json=body)).json()["assistant_id"]
    for end in ("graph", "schemas", "subgraphs"):
        await client.get(f"/assistants/{assistant_id}/{end}")
    assert [question.config for question in runtime.questions] == [
        {"configurable": {"model": "m"}}
    ] * 3


async def test_a_threads_record_gives_no_run_a_config(client, records):
    """There, a later run of another assistant has the config of the thread's first run."""
    body = {"graph_id": "counter", "context": {"model": "m"}, "config": {"tags": ["a"]}}
    first = (await client.post("/assistants", json=body)).json()["assistant_id"]
    await client.post(RUNS, json={"assistant_id": first, "context": {"sticky": 1}})
    records.threads[THREAD]["config"] = {"configurable": {"sticky": 1}, "tags": ["a"]}
    kwargs = (await client.post(RUNS, json={"assistant_id": "counter"})).json()["kwargs"]
    assert kwargs["context"] == {}
    assert not {"sticky", "model"} & set(kwargs["config"]["configurable"])
    assert "tags" not in kwargs["config"]


def test_the_reserved_keys_are_those_of_the_servers():
    """The lists above have every key that a server sets in `configurable`."""
    from greenroom.core import identity

    assert identity.without(RESERVED) == {}
    assert set(RESERVED) >= identity.OWN_IDS | identity.CHECKPOINT
    assert identity.misplaced(dict.fromkeys(MISPLACED, "x")) == MISPLACED
    assert orjson.loads(orjson.dumps(RESERVED)) == RESERVED
