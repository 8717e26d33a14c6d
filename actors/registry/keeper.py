"""Keeps the actors: performs the decisions of `actors.registry.pool`, and notices deaths.

The registry asks for slots. Callbacks tell it which run got a slot, which actor died, and for which
run no actor can be started. Actors are made outside the registry's loop, because that blocks
(`actors.registry.starting`). One never-ending call per actor (`alive`) shows its death: only Ray's
notice counts as death; an actor that does not answer is busy.

Each of several registries keeps its own actors; the first one keeps the inspectors
(`actors.registry.inspecting`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from actors.calls.answers import repeat
from actors.calls.directory import Handles
from actors.calls.names import INSPECTOR, is_run_actor, new_run_actor_name, shard_of
from actors.common import metrics
from actors.common.actor_process import ActorProcess
from actors.common.metering import Meter
from actors.common.setup import RegistrySetup
from actors.common.tasks import Tasks
from actors.registry.deliveries import Deliveries
from actors.registry.inspecting import Inspectors
from actors.registry.members import MemberState
from actors.registry.pool import ActorPool
from actors.registry.pool_specs import inspector_spec
from actors.registry.pools import IDLE_S, ActorPools
from actors.registry.pulse import Pulse
from actors.registry.renewing import Renewals
from actors.registry.slots import Granted, Slots
from actors.registry.starting import Problem, Starter
from actors.registry.watching import until_dead
from actors.spawn import Spawn
from greenroom.core.errors import ConfigurationError, Fenced, Unreachable
from greenroom.graphs.configuration import Configuration

log = logging.getLogger("greenroom.keeper")

KEEP_INTERVAL_S = 5.0
ADOPT_WAIT_S = 10.0
MAX_FAILED_STARTS = 3
SEE_OFF_S = 60.0
"""The longest that an actor stays for those who read what it has executed."""
DIED = "its process died"
RECONNECT_S = 0.1
"""The pause before an actor is watched again whose watch was broken off."""

Lost = Callable[[str, str, str | None], object]
"""Called with a run, its actor that died, and why if that is known. An actor may die after the run
has got another one: the receiver compares the actor with the run's."""
Unstartable = Callable[[str, str], object]
"""Called with a waiting run, and the reason why no actor starts for it."""


def own_inspectors(
    handles: Handles,
    tasks: Tasks,
    starter: Starter,
    configuration: Configuration,
    setup: RegistrySetup,
) -> Inspectors | None:
    """Returns the inspectors of a registry; None if another registry keeps them."""
    if not setup.shard.is_first:
        return None
    spec = inspector_spec(tuple(configuration.graphs), setup)
    return Inspectors(
        handles,
        tasks,
        spec=spec,
        make=lambda name: starter.start_inspector(name, spec),
        inspect_s=setup.inspect_s,
    )


