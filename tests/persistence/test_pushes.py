"""Push notifications of A2A tasks in the database: told once for each end of a run of the task."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from greenroom.core.runs import RunStatus
from greenroom.core.scopes import SERVER
from greenroom.core.threads import ThreadStatus
from greenroom.http.parameters import new_id
from greenroom.persistence import journal, outbox, pushes
from greenroom.persistence.database import Pool
from greenroom.persistence.records import PostgresRecords
from tests.persistence.test_outbox import NOW, a_run, commit

CONTENT = {"url": "https://hooks.example.com/a", "version": "1.0"}


@pytest.fixture
def records(pool: Pool) -> PostgresRecords:
    return PostgresRecords(pool)


async def a_task(pool: Pool, thread_id: str = "t", task_id: str | None = None) -> tuple[str, str]:
    """The ids of a task and of its new run."""
    # First, as for each A2A context: a thread takes over the metadata of the run that creates it.
    await PostgresRecords(pool).create_thread(
        thread_id, metadata={}, if_exists="do_nothing", ttl=None, scope=SERVER
    )
    run_id = new_id()
    task_id = task_id or run_id
    metadata = json.dumps({"a2a": {"task_id": task_id, "message_id": "m"}}).encode()
    await a_run(pool, thread_id, run_id=run_id, metadata=metadata, webhook=None)
    return task_id, run_id


async def end(
    pool: Pool,
    run_id: str,
    status: RunStatus = RunStatus.SUCCESS,
    interrupts: bytes = b"{}",
    thread_id: str = "t",
) -> None:
    await commit(
        pool,
        journal.end_run(run_id, status, None),
        journal.rest_thread(thread_id, ThreadStatus.IDLE, interrupts, None),
        pushes.announce(run_id),
    )


async def told(pool: Pool) -> list[Any]:
    """What is to be told, in its order."""
    found: list[Any] = []
    for due in await outbox.due(pool, 100):
        delivery = await outbox.find(pool, due.run_id)
        assert delivery is not None
        found.append(orjson.loads(delivery.body(NOW)))
    return found


async def test_each_end_of_a_tasks_run_is_told_once(pool: Pool, records: PostgresRecords) -> None:
    task_id, run_id = await a_task(pool)
    for config_id in ("c1", "c2"):
        assert await records.put_push(task_id, "t", config_id, CONTENT, tells=False)
    for _ in range(2):  # the journal may commit twice
        await end(pool, run_id, interrupts=b'{"x": [{"id": "i1"}]}')
    first, second = await told(pool)
    assert first == second
    assert (first["task"]["id"], first["task"]["contextId"]) == (task_id, "t")
    assert first["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    await records.delete_push(task_id, "c2")
    _, answer = await a_task(pool, task_id=task_id)
    await end(pool, answer)
    states = [each["task"]["status"]["state"] for each in await told(pool)]
    assert sorted(states) == ["TASK_STATE_COMPLETED", *["TASK_STATE_INPUT_REQUIRED"] * 2]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (RunStatus.SUCCESS, "completed"),
        (RunStatus.ERROR, "failed"),
        (RunStatus.TIMEOUT, "failed"),
        (RunStatus.INTERRUPTED, "canceled"),
    ],
)
async def test_a_task_is_told_in_the_words_of_its_version(pool, records, status, state) -> None:
    task_id, run_id = await a_task(pool)
    await records.put_push(task_id, "t", "c", {**CONTENT, "version": "0.3"}, tells=False)
    await end(pool, run_id, status)
    (found,) = await told(pool)
    assert (found["kind"], found["id"], found["status"]["state"]) == ("task", task_id, state)


async def test_a_configuration_that_comes_after_the_end_is_told_if_it_began_the_task(
    pool: Pool, records: PostgresRecords
) -> None:
    task_id, run_id = await a_task(pool)
    await end(pool, run_id)
    assert await records.put_push(task_id, "t", "late", CONTENT, tells=False)
    assert await told(pool) == []
    assert await records.put_push(task_id, "t", "own", CONTENT, tells=True)
    assert await records.put_push(task_id, "t", "own", CONTENT, tells=True)
    assert len(await told(pool)) == 1


async def test_runs_that_are_no_task_tell_nobody(pool: Pool, records: PostgresRecords) -> None:
    task_id, _ = await a_task(pool)
    await records.put_push(task_id, "t", "c", CONTENT, tells=False)
    forged = [
        {"a2a": {"task_id": "x"}},
        {"a2a": 1},
        {},
    ]
    for metadata in forged:
        run_id = await a_run(pool, "t", metadata=json.dumps(metadata).encode(), webhook=None)
        await end(pool, run_id)
    # Nor does a run of another thread that names the task.
    _, run_id = await a_task(pool, "other", task_id)
    await end(pool, run_id, thread_id="other")
    assert await told(pool) == []


async def test_a_configuration_goes_with_its_task(pool: Pool, records: PostgresRecords) -> None:
    assert not await records.put_push(new_id(), "t", "c", CONTENT, tells=False)
    task_id, run_id = await a_task(pool)
    await records.put_push(task_id, "t", "c", CONTENT, tells=False)
    assert await records.list_pushes(task_id) == [{**CONTENT, "id": "c"}]
    await commit(pool, *journal.delete_run(run_id))
    assert await records.list_pushes(task_id) == []


async def test_what_was_told_is_told_again_with_its_credentials(
    pool: Pool, records: PostgresRecords
) -> None:
    task_id, run_id = await a_task(pool)
    secret = {**CONTENT, "token": "mine", "scheme": "Basic", "credentials": "s"}
    await records.put_push(task_id, "t", "c", secret, tells=False)
    await end(pool, run_id)
    (due,) = await outbox.due(pool, 10)
    delivery = await outbox.find(pool, due.run_id)
    assert delivery is not None
    wanted = {"x-a2a-notification-token": "mine", "authorization": "Basic s"}
    assert delivery.headers({"x-of-webhooks": "1"}) == wanted
    await outbox.finish(pool, due.run_id, sent_at=NOW, said="200", delivered=True)
    assert await outbox.find(pool, due.run_id) is None
    assert await outbox.send_again(pool, due.run_id)
    again = await outbox.find(pool, due.run_id)
    assert again is not None
    assert again.headers({}) == wanted
