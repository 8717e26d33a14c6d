"""Keeper over actors in memory: deaths, starts that fail, adoption, orders."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from actors.calls.answers import NodeGone
from actors.calls.directory import Handles
from actors.common import metrics
from actors.common.actor_process import ActorProcess
from actors.common.metering import Meter
from actors.common.placement import HEAD, HEAD_SHARE, ClusterView, Node
from actors.common.tasks import Tasks
from actors.inspector.asking import Duty
from actors.registry import keeper as keeping
from actors.registry.keeper import Keeper
from actors.registry.pool_specs import pool_specs
from actors.spawn import Spawn
from greenroom.core.errors import ConfigurationError, Fenced, Unavailable, Unreachable
from greenroom.graphs.configuration import Configuration, GraphSpec, PlacementSpec
from tests.actors.doubles import BOUND_S, PLACE, Cluster, FakeHandles, setup_of, until
from tests.run_records import an_order


def graphs(**placements: PlacementSpec) -> Configuration:
    return Configuration(
        root=Path(),
        graphs={
            name: GraphSpec(graph_id=name, target=f"m:{name}", placement=placement)
            for name, placement in placements.items()
        },
    )


class Stage:
    """A keeper, its cluster, and what it said."""

    def __init__(self, configuration: Configuration, cluster: Cluster) -> None:
        self.cluster = cluster
        self.granted: list[tuple[str, str]] = []
        self.lost: list[tuple[str, str, str | None]] = []
        self.unstartable: list[tuple[str, str]] = []
        self.tasks = Tasks()
        handles = FakeHandles(cluster)
        self.keeper = Keeper(
            cast(Handles, handles),
            cast(Spawn, handles),
            configuration,
            setup_of(),
            self.tasks,
            Meter(metrics.ALL),
            granted=lambda run_id, actor: self.granted.append((run_id, actor)),
            lost=lambda *notice: self.lost.append(notice),
            unstartable=lambda run_id, reason: self.unstartable.append((run_id, reason)),
        )

    async def inspector(self, duty: Duty = Duty.READS) -> str:
        assert self.keeper.inspectors is not None
        return await self.keeper.inspectors.name(duty)

    @property
    def states(self) -> list[str]:
        return [member["state"] for member in self.keeper.counts()["pool"]]

    async def warm(self) -> None:
        self.tasks.spawn(self.keeper.keep())
        assert await self.keeper.is_warm(BOUND_S)

    async def end(self) -> None:
        await self.keeper.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEEP_INTERVAL_S", 0.01)
    monkeypatch.setattr(keeping, "RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.deliveries.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.inspector.asking.RECONNECT_S", 0.001)
    monkeypatch.setattr("actors.registry.pool.START_BACKOFF_S", (0.0, 0.001, 0.002))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(graphs(g=PlacementSpec(warm=1, max_actors=2)), Cluster())
    yield stage
    await stage.end()


async def test_a_keeper_makes_its_warm_actors_and_an_inspector_and_tells_them_it_is_there(
    stage: Stage,
) -> None:
    await stage.warm()
    assert stage.states == ["ready"]
    await until(lambda: len(stage.cluster.settlers()) == 1)
    assert len(stage.cluster.inspectors()) == 1
    await until(lambda: all(actor.beats for actor in stage.cluster.actors.values()))


async def test_a_run_that_finds_no_slot_gets_one_from_a_new_actor(stage: Stage) -> None:
    await stage.warm()
    first = stage.keeper.slots.claim("a", "g")
    assert first is not None
    assert stage.keeper.slots.claim("b", "g") is None
    await until(lambda: stage.granted)
    assert stage.granted[0][0] == "b"
    assert stage.granted[0][1] != first
    assert stage.keeper.slots.claim("c", "g") is None
    stage.keeper.slots.release("a", "g", first)
    assert stage.granted[1] == ("c", first)


async def test_a_burst_shares_actors_until_more_are_there_and_its_lost_runs_share_none() -> None:
    placement = PlacementSpec(warm=1, max_actors=3, overflow=8)
    stage = Stage(graphs(g=placement), Cluster())
    await stage.warm()
    slots = stage.keeper.slots
    first = slots.claim("a", "g")
    assert first is not None
    assert [slots.claim("b", "g"), slots.claim("c", "g")] == [first, first]
    assert stage.cluster.actors[first].spec.isolates is False
    await until(lambda: stage.states == ["ready"] * 3)
    assert stage.granted == [], "who shares stays where it is"
    assert slots.claim("d", "g") not in (None, first)
    stage.cluster.die(first)
    await until(lambda: len(stage.lost) == 3)
    assert slots.claim_again("b", "g") not in (None, first)
    assert slots.claim_again("c", "g") is None, "all that is ready has a run"
    await until(lambda: stage.granted)
    assert stage.granted[0][0] == "c"
    await stage.end()


async def test_a_death_is_told_with_what_the_actor_said_about_it(stage: Stage) -> None:
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    stage.keeper.note(name, "too large")
    stage.cluster.die(name)
    await until(lambda: stage.lost)
    assert stage.lost == [("a", name, "too large")]
    await until(lambda: "ready" in stage.states)


async def test_no_run_of_several_is_blamed_for_what_their_actor_said_about_its_death() -> None:
    stage = Stage(graphs(g=PlacementSpec(warm=1, runs_per_actor=2)), Cluster())
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    assert stage.keeper.slots.claim("b", "g") == name
    stage.keeper.note(name, "too large")
    stage.cluster.die(name)
    await until(lambda: len(stage.lost) == 2)
    assert sorted(stage.lost) == [("a", name, None), ("b", name, None)]
    assert [death.what for death in stage.keeper.pulse.shown()["deaths"]] == ["too large"]
    await stage.end()


async def test_a_keeper_that_was_closed_tells_nobody_and_leaves_its_actors_to_the_next() -> None:
    configuration, cluster = graphs(g=PlacementSpec(warm=1, max_actors=2)), Cluster()
    old = Stage(configuration, cluster)
    await old.warm()
    name = old.keeper.slots.claim("a", "g")
    assert name is not None
    old.keeper.slots.claim("b", "g")  # it is about to start an actor for it
    old.keeper.deliveries.start(name, an_order("a"))
    await until(lambda: cluster.executing("a"))
    await old.keeper.close()
    await old.keeper.close()
    assert not old.tasks.running

    new = Stage(configuration, cluster)
    assert await new.keeper.adopt(2) == {"a": (name, 1)}
    cluster.die(name)
    await until(lambda: new.lost)
    assert new.lost == [("a", name, None)]
    assert (old.lost, old.granted, old.unstartable) == ([], [], [])
    await new.end()


async def test_a_broken_connection_is_not_a_death(stage: Stage) -> None:
    stage.cluster.scripts["alive"] = [Unreachable("no route")] * 6
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    await until(lambda: not stage.cluster.scripts["alive"])
    assert stage.lost == []
    assert name in stage.cluster.actors


@pytest.mark.parametrize("seed", range(3))
async def test_orders_are_executed_once_whatever_the_way_there_does(
    stage: Stage, seed: int
) -> None:
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    stage.cluster.misbehave(seed, share=0.6)
    actor = stage.cluster.actors[name]
    for number in range(20):
        stage.keeper.deliveries.start(name, an_order(f"r{number}"))
        # One after the other: orders that gather are one call, which may well be spared.
        await until(lambda: len(actor.orders) > number)  # noqa: B023
    assert [each.run_id for each in actor.orders] == [f"r{number}" for number in range(20)]
    assert stage.cluster.happened
    assert stage.lost == []


async def test_nothing_but_a_death_ends_the_watch_of_an_actor(stage: Stage) -> None:
    """B19: a watch that ended otherwise would never tell of the death, and the runs would hang."""
    stage.cluster.scripts["alive"] = [OSError("no GCS"), RuntimeError("owner died"), "an answer"]
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    await until(lambda: not stage.cluster.scripts["alive"])
    assert stage.lost == []
    stage.cluster.die(name)
    await until(lambda: stage.lost)


async def test_an_order_is_sent_again_until_it_is_heard_and_executed_once(stage: Stage) -> None:
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    stage.cluster.scripts["start_many"] = [Unreachable("no route")] * 3
    stage.keeper.deliveries.start(name, an_order("a"))
    stage.keeper.deliveries.start(name, an_order("a"))
    actor = stage.cluster.actors[name]
    await until(lambda: actor.orders)
    assert [each.run_id for each in actor.orders] == ["a"]


async def test_an_order_for_a_dead_actor_ends_with_the_notice_of_its_death(stage: Stage) -> None:
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    stage.cluster.die(name)
    stage.keeper.deliveries.start(name, an_order("a"))
    await until(lambda: stage.lost)
    assert stage.lost == [("a", name, None)]
    assert name not in stage.keeper.deliveries.starters


async def test_cancel_is_asked_again_over_a_broken_connection_and_passes_over_a_dead_actor(
    stage: Stage,
) -> None:
    await stage.warm()
    name = stage.keeper.slots.claim("a", "g")
    assert name is not None
    stage.cluster.scripts["cancel"] = [Unreachable("no route")]
    await stage.keeper.deliveries.cancel(name, "a", 1, keep_values=True)
    await stage.keeper.deliveries.cancel(name, "a", 1, keep_values=False)
    assert stage.cluster.actors[name].cancelled == [("a", 1, True), ("a", 1, False)]
    await stage.keeper.deliveries.cancel("run-nobody", "a", 1, keep_values=True)


async def test_a_start_that_fails_is_tried_again(stage: Stage) -> None:
    stage.cluster.scripts["prepare"] = [RuntimeError("no GPU")]
    stage.keeper.wake()
    assert stage.keeper.slots.claim("a", "g") is None
    await until(lambda: stage.granted)
    assert stage.unstartable == []


async def test_after_three_failed_starts_who_waits_is_told_why(stage: Stage) -> None:
    stage.cluster.scripts["prepare"] = [ConfigurationError("no module named cats")] * 20
    assert stage.keeper.slots.claim("a", "g") is None
    await until(lambda: stage.unstartable)
    assert stage.unstartable == [("a", "no module named cats")]
    with pytest.raises(ConfigurationError, match="no module named cats"):
        await stage.keeper.is_warm(BOUND_S)


async def test_a_process_that_dies_while_it_loads_counts_as_a_failed_start(stage: Stage) -> None:
    def die(*_: Any) -> None:
        for worker in stage.cluster.workers():  # none yet, if an inspector is the first to load
            stage.cluster.die(worker.name)

    stage.cluster.scripts["prepare"] = [die] * 100
    assert stage.keeper.slots.claim("a", "g") is None
    await until(lambda: stage.unstartable)
    assert "died while it loaded" in str(stage.unstartable[0][1])


async def test_only_one_timer_waits_for_the_next_start(stage: Stage) -> None:
    stage.cluster.scripts["prepare"] = [RuntimeError("no")] * 100
    for number in range(50):
        stage.keeper.slots.claim(str(number), "g")
        await asyncio.sleep(0)
    await until(lambda: stage.keeper.retry is not None)
    assert isinstance(stage.keeper.retry, asyncio.TimerHandle)


async def test_an_actor_at_the_end_of_its_life_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "KEEP_INTERVAL_S", 3600.0)
    placement = PlacementSpec(warm=1, max_actors=1, max_runs_per_actor_life=1)
    stage = Stage(graphs(g=placement), Cluster())
    await stage.warm()
    read = asyncio.Event()
    stage.cluster.scripts["retire"] = [read.wait()]
    first = stage.keeper.slots.claim("a", "g")
    assert stage.keeper.slots.claim("b", "g") is None
    stage.keeper.slots.release("a", "g", first)
    await until(lambda: stage.granted)
    assert stage.granted[0][0] == "b"
    assert first in stage.cluster.actors, "what it has executed is still read"
    read.set()
    await until(lambda: first in stage.cluster.killed)
    assert stage.lost == []
    await stage.end()


async def test_a_retired_actor_that_is_never_done_goes_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "SEE_OFF_S", 0.01)
    placement = PlacementSpec(warm=1, max_actors=1, max_runs_per_actor_life=1)
    stage = Stage(graphs(g=placement), Cluster())
    await stage.warm()
    stage.cluster.scripts["retire"] = [asyncio.Event().wait()]
    first = stage.keeper.slots.claim("a", "g")
    stage.keeper.slots.release("a", "g", first)
    await until(lambda: first in stage.cluster.killed)
    await stage.end()


async def test_shipped_graphs_have_actors_while_they_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "IDLE_S", 0.05)
    monkeypatch.setattr("actors.registry.pools.IDLE_S", 0.05)
    cluster = Cluster()
    stage = Stage(graphs(g=PlacementSpec(warm=0)), cluster)
    for number in range(20):
        name = f"shipped-{number}"
        stage.keeper.pools.serve(
            GraphSpec(graph_id=name, target="", placement=PlacementSpec(warm=1))
        )
    await stage.warm()
    await asyncio.sleep(0)
    assert cluster.workers() == [], "a start would make an actor for every name there ever was"
    assert stage.keeper.slots.claim("a", "shipped-3") is None
    await until(lambda: stage.granted)
    _, actor = stage.granted[0]
    await until(lambda: len(cluster.workers()) == 2)  # the run's, and a warm one
    stage.keeper.slots.release("a", "shipped-3", actor)
    await until(lambda: not cluster.workers())
    await stage.end()


async def test_graphs_with_one_placement_share_actors_and_others_do_not() -> None:
    warm = PlacementSpec(warm=1)
    stage = Stage(graphs(a=warm, b=warm, gpu=dataclasses.replace(warm, num_gpus=1)), Cluster())
    await stage.warm()
    assert sorted(actor.spec.graphs for actor in stage.cluster.workers()) == [("a", "b"), ("gpu",)]
    await stage.end()


async def test_a_restarted_keeper_adopts_who_is_there_and_keeps_what_they_execute() -> None:
    configuration, cluster = graphs(g=PlacementSpec(warm=1, max_actors=2)), Cluster()
    old = Stage(configuration, cluster)
    await old.warm()
    name = old.keeper.slots.claim("a", "g")
    assert name is not None
    old.keeper.deliveries.start(name, an_order("a"))
    await until(lambda: cluster.executing("a"))
    await old.end()
    made = len(cluster.ever)

    new = Stage(configuration, cluster)
    assert await new.keeper.adopt(2) == {"a": (name, 1)}
    assert await new.inspector() in cluster.actors
    new.keeper.slots.release("a", "g", name)
    assert new.keeper.slots.claim("b", "g") is not None
    await new.warm()
    assert len(cluster.inspectors()) == 1
    assert len(cluster.ever) <= made + 2
    cluster.die(name)
    await until(lambda: name not in [m["actor"] for m in new.keeper.counts()["pool"]])
    await new.end()


async def test_actors_of_another_configuration_and_silent_ones_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "ADOPT_WAIT_S", 0.02)
    cluster = Cluster()
    old = Stage(graphs(g=PlacementSpec(warm=1), x=PlacementSpec(warm=1, num_gpus=1)), cluster)
    await old.warm()
    await old.end()
    foreign = next(a.name for a in cluster.workers() if a.spec.graphs == ("x",))
    silent = next(a.name for a in cluster.workers() if a.spec.graphs == ("g",))
    cluster.scripts["adopt"] = [
        asyncio.Event().wait() if name == silent else None for name in cluster.actors
    ]
    new = Stage(graphs(g=PlacementSpec(warm=1)), cluster)
    assert await new.keeper.adopt(2) == {}
    assert {foreign, silent} <= set(cluster.killed)
    assert new.keeper.counts()["actors"] == 0
    await new.end()


async def test_an_actor_that_answers_nonsense_is_ended_and_does_not_stop_the_start(
    stage: Stage,
) -> None:
    name = "run-old"
    stage.cluster.add(name, stage.keeper.pools.of_graph("g").spec)
    stage.cluster.scripts["adopt"] = [("only", "two")]
    assert await stage.keeper.adopt(1) == {}
    assert stage.cluster.killed == [name]


async def test_an_actor_that_was_still_loading_when_its_registry_died_is_ended(
    stage: Stage,
) -> None:
    """Nobody knows whether it was ever told to load: a run given to it would fail."""
    name = "run-half"
    stage.cluster.add(name, stage.keeper.pools.of_graph("g").spec)
    stage.cluster.scripts["adopt"] = [Unavailable("This actor has not loaded its graphs yet.")]
    assert await stage.keeper.adopt(2) == {}
    assert stage.cluster.killed == [name]
    assert stage.keeper.counts()["actors"] == 0


async def test_a_keeper_of_the_past_ends_nobody(stage: Stage) -> None:
    stage.cluster.add("run-new", stage.keeper.pools.of_graph("g").spec)
    stage.cluster.scripts["adopt"] = [Fenced("epoch 1 was superseded by 2")]
    with pytest.raises(Fenced):
        await stage.keeper.adopt(1)
    assert stage.cluster.killed == []


async def test_a_graph_that_is_not_served_any_more_breaks_nothing(stage: Stage) -> None:
    assert not stage.keeper.pools.knows("gone")
    stage.keeper.slots.release("a", "gone", None)
    stage.keeper.slots.release("a", "gone", "run-gone")
    assert stage.keeper.pools.max_attempts("gone") == 1


async def test_nothing_is_kept_of_actors_that_are_gone(stage: Stage) -> None:
    await stage.warm()
    for number in range(5):
        name = stage.keeper.slots.claim(str(number), "g")
        if name is None:
            await until(lambda: stage.granted)
            _, name = stage.granted.pop()
        stage.keeper.deliveries.start(name, an_order(str(number)))
        await until(lambda: stage.cluster.executing(str(number)))  # noqa: B023
        stage.cluster.die(name)
        await until(lambda: len(stage.lost) == number + 1)  # noqa: B023
    await until(lambda: "starting" not in stage.states)  # they have a name before a process
    alive = set(stage.cluster.actors)
    assert set(stage.keeper.processes) <= alive
    assert set(stage.keeper.pools.actors) <= alive
    assert not stage.keeper.deliveries.starters
    assert not stage.keeper.notes


@pytest.fixture
async def stuck(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A graph for which no node has a GPU."""
    monkeypatch.setattr("actors.registry.starting.PLACING_LOOK_S", 0.005)
    stage = Stage(graphs(g=PlacementSpec(warm=0, num_gpus=1)), Cluster())
    stage.keeper._starter._setup = setup_of(placement_patience_s=0.02)
    stage.tasks.spawn(stage.keeper.keep())
    for duty in Duty:
        await stage.inspector(duty)
    stage.cluster.scripts["prepare"] = [asyncio.Event().wait() for _ in range(9)]
    yield stage
    for pending in stage.cluster.scripts["prepare"]:
        pending.close()
    await stage.end()


