"""Crons: creating, changing, finding and deleting them, and what they fire (section 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.conformance.talking import UNKNOWN, Talk, ok, refused, uuid
from tests.conformance.test_assistants import id_of
from tests.waiting import until

YEARLY = "0 4 1 1 *"
"""Not due while the tests run."""
EACH_SECOND = "* * * * * *"


class Crons:
    """Creates crons, and deletes them after the scenario."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._made: list[str] = []

    async def new(self, thread_id: str | None = None, **body: Any) -> dict[str, Any]:
        where = f"/threads/{thread_id}/runs/crons" if thread_id else "/runs/crons"
        given = {"assistant_id": "counter", "schedule": YEARLY, **body}
        return ok(await self.asked(where, given))

    async def asked(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A creation that may be refused."""
        answer = await self._talk.post(path, body)
        if answer.status_code == 200:
            self._made.append(answer.json()["cron_id"])
        return answer

    async def get(self, cron: dict[str, Any]) -> dict[str, Any]:
        return ok(await self._talk.get(f"/runs/crons/{cron['cron_id']}"))

    async def change(self, cron: dict[str, Any], **body: Any) -> dict[str, Any]:
        path = f"/runs/crons/{cron['cron_id']}"
        return ok(await self._talk.call("PATCH", path, json=body))

    async def leave(self) -> None:
        for cron_id in self._made:
            await self._talk.delete(f"/runs/crons/{cron_id}")


@pytest.fixture
async def crons(talk: Talk) -> AsyncIterator[Crons]:
    crons = Crons(talk)
    yield crons
    await crons.leave()


async def test_a_new_cron_shows_its_body_and_its_next_date(crons: Crons) -> None:
    cron = await crons.new(input={"count": 0}, metadata={"m": 1}, on_run_completed="keep")
    assert cron["assistant_id"] == id_of("counter")
    assert (cron["thread_id"], cron["user_id"], cron["end_time"]) == (None, "", None)
    assert (cron["schedule"], cron["timezone"], cron["enabled"]) == (YEARLY, None, True)
    assert (cron["metadata"], cron["on_run_completed"]) == ({"m": 1}, "keep")
    assert cron["payload"] == {
        "assistant_id": id_of("counter"),
        "schedule": YEARLY,
        "input": {"count": 0},
        "metadata": {"m": 1},
        "on_run_completed": "keep",
        "config": {"configurable": {"cron_id": cron["cron_id"]}},
    }
    due = datetime.fromisoformat(cron["next_run_date"])
    assert (due.month, due.day, due.hour) == (1, 1, 4)
    assert due > datetime.now(UTC)
    assert await crons.get(cron) == cron


async def test_a_thread_is_deleted_after_the_run_by_default(crons: Crons, thread_id: str) -> None:
    assert (await crons.new())["on_run_completed"] == "delete"
    assert (await crons.new(thread_id))["on_run_completed"] is None


@pytest.mark.parametrize(
    ("schedule", "date"),
    [
        ("0 4 1 jan *", "-01-01T04:00:00+00:00"),
        ("0 4 29 2 *", "-02-29T04:00:00+00:00"),
        ("  5   4 1  1 * ", "-01-01T04:05:00+00:00"),
        ("@yearly", "-01-01T00:00:00+00:00"),
        ("0 4 1 1 * 30", "-01-01T04:00:30+00:00"),
        ("0 4 L 12 *", "-12-31T04:00:00+00:00"),
    ],
)
async def test_a_schedule_may_be_written_in_many_ways(
    crons: Crons, schedule: str, date: str
) -> None:
    cron = await crons.new(schedule=schedule)
    assert (cron["schedule"], cron["next_run_date"][4:]) == (schedule, date)


async def test_a_schedule_is_in_its_time_zone_and_the_date_in_utc(crons: Crons) -> None:
    cron = await crons.new(schedule="30 2 1 1 *", timezone="Europe/Paris")
    assert cron["timezone"] == "Europe/Paris"
    assert cron["next_run_date"].endswith("-01-01T01:30:00+00:00")


@pytest.mark.parametrize("schedule", ["bogus", "61 * * * *", "@reboot", "H * * * *", ""])
async def test_what_is_no_schedule_is_refused(talk: Talk, schedule: str) -> None:
    body = {"assistant_id": "counter", "schedule": schedule}
    assert refused(await talk.post("/runs/crons", body), 422) == (
        f"Invalid cron schedule: '{schedule}'. Reason: Invalid cron schedule. Ensure the schedule "
        "uses the standard cron format (minute hour day_of_month month day_of_week). Example: "
        "'*/5 * * * *' for every 5 minutes."
    )


async def test_a_schedule_that_is_never_due_is_refused(talk: Talk) -> None:
    body = {"assistant_id": "counter", "schedule": "0 0 31 2 *"}
    detail = refused(await talk.post("/runs/crons", body), 400)
    assert detail.startswith("failed to find next date")


async def test_what_is_no_time_zone_is_refused(talk: Talk) -> None:
    body = {"assistant_id": "counter", "schedule": YEARLY, "timezone": "bogus/zone"}
    assert refused(await talk.post("/runs/crons", body), 422) == (
        "Invalid timezone: 'bogus/zone'. Use IANA timezone format (e.g. 'America/New_York')."
    )


async def test_a_cron_needs_an_assistant_and_a_thread_that_exist(talk: Talk) -> None:
    body = {"assistant_id": "nope", "schedule": YEARLY}
    assert refused(await talk.post("/runs/crons", body), 404) == "Assistant 'nope' not found"
    detail = refused(
        await talk.post(f"/threads/{UNKNOWN}/runs/crons", body | {"assistant_id": "counter"}), 404
    )
    assert detail.startswith(f"Thread with ID '{UNKNOWN}' not found.")


@pytest.mark.parametrize(
    "body",
    [
        {"stream_mode": "bogus"},
        {"durability": "bogus"},
        {"on_run_completed": "bogus"},
        {"enabled": "perhaps"},
        {"webhook": "http://127.0.0.1:1/hook", "durability": 5},
    ],
)
async def test_wrong_options_are_refused_when_the_cron_is_made(
    talk: Talk, body: dict[str, Any]
) -> None:
    given = {"assistant_id": "counter", "schedule": YEARLY, **body}
    refused(await talk.post("/runs/crons", given), 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"multitask_strategy": "bogus"}, 422),
        ({"end_time": "tomorrow"}, 422),
        ({"config": {"configurable": {"a": 1}}, "context": {"a": 1}}, 400),
        ({"on_completion": "keep"}, 422),
    ],
)
async def test_what_could_not_fire_is_refused_when_the_cron_is_made(
    crons: Crons, body: dict[str, Any], status: int
) -> None:
    given = {"assistant_id": "counter", "schedule": YEARLY, **body}
    refused(await crons.asked("/runs/crons", given), status)


@pytest.mark.parametrize("missing", ["schedule", "assistant_id"])
async def test_a_body_without_schedule_or_assistant_is_refused(talk: Talk, missing: str) -> None:
    body = {"assistant_id": "counter", "schedule": YEARLY}
    del body[missing]
    assert missing in refused(await talk.post("/runs/crons", body), 422)


async def test_a_deleted_cron_is_not_found(talk: Talk, crons: Crons) -> None:
    path = f"/runs/crons/{(await crons.new())['cron_id']}"
    assert (await talk.delete(path)).status_code == 204
    assert refused(await talk.delete(path), 404) == "Not Found"
    assert refused(await talk.get(path), 404) == "Not Found"
    assert "not found" in refused(await talk.call("PATCH", path, json={"enabled": False}), 404)


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_a_cron_id_is_a_uuid(talk: Talk, method: str) -> None:
    detail = refused(await talk.call(method, "/runs/crons/nope", json={"enabled": False}), 422)
    assert detail == "Invalid cron ID: must be a UUID"


async def test_a_change_replaces_what_it_names(crons: Crons) -> None:
    cron = await crons.new(input={"count": 0}, metadata={"a": 1}, config={"tags": ["t"]})
    after = await crons.change(
        cron, input={"count": 5}, metadata={"b": 2}, config={"recursion_limit": 7}, enabled=False
    )
    assert (after["metadata"], after["enabled"]) == ({"a": 1, "b": 2}, False)
    payload = after["payload"]
    assert (payload["input"], payload["enabled"]) == ({"count": 5}, False)
    assert payload["config"] == {
        "recursion_limit": 7,
        "configurable": {"cron_id": cron["cron_id"]},
    }
    assert after["next_run_date"] == cron["next_run_date"]
    assert after["updated_at"] > cron["updated_at"]
    assert await crons.get(cron) == after


async def test_changed_metadata_reach_the_runs_whole(crons: Crons) -> None:
    cron = await crons.new(metadata={"a": 1})
    after = await crons.change(cron, metadata={"b": 2})
    assert after["payload"]["metadata"] == after["metadata"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("body", "date"),
    [
        ({"schedule": "0 5 1 1 *"}, "-01-01T05:00:00+00:00"),
        ({"timezone": "Europe/Paris"}, "-01-01T03:00:00+00:00"),
    ],
)
async def test_another_schedule_or_time_zone_gives_another_date(
    crons: Crons, body: dict[str, Any], date: str
) -> None:
    after = await crons.change(await crons.new(), **body)
    assert after["next_run_date"].endswith(date)


async def test_an_end_is_set_and_cleared(crons: Crons) -> None:
    cron = await crons.new(end_time="2090-01-01T00:00:00+00:00")
    assert cron["end_time"] == "2090-01-01T00:00:00+00:00"
    assert (await crons.change(cron, enabled=True))["end_time"] == cron["end_time"]
    assert (await crons.change(cron, end_time=None))["end_time"] is None


async def test_an_empty_change_is_refused(talk: Talk, crons: Crons) -> None:
    path = f"/runs/crons/{(await crons.new())['cron_id']}"
    assert refused(await talk.call("PATCH", path, json={}), 400) == "Request body cannot be empty"


async def test_crons_are_found_and_counted(talk: Talk, crons: Crons, thread_id: str) -> None:
    mark = uuid()
    first = await crons.new(thread_id, metadata={"mark": mark, "n": {"m": 1}})
    second = await crons.new(metadata={"mark": mark}, enabled=False)
    third = await crons.new(metadata={"mark": mark}, assistant_id="agent", schedule="0 3 1 1 *")

    async def found(**body: Any) -> list[str]:
        where = {"metadata": {"mark": mark}, **body}
        return [cron["cron_id"] for cron in ok(await talk.post("/runs/crons/search", where))]

    ids = [cron["cron_id"] for cron in (first, second, third)]
    assert await found() == ids[::-1]
    assert await found(sort_by="created_at", sort_order="asc") == ids
    assert (await found(sort_by="next_run_date", sort_order="asc"))[0] == third["cron_id"]
    assert await found(thread_id=thread_id) == [first["cron_id"]]
    assert await found(assistant_id=id_of("agent")) == [third["cron_id"]]
    assert await found(enabled=False) == [second["cron_id"]]
    assert await found(metadata={"mark": mark, "n": {"m": 1}}) == [first["cron_id"]]
    assert await found(limit=1, offset=1) == [second["cron_id"]]
    where = {"metadata": {"mark": mark}}
    assert ok(await talk.post("/runs/crons/count", where)) == 3
    assert ok(await talk.post("/runs/crons/count", where | {"thread_id": thread_id})) == 1
    answer = await talk.post("/runs/crons/search", where | {"limit": 2, "select": ["cron_id"]})
    assert [list(cron) for cron in ok(answer)] == [["cron_id"], ["cron_id"]]
    assert answer.headers["x-pagination-next"] == "2"
    assert answer.headers["x-pagination-total"] == "3"


async def test_a_count_may_be_of_those_that_fire(talk: Talk, crons: Crons) -> None:
    mark = {"mark": uuid()}
    await crons.new(metadata=mark)
    await crons.new(metadata=mark, enabled=False)
    body = {"metadata": mark, "enabled": True}
    assert ok(await talk.post("/runs/crons/count", body)) == 1


@pytest.mark.parametrize(
    "body", [{"limit": 0}, {"limit": 1001}, {"sort_by": "bogus"}, {"select": ["bogus"]}]
)
async def test_a_search_that_cannot_mean_anything_is_refused(
    talk: Talk, body: dict[str, Any]
) -> None:
    refused(await talk.post("/runs/crons/search", body), 422)


async def test_a_cron_goes_with_its_thread(talk: Talk, crons: Crons, thread_id: str) -> None:
    cron = await crons.new(thread_id)
    assert (await talk.delete(f"/threads/{thread_id}")).status_code == 204
    refused(await talk.get(f"/runs/crons/{cron['cron_id']}"), 404)


async def test_a_cron_makes_runs_on_its_thread(talk: Talk, crons: Crons, thread_id: str) -> None:
    cron = await crons.new(thread_id, schedule=EACH_SECOND, input={"count": 0}, metadata={"m": 1})

    async def fired() -> dict[str, Any] | None:
        runs = ok(await talk.get(f"/threads/{thread_id}/runs"))
        return runs[-1] if runs else None

    run = await until(fired)
    await crons.change(cron, enabled=False)
    assert run["metadata"]["created_by"] == "system"
    assert (run["metadata"]["m"], run["multitask_strategy"]) == (1, "enqueue")
    kwargs = run["kwargs"]
    assert kwargs["config"]["configurable"]["cron_id"] == cron["cron_id"]
    assert kwargs["context"]["cron_id"] == cron["cron_id"]
    assert await talk.ended(thread_id, run["run_id"]) == "success"
    await talk.settled(thread_id)


async def test_a_kept_thread_has_the_crons_metadata(talk: Talk, crons: Crons) -> None:
    mark = {"mark": uuid()}
    cron = await crons.new(
        schedule=EACH_SECOND, input={"count": 0}, metadata=mark, on_run_completed="keep"
    )

    async def kept() -> list[dict[str, Any]] | None:
        return ok(await talk.post("/threads/search", {"metadata": mark})) or None

    found = await until(kept)
    await crons.change(cron, enabled=False)
    thread = await talk.settled(found[-1]["thread_id"])
    assert (thread["status"], thread["values"]["count"]) == ("idle", 3)
    assert thread["metadata"]["graph_id"] == "counter"
    for thread in ok(await talk.post("/threads/search", {"metadata": mark})):
        await talk.delete(f"/threads/{thread['thread_id']}")


async def test_a_cron_that_is_enabled_again_waits_for_its_next_date(
    talk: Talk, crons: Crons, thread_id: str
) -> None:
    cron = await crons.new(thread_id, schedule=EACH_SECOND, enabled=False, input={"count": 0})

    async def passed() -> bool | None:
        return datetime.now(UTC) > datetime.fromisoformat(cron["next_run_date"]) or None

    await until(passed)
    after = await crons.change(cron, enabled=True)
    await crons.change(cron, enabled=False)
    assert after["next_run_date"] > after["updated_at"]
