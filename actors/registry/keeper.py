"""Keeps the actors: performs what `actors.registry.pool` decides, hears deaths, delivers orders.

The registry asks for places and is told, through callbacks, who got one, whose actor died, and for
whom no actor can be started. Actors are made off the registry's loop, since making one blocks. A
death is known by one never-ending call per actor (`alive`): only Ray's notice counts as death; an
actor that does not answer is busy.

Of several registries each keeps actors of its own; the inspectors are the first one's
(`actors.registry.inspecting`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from actors.calls.answers import ActorGone, NodeGone, answer, repeat
from actors.calls.directory import Handles
from actors.calls.names import (
    INSPECTOR,
    REGISTRY,
    is_run_actor,
    new_run_actor_name,
    registry_name,
    shard_of,
)
from actors.common import metrics
from actors.common.metering import Labels, Meter
from actors.common.placement import HEAD, HEAD_SHARE, PoolSpec, impossible
from actors.common.setup import InspectorSetup, RegistrySetup, RunActorSetup
from actors.common.tasks import Tasks
from actors.inspector.asking import Asker, Duty, settle
from actors.registry.inspecting import Inspectors
from actors.registry.pool import MemberState, Pool
from actors.spawn import Spawn
from greenroom.core.batching import Batcher
from greenroom.core.errors import (
    ConfigurationError,
    Fenced,
    GreenroomError,
    Unavailable,
    Unreachable,
)
from greenroom.core.runs import RunOrder
from greenroom.graphs.configuration import Configuration, GraphSpec, PlacementSpec

log = logging.getLogger("greenroom.keeper")

KEEP_INTERVAL_S = 5.0
IDLE_S = 60.0
GROW_PATIENCE_S = 0.5
ADOPT_WAIT_S = 10.0
ASK_WAIT_S = 1.0
MAX_FAILED_STARTS = 3
SEE_OFF_S = 60.0
"""The longest that an actor stays for those who read what it has executed."""
PLACING_LOOK_S = 2.0
"""How long an actor may take to load until it is asked whether there is a node for it at all."""
RECONNECT_S = 0.1

Granted = Callable[[str, str], object]
"""Called with a run and the actor that it got."""
Lost = Callable[[str, str, str | None], object]
"""Called with a run, its actor that died, and why if that is known. An actor may die after the run
has got another one: who is told compares the actor with the run's."""
Unstartable = Callable[[str, str], object]
"""Called with a waiting run, and the reason why no actor starts for it."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why an actor did not start.

    Attributes:
        reason: for people.
        blameless: it says nothing about whether the next one starts.
        hopeless: trying again would not help who waits now.
    """

    reason: str
    blameless: bool = False
    hopeless: bool = False