async def test_runs_whose_placement_no_node_can_satisfy_are_told_so_and_do_not_wait_for_ever(
    stuck: Stage,
) -> None:
    assert stuck.keeper.slots.claim("a", "g") is None
    assert stuck.keeper.slots.claim("b", "g") is None
    await until(lambda: len(stuck.unstartable) == 2)
    assert [run_id for run_id, _ in stuck.unstartable] == ["a", "b"]
    assert "needs 0.5 CPU, 1 GPU; the most that a node has is 0 GPU" in str(stuck.unstartable[0][1])
    await until(lambda: stuck.cluster.workers() == [])  # one was asked for by each of the two
    with pytest.raises(ConfigurationError, match="An actor does not start: No node can hold"):
        await stuck.keeper.is_warm(BOUND_S)


@pytest.mark.parametrize("node", [Node(resources={"CPU": 8, "GPU": 1}), None])
async def test_an_actor_stays_asked_for_while_a_node_has_room_in_total_or_may_be_added(
    stuck: Stage, node: Node | None
) -> None:
    nodes = (node,) if node else ()
    stuck.cluster.view = ClusterView(nodes=nodes, autoscales=node is None)
    ready = asyncio.Event()
    looks = 0

    def look() -> ClusterView:
        nonlocal looks
        looks += 1
        return stuck.cluster.view

    cast(Any, stuck.keeper.handles).cluster_view = look

    async def when_ready() -> ActorProcess:
        await ready.wait()
        return PLACE

    stuck.cluster.scripts["prepare"].insert(0, when_ready())
    assert stuck.keeper.slots.claim("a", "g") is None
    await until(lambda: looks > 10)
    assert stuck.unstartable == []
    assert len(stuck.cluster.workers()) == 1
    ready.set()
    await until(lambda: stuck.granted)


