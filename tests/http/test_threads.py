"""Threads and their state."""

from __future__ import annotations

import orjson
import pytest

from greenroom.core.errors import BadRequest, Conflict
from greenroom.core.ports import HistoryQuestion, StateQuestion, StateUpdate, SuperstepsUpdate
from tests.http.edge_doubles import THREAD, UNKNOWN

PATH = f"/threads/{THREAD}"
NO_STATE = (
    b'{"values":{},"next":[],"tasks":[],"metadata":null,"created_at":null,"checkpoint":null,'
    b'"parent_checkpoint":null,"interrupts":[],"checkpoint_id":null,"parent_checkpoint_id":null}'
)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metadata": {}},
        {"thread_id": None, "metadata": None, "if_exists": None, "ttl": None, "supersteps": None},
        {"unknown_field": 1},
    ],
)
async def test_a_thread_is_made_with_what_is_given(client, body):
    answer = await client.post("/threads", json=body)
    assert answer.status_code == 200
    assert list(answer.json()) == [
        "thread_id",
        "created_at",
        "updated_at",
        "state_updated_at",
        "metadata",
        "status",
        "config",
        "values",
    ]


async def test_a_thread_exists_once(client):
    body = {"thread_id": THREAD, "metadata": {"a": 1}}
    assert (await client.post("/threads", json=body)).json()["metadata"] == {"a": 1}
    for more in ({}, {"if_exists": "raise"}):
        answer = await client.post("/threads", json=body | more)
        assert answer.status_code == 409
        assert answer.json() == {"detail": f"Thread with ID {THREAD} already exists"}
    again = {"thread_id": THREAD, "metadata": {"b": 2}, "if_exists": "do_nothing"}
    assert (await client.post("/threads", json=again)).json()["metadata"] == {"a": 1}


async def test_the_gateway_mount_names_threads_freely(client):
    answer = await client.post("/api/threads", json={"thread_id": "my thread"})
    assert answer.json()["thread_id"] == "my thread"
    assert (await client.get("/api/threads/my%20thread")).status_code == 200
    for bad in ("", "a/b", "\t", "x" * 256):
        answer = await client.post("/api/threads", json={"thread_id": bad})
        assert answer.status_code == 422


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"thread_id": "not-a-uuid"}, "Invalid thread ID: must be a UUID"),
        ({"if_exists": "bogus"}, "if_exists must be 'raise' or 'do_nothing', not \"bogus\"."),
        ({"metadata": "x"}, 'metadata must be an object, not "x".'),
        ({"ttl": 60}, "ttl must be an object, not 60."),
        ({"ttl": {"ttl": 0}}, "ttl.ttl must be greater than 0.0, not 0."),
        ({"ttl": {"strategy": "x"}}, "ttl.strategy must be 'delete' or 'keep_latest', not \"x\"."),
        ([], "The request body must be an object, not []."),
        ({"supersteps": [{}]}, "supersteps[0].updates is required."),
    ],
)
async def test_a_wrong_field_is_named(client, body, sentence):
    answer = await client.post("/threads", json=body)
    assert (answer.status_code, answer.json()) == (422, {"detail": sentence})


async def test_a_ttl_is_passed_on(client, records):
    await client.post("/threads", json={"ttl": {"ttl": 5, "strategy": "delete"}})
    assert records.asked[0][2] == {"ttl": 5, "strategy": "delete"}


async def test_supersteps_are_applied_to_the_new_thread(client, runtime):
    steps = [{"updates": [{"values": {"count": 5}, "as_node": "__start__"}]}]
    answer = await client.post(
        "/threads", json={"metadata": {"graph_id": "counter"}, "supersteps": steps}
    )
    assert answer.status_code == 200
    (update,) = runtime.questions
    assert isinstance(update, SuperstepsUpdate)
    assert orjson.loads(update.supersteps) == steps


