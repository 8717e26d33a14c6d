"""Stores the crons of a registry, and fires them: admits a run at each due date, exactly once.

    change:  commit ──> wake
    keep:    due crons ──> one task each ──> admission and next date, one commit ──> run
             sleep until the next date of any cron, or until a change

The admission of a firing's run and the cron's next date are one commit, which is made only if the
cron is still due then (`journal.admit`). So a registry that dies has either fired or not, and the
next one continues with the dates in the database. Nothing is kept in memory but the firings in
progress; without crons, nothing happens here.

A cron that cannot fire (its thread is taken and it rejects that, its graph is gone, its schedule
cannot be read) is skipped until its next date, with a log line and a count, and delays no other.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

import psycopg

from actors.common import metrics
from actors.registry.admitting import ADMISSION_PATIENCE_S, Admissions
from actors.registry.context import Context
from actors.registry.firings import LATE_S, Dates, dates_of, load, request_of
from greenroom.core.crons import Cron
from greenroom.core.errors import (
    AssistantChanged,
    Conflict,
    DatabaseUnavailable,
    GreenroomError,
    TooManyRequests,
)
from greenroom.core.runs import RunRequest
from greenroom.persistence import journal
from greenroom.persistence.crons import DueCron, due_crons, next_due

log = logging.getLogger("greenroom.crons")

MAX_AT_ONCE = 64
"""The most firings in progress."""
BATCH = 20
"""The most crons of one read, since each may have a payload of 1 MiB."""
PAUSE_S = 1.0
"""How long a firing waits that the server has no room for, and a look at crons without database."""


class Crons:
    """The crons of a registry.

    Attributes:
        firing: the ids of the crons whose firing is in progress.
    """

    def __init__(self, context: Context, admissions: Admissions) -> None:
        self._journal = context.journal
        self._database = context.database
        self._shard = context.shard
        self._tasks = context.tasks
        self._meter = context.meter
        self._clock = context.setup.clock
        self._faults = context.setup.faults
        self._admissions = admissions
        self._awake = asyncio.Event()
        self.firing: set[str] = set()
        self._is_loaded = False

    # --- what clients want ---------------------------------------------------------------------

    async def save(self, cron: Cron) -> bool:
        """Stores a new cron or a change of one. Repeatable.

        Returns:
            False for a new cron without its thread or assistant, and for a change that another
            one came before.

        Raises:
            DatabaseUnavailable: it was not stored in time; a new cron will not be there, unless it
                has an ``Idempotency-Key``.
        """
        is_new = cron.revision is None
        write = journal.store_cron(cron) if is_new else journal.change_cron(cron)
        try:
            (rows,) = await self._journal.commit(
                write, key=cron.owner, patience_s=ADMISSION_PATIENCE_S
            )
        except psycopg.errors.ForeignKeyViolation:
            return False  # its thread or its assistant was deleted meanwhile
        except DatabaseUnavailable:
            # One with a key may be there since an earlier request, and its client may ask again.
            if is_new and cron.once is None:
                # It may have been stored before the connection was lost.
                gone = self._journal.commit(journal.delete_cron(cron.cron_id), key=cron.owner)
                self._tasks.vital(gone)
            raise
        self._awake.set()
        return bool(rows)

    async def delete(self, cron_id: str, owner: str) -> None:
        """Deletes a cron. Repeatable: deleting a missing one succeeds."""
        await self._journal.commit(
            journal.delete_cron(cron_id), key=owner, patience_s=ADMISSION_PATIENCE_S
        )

    # --- firing --------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Fires crons as they become due, until the registry admits no more runs."""
        while not self._admissions.has_ended:
            self._awake.clear()
            try:
                until = await self._fire_due()
            except (DatabaseUnavailable, psycopg.Error) as error:
                log.warning("crons wait for the database", extra={"reason": str(error)[:200]})
                until = self._clock.now() + timedelta(seconds=PAUSE_S)
            except Exception:  # a look that fails must not be the last one
                log.exception("A look at the crons has failed.")
                until = self._clock.now() + timedelta(seconds=PAUSE_S)
            await self._clock.sleep(until, self._awake)

    async def _fire_due(self) -> datetime | None:
        """Begins the firings that are due; returns the time of the next look, None: no cron is
        there.

        The end of a firing is a reason for a look as well.
        """
        while len(self.firing) < MAX_AT_ONCE:
            found = await due_crons(
                self._database,
                self._clock.now(),
                but=self.firing,
                limit=BATCH,
                shard=self._shard,
            )
            if not found:
                return await next_due(self._database, but=self.firing, shard=self._shard)
            if not self._is_loaded:
                # In a thread: the loop has other work for the 0.2 s that this takes.
                await asyncio.to_thread(load)
                self._is_loaded = True
            for cron in found:
                self.firing.add(cron.cron_id)
                self._tasks.spawn(self._fire_once(cron))
        return None

    async def _fire_once(self, cron: DueCron) -> None:
        try:
            await self._fire(cron)
        finally:
            self.firing.discard(cron.cron_id)
            self._awake.set()

    async def _fire(self, cron: DueCron) -> None:
        now = self._clock.now()
        try:
            dates = dates_of(cron, now)
        except Exception as error:  # noqa: BLE001 - whatever its schedule does: no other cron waits
            self._note(cron, "failed", f"It is disabled: {error}")
            await self._journal.commit(
                journal.disable_cron(cron.cron_id, cron.due, cron.revision), key=cron.cron_id
            )
            return
        if cron.end_time is not None and (now - cron.end_time).total_seconds() > LATE_S:
            return await self._skip(cron, dates, "skipped", "Its end_time has passed.")
        try:
            request = request_of(cron, dates)
        except Exception as error:  # noqa: BLE001 - whatever its payload is: no other cron waits
            return await self._skip(cron, dates, "failed", f"It makes no run: {error}")
        await self._faults.at("fire")
        await self._admit(cron, dates, request)
        await self._faults.at("fired")

    async def _admit(self, cron: DueCron, dates: Dates, request: RunRequest) -> None:
        answer = await self._admissions.fire(request, dates.firing)
        if self._admissions.has_ended:
            return  # the next registry fires it
        if isinstance(answer, TooManyRequests):
            # It stays due: the look after this pause finds it again.
            self._meter.count(metrics.CRON_FIRINGS, "delayed")
            await asyncio.sleep(PAUSE_S)
        elif isinstance(answer, AssistantChanged):
            pass  # it stays due as well: the look after this reads the assistant again
        elif isinstance(answer, Conflict):
            await self._skip(cron, dates, "skipped", answer.message)
        elif isinstance(answer, Exception):
            reason = answer.message if isinstance(answer, GreenroomError) else repr(answer)
            await self._skip(cron, dates, "failed", reason)
        else:
            self._fired(cron, dates, answer.run_id)

    async def _skip(self, cron: DueCron, dates: Dates, outcome: str, reason: str) -> None:
        """Goes on to the next date without a run."""
        (rows,) = await self._journal.commit(journal.advance_cron(dates.firing), key=cron.cron_id)
        if rows:  # else a client has changed or deleted it meanwhile
            self._note(cron, outcome, reason)

    def _fired(self, cron: DueCron, dates: Dates, run_id: str) -> None:
        outcome = "late" if dates.is_late else "fired"
        self._meter.count(metrics.CRON_FIRINGS, outcome)
        extra = {
            "action": f"cron_{outcome}",
            "cron_id": cron.cron_id,
            "run_id": run_id,
            "due": cron.due.isoformat(),
        }
        if dates.is_late:
            more = {"late_s": round(dates.late_s, 1), "missed": dates.missed}
            log.warning("A cron has fired late, once for all its missed dates.", extra=extra | more)
        else:
            log.info("A cron has fired.", extra=extra)

    def _note(self, cron: DueCron, outcome: str, reason: str) -> None:
        self._meter.count(metrics.CRON_FIRINGS, outcome)
        log.warning(
            "A cron has not fired.",
            extra={
                "action": f"cron_{outcome}",
                "cron_id": cron.cron_id,
                "due": cron.due.isoformat(),
                "reason": reason[:500],
            },
        )
