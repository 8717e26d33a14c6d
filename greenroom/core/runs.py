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


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What is true of a run from its creation to its end, wherever the run is known.

    Attributes:
        run_id: UUIDv7, minted by the gateway for the thread (`greenroom.core.sharding`); a retried
            create with the same id is the same run.
        thread_id: where the run is executed; for a stateless run a fresh id.
        assistant_id: UUID of the assistant.
        graph_id: the graph that the assistant names.
        temporary: thread and run are deleted after the end (stateless, ``on_completion="delete"``).
        resumable: the events are kept durably (``stream_resumable``).
        resumes: the run starts from existing checkpoints (input null, a command, a checkpoint), so
            a rollback must put back what the run writes onto them.
        webhook: URL to call after the end, or None.
        traceparent: the span in which the run was created. None without tracing, and for a run that
            an earlier registry admitted.
    """

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    temporary: bool = False
    resumable: bool = False
    resumes: bool = False
    webhook: str | None = None
    traceparent: str | None = None

    def __reduce__(self) -> Any:
        """Pickles as its values: it travels with every create and every order."""
        return _facts, tuple([getattr(self, name) for name in _FACTS])


_FACTS = tuple(each.name for each in fields(RunFacts))


def _facts(*values: Any) -> RunFacts:
    return RunFacts(**dict(zip(_FACTS, values, strict=False)))


class OfRun:
    """A record that embeds the facts of a run, and shows them as its own."""

    __slots__ = ()

    facts: RunFacts

    @property
    def run_id(self) -> str:
        return self.facts.run_id

    @property
    def thread_id(self) -> str:
        return self.facts.thread_id

    @property
    def assistant_id(self) -> str:
        return self.facts.assistant_id

    @property
    def graph_id(self) -> str:
        return self.facts.graph_id

    @property
    def temporary(self) -> bool:
        return self.facts.temporary

    @property
    def resumable(self) -> bool:
        return self.facts.resumable

    @property
    def resumes(self) -> bool:
        return self.facts.resumes

    @property
    def webhook(self) -> str | None:
        return self.facts.webhook

    @property
    def traceparent(self) -> str | None:
        return self.facts.traceparent


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
class RunRequest(_LargeKwargs, OfRun):
    """A run as the gateway asks for it: validated, complete, and safe to ask for twice.

    Attributes:
        kwargs: JSON of the run's ``kwargs`` (platform API, section 5), with the complete
            ``config`` in it; opaque to the registry.
        metadata: JSON object, the run's metadata.
        multitask_strategy: what to do when the thread is taken.
        create_thread: make the thread if it does not exist (``if_not_exists="create"``).
        after_s: seconds to wait before the run joins the queue.
    """

    facts: RunFacts
    kwargs: bytes
    metadata: bytes
    multitask_strategy: MultitaskStrategy
    create_thread: bool
    after_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where a run is executed: the attempt that is current, and the name of its actor."""

    run_id: str
    attempt: int
    actor: str


UNTIL_END = 1 << 30
"""Follow a run past this attempt to wait for its end only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLocation:
    """Where a run is, or that it is over.

    Attributes:
        status: None when the run does not exist (any more).
        placement: where the run is executed, while it is.
    """

    status: RunStatus | None
    placement: Placement | None = None


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
class RunOrder(_LargeKwargs, OfRun):
    """What an actor needs to execute one attempt of a run. Idempotent per (run_id, attempt).

    Attributes:
        kwargs: JSON, as of `RunRequest`.
        is_first: the thread has no checkpoint, so there is none to look for.
    """

    facts: RunFacts
    attempt: int
    kwargs: bytes
    is_first: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
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