@pytest.mark.parametrize(
    ("metadata", "failure", "sentence"),
    [
        ({}, None, "has no assigned graph ID"),
        ({"graph_id": "nope"}, None, "Graph 'nope' not found. Expected one of: ['approval', 'cou"),
        ({"graph_id": "counter"}, BadRequest("Node x does not exist"), "Node x does not exist"),
    ],
)
async def test_supersteps_that_fail_leave_the_thread(client, runtime, metadata, failure, sentence):
    runtime.fail = failure
    body = {"thread_id": THREAD, "metadata": metadata, "supersteps": [{"updates": []}]}
    answer = await client.post("/threads", json=body)
    assert answer.status_code == 201
    assert answer.json()["detail"].startswith(
        f"Thread {THREAD} was created, but there were problems updating the state: "
    )
    assert sentence in answer.json()["detail"]
    assert (await client.get(PATH)).status_code == 200


async def test_metadata_is_merged_and_a_minimal_answer_is_empty(client, records):
    records.add_thread(a=1)
    answer = await client.patch(PATH, json={"metadata": {"c": 3}})
    assert answer.json()["metadata"] == {"a": 1, "c": 3}
    answer = await client.patch(PATH, json={}, headers={"Prefer": "return=minimal"})
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await client.patch(f"/threads/{UNKNOWN}", json={"metadata": {}})
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_a_null_inside_metadata_is_kept(client, records):
    records.add_thread(a=1)
    answer = await client.patch(PATH, json={"metadata": {"a": None}})
    assert answer.json()["metadata"] == {"a": None}


async def test_unknown_threads_are_named(client):
    detail = {"detail": f"Thread with ID {UNKNOWN} not found"}
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/state"),
        ("GET", "/history"),
        ("GET", "/runs"),
    ]:
        answer = await client.request(method, f"/threads/{UNKNOWN}{path}")
        assert (answer.status_code, answer.json()) == (404, detail)


async def test_a_thread_is_deleted_once(client, records):
    records.add_thread()
    answer = await client.delete(PATH)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.delete(PATH)).status_code == 404


async def test_a_search_is_paged_by_headers(client, records):
    for n in range(5):
        records.add_thread(f"{n}{THREAD[1:]}", n=n)
    for offset, size, total, after in ((0, 2, "3", "2"), (2, 2, "5", "4"), (4, 1, "5", None)):
        answer = await client.post("/threads/search", json={"limit": 2, "offset": offset})
        assert len(answer.json()) == size
        assert answer.headers["x-pagination-total"] == total
        assert answer.headers.get("x-pagination-next") == after


async def test_a_search_selects_and_extracts(client, records):
    records.add_thread(n=2)
    records.threads[THREAD]["values"] = orjson.Fragment(b'{"messages":[{"id":1},{"id":2}]}')
    body = {
        "select": ["thread_id"],
        "extract": {
            "last": "values.messages[-1].id",
            "n": "metadata.n",
            "x": "values.y[3]",
            "z": "values.messages[9]",
        },
    }
    answer = await client.post("/threads/search", json=body)
    assert answer.json() == [
        {"thread_id": THREAD, "extracted": {"last": 2, "n": 2, "x": None, "z": None}}
    ]


async def test_a_search_passes_its_filter_on(client, records):
    body = {
        "metadata": {"a": 1},
        "values": {"b": 2},
        "status": "idle",
        "ids": [THREAD],
        "sort_by": "created_at",
        "sort_order": "asc",
    }
    await client.post("/threads/search", json=body)
    _, where, sort_by, descending = records.asked[-1]
    assert (where.metadata, where.values, where.status) == ({"a": 1}, {"b": 2}, "idle")
    assert (where.ids, sort_by, descending) == ([THREAD], "created_at", False)
    await client.post("/threads/search", json={})
    assert records.asked[-1][2:] == ("updated_at", True)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "bogus"},
        {"limit": 0},
        {"limit": 100000},
        {"offset": -1},
        {"sort_by": "bogus"},
        {"select": ["bogus"]},
        {"ids": ["x"]},
        {"extract": {"a": "secret.x"}},
        {"extract": {"a": "values..x["}},
        {"extract": {str(n): "values" for n in range(11)}},
    ],
)
async def test_a_search_refuses_what_it_does_not_know(client, body):
    answer = await client.post("/threads/search", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".") or "must be" in answer.json()["detail"]


