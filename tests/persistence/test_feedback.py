"""Feedback in the database: it is stored once, bounded, and goes with its run."""

from __future__ import annotations

import asyncio

import pytest

from greenroom.core.errors import Conflict
from greenroom.http.parameters import new_id
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import delete_run, delete_thread
from greenroom.persistence.records import PostgresRecords, feedback

RUN = new_id()


@pytest.fixture
async def records(pool: Pool) -> PostgresRecords:
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO greenroom.threads (thread_id) VALUES ('t')")
        await conn.execute(
            "INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, kwargs,"
            " multitask_strategy) VALUES (%s, 't', %s, 'g', 'success', '{}', 'reject')",
            [RUN, new_id()],
        )
    return PostgresRecords(pool)


async def listed(records: PostgresRecords, limit: int = 10, offset: int = 0) -> list[str]:
    found = await records.list_feedback(RUN, limit=limit, offset=offset)
    return [each["key"] for each in found]


async def test_feedback_is_stored_once_by_its_id(records: PostgresRecords) -> None:
    feedback_id = new_id()
    content = {"score": 1.0, "value": {"a": [1]}}
    made = await asyncio.gather(
        *(records.add_feedback(RUN, feedback_id, "k", content) for _ in range(5))
    )
    assert len({str(each) for each in made}) == 1
    (found,) = await records.list_feedback(RUN, limit=10, offset=0)
    assert found == made[0]
    assert (found["score"], found["value"], found["comment"]) == (1.0, {"a": [1]}, None)


async def test_feedback_is_listed_in_its_order(records: PostgresRecords) -> None:
    for key in "abc":
        await records.add_feedback(RUN, new_id(), key, {"score": 1})
    assert await listed(records) == ["a", "b", "c"]
    assert await listed(records, 1, 1) == ["b"]


async def test_feedback_needs_its_run_and_has_a_bound(records, monkeypatch) -> None:
    assert await records.add_feedback(new_id(), new_id(), "k", {"score": 1}) is None
    assert await records.add_feedback("x", new_id(), "k", {"score": 1}) is None
    monkeypatch.setattr(
        feedback, "_ADD", feedback._ADD.replace(f"OFFSET {feedback.MOST - 1}", "OFFSET 1")
    )
    for _ in range(2):
        await records.add_feedback(RUN, new_id(), "k", {"score": 1})
    with pytest.raises(Conflict, match="gets no more"):
        await records.add_feedback(RUN, new_id(), "k", {"score": 1})


@pytest.mark.parametrize("what", ["run", "thread"])
async def test_feedback_goes_with_its_run(records: PostgresRecords, pool: Pool, what: str) -> None:
    await records.add_feedback(RUN, new_id(), "k", {"score": 1})
    writes = delete_run(RUN) if what == "run" else (delete_thread("t"),)
    async with pool.connection() as conn:
        for write in writes:
            await conn.execute(write.sql, write.params)  # type: ignore[arg-type]
    assert await listed(records) == []
