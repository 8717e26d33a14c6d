"""Ends runs: one commit stores the end of the run and of its thread, then the next run starts."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from actors.common import metrics
from actors.registry.context import Context
from actors.registry.effects import Effects
from actors.registry.in_flight import CANCELLED, Run
from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.nodes import NO_NODES
from greenroom.core.runs import RunStatus
from greenroom.core.threads import resting_status
from greenroom.persistence import journal, outbox, pushes

log = logging.getLogger("greenroom.registry")


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The end of a run, and the resulting state of its thread's record.

    Attributes:
        has_next: whether the thread's state has a next step.
        interrupts: the thread's pending interrupts as JSON; None keeps the present ones.
        error: JSON ``{"error", "message"}``, or None.
        output_keys: as in `Outcome`.
        nodes: as of `Report.nodes`.
    """

    status: RunStatus
    has_next: bool = False
    interrupts: bytes | None = None
    error: bytes | None = None
    output_keys: bytes | None = None
    nodes: bytes = NO_NODES


def error_json(name: str, message: str) -> bytes:
    """Returns the error of a run that the registry ends."""
    return json.dumps({"error": name, "message": message}).encode()


class Endings:
    """Stores the ends of runs whose state is `State.ENDING`.

    Args:
        hand_on: hands on what a run has not taken (`Inputs.hand_on`).
    """

    def __init__(
        self,
        context: Context,
        effects: Effects,
        *,
        hand_on: Callable[[Run], Coroutine[Any, Any, None]],
    ) -> None:
        self._hand_on = hand_on
        self._lanes = context.lanes
        self._meter = context.meter
        self._tasks = context.tasks
        self._slots = context.keeper.slots
        self._pulse = context.keeper.pulse
        self._inspections = context.inspections
        self._journal = context.journal
        self._bulk = context.bulk
        self._faults = context.setup.faults
        self._effects = effects

    async def end(self, run: Run, end: End) -> None:
        """Stores the end of a run, frees its slot, and starts the next run of its thread."""
        lane = self._lanes.of(run.thread_id)
        await self._hand_on(run)
        if run.life.cancel == "rollback":
            end = await self._roll_back(run)
        await self._faults.at("end")
        effects = lane.ended(run.run_id)
        if run.actor is not None:
            # The start of the next run on this actor goes into the same commit.
            self._slots.hand_on(run.run_id, run.actor)
        try:
            await self._store(run, end, busy=lane.has_runs)
        except psycopg.Error as problem:
            # Something of the report cannot be stored; its end must be.
            log.exception("an end cannot be stored as reported", extra={"run_id": run.run_id})
            reason = f"How the run ended cannot be stored ({type(problem).__name__})."
            end = End(status=RunStatus.ERROR, error=error_json("EndNotStored", reason))
            await self._store(run, end, busy=lane.has_runs)
        await self._faults.at("ended")
        self._meter.count(metrics.RUNS, run.graph_id, end.status.value)
        self._pulse.ended(failed=end.status in (RunStatus.ERROR, RunStatus.TIMEOUT))
        if run.ordered_s is not None:
            took_s = time.monotonic() - run.ordered_s
            self._meter.observe(metrics.RUN_TIME, took_s, run.graph_id)
        self._effects.forget(run)
        self._tasks.vital(self._effects.performed(lane, effects))
        self._effects.follow_up(run)

    async def end_settled(self, run: Run, end: End) -> None:
        """Settles the thread of a run whose attempt did not report, then ends the run.

        Args:
            end: the end, without the fields that `Inspections.settle` returns.
        """
        found = await self._inspections.settle(run.graph_id, run.thread_id)
        settled = replace(
            end,
            interrupts=found.interrupts,
            has_next=found.has_next,
            output_keys=found.output_keys,
        )
        await self.end(run, settled)

    async def _roll_back(self, run: Run) -> End:
        """Reverts what a run has written, and deletes the run."""
        await self._faults.at("roll_back")
        status, error = RunStatus.INTERRUPTED, None
        graph_id = run.graph_id
        try:
            await self._bulk.roll_back(run.run_id, run.thread_id)
        except (DatabaseUnavailable, psycopg.Error) as problem:  # the thread must go on
            log.error("a run was not rolled back", exc_info=True, extra={"run_id": run.run_id})
            reason = str(problem).strip().partition("\n")[0]
            status, error = RunStatus.ERROR, error_json("RollbackFailed", reason)
        else:
            *_, newest = await self._journal.commit(
                outbox.announce(run.run_id, rolled_back=True),
                *journal.delete_run(run.run_id),
                journal.newest_graph(run.thread_id),
                key=run.thread_id,
            )
            graph_id = newest[0][0] if newest else graph_id
        await self._faults.at("rolled_back")
        found = await self._inspections.settle(graph_id, run.thread_id)
        return End(
            status=status,
            has_next=found.has_next,
            interrupts=found.interrupts,
            error=error,
            output_keys=found.output_keys,
        )

    async def _store(self, run: Run, end: End, *, busy: bool) -> None:
        """Stores the end of a run and of its thread in one commit.

        Args:
            busy: whether another run is on the thread.
        """
        rest = resting_status(end.status, has_next=end.has_next)
        await self._journal.commit(
            *([journal.number_run(run.run_id, run.thread_id)] if run.logged else []),
            journal.end_run(run.run_id, end.status, end.error, end.output_keys, end.nodes),
            journal.leave_thread(run.thread_id)
            if run.temporary and not busy
            else journal.rest_thread(
                run.thread_id, rest, end.interrupts, _error_of_thread(run, end), busy=busy
            ),
            *([outbox.announce(run.run_id)] if run.webhook else []),
            *([pushes.announce(run.run_id)] if run.may_be_task else []),
            key=run.thread_id,
        )


def _error_of_thread(run: Run, end: End) -> bytes | None:
    """Returns the error that the thread's record shows: a cancelled run says why."""
    is_cancelled = end.status is RunStatus.INTERRUPTED and run.life.cancel != "rollback"
    if end.error is not None or not is_cancelled:
        return end.error
    return error_json("UserInterrupt", run.cancelled_because or CANCELLED)
