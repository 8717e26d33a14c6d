"""What was decided becomes durable or ends the registry, whose successor goes on with it.

Here the registry fails at its own fault places (`Failing`), PostgreSQL stands still, answers are
lost, and the database says things that cannot be. Nobody may notice more than a pause.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from actors.registry import in_flight, recovery
from actors.registry.keeper import Keeper
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.faults import InjectedFault
from greenroom.core.lifecycle import State
from greenroom.core.runs import CancelRequest, CreatedRun, Report, RunStatus
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import group_commit
from greenroom.persistence.upkeep import delete_heard_cancels
from tests.actors.doubles import BOUND_S, FakeActor, until
from tests.actors.test_registry import (
    Theatre,
    bounded,
    make,  # noqa: F401 - fixtures
    request,
    strict,  # noqa: F401
    theatre,  # noqa: F401
)

# ruff: noqa: F811 - fixtures are named as arguments


class Failing:
    """Raises at a place, as often as it is told."""

    def __init__(self) -> None:
        self.planned: dict[str, int] = {}
        self.reached: list[str] = []

    async def at(self, place: str) -> None:
        if self.planned.get(place, 0):
            self.planned[place] -= 1
            self.reached.append(place)
            raise InjectedFault(place)


@asynccontextmanager
async def locked(theatre: Theatre, *tables: str) -> AsyncIterator[None]:
    """Somebody has a lock on tables, as an index build has, or ``VACUUM FULL``."""
    async with await psycopg.AsyncConnection.connect(theatre.setup.dsn) as somebody:
        for table in tables:
            await somebody.execute(f"LOCK TABLE {table}")  # type: ignore[arg-type]
        yield
        await somebody.rollback()


def report(actor: FakeActor, run_id: str, attempt: int = 1, **changes: Any) -> Report:
    said = Report(
        run_id=run_id,
        attempt=attempt,
        actor=actor.name,
        status=RunStatus.SUCCESS,
        has_next=False,
        interrupts=b"{}",
        error=None,
    )
    return dataclasses.replace(said, **changes)


async def heard(theatre: Theatre, said: Report) -> bool:
    """Reports until it is heard, by whichever registry there is."""
    async with asyncio.timeout(BOUND_S):
        while True:
            (answer,) = await theatre.registry.finished_many([said])
            if answer is not None:
                return answer
            if theatre.registry.broken:
                await theatre.restart()


# --- a continuation fails ------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["end", "ended"])
@pytest.mark.parametrize("strategy", ["enqueue", "interrupt"])
async def test_an_end_that_fails_half_way_ends_the_registry_and_is_done_by_the_next(
    make: Callable[..., Awaitable[Theatre]], place: str, strategy: str
) -> None:
    faults = Failing()
    theatre = await make(faults=faults)
    first = await theatre.create()
    actor = await theatre.executed(first.run_id)
    second = await theatre.create(strategy=strategy)  # type: ignore[arg-type]
    faults.planned[place] = 1
    assert await heard(theatre, report(actor, first.run_id))
    actor.current.pop(first.run_id)
    assert faults.reached == [place]
    assert len(theatre.registries) == 2
    await theatre.finish(second.run_id)
    assert await theatre.status(second.run_id) == "success"
    await bounded(theatre.registry.delete_thread("t"))
    await theatre.nothing_is_left()


@pytest.mark.parametrize("place", ["start", "started"])
async def test_a_start_that_fails_half_way_is_done_by_the_next_registry(
    make: Callable[..., Awaitable[Theatre]], place: str
) -> None:
    faults = Failing()
    theatre = await make(faults=faults)
    first = await theatre.create()
    await theatre.executed(first.run_id)
    queued = await theatre.create()
    faults.planned[place] = 1
    await theatre.finish(first.run_id)
    await until(lambda: theatre.registry.broken)
    await theatre.restart()
    await theatre.finish(queued.run_id)
    assert await theatre.status(queued.run_id) == "success"
    await theatre.nothing_is_left()


@pytest.mark.parametrize("place", ["requeue", "requeued"])
async def test_a_death_whose_notice_fails_half_way_is_seen_to_by_the_next_registry(
    make: Callable[..., Awaitable[Theatre]], place: str
) -> None:
    faults = Failing()
    theatre = await make(faults=faults)
    run = await theatre.create()
    faults.planned[place] = 1
    theatre.cluster.die((await theatre.executed(run.run_id)).name)
    await until(lambda: theatre.registry.broken)
    await theatre.restart()
    await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    await theatre.nothing_is_left()


@pytest.mark.parametrize("place", ["roll_back", "rolled_back", "cancel"])
async def test_a_rollback_that_fails_half_way_is_done_by_the_next_registry(
    make: Callable[..., Awaitable[Theatre]], place: str
) -> None:
    faults = Failing()
    theatre = await make(faults=faults)
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    faults.planned[place] = 1
    asked = CancelRequest(thread_id="t", run_id=run.run_id, action="rollback")
    if place == "cancel":
        (answer,) = await bounded(theatre.registry.cancel_many([asked]))
        assert answer is None, "not acknowledged by a registry that is about to end"
        await until(lambda: theatre.registry.broken)
        await theatre.restart()
    assert await theatre.ask_to_cancel(asked) is None
    assert await heard(theatre, report(actor, run.run_id, status=RunStatus.INTERRUPTED))
    actor.current.pop(run.run_id)
    assert await theatre.over(run.run_id) is None
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


async def test_a_drop_that_fails_half_way_is_done_by_the_next_registry(
    make: Callable[..., Awaitable[Theatre]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane has dropped the queued runs; that they ended cannot be written, once."""
    theatre = await make()
    first = await theatre.create()
    queued = await theatre.create()
    await theatre.executed(first.run_id)
    refused = theatre.registry

    def broken(*_: Any) -> Any:
        raise InjectedFault("drop")

    monkeypatch.setattr(refused.parts.effects, "_drop_writes", broken)
    newest = request("t", "interrupt")
    (answer,) = await bounded(refused.create_many([newest]))
    assert answer is None
    await until(lambda: refused.broken)
    await theatre.restart()
    assert isinstance(await theatre.ask(newest), CreatedRun)
    assert await theatre.over(queued.run_id) == "interrupted"
    await theatre.finish(first.run_id, RunStatus.INTERRUPTED)
    await theatre.finish(newest.run_id)
    await theatre.nothing_is_left()


