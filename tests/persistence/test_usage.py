"""What gateways tell each other of their callers, and whose runs are counted."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom.core.limits import RunsOfCaller
from greenroom.core.runs import RunStatus
from greenroom.http.parameters import new_id
from greenroom.persistence import journal
from greenroom.persistence.database import Pool, rows_of
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.upkeep import delete_old_usage
from tests.persistence.test_run_metadata import asked, commit

OLDEST = {"requests": 9}


@pytest.fixture
def records(pool: Pool) -> PostgresRecords:
    return PostgresRecords(pool)


async def age(pool: Pool, time: str) -> None:
    sql = f"UPDATE greenroom.caller_usage SET at = at - interval '{time}' RETURNING 1 AS n"
    await rows_of(pool, sql, {})


async def test_a_gateway_hears_the_sums_of_the_others(records: PostgresRecords) -> None:
    async def share(gateway: str, own: dict[tuple[str, str, int], int]) -> Any:
        return await records.share_usage(gateway, own, oldest=OLDEST)

    assert await share("g1", {("requests", "a", 10): 3, ("streams", "a", 0): 1}) == {}
    assert await share("g2", {("requests", "a", 10): 4, ("requests", "b", 9): 1}) == {
        ("requests", "a", 10): 3,
        ("streams", "a", 0): 1,
    }
    # It tells all that it has counted; an earlier period than the last one does not count.
    assert await share("g1", {("requests", "a", 10): 5, ("requests", "a", 8): 7}) == {
        ("requests", "a", 10): 4,
        ("requests", "b", 9): 1,
    }
    assert await share("g3", {}) == {("requests", "a", 10): 9, ("requests", "b", 9): 1}
    # What it does not limit it does not hear.
    assert await records.share_usage("g3", {}, oldest={}) == {}


async def test_open_answers_of_a_gateway_that_says_nothing_any_more_do_not_count(
    records: PostgresRecords, pool: Pool
) -> None:
    await records.share_usage("g1", {("streams", "a", 0): 2}, oldest={})
    assert await records.share_usage("g2", {}, oldest={}) == {("streams", "a", 0): 2}
    await rows_of(
        pool, "UPDATE greenroom.caller_usage SET at = at - interval '1 m' RETURNING 1", {}
    )
    assert await records.share_usage("g2", {}, oldest={}) == {}


async def test_old_counts_are_swept(records: PostgresRecords, pool: Pool) -> None:
    await records.share_usage("g1", {("requests", "a", 10): 3}, oldest=OLDEST)
    assert await delete_old_usage(pool) == 0
    await rows_of(
        pool, "UPDATE greenroom.caller_usage SET at = at - interval '3 d' RETURNING 1", {}
    )
    assert await delete_old_usage(pool) == 1


async def test_runs_of_a_caller_count_until_they_are_over(
    records: PostgresRecords, pool: Pool
) -> None:
    requests = [asked(thread_id=new_id(), caller=caller) for caller in ("a", "a", "b", None)]
    for number, request in enumerate(requests):
        await commit(pool, journal.admit(request, actor=None if number else "actor"))
    first, second, *_ = [each.run_id for each in requests]
    assert await records.runs_of_caller("a", without=set()) == RunsOfCaller(2, 1)
    assert await records.runs_of_caller("a", without={second}) == RunsOfCaller(1, 0)
    assert await records.runs_of_caller("b", without=set()) == RunsOfCaller(1, 1)
    assert await records.runs_of_caller("c", without=set()) == RunsOfCaller(0, 0)
    end = journal.end_run(first, RunStatus.SUCCESS, None)
    await rows_of(pool, f"{end.sql} RETURNING run_id", end.params)
    assert await records.runs_of_caller("a", without=set()) == RunsOfCaller(1, 1)
