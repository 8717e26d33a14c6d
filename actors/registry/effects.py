"""Performs the effects of a lane's decision, once they are durable.

    decided ──> actors are told of cancels ──commit──> drop, claim, end

A cancel is told before the commit, so that a run also stops while the database does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from actors.common import metrics
from actors.registry import in_flight
from actors.registry.context import Context
from actors.registry.enforcing import Enforcer
from actors.registry.in_flight import DISPLACED, Run
from greenroom.core.admission import Cancel, Claim, Drop, Effect, EndUnexecuted, Lane
from greenroom.core.lifecycle import Event
from greenroom.core.runs import RunStatus
from greenroom.persistence import journal, outbox, pushes
from greenroom.persistence.journal import Write


class Effects:
    """Makes effects durable and performs them.

    Args:
        granted: called with a run and the actor that has a slot for it.
        end_unexecuted: ends a cancelled run that no actor executes.
        delete_remains: deletes the data that a stateless run has left on its thread.
        hand_on: hands on what a run has not taken (`Inputs.hand_on`).
    """

    def __init__(
        self,
        context: Context,
        enforcer: Enforcer,
        *,
        granted: Callable[[str, str], None],
        end_unexecuted: Callable[[Run], Coroutine[Any, Any, None]],
        delete_remains: Callable[[str], Coroutine[Any, Any, None]],
        hand_on: Callable[[Run], Coroutine[Any, Any, None]],
    ) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._waiters = context.waiters
        self._activity = context.activity
        self._meter = context.meter
        self._tasks = context.tasks
        self._pools = context.keeper.pools
        self._slots = context.keeper.slots
        self._pulse = context.keeper.pulse
        self._journal = context.journal
        self._webhooks = context.webhooks
        self._faults = context.setup.faults
        self._enforcer = enforcer
        self._granted = granted
        self._end_unexecuted = end_unexecuted
        self._delete_stored_remains = delete_remains
        self._hand_on = hand_on

    async def perform(self, lane: Lane, effects: Sequence[Effect], *writes: Write) -> None:
        """Makes effects durable and performs them, even if the caller is cancelled meanwhile."""
        if effects or writes:
            work = self._tasks.vital(self.performed(lane, effects, *writes))
            await asyncio.shield(work)
        else:
            self._lanes.tidy(lane)

    async def performed(self, lane: Lane, effects: Sequence[Effect], *writes: Write) -> None:
        """Tells actors of cancels, makes all effects durable, then performs the other effects.

        The work is vital, because the effects were decided.

        Args:
            writes: further writes for the same commit.
        """
        cancels = [effect for effect in effects if isinstance(effect, Cancel | EndUnexecuted)]
        for effect in effects:
            if isinstance(effect, Cancel) and (run := self._runs.find(effect.run_id)) is not None:
                run.cancelled_because = run.cancelled_because or DISPLACED
                self._enforcer.cancel(run, effect.action)
        for effect in effects:
            if isinstance(effect, Drop) and (run := self._runs.find(effect.run_id)) is not None:
                await self._hand_on(run)  # before it is gone
        written = [
            *self._drop_writes(effects),
            *(journal.store_cancel(cancel.run_id, cancel.action) for cancel in cancels),
            *writes,
        ]
        if written:
            await self._journal.commit(*written, key=lane.thread_id)
        if cancels:
            await self._faults.at("cancel")
        self._perform_written(lane, effects)

    def _perform_written(self, lane: Lane, effects: Sequence[Effect]) -> None:
        for effect in effects:
            run = self._runs.find(effect.run_id)
            if run is None:
                continue
            match effect:
                case Drop():
                    self._meter.count(metrics.RUNS, run.graph_id, RunStatus.INTERRUPTED.value)
                    self._pulse.ended(failed=False)
                    self.forget(run)
                    self.follow_up(run)
                case EndUnexecuted():
                    self._slots.release(run.run_id, run.graph_id, None)
                    self._tasks.vital(self._end_unexecuted(run))
                case Claim():
                    # Perhaps it was cancelled while the effects before it became durable.
                    if self._pools.knows(run.graph_id) and lane.is_waiting(run.run_id):
                        apart = run.attempt > 0  # taken up by a new registry after a loss
                        actor = self._slots.claim(run.run_id, run.graph_id, apart=apart)
                        if actor is not None:
                            self._granted(run.run_id, actor)
                case Cancel():
                    pass  # its actor was told at once
        self._lanes.tidy(lane)

    def _drop_writes(self, effects: Sequence[Effect]) -> list[Write]:
        """Returns the writes that end dropped runs as ``interrupted``, or delete them."""
        writes: list[Write] = []
        for effect in effects:
            if not isinstance(effect, Drop):
                continue
            run = self._runs.find(effect.run_id)
            assert run is not None
            if effect.delete:
                writes.append(outbox.announce(run.run_id, rolled_back=True))
                writes += journal.delete_run(run.run_id)
            else:
                if run.logged:
                    writes.append(journal.number_run(run.run_id, run.thread_id))
                writes.append(journal.end_run(run.run_id, RunStatus.INTERRUPTED, None))
                writes.append(outbox.announce(run.run_id))
                if run.may_be_task:
                    writes.append(pushes.announce(run.run_id))
            if not self._lanes.has_runs(run.thread_id):
                rest = journal.leave_thread if run.temporary else journal.reset_thread_status
                writes.append(rest(run.thread_id))
        return writes

    # --- runs that are over --------------------------------------------------------------------

    def forget(self, run: Run) -> None:
        """Frees the slot of a run that is over, and tells its followers."""
        self._runs.remove(run)
        if run.logged and run.ordered_s is None:
            self._activity.note(run.thread_id, "run", run.run_id)
        self._slots.release(run.run_id, run.graph_id, run.actor)
        self._waiters.tell(run.run_id)

    async def withdraw(self, run: Run) -> None:
        """Removes a run that was not admitted after all; the next waiting run moves up."""
        run.life.on(Event.GIVE_UP)
        if self._runs.find(run.run_id) is run:
            self.forget(run)
        lane = self._lanes.of(run.thread_id)
        effects = lane.ended(run.run_id)
        if not lane.has_runs:
            # A run that ended meanwhile left the thread busy for the run that did not come.
            await self._journal.commit(
                journal.reset_thread_status(run.thread_id), key=run.thread_id
            )
        await self.performed(lane, effects)

    def follow_up(self, run: Run) -> None:
        """Begins the work after an end that must not delay it: webhook and deletion."""
        if run.webhook or run.may_be_task:
            self._webhooks.wake()
        if run.temporary:
            self._tasks.spawn(self.delete_remains(run.thread_id))

    async def delete_remains(self, thread_id: str) -> None:
        """Deletes the data of a stateless run once no client reads it any more."""
        # A gateway asks the run's actor for the outcome; if the actor died, it reads these.
        await asyncio.sleep(in_flight.LATELY_S)
        await self._delete_stored_remains(thread_id)
