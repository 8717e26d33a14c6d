"""What becomes of a run that meets another on its thread (platform API, section 5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.talking import BRIEF, SLOW, Talk, names, ok, refused

BUSY = (
    "Thread is already running a task. Wait for it to finish or choose a different multitask "
    "strategy."
)


async def posted(talk: Talk, thread_id: str, strategy: str | None, **body: Any):
    given = {} if strategy is None else {"multitask_strategy": strategy}
    return await talk.post(
        f"/threads/{thread_id}/runs",
        {"assistant_id": "slow", "input": {**BRIEF, "tag": "b", "steps": 2}, **given, **body},
    )


async def chain_of(talk: Talk, thread_id: str, strategy: str) -> list[str]:
    """Five runs, each of which supersedes the one before it, however slow the machine is."""
    long = {**BRIEF, "tag": "c", "steps": 600}
    answers = [await posted(talk, thread_id, strategy, input=long) for _ in range(4)]
    answers.append(await posted(talk, thread_id, strategy))
    return [ok(answer)["run_id"] for answer in answers]


async def trail(talk: Talk, thread_id: str) -> list[str]:
    return (await talk.state(thread_id))["values"].get("trail", [])


@pytest.mark.parametrize("end", ["", "/stream", "/wait"])
async def test_reject_answers_409_and_the_first_run_goes_on(
    talk: Talk, thread_id: str, end: str
) -> None:
    first = await talk.running(thread_id)
    answer = await talk.post(
        f"/threads/{thread_id}/runs{end}",
        {"assistant_id": "trivial", "input": {"x": 1}, "multitask_strategy": "reject"},
    )
    assert refused(answer, 409) == BUSY
    assert await talk.status(thread_id, first) == "running"
    assert [run["run_id"] for run in ok(await talk.get(f"/threads/{thread_id}/runs"))] == [first]


async def test_reject_leaves_other_threads_alone(talk: Talk, thread_id: str) -> None:
    await talk.running(thread_id)
    other = await talk.new_thread()
    output = await talk.wait(other, "trivial", input={"x": 1}, multitask_strategy="reject")
    assert output == {"x": 2}


async def test_reject_admits_after_the_end(talk: Talk, thread_id: str) -> None:
    for _ in range(3):
        output = await talk.wait(thread_id, "trivial", input={"x": 1}, multitask_strategy="reject")
        assert output == {"x": 2}


async def test_reject_refuses_while_another_run_is_pending(talk: Talk, thread_id: str) -> None:
    delayed = await talk.create(thread_id, "trivial", input={"x": 1}, after_seconds=60)
    assert refused(await posted(talk, thread_id, "reject"), 409) == BUSY
    assert await talk.status(thread_id, delayed["run_id"]) == "pending"
    await talk.cancel(thread_id, delayed["run_id"])


@pytest.mark.parametrize("strategy", [None, "enqueue"])
async def test_enqueue_runs_afterwards(talk: Talk, thread_id: str, strategy: str | None) -> None:
    async with talk.streaming(thread_id, "slow", input={**BRIEF, "tag": "a"}) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 1)
        second = ok(await posted(talk, thread_id, strategy))
        assert second["status"] == "pending"
        assert second["multitask_strategy"] == "enqueue"
        assert await talk.status(thread_id, second["run_id"]) == "pending"
        frames = await stream.rest()
    assert frames[-1].data["i"] == 6
    await talk.join(thread_id, second["run_id"])
    assert await trail(talk, thread_id) == [*(f"a{n}" for n in range(1, 7)), "b1", "b2"]


async def test_a_queue_is_first_come_first_served(talk: Talk, thread_id: str) -> None:
    runs = [
        await talk.create(thread_id, "slow", input={"steps": 1, "delay": 0.02, "tag": tag})
        for tag in "abcde"
    ]
    await talk.join(thread_id, runs[-1]["run_id"])
    assert await trail(talk, thread_id) == ["a1", "b1", "c1", "d1", "e1"]
    assert [await talk.status(thread_id, run["run_id"]) for run in runs] == ["success"] * 5
    assert (await talk.settled(thread_id))["status"] == "idle"


async def test_a_queued_run_can_be_cancelled(talk: Talk, thread_id: str) -> None:
    first = await talk.create(thread_id, "slow", input={**BRIEF, "tag": "a"})
    second = ok(await posted(talk, thread_id, "enqueue"))
    third = await talk.create(thread_id, "slow", input={"steps": 1, "delay": 0.02, "tag": "c"})
    assert (await talk.cancel(thread_id, second["run_id"])).status_code == 202
    await talk.join(thread_id, third["run_id"])
    statuses = [await talk.status(thread_id, run["run_id"]) for run in (first, second, third)]
    assert statuses == ["success", "interrupted", "success"]
    assert [tag[0] for tag in await trail(talk, thread_id)] == [*"aaaaaa", "c"]


async def test_the_queue_goes_on_after_a_failure(talk: Talk, thread_id: str) -> None:
    first = await talk.create(thread_id, "fails", input={"x": 1})
    second = await talk.create(thread_id, "trivial", input={"x": 5})
    assert await talk.join(thread_id, second["run_id"]) == {"x": 6}
    assert await talk.status(thread_id, first["run_id"]) == "error"
    assert (await talk.settled(thread_id))["status"] == "idle"


async def test_interrupt_stops_the_first_run_and_keeps_its_steps(
    talk: Talk, thread_id: str
) -> None:
    async with talk.streaming(thread_id, "slow", input={**SLOW, "tag": "a"}) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2)
        first = stream.heard[0].data["run_id"]
        second = ok(await posted(talk, thread_id, "interrupt"))
        assert second["status"] == "pending"
        rest = await stream.rest()
    assert set(names(rest)) <= {"values"}
    assert await talk.status(thread_id, first) == "interrupted"
    await talk.join(thread_id, second["run_id"])
    steps = await trail(talk, thread_id)
    assert steps[:2] == ["a1", "a2"]
    assert steps[-2:] == ["b1", "b2"]
    assert [tag[0] for tag in steps] == sorted(tag[0] for tag in steps)
    assert await talk.status(thread_id, second["run_id"]) == "success"


async def test_the_interrupted_run_was_over_before_the_next_began(
    talk: Talk, thread_id: str
) -> None:
    first = await talk.running(thread_id)
    async with talk.streaming(
        thread_id,
        "slow",
        input={"steps": 1, "delay": 0.05},
        multitask_strategy="interrupt",
    ) as stream:
        await stream.until("metadata")
        assert await talk.status(thread_id, first) == "interrupted"
        await stream.rest()


async def test_interrupt_with_nobody_in_the_way_just_runs(talk: Talk, thread_id: str) -> None:
    for strategy in ("interrupt", "rollback"):
        output = await talk.wait(thread_id, "trivial", input={"x": 1}, multitask_strategy=strategy)
        assert output == {"x": 2}


async def test_interrupt_stops_pending_runs_too(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    second = ok(await posted(talk, thread_id, "enqueue"))["run_id"]
    third = ok(await posted(talk, thread_id, "interrupt"))["run_id"]
    await talk.join(thread_id, third)
    statuses = [await talk.status(thread_id, run) for run in (first, second, third)]
    assert statuses == ["interrupted", "interrupted", "success"]


async def test_rollback_deletes_the_first_run_and_what_it_did(talk: Talk, thread_id: str) -> None:
    await talk.wait(thread_id, "slow", input={"steps": 1, "delay": 0, "tag": "z"})
    before = len(await talk.history(thread_id))
    async with talk.streaming(thread_id, "slow", input={**SLOW, "tag": "a"}) as stream:
        await stream.until("values", lambda data: data.get("i", 0) >= 2 and len(data["trail"]) > 2)
        first = stream.heard[0].data["run_id"]
        second = ok(await posted(talk, thread_id, "rollback"))
        rest = await stream.rest()
    assert set(names(rest)) <= {"values"}
    assert refused(await talk.get(f"/threads/{thread_id}/runs/{first}"), 404)
    await talk.join(thread_id, second["run_id"])
    assert await trail(talk, thread_id) == ["z1", "b1", "b2"]
    assert len(await talk.history(thread_id)) == before + 5


async def test_rollback_deletes_pending_runs_too(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    second = ok(await posted(talk, thread_id, "enqueue"))["run_id"]
    third = ok(await posted(talk, thread_id, "rollback"))["run_id"]
    await talk.join(thread_id, third)
    statuses = [await talk.status(thread_id, run) for run in (first, second, third)]
    assert statuses == ["deleted", "deleted", "success"]
    assert await trail(talk, thread_id) == ["b1", "b2"]


async def test_of_a_chain_of_interrupts_only_the_newest_executes(
    talk: Talk, thread_id: str
) -> None:
    first = await talk.running(thread_id)
    chain = await chain_of(talk, thread_id, "interrupt")
    await talk.join(thread_id, chain[-1])
    statuses = [await talk.status(thread_id, run) for run in (first, *chain)]
    assert statuses == [*["interrupted"] * 5, "success"]
    assert [tag for tag in await trail(talk, thread_id) if tag.startswith("b")][-2:] == ["b1", "b2"]


async def test_of_a_chain_of_rollbacks_only_the_newest_is_left(talk: Talk, thread_id: str) -> None:
    await talk.running(thread_id)
    chain = await chain_of(talk, thread_id, "rollback")
    await talk.join(thread_id, chain[-1])
    runs = ok(await talk.get(f"/threads/{thread_id}/runs"))
    assert [(run["run_id"], run["status"]) for run in runs] == [(chain[-1], "success")]
    assert await trail(talk, thread_id) == ["b1", "b2"]


async def test_the_first_action_wins(talk: Talk, thread_id: str) -> None:
    """An interrupt is still stopping the first run when a rollback comes."""
    first = await talk.running(thread_id)
    answers = await asyncio.gather(
        talk.cancel(thread_id, first), talk.cancel(thread_id, first, action="rollback")
    )
    assert {answer.status_code for answer in answers} <= {202, 404}
    assert await talk.ended(thread_id, first) in ("interrupted", "deleted")
    assert (await talk.settled(thread_id))["status"] in ("interrupted", "idle")


async def test_enqueue_then_interrupt_then_enqueue(talk: Talk, thread_id: str) -> None:
    first = await talk.running(thread_id)
    runs = [
        ok(await posted(talk, thread_id, strategy))["run_id"]
        for strategy in ("enqueue", "interrupt", "enqueue")
    ]
    await talk.join(thread_id, runs[-1])
    statuses = [await talk.status(thread_id, run) for run in (first, *runs)]
    assert statuses == ["interrupted", "interrupted", "success", "success"]


async def test_the_thread_is_busy_from_the_post_on(talk: Talk, thread_id: str) -> None:
    run = await talk.create(thread_id, "slow", input=BRIEF)
    assert (await talk.thread(thread_id))["status"] == "busy"
    await talk.join(thread_id, run["run_id"])
    assert (await talk.thread(thread_id))["status"] == "idle"


@pytest.mark.parametrize("strategy", ["bogus", 7])
async def test_an_unknown_strategy_is_refused(talk: Talk, thread_id: str, strategy: Any) -> None:
    answer = await posted(talk, thread_id, strategy)
    assert refused(answer, 422)
    assert (await talk.thread(thread_id))["status"] == "idle"


async def test_two_runs_never_execute_at_once(talk: Talk, thread_id: str) -> None:
    runs = await asyncio.gather(
        *(
            talk.create(thread_id, "slow", input={"steps": 3, "delay": 0.01, "tag": tag})
            for tag in "abcdef"
        )
    )
    await asyncio.gather(*(talk.join(thread_id, run["run_id"]) for run in runs))
    steps = await trail(talk, thread_id)
    assert len(steps) == 18
    for n in range(0, 18, 3):
        assert [tag[1:] for tag in steps[n : n + 3]] == ["1", "2", "3"]
        assert len({tag[0] for tag in steps[n : n + 3]}) == 1