async def test_a_control_service_that_is_away_condemns_no_run(stuck: Stage) -> None:
    looks = 0

    def away() -> ClusterView:
        nonlocal looks
        looks += 1
        raise RuntimeError("GCS")

    cast(Any, stuck.keeper.handles).cluster_view = away
    assert stuck.keeper.slots.claim("a", "g") is None
    await until(lambda: looks > 10)
    assert stuck.unstartable == []


async def test_actors_that_were_starting_on_a_node_that_is_lost_are_no_failed_starts(
    stage: Stage,
) -> None:
    """A node with many starting actors would otherwise end every run that waits for one."""
    stage.cluster.scripts["prepare"] = [NodeGone("run"), Unreachable("cannot be reached")] * 5
    assert stage.keeper.slots.claim("a", "g") is None
    await until(lambda: stage.granted)
    assert stage.unstartable == []
    assert all(pool.failed_starts == 0 for pool in stage.keeper.pools.distinct)


async def test_with_an_embedded_database_actors_stay_on_the_head() -> None:
    configuration = graphs(g=PlacementSpec(resources={"x": 1.0}))
    [elsewhere] = pool_specs(configuration, setup_of())
    [beside] = pool_specs(configuration, setup_of(embedded=Path("pg")))
    assert elsewhere.resources == (("x", 1.0),)
    assert dict(beside.resources) == {"x": 1.0, HEAD: HEAD_SHARE}


