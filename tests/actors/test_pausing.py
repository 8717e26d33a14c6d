"""An attempt that is paused: it waits between two supersteps, steps, and goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.run.attempt import Attempt
from greenroom.core.pausing import Pause
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_attempt import Actor
from tests.actors.test_steering import Gates, around, given, over, told, values


async def waits(actor: Actor, count: int) -> None:
    await until(lambda: len(actor.waits) == count)


async def begun(gates: Gates, **changes: Any) -> tuple[Actor, Attempt, asyncio.Task[None]]:
    actor = around(gates.graph, **changes)
    attempt = actor.attempt(kwargs=given())
    life = asyncio.create_task(actor.run(attempt))
    await asyncio.wait_for(gates.begun.wait(), BOUND_S)
    return actor, attempt, life


async def heard(actor: Actor) -> None:
    """The attempt has asked what is wanted of it."""
    count = actor.happened.count("inputs")
    await until(lambda: actor.happened.count("inputs") > count)


async def paused(gates: Gates, **changes: Any) -> tuple[Actor, Attempt, asyncio.Task[None]]:
    """A run that waits after its first round."""
    actor, attempt, life = await begun(gates, **changes)
    actor.pause(attempt, Pause(name="p1"))
    await heard(actor)
    gates.may_end.release()
    await waits(actor, 1)
    return actor, attempt, life


async def test_a_pause_lets_the_superstep_end_and_tells_what_is_next() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    (waiting,) = actor.waits
    assert (waiting.name, waiting.next, waiting.step) == ("p1", ("round",), 1)
    assert gates.rounds == 1
    actor.pause(attempt, None)
    await asyncio.wait_for(gates.begun.wait(), BOUND_S)
    for _ in range(2):
        gates.may_end.release()
    await over(life)
    assert [report.status for report in actor.reports] == ["success"]
    assert values(actor)["seen"] == [0, 0, 0]
    assert gates.rounds == 3, "no superstep is executed twice"
    seen = [
        each["config"]["configurable"]["checkpoint_id"] for each in told(attempt, "checkpoints")
    ]
    assert len(seen) == len(set(seen)), "no checkpoint is shown twice"


async def test_a_step_executes_one_superstep_and_waits_again() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    for n in (2, 3):
        actor.pause(attempt, Pause(name=f"p{n}", target=actor.waits[-1].step + 1))
        gates.may_end.release()
        if n == 2:
            await waits(actor, 2)
            assert (actor.waits[-1].name, actor.waits[-1].step) == ("p2", 2)
            assert gates.rounds == 2
    await over(life)
    assert gates.rounds == 3
    assert len(actor.waits) == 2, "the last superstep is followed by the end"


async def test_what_is_said_to_a_paused_run_is_taken_when_it_goes_on() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    actor.say(attempt, update={"said": ["a"]})
    await heard(actor)
    assert not actor.takings
    for _ in range(2):
        gates.may_end.release()
    actor.pause(attempt, None)
    await over(life)
    assert values(actor)["seen"] == [0, 1, 1]
    assert len(actor.takings) == 1


async def test_a_step_that_takes_something_executes_a_superstep_as_well() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    actor.say(attempt, update={"said": ["a"]})
    await heard(actor)
    actor.pause(attempt, Pause(name="p2", target=2))
    gates.may_end.release()
    await waits(actor, 2)
    assert gates.rounds == 2
    assert actor.waits[-1].step == 3  # the input is a step of its own
    actor.pause(attempt, None)
    gates.may_end.release()
    await over(life)
    assert values(actor)["seen"] == [0, 1, 1]


async def test_a_paused_run_is_cancelled() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    attempt.cancel(True)
    await over(life)
    assert [report.status for report in actor.reports] == ["interrupted"]
    assert gates.rounds == 1


async def test_a_run_is_paused_before_its_first_superstep() -> None:
    gates = Gates()
    actor = around(gates.graph)
    attempt = actor.attempt(kwargs=given(), has_inputs=True)
    actor.wanted = Pause(name="p1")
    life = asyncio.create_task(actor.run(attempt))
    await waits(actor, 1)
    assert (actor.waits[0].next, actor.waits[0].step) == (("__start__",), None)
    assert gates.rounds == 0
    actor.pause(attempt, None)
    for _ in range(3):
        gates.may_end.release()
    await over(life)
    assert values(actor)["seen"] == [0, 0, 0]


async def test_a_drain_hands_a_paused_run_back_and_the_next_attempt_waits_again() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    attempt.drain()
    await over(life)
    assert [report.status for report in actor.reports] == ["pending"]
    second = actor.attempt(kwargs=given(), has_inputs=True, attempt=2, run_id=attempt.order.run_id)
    life = asyncio.create_task(actor.run(second))
    await waits(actor, 2)
    assert (actor.waits[-1].attempt, actor.waits[-1].next) == (2, ("round",))
    assert gates.rounds == 1
    actor.pause(second, None)
    for _ in range(2):
        gates.may_end.release()
    await over(life)
    assert values(actor)["seen"] == [0, 0, 0]


async def test_a_step_that_was_executed_before_a_death_is_not_executed_again() -> None:
    gates = Gates()
    actor, attempt, life = await paused(gates)
    attempt.drain()
    await over(life)
    # The superstep behind which it was to wait is saved; only the actor died before it said so.
    actor.wanted = Pause(name="p2", target=1)
    second = actor.attempt(kwargs=given(), has_inputs=True, attempt=2, run_id=attempt.order.run_id)
    life = asyncio.create_task(actor.run(second))
    await waits(actor, 2)
    assert gates.rounds == 1
    # And one that is not saved is executed.
    actor.pause(second, Pause(name="p3", target=2))
    gates.may_end.release()
    await waits(actor, 3)
    assert gates.rounds == 2
    second.cancel(True)
    await over(life)


async def test_the_time_out_of_a_graph_does_not_count_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gates = Gates()
    actor, attempt, life = await begun(gates, timeouts_s={"g": 0.3})
    actor.pause(attempt, Pause(name="p1"))
    await heard(actor)
    gates.may_end.release()
    await waits(actor, 1)
    # Longer than the time-out: two turns of what an attempt asks for while it waits.
    monkeypatch.setattr("greenroom.graphs.pausing.LOOK_S", 0.2)
    actor.pause(attempt, Pause(name="p1b"))
    await waits(actor, 2)
    for _ in range(2):
        await heard(actor)
    for _ in range(2):
        gates.may_end.release()
    actor.pause(attempt, None)
    await over(life)
    assert [report.status for report in actor.reports] == ["success"]


async def test_a_resume_whose_notice_was_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenroom.graphs.pausing.LOOK_S", 0.01)
    gates = Gates()
    actor, _, life = await paused(gates)
    actor.wanted = None  # nobody tells the attempt
    for _ in range(2):
        gates.may_end.release()
    await over(life)
    assert gates.rounds == 3
