"""Decides which run may execute on a thread, and when; the decisions are plain values.

A `Lane` is one thread as the registry sees it. At most one run is *active* on it; the others are
*queued* (first come, first served) or *delayed* (``after_seconds``). An *exclusive operation* (a
state update, a copy, a delete) takes the lane as a run does.

    admit ──┬─ lane free ────────────────────────> active ──ended──> (gone)
            ├─ enqueue ──────────────> queued ─next─^
            ├─ after_s ──> delayed ─due─> queued
            └─ reject ───> Conflict

`greenroom.core.lifecycle` defines the states of a run and the effect of each event on them. The
lane selects the run that an event concerns.

``interrupt`` and ``rollback`` put the new run into the queue. Once the new run is stored
(`admitted`), they drop every earlier pending run and cancel the active one. So an admission that
cannot be stored leaves the other runs unchanged. The new run starts when the active one *has
stopped*, not when it is told to stop. The first cancel wins. Each method is one synchronous step:
it changes the lane and returns the effects, which the caller performs in order once they are
durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from greenroom.core.errors import THREAD_OR_ASSISTANT_NOT_FOUND, Conflict, NotFound
from greenroom.core.lifecycle import Do, Event, IllegalTransition, Life, State
from greenroom.core.runs import CancelAction, MultitaskStrategy

BUSY_MESSAGE = (
    "Thread is already running a task. Wait for it to finish or choose a different multitask"
    " strategy."
)
CHANGING_MESSAGE = (
    "Thread is being changed by another request. Try again when that one has finished."
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Effect: claim a slot for this run, then start the run on the actor."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Effect: tell the run's actor to stop executing it."""

    run_id: str
    action: CancelAction


@dataclass(frozen=True, slots=True)
class Drop:
    """Effect: end a run that never executed as ``interrupted``, or delete it."""

    run_id: str
    delete: bool


@dataclass(frozen=True, slots=True)
class EndUnexecuted:
    """Effect: end a cancelled run that lost its actor and has no other actor yet.

    No actor can be told, and an earlier attempt may have written checkpoints that a rollback
    removes. The caller ends the run as its actor would, and the lane stays taken until
    `Lane.ended`.
    """

    run_id: str
    action: CancelAction


Effect = Claim | Cancel | Drop | EndUnexecuted


@dataclass(slots=True)
class Ticket:
    """A run in its lane.

    Attributes:
        number: the position in the order of admission, from 1.
        displaces: the action on the earlier runs once this run is stored; None leaves them alone.
        life: the run's state.
    """

    run_id: str
    number: int
    displaces: CancelAction | None = None
    life: Life = field(default_factory=Life)

    @property
    def state(self) -> State:
        return self.life.state


def displacement(strategy: MultitaskStrategy) -> CancelAction | None:
    """Returns the action of a strategy on the thread's earlier runs; None for no action."""
    return strategy if strategy in ("interrupt", "rollback") else None


