"""Which registry a gateway asks, also when there are not as many as it thought. No Ray."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest

from actors.calls import answers
from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.calls.names import registry_name
from actors.gateway import routing
from actors.gateway.runtime import RayRuntime
from greenroom.core.errors import (
    Conflict,
    DatabaseUnavailable,
    Restarting,
    Unavailable,
    Uncertain,
    Unreachable,
)
from greenroom.core.ports import StateUpdate
from greenroom.core.runs import CancelRequest, RunLocation, RunRequest, RunStatus
from greenroom.core.scopes import SERVER
from greenroom.core.sharding import Misrouted, Shard, for_thread, hash_slot_of_thread
from greenroom.persistence.database import Pool
from tests.actors.doubles import BOUND_S, Cluster, FakeHandles
from tests.run_records import request_of

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
UPDATE = StateUpdate(graph_id="g", thread_id="t", values=b"{}")
OVER = RunLocation(status=RunStatus.SUCCESS)


class Registries:
    """Some registries, by name, that note what they are asked."""

    def __init__(self, of: int) -> None:
        self.change(of)
        self.asked: list[tuple[int, str, Any]] = []
        self.answers: dict[str, Callable[..., Any]] = {}
        self.gone: list[str] = []
        self.failures: list[Exception] = []
        self.calls = 0
        self.forgotten: list[str] = []

    def change(self, of: int) -> None:
        self.of = of
        self.names = {registry_name(number): number for number in range(of)}

    def forget(self, name: str) -> None:
        self.forgotten.append(name)

    async def call(self, name: str, method: str, *args: Any, within_s: float | None = None) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        if name in self.gone:
            self.gone.remove(name)
            raise ActorGone(name)
        if name not in self.names:
            raise ActorGone(name)
        number = self.names[name]
        if method == "hello":
            return {"shards": self.of}
        self.asked.append((number, method, args))
        if method in ("create_many", "cancel_many"):
            (items,) = args
            if not all(Shard(number, self.of).has(item.thread_id) for item in items):
                raise Misrouted("Elsewhere.", self.of)
            return [(number, item.thread_id) for item in items]
        return self.answers[method](number, *args)


@pytest.fixture
def registries() -> Registries:
    return Registries(4)


def runtime_of(registries: Registries, shards: int) -> RayRuntime:
    return RayRuntime(
        cast(Handles, registries),
        cast(Pool, None),
        shards=shards,
        read_wait_s=1.0,
        fixed_graphs=frozenset(),
    )


def threads_of(shard: Shard, many: int) -> list[str]:
    names = (f"t{number}" for number in itertools.count())
    return list(itertools.islice(filter(shard.has, names), many))


def request(thread_id: str) -> RunRequest:
    return request_of(
        run_id=for_thread(RUN, thread_id),
        thread_id=thread_id,
        assistant_id="a",
        graph_id="g",
        kwargs=b"{}",
        metadata=b"{}",
        multitask_strategy="enqueue",
        create_thread=True,
    )


async def create(runtime: RayRuntime, threads: list[str]) -> list[Any]:
    creating = (runtime.create(request(thread_id)) for thread_id in threads)
    async with asyncio.timeout(BOUND_S):
        return await asyncio.gather(*creating)


async def test_what_gathers_is_sent_to_each_registry_as_one_call(registries: Registries) -> None:
    runtime = runtime_of(registries, 4)
    threads = [each for n in range(4) for each in threads_of(Shard(n, 4), 3)]
    found = await create(runtime, threads)
    assert found == [(hash_slot_of_thread(each) % 4, each) for each in threads]
    assert sorted(number for number, _, _ in registries.asked) == [0, 1, 2, 3]


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (4, 3), (3, 5), (5, 2)])
async def test_runs_find_their_registry_when_there_are_others_than_before(
    registries: Registries, before: int, after: int
) -> None:
    registries.change(before)
    runtime = runtime_of(registries, before)
    threads = [f"t{number}" for number in range(40)]
    assert len(await create(runtime, threads)) == 40
    registries.change(after)
    found = await create(runtime, threads)
    assert found == [(hash_slot_of_thread(each) % after, each) for each in threads]
    asked = CancelRequest(thread_id="t7", run_id=for_thread(RUN, "t7"))
    await runtime.cancel(asked, wait=False, scope=SERVER)
    assert registries.asked[-1][0] == hash_slot_of_thread("t7") % after


async def test_a_run_is_followed_by_its_id_alone(registries: Registries) -> None:
    registries.answers["follow"] = lambda *_: OVER
    runtime = runtime_of(registries, 4)
    for thread_id in ("t1", "t2", "t3"):
        await runtime.until_over(for_thread(RUN, thread_id))
        assert registries.asked[-1][:2] == (hash_slot_of_thread(thread_id) % 4, "follow")


async def test_a_run_whose_id_tells_nothing_is_followed_where_it_is(
    registries: Registries,
) -> None:
    def follow(number: int, *_: Any) -> RunLocation:
        if number != 2:
            raise Misrouted("Elsewhere.", 4, 6)
        return OVER

    registries.answers["follow"] = follow
    runtime = runtime_of(registries, 4)
    assert await runtime.until_over(RUN[:-2] + "01") is RunStatus.SUCCESS
    assert [number for number, _, _ in registries.asked] == [1, 2]


async def test_a_registry_that_restarts_is_waited_for(registries: Registries) -> None:
    runtime = runtime_of(registries, 4)
    registries.gone = [registry_name(3)]
    (found,) = await create(runtime, threads_of(Shard(3, 4), 1))
    assert found[0] == 3


@pytest.mark.parametrize("failure", [Unreachable("no route"), Restarting("It starts.")])
async def test_what_was_not_answered_is_asked_again(
    registries: Registries, failure: Exception
) -> None:
    registries.failures = [failure] * 3
    (found,) = await create(runtime_of(registries, 4), threads_of(Shard(0, 4), 1))
    assert found[0] == 0
    assert registries.calls == 4


@pytest.mark.parametrize(
    "refusal", [DatabaseUnavailable("The database is away."), Unavailable("No inspector.")]
)
async def test_an_answered_unavailable_is_the_askers_own_and_closes_nothing(
    registries: Registries, refusal: Unavailable
) -> None:
    """B5: it was asked 27 times in 3 s, and each time the connection was closed for everybody."""
    registries.failures = [refusal]
    with pytest.raises(Unavailable) as raised:
        await runtime_of(registries, 4).copy_thread("t", "u", metadata={}, scope=SERVER)
    assert raised.value is refusal
    assert registries.calls == 1
    assert registries.forgotten == []


async def test_what_must_not_be_done_twice_is_not_asked_again(registries: Registries) -> None:
    registries.failures = [Uncertain("Nobody knows.")]
    with pytest.raises(Uncertain):
        await runtime_of(registries, 4).copy_thread("t", "u", metadata={}, scope=SERVER)
    assert registries.calls == 1


async def test_an_update_that_was_refused_is_not_asked_for_again(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: it was applied 13 times, by as many inspectors that died over it."""
    applied: list[Any] = []

    def die(number: int, thread_id: str, update: list[Any]) -> None:
        applied.append(update)
        raise Unavailable("The inspector died over this update.")

    monkeypatch.setattr("ray.put", lambda value: value)
    registries.answers["update_state"] = die
    with pytest.raises(Unavailable, match="died over this update"):
        await runtime_of(registries, 4).update_state(UPDATE, scope=SERVER)
    assert len(applied) == 1