async def test_a_caller_that_leaves_does_not_stop_what_was_decided(theatre: Theatre) -> None:
    """A call over the socket is cancelled when its connection is lost."""
    first = await theatre.create()
    await theatre.executed(first.run_id)
    queued = await theatre.create()
    asked = CancelRequest(thread_id="t", run_id=queued.run_id)
    async with locked(theatre, "greenroom.runs"):
        cancelling = asyncio.create_task(theatre.registry.cancel_many([asked]))
        await asyncio.sleep(0)
        cancelling.cancel()
        await asyncio.gather(cancelling, return_exceptions=True)
    assert await theatre.over(queued.run_id) == "interrupted"
    await theatre.finish(first.run_id)
    await theatre.nothing_is_left()


# --- a lock, a database that stands still --------------------------------------------------------


@pytest.fixture
async def hasty(
    make: Callable[..., Awaitable[Theatre]], monkeypatch: pytest.MonkeyPatch
) -> Theatre:
    """PostgreSQL ends a transaction of the registry after a fifth of a second."""
    opened = recovery.open_pool

    async def impatient(dsn: str, **given: Any) -> Pool:
        return await opened(dsn, **(given | {"transaction_timeout_s": 0.2}))

    monkeypatch.setattr(recovery, "open_pool", impatient)
    return await make(cancel_grace_s=0.02)