@dataclass(slots=True)
class Lane:
    """The runs of one thread and the exclusive operation on it.

    Attributes:
        active: the run whose turn it is, from `State.WAITING` to `State.ENDING`.
        queue: the runs that wait for their turn, in order.
        delayed: the runs whose ``after_seconds`` are not over, by run id.
        exclusive: the name of the exclusive operation that has the lane.
        closing: the thread is being deleted.
    """

    thread_id: str
    active: Ticket | None = None
    queue: deque[Ticket] = field(default_factory=deque[Ticket])
    delayed: dict[str, Ticket] = field(default_factory=dict[str, Ticket])
    exclusive: str | None = None
    closing: bool = False
    _admitted: int = 0

    def __iter__(self) -> Iterator[Ticket]:
        """Iterates over every run of the lane: active, queued in order, delayed."""
        if self.active is not None:
            yield self.active
        yield from self.queue
        yield from self.delayed.values()

    @property
    def is_free(self) -> bool:
        return self.active is None and self.exclusive is None

    @property
    def is_empty(self) -> bool:
        """Whether the lane holds no run and no operation, so that it may be forgotten."""
        return self.is_free and not self.queue and not self.delayed and not self.closing

    @property
    def has_runs(self) -> bool:
        return self.active is not None or bool(self.queue) or bool(self.delayed)

    def find(self, run_id: str) -> Ticket | None:
        return next((ticket for ticket in self if ticket.run_id == run_id), None)

    # --- runs --------------------------------------------------------------------------------

    def admit(self, run_id: str, strategy: MultitaskStrategy, *, delayed: bool) -> list[Effect]:
        """Adds a new run to the lane, by its multitask strategy.

        Args:
            delayed: the run waits for `due` before it joins the queue.

        Returns:
            `Claim`, if a run gets its turn now.

        Raises:
            Conflict: the strategy is ``reject`` and the lane has a run (also a queued or delayed
                one) or an exclusive operation.
            NotFound: the thread is being deleted.
        """
        if self.closing:
            raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
        if strategy == "reject":
            if self.has_runs:
                raise Conflict(BUSY_MESSAGE)
            if self.exclusive is not None:
                raise Conflict(CHANGING_MESSAGE)
        ticket = self._ticket(run_id, strategy)
        if delayed:
            ticket.life.state = State.DELAYED
            self.delayed[run_id] = ticket
        else:
            self.queue.append(ticket)
        return self._next()

    def _ticket(self, run_id: str, strategy: MultitaskStrategy) -> Ticket:
        self._admitted += 1
        return Ticket(run_id, self._admitted, displacement(strategy))

    def admitted(self, run_id: str) -> list[Effect]:
        """Displaces the earlier runs, if the strategy asks for it; the admission is stored now."""
        ticket = self.find(run_id)
        if ticket is None or ticket.displaces is None:
            return []
        return [*self._displace(ticket.displaces, before=ticket.number), *self._next()]

    def _displace(self, action: CancelAction, *, before: int) -> list[Effect]:
        older = [t for t in (*self.queue, *self.delayed.values()) if t.number < before]
        effects = [self._drop(ticket, action, delete=action == "rollback") for ticket in older]
        if self.active is not None and self.active.number < before:
            return [*effects, *self._cancel_active(action, delete=action == "rollback")]
        return effects

    def _drop(self, ticket: Ticket, action: CancelAction, *, delete: bool) -> Effect:
        """Cancels a run that never executed, and removes it from the lane at once."""
        self._remove(ticket)
        ticket.life.on(Event.CANCEL, action=action)
        return Drop(ticket.run_id, delete=delete)

    def _cancel_active(self, action: CancelAction, *, delete: bool) -> list[Effect]:
        ticket = self.active
        assert ticket is not None
        if ticket.state is State.WAITING and not ticket.life.has_run:
            return [self._drop(ticket, action, delete=delete)]
        effects = ticket.life.on(Event.CANCEL, action=action) or ()
        if Do.TELL in effects:
            return [Cancel(ticket.run_id, action)]
        return [EndUnexecuted(ticket.run_id, action)] if Do.END_UNEXECUTED in effects else []

    def _next(self) -> list[Effect]:
        if not self.is_free or not self.queue:
            return []
        self.active = self.queue.popleft()
        self.active.life.on(Event.TURN)
        return [Claim(self.active.run_id)]

    def restore(self, run_id: str, life: Life, strategy: MultitaskStrategy) -> list[Effect]:
        """Puts a stored run back into the lane after a restart of the registry.

        The caller restores the runs in the order of admission. An earlier run that this one should
        have displaced is displaced now.

        Args:
            life: the run's state, derived from the database.

        Raises:
            IllegalTransition: the lane has an active run already; the lane is unchanged.
        """
        active = life.state not in (State.DELAYED, State.QUEUED)
        if active and self.active is not None:
            raise IllegalTransition(
                f"Two runs of thread {self.thread_id} have begun and are not over:"
                f" {self.active.run_id} and {run_id}."
            )
        ticket = self._ticket(run_id, strategy)
        ticket.life = life
        if life.state is State.DELAYED:
            self.delayed[run_id] = ticket
        elif life.state is State.QUEUED:
            self.queue.append(ticket)
        else:
            self.active = ticket
        if ticket.displaces is None:
            return []
        return self._displace(ticket.displaces, before=ticket.number)

    def resume(self) -> list[Effect]:
        """Gives the turn to the next run, after the last `restore`."""
        if self.active is not None and self.active.state is State.WAITING:
            return [Claim(self.active.run_id)]
        return self._next()

    def due(self, run_id: str) -> list[Effect]:
        """Moves a delayed run to the end of the queue, when its delay is over."""
        ticket = self.delayed.pop(run_id, None)
        if ticket is None:
            return []
        ticket.life.on(Event.DUE)
        self.queue.append(ticket)
        return self._next()

    def is_waiting(self, run_id: str) -> bool:
        """Whether the run has its turn and no slot on an actor yet."""
        active = self.active
        return active is not None and active.run_id == run_id and active.state is State.WAITING

    def cancel(self, run_id: str, action: CancelAction) -> list[Effect]:
        """Cancels one run. A run that no actor executes ends at once; a second cancel does nothing.

        A run that never executed is interrupted, whatever the action (platform API, section 5):
        there is nothing to roll back.
        """
        if self.active is not None and self.active.run_id == run_id:
            return [*self._cancel_active(action, delete=False), *self._next()]
        ticket = self.find(run_id)
        return [] if ticket is None else [self._drop(ticket, action, delete=False)]

    def ended(self, run_id: str) -> list[Effect]:
        """Removes a run that is over, or whose admission was not stored; the next one starts."""
        ticket = self.find(run_id)
        if ticket is not None:
            self._remove(ticket)
        return self._next()

    def _remove(self, ticket: Ticket) -> None:
        if ticket is self.active:
            self.active = None
        elif ticket.run_id in self.delayed:
            del self.delayed[ticket.run_id]
        else:
            self.queue.remove(ticket)

    # --- exclusive operations ----------------------------------------------------------------

    def begin_exclusive(self, operation: str) -> None:
        """Takes the lane for a state update or a copy.

        Args:
            operation: the name that `end_exclusive` must repeat.

        Raises:
            Conflict: the lane has a run or another operation.
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
        """Gives the lane back; the first run that queued meanwhile starts."""
        if self.exclusive == operation:
            self.exclusive = None
        return self._next()

    def close(self) -> list[Effect]:
        """Prepares a thread's deletion: refuses new runs and cancels the present ones.

        The caller deletes the thread once the lane `is_free`, then calls `reopen`.

        Raises:
            NotFound: the thread is being deleted already.
        """
        if self.closing:
            raise NotFound(f"Thread with ID {self.thread_id} not found")
        self.closing = True
        return self._displace("interrupt", before=self._admitted + 1)

    def reopen(self) -> None:
        """Accepts runs again, after the thread's deletion succeeded or failed."""
        self.closing = False
