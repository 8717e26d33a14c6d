"""Starts attempts: the run gets an actor, the attempt is stored, the actor gets its order.

slot ──> granted ──commit──> stored ──> order to the actor
"""

from __future__ import annotations

import time

from actors.common import metrics
from actors.registry.context import Context
from actors.registry.effects import Effects
from actors.registry.enforcing import Enforcer
from actors.registry.in_flight import Run
from greenroom import tracing
from greenroom.core.lifecycle import Do, Event
from greenroom.core.runs import RunOrder
from greenroom.core.timeline import Entry, begun
from greenroom.persistence import journal
from greenroom.persistence.logged_runs import LoggedRun


class Attempts:
    """Starts the attempts of runs that are in flight."""

    def __init__(self, context: Context, enforcer: Enforcer, effects: Effects) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._waiters = context.waiters
        self._activity = context.activity
        self._meter = context.meter
        self._tasks = context.tasks
        self._keeper = context.keeper
        self._slots = context.keeper.slots
        self._pulse = context.keeper.pulse
        self._deliveries = context.keeper.deliveries
        self._journal = context.journal
        self._faults = context.setup.faults
        self._enforcer = enforcer
        self._effects = effects

    def granted(self, run_id: str, actor: str) -> None:
        """Starts the next attempt of a run on an actor that has a slot for it."""
        run = self._runs.find(run_id)
        if run is None or not self._lanes.is_waiting(run.thread_id, run_id):
            # Cancelled while it stood in line: the slot is the next one's.
            self._slots.free(run_id, actor)
            return
        self.assign(run, actor)
        self._tasks.vital(self._start(run, actor, run.attempt))

    def assign(self, run: Run, actor: str) -> None:
        """Makes an actor the owner of the run's next attempt; the caller makes that durable."""
        run.life.on(Event.GRANTED, actor=actor)
        self._runs.unqueue(run.run_id)

    def begun(self, run: Run, actor: str) -> Entry:
        """Returns the entry of an attempt that begins, for the run's history."""
        process = self._keeper.processes.get(actor)
        host, pid = (None, None) if process is None else (process.host, process.pid)
        return begun(run.attempt, actor, host, pid, time.time_ns() // 1_000_000)

    def claim_again(self, run: Run) -> None:
        """Claims a slot for the next attempt of a run, ahead of runs that never had one."""
        granted = self._slots.claim_again(run.run_id, run.graph_id)
        if granted is not None:
            self.granted(run.run_id, granted)

    async def _start(self, run: Run, actor: str, attempt: int) -> None:
        """Stores that the attempt is running, then sends the order."""
        await self._faults.at("start")
        heads = [journal.keep_heads(run.run_id)] if run.resumes else []
        rows, *_ = await self._journal.commit(
            journal.start(
                run.run_id,
                attempt,
                actor,
                log_of=run.thread_id if run.logged else None,
                begin=self.begun(run, actor),
            ),
            *heads,
            key=run.thread_id,
        )
        await self._faults.at("started")
        if rows:
            ((kwargs, is_first, *number),) = rows
            run.log_number = number[0] if number else None
            self.stored(run, actor, attempt, kwargs.encode(), is_first=is_first)
        elif run.life.on(Event.GIVE_UP, attempt=attempt, actor=actor):
            # There is no such run in the database that is not over.
            await self._effects.withdraw(run)

    def stored(self, run: Run, actor: str, attempt: int, kwargs: bytes, *, is_first: bool) -> None:
        """Sends the order of a durable attempt to its actor, unless the attempt was lost meanwhile.

        Args:
            kwargs: JSON of the run's ``kwargs``.
            is_first: whether the thread has no checkpoint.
        """
        effects = run.life.on(Event.STORED, attempt=attempt, actor=actor) or ()
        if Do.ORDER not in effects:
            return
        run.kwargs = kwargs
        self._order(run, is_first=is_first)
        self._waiters.tell(run.run_id)
        if run.life.cancel is not None:
            self._enforcer.tell(run, run.life.cancel)

    def _order(self, run: Run, *, is_first: bool) -> None:
        assert run.actor is not None
        assert run.kwargs is not None
        order = RunOrder(
            facts=run.facts,
            attempt=run.attempt,
            kwargs=run.kwargs,
            is_first=is_first,
            has_inputs=run.has_inputs or run.pause is not None,
        )
        run.kwargs = None  # a later attempt reads them from the database
        run.ordered_s = time.monotonic()
        if run.attempt == 1:
            waited_s = None if run.since_s is None else max(0.0, run.ordered_s - run.since_s)
            self._pulse.started(waited_s)
            if waited_s is not None:
                self._measure_wait(run, waited_s)
        self._activity.note(run.thread_id, "run", run.run_id, _logged(run))
        self._deliveries.start(run.actor, order)
        self._enforcer.limit(run)

    def _measure_wait(self, run: Run, waited_s: float) -> None:
        """Records the waiting time of a run before its first attempt, as a metric and as a span."""
        self._meter.observe(metrics.QUEUE_WAIT, waited_s, run.graph_id)
        parent = run.traceparent
        if parent is not None:
            begun_ns = time.time_ns() - int(waited_s * 1e9)
            tracing.passed("queue", parent=parent, begun_ns=begun_ns, run_id=run.run_id)


def _logged(run: Run) -> LoggedRun | None:
    """Returns a run as the readers of its thread's log see it; None if it is not in the log."""
    if run.log_number is None:
        return None
    return LoggedRun(
        run_id=run.run_id,
        number=run.log_number,
        attempt=run.attempt,
        actor=run.actor,
        is_over=False,
    )
