"""RegistryActor as a plain class: a real PostgreSQL, actors in memory, no Ray."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.calls.directory import Handles
from actors.common import metering
from actors.common.setup import RegistrySetup, WebhookSettings
from actors.registry import in_flight, losses
from actors.registry.actor import RegistryActor
from actors.registry.context import Context
from actors.registry.in_flight import Run
from actors.registry.parts import Parts
from actors.spawn import Spawn
from greenroom.core.errors import Conflict, NotFound, TooManyRequests, Unavailable
from greenroom.core.runs import (
    UNTIL_END,
    CancelAction,
    CancelRequest,
    CreatedRun,
    MultitaskStrategy,
    Report,
    RunRequest,
    RunStatus,
)
from greenroom.persistence import outbox
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Superseded
from tests.actors.doubles import BOUND_S, Cluster, FakeActor, FakeHandles, setup_of, until
from tests.run_records import request_of

ASSISTANT = str(uuid.uuid4())
STRATEGIES: tuple[MultitaskStrategy, ...] = ("reject", "enqueue", "interrupt", "rollback")


class Registry(RegistryActor):
    """Does not end the process of the tests when it is superseded, or when vital work failed."""

    superseded = False
    killed = False
    broken = False

    @property
    def parts(self) -> Parts:
        assert self.readiness.now is not None
        return self.readiness.now

    @property
    def context(self) -> Context:
        return self.parts.context

    @property
    def in_flight(self) -> set[str]:
        return {run.run_id for run in self.context.runs}

    def run(self, run_id: str) -> Run:
        """A run that is in flight."""
        found = self.context.runs.find(run_id)
        assert found is not None
        return found

    def _superseded(self) -> None:
        self.superseded = True

    def _broken(self) -> None:
        # A process that was killed has no more failures; this one's calls may still be under way.
        if not self.killed:
            self.broken = True


def registry_on(cluster: Cluster, setup: RegistrySetup) -> Registry:
    """A registry whose actors are in memory."""
    return Registry(
        setup,
        lambda _: cast(Handles, FakeHandles(cluster)),
        lambda handles: cast(Spawn, handles),
    )


class Theatre:
    """A database, actors in memory, and the registries that came one after the other."""

    def __init__(self, dsn: str, pool: Pool, config_path: Path, **changes: Any) -> None:
        self.cluster = Cluster()
        self.pool = pool
        self.setup = setup_of(dsn=dsn, config_path=config_path, default_max_actors=3, **changes)
        self.registries: list[Registry] = []

    def hold_update(self, *after: Awaitable[Any]) -> asyncio.Event:
        """Has the next update of a state wait for a gate; the updates after it are ``after``."""
        gate = asyncio.Event()

        async def held() -> tuple[bytes, bytes, bool]:
            await gate.wait()
            return b"{}", b"{}", False

        self.cluster.scripts["update"] = [held(), *after]
        return gate

    async def open(self) -> Registry:
        """Another registry on the same database and actors."""
        registry = registry_on(self.cluster, self.setup)
        self.registries.append(registry)
        assert await registry.is_warm(BOUND_S)
        return registry

    @property
    def registry(self) -> Registry:
        return self.registries[-1]

    async def restart(self) -> Registry:
        await self.kill(self.registry)
        return await self.open()

    async def kill(self, registry: Registry) -> None:
        registry.killed = True
        await registry.context.keeper.close()
        await registry.tasks.close()
        await registry.context.journal.close()
        await registry.context.database.close()

    # --- what clients do -----------------------------------------------------------------------

    async def create(
        self, thread_id: str = "t", strategy: MultitaskStrategy = "enqueue", **changes: Any
    ) -> CreatedRun:
        result = await self.ask(request(thread_id, strategy, **changes))
        if isinstance(result, Exception):
            raise result
        return result

    async def ask(
        self, asked: RunRequest, registry: Registry | None = None
    ) -> CreatedRun | Exception:
        (result,) = await self.ask_all([asked], registry)
        return result

    async def ask_all(
        self, asked: list[RunRequest], registry: Registry | None = None
    ) -> list[CreatedRun | Exception]:
        async with asyncio.timeout(BOUND_S):
            while True:
                results = await (registry or self.registry).create_many(asked)
                done = [result for result in results if result is not None]
                if len(done) == len(asked):  # else they are still being stored
                    return done

    async def cancel(
        self, run_id: str, action: CancelAction = "interrupt", thread_id: str = "t"
    ) -> Exception | None:
        """The refusal, or None."""
        return await self.ask_to_cancel(
            CancelRequest(thread_id=thread_id, run_id=run_id, action=action)
        )

    async def ask_to_cancel(self, asked: CancelRequest) -> Exception | None:
        async with asyncio.timeout(BOUND_S):
            while True:
                (result,) = await self.registry.cancel_many([asked])
                if result is not None:
                    return result if isinstance(result, Exception) else None

    # --- what actors do ------------------------------------------------------------------------

    async def executed(self, run_id: str) -> FakeActor:
        await until(lambda: self.cluster.executing(run_id))
        actor = self.cluster.executing(run_id)
        assert actor is not None
        return actor

    async def finish(
        self, run_id: str, status: RunStatus = RunStatus.SUCCESS, interrupts: bytes = b"{}"
    ) -> bool:
        actor = await self.executed(run_id)
        attempt = actor.current.pop(run_id)
        return await self.report(actor, run_id, attempt, status, interrupts)

    async def report(
        self,
        actor: FakeActor,
        run_id: str,
        attempt: int,
        status: RunStatus = RunStatus.SUCCESS,
        interrupts: bytes = b"{}",
    ) -> bool:
        said = Report(
            run_id=run_id,
            attempt=attempt,
            actor=actor.name,
            status=status,
            has_next=interrupts != b"{}",
            interrupts=interrupts,
            error=None,
        )
        async with asyncio.timeout(BOUND_S):
            while True:
                (heard,) = await self.registry.finished_many([said])
                if heard is not None:
                    return heard

    # --- what the database says ----------------------------------------------------------------

    async def rows(self, sql: str, *params: Any) -> list[Any]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(sql, params)  # type: ignore[arg-type]
            return [tuple(row.values()) for row in await cursor.fetchall()]

    async def execute(self, sql: str, *params: Any) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(sql, params)  # type: ignore[arg-type]

    async def status(self, run_id: str) -> str | None:
        rows = await self.rows("SELECT status FROM greenroom.runs WHERE run_id = %s", run_id)
        return rows[0][0] if rows else None

    async def thread(self, thread_id: str = "t") -> str | None:
        rows = await self.rows(
            "SELECT status FROM greenroom.threads WHERE thread_id = %s", thread_id
        )
        return rows[0][0] if rows else None

    async def over(self, run_id: str) -> str | None:
        """The status in the end."""
        found = await bounded(self.registry.follow(run_id, UNTIL_END, BOUND_S))
        assert found is not None
        return found.status

    async def nothing_is_left(self) -> None:
        """Every map is empty, every thread at rest, every place free."""
        registry = self.registry
        await until(lambda: not registry.context.runs)
        await until(lambda: not registry.context.lanes)
        assert not registry.context.waiters
        assert not registry.context.runs.queued
        assert (
            await self.rows(
                "SELECT run_id FROM greenroom.runs WHERE status IN ('pending', 'running')"
            )
            == []
        )
        assert await self.rows("SELECT * FROM greenroom.threads WHERE status = 'busy'") == []
        counts = registry.context.keeper.counts()
        assert counts["waiting_for_a_place"] == 0
        assert not [member for member in counts["pool"] if member["runs"]]


async def bounded(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, BOUND_S)


def request(
    thread_id: str = "t", strategy: MultitaskStrategy = "enqueue", **changes: Any
) -> RunRequest:
    given: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "thread_id": thread_id,
        "assistant_id": ASSISTANT,
        "graph_id": "g",
        "kwargs": b"{}",
        "metadata": b"{}",
        "multitask_strategy": strategy,
        "create_thread": True,
    }
    return request_of(**(given | changes))


@pytest.fixture
async def make(
    dsn: str, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[Theatre]]]:
    monkeypatch.setattr(losses, "RETRY_BACKOFF_S", (0.0, 0.001))
    monkeypatch.setattr("actors.registry.keeper.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.deliveries.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.pool.START_BACKOFF_S", (0.0, 0.001))
    made: list[Theatre] = []

    async def theatre(graphs: tuple[str, ...] = ("g",), **changes: Any) -> Theatre:
        changes = {"cancel_grace_s": 60.0} | changes
        (tmp_path / "g.py").write_text("graph = None\n")
        config = tmp_path / "langgraph.json"
        configure(config, *graphs)
        made.append(Theatre(dsn, pool, config, **changes))
        await made[-1].open()
        return made[-1]

    yield theatre
    for each in made:
        for registry in each.registries:
            await each.kill(registry)


def configure(path: Path, *graphs: str) -> None:
    path.write_text(json.dumps({"graphs": {name: "./g.py:graph" for name in graphs}}))


@pytest.fixture
async def strict(make: Callable[..., Awaitable[Theatre]]) -> Theatre:
    """A registry that kills soon what does not stop."""
    return await make(cancel_grace_s=0.02)


@pytest.fixture
async def theatre(make: Callable[..., Awaitable[Theatre]]) -> Theatre:
    return await make()


# --- create --------------------------------------------------------------------------------------


async def test_a_run_on_a_free_thread_is_stored_ordered_and_placed(theatre: Theatre) -> None:
    run = await theatre.create()
    assert run.placement is not None
    assert await theatre.status(run.run_id) == "running"
    assert await theatre.thread() == "busy"
    actor = await theatre.executed(run.run_id)
    assert (run.placement.actor, run.placement.attempt) == (actor.name, 1)
    assert await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_second_run_by_every_strategy(
    theatre: Theatre, strategy: MultitaskStrategy
) -> None:
    first = await theatre.create()
    actor = await theatre.executed(first.run_id)
    if strategy == "reject":
        with pytest.raises(Conflict):
            await theatre.create(strategy=strategy)
        await theatre.finish(first.run_id)
        return await theatre.nothing_is_left()
    second = await theatre.create(strategy=strategy)
    assert second.placement is None
    assert await theatre.status(second.run_id) == "pending"
    if strategy == "enqueue":
        await theatre.finish(first.run_id)
    else:
        await until(lambda: actor.cancelled)
        assert actor.cancelled == [(first.run_id, 1, strategy == "interrupt")]
        assert theatre.cluster.executing(second.run_id) is None
        await theatre.finish(first.run_id, RunStatus.INTERRUPTED)
    await theatre.finish(second.run_id)
    expected = {"enqueue": "success", "interrupt": "interrupted", "rollback": None}[strategy]
    assert await theatre.status(first.run_id) == expected
    assert await theatre.status(second.run_id) == "success"
    await theatre.nothing_is_left()


async def test_a_chain_of_interrupts_executes_only_the_newest(theatre: Theatre) -> None:
    first = await theatre.create()
    await theatre.executed(first.run_id)
    chain = [request("t", "interrupt") for _ in range(5)]
    results = await theatre.ask_all(chain)
    assert all(isinstance(result, CreatedRun) for result in results)
    await theatre.finish(first.run_id, RunStatus.INTERRUPTED)
    await theatre.finish(chain[-1].run_id)
    assert [await theatre.status(each.run_id) for each in chain] == ["interrupted"] * 4 + [
        "success"
    ]
    ordered = [order.run_id for actor in theatre.cluster.ever for order in actor.orders]
    assert ordered == [first.run_id, chain[-1].run_id]
    await theatre.nothing_is_left()


async def test_queued_runs_start_in_the_order_in_which_they_came(theatre: Theatre) -> None:
    runs = [await theatre.create() for _ in range(5)]
    for run in runs:
        await theatre.finish(run.run_id)
    ordered = [order.run_id for actor in theatre.cluster.ever for order in actor.orders]
    assert ordered == [run.run_id for run in runs]
    await theatre.nothing_is_left()


async def test_a_retried_create_gets_the_answer_of_the_first(theatre: Theatre) -> None:
    asked = request()
    first, again = await bounded(asyncio.gather(theatre.ask(asked), theatre.ask(asked)))
    assert isinstance(first, CreatedRun)
    assert isinstance(again, CreatedRun)
    assert (again.run_id, again.created_at) == (first.run_id, first.created_at)
    later = await theatre.ask(asked)
    assert isinstance(later, CreatedRun)
    assert later.placement == first.placement
    await theatre.finish(asked.run_id)
    assert len(await theatre.rows("SELECT 1 FROM greenroom.runs")) == 1
    await theatre.nothing_is_left()


async def test_a_create_retried_after_the_end_changes_nothing(theatre: Theatre) -> None:
    asked = request("t", "rollback")
    assert isinstance(await theatre.ask(asked), CreatedRun)
    await theatre.finish(asked.run_id)
    other = await theatre.create()
    actor = await theatre.executed(other.run_id)
    again = await theatre.ask(asked)
    assert isinstance(again, CreatedRun)
    assert actor.cancelled == []
    await theatre.finish(other.run_id)
    assert isinstance(await theatre.ask(asked), CreatedRun)
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


async def test_a_create_is_retried_with_a_new_registry(theatre: Theatre) -> None:
    asked = request()
    await theatre.ask(asked)
    await theatre.executed(asked.run_id)
    await theatre.restart()
    again = await theatre.ask(asked)
    assert isinstance(again, CreatedRun)
    assert again.placement is not None
    await theatre.finish(asked.run_id)
    await theatre.nothing_is_left()


async def test_a_run_on_an_unknown_thread_is_refused_and_the_lane_is_free_again(
    theatre: Theatre,
) -> None:
    with pytest.raises(NotFound):
        await theatre.create(create_thread=False)
    await theatre.nothing_is_left()
    assert await theatre.rows("SELECT 1 FROM greenroom.runs") == []
    run = await theatre.create()
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_run_of_an_unknown_graph_is_refused(theatre: Theatre) -> None:
    with pytest.raises(NotFound):
        await theatre.create(graph_id="nope")
    await theatre.nothing_is_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bad", [{"metadata": b'"\\u0000"'}, {"webhook": "http://x/\x00"}])
async def test_a_create_that_cannot_be_stored_leaves_the_others_as_they_were(
    theatre: Theatre, strategy: MultitaskStrategy, bad: dict[str, Any]
) -> None:
    refused = await theatre.ask(request("fresh", strategy, **bad))
    assert isinstance(refused, Exception)
    first = await theatre.create()
    queued = await theatre.create()
    actor = await theatre.executed(first.run_id)
    assert isinstance(await theatre.ask(request("t", strategy, **bad)), Exception)
    assert actor.cancelled == []
    await theatre.finish(first.run_id)
    await theatre.finish(queued.run_id)
    await theatre.nothing_is_left()


async def test_a_predecessor_that_ends_while_a_create_fails_leaves_its_thread_at_rest(
    theatre: Theatre,
) -> None:
    """The end writes ``busy`` for the successor, whose admission then fails."""
    first = await theatre.create()
    actor = await theatre.executed(first.run_id)
    bad = asyncio.create_task(theatre.ask(request(metadata=b'"\\u0000"')))
    await asyncio.sleep(0)
    actor.current.pop(first.run_id)
    await theatre.report(actor, first.run_id, 1)
    assert isinstance(await bounded(bad), Exception)
    await until(lambda: not theatre.registry.context.runs)
    assert await theatre.thread() == "idle"
    await theatre.nothing_is_left()


async def test_a_hundred_creates_at_once_all_run(theatre: Theatre) -> None:
    asked = [request(f"t{number % 20}") for number in range(100)]
    results = await bounded(asyncio.gather(*(theatre.ask(each) for each in asked)))
    assert all(isinstance(result, CreatedRun) for result in results)
    left = {each.run_id for each in asked}
    deadline_s = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline_s
        for run_id in [run_id for run_id in left if theatre.cluster.executing(run_id)]:
            await theatre.finish(run_id)
            left.discard(run_id)
        await asyncio.sleep(0)
    for number in range(20):
        mine = [each.run_id for each in asked if each.thread_id == f"t{number}"]
        ordered = [
            order
            for actor in theatre.cluster.ever
            for order in actor.orders
            if order.thread_id == f"t{number}"
        ]
        assert {order.run_id for order in ordered} == set(mine)
    await theatre.nothing_is_left()


async def test_the_server_takes_no_more_runs_than_may_wait(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    theatre = await make(max_queued_runs=2)
    delayed = [await theatre.create(f"d{number}", after_s=3600) for number in range(3)]
    runs = [await theatre.create() for _ in range(3)]
    with pytest.raises(TooManyRequests):
        await theatre.create()
    # Not before it is due does a delayed run wait for anything.
    delayed.append(await theatre.create("d3", after_s=3600))
    for each in delayed:
        await theatre.cancel(each.run_id, thread_id=each.thread_id)
    await theatre.finish(runs[0].run_id)
    await theatre.executed(runs[1].run_id)
    runs.append(await theatre.create())
    for run in runs[1:]:
        await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_delayed_run_starts_when_it_is_due_unless_it_is_displaced(
    theatre: Theatre,
) -> None:
    delayed = await theatre.create(after_s=0.05)
    assert await theatre.status(delayed.run_id) == "pending"
    displaced = await theatre.create("u", after_s=0.05)
    newer = await theatre.create("u", "interrupt")
    assert await theatre.status(displaced.run_id) == "interrupted"
    await theatre.finish(newer.run_id)
    await theatre.finish(delayed.run_id)
    assert theatre.cluster.executing(displaced.run_id) is None
    await theatre.nothing_is_left()


# --- cancel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel_of_a_run_that_waits_in_any_way_ends_it_interrupted(
    theatre: Theatre, action: CancelAction
) -> None:
    running = await theatre.create()
    queued = await theatre.create()
    delayed = await theatre.create(after_s=3600)
    others = [await theatre.create(f"t{number}") for number in range(3)]
    waiting = others[-1]  # three actors, four threads
    assert waiting.placement is None
    for run in (queued, delayed):
        assert await theatre.cancel(run.run_id, action) is None
        assert await theatre.status(run.run_id) == "interrupted"
    assert await theatre.cancel(waiting.run_id, action, waiting.thread_id) is None
    assert await theatre.status(waiting.run_id) == "interrupted"
    assert await theatre.thread(waiting.thread_id) == "idle"
    assert await theatre.thread() == "busy"
    for run in (running, *others[:-1]):
        await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_cancel_of_what_is_over_or_unknown_says_so(theatre: Theatre) -> None:
    run = await theatre.create()
    await theatre.finish(run.run_id)
    assert isinstance(await theatre.cancel(run.run_id), Conflict)
    assert isinstance(await theatre.cancel(str(uuid.uuid4())), NotFound)
    assert isinstance(await theatre.cancel(run.run_id, thread_id="other"), NotFound)
    await theatre.nothing_is_left()


async def test_a_run_that_ignores_its_cancellation_is_killed_after_the_grace(
    strict: Theatre,
) -> None:
    run = await strict.create()
    actor = await strict.executed(run.run_id)
    await strict.cancel(run.run_id)
    await strict.cancel(run.run_id, "rollback")
    assert await strict.over(run.run_id) == "interrupted"
    assert strict.cluster.killed == [actor.name]
    assert len(actor.cancelled) == 1
    await strict.nothing_is_left()


async def test_a_rolled_back_run_that_is_killed_is_gone(strict: Theatre) -> None:
    run = await strict.create()
    await strict.executed(run.run_id)
    await strict.cancel(run.run_id, "rollback")
    assert await strict.over(run.run_id) is None
    assert await strict.thread() == "idle"
    await strict.nothing_is_left()


async def test_a_cancel_before_the_start_is_stored_still_stops_the_run(strict: Theatre) -> None:
    """Cancel comes between the decision and the commit of the admission."""
    asked = request()
    creating = asyncio.create_task(strict.ask(asked))
    await until(lambda: asked.run_id in strict.registry.context.runs)
    assert await strict.cancel(asked.run_id) is None
    assert isinstance(await bounded(creating), CreatedRun)
    assert await strict.over(asked.run_id) == "interrupted"
    await strict.nothing_is_left()


async def test_cancel_of_everything_leaves_nothing_running(strict: Theatre) -> None:
    runs = [await strict.create(f"t{number % 2}") for number in range(6)]
    assert await bounded(strict.registry.cancel_all("all", "interrupt")) == 6
    for run in runs:
        assert await strict.over(run.run_id) == "interrupted"
    await strict.nothing_is_left()


# --- deaths --------------------------------------------------------------------------------------


async def test_a_run_whose_actor_dies_goes_on_elsewhere_and_is_given_up_in_the_end(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    for attempt in (1, 2, 3):
        await until(
            lambda: any(a.current.get(run.run_id) == attempt for a in theatre.cluster.workers())  # noqa: B023
        )
        actor = await theatre.executed(run.run_id)
        theatre.cluster.die(actor.name)
    assert await theatre.over(run.run_id) == "error"
    assert await theatre.thread() == "error"
    ((error,),) = await theatre.rows("SELECT error::text FROM greenroom.runs")
    assert json.loads(error)["error"] == "ActorDied"
    await theatre.nothing_is_left()


async def test_a_report_of_an_attempt_that_was_replaced_is_refused(theatre: Theatre) -> None:
    run = await theatre.create()
    first = await theatre.executed(run.run_id)
    theatre.cluster.die(first.name)
    await until(lambda: any(a.current.get(run.run_id) == 2 for a in theatre.cluster.workers()))
    assert not await theatre.report(first, run.run_id, 1)
    assert await theatre.status(run.run_id) == "running"
    assert await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_run_that_dies_while_it_is_cancelled_is_not_started_again(
    theatre: Theatre, action: CancelAction
) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await theatre.cancel(run.run_id, action)
    theatre.cluster.die(actor.name)
    assert await theatre.over(run.run_id) == {"interrupt": "interrupted"}.get(action)
    assert sum(len(each.orders) for each in theatre.cluster.ever) == 1
    await theatre.nothing_is_left()


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_run_between_two_attempts_can_be_cancelled(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, action: CancelAction
) -> None:
    """It waits for its next attempt: its first has left something that a rollback takes back."""
    monkeypatch.setattr(losses, "RETRY_BACKOFF_S", (0.2,))
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    theatre.cluster.die(actor.name)
    lane = theatre.registry.context.lanes.of("t")
    await until(lambda: lane.is_waiting(run.run_id))
    await theatre.cancel(run.run_id, action)
    assert await theatre.over(run.run_id) == {"interrupt": "interrupted"}.get(action)
    assert [a for a in theatre.cluster.ever if "t" in a.settled]
    await theatre.nothing_is_left()


async def test_a_run_whose_actor_dies_before_its_admission_is_stored_runs_in_a_second_attempt(
    theatre: Theatre,
) -> None:
    asked = request()
    creating = asyncio.create_task(theatre.ask(asked))
    await until(lambda: asked.run_id in theatre.registry.context.runs)
    actor = theatre.registry.run(asked.run_id).actor
    assert actor is not None
    theatre.cluster.die(actor)
    assert isinstance(await bounded(creating), CreatedRun)
    await theatre.finish(asked.run_id)
    assert await theatre.status(asked.run_id) == "success"
    await theatre.nothing_is_left()


# --- restart -------------------------------------------------------------------------------------


async def test_an_older_registry_cannot_write(theatre: Theatre) -> None:
    old = theatre.registry
    new = await theatre.open()
    with pytest.raises(Superseded):
        await theatre.ask(request(), old)
    assert old.superseded
    assert not new.superseded
    assert await theatre.rows("SELECT 1 FROM greenroom.runs") == []
    run = await theatre.create()
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_registry_of_an_earlier_start_stays_out_of_it(theatre: Theatre) -> None:
    """Ray starts it again and again: two servers on one database would take it from each other."""
    of_the_first = theatre.setup
    theatre.setup = dataclasses.replace(of_the_first, generation=2)
    newer = await theatre.open()
    run = await theatre.create()
    old = registry_on(Cluster(), of_the_first)
    for _ in range(2):
        with pytest.raises(Unavailable, match="started later"):
            await bounded(old.create_many([request()]))
    assert not newer.superseded
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_restart_takes_up_running_queued_and_delayed_runs(theatre: Theatre) -> None:
    running = await theatre.create()
    queued = await theatre.create()
    delayed = await theatre.create("u", after_s=0.05)
    await theatre.executed(running.run_id)
    await theatre.restart()
    await theatre.finish(delayed.run_id)
    await theatre.finish(running.run_id)
    await theatre.finish(queued.run_id)
    ordered = [order for actor in theatre.cluster.ever for order in actor.orders]
    assert all(order.attempt == 1 for order in ordered)
    await theatre.nothing_is_left()


async def test_a_run_whose_order_was_lost_with_the_registry_is_started_again(
    theatre: Theatre,
) -> None:
    """The registry dies after the commit and before the order is heard."""
    lost = asyncio.Event()
    theatre.cluster.scripts["start_many"] = [lost.wait()]
    run = await theatre.create()
    await theatre.restart()
    lost.set()
    assert await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    await theatre.nothing_is_left()


async def test_a_run_that_ended_while_no_registry_was_there_is_heard_by_the_next(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await theatre.restart()
    actor.current.pop(run.run_id)
    assert await theatre.report(actor, run.run_id, 1)
    assert await theatre.report(actor, run.run_id, 1), "asked again after a lost answer"
    await theatre.nothing_is_left()


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_what_was_displaced_before_a_restart_is_stopped_after_it(
    theatre: Theatre, strategy: MultitaskStrategy
) -> None:
    first = await theatre.create()
    queued = await theatre.create()
    actor = await theatre.executed(first.run_id)
    newest = await theatre.create(strategy=strategy)
    before = len(actor.cancelled)
    await theatre.restart()
    await until(lambda: len(actor.cancelled) > before)
    await theatre.finish(first.run_id, RunStatus.INTERRUPTED)
    await theatre.finish(newest.run_id)
    expected = "interrupted" if strategy == "interrupt" else None
    assert [await theatre.status(r.run_id) for r in (first, queued)] == [expected] * 2
    await theatre.nothing_is_left()


async def test_an_actor_that_died_with_the_registry_is_noticed_at_the_start(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    queued = await theatre.create()
    actor = await theatre.executed(run.run_id)
    await theatre.kill(theatre.registry)
    theatre.cluster.die(actor.name)
    await theatre.open()
    await theatre.finish(run.run_id)
    await theatre.finish(queued.run_id)
    await theatre.nothing_is_left()


async def test_a_run_that_kills_every_process_ends_whatever_registries_come_and_go(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    for attempt in (1, 2, 3):
        actor = await theatre.executed(run.run_id)
        assert actor.current[run.run_id] == attempt
        await theatre.kill(theatre.registry)
        theatre.cluster.die(actor.name)
        await theatre.open()
    assert await theatre.over(run.run_id) == "error"
    rows = await theatre.rows("SELECT error->>'message', deaths FROM greenroom.runs")
    assert "died 3 times" in rows[0][0]
    assert rows[0][1] == 3
    await theatre.nothing_is_left()


async def test_what_a_drain_cuts_off_is_no_death_and_goes_on_elsewhere(theatre: Theatre) -> None:
    run = await theatre.create()
    for _ in range(4):
        actor = await theatre.executed(run.run_id)
        assert await bounded(theatre.registry.drain(0.01)) == 1
        assert not await theatre.report(actor, run.run_id, actor.current[run.run_id]), "too late"
        await theatre.kill(theatre.registry)
        theatre.cluster.die(actor.name)
        await theatre.open()
    await theatre.finish(run.run_id)
    assert await theatre.status(run.run_id) == "success"
    await theatre.nothing_is_left()


async def test_new_runs_wait_for_the_registry_that_follows(theatre: Theatre) -> None:
    """A gateway asks again when the call fails, and answers when its request is refused."""
    await bounded(theatre.registry.drain(0.0, relieved=True))
    with pytest.raises(Unavailable):
        await theatre.create()
    with pytest.raises(Unavailable):
        await bounded(theatre.registry.create_many([request()]))
    await theatre.restart()
    await bounded(theatre.registry.drain(0.0))
    (refused,) = await bounded(theatre.registry.create_many([request()]))
    assert isinstance(refused, Unavailable)


async def test_runs_of_a_graph_that_is_not_served_any_more_end_with_an_error(
    make: Callable[..., Awaitable[Theatre]],
) -> None:
    theatre = await make(("g", "old"))
    runs = [await theatre.create(graph_id="old") for _ in range(2)]
    delayed = await theatre.create("u", graph_id="old", after_s=3600)
    await theatre.executed(runs[0].run_id)
    await theatre.kill(theatre.registry)
    configure(theatre.setup.config_path, "g")
    await theatre.open()
    for run in (*runs, delayed):
        assert await theatre.over(run.run_id) == "error"
    run = await theatre.create()
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_thread_that_was_left_busy_is_at_rest_after_a_start(theatre: Theatre) -> None:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    await theatre.kill(theatre.registry)
    # As after a crash between a rollback and the end of its run.
    await theatre.rows("DELETE FROM greenroom.runs RETURNING 1")
    assert await theatre.thread() == "busy"
    await theatre.open()
    assert await theatre.thread() == "idle"


# --- threads -------------------------------------------------------------------------------------


async def test_deleting_a_thread_stops_its_runs_first(theatre: Theatre) -> None:
    running = await theatre.create()
    await theatre.create()
    await theatre.create(after_s=3600)
    actor = await theatre.executed(running.run_id)
    deleting = asyncio.create_task(theatre.registry.delete_thread("t"))
    await until(lambda: actor.cancelled)
    with pytest.raises(NotFound):
        await theatre.create()
    assert await theatre.thread() == "busy"
    await theatre.finish(running.run_id, RunStatus.INTERRUPTED)
    await bounded(deleting)
    assert await theatre.rows("SELECT 1 FROM greenroom.runs") == []
    assert await theatre.thread() is None
    await theatre.nothing_is_left()


async def test_a_deletion_whose_answer_was_lost_may_be_asked_for_again(theatre: Theatre) -> None:
    """The second comes while the first waits for a run to stop, the third when all is over."""
    run = await theatre.create()
    actor = await theatre.executed(run.run_id)
    deleting = [asyncio.create_task(theatre.registry.delete_thread("t")) for _ in range(2)]
    await until(lambda: actor.cancelled)
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    await bounded(asyncio.gather(*deleting))
    await bounded(theatre.registry.delete_thread("t"))
    await bounded(theatre.registry.delete_run("t", run.run_id))
    assert await theatre.thread() is None
    await theatre.nothing_is_left()


async def test_a_thread_deleted_while_a_create_is_being_stored_does_not_come_back(
    strict: Theatre,
) -> None:
    await strict.rows("INSERT INTO greenroom.threads (thread_id) VALUES ('t') RETURNING thread_id")
    created = asyncio.create_task(
        strict.registry.create_many([request(), request(), request(after_s=60)])
    )
    await until(lambda: strict.registry.context.runs)
    await bounded(strict.registry.delete_thread("t"))
    await bounded(created)
    assert await strict.thread() is None
    assert await strict.rows("SELECT 1 FROM greenroom.runs") == []
    await strict.nothing_is_left()


async def test_a_thread_is_deleted_after_the_state_update_that_is_under_way(
    theatre: Theatre,
) -> None:
    await theatre.rows("INSERT INTO greenroom.threads (thread_id) VALUES ('t') RETURNING thread_id")
    gate = theatre.hold_update()
    updating = asyncio.create_task(theatre.registry.update_state("t", [None, "g"]))
    await until(lambda: theatre.registry.context.lanes)
    deleting = asyncio.create_task(theatre.registry.delete_thread("t"))
    await asyncio.sleep(0.01)
    assert not deleting.done()
    gate.set()
    await bounded(updating)
    await bounded(deleting)
    assert await theatre.thread() is None
    await theatre.nothing_is_left()


async def test_a_run_created_during_a_state_update_starts_after_it_and_keeps_the_thread_busy(
    theatre: Theatre,
) -> None:
    gate = theatre.hold_update()
    updating = asyncio.create_task(theatre.registry.update_state("t", [None, "g"]))
    await until(lambda: theatre.registry.context.lanes)
    run = await theatre.create()
    assert run.placement is None
    gate.set()
    await bounded(updating)
    await theatre.executed(run.run_id)
    assert await theatre.thread() == "busy"
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_temporary_thread_is_gone_with_its_run(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "LATELY_S", 0.3)
    run = await theatre.create(temporary=True)
    await theatre.finish(run.run_id)
    assert await theatre.thread() is None
    dropped = await theatre.create("u", temporary=True, after_s=3600)
    await theatre.cancel(dropped.run_id, thread_id="u")
    assert await theatre.thread("u") is None
    assert await theatre.status(run.run_id) == "success", "for whoever waits for its outcome"
    async with asyncio.timeout(BOUND_S):
        while await theatre.rows("SELECT 1 FROM greenroom.runs"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await theatre.nothing_is_left()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_temporary_thread_that_somebody_uses_on_is_theirs(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, restarts: bool
) -> None:
    """Its id is in an answer's header: whoever reads it may put a run of their own there."""
    monkeypatch.setattr(in_flight, "LATELY_S", 0.05)
    first = await theatre.create(temporary=True)
    await theatre.executed(first.run_id)
    second = await theatre.create()
    await theatre.finish(first.run_id)
    await theatre.finish(second.run_id)
    if restarts:
        await theatre.restart()
    other = await theatre.create("other", temporary=True)
    await theatre.finish(other.run_id)
    async with asyncio.timeout(BOUND_S):
        while await theatre.status(other.run_id):  # noqa: ASYNC110 - what ended earlier was due earlier
            await asyncio.sleep(0.001)
    assert await theatre.thread() == "idle"
    assert await theatre.status(second.run_id) == "success"
    await theatre.nothing_is_left()


