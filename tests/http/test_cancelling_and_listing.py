"""Runs that exist: getting, listing, cancelling and deleting them, in both dialects."""

from __future__ import annotations

import pytest

from greenroom.core.identity import system_assistant_id
from greenroom.core.searches import (
    RunFilter,
)
from greenroom.http.runs import NO_MATCHING_RUNS, NO_RUNS
from tests.http.edge_doubles import RUN, THREAD, UNKNOWN

RUNS = f"/threads/{THREAD}/runs"
CANCEL = f"{RUNS}/{RUN}/cancel"


async def test_a_cancel_is_accepted_and_says_nothing(client, records, runtime):
    records.add_run()
    answer = await client.post(CANCEL)
    assert (answer.status_code, answer.content) == (202, b"")
    assert "location" not in answer.headers
    (request, wait), *_ = runtime.cancels
    assert (request.action, wait) == ("interrupt", False)


@pytest.mark.parametrize("query", ["action=bogus", "wait=bogus", "wait=0", "wait=", "action="])
async def test_odd_options_of_a_cancel_are_defaults(client, records, runtime, query):
    records.add_run()
    answer = await client.post(f"{CANCEL}?{query}")
    assert answer.status_code == 202
    assert runtime.cancels[0][0].action == "interrupt"


async def test_a_cancel_that_waited_says_where_the_run_is(client, records, runtime):
    records.add_run()
    answer = await client.post(f"{CANCEL}?wait=1&action=rollback")
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["content-location"] == f"{RUNS}/{RUN}"
    assert answer.headers["location"] == f"{RUNS}/{RUN}/join"
    assert runtime.cancels[0][0].action == "rollback"


async def test_under_api_a_cancel_that_waited_has_no_content(client, records):
    records.add_run()
    answer = await client.post(f"/api{CANCEL}?wait=true")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("wait", ["0", "1"])
@pytest.mark.parametrize(
    ("path", "status", "code", "sentence"),
    [
        (CANCEL, None, 404, NO_RUNS),
        (CANCEL, "success", 404, NO_MATCHING_RUNS),
        (f"/api{CANCEL}", None, 404, f"Run {RUN} not found"),
        (f"/api{CANCEL}", "success", 409, f"Run {RUN} is not cancellable (status: success)"),
    ],
)
async def test_there_may_be_nothing_to_cancel(client, records, path, status, code, sentence, wait):
    if status:
        records.add_run(status=status)
    answer = await client.post(f"{path}?wait={wait}")
    assert (answer.status_code, answer.json()["detail"]) == (code, sentence)


async def test_a_stop_button_cancels_and_gets_what_is_left(client, records, runtime):
    records.add_run(status="pending")
    runtime.begin(RUN)
    runtime.logs[RUN].close()
    answer = await client.post(f"{RUNS}/{RUN}/stream?action=interrupt")
    assert answer.content.startswith(b"event: metadata\r\n")
    assert [request.action for request, _ in runtime.cancels] == ["interrupt"]


async def test_a_stop_button_may_wait(client, records, runtime):
    records.add_run()
    answer = await client.post(f"{RUNS}/{RUN}/stream?action=rollback&wait=1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert runtime.cancels[0][1] is True
    answer = await client.post(f"{RUNS}/{RUN}/stream?action=interrupt")
    assert answer.status_code == 409


async def test_a_post_without_an_action_only_joins(client, records, runtime):
    records.add_run(status="success")
    answer = await client.post(f"{RUNS}/{RUN}/stream?wait=1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert runtime.cancels == []
    assert (await client.post(f"{RUNS}/{RUN}/stream?action=x")).status_code == 422


async def test_a_get_never_cancels(client, records, runtime):
    records.add_run(status="success")
    await client.get(f"{RUNS}/{RUN}/stream?action=interrupt&wait=1")
    assert runtime.cancels == []


async def test_some_runs_of_a_thread_are_cancelled_together(client, records):
    records.add_run()
    body = {"thread_id": THREAD, "run_ids": [RUN, RUN, UNKNOWN]}
    answer = await client.post("/runs/cancel", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    again = await client.post("/runs/cancel", json=body | {"run_ids": [RUN]})
    assert (again.status_code, again.json()["detail"]) == (404, NO_MATCHING_RUNS)
    unknown = await client.post("/runs/cancel", json=body | {"run_ids": [UNKNOWN]})
    assert (unknown.status_code, unknown.json()["detail"]) == (404, NO_RUNS)


async def test_all_runs_with_a_status_are_cancelled(client, records):
    records.add_run()
    assert (await client.post("/runs/cancel", json={"status": "running"})).status_code == 204
    answer = await client.post("/runs/cancel?action=rollback", json={"status": "pending"})
    assert (answer.status_code, answer.json()["detail"]) == (404, NO_RUNS)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": "bogus"},
        {"run_ids": [RUN]},
        {"thread_id": THREAD},
        {"thread_id": THREAD, "run_ids": []},
        {"thread_id": THREAD, "run_ids": [RUN], "status": "all"},
        {"thread_id": "x", "run_ids": [RUN]},
        {"thread_id": THREAD, "run_ids": ["x"]},
    ],
)
async def test_what_to_cancel_must_be_clear(client, body):
    assert (await client.post("/runs/cancel", json=body)).status_code == 422


async def test_runs_are_listed_ten_at_a_time_on_one_mount_and_all_on_the_other(client, records):
    records.add_thread()
    for path, limit in ((RUNS, 10), (f"/api{RUNS}", None)):
        assert (await client.get(path)).json() == []
        assert records.asked[-1] == ("list_runs", THREAD, limit, 0, None)
    await client.get(f"/api{RUNS}?limit=1&offset=2&status=error")
    assert records.asked[-1] == ("list_runs", THREAD, 1, 2, "error")


async def test_runs_of_all_threads_are_searched_and_counted(client, records):
    records.add_run()
    records.runs[RUN]["metadata"] = {"a": 1, "b": 2}
    body = {"thread_id": THREAD, "status": "running", "metadata": {"a": 1}, "agent_id": "counter"}
    answer = await client.post("/runs/search", json={**body, "select": ["run_id", "status"]})
    assert answer.json() == [{"run_id": RUN, "status": "running"}]
    assert answer.headers["x-pagination-total"] == "1"
    (_, where, descending) = records.asked[-1]
    assert where == RunFilter(
        thread_id=THREAD,
        assistant_id=system_assistant_id("counter"),
        status="running",
        metadata={"a": 1},
    )
    assert descending
    assert (await client.post("/runs/count", json=body)).json() == 1
    assert records.asked[-1] == ("count_runs", where)
    await client.post("/api/runs/search", json={"thread_id": "a name", "sort_order": "asc"})
    assert records.asked[-1] == ("search_runs", RunFilter(thread_id="a name"), False)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "bogus"},
        {"limit": 0},
        {"select": ["nothing"]},
        {"thread_id": "x"},
        {"assistant_id": "nobody"},
        {"metadata": []},
    ],
)
async def test_a_search_of_runs_that_makes_no_sense_is_refused(client, body):
    assert (await client.post("/runs/search", json=body)).status_code == 422


