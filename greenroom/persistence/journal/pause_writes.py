"""Writes about pauses of runs (`greenroom.core.pausing`)."""

from __future__ import annotations

import json
import time

from greenroom.core.pausing import Pause
from greenroom.core.timeline import Entry
from greenroom.persistence.journal.group_commit import Write

_PAUSE = """
UPDATE greenroom.runs SET pause = %(pause)s::jsonb, history = history || %(history)s::jsonb,
    updated_at = clock_timestamp()
WHERE run_id = %(run)s AND status IN ('pending', 'running')"""


def want_pause(run_id: str, pause: Pause | None, attempt: int, *, goes_on: bool) -> Write:
    """Stores which pause is wanted of a run that is not over.

    Args:
        attempt: the run's current attempt.
        goes_on: whether the run waited until now.
    """
    entry = ["resumed", _now_ms(), attempt] if goes_on else None
    return _write(run_id, pause, entry)


def note_waiting(run_id: str, pause: Pause) -> Write:
    """Notes that a run waits."""
    return _write(run_id, pause, ["paused", _now_ms(), pause.attempt, [*pause.next]])


def _write(run_id: str, pause: Pause | None, entry: Entry | None) -> Write:
    return Write(
        _PAUSE,
        {
            "run": run_id,
            "pause": None if pause is None else json.dumps(pause.as_json()),
            "history": json.dumps([] if entry is None else [entry]),
        },
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
