"""Continues runs that have lost their attempt: with the next attempt, or with an end.

death, drain ──commit: the attempt is over──> slot for the next attempt
                                         └──> end (cancelled, out of time, died too often)
"""

from __future__ import annotations

import asyncio
import logging

from actors.common import metrics
from actors.registry.attempts import Attempts
from actors.registry.context import Context
from actors.registry.endings import End, Endings, error_json
from actors.registry.in_flight import Run
from actors.registry.keeper import DIED
from greenroom.core.errors import Unavailable
from greenroom.core.lifecycle import Do, Event
from greenroom.core.runs import RunStatus, out_of_time
from greenroom.persistence import journal
from greenroom.persistence.database import retrying, terminate_backends

log = logging.getLogger("greenroom.registry")

RETRY_BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0)
"""How long the next attempt waits after so many deaths of the run's actors."""


class Losses:
    """Continues runs whose actor died, drained, or cannot be started."""

    def __init__(self, context: Context, attempts: Attempts, endings: Endings) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._waiters = context.waiters
        self._meter = context.meter
        self._pools = context.keeper.pools
        self._pulse = context.keeper.pulse
        self._slots = context.keeper.slots
        self._journal = context.journal
        self._database = context.database
        self._faults = context.setup.faults
        self._attempts = attempts
        self._endings = endings

    async def handed_back(self, run: Run, actor: str, nodes: bytes) -> None:
        """Continues a run whose actor drains: another attempt starts at the last checkpoint.

        Args:
            nodes: as of `Report.nodes`.
        """
        self._runs.queue(run.run_id)
        run.stop_timers()
        await self._journal.commit(
            journal.requeue(run.run_id, run.attempt, "drained", nodes), key=run.thread_id
        )
        self._slots.release(run.run_id, run.graph_id, actor)
        if run.life.cancel is not None:
            await self._end_cancelled(run)
        elif self._requeued(run):
            self._attempts.claim_again(run)

    async def lost(self, run_id: str, dead: str, note: str | None, *, died: bool = True) -> None:
        """Continues a run whose actor is gone: with the next attempt, or with an end.

        Args:
            dead: the actor; a late notice of another actor has no effect.
            note: the reason of the death, if it is known.
            died: whether the actor died; False if it lives and never had the order.
        """
        run = self._runs.find(run_id)
        if run is None or Do.REQUEUE not in (run.life.on(Event.LOST, actor=dead) or ()):
            return
        run.deaths += int(died)
        self._runs.queue(run_id)
        log.warning(
            "A run has lost its actor." if died else "A run's order has not reached its actor.",
            extra={
                "action": "run_lost",
                "run_id": run_id,
                "thread_id": run.thread_id,
                "attempt": run.attempt,
                "actor": dead,
            },
        )
        if died:
            self._pulse.died(dead, note or DIED, run_id, run.thread_id)
            await self._end_backends(dead)
        await self._faults.at("requeue")
        because = "died" if died else "not ordered"
        await self._journal.commit(journal.requeue(run_id, run.attempt, because), key=run.thread_id)
        await self._faults.at("requeued")
        run.stop_timers()
        if run.life.cancel is not None:
            await self._end_cancelled(run)
        elif (end := self._no_next_attempt(run, note)) is not None:
            await self.give_up(run, end)
        elif self._requeued(run):
            # The first attempt after a death, or after none, begins at once.
            step = max(1, min(run.deaths, len(RETRY_BACKOFF_S)))
            await asyncio.sleep(RETRY_BACKOFF_S[step - 1])
            if self._runs.find(run_id) is run and self._lanes.is_waiting(run.thread_id, run_id):
                self._attempts.claim_again(run)

    def _no_next_attempt(self, run: Run, note: str | None) -> End | None:
        """Returns the end of a run that lost its actor; None if another attempt must follow."""
        if run.out_of_time:
            message = out_of_time(self._pools.timeout_s(run.graph_id))
            return End(status=RunStatus.TIMEOUT, error=error_json("TimeoutError", message))
        if note is not None:
            return End(status=RunStatus.ERROR, error=error_json("MemoryLimitExceeded", note))
        if run.deaths >= self._pools.max_attempts(run.graph_id):
            reason = (
                f"The run's process died {run.deaths} times; it is not started again"
                " (max_attempts of its graph)."
            )
            return End(status=RunStatus.ERROR, error=error_json("ActorDied", reason))
        return None

    def _requeued(self, run: Run) -> bool:
        """Returns whether the next attempt may follow; False if the run was ended meanwhile."""
        effects = run.life.on(Event.REQUEUED, attempt=run.attempt) or ()
        if Do.CLAIM_AGAIN not in effects:
            return False
        self._meter.count(metrics.RECOVERIES, run.graph_id)
        self._waiters.tell(run.run_id)
        return True

    async def _end_cancelled(self, run: Run) -> None:
        """Ends a cancelled run whose actor was lost before it reported."""
        if Do.END in (run.life.on(Event.GIVE_UP) or ()):
            await self.end_unexecuted(run)

    async def end_unexecuted(self, run: Run) -> None:
        """Ends a cancelled run that no actor executes; the run may have left checkpoints."""
        await self._endings.end_settled(run, End(status=RunStatus.INTERRUPTED))

    async def unstartable(self, run_id: str, reason: str | None) -> None:
        """Ends a run for whose graph no actor can be started."""
        run = self._runs.find(run_id)
        if run is not None:
            message = f"No actor starts for its graph: {reason}"
            error = error_json("ActorStartFailed", message)
            await self.give_up(run, End(status=RunStatus.ERROR, error=error))

    async def give_up(self, run: Run, end: End) -> None:
        """Ends a run that gets no further attempt, unless its end was decided before."""
        if Do.END not in (run.life.on(Event.GIVE_UP) or ()):
            return
        if run.attempt:
            await self._endings.end_settled(run, end)
        else:
            await self._endings.end(run, end)

    async def _end_backends(self, actor: str) -> None:
        """Ends the database connections of an actor that is dead, or presumed dead."""
        while True:
            try:
                await retrying(self._database, lambda conn: terminate_backends(conn, actor))
                return
            except Unavailable:
                # The run hangs on it: whatever the database's absence lasts, it goes on after it.
                log.warning("the database is away, trying again", extra={"actor": actor})