async def test_a_run_is_found_and_waited_for_without_its_thread(client, records):
    records.add_run(status="success")
    assert (await client.get(f"/runs/{RUN}")).json()["thread_id"] == THREAD
    answer = await client.get(f"/runs/{RUN}/wait")
    assert answer.json() == (await client.get(f"{RUNS}/{RUN}/join")).json()
    assert answer.headers["content-location"] == f"{RUNS}/{RUN}"
    for path in (f"/runs/{UNKNOWN}", f"/runs/{UNKNOWN}/wait"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get("/runs/nonsense")).status_code == 422


async def test_a_list_may_select_fields(client, records):
    records.add_run()
    assert (await client.get(f"{RUNS}?select=run_id")).json() == [{"run_id": RUN}]
    assert (await client.get(f'{RUNS}?select=["status","run_id"]')).json() == [
        {"run_id": RUN, "status": "running"}
    ]
    assert (await client.get(f"{RUNS}?select=bogus")).status_code == 422
    assert (await client.get(f"{RUNS}?limit=0")).json() == []


@pytest.mark.parametrize(
    ("query", "code", "sentence"),
    [
        ("limit=x", 400, "invalid literal for int() with base 10: 'x'"),
        ("limit=-1", 422, "limit must be between 0 and 2147483647, not -1."),
        ("offset=99999999999999999999", 422, "offset must be between 0 and"),
    ],
)
async def test_a_limit_is_a_number(client, records, query, code, sentence):
    records.add_thread()
    answer = await client.get(f"{RUNS}?{query}")
    assert answer.status_code == code
    assert answer.json()["detail"].startswith(sentence)


async def test_unknown_runs_and_threads_are_told_apart(client, records):
    answer = await client.get(f"{RUNS}/{RUN}")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        f"Thread with ID {THREAD} not found",
    )
    assert (await client.get(RUNS)).json() == answer.json()
    records.add_run()
    assert (await client.get(f"{RUNS}/{RUN}")).json()["run_id"] == RUN
    assert (await client.get(f"{RUNS}/{UNKNOWN}")).json() == {"detail": "Not Found"}


async def test_a_run_is_deleted_once(client, records):
    records.add_run()
    answer = await client.delete(f"{RUNS}/{RUN}")
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await client.delete(f"{RUNS}/{RUN}")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Run not found"})


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/threads/nope/runs", "Invalid thread ID: must be a UUID"),
        (f"{RUNS}/nope", "Invalid run ID: must be a UUID"),
        (f"{RUNS}/stream", "Invalid run ID: must be a UUID"),
        (f"/api/threads/{'x' * 256}/runs", "Invalid thread ID: must be 1 to 255 printable"),
        ("/api/threads/a%0Ab/runs", "Invalid thread ID: must be 1 to 255 printable"),
    ],
)
async def test_malformed_ids_are_refused(client, path, sentence):
    answer = await client.get(path)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(sentence)


async def test_an_id_in_capitals_is_the_same_id(client, records):
    records.add_run()
    assert (await client.get(f"/threads/{THREAD.upper()}/runs/{RUN.upper()}")).status_code == 200
