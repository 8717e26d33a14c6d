"""Pauses: a run waits at the end of a superstep until it is resumed, or executes one more.

    pause ──stored──> (the superstep ends) ──> paused ──resume──> goes on
                                                 ^  └──step──> one superstep ─┐
                                                 └────────────────────────────┘

The registry stores what is wanted, then tells the actor, which reads it from the database. So a
pause outlives the attempt: the next one waits where the last one did. A step says behind which
superstep the run waits again, so that it is executed once, whatever dies meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

PauseAction = Literal["pause", "step", "resume"]

BEFORE_ALL = -2
"""Stands for the superstep of a run that has none yet: LangGraph counts an input as -1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """The pause that is wanted of a run.

    Attributes:
        name: of the request that has set it; another request sets another pause.
        target: a superstep is executed, with this number or a greater one, before the run waits;
            None: it waits at the end of the superstep that is executed.
        since: ISO 8601, since when the run waits; None: it does not wait yet.
        next: the nodes of its next superstep, while it waits.
        step: the superstep after which it waits; None before the first one.
        attempt: the attempt that has told so.
    """

    name: str
    target: int | None = None
    since: str | None = None
    next: tuple[str, ...] = ()
    step: int | None = None
    attempt: int = 0

    def as_json(self) -> dict[str, Any]:
        """Returns the pause as the database has it."""
        return asdict(self)

    def shown(self) -> dict[str, Any]:
        """Returns the pause as the record of a run shows it."""
        return {"since": self.since, "next": [*self.next]}


def pause_of(stored: dict[str, Any] | None) -> Pause | None:
    """Returns what `Pause.as_json` has returned; None for none."""
    if stored is None:
        return None
    given: dict[str, Any] = {**stored, "next": tuple(stored["next"])}
    return Pause(**given)


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseRequest:
    """What a client wants of a run.

    Attributes:
        name: identifies the request; a repeated one gets the answer of the first.
    """

    thread_id: str
    run_id: str
    action: PauseAction
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseAnswer:
    """The registry's answer: the pause that is wanted from now on, or None."""

    pause: Pause | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """The message of an actor that an attempt waits.

    Attributes:
        name: of the pause.
        next, step: as of `Pause`.
    """

    run_id: str
    attempt: int
    name: str
    next: tuple[str, ...]
    step: int | None
