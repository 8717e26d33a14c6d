"""Cancels runs on behalf of clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from actors.registry.context import Context
from actors.registry.effects import Effects
from actors.registry.followers import stored_run
from actors.registry.in_flight import BY_A_CLIENT, Run
from actors.registry.pending import Pending, Remembered, answers
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.runs import CancelAction, CancelRequest
from greenroom.persistence import journal
from greenroom.persistence.database import retrying


class Cancellations:
    """Cancels runs that are in flight; a repeated cancel gets the answer of the first one."""

    def __init__(self, context: Context, effects: Effects) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._database = context.database
        self._effects = effects
        self._heard: Remembered[bool] = Remembered()
        self.pending: Pending[Exception | bool] = Pending(context.tasks.vital)

    async def cancel(self, requests: list[CancelRequest]) -> list[Exception | bool | None]:
        """Cancels runs; the results are those of `RegistryActor.cancel_many`."""
        return await answers([self._pending(request) for request in requests])

    def _pending(self, request: CancelRequest) -> asyncio.Task[Exception | bool]:
        under_way = self.pending.get(request.name)
        if under_way is not None:
            return under_way
        return self.pending.begin(request.name, self._cancel(request))

    async def _cancel(self, request: CancelRequest) -> Exception | bool:
        if self._heard.find(request.name):
            return True
        run = self._runs.find(request.run_id)
        if run is None or run.thread_id != request.thread_id:
            return await self._not_cancellable(request)
        lane = self._lanes.of(run.thread_id)
        run.cancelled_because = run.cancelled_because or BY_A_CLIENT
        effects = lane.cancel(run.run_id, request.action)
        self._heard.remember(request.name, True)
        await self._effects.perform(lane, effects, journal.note_cancel(request.name))
        return True

    async def _not_cancellable(self, request: CancelRequest) -> Exception | bool:
        """Returns the refusal of a cancel; True if it was accepted in an earlier call."""
        name = request.name
        if await retrying(self._database, lambda conn: journal.was_cancel_heard(conn, name)):
            return True
        found = await stored_run(self._database, request.run_id)
        if found is None or found.thread_id != request.thread_id:
            return NotFound("Run ID not found")
        return Conflict(f"Run ID is not cancellable (status: {found.status})")

    async def cancel_all(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        """Cancels all runs with the status; returns their number."""

        def has_it(run: Run) -> bool:
            return status == "all" or (status == "running") == run.life.is_executed

        return await self.cancel_each(has_it, action)

    async def cancel_each(self, is_chosen: Callable[[Run], bool], action: CancelAction) -> int:
        """Cancels the chosen runs, also those that are being admitted; returns their number.

        The cancels are durable on return; runs may still be stopping.
        """
        chosen = [run for run in self._runs if is_chosen(run)]
        lanes = [self._lanes.of(run.thread_id) for run in chosen]
        for run in chosen:
            run.cancelled_because = run.cancelled_because or BY_A_CLIENT
        await asyncio.gather(
            *(
                self._effects.perform(lane, lane.cancel(run.run_id, action))
                for run, lane in zip(chosen, lanes, strict=True)
            )
        )
        return len(chosen)
