"""What a cron that is due becomes: the request for a run, and the cron's next date.

Dates that passed while no registry was there, or the database was away, are one firing: the run's
metadata tell the date (``cron_due_at``) and how many more dates it stands for (``cron_missed``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from greenroom.core.crons import Firing, run_of_firing, thread_of_firing
from greenroom.core.runs import RunRequest
from greenroom.core.scopes import SERVER, Scope
from greenroom.persistence.crons import DueCron

LATE_S = 5.0
"""A firing that is this much later than its date is a late one, and says so."""
MOST_MISSED = 100
"""How many missed dates are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dates:
    """The dates of a firing.

    Attributes:
        late_s: how many seconds after its date the cron fires.
        missed: how many later dates have passed as well, at most `MOST_MISSED`.
    """

    firing: Firing
    late_s: float
    missed: int

    @property
    def is_late(self) -> bool:
        return self.late_s > LATE_S or self.missed > 0


def load() -> None:
    """Imports what only firings need: a registry without crons starts faster without it."""
    import greenroom.schedules
    import greenroom.wire.requests  # noqa: F401


def dates_of(cron: DueCron, now: datetime) -> Dates:
    """Returns the dates of a firing.

    Raises:
        GreenroomError: the schedule is not valid, or has no further date.
    """
    from greenroom.schedules import schedule_of

    schedule = schedule_of(cron.schedule, cron.timezone)
    firing = Firing(
        cron_id=cron.cron_id,
        due=cron.due,
        revision=cron.revision,
        next_run_date=schedule.next_after(max(now, cron.due)),
    )
    missed = schedule.count(cron.due, now, most=MOST_MISSED)
    return Dates(firing=firing, late_s=(now - cron.due).total_seconds(), missed=missed)


def request_of(cron: DueCron, dates: Dates) -> RunRequest:
    """Makes the request for the run of a firing.

    Raises:
        pydantic.ValidationError, GreenroomError: the cron's payload is no body of a run.
    """
    import orjson

    from greenroom.wire.requests import firing_of

    thread_id = cron.thread_id or thread_of_firing(cron.cron_id, cron.due)
    more = {"cron_due_at": cron.due.isoformat(), "cron_missed": dates.missed}
    return firing_of(
        orjson.loads(cron.payload),
        cron.assistant,
        cron_id=cron.cron_id,
        run_id=run_of_firing(cron.cron_id, cron.due, thread_id),
        thread_id=thread_id,
        stateless=cron.thread_id is None,
        more_metadata=more if dates.is_late else None,
        user=cron.user,
        scope=SERVER if cron.scope is None else Scope.from_json(cron.scope),
    )
