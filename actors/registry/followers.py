"""Answers callers that follow a run: the location of its next attempt, or its end."""

from __future__ import annotations

import time

from actors.registry.context import Context
from greenroom.core.runs import UNTIL_END, RunLocation, RunStatus
from greenroom.core.sharding import Misrouted, hash_slot_of_thread
from greenroom.persistence import journal
from greenroom.persistence.database import Pool, retrying
from greenroom.persistence.journal import InFlight


async def stored_run(database: Pool, run_id: str) -> InFlight | None:
    """Reads a run from the database, over or not; repeats while the database is unavailable."""
    return await retrying(database, lambda conn: journal.find_run(conn, run_id))


class Followers:
    """Answers long polls about runs."""

    def __init__(self, context: Context) -> None:
        self._runs = context.runs
        self._waiters = context.waiters
        self._database = context.database
        self._shard = context.shard

    async def follow(self, run_id: str, attempt: int, wait_s: float) -> RunLocation | None:
        """Returns the location of the run's attempt after ``attempt``, or the run's end.

        Returns:
            the location; None if neither is known within ``wait_s`` seconds.

        Raises:
            Misrouted: the thread belongs to another registry, which the run's id did not show.
        """
        deadline_s = time.monotonic() + wait_s
        while True:
            run = self._runs.find(run_id)
            if run is None:
                return await self._ended(run_id, attempt)
            placement = run.placement
            if placement is not None and placement.attempt > attempt:
                return RunLocation(status=RunStatus.RUNNING, placement=placement)
            try:
                within_s = max(0.0, deadline_s - time.monotonic())
                await self._waiters.until_told(run_id, within_s)
            except TimeoutError:
                return None

    async def _ended(self, run_id: str, attempt: int) -> RunLocation:
        """Returns the location of a run that is not in flight: first its last actor, then over."""
        placement = self._runs.last_placement(run_id)
        if placement is not None and placement.attempt > attempt:
            return RunLocation(status=RunStatus.RUNNING, placement=placement)
        found = await stored_run(self._database, run_id)
        if found is None:
            return RunLocation(status=None)
        if not self._shard.has(found.thread_id):
            hash_slot = hash_slot_of_thread(found.thread_id)
            raise Misrouted("Another registry has this run.", self._shard.of, hash_slot)
        return RunLocation(status=found.status)

    async def until_over(self, run_id: str) -> None:
        """Waits until the run is over."""
        while run_id in self._runs:
            await self.follow(run_id, UNTIL_END, 1.0)

    async def until_none_is_executed(self) -> None:
        """Waits until no run has an actor."""
        while (run := self._runs.any_executed()) is not None:
            await self._waiters.until_told(run.run_id)
