"""Takes the reports of actors whose attempts have ended."""

from __future__ import annotations

import asyncio
import time

from actors.common import metrics
from actors.registry.context import Context
from actors.registry.endings import End, Endings
from actors.registry.followers import Followers, stored_run
from actors.registry.losses import Losses
from actors.registry.pending import Pending, answers
from greenroom.core.lifecycle import Do, Event
from greenroom.core.runs import Report, RunStatus


class Reports:
    """Compares each report with the current attempt of its run, then ends or requeues the run."""

    def __init__(
        self, context: Context, followers: Followers, endings: Endings, losses: Losses
    ) -> None:
        self._runs = context.runs
        self._meter = context.meter
        self._slots = context.keeper.slots
        self._pulse = context.keeper.pulse
        self._database = context.database
        self._followers = followers
        self._endings = endings
        self._losses = losses
        self.pending: Pending[bool] = Pending(context.tasks.vital)

    async def take(self, reports: list[Report]) -> list[bool | None]:
        """Takes reports; the results are those of `RegistryActor.finished_many`."""
        began_s = time.monotonic()
        answered = await answers([self._pending(report) for report in reports])
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "finish")
        return answered

    def _pending(self, report: Report) -> asyncio.Task[bool]:
        key = (report.run_id, report.attempt, report.actor)
        under_way = self.pending.get(key)
        return under_way if under_way is not None else self.pending.begin(key, self._take(report))

    async def _take(self, report: Report) -> bool:
        """Takes one report; returns False if it is not about the current attempt."""
        run = self._runs.find(report.run_id)
        if run is None:
            self._slots.free(report.run_id, report.actor)
            return await self._was_heard(report)
        handed_back = report.status is RunStatus.PENDING
        event = Event.HANDED_BACK if handed_back else Event.REPORTED
        actor = run.actor
        effects = run.life.on(event, attempt=report.attempt, actor=report.actor)
        if effects is None:
            if actor != report.actor:
                self._slots.free(report.run_id, report.actor)
            return False
        if Do.REQUEUE in effects:
            await self._losses.handed_back(run, report.actor, report.nodes)
            return True
        if Do.END not in effects:
            await self._followers.until_over(run.run_id)  # it is being written
            return True
        self._meter.count(metrics.EVENTS, run.graph_id, by=report.events)
        if report.first_event_s is not None:
            self._meter.observe(metrics.FIRST_EVENT, report.first_event_s, run.graph_id)
            self._pulse.first_event(report.first_event_s)
        end = End(
            status=report.status,
            has_next=report.has_next,
            interrupts=report.interrupts,
            error=report.error,
            # An actor of an older version, which this server replaces, does not say it.
            output_keys=getattr(report, "output_keys", None),
            nodes=report.nodes,
        )
        await self._endings.end(run, end)
        return True

    async def _was_heard(self, report: Report) -> bool:
        """Whether a run that is not in flight ended as its report says.

        An earlier registry may have died after its commit. A run without a record (temporary,
        rolled back, deleted) counts as reported: it was deleted after its end, and no other attempt
        follows.
        """
        found = await stored_run(self._database, report.run_id)
        if found is None:
            return True
        return found.attempt == report.attempt and found.status.is_terminal
