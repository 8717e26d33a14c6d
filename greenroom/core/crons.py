"""Crons: runs that are created again and again by a clock.

A cron belongs to the registry of its thread, or, without a thread, of its own id (`Cron.owner`).
That registry stores it and *fires* it: it admits a run when the cron is due. The ids of that run,
and of the thread that it may need, follow from the cron and the date, so a firing that is repeated
is the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal

from greenroom.core.idempotency import OnceKey
from greenroom.core.identity import uuid7_of
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.sharding import for_thread, hash_slot_of_thread

OnRunCompleted = Literal["delete", "keep"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cron:
    """A cron as a client wants it: validated, complete, and safe to store twice.

    Attributes:
        cron_id: UUIDv7, minted by the gateway.
        thread_id: the thread of its runs; None: each run gets a thread of its own.
        schedule, timezone: what `greenroom.schedules.schedule_of` takes.
        end_time: it does not fire after it; None: no end.
        enabled: it fires.
        on_run_completed: whether the thread of a run is kept; None with a ``thread_id``.
        payload: JSON object, the body that its runs are made of.
        metadata: JSON object.
        next_run_date: the date of its next firing; None keeps the stored one.
        revision: how often clients have changed it before; None for a new one. A change is refused
            if the stored cron has another number.
        once: the ``Idempotency-Key`` under which a new one is made.
        user: JSON object, the user of its runs, as of `RunFacts.user`. A change keeps it.
        user_id: that user's identity, which clients are shown.
        scope: of the thread of its runs. A change keeps it.
    """

    cron_id: str
    assistant_id: str
    thread_id: str | None
    schedule: str
    timezone: str | None
    end_time: datetime | None
    enabled: bool
    on_run_completed: OnRunCompleted | None
    payload: bytes
    metadata: bytes
    next_run_date: datetime | None
    revision: int | None = None
    once: OnceKey | None = None
    user: str | None = None
    user_id: str = ""
    scope: Scope = SERVER

    @property
    def owner(self) -> str:
        return owner_of(self.cron_id, self.thread_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Firing:
    """One due date of a cron, which the admission of its run takes off.

    Attributes:
        due: the cron's ``next_run_date``; another one means that it has fired already.
        revision: the cron's; another one means that a client has changed it meanwhile.
        next_run_date: the date of the firing after this one.
    """

    cron_id: str
    due: datetime
    revision: int
    next_run_date: datetime


def owner_of(cron_id: str, thread_id: str | None) -> str:
    """Returns the id by which a cron belongs to a registry, as a thread does by its own."""
    return thread_id if thread_id is not None else cron_id


def thread_of_firing(cron_id: str, due: datetime) -> str:
    """Returns the id of the thread for a firing of a cron without a thread: a UUIDv7.

    The thread belongs to the registry that fires the cron, for any number of registries.
    """
    hash_slot = hash_slot_of_thread(cron_id)
    candidates = (_uuid7(due, f"thread {number} of {cron_id}") for number in count())
    return next(each for each in candidates if hash_slot_of_thread(each) == hash_slot)


def run_of_firing(cron_id: str, due: datetime, thread_id: str) -> str:
    """Returns the id of the run for a firing: a UUIDv7, minted for its thread."""
    return for_thread(_uuid7(due, f"run of {cron_id}"), thread_id)


def _uuid7(at: datetime, seed: str) -> str:
    return uuid7_of(int(at.timestamp() * 1000), f"{seed} at {at.astimezone(UTC).isoformat()}")