async def test_after_a_lock_of_several_transactions_all_goes_on(hasty: Theatre) -> None:
    """While it lasts: one run ends, one loses its actor, one is cancelled, one is created."""
    ended, lost, cancelled = [await hasty.create(f"t{number}") for number in range(3)]
    actors = [await hasty.executed(run.run_id) for run in (ended, lost, cancelled)]
    late = request("t3")
    async with locked(hasty, "greenroom.runs", "greenroom.threads"):
        actors[0].current.pop(ended.run_id)
        reporting = asyncio.create_task(heard(hasty, report(actors[0], ended.run_id)))
        hasty.cluster.die(actors[1].name)
        asked = CancelRequest(thread_id="t2", run_id=cancelled.run_id)
        cancelling = asyncio.create_task(hasty.ask_to_cancel(asked))
        creating = asyncio.create_task(hasty.ask(late))
        # Stop is not the database's business: the actor is told, and killed after the grace.
        await until(lambda: actors[2].name in hasty.cluster.killed)
        assert [run_id for run_id, *_ in actors[2].cancelled] == [cancelled.run_id]
        async with asyncio.timeout(BOUND_S):
            for _ in range(3):  # of these, at least one ends for its length
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await asyncio.shield(reporting)
    assert await bounded(reporting)
    assert await bounded(cancelling) is None
    assert isinstance(await bounded(creating), CreatedRun)
    assert await hasty.over(cancelled.run_id) == "interrupted"
    assert await hasty.status(ended.run_id) == "success"
    for run_id in (lost.run_id, late.run_id):
        await hasty.finish(run_id)
    assert not hasty.registry.broken
    await hasty.nothing_is_left()


async def test_a_list_of_cancels_is_one_commit(theatre: Theatre) -> None:
    runs = [await theatre.create(f"t{number % 3}") for number in range(6)]
    for run in runs[:3]:
        await theatre.executed(run.run_id)
    commits: list[int] = []
    pen = theatre.registry.context.journal
    transaction = pen.transaction

    async def counted(groups: Any) -> Any:
        commits.append(len(groups))
        return await transaction(groups)

    pen.transaction = counted  # type: ignore[method-assign]
    asked = [
        CancelRequest(thread_id=f"t{number % 3}", run_id=run.run_id)
        for number, run in enumerate(runs)
    ]
    while None in (answers := await bounded(theatre.registry.cancel_many(asked))):
        pass  # they are still being stored
    assert answers == [True] * 6
    assert commits == [6]
    for run in runs[:3]:
        await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    await theatre.nothing_is_left()


