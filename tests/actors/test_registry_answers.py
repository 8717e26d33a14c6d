"""Runs that answer interrupts, at a registry: of two answers to one interrupt it admits one.

Both were sent by gateways that have seen the interrupt; how long ago does not matter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from greenroom.core.answering import NOTHING, Answers, PendingInterrupts
from greenroom.core.errors import NotAwaited
from greenroom.core.runs import CreatedRun, RunRequest, RunStatus
from greenroom.core.scopes import SERVER, Equals, Scope
from greenroom.persistence.records import PostgresRecords
from tests.actors.test_registry import (
    Theatre,
    make,  # noqa: F401 - fixtures
    request,
    strict,  # noqa: F401
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments


def asking(*ids: str) -> bytes:
    return json.dumps({f"task-{each}": [{"id": each, "value": "?"}] for each in ids}).encode()


async def pending(theatre: Theatre) -> PendingInterrupts:
    found = await PostgresRecords(theatre.pool).pending_interrupts("t", scope=SERVER)
    assert found is not None
    return found


def answering(seen: PendingInterrupts, *ids: str, **changes: Any) -> RunRequest:
    answers = Answers(ids=ids, mark=seen.mark)
    return dataclasses.replace(request(**changes), answers=answers)


async def asks(theatre: Theatre, *ids: str) -> PendingInterrupts:
    """A thread whose first run has stopped to ask."""
    first = await theatre.create()
    await theatre.finish(first.run_id, interrupts=asking(*ids))
    return await pending(theatre)


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_second_answer_to_an_interrupt_is_refused(
    theatre: Theatre, restarts: bool
) -> None:
    """While the first one waits for its end, and after it; also by the next registry."""
    seen = await asks(theatre, "i1")
    assert [*seen.values] == ["i1"]
    first, second = answering(seen, "i1"), answering(seen, "i1")
    answers = await asyncio.gather(theatre.ask(first), theatre.ask(second))
    assert [type(each) for each in answers] == [CreatedRun, NotAwaited]
    if restarts:
        await theatre.restart()
        assert isinstance(await theatre.ask(first), CreatedRun), "a repetition is no second answer"
    assert isinstance(await theatre.ask(answering(seen, "i1")), NotAwaited)
    await theatre.finish(first.run_id)
    assert isinstance(await theatre.ask(answering(seen, "i1")), NotAwaited)
    assert (await pending(theatre)).values == {}
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


async def test_answers_to_two_interrupts_wait_for_each_other(theatre: Theatre) -> None:
    seen = await asks(theatre, "i1", "i2")
    first, other = answering(seen, "i1"), answering(seen, "i2")
    assert isinstance(await theatre.ask(first), CreatedRun)
    assert isinstance(await theatre.ask(other), CreatedRun)
    await theatre.finish(first.run_id, interrupts=asking("i2"))
    await theatre.finish(other.run_id)
    await theatre.nothing_is_left()


async def test_an_interrupt_is_answered_again_if_the_run_that_answered_it_was_cancelled(
    theatre: Theatre,
) -> None:
    seen = await asks(theatre, "i1")
    first = answering(seen, "i1")
    await theatre.ask(first)
    await theatre.cancel(first.run_id)
    await theatre.finish(first.run_id, RunStatus.INTERRUPTED, interrupts=asking("i1"))
    again = answering(await pending(theatre), "i1")
    assert isinstance(await theatre.ask(again), CreatedRun)
    await theatre.finish(again.run_id)
    await theatre.nothing_is_left()


async def test_an_answer_to_a_thread_whose_run_answers_nothing_is_refused(
    theatre: Theatre,
) -> None:
    """The run goes over the interrupt. One that is delayed does not yet."""
    seen = await asks(theatre, "i1")
    later = await theatre.create(after_s=3600.0)
    over = await theatre.create()
    await theatre.executed(over.run_id)
    assert isinstance(await theatre.ask(answering(seen, "i1")), NotAwaited)
    await theatre.finish(over.run_id, interrupts=asking("i1"))
    answer = answering(await pending(theatre), "i1")
    assert isinstance(await theatre.ask(answer), CreatedRun)
    await theatre.finish(answer.run_id)
    await theatre.cancel(later.run_id)
    await theatre.nothing_is_left()


async def test_an_input_is_refused_only_where_it_would_be_an_answer(theatre: Theatre) -> None:
    asked = dataclasses.replace(request(), answers=NOTHING)
    assert isinstance(await theatre.ask(asked), CreatedRun), "the thread does not exist yet"
    await theatre.finish(asked.run_id, interrupts=asking("i1"))
    again = dataclasses.replace(request(), answers=NOTHING)
    assert isinstance(await theatre.ask(again), NotAwaited)
    assert await theatre.thread() == "interrupted"
    await theatre.nothing_is_left()


async def test_a_stranger_sees_no_interrupts(theatre: Theatre) -> None:
    await asks(theatre, "i1")
    records = PostgresRecords(theatre.pool)
    stranger = Scope(Equals("owner", '"nobody"'))
    assert await records.pending_interrupts("t", scope=stranger) is None
    await theatre.nothing_is_left()