class Keeper:
    """The actors of one server.

    Args:
        handles, spawn: call actors, and make them.
        tasks: the keeper's own, which `close` ends.
        meter: counts how actors start and die.
        granted, lost, unstartable: see the types.
    """

    def __init__(
        self,
        handles: Handles,
        spawn: Spawn,
        configuration: Configuration,
        setup: RegistrySetup,
        tasks: Tasks,
        meter: Meter,
        *,
        granted: Granted,
        lost: Lost,
        unstartable: Unstartable,
    ) -> None:
        self._handles = handles
        self._spawn = spawn
        self._setup = setup
        self._tasks = tasks
        self._meter = meter
        self._granted = granted
        self._lost = lost
        self._unstartable = unstartable
        self._timeouts_s = {
            graph_id: graph.placement.timeout_s
            for graph_id, graph in configuration.graphs.items()
            if graph.placement.timeout_s
        }
        self._max_attempts = {
            graph_id: graph.placement.max_attempts
            for graph_id, graph in configuration.graphs.items()
        }
        self._pools = {
            graph_id: pool
            for spec in pool_specs(configuration, setup)
            for pool in [Pool(spec, patience_s=GROW_PATIENCE_S, few=_few(setup))]
            for graph_id in spec.graphs
        }
        self._all_graphs = tuple(configuration.graphs)
        self._pool_of_actor: dict[str, Pool] = {}
        self._starters: dict[str, Batcher[RunOrder, None]] = {}
        self._notes: dict[str, str] = {}
        self._pids: dict[str, int] = {}
        self._epoch = 0
        self._shard = setup.shard
        self._max_starts = setup.shard.share(setup.max_starts)
        self._starts = asyncio.Semaphore(self._max_starts) if self._max_starts else None
        self._growing = False
        self._retry: asyncio.TimerHandle | None = None
        self._draining = False
        self._closed = False
        self._problem = ""
        self._inspectors = Inspectors(
            handles,
            tasks,
            spec=self._inspector_spec,
            make=self._make_inspector,
            inspect_s=setup.inspect_s,
        )
        self._askers = {
            duty: Asker(handles, duty, name=self.inspector, apart=self.ask_apart) for duty in Duty
        }

    def knows(self, graph_id: str) -> bool:
        return graph_id in self._pools

    def serve(self, graph: GraphSpec) -> None:
        """One more graph, with actors of its own, unless it is known.

        They are kept warm until nobody has used it for `IDLE_S`.
        """
        if self.knows(graph.graph_id):
            return
        if graph.placement.timeout_s:
            self._timeouts_s[graph.graph_id] = graph.placement.timeout_s
        self._max_attempts[graph.graph_id] = graph.placement.max_attempts
        spec = dataclasses.replace(_spec(graph.placement, self._setup), graphs=(graph.graph_id,))
        # Clients choose the names: not each is worth a process for ever, and one at every start.
        self._pools[graph.graph_id] = Pool(
            spec, patience_s=GROW_PATIENCE_S, few=_few(self._setup), warm_for_s=IDLE_S
        )

    def timeout_s(self, graph_id: str) -> float:
        """How long an attempt of the graph may take; 0: as long as it likes."""
        return self._timeouts_s.get(graph_id, 0.0)

    def max_attempts(self, graph_id: str) -> int:
        """How often a run of the graph is started when its process dies."""
        return self._max_attempts.get(graph_id, 1)

    # --- life ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends what the keeper does by itself; its actors live on, and another keeper adopts them.

        From here on it calls nobody back: neither `lost` nor `granted` nor `unstartable`.
        """
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        await self._tasks.close()
        for name in [*self._pool_of_actor]:
            self._handles.forget(name)

    async def adopt(self, epoch: int) -> dict[str, tuple[str, int]]:
        """Takes over its living actors of the namespace; returns run → (actor, attempt).

        Actors that do not answer, or load other graphs than this configuration's, are ended.
        """
        self._epoch = epoch
        names = await asyncio.to_thread(self._handles.names)
        executed: dict[str, tuple[str, int]] = {}
        for found in await asyncio.gather(*(self._adopt(name) for name in names)):
            executed.update(found)
        return executed

    async def _adopt(self, name: str) -> dict[str, tuple[str, int]]:
        if name.startswith(INSPECTOR):
            if self._shard.is_first:
                await self._inspectors.adopt(name, self._epoch, ADOPT_WAIT_S)
            return {}
        if not is_run_actor(name):
            return {}
        maker = shard_of(name)
        if maker % self._shard.of != self._shard.number:
            return {}
        if maker != self._shard.number:
            # From when there were more registries. It counts that one's epochs.
            await self.kill(name)
            return {}
        try:
            async with asyncio.timeout(ADOPT_WAIT_S):
                spec, self._pids[name], runs = await repeat(
                    lambda: self._handles.call(name, "adopt", self._epoch),
                    on=(Unreachable,),
                    bound_s=None,  # the time-out around it is the bound
                )
        except Fenced:
            # Its registry is newer than this one: nothing here is ours to end.
            raise
        except Exception:  # an actor of older code may answer anything
            log.warning("an actor could not be adopted", extra={"actor": name}, exc_info=True)
            await self.kill(name)
            return {}
        pool = next((pool for pool in self._pools.values() if pool.spec == spec), None)
        if pool is None:
            await self.kill(name)
            return {}
        pool.adopt(name, [run_id for run_id, _ in runs], now_s=time.monotonic())
        self._pool_of_actor[name] = pool
        self._tasks.spawn(self._watch(name))
        return {run_id: (name, attempt) for run_id, attempt in runs}

    async def drain(self) -> None:
        """Gives out no more places, and asks every actor to stop its runs after their superstep."""
        self._draining = True
        for name, pool in self._pool_of_actor.items():
            pool.retire(name)
        await asyncio.gather(*(self._drain(name) for name in [*self._pool_of_actor]))

    async def _drain(self, name: str) -> None:
        with suppress(GreenroomError):
            await self._handles.call(name, "drain", within_s=ASK_WAIT_S)

    async def keep(self) -> None:
        """Never ends: keeps the pools at their size, and beats to the actors."""
        self.wake()
        if self._shard.is_first:
            self._inspectors.keep()
        while True:
            # Several times within what an actor takes for the registry's death.
            await asyncio.sleep(min(KEEP_INTERVAL_S, self._setup.registry_silence_s / 4))
            for name in self._pool_of_actor:
                self._tasks.spawn(self._beat(name))
            self._inspectors.beat(self._epoch)
            now_s = time.monotonic()
            for pool in self._distinct_pools:
                self._shrink(pool, now_s)
            self.wake()

    def _shrink(self, pool: Pool, now_s: float) -> None:
        for name in pool.surplus(now_s=now_s, idle_s=IDLE_S):
            retired = pool.members[name].state is MemberState.RETIRING
            pool.stopped(name)  # at once: another one may have its place
            self._pool_of_actor.pop(name, None)
            self._tasks.spawn(self._see_off(name) if retired else self.kill(name))

    async def _see_off(self, name: str) -> None:
        """Ends an actor whose last run has ended a moment ago, when its readers have it all."""
        with suppress(GreenroomError):
            await self._handles.call(name, "retire", within_s=SEE_OFF_S)
        await self.kill(name)

    async def _beat(self, name: str) -> None:
        with suppress(GreenroomError):  # the next beat follows soon
            await self._handles.call(name, "beat", self._epoch, within_s=KEEP_INTERVAL_S)

    @property
    def _distinct_pools(self) -> list[Pool]:
        return list({id(pool): pool for pool in self._pools.values()}.values())

    async def is_warm(self, wait_s: float) -> bool:
        """Whether every pool has a ready actor, and the inspector is there; waits for it.

        Raises:
            ConfigurationError: an actor cannot be started; the sentence says why.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            failed = [pool for pool in self._distinct_pools if pool.failed_starts]
            if failed:
                raise ConfigurationError(f"An actor does not start: {self._problem}")
            now_s = time.monotonic()
            cold = [
                pool
                for pool in self._distinct_pools
                if pool.warm(now_s=now_s) and not pool.has_ready
            ]
            if not cold and (self._inspectors.is_there or not self._shard.is_first):
                return True
            if now_s > deadline_s:
                return False
            await asyncio.sleep(0.02)

    def counts(self) -> dict[str, Any]:
        """Actors and places, for those who run the server."""
        pools = self._distinct_pools
        members = [member for pool in pools for member in pool.members.values()]
        return {
            "actors": len(members),
            "places": sum(pool.spec.max_actors * pool.spec.runs_per_actor for pool in pools),
            "waiting_for_a_place": sum(len(pool.waiting) for pool in pools),
            "pool": [
                {
                    "actor": member.name,
                    "pid": self._pids.get(member.name),
                    "state": str(member.state),
                    "runs": sorted(member.runs),
                }
                for member in members
            ],
        }

    def measure(self) -> None:
        """Sets the gauges of the pools."""
        actors: dict[Labels, float] = {}
        for pool in self._distinct_pools:
            for member in pool.members.values():
                labels = (pool.label, str(member.state))
                actors[labels] = actors.get(labels, 0) + 1
        self._meter.set(metrics.POOL_ACTORS, actors)
        for metric, value in (
            (metrics.POOL_FREE, lambda pool: pool.free_places),
            (metrics.POOL_WAITING, lambda pool: len(pool.waiting)),
        ):
            values = {(pool.label,): value(pool) for pool in self._distinct_pools}
            self._meter.set(metric, values)

    # --- places --------------------------------------------------------------------------------

    def claim(self, run_id: str, graph_id: str) -> str | None:
        """An actor for a run, or None: then the run stands in line and `granted` tells."""
        name = self._pools[graph_id].claim(run_id)
        self.wake()
        return name

    def claim_again(self, run_id: str, graph_id: str) -> str | None:
        """Like `claim`, at the head of the line, for a run that lost its actor."""
        name = self._pools[graph_id].claim_again(run_id)
        self.wake()
        return name

    def release(self, run_id: str, graph_id: str, actor: str | None) -> None:
        """A run has left its actor, or the line."""
        if actor is not None:
            self.vacate(run_id, actor)
        elif graph_id in self._pools:
            self._pools[graph_id].leave(run_id)

    def hand_on(self, run_id: str, actor: str) -> None:
        """A run is about to leave its actor: who waits for the place has it from now on."""
        pool = self._pool_of_actor.get(actor)
        if pool is not None:
            self._tell(pool.hand_on(actor, run_id, now_s=time.monotonic()))

    def vacate(self, run_id: str, actor: str) -> None:
        """An actor does not execute a run (any more), perhaps one that the registry knows not."""
        pool = self._pool_of_actor.get(actor)
        if pool is not None:
            self._tell(pool.release(actor, run_id, now_s=time.monotonic()))
            # It may have been the actor's last: a fresh one takes its place.
            self.wake()

    def holds(self, actor: str) -> bool:
        """Whether the actor is one of its own, and not known to be dead."""
        return actor in self._pool_of_actor

    def _tell(self, granted: Iterable[tuple[str, str]]) -> None:
        for run_id, actor in granted:
            self._granted(run_id, actor)

    # --- orders --------------------------------------------------------------------------------

    def start(self, actor: str, order: RunOrder) -> None:
        """Delivers an order; if the actor dies over it, `lost` tells."""
        self._tasks.spawn(self._start(actor, order))

    async def _start(self, actor: str, order: RunOrder) -> None:
        if actor not in self._pool_of_actor:
            return  # it died, and `lost` was told
        starter = self._starters.get(actor)
        if starter is None:
            starter = self._starters[actor] = Batcher(
                lambda orders: self._start_many(actor, orders)
            )
        with suppress(ActorGone):
            await starter.submit(order)

    async def _start_many(self, actor: str, orders: list[RunOrder]) -> list[None]:
        # Without a bound: a broken connection is not a death, and an attempt starts once however
        # often it is ordered, while an order that got lost would leave its run running for ever.
        await repeat(
            lambda: self._handles.call(actor, "start_many", self._epoch, orders),
            on=(Unreachable, Unavailable),
            bound_s=None,
            pause_s=RECONNECT_S,
        )
        return [None] * len(orders)

    async def cancel(self, actor: str, run_id: str, attempt: int, *, keep_values: bool) -> None:
        """Asks an attempt to stop; whoever does not hear it is killed after its grace."""
        with suppress(ActorGone, Unavailable, Unreachable):
            await repeat(
                lambda: self._handles.call(
                    actor, "cancel", run_id, attempt, keep_values, within_s=ASK_WAIT_S
                ),
                on=(Unreachable,),
                bound_s=self._setup.cancel_grace_s,
                pause_s=RECONNECT_S,
            )

    async def kill(self, actor: str) -> None:
        """Ends an actor's process; what it executed is heard of through `lost`."""
        await asyncio.to_thread(self._handles.kill, actor)

    def note(self, actor: str, reason: str) -> None:
        """Why an actor is about to die, said by itself."""
        self._notes[actor] = reason

    # --- actors --------------------------------------------------------------------------------

    async def _watch(self, name: str) -> None:
        # Without a bound: nothing but a death ends it, or the death would never be heard.
        await repeat(
            lambda: self._until_dead(name), on=(Unreachable,), bound_s=None, pause_s=RECONNECT_S
        )
        pool = self._pool_of_actor.get(name)
        if pool is not None and not self._draining:
            self._meter.count(metrics.ACTOR_DEATHS, pool.label)
            log.warning("An actor has died.", extra={"action": "actor_died", "actor": name})
        self._bury(name)

    async def _until_dead(self, name: str) -> None:
        """Returns when Ray says that an actor is dead.

        Raises:
            Unreachable: what waited for that was broken off, which is not a death.
        """
        try:
            await self._handles.call(name, "alive", within_s=None)
        except ActorGone:
            return
        except Unreachable:
            raise
        except Exception as error:  # an actor of other code may answer anything
            log.warning("an actor's watch broke off", extra={"actor": name}, exc_info=True)
            raise Unreachable(f"Actor {name} is not watched: {error}") from error
        raise Unreachable(f"Actor {name} answered what is never answered.")

    def _bury(self, name: str, *, blameless: bool = False) -> None:
        self._handles.forget(name)
        self._starters.pop(name, None)
        self._pids.pop(name, None)
        note = self._notes.pop(name, None)
        pool = self._pool_of_actor.pop(name, None)
        if pool is None:
            return
        for run_id in pool.died(name, now_s=time.monotonic(), blameless=blameless):
            self._lost(run_id, name, note)
        self.wake()

    def wake(self) -> None:
        """Looks, in the next step, whether the pools want actors."""
        if not self._growing and not self._closed:
            self._growing = True
            asyncio.get_running_loop().call_soon(self._grow)

    def _grow(self) -> None:
        self._growing = False
        if self._draining or self._closed:
            return
        now_s = time.monotonic()
        retries_s: list[float] = []
        for pool in self._distinct_pools:
            self._shrink(pool, now_s)
            wanted = pool.wanted(now_s=now_s)
            if pool.has_ready and self._max_starts:
                # One after the other: perhaps the next is not wanted any more by then.
                wanted = min(wanted, max(0, self._max_starts - pool.starts))
            for _ in range(wanted):
                name = new_run_actor_name(self._shard.number)
                pool.starting(name)
                self._pool_of_actor[name] = pool
                self._tasks.spawn(self._start_actor(name, pool))
            retry_s = pool.retry_after_s(now_s=now_s)
            if retry_s is not None:
                retries_s.append(retry_s)
        if self._retry is not None:
            self._retry.cancel()
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(min(retries_s), self.wake) if retries_s else None

    async def _start_actor(self, name: str, pool: Pool) -> None:
        turns = self._starts if pool.has_ready and self._starts else nullcontext()
        problem = await self._make_run_actor(name, pool.spec, turns)
        outcome = "ready" if problem is None else "failed"
        self._meter.count(metrics.ACTOR_STARTS, pool.label, outcome)
        if problem is None:
            log.info("An actor is ready.", extra={"action": "actor_ready", "actor": name})
            self._tasks.spawn(self._watch(name))
            self._handles.connect(name)
            self._tell(pool.ready(name, now_s=time.monotonic()))
            self.wake()
            return
        self._problem = problem.reason
        log.error("an actor did not start", extra={"actor": name, "reason": problem.reason})
        self._bury(name, blameless=problem.blameless)
        if problem.hopeless or pool.failed_starts >= MAX_FAILED_STARTS:
            for run_id in [*pool.waiting]:
                pool.leave(run_id)
                self._unstartable(run_id, problem.reason)

    async def _make_run_actor(
        self, name: str, spec: PoolSpec, turns: AbstractAsyncContextManager[None]
    ) -> _Problem | None:
        setup = RunActorSetup(
            name=name,
            namespace=self._setup.namespace,
            dsn=self._setup.dsn,
            config_path=self._setup.config_path,
            configuration=self._setup.configuration,
            registry=registry_name(self._shard.number),
            spec=spec,
            timeouts_s=self._timeouts_s,
            log_max_bytes=self._setup.log_max_bytes,
            actor_log_max_bytes=self._setup.actor_log_max_bytes,
            registry_silence_s=self._setup.registry_silence_s,
            logs=self._setup.logs,
            faults=self._setup.faults,
        )
        return await self._make(
            name, spec, lambda: self._spawn.make_run_actor(name, setup, spec), turns
        )

    async def _make_inspector(self, name: str) -> str | None:
        spec = self._inspector_spec
        setup = InspectorSetup(
            name=name,
            dsn=self._setup.dsn,
            config_path=self._setup.config_path,
            configuration=self._setup.configuration,
            spec=spec,
            inspect_s=self._setup.inspect_s,
            registry_silence_s=self._setup.registry_silence_s,
            logs=self._setup.logs,
        )
        problem = await self._make(name, spec, lambda: self._spawn.make_inspector(name, setup))
        self._pids.pop(name, None)
        return problem.reason if problem is not None else None

    async def _make(
        self,
        name: str,
        spec: PoolSpec,
        create: Callable[[], None],
        turns: AbstractAsyncContextManager[None] | None = None,
    ) -> _Problem | None:
        """Makes an actor and has it load its graphs; the problem, or None.

        Args:
            create: starts its process. Blocks.
            turns: what bounds how many start at once, beside runs that need the CPU more.
        """
        try:
            async with turns or nullcontext():
                await asyncio.to_thread(create)
                handle = await self._handles.find(name)
                preparing = asyncio.ensure_future(answer(handle.prepare.remote(), name))
                try:
                    no_node = await self._placed(preparing, spec)
                    if no_node is None:
                        self._pids[name] = await preparing
                        return None
                finally:
                    preparing.cancel()
            problem = _Problem(no_node, hopeless=True)
        except (NodeGone, Unreachable):
            problem = _Problem("its node was lost while it loaded the graphs", blameless=True)
        except ActorGone:
            return _Problem("its process died while it loaded the graphs")
        except Unavailable as error:  # the database is away
            problem = _Problem(error.message, blameless=True)
        except Exception as error:  # noqa: BLE001 - user code raises anything while it is imported
            problem = _Problem(str(error))
        await self.kill(name)
        return problem

    async def _placed(self, preparing: asyncio.Future[int], spec: PoolSpec) -> str | None:
        """Waits for an actor that may be waiting for a node; the sentence if none can ever come.

        It stays asked for meanwhile: an actor that Ray cannot place is what makes the autoscaler
        add a node, and a node that somebody adds by hand may come in time too.
        """
        since_s: float | None = None
        while True:
            await asyncio.wait({preparing}, timeout=PLACING_LOOK_S)
            if preparing.done():
                return None
            try:
                reason = impossible(spec, await asyncio.to_thread(self._handles.cluster_view))
            except Exception:  # Ray's control service is away, in one of many ways: no verdict
                log.warning("the cluster could not be looked at", exc_info=True)
                reason = None
            now_s = time.monotonic()
            if reason is None:
                since_s = None
                continue
            since_s = now_s if since_s is None else since_s
            if now_s - since_s >= self._setup.placement_patience_s:
                return reason

    # --- inspectors ----------------------------------------------------------------------------

    @property
    def _inspector_spec(self) -> PoolSpec:
        return PoolSpec(
            graphs=self._all_graphs,
            version=self._setup.version,
            runs_per_actor=8,
            resources=((HEAD, HEAD_SHARE),),
        )

    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """The name of an inspector, once there is one.

        Raises:
            Unavailable: it does not come in time.
        """
        if self._shard.is_first:
            return await self._inspectors.name(duty)
        return await self._ask_first("inspector", duty)

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector where nothing else is asked meanwhile: `Inspectors.ask_apart`."""
        if self._shard.is_first:
            return await self._inspectors.ask_apart(duty, graph_id, method, args)
        return await self._ask_first("ask_apart", duty, graph_id, method, args)

    async def _ask_first(self, method: str, *args: Any) -> Any:
        try:
            return await self._handles.call(REGISTRY, method, *args)
        except (ActorGone, Unreachable):
            raise Unavailable("The server is restarting. Try again in a moment.") from None

    async def settle(self, graph_id: str, thread_id: str) -> tuple[bytes | None, bool]:
        """Has a thread's record brought in line with its checkpoints: `asking.settle`.

        Returns:
            the thread's interrupts as JSON (None leaves them), and whether it has a next step.
        """
        return await settle(self._askers[Duty.ENDS], graph_id, thread_id, self._held)

    async def prune(self, thread_id: str) -> None:
        """Has an inspector delete a thread's older checkpoints; may be repeated."""
        await self._askers[Duty.READS].ask("", "prune", thread_id)

    async def update(self, graph_id: str, update: Any) -> tuple[bytes, bytes, bool]:
        """Has an inspector change a thread's state; ``update`` is an ObjectRef.

        Returns:
            the answer for the client, the thread's interrupts, and whether it has a next step.

        May be repeated: whoever applies it looks whether that was done before.

        Raises:
            Unanswered: the graph hangs, or ends the process that asks it.
        """
        return await self._askers[Duty.READS].ask(graph_id, "update", update, self._held)

    @property
    def _held(self) -> tuple[int, int]:
        return self._epoch, self._shard.number


