"""What a registry does with pauses: stored before they are acknowledged, and kept over deaths."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from greenroom.core.errors import Conflict, NotFound
from greenroom.core.pausing import Pause, PauseAction, PauseRequest, Waiting
from greenroom.core.scopes import SERVER
from greenroom.core.timeline import timeline
from greenroom.persistence.records import PostgresRecords
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_registry import (
    Theatre,
    make,  # noqa: F401 - fixtures
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments


def request(run_id: str, action: PauseAction, **changes: Any) -> PauseRequest:
    given = {"thread_id": "t", "name": uuid.uuid4().hex, "run_id": run_id, "action": action}
    return PauseRequest(**(given | changes))


async def asked(theatre: Theatre, wanted: PauseRequest) -> Pause | Exception | None:
    async with asyncio.timeout(BOUND_S):
        while True:
            (answer,) = await theatre.registry.pause_many([wanted])
            if answer is not None:  # else it is still being stored
                return answer if isinstance(answer, Exception) else answer.pause


async def want(theatre: Theatre, run_id: str, action: PauseAction) -> Pause | None:
    answer = await asked(theatre, request(run_id, action))
    if isinstance(answer, Exception):
        raise answer
    return answer


async def waits(theatre: Theatre, run_id: str, pause: Pause, step: int = 1) -> None:
    """The actor tells that the run waits."""
    run = theatre.registry.run(run_id)
    await theatre.registry.note_waiting(
        Waiting(run_id=run_id, attempt=run.attempt, name=pause.name, next=("act",), step=step)
    )


async def record(theatre: Theatre, run_id: str) -> Any:
    return await PostgresRecords(theatre.pool).get_run("t", run_id, scope=SERVER)


async def paused(theatre: Theatre) -> tuple[str, Pause]:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    pause = await want(theatre, run.run_id, "pause")
    assert pause is not None
    await waits(theatre, run.run_id, pause)
    return run.run_id, pause


async def test_a_pause_is_stored_and_the_actor_is_told(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    assert "paused" not in await record(theatre, run.run_id)
    pause = await want(theatre, run.run_id, "pause")
    assert pause is not None
    assert (await record(theatre, run.run_id))["paused"] == {"since": None, "next": []}
    await until(lambda: actor.heard == [(run.run_id, 1)])
    await waits(theatre, run.run_id, pause)
    found = await record(theatre, run.run_id)
    assert found["status"] == "running"
    assert found["paused"]["next"] == ["act"]
    assert found["paused"]["since"] >= found["created_at"]
    assert await want(theatre, run.run_id, "pause") == theatre.registry.run(run.run_id).pause
    assert await want(theatre, run.run_id, "resume") is None
    assert "paused" not in await record(theatre, run.run_id)
    await theatre.finish(run.run_id)
    life = await PostgresRecords(theatre.pool).stored_life("t", run.run_id, scope=SERVER)
    assert life is not None
    assert [each[0] for each in life.history] == ["start", "paused", "resumed", "end"]
    assert [e["name"] for e in timeline(life)["spans"] if e["kind"] == "paused"] == ["act"]
    await theatre.nothing_is_left()


async def test_a_step_says_behind_which_superstep_the_run_waits_again(theatre: Theatre) -> None:
    run_id, _ = await paused(theatre)
    wanted = request(run_id, "step")
    step = await asked(theatre, wanted)
    assert isinstance(step, Pause)
    assert (step.target, step.since) == (2, None)
    assert await asked(theatre, wanted) == step, "a repeated request is the same step"
    early = await asked(theatre, request(run_id, "step"))
    assert isinstance(early, Conflict)
    assert "paused.since" in early.message
    await waits(theatre, run_id, step, 2)
    again = await want(theatre, run_id, "step")
    assert again is not None
    assert again.target == 3


async def test_a_run_that_is_not_paused_or_over_or_not_there_is_refused(theatre: Theatre) -> None:
    run = await theatre.create()
    for action in ("step", "resume"):
        refused = await asked(theatre, request(run.run_id, action))  # type: ignore[arg-type]
        assert isinstance(refused, Conflict)
        assert "Pause it first" in refused.message
    elsewhere = await asked(theatre, request(run.run_id, "pause", thread_id="other"))
    assert isinstance(elsewhere, NotFound)
    await theatre.finish(run.run_id)
    over = await asked(theatre, request(run.run_id, "pause"))
    assert isinstance(over, Conflict)
    assert "over (status: success)" in over.message
    assert isinstance(await asked(theatre, request(str(uuid.uuid4()), "pause")), NotFound)


async def test_a_run_comes_back_paused_after_the_death_of_its_actor(theatre: Theatre) -> None:
    run_id, pause = await paused(theatre)
    since = (await record(theatre, run_id))["paused"]["since"]
    theatre.cluster.die((await theatre.executed(run_id)).name)
    await until(lambda: theatre.registry.run(run_id).attempt == 2)
    actor = await theatre.executed(run_id)
    assert actor.orders[-1].has_inputs, "the attempt asks what is wanted"
    assert theatre.registry.run(run_id).pause is not None
    await waits(theatre, run_id, pause)
    found = await record(theatre, run_id)
    assert found["paused"]["since"] == since
    life = await PostgresRecords(theatre.pool).stored_life("t", run_id, scope=SERVER)
    assert life is not None
    kinds = [each[0] for each in life.history]
    assert kinds == ["start", "paused", "lost", "start", "paused"]


async def test_another_registry_knows_what_is_wanted_and_tells_the_actor(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    wanted = request(run.run_id, "pause")
    pause = await asked(theatre, wanted)
    told = len(actor.heard)
    await theatre.restart()
    await until(lambda: len(actor.heard) > told)
    assert await asked(theatre, wanted) == pause
    assert isinstance(pause, Pause)
    await waits(theatre, run.run_id, pause)
    await theatre.restart()
    resume = request(run.run_id, "resume")
    assert await asked(theatre, resume) is None
    await theatre.restart()
    assert await asked(theatre, resume) is None, "a repetition is not refused"
    await theatre.finish(run.run_id)
    await theatre.restart()
    assert await asked(theatre, resume) is None
    await theatre.nothing_is_left()


async def test_a_paused_run_is_cancelled_and_a_late_word_of_its_pause_is_ignored(
    theatre: Theatre,
) -> None:
    run_id, pause = await paused(theatre)
    assert await theatre.cancel(run_id) is None
    refused = await asked(theatre, request(run_id, "step"))
    assert isinstance(refused, Conflict)
    await theatre.finish(run_id)
    await waits_late(theatre, run_id, pause)
    assert "paused" not in await record(theatre, run_id)
    await theatre.nothing_is_left()


async def waits_late(theatre: Theatre, run_id: str, pause: Pause) -> None:
    await theatre.registry.note_waiting(
        Waiting(run_id=run_id, attempt=1, name=pause.name, next=("act",), step=1)
    )


async def test_a_pending_run_is_paused_before_it_begins(theatre: Theatre) -> None:
    first = await theatre.create()
    second = await theatre.create()
    pause = await want(theatre, second.run_id, "pause")
    assert pause is not None
    await theatre.finish(first.run_id)
    actor = await theatre.executed(second.run_id)
    assert actor.orders[-1].has_inputs
    run = theatre.registry.run(second.run_id)
    await until(lambda: run.life.is_executed)
    await theatre.registry.note_waiting(
        Waiting(run_id=run.run_id, attempt=1, name=pause.name, next=("__start__",), step=None)
    )
    step = await want(theatre, second.run_id, "step")
    assert step is not None
    assert step.target == -1
    await theatre.finish(second.run_id)
    await theatre.nothing_is_left()
