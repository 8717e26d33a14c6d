"""Routes of crons: what is honoured, what is refused, and what the registry is asked to store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from greenroom.core.crons import Cron
from greenroom.core.identity import system_assistant_id
from greenroom.core.searches import (
    CronFilter,
)
from tests.http.edge_doubles import THREAD, UNKNOWN, MemoryRecords

COUNTER = system_assistant_id("counter")
MOUNTS = ("", "/api")
LATER = {"assistant_id": "counter", "schedule": "0 4 1 1 *"}
NEVER = "0 0 31 2 *"


@pytest.fixture(autouse=True)
def thread(records: MemoryRecords) -> None:
    records.add_thread()


async def made(client: httpx.AsyncClient, path: str = "/runs/crons", **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=LATER | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def changed(client: httpx.AsyncClient, cron_id: str, **body: Any) -> dict[str, Any]:
    answer = await client.patch(f"/runs/crons/{cron_id}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stale(records: MemoryRecords, cron_id: str) -> str:
    """A date of the cron that is over."""
    cron, revision = records.crons[cron_id]
    due = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    records.crons[cron_id] = (cron | {"next_run_date": due}, revision)
    return due


# --- create --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_cron_is_shown_as_the_reference_shows_it(client, runtime, mount):
    shown = await made(
        client, f"{mount}/runs/crons", input={"count": 0}, metadata={"m": 1}, unknown=[1]
    )
    cron_id = shown["cron_id"]
    assert cron_id[14] == "7"
    due = datetime.fromisoformat(shown.pop("next_run_date"))
    assert (due.month, due.day, due.hour, due.utcoffset()) == (1, 1, 4, timedelta())
    assert due > datetime.now(UTC)
    del shown["created_at"], shown["updated_at"]
    assert shown == {
        "cron_id": cron_id,
        "assistant_id": COUNTER,
        "thread_id": None,
        "user_id": "",
        "end_time": None,
        "schedule": "0 4 1 1 *",
        "timezone": None,
        "payload": {
            "assistant_id": COUNTER,
            "schedule": "0 4 1 1 *",
            "input": {"count": 0},
            "metadata": {"m": 1},
            "unknown": [1],
            "config": {"configurable": {"cron_id": cron_id}},
        },
        "metadata": {"m": 1},
        "on_run_completed": "delete",
        "enabled": True,
    }
    (saved,) = runtime.saved
    assert (saved.owner, saved.revision, saved.next_run_date) == (cron_id, None, due)


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_cron_on_a_thread_belongs_to_the_thread(client, runtime, mount):
    shown = await made(client, f"{mount}/threads/{THREAD}/runs/crons")
    assert (shown["thread_id"], shown["on_run_completed"]) == (THREAD, None)
    assert runtime.saved[0].owner == THREAD
    answer = await client.post(f"{mount}/threads/{UNKNOWN}/runs/crons", json=LATER)
    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        f"Thread with ID '{UNKNOWN}' not found. Please verify the ID is correct and the thread "
        "hasn't been deleted or expired."
    )


@pytest.mark.parametrize("thread_id", [UNKNOWN, THREAD])
async def test_a_cron_may_create_its_thread(client, records, thread_id):
    path = f"/threads/{thread_id}/runs/crons"
    answer = await client.post(path, json=LATER | {"if_not_exists": "create", "schedule": NEVER})
    assert (answer.status_code, UNKNOWN in records.threads) == (400, False)
    assert (await made(client, path, if_not_exists="create"))["thread_id"] == thread_id
    assert thread_id in records.threads


async def test_what_a_cron_is_made_with_is_kept(client):
    shown = await made(
        client,
        schedule="30 2 1 1 *",
        timezone="Europe/Paris",
        end_time="2090-01-01T00:00:00+02:00",
        enabled=False,
        on_run_completed="keep",
        webhook="https://example.com/hook",
        multitask_strategy="reject",
        config={"tags": ["t"], "configurable": {"model": "m"}},
        input=None,
    )
    assert shown["next_run_date"][4:] == "-01-01T01:30:00+00:00"
    assert shown["end_time"] == "2089-12-31T22:00:00+00:00"
    assert (shown["timezone"], shown["enabled"]) == ("Europe/Paris", False)
    assert shown["on_run_completed"] == "keep"
    assert shown["payload"]["config"] == {
        "tags": ["t"],
        "configurable": {"model": "m", "cron_id": shown["cron_id"]},
    }
    assert "input" not in shown["payload"]


async def test_an_end_without_an_offset_is_in_utc(client):
    shown = await made(client, end_time="2090-01-01T00:00:00")
    assert shown["end_time"] == "2090-01-01T00:00:00+00:00"


async def test_a_context_goes_together_with_the_crons_id(client):
    shown = await made(client, context={"model": "m"})
    assert shown["payload"]["context"] == {"model": "m"}
    assert shown["payload"]["config"] == {"configurable": {"cron_id": shown["cron_id"]}}


async def test_a_forged_cron_id_is_replaced(client):
    shown = await made(client, config={"configurable": {"cron_id": "forged"}})
    assert shown["payload"]["config"]["configurable"]["cron_id"] == shown["cron_id"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"schedule": None}, 422, "schedule"),
    ({"schedule": 5}, 422, "schedule"),
    ({"schedule": "bogus"}, 422, "Invalid cron schedule: 'bogus'. Reason: Invalid cron schedule."),
    ({"schedule": NEVER}, 400, "failed to find next date"),
    ({"timezone": "bogus/zone"}, 422, "Invalid timezone: 'bogus/zone'. Use IANA timezone format"),
    ({"assistant_id": None}, 422, "assistant_id is required."),
    ({"assistant_id": "nope"}, 404, "Assistant 'nope' not found"),
    ({"assistant_id": UNKNOWN}, 404, f"Assistant '{UNKNOWN}' not found"),
    ({"end_time": "tomorrow"}, 422, "end_time must be a date and time"),
    ({"end_time": 5}, 422, "end_time"),
    ({"enabled": "yes"}, 422, "enabled"),
    ({"on_run_completed": "burn"}, 422, "on_run_completed"),
    ({"multitask_strategy": "bogus"}, 422, "multitask_strategy"),
    ({"stream_mode": "bogus"}, 422, "stream_mode"),
    ({"durability": "bogus"}, 422, "durability"),
    ({"checkpoint_id": "bogus"}, 422, "Invalid checkpoint ID"),
    ({"webhook": "ftp://example.com"}, 422, "Webhook host blocked"),
    ({"webhook": "http://127.0.0.1/"}, 422, "Webhook host blocked"),
    ({"config": {"thread_id": "t"}}, 422, "'config' has 'thread_id' beside 'configurable'"),
    ({"config": {"__pregel_x": 1}}, 422, "'config' has '__pregel_x' beside 'configurable'"),
    ({"config": {"configurable": {"a": 1}}, "context": {"a": 1}}, 400, "Cannot specify both"),
    ({"on_completion": "keep"}, 422, "A cron has no 'on_completion': give 'on_run_completed'."),
    ({"on_disconnect": "cancel"}, 422, "A cron has no 'on_disconnect'"),
    ({"if_not_exists": "bogus"}, 422, "if_not_exists"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), REFUSED)
async def test_a_mistake_is_refused_when_the_cron_is_made(client, runtime, body, status, sentence):
    answer = await client.post("/runs/crons", json=LATER | body)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
    assert not runtime.saved


async def test_a_body_that_each_firing_would_have_to_read_is_bounded(client, runtime, app):
    app.state.edge = replace(
        app.state.edge, settings=replace(app.state.edge.settings, max_body_bytes=10_000_000)
    )
    answer = await client.post("/runs/crons", json=LATER | {"input": {"x": "a" * 1_100_000}})
    assert answer.status_code == 413
    assert "The body of a cron must not be longer" in answer.json()["detail"]
    answer = await client.post("/runs/crons", json=LATER | {"input": {"x": "a" * 3_000_000}})
    assert answer.status_code == 413
    assert not runtime.saved


async def test_a_cron_on_a_thread_cannot_delete_it(client):
    path = f"/threads/{THREAD}/runs/crons"
    answer = await client.post(path, json=LATER | {"on_run_completed": "delete"})
    assert answer.status_code == 422
    assert (await made(client, path, on_run_completed="keep"))["on_run_completed"] is None


@pytest.mark.parametrize(
    ("path", "sentence"),
    [(f"/threads/{THREAD}/runs/crons", "Thread with ID"), ("/runs/crons", "Assistant 'counter'")],
)
async def test_a_cron_whose_thread_or_assistant_goes_meanwhile_is_not_made(
    client, runtime, records, path, sentence
):
    def gone(cron: Cron) -> None:
        records.threads.clear()
        records.crons[cron.cron_id] = ({}, 5)  # refused, as for what is not there

    runtime.before_saving.append(gone)
    answer = await client.post(path, json=LATER)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (404, True)


# --- read, search, delete ------------------------------------------------------------------------


@pytest.mark.parametrize("mount", MOUNTS)
async def test_a_cron_is_read_and_deleted(client, records, mount):
    shown = await made(client)
    path = f"{mount}/runs/crons/{shown['cron_id']}"
    assert (await client.get(path)).json() == shown
    assert (await client.delete(path)).status_code == 204
    assert not records.crons
    for method in ("GET", "DELETE"):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_what_is_no_id_is_refused(client, method):
    answer = await client.request(method, "/runs/crons/nope", json={"enabled": True})
    assert answer.status_code == 422
    assert answer.json() == {"detail": "Invalid cron ID: must be a UUID"}


async def test_a_search_has_filters_an_order_and_pages(client, records):
    for _ in range(3):
        await made(client)
    answer = await client.post(
        "/runs/crons/search",
        json={
            "assistant_id": "counter",
            "thread_id": THREAD,
            "enabled": True,
            "metadata": {"m": 1},
            "limit": 2,
            "sort_by": "next_run_date",
            "sort_order": "asc",
            "select": ["cron_id"],
        },
    )
    assert [list(cron) for cron in answer.json()] == [["cron_id"], ["cron_id"]]
    assert answer.headers["x-pagination-total"] == "3"
    assert answer.headers["x-pagination-next"] == "2"
    where = CronFilter(assistant_id=COUNTER, thread_id=THREAD, enabled=True, metadata={"m": 1})
    assert records.asked[-1] == ("search_crons", where, "next_run_date", False)
    assert len((await client.post("/runs/crons/search", json={})).json()) == 3
    assert records.asked[-1] == ("search_crons", CronFilter(), "created_at", True)
    assert (await client.post("/runs/crons/count", json={"enabled": False})).json() == 3
    assert records.asked[-1] == ("count_crons", CronFilter(enabled=False))


@pytest.mark.parametrize(
    "body",
    [
        *({"limit": 0}, {"limit": 1001}, {"sort_by": "schedule"}, {"select": ["x"]}),
        *({"thread_id": "x"}, {"assistant_id": "nope"}),
    ],
)
async def test_a_search_that_cannot_mean_anything_is_refused(client, body):
    assert (await client.post("/runs/crons/search", json=body)).status_code == 422


async def test_a_search_for_crons_of_an_assistant_that_is_gone_finds_none(client, records):
    answer = await client.post("/runs/crons/search", json={"assistant_id": UNKNOWN.upper()})
    assert (answer.status_code, answer.json()) == (200, [])
    assert records.asked[-1][1] == CronFilter(assistant_id=UNKNOWN)


async def test_a_change_that_others_always_come_before_is_given_up(client, runtime, records):
    shown = await made(client)

    def other(_: Cron) -> None:
        cron, revision = records.crons[shown["cron_id"]]
        records.crons[shown["cron_id"]] = (cron, revision + 1)

    runtime.before_saving += [other] * 20
    answer = await client.patch(f"/runs/crons/{shown['cron_id']}", json={"enabled": False})
    assert answer.status_code == 409


# --- change --------------------------------------------------------------------------------------


async def test_a_change_replaces_what_it_names(client, records, runtime):
    shown = await made(
        client, input={"a": 1}, config={"tags": ["t"]}, metadata={"a": 1}, enabled=False
    )
    due = stale(records, shown["cron_id"])
    after = await changed(
        client,
        shown["cron_id"],
        input={"b": 2},
        config={"recursion_limit": 7},
        metadata={"b": 2},
        on_run_completed="keep",
    )
    assert after["metadata"] == after["payload"]["metadata"] == {"a": 1, "b": 2}
    assert after["payload"]["input"] == {"b": 2}
    assert after["payload"]["config"] == {
        "recursion_limit": 7,
        "configurable": {"cron_id": shown["cron_id"]},
    }
    assert after["on_run_completed"] == after["payload"]["on_run_completed"] == "keep"
    assert (after["schedule"], after["enabled"]) == ("0 4 1 1 *", False)
    # A change that does not concern the dates leaves them to the registry.
    assert after["next_run_date"] == due
    assert [cron.revision for cron in runtime.saved] == [None, 0]


@pytest.mark.parametrize("body", [{"schedule": "0 5 1 1 *"}, {"timezone": "Asia/Tokyo"}])
async def test_another_schedule_gives_another_date(client, records, body):
    shown = await made(client)
    stale(records, shown["cron_id"])
    after = await changed(client, shown["cron_id"], **body)
    assert after["next_run_date"] > datetime.now(UTC).isoformat()
    assert after["next_run_date"] != shown["next_run_date"]


async def test_a_cron_that_is_enabled_again_does_not_make_up_for_the_time_between(client, records):
    shown = await made(client, enabled=False)
    stale(records, shown["cron_id"])
    after = await changed(client, shown["cron_id"], enabled=True)
    assert (after["enabled"], after["next_run_date"]) == (True, shown["next_run_date"])
    # One that fires keeps its date: perhaps it is due at this moment.
    due = stale(records, shown["cron_id"])
    assert (await changed(client, shown["cron_id"], enabled=True))["next_run_date"] == due


async def test_null_clears_the_end_and_nothing_else(client, records):
    shown = await made(client, end_time="2026-01-01T00:00:00Z", timezone="Asia/Tokyo")
    after = await changed(client, shown["cron_id"], end_time=None, timezone=None)
    assert (after["end_time"], after["timezone"]) == (None, "Asia/Tokyo")
    assert "end_time" not in after["payload"]
    assert after["next_run_date"] == shown["next_run_date"]
    after = await changed(client, shown["cron_id"], end_time="2026-01-01T00:00:00Z")
    assert after["end_time"] == "2026-01-01T00:00:00+00:00"


async def test_a_cron_whose_end_is_cleared_does_not_make_up_for_the_time_between(client, records):
    shown = await made(client, end_time="2020-01-01T00:00:00Z")
    stale(records, shown["cron_id"])
    after = await changed(client, shown["cron_id"], end_time=None)
    assert after["next_run_date"] == shown["next_run_date"]


CHANGES_REFUSED: list[tuple[Any, int, str]] = [
    ({}, 400, "Request body cannot be empty"),
    ([], 422, "The request body"),
    ({"assistant_id": "approval"}, 422, "The assistant_id of a cron cannot be changed"),
    ({"thread_id": THREAD}, 422, "The thread_id of a cron cannot be changed"),
    ({"context": {"b": 1}}, 400, "Cannot specify both"),
    *[(body, status, said) for body, status, said in REFUSED if None not in body.values()
      and "assistant_id" not in body and "context" not in body],
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "sentence"), CHANGES_REFUSED)
async def test_a_change_is_checked_as_a_new_cron_is(client, runtime, body, status, sentence):
    shown = await made(client, config={"configurable": {"a": 1}})
    answer = await client.patch(f"/runs/crons/{shown['cron_id']}", json=body)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
    assert len(runtime.saved) == 1


async def test_an_unknown_cron_cannot_be_changed(client):
    answer = await client.patch(f"/runs/crons/{UNKNOWN}", json={"enabled": False})
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"Cron '{UNKNOWN}' not found"}


async def test_a_change_that_another_one_comes_before_is_made_on_top_of_it(
    client, runtime, records
):
    shown = await made(client, metadata={"a": 1})

    def other(_: Cron) -> None:
        cron, revision = records.crons[shown["cron_id"]]
        payload = orjson.loads(orjson.dumps(cron["payload"])) | {"input": {"theirs": 1}}
        stored = cron | {"payload": orjson.Fragment(orjson.dumps(payload))}
        records.crons[shown["cron_id"]] = (stored | {"metadata": {"b": 2}}, revision + 1)

    runtime.before_saving.append(other)
    after = await changed(client, shown["cron_id"], metadata={"c": 3})
    assert after["metadata"] == {"b": 2, "c": 3}
    assert after["payload"]["input"] == {"theirs": 1}


async def test_a_cron_that_is_deleted_meanwhile_cannot_be_changed(client, runtime, records):
    shown = await made(client)
    runtime.before_saving.append(lambda _: records.crons.clear())
    answer = await client.patch(f"/runs/crons/{shown['cron_id']}", json={"enabled": False})
    assert answer.status_code == 404


async def test_the_server_says_that_it_has_crons(client):
    assert (await client.get("/info")).json()["flags"]["crons"] is True
