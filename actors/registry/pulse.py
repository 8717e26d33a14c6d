"""What has happened lately, for people who look at a server: rates, latencies, deaths.

The metrics count since a registry's start, and are for machines. This is the last ten minutes, and
goes with the registry's process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROW_S = 10
ROWS = 60
LATENCIES_KEPT = 500
DEATHS_KEPT = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Death:
    """The death of an actor.

    Attributes:
        at_s: Unix time in seconds.
        what: why, as far as it is known.
        run_id, thread_id: the run that lost it, or None.
    """

    at_s: float
    actor: str
    what: str
    run_id: str | None = None
    thread_id: str | None = None


class Pulse:
    """Counts by rows of `ROW_S` seconds. Not thread-safe.

    Args:
        now_s: Unix time in seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._rows: deque[list[int]] = deque(maxlen=ROWS)
        self._first_event: deque[tuple[float, float]] = deque(maxlen=LATENCIES_KEPT)
        self._queued: deque[tuple[float, float]] = deque(maxlen=LATENCIES_KEPT)
        self._deaths: deque[Death] = deque(maxlen=DEATHS_KEPT)

    def started(self, queued_s: float | None) -> None:
        """Counts a run whose first attempt is ordered.

        Args:
            queued_s: how long it has waited, in seconds; None: unknown.
        """
        self._row()[1] += 1
        if queued_s is not None:
            self._queued.append((self._now_s(), queued_s))

    def ended(self, *, failed: bool) -> None:
        """Counts the end of a run."""
        row = self._row()
        row[2] += 1
        row[3] += failed

    def first_event(self, seconds: float) -> None:
        """Notes how long an attempt took to its first event."""
        self._first_event.append((self._now_s(), seconds))

    def died(
        self, actor: str, what: str, run_id: str | None = None, thread_id: str | None = None
    ) -> None:
        """Notes a death; of an actor with several runs, one for each run."""
        self._deaths.append(
            Death(at_s=self._now_s(), actor=actor, what=what, run_id=run_id, thread_id=thread_id)
        )

    def _row(self) -> list[int]:
        at = int(self._now_s()) // ROW_S * ROW_S
        if not self._rows or self._rows[-1][0] != at:
            self._rows.append([at, 0, 0, 0])
        return self._rows[-1]

    def shown(self) -> dict[str, Any]:
        """Returns the rows ``(at, started, ended, failed)``, the latencies in seconds, and the
        deaths, of the last ten minutes; a row in which nothing happened is left out."""
        oldest = self._now_s() - ROW_S * ROWS
        return {
            "rows": [tuple(row) for row in self._rows if row[0] >= oldest],
            "first_event_s": [took for at, took in self._first_event if at >= oldest],
            "queued_s": [took for at, took in self._queued if at >= oldest],
            "deaths": [*self._deaths],
        }
