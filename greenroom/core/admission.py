"""Who may run on a thread, and when: the decisions of the registry, as plain values.

A `Lane` is one thread as the registry sees it. At most one run is *active* on it; the others are
*queued* (first come, first served) or *delayed* (``after_seconds``). An *exclusive operation* (a state
update, a copy, a delete) takes the lane as a run does.

    admit ──┬─ lane free ───────────────> active: waiting ──placed──> running ──stop──> stopping
            ├─ enqueue ────> queued ─next─^   │  ^                     │ │ └─ended─> (gone)
            ├─ after_s ──> delayed ─due─> queued └───────requeued──────┘ └─ended─> (gone)
            └─ reject ───> Conflict

``interrupt`` and ``rollback`` put the new run into the queue, drop every other pending run and stop
the active one; the new run starts when the active one *has stopped*, not when it was told to. The
first stop action wins. A method is one synchronous step: it changes the lane and returns the effects
that the caller has to perform, in order, once they are durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from greenroom.core.errors import Conflict, NotFound
from greenroom.core.runs import CancelAction, MultitaskStrategy

BUSY_MESSAGE = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."
CHANGING_MESSAGE = (
    "Thread is being changed by another request. Try again when that one has finished."
)


class Stage(StrEnum):
    """How far a run has come that is not over."""

    DELAYED = "delayed"
    QUEUED = "queued"
    WAITING = "waiting"
    """It is the thread's turn; a place on an actor is missing."""
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Place:
    """Effect: find this run an actor, then start it."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Effect: tell the actor of this run to stop it."""

    run_id: str
    action: CancelAction


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: this run never ran (in this attempt); it ends interrupted, or is deleted."""

    run_id: str
    delete: bool


Effect = Place | Stop | Drop


@dataclass(slots=True)
class Ticket:
    """A run's place in its lane."""

    run_id: str
    stage: Stage
    stop: CancelAction | None = None


