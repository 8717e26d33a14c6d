"""Creating runs, on every route: what is honoured, what is refused, and what the client reads."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from greenroom.core.errors import Conflict, Unavailable
from greenroom.core.identity import system_assistant_id
from greenroom.core.sharding import hash_slot_of_run, hash_slot_of_thread
from tests.http.edge_doubles import NOW, RUN, THREAD, UNKNOWN, MemoryRecords, MemoryRuntime

COUNTER = system_assistant_id("counter")
RUNS = f"/threads/{THREAD}/runs"
BOOM = {"error": "ValueError", "message": "boom"}


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


async def kwargs_of(client: httpx.AsyncClient, path: str = RUNS, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"assistant_id": "counter", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["kwargs"]


def test_a_graphs_assistant_has_the_id_that_the_reference_gives_it():
    assert COUNTER == "09d6caf4-2ef3-5a8b-b1a7-114690ed5d45"


@pytest.mark.parametrize("path", [RUNS, "/runs"])
async def test_a_runs_id_tells_the_slot_of_its_thread(client, runtime, path):
    for _ in range(5):
        await kwargs_of(client, path)
    slots = [hash_slot_of_run(each.run_id) for each in runtime.requests]
    assert slots == [hash_slot_of_thread(each.thread_id) for each in runtime.requests]
    assert len({each.run_id for each in runtime.requests}) == 5


async def test_the_answer_is_the_run_as_the_reference_shows_it(client, runtime):
    answer = await client.post(
        RUNS,
        json={
            "assistant_id": "counter",
            "input": {"count": 0},
            "metadata": {"m": 1},
            "config": {"configurable": {"foo": "bar"}, "tags": ["tg"], "recursion_limit": 50},
        },
    )
    run_id = runtime.requests[0].run_id
    shown = answer.json()
    configurable = shown["kwargs"]["config"]["configurable"]
    request_id = configurable.pop("langgraph_request_id")
    started = configurable.pop("__request_start_time_ms__")
    assert (len(request_id), started > 1_700_000_000_000) == (36, True)
    metadata = {"created_by": "system", "graph_id": "counter", "assistant_id": COUNTER, "m": 1}
    assert shown == {
        "run_id": run_id,
        "thread_id": THREAD,
        "assistant_id": COUNTER,
        "metadata": metadata,
        "status": "pending",
        "kwargs": {
            "input": {"count": 0},
            "command": None,
            "config": {
                "configurable": {
                    "foo": "bar",
                    "langgraph_auth_user": None,
                    "langgraph_auth_user_id": "",
                    "langgraph_auth_permissions": [],
                    "__after_seconds__": 0,
                    "run_id": run_id,
                    "thread_id": THREAD,
                    "graph_id": "counter",
                    "assistant_id": COUNTER,
                    "user_id": "",
                },
                "tags": ["tg"],
                "recursion_limit": 50,
                "metadata": metadata,
            },
            "context": {"foo": "bar"},
            "stream_mode": ["values"],
            "interrupt_before": None,
            "interrupt_after": None,
            "webhook": None,
            "feedback_keys": None,
            "temporary": False,
            "subgraphs": False,
            "resumable": False,
            "checkpoint_during": True,
            "durability": "async",
        },
        "multitask_strategy": "enqueue",
        "created_at": NOW,
        "updated_at": NOW,
        "langsmith_session_name": None,
        "assistant_version": 1,
    }
    assert list(shown["metadata"]) == list(metadata)
    assert list(shown["kwargs"]["config"]) == [
        "configurable",
        "tags",
        "recursion_limit",
        "metadata",
    ]


async def test_content_location_names_the_run_and_there_is_no_location(client, runtime):
    answer = await client.post(RUNS, json={"assistant_id": "counter"})
    assert answer.headers["content-location"] == f"{RUNS}/{runtime.requests[0].run_id}"
    assert "location" not in answer.headers


async def test_the_gateway_mount_says_its_prefix(client, runtime):
    answer = await client.post(f"/api{RUNS}", json={})
    assert answer.status_code == 422  # two graphs, none of them the default
    answer = await client.post(f"/api{RUNS}", json={"assistant_id": "counter"})
    run_id = runtime.requests[0].run_id
    assert answer.headers["content-location"] == f"/api{RUNS}/{run_id}"
    assert runtime.requests[0].multitask_strategy == "reject"


async def test_the_run_ids_are_uuids_of_version_7(client, runtime):
    await client.post(RUNS, json={"assistant_id": "counter"})
    assert runtime.requests[0].run_id[14] == "7"


async def test_a_stateless_run_has_a_thread_of_its_own_that_goes_with_it(client, runtime):
    answer = await client.post("/runs", json={"assistant_id": "counter", "thread_id": THREAD})
    (request,) = runtime.requests
    assert (request.temporary, request.create_thread) == (True, True)
    assert request.thread_id != THREAD
    assert answer.json()["kwargs"]["temporary"] is True
    assert answer.json()["metadata"] == {"created_by": "system", "assistant_id": COUNTER}
    assert answer.headers["content-location"] == f"/runs/{request.run_id}"


async def test_a_stateless_run_may_be_kept(client, runtime):
    await client.post("/runs", json={"assistant_id": "counter", "on_completion": "keep"})
    assert not runtime.requests[0].temporary
    assert runtime.requests[0].create_thread


async def test_a_batch_creates_all_or_nothing(client, runtime):
    good = {"assistant_id": "counter", "streamMode": "updates", "onCompletion": "keep"}
    answer = await client.post("/runs/batch", json=[good, good])
    assert [run["kwargs"]["stream_mode"] for run in answer.json()] == [["updates"]] * 2
    assert [request.temporary for request in runtime.requests] == [False, False]
    assert "content-location" not in answer.headers
    answer = await client.post("/runs/batch", json=[good, {"assistant_id": "nope"}])
    assert answer.status_code == 422
    assert len(runtime.requests) == 2


@pytest.mark.parametrize("body", [[], {}, "x"])
async def test_a_batch_is_a_list_of_at_least_one(client, body):
    answer = await client.post("/runs/batch", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


async def test_the_assistants_own_settings_lie_below_those_of_the_run(client, records):
    records.assistants[COUNTER] |= {
        "config": orjson.Fragment(b'{"configurable":{"a":1,"b":1},"tags":["x"]}'),
        "context": {"a": 1, "b": 1},
        "metadata": {"z": 1, "m": 1},
    }
    kwargs = await kwargs_of(client, config={"configurable": {"b": 2}}, metadata={"m": 2})
    assert kwargs["context"] == {"a": 1, "b": 2}
    assert kwargs["config"]["configurable"].items() >= {"a": 1, "b": 2}.items()
    assert kwargs["config"]["tags"] == ["x"]
    assert kwargs["config"]["metadata"].items() >= {"z": 1, "m": 2}.items()


async def test_context_shows_as_configurable_too(client):
    kwargs = await kwargs_of(client, context={"user": "u"})
    assert kwargs["context"] == {"user": "u"}
    assert kwargs["config"]["configurable"]["user"] == "u"


async def test_context_and_configurable_together_are_refused(client):
    body = {"assistant_id": "counter", "config": {"configurable": {"a": 1}}, "context": {"b": 1}}
    answer = await client.post(RUNS, json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Cannot specify both configurable and context.")


async def test_the_thread_of_the_path_wins(client):
    kwargs = await kwargs_of(client, config={"configurable": {"thread_id": UNKNOWN}})
    assert kwargs["config"]["configurable"]["thread_id"] == THREAD
    assert kwargs["context"] == {}


async def test_nobody_forges_the_graph_in_the_metadata(client):
    answer = await client.post(
        RUNS, json={"assistant_id": "counter", "metadata": {"graph_id": "approval"}}
    )
    assert answer.json()["metadata"]["graph_id"] == "counter"


@pytest.mark.parametrize(
    "body",
    [
        {"checkpoint_id": UNKNOWN},
        {"checkpoint": {"checkpoint_id": UNKNOWN, "thread_id": "other", "checkpoint_ns": None}},
        {"config": {"configurable": {"checkpoint_id": UNKNOWN}}},
    ],
)
async def test_a_checkpoint_may_be_named_in_three_ways(client, body):
    kwargs = await kwargs_of(client, **body)
    assert kwargs["config"]["configurable"]["checkpoint_id"] == UNKNOWN
    assert kwargs["config"]["configurable"]["thread_id"] == THREAD
    assert kwargs["context"] == {}


@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        (None, ["values"]),
        ([], ["values"]),
        ("updates", ["updates"]),
        (["values", "messages-tuple", "values"], ["values", "messages-tuple"]),
    ],
)
async def test_stream_modes_are_stored_as_a_list(client, mode, stored):
    assert (await kwargs_of(client, stream_mode=mode))["stream_mode"] == stored


@pytest.mark.parametrize(
    ("body", "durability", "during"),
    [
        ({}, "async", True),
        ({"checkpoint_during": False}, "exit", False),
        ({"checkpoint_during": True}, "async", True),
        ({"durability": "sync", "checkpoint_during": False}, "sync", True),
        ({"durability": "exit"}, "exit", False),
    ],
)
async def test_durability_has_an_older_name(client, body, durability, during):
    kwargs = await kwargs_of(client, **body)
    assert (kwargs["durability"], kwargs["checkpoint_during"]) == (durability, during)


async def test_every_other_option_is_passed_on(client, runtime):
    kwargs = await kwargs_of(
        client,
        command={"resume": {"a": 1}, "goto": None},
        stream_subgraphs=True,
        stream_resumable=True,
        interrupt_before="*",
        interrupt_after=["one"],
        webhook="https://example.com/hook",
        multitask_strategy="rollback",
        after_seconds=1.5,
        if_not_exists="create",
        feedback_keys=["k"],
        langsmith_tracer={"project_name": "p"},
        strict_resume=True,
    )
    assert kwargs["command"] == {"resume": {"a": 1}}
    assert (kwargs["subgraphs"], kwargs["resumable"], kwargs["strict_resume"]) == (True,) * 3
    assert (kwargs["interrupt_before"], kwargs["interrupt_after"]) == ("*", ["one"])
    assert kwargs["config"]["configurable"]["__after_seconds__"] == 1.5
    (request,) = runtime.requests
    assert request.resumable
    assert request.webhook == kwargs["webhook"] == "https://example.com/hook"
    assert (request.multitask_strategy, request.after_s) == ("rollback", 1.5)
    assert request.create_thread


@pytest.mark.parametrize(
    ("body", "resumes"),
    [
        ({"input": {"a": 1}}, False),
        ({"input": None}, True),
        ({"input": {"a": 1}, "command": {"resume": "yes"}}, True),
        ({"input": {"a": 1}, "checkpoint_id": RUN}, True),
        ({"input": {"a": 1}, "checkpoint": {"checkpoint_id": "x"}}, True),
        ({"input": {"a": 1}, "config": {"configurable": {"checkpoint_id": "x"}}}, True),
    ],
)
async def test_a_run_that_writes_onto_earlier_checkpoints_says_so(client, runtime, body, resumes):
    """Else a rollback, or its deletion, leaves its answer on the checkpoint before it."""
    await kwargs_of(client, **body)
    (request,) = runtime.requests
    assert request.resumes is resumes


async def test_what_real_sdks_send_is_accepted(client):
    """Nulls, falses and unknown keys, as both SDKs put them into a body."""
    await kwargs_of(
        client,
        input=None,
        command=None,
        config=None,
        stream_mode=["messages-tuple", "values"],
        stream_subgraphs=False,
        stream_resumable=False,
        feedback_keys=None,
        on_disconnect="continue",
        multitask_strategy=None,
        after_seconds=-1,
        checkpoint=None,
        checkpoint_id=None,
        signal=None,
        unknown_key=1,
        metadata={},
        context={},
    )


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("multitask_strategy", "bogus", "multitask_strategy must be"),
        ("on_disconnect", "bogus", "on_disconnect must be 'cancel' or 'continue', not \"bogus\"."),
        ("on_completion", "bogus", "on_completion must be"),
        ("if_not_exists", "bogus", "if_not_exists must be"),
        ("durability", "bogus", "durability must be"),
        ("after_seconds", "x", 'after_seconds must be a number, not "x".'),
        ("after_seconds", 1e12, "after_seconds must be at most"),
        ("webhook", "notaurl", "Invalid webhook hostname ''"),
        (
            "webhook",
            "/hook",
            "Loopback webhooks (relative URLs and localhost) are disabled by default. Set"
            " 'webhooks.url.disable_loopback' of langgraph.json to false to allow them.",
        ),
        ("webhook", "http://localhost:99/x", "Webhook host blocked: loopback host 'localhost'"),
        ("webhook", "http://[::1]/x", "Webhook host blocked: loopback IP range"),
        ("webhook", "http://192.168.1.1/x", "Webhook host blocked: private IP range"),
        ("webhook", "http://169.254.169.254/latest", "Webhook host blocked: private IP range"),
        ("webhook", "ftp://x", "Webhook host blocked: scheme 'ftp' not allowed"),
        ("webhook", "http://127.0.0.1/x", "Webhook host blocked: loopback IP range"),
        ("webhook", "http://10.0.0.1/x", "Webhook host blocked: private IP range"),
        ("webhook", "http://[::ffff:127.0.0.1]/x", "Webhook host blocked: loopback IP range"),
        ("webhook", "http://localhost/x", "Webhook host blocked: loopback host 'localhost'"),
        ("webhook", "http://2130706433/", "Invalid webhook hostname '2130706433'"),
        ("webhook", "http://[::1", "Invalid webhook: Invalid IPv6 URL"),
        ("webhook", "https://h:99999/", "Invalid webhook: Port out of range 0-65535"),
        ("stream_mode", ["bogus"], "stream_mode[0] must be"),
        ("stream_mode", "bogus", "stream_mode must be"),
        ("config", "x", 'config must be an object, not "x".'),
        ("config", {"recursion_limit": "x"}, "config.recursion_limit must be a whole number"),
        ("config", {"configurable": 1}, "config.configurable must be an object, not 1."),
        ("config", {"tags": "x"}, "config.tags must be an array"),
        ("metadata", [1], "metadata must be an object, not [1]."),
        ("command", "x", 'command must be an object, not "x".'),
        ("command", {"goto": [{"node": "two", "input": 1}, "three"]}, "command.goto"),
        ("command", {"update": [["a"]]}, "command.update"),
        ("interrupt_before", "x", "interrupt_before must be"),
        ("interrupt_after", [1], "interrupt_after[0] must be a string, not 1."),
        ("checkpoint_id", "x", "Invalid checkpoint ID"),
        ("checkpoint", "x", "checkpoint must be an object"),
        ("stream_resumable", "yes", 'stream_resumable must be true or false, not "yes".'),
        ("feedback_keys", "x", 'feedback_keys must be an array, not "x".'),
        ("context", [], "context must be an object, not []."),
        ("assistant_id", 1, "assistant_id must be a string, not 1."),
        ("assistant_id", "", "assistant_id must not be empty."),
    ],
)
@pytest.mark.parametrize("path", [RUNS, "/runs/wait", f"/api{RUNS}/stream"])
async def test_a_wrong_option_is_refused_with_a_sentence_on_every_route(
    client, runtime, path, field, value, sentence
):
    answer = await client.post(path, json={"assistant_id": "counter", field: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"].startswith(sentence)
    assert runtime.requests == []


async def test_an_assistant_is_required(client):
    answer = await client.post(RUNS, json={"input": {}})
    assert (answer.status_code, answer.json()) == (422, {"detail": "assistant_id is required."})


async def test_an_unknown_graph_is_told_what_there_is(client):
    answer = await client.post(RUNS, json={"assistant_id": "nope"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "Invalid assistant: 'nope'. Must be either:\n- A valid assistant UUID, or\n"
        "- One of the registered graphs: counter, approval"
    )


async def test_an_unknown_assistant_or_thread_is_not_found(client):
    answers = [
        await client.post(RUNS, json={"assistant_id": UNKNOWN}),
        await client.post(f"/threads/{UNKNOWN}/runs", json={"assistant_id": "counter"}),
    ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json() == {"detail": "Thread or assistant not found."}


async def test_the_gateway_mount_makes_the_thread_whatever_its_name(client, runtime):
    answer = await client.post("/api/threads/my thread é/runs", json={"assistant_id": "counter"})
    run_id = runtime.requests[0].run_id
    assert runtime.requests[0].thread_id == "my thread é"
    assert answer.headers["content-location"] == f"/api/threads/my%20thread%20%C3%A9/runs/{run_id}"


async def test_a_thread_that_is_taken_is_a_conflict(client, runtime):
    runtime.fail = Conflict("Thread is already running a task.")
    answer = await client.post(RUNS, json={"assistant_id": "counter"})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "Thread is already running a task.",
    )


async def test_a_registry_that_restarts_says_when_to_come_again(client, runtime):
    runtime.fail = Unavailable("The registry is restarting.")
    answer = await client.post(RUNS, json={"assistant_id": "counter"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_waiting_answers_the_output_and_where_to_join(client, runtime):
    asked = asyncio.create_task(client.post(f"{RUNS}/wait", json={"assistant_id": "counter"}))
    await runtime.opened.wait()
    run_id = runtime.requests[0].run_id
    runtime.finish(run_id, {"count": 3, "log": ["one", "two", "three"]})
    answer = await asked
    assert answer.content.lstrip(b"\n") == b'{"count":3,"log":["one","two","three"]}'
    assert dict(answer.headers) == {
        "location": f"{RUNS}/{run_id}/join",
        "content-location": f"{RUNS}/{run_id}",
        "content-type": "application/json",
        "vary": "Origin",
    }


@pytest.mark.parametrize(
    ("path", "values", "keys", "expected"),
    [
        (RUNS, None, None, {"__error__": BOOM}),
        (f"/api{RUNS}", None, None, {"status": "error", "error": "boom"}),
        (f"/api{RUNS}", b'{"x":1,"secret":2}', None, {"x": 1, "secret": 2, "__error__": BOOM}),
        (f"/api{RUNS}", b'{"x":1,"secret":2}', b'["x"]', {"x": 1, "__error__": BOOM}),
        (f"/api{RUNS}", b'{"x":{"y":1},"secret":2}', b'"x"', {"y": 1, "__error__": BOOM}),
        (f"/api{RUNS}", b'{"secret":2}', b'"x"', {"__error__": BOOM}),
    ],
)
async def test_a_failed_run_is_told_in_the_mounts_dialect(
    client, runtime, path, values, keys, expected
):
    asked = asyncio.create_task(client.post(f"{path}/wait", json={"assistant_id": "counter"}))
    await runtime.opened.wait()
    runtime.finish(
        runtime.requests[0].run_id,
        {"__error__": BOOM},
        status="error",
        error=orjson.dumps(BOOM),
        values=values,
        output_keys=keys,
    )
    answer = await asked
    assert (answer.status_code, answer.json()) == (200, expected)


async def test_a_run_that_is_rolled_back_while_somebody_waits_is_told_inside_the_answer(
    client, runtime, records
):
    records.add_run()
    answer = await client.get(f"{RUNS}/01a201fe-afba-70bf-b694-0563c17b2dbf/join")
    assert answer.status_code == 200
    assert answer.json() == {
        "__error__": {"error": "HTTPException", "message": "404: Run not found"}
    }


def test_doubles_are_complete():
    """The doubles have every method of the ports that they stand for."""
    from greenroom.core.ports import Runtime
    from greenroom.core.records import Records

    for port, double in ((Runtime, MemoryRuntime), (Records, MemoryRecords)):
        wanted = {name for name in vars(port) if not name.startswith("_")}
        assert wanted <= set(vars(double))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"user_id": ""}),
        ({"config": {"configurable": {"user_id": "u1"}}}, {"user_id": "u1"}),
        ({"config": {"configurable": {"a": 1}}}, {"user_id": "", "a": 1}),
        ({"context": {"user_id": "u1"}}, {"user_id": "u1"}),
        ({"context": {"a": 1}}, {"a": 1}),
    ],
)
async def test_a_user_id_is_the_clients(client, body, expected):
    """People keep memory by it; without one it is empty, as on the reference."""
    kwargs = await kwargs_of(client, **body)
    configurable = kwargs["config"]["configurable"]
    assert {key: configurable[key] for key in ("user_id", "a") if key in configurable} == expected
    assert kwargs["context"].get("user_id") == (expected.get("user_id") or None)
