"""Runs: their states, and the records that travel between gateway, registry and run actors.

    pending ──> running ──> success | error | timeout | interrupted
       ^           │
       └───────────┘   (the actor died or is draining; the next attempt)

A run that stops at an ``interrupt()`` is ``success``; ``interrupted`` means cancelled or
pre-empted. A rolled-back run has no status: it is deleted. The registry knows more states than
these, and the table of how they change is `greenroom.core.lifecycle`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pickle import PickleBuffer
from typing import Any, Literal, SupportsIndex, cast

from greenroom.core.units import KIB


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"

    @property
    def is_terminal(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback"]
CancelAction = Literal["interrupt", "rollback"]


LARGE = 256 * KIB
"""From so many bytes on a copy is worth avoiding: while a loop copies, it serves nobody."""


class _LargeKwargs:
    """Pickles with ``kwargs`` beside the pickle when they are large."""

    __slots__ = ()

    kwargs: bytes

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if protocol.__index__() < 5 or len(self.kwargs) < LARGE:
            return object.__reduce_ex__(self, protocol)
        given = {
            each.name: getattr(self, each.name)
            for each in fields(cast(Any, self))
            if each.name != "kwargs"
        }
        return _with_kwargs, (type(self), given, PickleBuffer(self.kwargs))


def _with_kwargs(kind: type[Any], given: dict[str, Any], kwargs: Any) -> Any:
    # Bytes already, unless Ray has carried them.
    return kind(**given, kwargs=bytes(kwargs))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest(_LargeKwargs):
    """A run as the gateway asks for it: validated, complete, and safe to ask for twice.

    Attributes:
        run_id: UUIDv7, minted by the gateway for the thread (`greenroom.core.sharding`); a retried
            create with the same id is the same run.
        thread_id: where it runs; for a stateless run a fresh id, with ``temporary`` or not.
        assistant_id: UUID of the assistant.
        graph_id: the graph that the assistant names.
        kwargs: JSON of the run's ``kwargs`` (platform API, section 5), with the complete
            ``config`` in it; opaque to the registry.
        metadata: JSON object, the run's metadata.
        multitask_strategy: what to do when the thread is taken.
        create_thread: make the thread if it does not exist (``if_not_exists="create"``).
        temporary: delete thread and run after the end (stateless, ``on_completion="delete"``).
        resumable: keep the events durably (``stream_resumable``).
        after_s: seconds to wait before the run joins the queue.
        webhook: URL to call after the end, or None.
        resumes: it starts from checkpoints that are there (input null, a command, a checkpoint), so
            a rollback must put back what it writes onto them.
        traceparent: where in a trace it was asked for, or None.
    """

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    kwargs: bytes
    metadata: bytes
    multitask_strategy: MultitaskStrategy
    create_thread: bool
    temporary: bool = False
    resumable: bool = False
    after_s: float = 0.0
    webhook: str | None = None
    resumes: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a run is executed: the attempt that is current, and the name of its actor."""

    run_id: str
    attempt: int
    actor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CreatedRun:
    """The registry's answer to a `RunRequest`.

    Attributes:
        created_at: ISO 8601 with offset, as clients see it.
        placement: where it is executed, or None while it is queued.
    """

    run_id: str
    thread_id: str
    created_at: str
    placement: Placement | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOrder(_LargeKwargs):
    """What an actor needs to execute one attempt of a run. Idempotent per (run_id, attempt).

    Attributes:
        is_first: its thread has no checkpoint, so there is none to look for.
    """

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    attempt: int
    kwargs: bytes
    temporary: bool
    resumable: bool
    is_first: bool = False
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How an attempt ended, as its actor saw it.

    Attributes:
        status: a terminal status.
        output: JSON of what ``wait`` answers: the graph's output, with ``__interrupt__`` when it
            stopped at one; for an error ``{"__error__": {...}}``.
        values: JSON of the thread's state after the run, or None when there is no checkpoint.
        interrupts: JSON of the thread's pending interrupts, ``{task_id: [{"id", "value"}]}``.
        has_next: the state has a next step, so the thread is ``interrupted`` rather than ``idle``.
        error: JSON ``{"error", "message"}``, or None.
    """

    status: RunStatus
    output: bytes = b"null"
    values: bytes | None = None
    interrupts: bytes = b"{}"
    has_next: bool = False
    error: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an actor tells the registry when an attempt ended; small whatever the state's size.

    Attributes:
        status: a terminal status; ``pending`` hands the run back, to be taken up by a next attempt.
        events: how many there were, for the metrics.
        first_event_s: how long the graph's first one took; None when that is not known.
    """

    run_id: str
    attempt: int
    actor: str
    status: RunStatus
    has_next: bool
    interrupts: bytes
    error: bytes | None
    events: int = 0
    first_event_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRequest:
    """Cancel a run.

    Attributes:
        name: of this request: asked again by the same name, it gets its first answer.
    """

    thread_id: str
    run_id: str
    action: CancelAction = "interrupt"
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class Batch:
    """A piece of an event stream, ready to be sent.

    Attributes:
        body: SSE frames, byte for byte (empty when nothing came in time).
        cursor: the sequence number to continue from.
        closed: nothing follows from this attempt.
        known: False when the actor does not have the run.
        gone: the run was there, and is not any more; else it has not come yet.
    """

    body: bytes
    cursor: int
    closed: bool
    known: bool = True
    gone: bool = False


def out_of_time(timeout_s: float) -> str:
    """What a run says that took longer than its graph allows."""
    return f"The run took longer than its graph's timeout_s of {timeout_s:g} seconds."
