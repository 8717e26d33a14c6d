"""The interrupts that a thread waits at, and what a run that answers them counts on.

A client answers what it has seen, and another client may answer it at the same time. So a request
says what its run answers, and the run is admitted only while the thread waits for that: what the
gateway has read may be old by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingInterrupts:
    """What a thread waits at, as its record has it.

    Attributes:
        values: of the interrupts, by their ids, in order.
        mark: changes whenever the interrupts do.
        assistant_id: of the thread's newest run; None if it has had none.
    """

    values: Mapping[str, Any]
    mark: str
    assistant_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a run counts on at its admission.

    Attributes:
        ids: the interrupts that it answers. It is refused when another run that is not over may
            answer one of them. Empty: the run answers nothing, and is refused when its thread waits
            at any interrupt.
        mark: of the `PendingInterrupts` that have them; it is refused when that has changed.
    """

    ids: tuple[str, ...] = ()
    mark: str = ""


NOTHING = Answers()