class Keeper:
    """The actors of one registry.

    Args:
        handles, spawn: call actors, and make them.
        tasks: the keeper's own, which `close` ends.
        meter: counts starts and deaths of actors.
        granted, lost, unstartable: see the types.

    Attributes:
        pools: the actors of each graph.
        slots: gives slots on these actors to runs.
        deliveries: sends orders and cancels to these actors.
        renewals: replaces the actors when the code of the graphs has changed.
        inspectors: the inspectors of this registry; None if another registry keeps them.
        notes: the reasons of actors for their own deaths, by name.
        processes: the processes of actors, by name.
        pulse: what has happened lately.
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
        self.handles = handles
        self._setup = setup
        self.tasks = tasks
        self._meter = meter
        self._lost = lost
        self._unstartable = unstartable
        self.pools = ActorPools(configuration, setup)
        self.slots = Slots(self.pools, granted=granted, wake=self.wake)
        self._starter = Starter(handles, spawn, setup, self.pools.timeouts_s)
        self.deliveries = Deliveries(
            handles, tasks, holds=self.holds, cancel_s=setup.cancel_grace_s
        )
        self.notes: dict[str, str] = {}
        self.processes: dict[str, ActorProcess] = {}
        self.pulse = Pulse()
        self._epoch = 0
        self._shard = setup.shard
        self._max_starts = setup.shard.share(setup.max_starts)
        self._starts = asyncio.Semaphore(self._max_starts) if self._max_starts else None
        self._growing = self._draining = self._closed = False
        self.retry: asyncio.TimerHandle | None = None
        self.inspectors = own_inspectors(handles, tasks, self._starter, configuration, setup)
        self.renewals = Renewals(
            self.pools, self._starter, self.inspectors, tasks, setup.shard.number, wake=self.wake
        )

    # --- life ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends the keeper's own tasks; its actors live on, and another keeper adopts them.

        Afterwards it calls no callback any more: neither `lost` nor `granted` nor `unstartable`.
        """
        self._closed = True
        if self.retry is not None:
            self.retry.cancel()
        await self.tasks.close()
        for name in self.pools.actors:
            self.handles.forget(name)

    async def adopt(self, epoch: int) -> dict[str, tuple[str, int]]:
        """Takes over the living actors of its namespace; returns run → (actor, attempt).

        It ends actors that do not answer, or that have loaded graphs of another configuration.
        """
        self._epoch = self.deliveries.epoch = epoch
        names = await asyncio.to_thread(self.handles.names)
        executed: dict[str, tuple[str, int]] = {}
        for found in await asyncio.gather(*(self._adopt(name) for name in names)):
            executed.update(found)
        return executed

    async def _adopt(self, name: str) -> dict[str, tuple[str, int]]:
        if name.startswith(INSPECTOR):
            if self.inspectors is not None:
                await self.inspectors.adopt(name, self._epoch, ADOPT_WAIT_S)
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
                spec, self.processes[name], runs = await repeat(
                    lambda: self.handles.call(name, "adopt", self._epoch),
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
        pool = self.pools.with_spec(spec)
        if pool is None:
            await self.kill(name)
            return {}
        pool.adopt(name, dict(runs), now_s=time.monotonic())
        self.pools.add_actor(name, pool)
        self.tasks.spawn(self._watch(name))
        return {run_id: (name, attempt) for run_id, attempt in runs}

    async def drain(self) -> None:
        """Gives out no more slots, and asks every actor to stop its runs after their superstep."""
        self._draining = True
        names = self.pools.actors
        for name in names:
            if (pool := self.pools.of_actor(name)) is not None:
                pool.retire(name)
        await asyncio.gather(*(self.deliveries.drain(name) for name in names))

    async def keep(self) -> None:
        """Keeps the pools at their size, and sends heartbeats to the actors; never ends."""
        if self._setup.reloads:
            self.renewals.renew_adopted()
        self.wake()
        if self.inspectors is not None:
            self.inspectors.keep()
        while True:
            # Several times within what an actor takes for the registry's death.
            await asyncio.sleep(min(KEEP_INTERVAL_S, self._setup.registry_silence_s / 4))
            for name in (*self.pools.actors, *self.renewals.spares):
                self.tasks.spawn(self.deliveries.beat(name))
            if self.inspectors is not None:
                self.inspectors.beat(self._epoch)
            now_s = time.monotonic()
            for pool in self.pools.distinct:
                self._shrink(pool, now_s)
            self.wake()
            if self._setup.reloads and not self.pools.is_cold(now_s=now_s):
                await self.renewals.make_spares()

    def _shrink(self, pool: ActorPool, now_s: float) -> None:
        for name in pool.surplus(now_s=now_s, idle_s=IDLE_S):
            retired = pool.members[name].state is MemberState.RETIRING
            pool.stopped(name)  # at once: another one may have its place
            self.pools.remove_actor(name)
            self.tasks.spawn(self._see_off(name) if retired else self.kill(name))

    async def _see_off(self, name: str) -> None:
        """Ends a retired actor after its readers have received the end of its last run."""
        await self.deliveries.until_read(name, SEE_OFF_S)
        await self.kill(name)

    async def is_warm(self, wait_s: float) -> bool:
        """Waits until every pool has a ready actor and the inspector is ready.

        Raises:
            ConfigurationError: an actor cannot be started; the message names the reason.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            if self.pools.has_failed_starts:
                raise ConfigurationError(f"An actor does not start: {self.pools.problem}")
            now_s = time.monotonic()
            is_cold = self.pools.is_cold(now_s=now_s)
            if not is_cold and (self.inspectors is None or self.inspectors.is_there):
                return True
            if now_s > deadline_s:
                return False
            await asyncio.sleep(0.02)

    def counts(self) -> dict[str, Any]:
        """Returns the numbers of actors and slots, for operators."""
        return self.pools.counts({name: place.pid for name, place in self.processes.items()})

    # --- actors --------------------------------------------------------------------------------

    def holds(self, actor: str) -> bool:
        """Whether the actor belongs to this keeper and is not known to be dead."""
        return self.pools.of_actor(actor) is not None

    async def kill(self, actor: str) -> None:
        """Kills an actor's process; `lost` then reports its runs."""
        await asyncio.to_thread(self.handles.kill, actor)

    def note(self, actor: str, reason: str) -> None:
        """Notes the reason that an actor gives for its own death."""
        self.notes[actor] = reason

    async def _watch(self, name: str) -> None:
        # Without a bound: nothing but a death ends it, or the death would never be heard.
        await repeat(
            lambda: until_dead(self.handles, name),
            on=(Unreachable,),
            bound_s=None,
            pause_s=RECONNECT_S,
        )
        pool = self.pools.of_actor(name)
        if pool is not None and not self._draining:
            self._meter.count(metrics.ACTOR_DEATHS, pool.label)
            log.warning("An actor has died.", extra={"action": "actor_died", "actor": name})
            if not pool.members[name].runs:  # else its runs tell
                self.pulse.died(name, self.notes.get(name) or DIED)
        self._bury(name)

    def _bury(self, name: str, *, blameless: bool = False) -> None:
        self.handles.forget(name)
        self.deliveries.forget(name)
        self.processes.pop(name, None)
        note = self.notes.pop(name, None)
        pool = self.pools.remove_actor(name)
        if pool is None:
            return
        runs = pool.died(name, now_s=time.monotonic(), blameless=blameless)
        if len(runs) > 1 and note is not None:
            # Nobody knows which of them it was: each has another attempt.
            self.pulse.died(name, note)
            note = None
        for run_id in runs:
            self._lost(run_id, name, note)
        self.wake()

    def wake(self) -> None:
        """Checks in the next step of the loop whether the pools want actors."""
        if not self._growing and not self._closed:
            self._growing = True
            asyncio.get_running_loop().call_soon(self._grow)

    def _grow(self) -> None:
        self._growing = False
        if self._draining or self._closed:
            return
        now_s = time.monotonic()
        retries_s: list[float] = []
        for pool in self.pools.distinct:
            self._shrink(pool, now_s)
            wanted = pool.wanted(now_s=now_s)
            if pool.has_ready and self._max_starts:
                # One after the other: perhaps the next is not wanted any more by then.
                wanted = min(wanted, max(0, self._max_starts - pool.starts))
            for _ in range(wanted):
                spare = self.renewals.take_spare(pool)
                name = spare or new_run_actor_name(self._shard.number)
                pool.starting(name)
                self.pools.add_actor(name, pool)
                self.tasks.spawn(self._start_actor(name, pool, is_made=spare is not None))
            retry_s = pool.retry_after_s(now_s=now_s)
            if retry_s is not None:
                retries_s.append(retry_s)
        if self.retry is not None:
            self.retry.cancel()
        loop = asyncio.get_running_loop()
        self.retry = loop.call_later(min(retries_s), self.wake) if retries_s else None

    async def _start_actor(self, name: str, pool: ActorPool, *, is_made: bool) -> None:
        turns = self._starts if pool.has_ready and self._starts else nullcontext()
        started = await self._starter.start_run_actor(name, pool.spec, turns, is_made=is_made)
        outcome = "failed" if isinstance(started, Problem) else "ready"
        self._meter.count(metrics.ACTOR_STARTS, pool.label, outcome)
        if not isinstance(started, Problem):
            pool.problem = ""
            self.processes[name] = started
            port = {} if started.debug_port is None else {"debug_port": started.debug_port}
            log.info("An actor is ready.", extra={"action": "actor_ready", "actor": name, **port})
            self.tasks.spawn(self._watch(name))
            self.handles.connect(name)
            self.slots.grant(pool.ready(name, now_s=time.monotonic()))
            self.wake()
            return
        self.pools.problem = pool.problem = started.reason
        self._bury(name, blameless=started.blameless)
        if pool.serves_old_code:
            return  # `renew` returns the problem, and waiting runs get their slots there
        log.error("an actor did not start", extra={"actor": name, "reason": started.reason})
        if started.hopeless or pool.failed_starts >= MAX_FAILED_STARTS:
            for run_id in [*pool.waiting]:
                pool.leave(run_id)
                self._unstartable(run_id, started.reason)
