"""The outbox of webhooks, expiry, and what a finished run leaves, on a real PostgreSQL."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from greenroom.core.runs import RunRequest, RunStatus
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.searches import (
    DeliveryFilter,
)
from greenroom.core.threads import ThreadStatus
from greenroom.persistence import journal, outbox, upkeep
from greenroom.persistence import values as thread_values
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Write
from greenroom.persistence.records import PostgresRecords
from tests.run_records import request_of

NOW = datetime(2026, 11, 22, 7, 11, 8, 273271, tzinfo=UTC)
URL = "https://user:secret@Hooks.example.com:8443/a?b=c"
STOPPED = "{} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel"


def a_request(thread_id: str, **more: Any) -> RunRequest:
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": thread_id,
        "assistant_id": str(uuid.uuid4()),
        "graph_id": "g",
        "kwargs": b'{"z": 1, "a": {"b": null}}',
        "metadata": b'{"m": 1}',
        "multitask_strategy": "enqueue",
        "create_thread": True,
        "webhook": URL,
    }
    return request_of(**(given | more))


async def commit(pool: Pool, *writes: Write) -> list[Any]:
    """What the registry's journal does with a group, and the rows of each."""
    found = []
    async with pool.connection() as conn, conn.transaction():
        for write in writes:
            cursor = await conn.execute(write.sql.encode(), write.params)
            found.append(await cursor.fetchall() if cursor.description else [])
    return found


async def a_run(pool: Pool, thread_id: str, *, actor: str | None = "a", **more: Any) -> str:
    request = a_request(thread_id, **more)
    await commit(pool, journal.admit(request, actor=actor))
    return request.run_id


async def end(
    pool: Pool, run_id: str, status: RunStatus = RunStatus.SUCCESS, error: bytes | None = None
) -> None:
    await commit(pool, journal.end_run(run_id, status, error), outbox.announce(run_id))


async def store_values(pool: Pool, thread_id: str, values: str) -> None:
    await thread_values.store_values(pool, thread_id, values.encode())


async def body_of(pool: Pool, run_id: str) -> dict[str, Any]:
    delivery = await outbox.find(pool, run_id)
    assert delivery is not None
    return json.loads(delivery.body(NOW))


