"""The states of a run in the registry, and the transition table that changes them.

    delayed ──due──> queued ──turn──> waiting ──granted──> ordered ──stored──> running
                                         ^                    │                   │
                                         │                    ├──────cancel───────┴─> cancelling
                                         └──requeued── lost <─┴──────lost, handed back ──────┘

Every state leads to *ending*: through the report of the run's actor, through a cancel while no
actor executes the run, or because the registry gives the run up. The outcome of an ending run is
decided, so all further events are ignored.

The registry passes every event to `Life.on` and performs the returned effects in order. An event
from an actor or a timer names its attempt and its actor; it is dropped when they are not the
current ones. A pair that the table lacks is a bug in the registry (`IllegalTransition`). The status
in the database follows from the state (`STATUS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from greenroom.core.errors import GreenroomError
from greenroom.core.runs import CancelAction, RunStatus


class State(StrEnum):
    """The state of a run that is not over."""

    DELAYED = "delayed"
    """Its ``after_seconds`` are not over."""
    QUEUED = "queued"
    """Another run, or an exclusive operation, has the thread."""
    WAITING = "waiting"
    """The run has the thread and waits for a slot on an actor."""
    ORDERED = "ordered"
    """The run has a slot; the registry stores the begin of the attempt."""
    RUNNING = "running"
    """The attempt is stored, and its actor has the order."""
    CANCELLING = "cancelling"
    """The actor is told to stop the run, and has not reported yet."""
    LOST = "lost"
    """The attempt is lost (a death, a drain); the registry stores the loss."""
    ENDING = "ending"
    """The end is decided; the registry stores it."""


class Event(StrEnum):
    """An event in the life of a run."""

    DUE = "due"
    """The run's ``after_seconds`` are over."""
    TURN = "turn"
    """The thread is free for the run."""
    GRANTED = "granted"
    """The run gets a slot on an actor."""
    STORED = "stored"
    """The attempt is durable."""
    CANCEL = "cancel"
    """A client or a newer run cancels the run."""
    REPORTED = "reported"
    """The actor reports the outcome of the attempt."""
    HANDED_BACK = "handed back"
    """The actor drains, or the server ends before the attempt does."""
    LOST = "lost"
    """The actor died."""
    REQUEUED = "requeued"
    """The loss of the attempt is durable; another attempt follows."""
    GIVE_UP = "give up"
    """The registry ends the run without a further attempt."""
    OVERDUE = "overdue"
    """The attempt exceeds its graph's ``timeout_s`` and the grace after it."""
    GRACE_OVER = "grace over"
    """The actor did not stop the run within the grace of its cancellation."""


class Do(StrEnum):
    """An effect of an event, which the registry performs."""

    CLAIM = "claim"
    """Claim a slot on an actor."""
    CLAIM_AGAIN = "claim again"
    """Claim a slot, ahead of the runs that never had one."""
    START = "start"
    """Store the begin of the attempt."""
    ORDER = "order"
    """Send the order to the actor."""
    TELL = "tell"
    """Tell the actor to stop the run, and store the cancel."""
    KILL = "kill"
    """Kill the actor's process."""
    REQUEUE = "requeue"
    """Store the loss of the attempt."""
    END = "end"
    """Store the run's end."""
    END_UNEXECUTED = "end unexecuted"
    """Store the end of a cancelled run that no actor executes."""


_S, _E, _D = State, Event, Do