async def test_one_report_that_waits_holds_up_no_other(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread's record is locked by somebody; the others travel in the same call."""
    monkeypatch.setattr(group_commit, "LOCK_WAIT", "200ms")
    runs = [await theatre.create(f"t{number}") for number in range(3)]
    actors = [await theatre.executed(run.run_id) for run in runs]
    said = [report(actor, run.run_id) for actor, run in zip(actors, runs, strict=True)]
    async with await psycopg.AsyncConnection.connect(theatre.setup.dsn) as somebody:
        await somebody.execute("SELECT 1 FROM greenroom.threads WHERE thread_id = 't0' FOR UPDATE")
        async with asyncio.timeout(BOUND_S):
            answers: list[bool | None] = []
            while answers[1:] != [True, True]:
                answers = await theatre.registry.finished_many(said)
        assert answers == [None, True, True]
        other = await theatre.create("t4")
        await somebody.rollback()
    assert await heard(theatre, said[0])
    for actor, run in zip(actors, runs, strict=True):
        actor.current.pop(run.run_id)
    await theatre.finish(other.run_id)
    await theatre.nothing_is_left()


async def test_an_end_that_cannot_be_stored_as_reported_is_stored_as_an_error(
    theatre: Theatre,
) -> None:
    """Else the registry would end over it, and the next one too."""
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    actor.current.pop(run.run_id)
    assert await heard(theatre, report(actor, run.run_id, interrupts=b'{"torn'))
    assert await theatre.status(run.run_id) == "error"
    ((error,),) = await theatre.rows("SELECT error::text FROM greenroom.runs")
    assert json.loads(error)["error"] == "EndNotStored"
    assert not theatre.registry.broken
    await theatre.nothing_is_left()


# --- reports of what is gone ---------------------------------------------------------------------


async def test_the_report_of_a_stateless_run_is_heard_although_its_registry_died_over_it(
    make: Callable[..., Awaitable[Theatre]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed, not answered. The next registry keeps what is left for those who still ask."""
    monkeypatch.setattr(in_flight, "LATELY_S", 0.2)
    faults = Failing()
    theatre = await make(faults=faults)
    run = await theatre.create(temporary=True)
    actor = await theatre.executed(run.run_id)
    faults.planned["ended"] = 1
    said = report(actor, run.run_id)
    assert await bounded(theatre.registry.finished_many([said])) == [None]
    await until(lambda: theatre.registry.broken)
    actor.current.pop(run.run_id)
    await theatre.restart()
    assert await theatre.over(run.run_id) == "success"
    assert await heard(theatre, said)
    async with asyncio.timeout(BOUND_S):
        while await theatre.status(run.run_id) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await heard(theatre, said), "its record is gone, so it was heard"
    await theatre.nothing_is_left()


async def test_the_report_of_a_run_that_was_rolled_back_is_heard_again(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await theatre.cancel(run.run_id, "rollback")
    said = report(actor, run.run_id, status=RunStatus.INTERRUPTED)
    actor.current.pop(run.run_id)
    assert await heard(theatre, said)
    assert await theatre.status(run.run_id) is None
    assert await heard(theatre, said)
    await theatre.restart()
    assert await heard(theatre, said)
    await theatre.nothing_is_left()


async def test_a_late_notice_of_a_death_takes_no_run_from_its_new_actor(theatre: Theatre) -> None:
    run = await theatre.create()
    first = await theatre.executed(run.run_id)
    theatre.cluster.die(first.name)
    await until(lambda: any(a.current.get(run.run_id) == 2 for a in theatre.cluster.workers()))
    second = await theatre.executed(run.run_id)
    await bounded(theatre.registry.parts.losses.lost(run.run_id, first.name, None))
    assert theatre.registry.run(run.run_id).actor == second.name
    assert await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


# --- recovery ------------------------------------------------------------------------------------


async def test_a_run_that_cannot_be_restored_ends_in_error_and_nobody_else_notices(
    theatre: Theatre,
) -> None:
    """Two runs of one thread that have begun: the older one stays, as does everybody else."""
    run = await theatre.create()
    await theatre.executed(run.run_id)
    other = await theatre.create("u")
    await theatre.executed(other.run_id)
    await theatre.rows(
        """
        INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, attempt,
            actor, kwargs, metadata, multitask_strategy, temporary, resumable, resumes)
        SELECT gen_random_uuid(), thread_id, assistant_id, graph_id, status, attempt, actor,
            kwargs, metadata, multitask_strategy, temporary, resumable, resumes
        FROM greenroom.runs WHERE run_id = %s RETURNING 1""",
        run.run_id,
    )
    await theatre.restart()
    async with asyncio.timeout(BOUND_S):
        while not await theatre.rows(  # noqa: ASYNC110
            "SELECT 1 FROM greenroom.runs WHERE status = 'error'"
        ):
            await asyncio.sleep(0.01)
    ((error,),) = await theatre.rows(
        "SELECT error::text FROM greenroom.runs WHERE status = 'error'"
    )
    assert json.loads(error)["error"] == "RecoveryFailed"
    assert run.run_id in json.loads(error)["message"]
    created = await theatre.create("v")
    for each in (run, other, created):
        await theatre.finish(each.run_id)
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


async def test_a_recovery_that_fails_leaves_nothing_open(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    await theatre.kill(theatre.registry)
    keepers: list[Keeper] = []
    adopt = Keeper.adopt

    async def failing(self: Keeper, epoch: int) -> dict[str, tuple[str, int]]:
        found = await adopt(self, epoch)
        keepers.append(self)
        if len(keepers) <= 3:
            raise RuntimeError("Ray's control service is away")
        return found

    monkeypatch.setattr(Keeper, "adopt", failing)
    await theatre.open()
    assert len(keepers) == 4
    assert all(not keeper.tasks.running for keeper in keepers[:3])
    opened = await theatre.rows(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'greenroom:registry'"
    )
    assert opened[0][0] <= 4, "one pool, not four"
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_run_whose_order_never_arrived_has_not_died(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    """The registry died between the admission and the order; the actor lives."""
    theatre = await make()
    lost = asyncio.Event()
    theatre.cluster.scripts["start_many"] = [lost.wait()]
    run = await theatre.create()
    await theatre.restart()
    lost.set()
    await theatre.executed(run.run_id)
    ((because, deaths),) = await theatre.rows("SELECT requeued_because, deaths FROM greenroom.runs")
    assert (because, deaths) == ("not ordered", 0)
    assert await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_an_actor_that_dies_while_the_registry_recovers_is_noticed(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was adopted, while another one has not answered yet."""
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await theatre.kill(theatre.registry)
    adopt = Keeper.adopt

    async def slow(self: Keeper, epoch: int) -> dict[str, tuple[str, int]]:
        found = await adopt(self, epoch)
        theatre.cluster.die(actor.name)
        await until(lambda: not self.holds(actor.name))
        return found

    monkeypatch.setattr(Keeper, "adopt", slow)
    await theatre.open()
    await until(lambda: any(a.current.get(run.run_id) == 2 for a in theatre.cluster.workers()))
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_why_a_run_is_pending_again_stands_in_its_record(theatre: Theatre) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    actor.current.pop(run.run_id)
    assert await heard(theatre, report(actor, run.run_id, status=RunStatus.PENDING))
    await theatre.executed(run.run_id)
    assert await theatre.rows("SELECT requeued_because FROM greenroom.runs") == [("drained",)]
    theatre.cluster.die((await theatre.executed(run.run_id)).name)
    await until(lambda: any(a.current.get(run.run_id) == 3 for a in theatre.cluster.workers()))
    assert await theatre.rows("SELECT requeued_because FROM greenroom.runs") == [("died",)]
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


# --- asked again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_cancel_that_is_asked_again_gets_its_first_answer(
    theatre: Theatre, restarted: bool
) -> None:
    run = await theatre.create()
    queued = await theatre.create()
    await theatre.executed(run.run_id)
    asked = [
        CancelRequest(thread_id="t", run_id=run.run_id),
        CancelRequest(thread_id="t", run_id=run.run_id),
        CancelRequest(thread_id="t", run_id=queued.run_id),
    ]
    for each in asked:
        assert await theatre.ask_to_cancel(each) is None
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    if restarted:
        await theatre.restart()
    for each in asked:
        assert await theatre.ask_to_cancel(each) is None
    for over in (run, queued):
        assert isinstance(await theatre.cancel(over.run_id), Conflict), "somebody else's"
    await theatre.nothing_is_left()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_rollback_that_is_asked_again_gets_its_first_answer(
    theatre: Theatre, restarted: bool
) -> None:
    """Its run is gone with it."""
    run = await theatre.create()
    await theatre.executed(run.run_id)
    asked = CancelRequest(thread_id="t", run_id=run.run_id, action="rollback")
    assert await theatre.ask_to_cancel(asked) is None
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    assert await theatre.status(run.run_id) is None
    if restarted:
        await theatre.restart()
    assert await theatre.ask_to_cancel(asked) is None
    assert isinstance(await theatre.cancel(run.run_id, "rollback"), NotFound), "somebody else's"
    await theatre.nothing_is_left()


async def test_a_cancel_that_was_heard_is_forgotten_in_time(theatre: Theatre) -> None:
    run = await theatre.create(after_s=3600)
    await theatre.cancel(run.run_id)
    assert await delete_heard_cancels(theatre.pool, 3600) == 0
    assert await delete_heard_cancels(theatre.pool, 0) == 1
    assert await delete_heard_cancels(theatre.pool, 0) == 0
    await theatre.nothing_is_left()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_reject_that_is_asked_again_gets_its_first_answer(
    theatre: Theatre, restarted: bool
) -> None:
    """It ran, its answer was lost, and another run is in flight by now."""
    asked = request("t", "reject")
    assert isinstance(await theatre.ask(asked), CreatedRun)
    await theatre.finish(asked.run_id)
    other = await theatre.create()
    await theatre.executed(other.run_id)
    if restarted:
        await theatre.restart()
    assert isinstance(await theatre.ask(asked), CreatedRun)
    assert isinstance(await theatre.ask(request("t", "reject")), Conflict)
    await theatre.finish(other.run_id)
    await theatre.nothing_is_left()


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_on_a_way_that_loses_repeats_and_delays(
    make: Callable[..., Awaitable[Theatre]], seed: int
) -> None:
    """Creates, cancels, reports, orders and notices; a registry dies in between."""
    theatre = await make(cancel_grace_s=0.05)
    theatre.cluster.misbehave(seed, share=0.3)

    async def ask(method: str, item: Any) -> Any:
        while True:
            theatre.cluster.serve("registry", theatre.registry)
            (answer,) = await theatre.cluster.ask("registry", method, [item])
            if answer is not None:
                return answer
            # A dying registry answers at once: without a pause, nothing else gets a turn.
            await asyncio.sleep(0.001)

    async def client(number: int) -> None:
        strategy = ("enqueue", "interrupt", "rollback", "reject")[number % 4]
        asked = request(f"t{number % 5}", strategy)  # type: ignore[arg-type]
        created = await ask("create_many", asked)
        if isinstance(created, Conflict):
            return
        assert isinstance(created, CreatedRun), created
        if number % 3 == 0:
            cancel = CancelRequest(thread_id=asked.thread_id, run_id=asked.run_id)
            answer = await ask("cancel_many", cancel)
            assert answer is True or isinstance(answer, Exception)

    async def actors() -> None:
        while True:
            for actor in theatre.cluster.workers():
                for run_id, attempt in [*actor.current.items()]:
                    said = report(actor, run_id, attempt)
                    if await ask("finished_many", said):
                        actor.current.pop(run_id, None)
                    else:
                        actor.current.pop(run_id, None)  # another attempt has it
            await asyncio.sleep(0.001)

    working = asyncio.create_task(actors())
    try:
        async with asyncio.timeout(6 * BOUND_S):
            await asyncio.gather(*(client(number) for number in range(20)))
            await theatre.restart()
            await asyncio.gather(*(client(number) for number in range(20, 40)))
            while theatre.registry.context.runs:  # noqa: ASYNC110 - many things empty it
                await asyncio.sleep(0.01)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    theatre.cluster.behave()
    assert theatre.cluster.happened
    assert not any(registry.broken for registry in theatre.registries)
    await theatre.nothing_is_left()
    assert not await theatre.rows(
        "SELECT 1 FROM greenroom.runs WHERE status NOT IN ('success', 'interrupted')"
    )


async def test_a_run_is_in_one_state_and_the_database_has_its_status(theatre: Theatre) -> None:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    queued = await theatre.create()
    delayed = await theatre.create(after_s=3600)
    states = {found.run_id: found.life.state for found in theatre.registry.context.runs}
    assert states == {
        run.run_id: State.RUNNING,
        queued.run_id: State.QUEUED,
        delayed.run_id: State.DELAYED,
    }
    await theatre.cancel(run.run_id)
    assert theatre.registry.run(run.run_id).life.state is State.CANCELLING
    assert await theatre.status(run.run_id) == "running"
    await theatre.cancel(delayed.run_id)
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    await theatre.finish(queued.run_id)
    await theatre.nothing_is_left()
