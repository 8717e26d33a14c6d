"""The statuses of a run, and the records that travel between gateway, registry and run actors.

    pending ──> running ──> success | error | timeout | interrupted
       ^           │
       └───────────┘   (the actor died or is draining; the next attempt)

A run that stops at an ``interrupt()`` is ``success``; ``interrupted`` means cancelled or displaced
by a newer run. A rolled-back run has no status: it is deleted. The registry distinguishes more
states than statuses; the status follows from the state (`greenroom.core.lifecycle`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pickle import PickleBuffer
from typing import Any, Literal, SupportsIndex, cast

from greenroom.core.answering import Answers
from greenroom.core.events import Event
from greenroom.core.idempotency import OnceKey
from greenroom.core.inputs import Injection
from greenroom.core.nodes import NO_NODES
from greenroom.core.scopes import Scope
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


MultitaskStrategy = Literal["reject", "enqueue", "interrupt", "rollback", "inject"]
CancelAction = Literal["interrupt", "rollback"]


LARGE = 256 * KIB
"""The size in bytes from which a copy is avoided, since a copy blocks the event loop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """The facts of a run that do not change from its creation to its end.

    Attributes:
        run_id: UUIDv7, minted by the gateway for the thread (`greenroom.core.sharding`); a retried
            create with the same id refers to the same run.
        thread_id: the thread of the run; a stateless run gets a new id.
        assistant_id: UUID of the assistant.
        graph_id: the graph that the assistant names.
        temporary: thread and run are deleted after the end (stateless, ``on_completion="delete"``).
        resumable: the events are kept durably (``stream_resumable``).
        resumes: the run starts from existing checkpoints (input null, a command, a checkpoint), so
            a rollback must remove the run's writes from them.
        webhook: URL to call after the end, or None.
        traceparent: the span that created the run; None without tracing, and for a run that an
            earlier registry admitted.
        assistant_version: the version of the assistant whose config the run has taken; None: an
            older server admitted the run.
        assistant_revision: the number of that state of the assistant, which no other state of any
            assistant has; None likewise.
        user: JSON object, the user on whose behalf the run is executed, as the handler of ``auth``
            returned it, sealed where state is; None without ``auth``. No client is shown it.
        logged: the run's events belong to the log of its thread (`greenroom.core.thread_log`).
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
    assistant_version: int | None = None
    assistant_revision: int | None = None
    user: str | None = None
    logged: bool = False

    def __reduce__(self) -> Any:
        """Pickles only the values, since facts travel with every create and every order."""
        return _facts, tuple([getattr(self, name) for name in _FACTS])


_FACTS = tuple(each.name for each in fields(RunFacts))


def _facts(*values: Any) -> RunFacts:
    return RunFacts(**dict(zip(_FACTS, values, strict=False)))


class OfRun:
    """Base of a record that embeds a run's facts; it exposes them as its own attributes."""

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

    @property
    def assistant_version(self) -> int | None:
        return self.facts.assistant_version

    @property
    def assistant_revision(self) -> int | None:
        return self.facts.assistant_revision

    @property
    def user(self) -> str | None:
        return self.facts.user

    @property
    def logged(self) -> bool:
        return self.facts.logged


class _LargeKwargs:
    """Pickles large ``kwargs`` out of band, so that they are not copied."""

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
    """The gateway's request for a run: validated, complete, and safe to repeat.

    Attributes:
        kwargs: JSON of the run's ``kwargs`` (platform API, section 5) including the complete
            ``config``; opaque to the registry.
        metadata: JSON object, the metadata that the run was given; it overrides the thread's.
        multitask_strategy: the behaviour when the thread is taken.
        create_thread: create the thread if it does not exist (``if_not_exists="create"``).
        after_s: the delay before the run joins the queue, in seconds.
        defaults: JSON object, metadata that the thread's overrides.
        metadata_at: where ``kwargs`` have the config's metadata: the first byte, and the one after
            the last. None: they have none.
        thread_config: JSON object, the parts of the config that the thread's record shows.
        once: the ``Idempotency-Key`` under which the run is made.
        scope: of an existing thread; the run is not admitted to another one.
        caller: whose run it is, where the runs of each caller are limited.
        injection: with the strategy ``inject``, what is said to the active run in its place.
        answers: what the thread must wait for at the admission; None: whatever it waits for.
    """

    facts: RunFacts
    scope: Scope
    kwargs: bytes
    metadata: bytes
    multitask_strategy: MultitaskStrategy
    create_thread: bool
    after_s: float = 0.0
    defaults: bytes = b"{}"
    metadata_at: tuple[int, int] | None = None
    thread_config: bytes = b"{}"
    once: OnceKey | None = None
    caller: str | None = None
    injection: Injection | None = None
    answers: Answers | None = None

    def kwargs_around(self) -> tuple[memoryview, memoryview | None]:
        """Returns the ``kwargs`` before and after the config's metadata, not copied; without
        metadata, all of them and None."""
        whole = memoryview(self.kwargs)
        if self.metadata_at is None:
            return whole, None
        first, end = self.metadata_at
        return whole[:first], whole[end:]

    def kwargs_parts(self, metadata: bytes) -> list[bytes | memoryview]:
        """Returns the ``kwargs`` of a run with this metadata, in parts that are not copied."""
        before, after = self.kwargs_around()
        return [self.kwargs] if after is None else [before, metadata, after]

    def kwargs_with(self, metadata: bytes) -> bytes:
        """Returns the ``kwargs`` of a run with this metadata."""
        return b"".join(self.kwargs_parts(metadata))


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A run's current attempt and the name of the actor that executes it."""

    run_id: str
    attempt: int
    actor: str