async def test_an_update_whose_answer_was_lost_is_asked_for_again_by_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    updates: list[StateUpdate] = []

    class Applies:
        async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
            updates.append(update[0])
            return b"{}"

    monkeypatch.setattr("ray.put", lambda value: value)
    cluster = Cluster()
    cluster.serve("registry", Applies())
    cluster.lose("update_state", times=2, executed=True)
    runtime = runtime_of(cast(Registries, FakeHandles(cluster)), 1)
    assert await runtime.update_state(UPDATE, scope=SERVER) == b"{}"
    assert await runtime.update_state(UPDATE, scope=SERVER) == b"{}"
    first, *again, other = updates
    assert first.update_id
    assert again == [first, first]
    assert other.update_id != first.update_id


@pytest.mark.parametrize("seed", range(5))
async def test_creates_and_cancels_are_asked_again_for_the_same_runs(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is lost, repeated, late or still being stored: one id, and one name."""
    monkeypatch.setattr(answers.random, "uniform", lambda *_: 0.0)  # without the pauses
    created: set[str] = set()
    cancelled: set[str] = set()
    names: set[str] = set()

    class Admits:
        async def create_many(self, requests: list[RunRequest]) -> list[str | None]:
            known = [each.run_id if each.run_id in created else None for each in requests]
            created.update(each.run_id for each in requests)
            return known

        async def cancel_many(self, requests: list[CancelRequest]) -> list[bool | None]:
            known = [True if each.name in names else None for each in requests]
            cancelled.update(each.run_id for each in requests)
            names.update(each.name for each in requests)
            return known

    cluster = Cluster()
    cluster.serve("registry", Admits())
    cluster.misbehave(seed, share=0.5)
    runtime = runtime_of(cast(Registries, FakeHandles(cluster)), 1)
    threads = [f"t{number}" for number in range(20)]
    made = [for_thread(RUN, thread_id) for thread_id in threads]
    for thread_id, run_id in zip(threads, made, strict=True):
        assert await create(runtime, [thread_id]) == [run_id]
        await runtime.cancel(
            CancelRequest(thread_id=thread_id, run_id=run_id), wait=False, scope=SERVER
        )
    assert created == cancelled == set(made)
    assert len(names) == len(made)
    assert cluster.happened


async def test_who_waits_for_a_run_waits_while_the_database_is_away(
    registries: Registries,
) -> None:
    registries.failures = [DatabaseUnavailable("The database is away.")] * 2
    registries.answers["follow"] = lambda *_: OVER
    assert await runtime_of(registries, 1).until_over(RUN) is RunStatus.SUCCESS
    assert registries.forgotten == []


async def test_one_that_does_not_come_back_is_no_endless_wait(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "REGISTRY_PATIENCE_S", 0.05)
    runtime = runtime_of(registries, 4)
    del registries.names[registry_name(3)]
    with pytest.raises(Unavailable, match="The server is restarting"):
        await create(runtime, threads_of(Shard(3, 4), 1))


async def test_what_is_said_of_all_is_put_together(registries: Registries) -> None:
    registries.answers["info"] = lambda number: {"running": number, "pool": [number]}
    registries.answers["cancel_all"] = lambda number, *_: number
    runtime = runtime_of(registries, 4)
    assert await runtime.info() == {"running": 6, "pool": [0, 1, 2, 3]}
    assert await runtime.cancel_many("all", "interrupt", scope=SERVER) == 6
    registries.change(2)
    assert await runtime.info() == {"running": 1, "pool": [0, 1]}


async def test_refusals_are_the_askers_own(registries: Registries) -> None:
    def refuse(number: int, thread_id: str, copy_id: str) -> None:
        raise Conflict("Conflict")

    registries.answers["copy_thread"] = refuse
    with pytest.raises(Conflict):
        await runtime_of(registries, 4).copy_thread("t", "u", metadata={}, scope=SERVER)