def test_placements_that_differ_in_the_kind_of_node_have_pools_of_their_own() -> None:
    kinds = [{}, {"accelerator_type": "L4"}, {"labels": {"zone": "a"}}, {"labels": {"zone": "b"}}]
    configuration = graphs(**{f"g{n}": PlacementSpec(**kind) for n, kind in enumerate(kinds)})  # type: ignore[arg-type]
    specs = pool_specs(configuration, setup_of())
    assert [spec.graphs for spec in specs] == [("g0",), ("g1",), ("g2",), ("g3",)]


# --- changed code ---------------------------------------------------------------------------------


async def test_changed_code_executes_the_next_run_and_a_spare_process_waits_for_the_next_change(
    stage: Stage,
) -> None:
    await stage.warm()
    old = {actor.name for actor in stage.cluster.workers()}
    inspector = await stage.inspector()
    under_way = stage.keeper.slots.claim("under way", "g")
    assert under_way in old
    assert await stage.keeper.renewals.renew() == []
    assert stage.keeper.slots.claim("next", "g") not in {*old, None}
    await until(lambda: {a.name for a in stage.cluster.workers()} & old == {under_way})
    stage.keeper.slots.release("under way", "g", under_way)
    await until(lambda: not {a.name for a in stage.cluster.workers()} & old)
    await until(lambda: inspector not in stage.cluster.actors)

    known = {member["actor"] for member in stage.keeper.counts()["pool"]}
    await until(lambda: {a.name for a in stage.cluster.workers()} - known)
    (spare,) = {a.name for a in stage.cluster.workers()} - known
    await until(lambda: stage.cluster.actors[spare].beats > 1)
    assert await stage.keeper.renewals.renew() == []
    assert spare in {member["actor"] for member in stage.keeper.counts()["pool"]}


async def test_changed_code_that_does_not_load_is_told_and_the_old_code_goes_on(
    stage: Stage,
) -> None:
    await stage.warm()
    old = {actor.name for actor in stage.cluster.workers()}
    inspector = await stage.inspector()
    await stage.inspector(Duty.ENDS)  # it starts by the same method as an actor
    stage.cluster.scripts["prepare"] = [ConfigurationError("SyntaxError in g.py")]
    assert await stage.keeper.renewals.renew() == ["SyntaxError in g.py"]
    assert stage.keeper.slots.claim("next", "g") in old
    assert stage.unstartable == []
    assert await stage.inspector() == inspector
    assert await stage.keeper.is_warm(BOUND_S)
