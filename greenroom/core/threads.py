"""Threads: their status is derived from their runs and their state, never set on its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from greenroom.core.runs import RunStatus


class ThreadStatus(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


ExpiryStrategy = Literal["delete", "keep_latest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadTtl:
    """``checkpointer.ttl`` of `langgraph.json`.

    Attributes:
        default_minutes: the time to live of a new thread that is made without one, from its last
            change; None: for ever.
        strategy: what happens to such a thread then.
        sweep_interval_minutes: the least pause between two sweeps for expired threads; None: that
            of the settings.
        sweep_limit: how many threads of a registry one sweep deletes or prunes at most.
    """

    default_minutes: float | None = None
    strategy: ExpiryStrategy = "delete"
    sweep_interval_minutes: float | None = None
    sweep_limit: int = 1000


def resting_status(last: RunStatus, *, has_next: bool) -> ThreadStatus:
    """Returns the status of a thread that has no run in progress.

    Args:
        last: the status of the last run; a timeout counts as an error (platform API, section 6).
        has_next: the state has a next step, after an interrupt or a cancel in mid-run.
    """
    if last in (RunStatus.ERROR, RunStatus.TIMEOUT):
        return ThreadStatus.ERROR
    return ThreadStatus.INTERRUPTED if has_next else ThreadStatus.IDLE
