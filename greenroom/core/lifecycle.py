"""The life of a run in the registry: one state, and one table that is executed.

    delayed ──due──> queued ──turn──> waiting ──granted──> ordered ──stored──> running
                                         ^                    │                   │
                                         │                    ├──────cancel───────┴─> cancelling
                                         └──requeued── lost <─┴──────lost, handed back ──────┘

Every state leads to *ending*: by the report of the run's actor, by a cancel while no actor executes
it, or because the registry gives it up. A run that is ending has been decided: whatever still
happens to it is ignored.

The registry feeds every event to `Life.on` and performs the effects that it returns, in order. An
event that an actor or a timer causes names the attempt and the actor that it is about, and is
dropped when they are not the current ones. A pair that the table lacks is a bug of ours
(`IllegalTransition`). The status in the database follows from the state (`STATUS`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from greenroom.core.errors import GreenroomError
from greenroom.core.runs import CancelAction, RunStatus


class State(StrEnum):
    """Where a run is that is not over."""

    DELAYED = "delayed"
    """Its ``after_seconds`` are not over."""
    QUEUED = "queued"
    """Another run, or an exclusive operation, has the thread."""
    WAITING = "waiting"
    """It is the thread's turn; a slot on an actor is missing."""
    ORDERED = "ordered"
    """It has a slot; that the attempt begins is being stored."""
    RUNNING = "running"
    """The attempt is stored, and its actor has the order."""
    CANCELLING = "cancelling"
    """Its actor is told to stop it, and has not said that it has stopped."""
    LOST = "lost"
    """Its attempt is over without an end (a death, a drain); that is being stored."""
    ENDING = "ending"
    """How it ends is decided, and is being stored."""


class Event(StrEnum):
    """What happens to a run."""

    DUE = "due"
    """Its delay is over."""
    TURN = "turn"
    """The thread is free for it."""
    GRANTED = "granted"
    """An actor has a slot for it."""
    STORED = "stored"
    """The attempt is durable."""
    CANCEL = "cancel"
    """It is cancelled, by a client or by a newer run."""
    REPORTED = "reported"
    """Its actor says how the attempt ended."""
    HANDED_BACK = "handed back"
    """Its actor is draining, or the server ends before the attempt did."""
    LOST = "lost"
    """Its actor is gone."""
    REQUEUED = "requeued"
    """It is durable that the attempt is over; another one is to follow."""
    GIVE_UP = "give up"
    """No further attempt is to follow."""
    OVERDUE = "overdue"
    """The attempt takes longer than its graph's ``timeout_s`` and the grace after it."""
    GRACE_OVER = "grace over"
    """It has not stopped within the grace of its cancellation."""


class Do(StrEnum):
    """What the registry has to do because of an event."""

    PLACE = "place"
    """Find it a slot on an actor."""
    PLACE_AGAIN = "place again"
    """Find it a slot, ahead of those who had none yet."""
    START = "start"
    """Store that the attempt begins."""
    ORDER = "order"
    """Send the order to the actor."""
    TELL = "tell"
    """Tell its actor to stop it, and store that it was told."""
    KILL = "kill"
    """End its actor's process."""
    REQUEUE = "requeue"
    """Store that the attempt is over without an end."""
    END = "end"
    """Store how it ends."""
    END_UNEXECUTED = "end unexecuted"
    """Store its end as cancelled; no actor executes it."""


_S, _E, _D = State, Event, Do

TABLE: dict[tuple[State, Event], tuple[State, tuple[Do, ...]]] = {
    (_S.DELAYED, _E.DUE): (_S.QUEUED, ()),
    (_S.DELAYED, _E.CANCEL): (_S.ENDING, (_D.END_UNEXECUTED,)),
    (_S.DELAYED, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
    (_S.QUEUED, _E.TURN): (_S.WAITING, (_D.PLACE,)),
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
    # It ends as cancelled once it is stored that the attempt is over.
    (_S.LOST, _E.CANCEL): (_S.LOST, (_D.TELL,)),
    (_S.LOST, _E.REQUEUED): (_S.WAITING, (_D.PLACE_AGAIN,)),
    (_S.LOST, _E.GIVE_UP): (_S.ENDING, (_D.END,)),
}
"""What an event does, by the state in which it finds a run."""

_TIMERS = (_E.DUE, _E.OVERDUE, _E.GRACE_OVER)

IGNORED: frozenset[tuple[State, Event]] = frozenset(
    {
        *((_S.ENDING, event) for event in _E),
        # Timers and notices of the past.
        *((state, event) for state in _S for event in _TIMERS if (state, event) not in TABLE),
        (_S.CANCELLING, _E.CANCEL),
        (_S.RUNNING, _E.STORED),
        *((_S.LOST, event) for event in (_E.STORED, _E.LOST, _E.HANDED_BACK, _E.REPORTED)),
        *((_S.WAITING, event) for event in (_E.STORED, _E.LOST, _E.HANDED_BACK, _E.REPORTED)),
    }
)
"""What may happen and does not matter any more."""

STATUS: dict[State, RunStatus] = {
    _S.DELAYED: RunStatus.PENDING,
    _S.QUEUED: RunStatus.PENDING,
    _S.WAITING: RunStatus.PENDING,
    _S.ORDERED: RunStatus.RUNNING,
    _S.RUNNING: RunStatus.RUNNING,
    _S.CANCELLING: RunStatus.RUNNING,
    _S.LOST: RunStatus.PENDING,
}
"""The status that the database has, or is about to have. Of an ending run it is that of its end."""


class IllegalTransition(GreenroomError):
    """The table lacks what happened to a run; always a bug of ours."""


@dataclass(slots=True)
class Life:
    """A run's state, and who executes it.

    Attributes:
        attempt: the attempt that is executed, or was last; 0 before the first.
        actor: the actor of the attempt, while it has one.
        stored: the last attempt that is durable.
        cancel: how it was cancelled; the first action wins.
    """

    state: State = State.QUEUED
    attempt: int = 0
    actor: str | None = None
    stored: int = 0
    cancel: CancelAction | None = None

    @property
    def has_run(self) -> bool:
        """An attempt was begun, so there may be something to settle at its end."""
        return self.attempt > 0

    @property
    def is_executed(self) -> bool:
        """A durable attempt has an actor, which may be named."""
        return self.actor is not None and self.stored == self.attempt

    def on(
        self,
        event: Event,
        *,
        attempt: int | None = None,
        actor: str | None = None,
        action: CancelAction | None = None,
    ) -> tuple[Do, ...] | None:
        """Takes an event in.

        Args:
            attempt, actor: which ones the event is about; None for any. Of `Event.GRANTED` the
                actor is the one that has the slot.
            action: of a cancel.

        Returns:
            what is to be done, or None when the event is not about the current attempt or actor.

        Raises:
            IllegalTransition: the table lacks it.
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
