"""Threads: their status is derived from their runs and their state, never set on its own."""

from __future__ import annotations

from enum import StrEnum

from greenroom.core.runs import RunStatus


class ThreadStatus(StrEnum):
    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


def resting_status(last: RunStatus, *, has_next: bool) -> ThreadStatus:
    """Returns the status of a thread that has no run in progress.

    Args:
        last: the status of the last run; a timeout counts as an error (platform API, section 6).
        has_next: the state has a next step, after an interrupt or a cancel in mid-run.
    """
    if last in (RunStatus.ERROR, RunStatus.TIMEOUT):
        return ThreadStatus.ERROR
    return ThreadStatus.INTERRUPTED if has_next else ThreadStatus.IDLE