@dataclass(slots=True)
class Lane:
    """One thread: what is active, what waits, what excludes runs."""

    thread_id: str
    active: Ticket | None = None
    queue: deque[Ticket] = field(default_factory=deque)
    delayed: dict[str, Ticket] = field(default_factory=dict)
    exclusive: str | None = None
    closing: bool = False

    def __iter__(self) -> Iterator[Ticket]:
        """Every run of the lane: active, queued in order, delayed."""
        if self.active is not None:
            yield self.active
        yield from self.queue
        yield from self.delayed.values()

    @property
    def is_free(self) -> bool:
        return self.active is None and self.exclusive is None

    @property
    def is_empty(self) -> bool:
        """Nothing is left to remember about the thread."""
        return self.is_free and not self.queue and not self.delayed and not self.closing

    @property
    def has_runs(self) -> bool:
        return self.active is not None or bool(self.queue) or bool(self.delayed)

    def find(self, run_id: str) -> Ticket | None:
        return next((ticket for ticket in self if ticket.run_id == run_id), None)

    # --- runs --------------------------------------------------------------------------------

    def admit(self, run_id: str, strategy: MultitaskStrategy, *, delayed: bool) -> list[Effect]:
        """Takes a new run in, by its strategy.

        Raises:
            Conflict: ``reject``, and the thread is taken (also by a queued or delayed run).
            NotFound: the thread is being deleted.
        """
        if self.closing:
            raise NotFound("Thread or assistant not found.")
        if strategy == "reject":
            if self.has_runs:
                raise Conflict(BUSY_MESSAGE)
            if self.exclusive is not None:
                raise Conflict(CHANGING_MESSAGE)
        effects: list[Effect] = []
        if strategy in ("interrupt", "rollback"):
            effects += self._displace(strategy)
        if delayed:
            self.delayed[run_id] = Ticket(run_id, Stage.DELAYED)
            return effects
        self.queue.append(Ticket(run_id, Stage.QUEUED))
        return effects + self._next()

    def _displace(self, action: CancelAction) -> list[Effect]:
        effects: list[Effect] = [
            Drop(ticket.run_id, delete=action == "rollback")
            for ticket in (*self.queue, *self.delayed.values())
        ]
        self.queue.clear()
        self.delayed.clear()
        if self.active is None:
            return effects
        if self.active.stage is Stage.WAITING:
            effects.append(Drop(self.active.run_id, delete=action == "rollback"))
            self.active = None
        else:
            effects += self._stop_active(action)
        return effects

    def _stop_active(self, action: CancelAction) -> list[Effect]:
        assert self.active is not None
        if self.active.stage is Stage.STOPPING:
            return []
        self.active.stage = Stage.STOPPING
        self.active.stop = action
        return [Stop(self.active.run_id, action)]

    def _next(self) -> list[Effect]:
        if not self.is_free or not self.queue:
            return []
        self.active = self.queue.popleft()
        self.active.stage = Stage.WAITING
        return [Place(self.active.run_id)]

    def restore(self, run_id: str, stage: Stage) -> None:
        """Puts a run back that was there before the registry: after a restart, in admission order."""
        ticket = Ticket(run_id, stage)
        if stage is Stage.DELAYED:
            self.delayed[run_id] = ticket
        elif stage is Stage.QUEUED:
            self.queue.append(ticket)
        else:
            assert self.active is None
            self.active = ticket

    def resume(self) -> list[Effect]:
        """After `restore`: whose turn it is."""
        return self._next()

    def due(self, run_id: str) -> list[Effect]:
        """A delayed run's time has come: it joins the queue, behind what was enqueued meanwhile."""
        ticket = self.delayed.pop(run_id, None)
        if ticket is None:
            return []
        ticket.stage = Stage.QUEUED
        self.queue.append(ticket)
        return self._next()

    def placed(self, run_id: str) -> None:
        """The active run has an actor."""
        assert self.active is not None
        assert self.active.run_id == run_id
        assert self.active.stage is Stage.WAITING
        self.active.stage = Stage.RUNNING

    def requeued(self, run_id: str) -> None:
        """The active run's actor is gone; it waits for another, and keeps the thread."""
        assert self.active is not None
        assert self.active.run_id == run_id
        self.active.stage = Stage.WAITING

    def stop(self, run_id: str, action: CancelAction) -> list[Effect]:
        """Cancels one run. A run that is not executing ends at once; asking twice changes nothing.

        Cancelling a pending run only ever interrupts it, whatever the action (platform API,
        section 5): there is nothing to roll back.
        """
        if self.active is not None and self.active.run_id == run_id:
            if self.active.stage is not Stage.WAITING:
                return self._stop_active(action)
            self.active = None
            return [Drop(run_id, delete=False), *self._next()]
        ticket = self.find(run_id)
        if ticket is None:
            return []
        self._remove(ticket)
        return [Drop(run_id, delete=False)]

    def ended(self, run_id: str) -> list[Effect]:
        """The active run is over, or its admission was not written: the next one's turn."""
        if self.active is not None and self.active.run_id == run_id:
            self.active = None
        else:
            ticket = self.find(run_id)
            if ticket is not None:
                self._remove(ticket)
        return self._next()

    def _remove(self, ticket: Ticket) -> None:
        if ticket.stage is Stage.DELAYED:
            del self.delayed[ticket.run_id]
        else:
            self.queue.remove(ticket)

    # --- exclusive operations ----------------------------------------------------------------

    def begin_exclusive(self, operation: str) -> None:
        """Takes the lane for a state update or a copy.

        Raises:
            Conflict: a run is in flight, or another operation.
            NotFound: the thread is being deleted.
        """
        if self.closing:
            raise NotFound(f"Thread with ID {self.thread_id} not found")
        if self.has_runs:
            raise Conflict(BUSY_MESSAGE)
        if self.exclusive is not None:
            raise Conflict(CHANGING_MESSAGE)
        self.exclusive = operation

    def end_exclusive(self, operation: str) -> list[Effect]:
        """Gives the lane back; what was queued meanwhile starts."""
        if self.exclusive == operation:
            self.exclusive = None
        return self._next()

    def close(self) -> list[Effect]:
        """The thread is about to be deleted: nothing new comes in, what is there stops.

        The caller deletes the thread once the lane has no active run, then calls `reopen`.
        """
        self.closing = True
        return self._displace("interrupt")

    def reopen(self) -> None:
        """The thread is deleted, or could not be: its id may be used again."""
        self.closing = False
