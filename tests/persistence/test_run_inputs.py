"""Inputs of runs in the database: numbered, noted with a checkpoint, shown to clients."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from langgraph.checkpoint.base import empty_checkpoint

from greenroom.core.errors import Fenced
from greenroom.core.inputs import TAKEN, InputStatus, NewInput, Taking
from greenroom.core.scopes import SERVER, Scope
from greenroom.persistence import journal, run_inputs
from greenroom.persistence.database import Pool
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.records import PostgresRecords
from greenroom.persistence.saving import Saving
from greenroom.sealing import Sealing
from greenroom.sealing.runs import sealed_run
from tests.persistence.test_checkpoints import a_run, at, take_over
from tests.persistence.test_run_metadata import commit
from tests.persistence.test_sealed import SEALING, SECRET


def new(run_id: str, said: Any = None, sealing: Sealing | None = None, **more: Any) -> NewInput:
    content = {"input": said or {"x": 1}, "command": None}
    if sealing is not None:
        content = sealed_run(sealing, content)
    given = {
        "input_id": str(uuid.uuid4()),
        "thread_id": "t",
        "run_id": run_id,
        "content": orjson.dumps(content),
    }
    return NewInput(**(given | more))


def taking(said: NewInput, number: int = 1, **more: Any) -> Taking:
    return Taking(input_id=said.input_id, number=number, at_ms=1_000, attempt=1, **more)


async def say(pool: Pool, said: NewInput) -> tuple[Any, ...]:
    ((for_run, number, status, _),) = await commit(pool, journal.say(said))
    return for_run, number, status


async def statuses(pool: Pool, run_id: str) -> list[str]:
    found = await PostgresRecords(pool).list_inputs("t", run_id, scope=SERVER)
    assert found is not None
    return [each["status"] for each in found]


async def test_inputs_are_numbered_and_said_once(pool: Pool) -> None:
    run_id = await a_run(pool)
    first, second = new(run_id), new(run_id)
    assert await say(pool, first) == (run_id, 1, "waiting")
    assert await say(pool, second) == (run_id, 2, "waiting")
    assert await say(pool, first) == (run_id, 1, "waiting")
    assert await commit(pool, journal.say(new(run_id, thread_id="other"))) == []
    found = await run_inputs.inputs_for(pool, run_id)
    assert [(each.number, each.update) for each in found.waiting] == [(1, {"x": 1}), (2, {"x": 1})]


async def test_the_checkpoint_and_the_note_are_one_transaction(pool: Pool) -> None:
    run_id = await a_run(pool)
    said = new(run_id)
    await say(pool, said)
    where: Any = at("t")
    where["configurable"][TAKEN] = [taking(said, step=3, checkpoint_id="c")]
    await take_over(pool, run_id)
    early, late = (FencedSaver(pool, run_id=run_id, attempt=n) for n in (1, 2))
    with pytest.raises(Fenced):
        await early.aput(where, empty_checkpoint(), {"source": "update", "step": 3}, {})
    assert await statuses(pool, run_id) == ["waiting"]
    await late.aput(where, empty_checkpoint(), {"source": "update", "step": 3}, {})
    assert await statuses(pool, run_id) == ["taken"]
    (shown,) = await PostgresRecords(pool).list_inputs("t", run_id, scope=SERVER) or []
    assert shown["taken"] == {
        "at": "1970-01-01T00:00:01.000000+00:00",
        "run_id": run_id,
        "attempt": 1,
        "step": 3,
        "checkpoint_id": "c",
    }
    found = await run_inputs.inputs_for(pool, run_id)
    assert (found.waiting, found.taken) == ([], [taking(said, step=3, checkpoint_id="c")])


async def test_what_the_state_refused_is_noted_with_the_reason(pool: Pool) -> None:
    run_id = await a_run(pool)
    said = new(run_id)
    await say(pool, said)
    await run_inputs.note(Saving(pool), (run_id, 1), taking(said, reason="no"))
    (shown,) = await PostgresRecords(pool).list_inputs("t", run_id, scope=SERVER) or []
    assert (shown["status"], shown["reason"], shown["taken"]) == ("refused", "no", None)


async def test_what_is_handed_on_goes_to_a_run_that_is_there(pool: Pool) -> None:
    run_id, follower = await a_run(pool), await a_run(pool)
    first, second = new(run_id), new(run_id)
    await say(pool, first)
    await say(pool, second)
    nobody = str(uuid.uuid4())
    hand_on = journal.hand_on_inputs(run_id, nobody, first.input_id, InputStatus.STARTED)
    await commit_only(pool, hand_on)
    assert await statuses(pool, run_id) == ["waiting", "waiting"]
    hand_on = journal.hand_on_inputs(run_id, follower, first.input_id, InputStatus.STARTED)
    await commit_only(pool, hand_on)
    assert await statuses(pool, run_id) == ["started", "waiting"]
    assert await statuses(pool, follower) == ["started", "waiting"]
    found = await run_inputs.inputs_for(pool, follower)
    assert [each.input_id for each in found.waiting] == [second.input_id]
    assert (await run_inputs.inputs_for(pool, run_id)).waiting == []


async def test_inputs_go_with_their_run_and_are_in_the_scope_of_its_thread(pool: Pool) -> None:
    run_id = await a_run(pool)
    await say(pool, new(run_id))
    records = PostgresRecords(pool)
    assert await records.list_inputs("other", run_id, scope=SERVER) is None
    mine = Scope.of_filter({"owner": "alice"})
    assert await records.list_inputs("t", run_id, scope=mine) is None
    for write in journal.delete_run(run_id):
        await commit_only(pool, write)
    assert await records.list_inputs("t", run_id, scope=SERVER) is None
    assert await commit(pool, journal.waiting_inputs(run_id)) == []


async def test_what_is_said_is_stored_sealed(pool: Pool) -> None:
    run_id = await a_run(pool)
    await say(pool, new(run_id, {"name": SECRET}, SEALING))
    ((_, _, _, content),) = await commit(pool, journal.waiting_inputs(run_id))
    assert SECRET not in content
    found = await run_inputs.inputs_for(pool, run_id, SEALING)
    assert [each.update for each in found.waiting] == [{"name": SECRET}]
    shown = await PostgresRecords(pool, sealing=SEALING).list_inputs("t", run_id, scope=SERVER)
    assert shown is not None
    assert [each["input"] for each in shown] == [{"name": SECRET}]


async def commit_only(pool: Pool, write: Any) -> None:
    async with pool.connection() as connection:
        await connection.execute(write.sql.encode(), write.params)
