"""The runs in the registry's memory: those that are not over, and those that ended a moment ago.

Only `Runs` adds and removes runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from actors.common.metering import Labels
from greenroom.core.admission import Ticket
from greenroom.core.lifecycle import Life, State
from greenroom.core.pausing import Pause
from greenroom.core.runs import OfRun, Placement, RunFacts, RunStatus

LATELY_S = 10.0
"""How long the placement of a run that is over is remembered."""
RECENT_SHOWN = 1000
"""How many of the runs that ended lately `info` lists, with their actors."""

CANCELLED = "The run was cancelled."
BY_A_CLIENT = "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel"
"""The reference server's words, whose placeholders are literal."""
DISPLACED = "A newer run of the thread interrupted the run."
KILLED = "{} The run did not stop, so its process was killed."


@dataclass(slots=True)
class Run(OfRun):
    """A run that is not over.

    Attributes:
        facts: the facts of the run, which do not change once its admission is stored.
        ticket: the run's position in its lane, and its state.
        deaths: the number of its actors that died; also in the database.
        kwargs: JSON from the request, or from the database, for the actor.
        since_s: the time when the run began to wait (monotonic seconds); None if an earlier
            registry admitted it.
        due_s: the Unix time in seconds at which a delayed run is due.
        ordered_s: the time when its attempt was ordered (monotonic seconds); None likewise.
        killer: the timer that kills its process if the run ignores its cancel.
        overdue: the timer that kills its process if the run ignores its graph's ``timeout_s``.
        out_of_time: whether ``overdue`` has killed the process.
        cancelled_because: why it is cancelled, as the thread's record says it; None also if an
            earlier registry has cancelled it.
        log_number: its number in the log of its thread, once this registry has given it one.
        may_be_task: False: it is no run of an A2A task, so nobody is told about its end.
        pause: the pause that is wanted of it, or None.
        has_inputs: something was said to it, so that it may end with inputs that it has not taken.
    """

    facts: RunFacts
    ticket: Ticket
    deaths: int = 0
    kwargs: bytes | None = None
    since_s: float | None = None
    due_s: float | None = None
    ordered_s: float | None = None
    killer: asyncio.TimerHandle | None = None
    overdue: asyncio.TimerHandle | None = None
    out_of_time: bool = False
    cancelled_because: str | None = None
    may_be_task: bool = True
    log_number: int | None = None
    has_inputs: bool = False
    pause: Pause | None = None

    @property
    def life(self) -> Life:
        return self.ticket.life

    @property
    def attempt(self) -> int:
        return self.ticket.life.attempt

    @property
    def actor(self) -> str | None:
        """The actor of the current attempt, or None."""
        return self.ticket.life.actor

    @property
    def is_ending(self) -> bool:
        return self.ticket.life.state is State.ENDING

    @property
    def can_hear(self) -> bool:
        """Whether the run may still take what is said to it: it is neither ending nor cancelled."""
        return not self.is_ending and self.life.cancel is None

    @property
    def placement(self) -> Placement | None:
        """The placement of the run; None while no actor executes it."""
        life = self.ticket.life
        if life.actor is None or not life.is_executed:
            return None
        return Placement(run_id=self.run_id, attempt=life.attempt, actor=life.actor)

    def stop_timers(self) -> None:
        """Disarms the timers that would kill the run's process."""
        for timer in (self.killer, self.overdue):
            if timer is not None:
                timer.cancel()


class Runs:
    """The runs in flight by id, the ids of waiting runs, and the placements of recent runs.

    Args:
        most_queued: the largest number of waiting runs (``max_queued_runs``); None for no limit.
    """

    def __init__(self, most_queued: int | None = None) -> None:
        self.most_queued = most_queued
        self._runs: dict[str, Run] = {}
        self._queued: set[str] = set()
        self._lately: dict[str, tuple[float, Placement]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        """Iterates over a snapshot; the caller may add and remove runs meanwhile."""
        return iter([*self._runs.values()])

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._runs

    def find(self, run_id: str) -> Run | None:
        """Returns the run if it is in flight, else None."""
        return self._runs.get(run_id)

    def add(self, run: Run) -> None:
        """Adds a run."""
        self._runs[run.run_id] = run

    def remove(self, run: Run) -> None:
        """Removes a run that is over: disarms its timers and remembers its last placement."""
        self._runs.pop(run.run_id, None)
        self._queued.discard(run.run_id)
        self._remember(run)
        run.stop_timers()

    # --- runs that wait ------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """The number of runs that wait for their thread or for a slot, without delayed runs."""
        return len(self._queued)

    @property
    def is_full(self) -> bool:
        """Whether the number of waiting runs has reached its limit."""
        return self.most_queued is not None and len(self._queued) >= self.most_queued

    def queue(self, run_id: str) -> None:
        """Counts a run as waiting."""
        self._queued.add(run_id)

    def unqueue(self, run_id: str) -> None:
        """Counts a run as not waiting any more, because it has an actor."""
        self._queued.discard(run_id)

    # --- runs that are executed ----------------------------------------------------------------

    def executed(self) -> list[Run]:
        """Returns the runs whose durable attempt has an actor."""
        return [run for run in self._runs.values() if run.life.is_executed]

    def any_executed(self) -> Run | None:
        """Returns a run whose durable attempt has an actor, or None."""
        return next((run for run in self._runs.values() if run.life.is_executed), None)

    def count_by_graph_and_status(self) -> dict[Labels, float]:
        """Returns the number of runs by graph and status."""
        counted: dict[Labels, float] = {}
        for run in self._runs.values():
            status = RunStatus.RUNNING if run.life.is_executed else RunStatus.PENDING
            labels = (run.graph_id, status.value)
            counted[labels] = counted.get(labels, 0) + 1
        return counted

    # --- runs that ended lately ----------------------------------------------------------------

    def _remember(self, run: Run) -> None:
        """Remembers the placement of a run that ended.

        A caller that is about to ask for the run's location then asks its actor for the outcome:
        the actor has the run's output and its last events.
        """
        now_s = time.monotonic()
        while self._lately:
            oldest = next(iter(self._lately))
            if self._lately[oldest][0] > now_s - LATELY_S:
                break
            del self._lately[oldest]
        if run.placement is not None:
            self._lately[run.run_id] = now_s, run.placement

    def last_placement(self, run_id: str) -> Placement | None:
        """Returns the last placement of a run that ended within `LATELY_S`."""
        found = self._lately.get(run_id)
        return found[1] if found is not None else None

    def recent_placements(self) -> list[Placement]:
        """Returns the placements of the runs that ended lately, the newest last."""
        return [placement for _, placement in self._lately.values()][-RECENT_SHOWN:]