async def change(pool: Pool, sql: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(sql.encode())


# --- what a delivery says -------------------------------------------------------------------------


async def test_a_delivery_is_the_run_with_what_became_of_it(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await store_values(pool, "t", '{"count": 3, "log": ["one"]}')
    await end(pool, run_id)
    body = await body_of(pool, run_id)
    assert list(body) == [
        "run_id",
        "thread_id",
        "assistant_id",
        "metadata",
        "status",
        "kwargs",
        "multitask_strategy",
        "created_at",
        "updated_at",
        "langsmith_session_name",
        "assistant_version",
        "run_started_at",
        "run_ended_at",
        "webhook_sent_at",
        "values",
    ]
    assert (body["run_id"], body["thread_id"], body["status"]) == (run_id, "t", "success")
    assert (body["metadata"], body["values"]) == ({"m": 1}, {"count": 3, "log": ["one"]})
    assert body["created_at"] <= body["run_started_at"] <= body["run_ended_at"]
    assert body["webhook_sent_at"] == "2026-11-22T07:11:08.273271+00:00"


VALUES = '{"b": 1.50, "secret": {"x": [1]}, "a": null}'


@pytest.mark.parametrize(
    ("keys", "values", "shown"),
    [
        (None, VALUES, {"b": 1.5, "secret": {"x": [1]}, "a": None}),
        (b'["a", "b", "never"]', VALUES, {"b": 1.5, "a": None}),
        (b"[]", VALUES, {}),
        (b'"b"', VALUES, 1.5),
        (b'"never"', VALUES, None),
        (b'["a"]', "[1]", [1]),
        (b'["a"]', None, None),
    ],
)
async def test_a_delivery_has_what_the_output_schema_shows(
    pool: Pool, keys: bytes | None, values: str | None, shown: Any
) -> None:
    run_id = await a_run(pool, "t")
    if values is not None:
        await store_values(pool, "t", values)
    await commit(
        pool,
        journal.end_run(run_id, RunStatus.SUCCESS, None, keys),
        outbox.announce(run_id),
    )
    assert (await body_of(pool, run_id))["values"] == shown


async def test_a_delivery_holds_the_kwargs_byte_for_byte(pool: Pool) -> None:
    run_id = await a_run(pool, "t", kwargs=b'{"z": 1.50, "a": {"b": null}}')
    await end(pool, run_id)
    delivery = await outbox.find(pool, run_id)
    assert delivery is not None
    assert b'"kwargs":{"z": 1.50, "a": {"b": null}}' in delivery.body(NOW)


async def test_a_failed_run_says_why(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id, RunStatus.ERROR, b'{"error": "ValueError", "message": "boom: x=1"}')
    body = await body_of(pool, run_id)
    assert body["status"] == "error"
    assert body["error"] == {"error": "ValueError", "message": "boom: x=1"}


@pytest.mark.parametrize("actor", ["a", None])
async def test_a_stopped_run_says_who_stopped_it(pool: Pool, actor: str | None) -> None:
    run_id = await a_run(pool, "t", actor=actor)
    await end(pool, run_id, RunStatus.INTERRUPTED)
    body = await body_of(pool, run_id)
    assert body["status"] == "interrupted"
    assert body["error"] == {"error": "UserInterrupt", "message": STOPPED.format("interrupt")}
    assert (body["run_started_at"] is None) == (actor is None)


async def test_a_run_that_is_rolled_back_is_announced_before_it_goes(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await commit(pool, outbox.announce(run_id, rolled_back=True), *journal.delete_run(run_id))
    body = await body_of(pool, run_id)
    assert body["status"] == "interrupted"
    assert body["error"] == {"error": "UserRollback", "message": STOPPED.format("rollback")}
    assert body["run_ended_at"] > body["run_started_at"]


async def test_the_values_of_a_temporary_thread_are_not_told(pool: Pool) -> None:
    run_id = await a_run(pool, "t", temporary=True)
    await store_values(pool, "t", "{}")
    await end(pool, run_id)
    await commit(pool, journal.delete_thread("t"))
    assert (await body_of(pool, run_id))["values"] is None


async def test_the_next_run_does_not_change_the_delivery_about_the_last_one(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await store_values(pool, "t", '{"count": 1}')
    await end(pool, run_id)
    await store_values(pool, "t", '{"count": 2}')
    assert (await body_of(pool, run_id))["values"] == {"count": 1}


async def test_a_run_without_a_webhook_has_no_delivery(pool: Pool) -> None:
    await end(pool, await a_run(pool, "t", webhook=None))
    assert await outbox.due(pool, 10) == []


async def test_an_end_that_is_committed_twice_is_announced_once(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id)
    await end(pool, run_id)
    assert [each.run_id for each in await outbox.due(pool, 10)] == [run_id]
    await outbox.finish(pool, run_id, sent_at=NOW, said="200", delivered=True)
    await commit(pool, outbox.announce(run_id))
    assert await outbox.due(pool, 10) == []


async def test_a_second_attempt_keeps_the_time_of_the_first(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    started = "SELECT greatest(started_at, created_at) AS s FROM greenroom.runs"
    ((first,),) = [[row["s"] for row in rows] for rows in await commit(pool, Write(started, {}))]
    await commit(pool, journal.requeue(run_id, 1, "died"), journal.start(run_id, 2, "b"))
    await end(pool, run_id)
    assert (await body_of(pool, run_id))["run_started_at"] == first.isoformat(
        timespec="microseconds"
    )


# --- what is due --------------------------------------------------------------------------------


async def test_a_delivery_is_due_until_it_is_finished(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id)
    assert await outbox.due(pool, 10) == [
        outbox.Due(run_id=run_id, receiver="hooks.example.com:8443")
    ]
    assert (await outbox.next_due_s(pool) or 0) <= 0
    await outbox.finish(pool, run_id, sent_at=NOW, said="200", delivered=True)
    assert await outbox.due(pool, 10) == []
    assert await outbox.next_due_s(pool) is None
    assert await outbox.find(pool, run_id) is None


async def test_a_postponed_delivery_is_due_later_and_stays_the_same(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id)
    first = await outbox.find(pool, run_id)
    assert first is not None
    await outbox.postpone(pool, run_id, sent_at=NOW, delay_s=60, said="500")
    assert await outbox.due(pool, 10) == []
    assert 50 < (await outbox.next_due_s(pool) or 0) <= 60
    again = await outbox.find(pool, run_id)
    assert again is not None
    assert again.attempts == 1
    assert again.body(datetime.now(UTC)) == first.body(NOW)


async def test_deliveries_and_receivers_can_be_passed_over(pool: Pool) -> None:
    first, second = [await a_run(pool, "t", webhook=f"https://{n}.org/") for n in "ab"]
    await end(pool, first)
    await end(pool, second)
    assert [each.run_id for each in await outbox.due(pool, 10)] == [first, second]
    assert [each.run_id for each in await outbox.due(pool, 1)] == [first]
    assert [each.run_id for each in await outbox.due(pool, 10, but=[first])] == [second]
    assert [each.run_id for each in await outbox.due(pool, 10, not_to=["a.org"])] == [second]
    assert await outbox.next_due_s(pool, but=[first], not_to=["b.org"]) is None


async def test_finished_deliveries_are_kept_for_a_while(pool: Pool) -> None:
    settled, waiting = await a_run(pool, "t"), await a_run(pool, "u")
    await store_values(pool, "t", '{"a": 1}')
    await end(pool, settled)
    await end(pool, waiting)
    await outbox.finish(pool, settled, sent_at=NOW, said="200", delivered=True)
    ((row,),) = await commit(
        pool,
        Write(
            'SELECT kwargs::text AS k, "values"::text AS v, said, attempts'
            " FROM greenroom.webhooks WHERE settled_at IS NOT NULL",
            {},
        ),
    )
    assert row == {"k": '{"z": 1, "a": {"b": null}}', "v": '{"a": 1}', "said": "200", "attempts": 1}
    assert await outbox.delete_finished(pool, 3600) == 0
    assert await outbox.delete_finished(pool, 0) == 1
    assert [each.run_id for each in await outbox.due(pool, 10)] == [waiting]


# --- when threads expire ------------------------------------------------------------------------


async def a_thread(pool: Pool, thread_id: str, minutes: float | None = None) -> dict[str, Any]:
    ttl = {"ttl": minutes} if minutes else None
    return await PostgresRecords(pool).create_thread(
        thread_id, metadata={}, if_exists="raise", ttl=ttl, scope=SERVER
    )


async def age(pool: Pool, seconds: float) -> None:
    """Makes every thread's last change older."""
    await change(
        pool,
        f"UPDATE greenroom.threads SET updated_at = updated_at - make_interval(secs => {seconds})",
    )


async def test_a_thread_expires_when_it_was_left_alone_for_its_time_to_live(pool: Pool) -> None:
    await a_thread(pool, "t", 1)
    await a_thread(pool, "u", 10)
    await a_thread(pool, "v")
    await age(pool, 59)
    assert await upkeep.expired_threads(pool, None, limit=10) == []
    await age(pool, 2)
    assert await upkeep.expired_threads(pool, None, limit=10) == [("t", "delete")]
    assert await upkeep.is_expired(pool, "t", None)
    assert not await upkeep.is_expired(pool, "u", None)
    assert not await upkeep.is_expired(pool, "nobody", 1)


async def test_threads_without_one_have_the_servers_time_to_live(pool: Pool) -> None:
    await a_thread(pool, "t", 10)
    await a_thread(pool, "u")
    await a_thread(pool, "v")
    await age(pool, 61)
    expired = await upkeep.expired_threads(pool, 60, limit=10)
    assert sorted(thread_id for thread_id, _ in expired) == ["u", "v"]
    assert len(await upkeep.expired_threads(pool, 60, limit=1)) == 1
    assert await upkeep.is_expired(pool, "u", 60)
    assert not await upkeep.is_expired(pool, "t", 60)


@pytest.mark.parametrize("use", ["run", "patch", "state"])
async def test_whoever_uses_a_thread_refreshes_its_time_to_live(pool: Pool, use: str) -> None:
    await a_thread(pool, "t", 1)
    await age(pool, 100)
    assert await upkeep.is_expired(pool, "t", None)
    match use:
        case "run":
            run_id = await a_run(pool, "t")
            await age(pool, 100)
            assert await upkeep.expired_threads(pool, None, limit=10) == []  # it is busy
            rest = journal.rest_thread("t", ThreadStatus.IDLE, None, None)
            await commit(pool, journal.end_run(run_id, RunStatus.SUCCESS, None), rest)
        case "patch":
            await PostgresRecords(pool).patch_thread("t", metadata={"a": 1}, ttl=None, scope=SERVER)
        case _:
            await store_values(pool, "t", "{}")
    assert not await upkeep.is_expired(pool, "t", None)
    assert await upkeep.expired_threads(pool, None, limit=10) == []


async def test_a_thread_tells_its_time_to_live(pool: Pool) -> None:
    made = await a_thread(pool, "t", 5)
    assert made["ttl"] | {"expires_at": ""} == {
        "strategy": "delete",
        "ttl_minutes": 5.0,
        "expires_at": "",
    }
    lives = datetime.fromisoformat(made["ttl"]["expires_at"]) - datetime.fromisoformat(
        made["updated_at"]
    )
    assert lives.total_seconds() == 300
    assert "ttl" not in await a_thread(pool, "u")
    patched = await PostgresRecords(pool).patch_thread(
        "u", metadata=None, ttl={"ttl": 0.5}, scope=SERVER
    )
    assert patched is not None
    assert patched["ttl"]["ttl_minutes"] == 0.5


async def test_error_and_interrupts_are_told_once_the_first_run_has_ended(pool: Pool) -> None:
    records = PostgresRecords(pool)
    run_id = await a_run(pool, "t")
    running = await records.get_thread("t", scope=SERVER)
    assert running is not None
    assert running["status"] == "busy"
    assert {"error", "interrupts"} & set(running) == set()
    rest = journal.rest_thread("t", ThreadStatus.IDLE, b"{}", None)
    await commit(pool, journal.end_run(run_id, RunStatus.SUCCESS, None), rest)
    await a_run(pool, "t")
    assert {"error", "interrupts"} <= set(await records.get_thread("t", scope=SERVER) or {})


# --- what can be looked at, and sent again ------------------------------------------------------


async def test_a_finished_delivery_is_sent_again_as_it_was(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await store_values(pool, "t", '{"a": 1}')
    await end(pool, run_id)
    first = await outbox.find(pool, run_id)
    assert first is not None
    await outbox.finish(pool, run_id, sent_at=NOW, said="500", delivered=False)
    await store_values(pool, "t", '{"a": 2}')
    assert await outbox.send_again(pool, run_id)
    again = await outbox.find(pool, run_id)
    assert again is not None
    assert (again.attempts, again.sent_at) == (0, NOW)
    assert again.body(datetime.now(UTC)) == first.body(NOW)
    assert [each.run_id for each in await outbox.due(pool, 10)] == [run_id]


async def test_a_delivery_that_waits_is_due_at_once(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id)
    await outbox.postpone(pool, run_id, sent_at=NOW, delay_s=60, said="500")
    assert await outbox.send_again(pool, run_id)
    assert [each.run_id for each in await outbox.due(pool, 10)] == [run_id]


async def test_what_an_older_server_has_emptied_is_not_sent_again(pool: Pool) -> None:
    run_id = await a_run(pool, "t")
    await end(pool, run_id)
    await outbox.finish(pool, run_id, sent_at=NOW, said="200", delivered=True)
    await change(pool, "UPDATE greenroom.webhooks SET delivered = NULL, kwargs = '{}'")
    assert await outbox.send_again(pool, run_id) is False
    assert await outbox.send_again(pool, str(uuid.uuid4())) is None
    assert await outbox.due(pool, 10) == []


async def test_deliveries_are_listed_by_their_end_and_status(pool: Pool) -> None:
    records = PostgresRecords(pool)
    runs = [await a_run(pool, thread) for thread in ("t", "t", "u")]
    for run_id in runs:
        await end(pool, run_id)
    await outbox.finish(pool, runs[0], sent_at=NOW, said="200", delivered=True)
    await outbox.finish(pool, runs[1], sent_at=NOW, said="404", delivered=False)

    async def listed(limit: int = 10, offset: int = 0, **where: Any) -> list[str]:
        page = await records.list_deliveries(
            DeliveryFilter(**where), limit=limit, offset=offset, scope=SERVER
        )
        return [each["delivery_id"] for each in page.items]

    assert await listed() == runs[::-1]
    assert await listed(1, 1) == [runs[1]]
    assert await listed(thread_id="t") == [runs[1], runs[0]]
    assert await listed(status="pending") == [runs[2]]
    assert await listed(status="failed") == [runs[1]]
    assert await listed(status="delivered", thread_id="t") == [runs[0]]
    page = await records.list_deliveries(DeliveryFilter(), limit=2, offset=0, scope=SERVER)
    assert page.has_more
    one = await records.get_delivery(runs[1], scope=SERVER)
    assert one == page.items[1]
    assert (one["status"], one["run_status"], one["answer"]) == ("failed", "success", "404")
    assert (one["attempts"], one["receiver"]) == (1, "hooks.example.com:8443")
    assert one["next_attempt_at"] is None
    assert "secret" not in json.dumps(page.items)
    assert await records.get_delivery(str(uuid.uuid4()), scope=SERVER) is None


async def test_deliveries_are_those_of_a_scope_also_when_their_thread_is_gone(pool: Pool) -> None:
    """A deleted thread's id may become somebody else's thread; its deliveries do not."""
    records = PostgresRecords(pool)

    async def of(owner: str, thread_id: str, **more: Any) -> str:
        run_id = await a_run(pool, thread_id, metadata=f'{{"owner": "{owner}"}}'.encode(), **more)
        await end(pool, run_id)
        return run_id

    async def seen(owner: str, **where: Any) -> list[str]:
        scope = Scope.of_filter({"owner": owner})
        page = await records.list_deliveries(
            DeliveryFilter(**where), limit=10, offset=0, scope=scope
        )
        for each in page.items:
            assert await records.get_delivery(each["delivery_id"], scope=scope) == each
        return [each["delivery_id"] for each in page.items]

    kept, deleted = await of("ada", "kept"), await of("ada", "deleted")
    stateless = await of("ada", "stateless", temporary=True)
    await change(pool, "DELETE FROM greenroom.threads WHERE thread_id IN ('deleted', 'stateless')")
    others = await of("bob", "deleted")
    assert await seen("ada") == [stateless, deleted, kept]
    assert await seen("bob") == [others]
    assert await seen("bob", thread_id="deleted") == [others]
    for run_id in (kept, deleted, stateless):
        assert await records.get_delivery(run_id, scope=Scope.of_filter({"owner": "bob"})) is None
    # A thread that has another owner by now takes its deliveries along.
    await change(pool, 'UPDATE greenroom.threads SET metadata = \'{"owner": "bob"}\'')
    assert await seen("bob") == [others, kept]
    assert await seen("ada", metadata={"owner": "bob"}) == []
    assert await seen("ada", metadata={"owner": "ada"}) == [stateless, deleted]
