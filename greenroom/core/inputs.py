"""Inputs that are said to a run which has been created already.

    said ──stored──> waiting ──┬─ taken     a checkpoint of the run contains it
                               ├─ started   nobody took it: it is the input of the next run
                               ├─ refused   the state could not take it after all
                               └─ dropped   the run was over, as the sender wanted

What waits is taken in the order in which it was said, exactly once: the note that it is taken is in
the transaction of the checkpoint that contains it. An input that a run leaves waiting when it ends
goes to the next run of the thread, together with all that was said after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from greenroom.core.identity import uuid7_of
from greenroom.core.sharding import for_thread

IfOver = Literal["reject", "enqueue", "drop"]
"""What becomes of an input that its run does not take:

    ===========  =================  ======================  ==================
    ``if_over``  the run is over    the run ends by itself  it is cancelled
    ===========  =================  ======================  ==================
    ``reject``   409                next run                dropped
    ``enqueue``  next run           next run                next run
    ``drop``     dropped            dropped                 dropped
    ===========  =================  ======================  ==================
"""

INPUT_EVENT = "input"
"""The name of the event that a run's stream has for each input that the run has taken."""

TAKEN = "__greenroom_taken"
"""The key in ``configurable`` under which a saver finds the inputs that a checkpoint contains. No
key that begins with two underscores becomes part of a checkpoint's metadata."""


class InputStatus(StrEnum):
    WAITING = "waiting"
    TAKEN = "taken"
    STARTED = "started"
    REFUSED = "refused"
    DROPPED = "dropped"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewInput:
    """An input that is about to be said: validated, and safe to repeat.

    Attributes:
        input_id: UUIDv7; a repeated request with the same id is the same input.
        run_id: the run that it is said to.
        content: JSON object with ``input`` and ``command``, sealed as in the ``kwargs`` of a run.
        as_node: the node that the update comes from, or None.
    """

    input_id: str
    thread_id: str
    run_id: str
    content: bytes
    as_node: str | None = None
    if_over: IfOver = "reject"


@dataclass(frozen=True, kw_only=True, slots=True)
class Injection:
    """What a new run would say to the run that is active, with the strategy ``inject``.

    Attributes:
        input_id, content: as of `NewInput`.
        refusal: why the graph's state cannot take it; None: it can.
    """

    input_id: str
    content: bytes
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidInput:
    """The registry's answer to a `NewInput`.

    Attributes:
        run_id: the run that takes it: the one that it was said to, or the next one.
        number: counts what was said to that first run, from 1.
        said_at: ISO 8601 with offset.
    """

    input_id: str
    run_id: str
    number: int
    status: InputStatus
    said_at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class HeardInput:
    """An input as the attempt that takes it has it.

    Attributes:
        update: the state update.
        command: ``{"update", "goto"}``, or None.
        said_at: ISO 8601 with offset.
    """

    input_id: str
    number: int
    update: Any = None
    command: dict[str, Any] | None = None
    as_node: str | None = None
    said_at: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taking:
    """The note that an attempt has taken an input, or that the state refused it.

    Attributes:
        at_ms: the time in Unix milliseconds.
        step: the step of the checkpoint; None where it is not known.
        checkpoint_id: the checkpoint that contains the input, or on which the node that took it
            was executed.
        reason: why the state refused it; None: it is taken.
    """

    input_id: str
    number: int
    at_ms: int
    attempt: int
    step: int | None = None
    checkpoint_id: str | None = None
    reason: str | None = None


def next_run_id(input_id: str, thread_id: str) -> str:
    """Returns the id of the run that an input starts: a UUIDv7, the same for each repetition."""
    at_ms = int(input_id.replace("-", "")[:12], 16)
    return for_thread(uuid7_of(at_ms, f"run that {input_id} starts"), thread_id)


def injected_id(run_id: str) -> str:
    """Returns the id of the input that a new run becomes with the strategy ``inject``."""
    at_ms = int(run_id.replace("-", "")[:12], 16)
    return uuid7_of(at_ms, f"input of {run_id}")


def survives(if_over: IfOver, *, cancelled: bool) -> bool:
    """Whether an input that waits when its run ends goes to the next run."""
    return if_over == "enqueue" or (if_over == "reject" and not cancelled)