TABLE: dict[tuple[State, Event], tuple[State, tuple[Do, ...]]] = {
    (_S.DELAYED, _E.DUE): (_S.QUEUED, ()),
    (_S.DELAYED, _E.CANCEL): (_S.ENDING, (_D.END_UNEXECUTED,)),
    (_S.DELAYED, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.QUEUED, _E.TURN): (_S.WAITING, (_D.CLAIM,)),
    (_S.QUEUED, _E.CANCEL): (_S.ENDING, (_D.END_UNEXECUTED,)),
    (_S.QUEUED, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.WAITING, _E.GRANTED): (_S.ORDERED, (_D.START,)),
    (_S.WAITING, _E.CANCEL): (_S.ENDING, (_D.END_UNEXECUTED,)),
    (_S.WAITING, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.ORDERED, _E.STORED): (_S.RUNNING, (_D.ORDER,)),
    (_S.ORDERED, _E.CANCEL): (_S.CANCELLING, (_D.TELL,)),
    (_S.ORDERED, _E.REPORTED): (_S.ENDING, (_D.END,)),
    (_S.ORDERED, _E.HANDED_BACK): (_S.LOST, (_D.REQUEUE,)),
    (_S.ORDERED, _E.LOST): (_S.LOST, (_D.REQUEUE,)),
    (_S.ORDERED, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.RUNNING, _E.CANCEL): (_S.CANCELLING, (_D.TELL,)),
    (_S.RUNNING, _E.REPORTED): (_S.ENDING, (_D.END,)),
    (_S.RUNNING, _E.HANDED_BACK): (_S.LOST, (_D.REQUEUE,)),
    (_S.RUNNING, _E.LOST): (_S.LOST, (_D.REQUEUE,)),
    (_S.RUNNING, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.RUNNING, _E.OVERDUE): (_S.RUNNING, (_D.KILL,)),
    # The actor keeps a cancel that comes before its order.
    (_S.CANCELLING, _E.STORED): (_S.CANCELLING, (_D.ORDER,)),
    (_S.CANCELLING, _E.REPORTED): (_S.ENDING, (_D.END,)),
    (_S.CANCELLING, _E.HANDED_BACK): (_S.LOST, (_D.REQUEUE,)),
    (_S.CANCELLING, _E.LOST): (_S.LOST, (_D.REQUEUE,)),
    (_S.CANCELLING, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.CANCELLING, _E.GRACE_OVER): (_S.CANCELLING, (_D.KILL,)),
    # The run ends as cancelled once the loss of the attempt is stored.
    (_S.LOST, _E.CANCEL): (_S.LOST, (_D.TELL,)),
    (_S.LOST, _E.REQUEUED): (_S.WAITING, (_D.CLAIM_AGAIN,)),
    (_S.LOST, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
}
"""The next state and the effects, by state and event."""

_TIMERS = (_E.DUE, _E.OVERDUE, _E.GRACE_OVER)

IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {
        *((_S.ENDING, event) for event in _E),
        # Late timers and late notices.
        *((state, event) for state in _S for event in _TIMERS if (state, event) not in TABLE),
        (_S.CANCELLING, _E.CANCEL),
        (_S.RUNNING, _E.STORED),
        *((_S.LOST, event) for event in (_E.STORED, _E.LOST, _E.HANDED_BACK, _E.REPORTED)),
        *((_S.WAITING, event) for event in (_E.STORED, _E.LOST, _E.HANDED_BACK, _E.REPORTED)),
    }
)
"""The pairs that may occur and have no effect."""

STATUS: dict[State, RunStatus] = {
    _S.DELAYED: RunStatus.PENDING,
    _S.QUEUED: RunStatus.PENDING,
    _S.WAITING: RunStatus.PENDING,
    _S.ORDERED: RunStatus.RUNNING,
    _S.RUNNING: RunStatus.RUNNING,
    _S.CANCELLING: RunStatus.RUNNING,
    _S.LOST: RunStatus.PENDING,
}
"""The status that the database has or gets next. An ending run gets the status of its end."""


class IllegalTransition(GreenroomError):
    """The table lacks the event for the run's state; always a bug in the registry."""


@dataclass(slots=True)
class Life:
    """A run's state, attempt and actor.

    Attributes:
        attempt: the current or last attempt; 0 before the first.
        actor: the name of the attempt's actor; None without one.
        stored: the last attempt that is durable.
        cancel: the action of the first cancel; None before it.
    """

    state: State = State.QUEUED
    attempt: int = 0
    actor: str | None = None
    stored: int = 0
    cancel: CancelAction | None = None

    @property
    def has_run(self) -> bool:
        """Whether an attempt began, so that the run's end may have to be settled."""
        return self.attempt > 0

    @property
    def is_executed(self) -> bool:
        """Whether the current attempt is durable and has an actor, so that clients may know it."""
        return self.actor is not None and self.stored == self.attempt

    def on(
        self,
        event: Event,
        *,
        attempt: int | None = None,
        actor: str | None = None,
        action: CancelAction | None = None,
    ) -> tuple[Do, ...] | None:
        """Applies an event to the run.

        Args:
            attempt, actor: the subject of the event; None matches any. For `Event.GRANTED`, the
                actor that has the slot.
            action: the action of a cancel.

        Returns:
            the effects to perform, or None when the event concerns another attempt or actor.

        Raises:
            IllegalTransition: the table lacks the event for the state.
        """
        if attempt is not None and attempt != self.attempt:
            return None
        if actor is not None and event is not Event.GRANTED and actor != self.actor:
            return None
        if event is Event.CANCEL and self.cancel is not None:
            return ()  # the first action wins
        if (self.state, event) in IGNORED:
            return ()
        try:
            self.state, effects = TABLE[self.state, event]
        except KeyError:
            raise IllegalTransition(f"A run that is {self.state} cannot be {event}.") from None
        match event:
            case Event.GRANTED:
                self.actor = actor
                self.attempt += 1
            case Event.STORED:
                self.stored = self.attempt
            case Event.CANCEL:
                self.cancel = action
            case Event.LOST | Event.HANDED_BACK:
                self.actor = None
            case _:
                pass
        return effects