async def test_how_a_temporary_run_was_given_up_can_be_read_by_who_waits_for_it(
    theatre: Theatre,
) -> None:
    run = await theatre.create(temporary=True)
    for attempt in (1, 2, 3):
        await until(
            lambda: any(a.current.get(run.run_id) == attempt for a in theatre.cluster.workers())  # noqa: B023
        )
        theatre.cluster.die((await theatre.executed(run.run_id)).name)
    assert await theatre.over(run.run_id) == "error"
    await until(lambda: not theatre.registry.context.runs)
    ((error,),) = await theatre.rows("SELECT error::text FROM greenroom.runs")
    assert json.loads(error)["error"] == "ActorDied"


async def test_polls_that_are_over_leave_no_follower(theatre: Theatre) -> None:
    run = await theatre.create()
    for _ in range(3):
        assert await theatre.registry.follow(run.run_id, UNTIL_END, 0.001) is None
    assert not theatre.registry.context.waiters
    await theatre.finish(run.run_id)
    await theatre.nothing_is_left()


async def test_a_lost_connection_in_the_middle_of_a_create_admits_it_once(
    theatre: Theatre, dsn: str
) -> None:
    for _ in range(5):
        asked = [request(f"t{uuid.uuid4()}") for _ in range(5)]
        creating = [asyncio.create_task(theatre.ask(each)) for each in asked]
        await asyncio.sleep(0)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'greenroom:registry'"
            )
        for result in await bounded(asyncio.gather(*creating)):
            assert isinstance(result, CreatedRun)
        for each in asked:
            await theatre.finish(each.run_id)
    await theatre.nothing_is_left()