UNTIL_END = 1 << 30
"""Pass as the attempt to wait for the run's end only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLocation:
    """A run's status, and its placement while an actor executes it.

    Attributes:
        status: None when the run does not exist or was deleted.
        placement: None when no actor executes the run.
    """

    status: RunStatus | None
    placement: Placement | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CreatedRun:
    """The registry's answer to a `RunRequest`.

    Attributes:
        created_at: ISO 8601 with offset, as clients see it.
        metadata: JSON object, the run's metadata, with the thread's.
        placement: the run's placement, or None while it is queued.
        injected: what was asked for was said to this run, which was there before: the id of the
            input. None: the run is new.
    """

    run_id: str
    thread_id: str
    created_at: str
    metadata: bytes
    placement: Placement | None
    injected: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOrder(_LargeKwargs, OfRun):
    """The order to execute one attempt of a run. Idempotent per (run_id, attempt).

    Attributes:
        kwargs: JSON, as in `RunRequest`.
        is_first: the thread has no checkpoint, so the actor does not look for one.
        has_inputs: something was said to the run before this attempt; the actor reads it.
    """

    facts: RunFacts
    attempt: int
    kwargs: bytes
    is_first: bool = False
    has_inputs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of an attempt or of a run."""

    status: RunStatus
    output: bytes = b"null"
    values: bytes | None = None
    interrupts: bytes = b"{}"
    has_next: bool = False
    error: bytes | None = None
    output_keys: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """An actor's message to the registry at the end of an attempt; small for any size of state.

    Attributes:
        status: a terminal status, or ``pending``, which hands the run back for a next attempt.
        has_next, interrupts, error, output_keys: as in `Outcome`.
        events: the number of events, for the metrics.
        first_event_s: seconds until the graph's first event; None when unknown.
        nodes: JSON ``[[attempt, [note, ...]]]``, the packed notes of its nodes (`core.nodes`).
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
    output_keys: bytes | None = None
    nodes: bytes = NO_NODES


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """A thread's record is in line with its checkpoints; or it is unchanged, by default.

    Attributes:
        interrupts: as in `Outcome`; None: unchanged.
        has_next, output_keys: as in `Outcome`.
    """

    interrupts: bytes | None = None
    has_next: bool = False
    output_keys: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CancelRequest:
    """The request to cancel one run.

    Attributes:
        run_id: the run to cancel.
        name: identifies the request; a repeated request with the same name gets the first answer.
    """

    thread_id: str
    run_id: str
    action: CancelAction = "interrupt"
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class Batch:
    """A piece of an event stream, ready to be sent.

    Attributes:
        body: SSE frames, ready to send; empty when no event came in time.
        events: the events themselves, for a reader of a thread's log.
        cursor: the sequence number of the last event in it.
        closed: no event follows from this attempt.
        known: False when the actor does not have the run.
        gone: with ``known`` False: True when the actor had the run before, False when the run's
            order has not arrived yet.
    """

    body: bytes
    cursor: int
    closed: bool
    known: bool = True
    gone: bool = False
    events: tuple[Event, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is something in it for its reader."""
        return bool(self.body or self.events)


def out_of_time(timeout_s: float) -> str:
    """Returns the error message of a run that exceeded its graph's ``timeout_s`` (seconds)."""
    return f"The run took longer than its graph's timeout_s of {timeout_s:g} seconds."
