"""What a registry does with inputs of runs: stored, told to actors, and handed on at the end."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from greenroom.core.errors import Conflict, InvalidRequest, NotFound
from greenroom.core.inputs import (
    IfOver,
    Injection,
    NewInput,
    SaidInput,
    injected_id,
    next_run_id,
)
from greenroom.core.runs import RunStatus
from tests.actors.doubles import BOUND_S, until
from tests.actors.test_registry import (
    Theatre,
    make,  # noqa: F401 - fixtures
    request,
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments

KWARGS = json.dumps(
    {
        "input": {"x": 1},
        "command": None,
        "config": {"configurable": {"thread_id": "t", "run_id": "r", "checkpoint_id": "c"}},
        "stream_mode": ["values"],
        "strict_resume": True,
    }
).encode()


def new(run_id: str, if_over: IfOver = "reject", **changes: Any) -> NewInput:
    content = json.dumps({"input": changes.pop("input", {"said": 1}), "command": None}).encode()
    given: dict[str, Any] = {
        "input_id": str(uuid.uuid4()),
        "thread_id": "t",
        "run_id": run_id,
        "content": content,
        "if_over": if_over,
    }
    return NewInput(**(given | changes))


async def answer(theatre: Theatre, said: NewInput) -> SaidInput | Exception:
    async with asyncio.timeout(BOUND_S):
        while True:
            (result,) = await theatre.registry.say_many([said])
            if result is not None:  # else it is still being stored
                return result


async def say(theatre: Theatre, run_id: str, if_over: IfOver = "reject", **more: Any) -> SaidInput:
    result = await answer(theatre, new(run_id, if_over, **more))
    assert isinstance(result, SaidInput), result
    return result


async def inputs(theatre: Theatre) -> list[Any]:
    return await theatre.rows(
        "SELECT input_id::text, for_run::text, status FROM greenroom.run_inputs ORDER BY position"
    )


async def kwargs_of(theatre: Theatre, run_id: str) -> Any:
    rows = await theatre.rows("SELECT kwargs::text FROM greenroom.runs WHERE run_id = %s", run_id)
    return json.loads(rows[0][0])


async def test_what_is_said_is_stored_and_the_actor_is_told(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    first = await say(theatre, run.run_id)
    second = await say(theatre, run.run_id)
    assert (first.number, second.number) == (1, 2)
    assert (first.run_id, first.status) == (run.run_id, "waiting")
    await until(lambda: actor.heard == [(run.run_id, 1)] * 2)
    assert [row[0] for row in await inputs(theatre)] == [first.input_id, second.input_id]


async def test_an_input_that_is_said_again_is_the_same(theatre: Theatre) -> None:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    said = new(run.run_id)
    first = await answer(theatre, said)
    assert await answer(theatre, said) == first
    await theatre.restart()
    assert await answer(theatre, said) == first
    assert len(await inputs(theatre)) == 1


async def test_a_notice_that_is_lost_is_given_again(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    theatre.cluster.lose("hear", 2, executed=False)
    await say(theatre, run.run_id)
    await until(lambda: actor.heard)


async def test_a_run_that_waits_is_ordered_with_what_was_said(theatre: Theatre) -> None:
    first = await theatre.create()
    waiting = await theatre.create()
    await theatre.executed(first.run_id)
    await say(theatre, waiting.run_id)
    await theatre.finish(first.run_id)
    actor = await theatre.executed(waiting.run_id)
    (order,) = [order for order in actor.orders if order.run_id == waiting.run_id]
    assert order.has_inputs


async def test_the_next_attempt_is_ordered_with_what_was_said(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await say(theatre, run.run_id)
    theatre.cluster.die(actor.name)
    await until(lambda: theatre.cluster.executing(run.run_id))
    again = await theatre.executed(run.run_id)
    assert [(order.attempt, order.has_inputs) for order in again.orders] == [(2, True)]


async def test_a_run_that_is_over_refuses_unless_its_sender_wants_otherwise(
    theatre: Theatre,
) -> None:
    run = await theatre.create(kwargs=KWARGS)
    await theatre.finish(run.run_id)
    refused = await answer(theatre, new(run.run_id))
    assert isinstance(refused, Conflict)
    assert "success" in refused.message
    dropped = await say(theatre, run.run_id, "drop")
    assert (dropped.run_id, dropped.status) == (run.run_id, "dropped")
    started = await say(theatre, run.run_id, "enqueue", input={"x": 2})
    assert started.status == "started"
    assert started.run_id == next_run_id(started.input_id, "t")
    kwargs = await kwargs_of(theatre, started.run_id)
    assert kwargs["input"] == {"x": 2}
    assert kwargs["config"]["configurable"] == {"thread_id": "t", "run_id": started.run_id}
    assert "strict_resume" not in kwargs
    assert await theatre.finish(started.run_id)
    await theatre.nothing_is_left()


@pytest.mark.parametrize("if_over", ["reject", "enqueue", "drop"])
async def test_a_run_that_is_not_there_takes_nothing(theatre: Theatre, if_over: IfOver) -> None:
    run = await theatre.create("other")
    for missing in (new(str(uuid.uuid4()), if_over), new(run.run_id, if_over)):
        assert isinstance(await answer(theatre, missing), NotFound)


async def test_what_nobody_took_starts_the_next_run(theatre: Theatre) -> None:
    await theatre.rows("INSERT INTO greenroom.threads (thread_id) VALUES ('t') RETURNING 1")
    metadata = json.dumps({"a2a": {"task_id": "t"}, "cron_missed": 1, "team": "blue"}).encode()
    run = await theatre.create(kwargs=KWARGS, webhook="http://x.test", metadata=metadata)
    await theatre.executed(run.run_id)
    first = await say(theatre, run.run_id, input={"x": 2})
    second = await say(theatre, run.run_id, "drop")
    third = await say(theatre, run.run_id, input={"x": 3})
    assert await theatre.finish(run.run_id)
    follower = next_run_id(first.input_id, "t")
    assert await theatre.thread() == "busy"
    actor = await theatre.executed(follower)
    assert [order.has_inputs for order in actor.orders if order.run_id == follower] == [True]
    assert await inputs(theatre) == [
        (first.input_id, follower, "started"),
        (second.input_id, run.run_id, "dropped"),
        (third.input_id, follower, "waiting"),
    ]
    assert (await kwargs_of(theatre, follower))["input"] == {"x": 2}
    of_run = "SELECT metadata, webhook FROM greenroom.runs WHERE run_id = %s"
    assert await theatre.rows(of_run, follower) == [({"team": "blue"}, "http://x.test")]
    assert await theatre.finish(follower)
    last = next_run_id(third.input_id, "t")
    assert (await kwargs_of(theatre, last))["input"] == {"x": 3}
    assert await theatre.finish(last)
    await theatre.nothing_is_left()


async def test_an_update_in_the_name_of_a_node_is_taken_by_the_next_run_itself(
    theatre: Theatre,
) -> None:
    run = await theatre.create(kwargs=KWARGS)
    await theatre.executed(run.run_id)
    said = await say(theatre, run.run_id, as_node="node")
    await theatre.finish(run.run_id)
    follower = next_run_id(said.input_id, "t")
    assert (await kwargs_of(theatre, follower))["input"] is None
    assert await inputs(theatre) == [(said.input_id, follower, "waiting")]
    rows = await theatre.rows("SELECT resumes FROM greenroom.runs WHERE run_id = %s", follower)
    assert rows == [(True,)]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_cancelled_run_hands_on_only_what_is_to_be_enqueued(
    theatre: Theatre, action: Any
) -> None:
    run = await theatre.create(kwargs=KWARGS)
    actor = await theatre.executed(run.run_id)
    await say(theatre, run.run_id)
    kept = await say(theatre, run.run_id, "enqueue")
    await theatre.cancel(run.run_id, action)
    refused = await answer(theatre, new(run.run_id))
    assert isinstance(refused, Conflict)
    attempt = actor.current.pop(run.run_id)
    await theatre.report(actor, run.run_id, attempt, RunStatus.INTERRUPTED)
    follower = next_run_id(kept.input_id, "t")
    await theatre.executed(follower)
    left = [row for row in await inputs(theatre) if row[2] == "started"]
    assert left == [(kept.input_id, follower, "started")]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_run_that_is_dropped_while_it_waits_hands_on_as_well(
    theatre: Theatre, strategy: Any
) -> None:
    active = await theatre.create(kwargs=KWARGS)
    waiting = await theatre.create(kwargs=KWARGS)
    kept = await say(theatre, waiting.run_id, "enqueue")
    newer = await theatre.create(strategy=strategy, kwargs=KWARGS)
    actor = await theatre.executed(active.run_id)
    attempt = actor.current.pop(active.run_id)
    await theatre.report(actor, active.run_id, attempt, RunStatus.INTERRUPTED)
    assert await theatre.finish(newer.run_id)
    assert await theatre.finish(next_run_id(kept.input_id, "t"))
    await theatre.nothing_is_left()


async def test_a_stateless_run_takes_along_what_it_has_not_taken(theatre: Theatre) -> None:
    run = await theatre.create(temporary=True)
    await theatre.executed(run.run_id)
    await say(theatre, run.run_id)
    assert await theatre.finish(run.run_id)
    await theatre.nothing_is_left()
    assert [row[2] for row in await inputs(theatre)] == ["dropped"]


# --- restarts -------------------------------------------------------------------------------------


async def test_a_new_registry_tells_the_actor_again(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    gate = theatre.cluster.delay("hear")
    await say(theatre, run.run_id)
    actor.heard.clear()
    await theatre.restart()
    await until(lambda: actor.heard == [(run.run_id, 1)])
    gate.set()


async def test_what_a_registry_could_not_hand_on_the_next_one_does(theatre: Theatre) -> None:
    run = await theatre.create(kwargs=KWARGS)
    await theatre.executed(run.run_id)
    said = await say(theatre, run.run_id)
    theatre.registry.readiness.now.admissions.end(relieved=False)  # type: ignore[union-attr]
    await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    assert [row[2] for row in await inputs(theatre)] == ["waiting"]
    await theatre.restart()
    follower = next_run_id(said.input_id, "t")
    assert await theatre.finish(follower)
    await theatre.nothing_is_left()


# --- the strategy inject --------------------------------------------------------------------------


def injecting(**changes: Any) -> Any:
    asked = request("t", "inject", kwargs=KWARGS, **changes)
    return asked


def with_injection(refusal: str | None = None, **changes: Any) -> Any:
    run_id = str(uuid.uuid4())
    content = json.dumps({"input": {"x": 2}, "command": None}).encode()
    injection = Injection(input_id=injected_id(run_id), content=content, refusal=refusal)
    return injecting(run_id=run_id, injection=injection, **changes)


async def test_without_an_active_run_inject_is_an_ordinary_run(theatre: Theatre) -> None:
    asked = with_injection()
    run = await theatre.ask(asked)
    assert not isinstance(run, Exception)
    assert (run.run_id, run.injected) == (asked.run_id, None)
    assert await theatre.finish(run.run_id)


async def test_inject_speaks_to_the_run_that_is_active(theatre: Theatre) -> None:
    running = await theatre.create(kwargs=KWARGS)
    actor = await theatre.executed(running.run_id)
    asked = with_injection()
    run = await theatre.ask(asked)
    assert not isinstance(run, Exception)
    assert (run.run_id, run.injected) == (running.run_id, asked.injection.input_id)
    assert run.created_at == running.created_at
    await until(lambda: actor.heard)
    assert [row[:2] for row in await inputs(theatre)] == [(run.injected, running.run_id)]


async def test_inject_is_asked_again_after_the_run_and_gets_the_same_answer(
    theatre: Theatre,
) -> None:
    running = await theatre.create(kwargs=KWARGS)
    await theatre.executed(running.run_id)
    asked = with_injection()
    first = await theatre.ask(asked)
    await theatre.rows("UPDATE greenroom.run_inputs SET status = 'taken' RETURNING 1")
    await theatre.finish(running.run_id)
    await theatre.restart()
    again = await theatre.ask(asked)
    assert not isinstance(first, Exception)
    assert not isinstance(again, Exception)
    assert (again.run_id, again.injected) == (first.run_id, first.injected)
    await theatre.nothing_is_left()


async def test_inject_refuses_what_the_active_run_cannot_take(theatre: Theatre) -> None:
    running = await theatre.create(kwargs=KWARGS)
    await theatre.executed(running.run_id)
    refused = await theatre.ask(with_injection("Its state has no key 'x'."))
    assert isinstance(refused, InvalidRequest)
    other = await theatre.ask(with_injection(assistant_id=str(uuid.uuid4())))
    assert isinstance(other, Conflict)