# --- metrics -------------------------------------------------------------------------------------


async def told(theatre: Theatre) -> dict[tuple[str, ...], float]:
    told = metering.text([await bounded(theatre.registry.counted())])
    return {
        (sample.name, *(v for k, v in sample.labels.items() if k != metering.SHARD)): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }


async def test_a_run_that_is_recovered_is_counted_as_one_run_and_one_death(
    theatre: Theatre,
) -> None:
    run = await theatre.create()
    first = await theatre.executed(run.run_id)
    theatre.cluster.die(first.name)
    await until(lambda: any(a.current.get(run.run_id) == 2 for a in theatre.cluster.workers()))
    found = await told(theatre)
    assert found["greenroom_runs", "g", "running"] == 1
    assert found["greenroom_recoveries_total", "g"] == 1
    (deaths,) = [v for key, v in found.items() if key[0] == "greenroom_actor_deaths_total"]
    assert deaths == 1
    assert await theatre.finish(run.run_id)
    found = await told(theatre)
    assert found["greenroom_runs_total", "g", "success"] == 1
    assert found["greenroom_queue_wait_seconds_count", "g"] == 1
    assert found["greenroom_run_seconds_count", "g"] == 1
    assert not [key for key in found if key[0] == "greenroom_runs"]


async def test_runs_that_wait_show_in_the_metrics_and_end_there_when_they_are_dropped(
    theatre: Theatre,
) -> None:
    await theatre.create()
    waiting = await theatre.create()
    found = await told(theatre)
    assert found["greenroom_runs", "g", "pending"] == 1
    assert await theatre.cancel(waiting.run_id) is None
    await until(lambda: waiting.run_id not in theatre.registry.context.runs)
    found = await told(theatre)
    assert ("greenroom_runs", "g", "pending") not in found
    assert found["greenroom_runs_total", "g", "interrupted"] == 1