def pool_specs(configuration: Configuration, setup: RegistrySetup) -> list[PoolSpec]:
    """What each pool is made of; graphs with the same placement share one."""
    graphs_of: dict[PoolSpec, list[str]] = {}
    for graph in configuration.graphs.values():
        graphs_of.setdefault(_spec(graph.placement, setup), []).append(graph.graph_id)
    return [
        dataclasses.replace(spec, graphs=tuple(graph_ids)) for spec, graph_ids in graphs_of.items()
    ]


def _few(setup: RegistrySetup) -> int:
    """How many actors the CPUs are surely good for; of a cluster nobody knows."""
    return setup.shard.share(os.cpu_count() or 1) if setup.max_starts else 0


def _spec(placement: PlacementSpec, setup: RegistrySetup) -> PoolSpec:
    # An embedded database is on the head and answers nobody from elsewhere.
    beside = {HEAD: HEAD_SHARE} if setup.embedded is not None else {}
    return PoolSpec(
        graphs=(),
        version=setup.version,
        runs_per_actor=placement.runs_per_actor,
        warm=setup.shard.share(placement.warm),
        max_actors=setup.shard.share(placement.max_actors or setup.default_max_actors),
        num_cpus=placement.num_cpus,
        num_gpus=placement.num_gpus,
        resources=tuple(sorted({**placement.resources, **beside}.items())),
        accelerator_type=placement.accelerator_type,
        labels=tuple(sorted(placement.labels.items())),
        memory_mib=placement.memory_mib,
        max_runs=placement.max_runs_per_actor_life,
    )