async def test_threads_are_counted_as_a_bare_number(client, records):
    records.add_thread()
    answer = await client.post("/threads/count", json={})
    assert answer.content == b"1"


async def test_several_threads_are_pruned(client, records):
    records.add_thread()
    body = {"thread_ids": [THREAD, THREAD, UNKNOWN]}
    assert (await client.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    assert (await client.post("/threads/prune", json={})).status_code == 422
    refused = await client.post("/threads/prune", json=body | {"strategy": "bogus"})
    assert refused.status_code == 422


async def test_only_idle_threads_lose_their_older_checkpoints(client, records, runtime):
    records.add_thread()
    body = {"thread_ids": [THREAD, UNKNOWN], "strategy": "keep_latest"}
    assert (await client.post("/threads/prune", json=body)).json() == {"pruned_count": 1}
    assert runtime.pruned == [THREAD]
    runtime.fail = Conflict("a run is in flight")
    assert (await client.post("/threads/prune", json=body)).json() == {"pruned_count": 0}
    runtime.fail = BadRequest("it uses a DeltaChannel")
    assert (await client.post("/threads/prune", json=body)).status_code == 400


async def test_the_storage_of_a_thread_is_told(client, records):
    records.add_thread()
    assert (await client.get(f"{PATH}/storage")).json()["thread_id"] == THREAD
    assert (await client.get(f"/threads/{UNKNOWN}/storage")).status_code == 404
    assert (await client.get("/threads/not-a-uuid/storage")).status_code == 422


async def test_a_copy_is_a_new_thread(client, records):
    records.add_thread()
    answer = await client.post(f"{PATH}/copy")
    assert answer.json()["thread_id"] in set(records.threads) - {THREAD}
    answer = await client.post(f"/threads/{UNKNOWN}/copy")
    assert (answer.status_code, answer.json()) == (409, {"detail": "Conflict"})


async def test_a_ttl_is_shown_to_who_asks(client, records):
    records.add_thread()
    records.threads[THREAD]["ttl"] = {"ttl_minutes": 5}
    assert "ttl" not in (await client.get(PATH)).json()
    assert "ttl" in (await client.get(f"{PATH}?include=ttl")).json()
    assert "ttl" in (await client.get(f'{PATH}?include=["ttl"]')).json()


async def test_a_thread_that_never_ran_has_the_references_empty_state(client, records):
    records.add_thread()
    assert (await client.get(f"{PATH}/state")).content == NO_STATE
    assert (await client.get(f"{PATH}/history")).content == b"[]"
    at = (await client.get(f"{PATH}/state/{UNKNOWN}")).json()
    assert at["checkpoint"] == {"checkpoint_id": UNKNOWN, "thread_id": THREAD}


async def test_a_state_is_asked_for_in_three_ways(client, records, runtime):
    records.add_thread(graph_id="counter")
    await client.get(f"{PATH}/state?subgraphs=true")
    await client.get(f"{PATH}/state/{UNKNOWN}")
    body = {"checkpoint": {"checkpoint_id": UNKNOWN, "checkpoint_ns": "a:1"}, "subgraphs": True}
    answer = await client.post(f"{PATH}/state/checkpoint", json=body)
    assert answer.content == runtime.answer
    of = {"graph_id": "counter", "thread_id": THREAD}
    at = {"checkpoint_id": UNKNOWN, "checkpoint_ns": ""}
    assert runtime.questions == [
        StateQuestion(**of, subgraphs=True),
        StateQuestion(**of, checkpoint=at),
        StateQuestion(**of, checkpoint=body["checkpoint"], subgraphs=True),
    ]


async def test_parts_of_a_state_are_selected(client, records, runtime):
    records.add_thread(graph_id="counter")
    runtime.answer = b'{"values":{"a":1,"b":2},"next":[],"tasks":[]}'
    assert (await client.get(f"{PATH}/state?select=next,values.b")).json() == {
        "next": [],
        "values": {"b": 2},
    }
    runtime.answer = b"[" + runtime.answer + b"]"
    answer = await client.post(f"{PATH}/history", json={"select": ["next"]})
    assert answer.json() == [{"next": []}]


async def test_history_is_one_state_long_unless_more_are_asked_for(client, records, runtime):
    records.add_thread(graph_id="counter")
    await client.get(f"{PATH}/history")
    await client.post(f"{PATH}/history")
    await client.post(f"{PATH}/history", json={})
    await client.get(f"{PATH}/history?limit=10&before={UNKNOWN}")
    assert [q.limit for q in runtime.questions] == [1, 1, 1, 10]
    assert runtime.questions[-1].before == {"checkpoint_id": UNKNOWN}


@pytest.mark.parametrize(
    "before",
    [
        UNKNOWN,
        {"checkpoint_id": UNKNOWN, "thread_id": THREAD},
        {"configurable": {"checkpoint_id": UNKNOWN, "thread_id": THREAD}},
    ],
)
async def test_before_may_be_an_id_a_checkpoint_or_a_config(client, records, runtime, before):
    records.add_thread(graph_id="counter")
    body = {"limit": 5, "before": before, "metadata": {"step": 0}}
    await client.post(f"{PATH}/history", json=body)
    assert runtime.questions == [
        HistoryQuestion(
            graph_id="counter",
            thread_id=THREAD,
            limit=5,
            before={"checkpoint_id": UNKNOWN},
            metadata={"step": 0},
        )
    ]


async def test_a_history_of_no_length_is_refused(client, records):
    records.add_thread(graph_id="counter")
    assert (await client.get(f"{PATH}/history?limit=abc")).json() == {"detail": "Invalid limit abc"}
    assert (await client.get(f"{PATH}/history?limit=0")).status_code == 422
    assert (await client.post(f"{PATH}/history", json={"limit": 0})).status_code == 422
    assert (await client.post(f"{PATH}/history", json={"before": {"a": 1}})).status_code == 422


async def test_a_state_is_changed_as_a_node_would(client, records, runtime):
    records.add_thread(graph_id="counter")
    body = {"values": {"count": 7}, "as_node": "one", "checkpoint_id": UNKNOWN}
    assert (await client.post(f"{PATH}/state", json=body)).content == b'{"checkpoint_id":"c1"}'
    assert runtime.questions == [
        StateUpdate(
            graph_id="counter",
            thread_id=THREAD,
            values=b'{"count":7}',
            as_node="one",
            checkpoint={"checkpoint_id": UNKNOWN},
        )
    ]
    await client.post(f"{PATH}/state", json={"values": None, "as_node": "three"})
    assert runtime.questions[-1].values == b"null"


async def test_a_state_update_may_be_refused(client, records, runtime):
    records.add_thread()
    answer = await client.post(f"{PATH}/state", json={"values": {}})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(f"Thread '{THREAD}' has no assigned graph ID.")
    records.add_thread(graph_id="counter")
    runtime.fail = BadRequest("Node bogus does not exist")
    answer = await client.post(f"{PATH}/state", json={"values": {}, "as_node": "bogus"})
    assert (answer.status_code, answer.json()) == (400, {"detail": "Node bogus does not exist"})
    runtime.fail = Conflict("A run is in flight.")
    assert (await client.post(f"{PATH}/state", json={"values": {}})).status_code == 409
    assert (await client.post(f"{PATH}/state", json={"values": 1})).status_code == 422


async def test_metadata_is_merged_through_the_state_too(client, records):
    records.add_thread()
    await client.patch(f"{PATH}/state", json={"metadata": {"a": 1}})
    assert records.threads[THREAD]["metadata"] == {"a": 1}