async def test_where_webhooks_are_switched_off_no_run_has_one(
    make: Callable[..., Awaitable[Theatre]], pool: Pool
) -> None:
    theatre = await make(webhooks=WebhookSettings(disabled=True))
    run = await theatre.create(webhook="https://hooks.example.com/")
    await theatre.executed(run.run_id)
    await theatre.finish(run.run_id)
    assert await outbox.due(pool, 10) == []


# --- why a thread's run was cancelled -------------------------------------------------------------


async def reason(theatre: Theatre) -> Any:
    sql = "SELECT error::text FROM greenroom.threads WHERE thread_id = 't'"
    ((error,),) = await theatre.rows(sql)
    return error and json.loads(error)


async def test_a_thread_says_that_a_client_cancelled_its_run(theatre: Theatre) -> None:
    run = await theatre.create()
    await theatre.executed(run.run_id)
    await theatre.cancel(run.run_id)
    await theatre.finish(run.run_id, RunStatus.INTERRUPTED)
    assert await reason(theatre) == {"error": "UserInterrupt", "message": in_flight.BY_A_CLIENT}
    after = await theatre.create()
    await theatre.finish(after.run_id)
    assert await reason(theatre) is None


async def test_a_thread_says_that_a_newer_run_displaced_its_run(theatre: Theatre) -> None:
    first = await theatre.create()
    await theatre.executed(first.run_id)
    await theatre.create("t", "interrupt")
    await theatre.finish(first.run_id, RunStatus.INTERRUPTED)
    assert await reason(theatre) == {"error": "UserInterrupt", "message": in_flight.DISPLACED}


async def test_a_thread_says_that_the_process_of_its_run_was_killed(strict: Theatre) -> None:
    run = await strict.create()
    await strict.executed(run.run_id)
    await strict.cancel(run.run_id)
    await strict.over(run.run_id)
    message = in_flight.KILLED.format(in_flight.BY_A_CLIENT)
    assert await reason(strict) == {"error": "UserInterrupt", "message": message}


async def test_a_thread_whose_run_was_rolled_back_says_nothing(strict: Theatre) -> None:
    run = await strict.create()
    await strict.executed(run.run_id)
    await strict.cancel(run.run_id, "rollback")
    await strict.over(run.run_id)
    assert await reason(strict) is None
