"""Enforces cancels and time-outs: tells the actor, and later kills its process.

Two timers may kill a process. One is armed with the order of an attempt, for the graph's
``timeout_s``; the other one is armed with a cancel. A late timer has no effect: the event that it
raises names its attempt and actor.
"""

from __future__ import annotations

import asyncio
import logging

from actors.common.setup import RegistrySetup
from actors.common.tasks import Tasks
from actors.registry.in_flight import CANCELLED, KILLED, Run
from actors.registry.keeper import Keeper
from greenroom.core.lifecycle import Event
from greenroom.core.runs import CancelAction

log = logging.getLogger("greenroom.registry")


class Enforcer:
    """Tells actors to stop an attempt, and holds the timers that kill their processes.

    Args:
        setup: the registry's set-up; ``cancel_grace_s`` is the time that an actor has to obey.
    """

    def __init__(self, keeper: Keeper, tasks: Tasks, setup: RegistrySetup) -> None:
        self._keeper = keeper
        self._pools = keeper.pools
        self._deliveries = keeper.deliveries
        self._tasks = tasks
        self._grace_s = setup.cancel_grace_s

    def cancel(self, run: Run, action: CancelAction) -> None:
        """Tells the run's actor to stop the run; arms the timer that kills the actor's process."""
        actor, attempt = run.actor, run.attempt
        if actor is None or run.is_ending:
            return
        self.tell(run, action)

        def kill() -> None:
            if run.life.on(Event.GRACE_OVER, attempt=attempt, actor=actor):
                log.warning(
                    "the run ignores its cancellation; its process is killed",
                    extra={"run_id": run.run_id, "actor": actor},
                )
                run.cancelled_because = KILLED.format(run.cancelled_because or CANCELLED)
                self._tasks.spawn(self._keeper.kill(actor))

        run.killer = asyncio.get_running_loop().call_later(self._grace_s, kill)

    def tell(self, run: Run, action: CancelAction) -> None:
        """Tells the run's actor to stop its attempt."""
        assert run.actor is not None
        keeps = action == "interrupt"
        self._tasks.spawn(
            self._deliveries.cancel(run.actor, run.run_id, run.attempt, keep_values=keeps)
        )

    def limit(self, run: Run) -> None:
        """Arms the timer behind the graph's ``timeout_s``.

        The actor enforces ``timeout_s`` itself. If it has not reported the end ``cancel_grace_s``
        later, a node blocks its loop, and its process is killed.
        """
        timeout_s = self._pools.timeout_s(run.graph_id)
        actor, attempt = run.actor, run.attempt
        if not timeout_s or actor is None:
            return
        if run.overdue is not None:
            run.overdue.cancel()

        def kill() -> None:
            if run.life.on(Event.OVERDUE, attempt=attempt, actor=actor):
                run.out_of_time = True
                self._tasks.spawn(self._keeper.kill(actor))

        run.overdue = asyncio.get_running_loop().call_later(timeout_s + self._grace_s, kill)
