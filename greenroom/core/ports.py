"""The seams: what the HTTP edge may ask for, without knowing Ray or PostgreSQL.

`Runtime` is everything that goes through the registry and the run actors. `Records` is everything
that goes straight to the database. `actors.gateway.runtime` and `persistence.records` implement
them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from greenroom.core.runs import Batch, CancelRequest, CreatedRun, Outcome, Placement, RunRequest

# --- questions about graphs and their state; answered by the inspector, as JSON bytes ------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StateQuestion:
    """`GET /threads/{t}/state`; ``checkpoint`` is ``{"checkpoint_id", "checkpoint_ns"}``."""

    graph_id: str
    thread_id: str
    checkpoint: Mapping[str, Any] | None = None
    subgraphs: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryQuestion:
    """`POST /threads/{t}/history`, newest first."""

    graph_id: str
    thread_id: str
    limit: int = 1
    before: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StateUpdate:
    """`POST /threads/{t}/state`: ``values`` is JSON of a dict, a list or null.

    Attributes:
        update_id: by which it is found again when it is asked for twice; the runtime gives it one.
    """

    graph_id: str
    thread_id: str
    values: bytes
    as_node: str | None = None
    checkpoint: Mapping[str, Any] | None = None
    update_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuperstepsUpdate:
    """``supersteps`` of `POST /threads`: a JSON list of ``{"updates": [...]}``.

    Attributes:
        update_id: as of `StateUpdate`.
    """

    graph_id: str
    thread_id: str
    supersteps: bytes
    update_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemasQuestion:
    """`GET /assistants/{a}/schemas`."""

    graph_id: str
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawQuestion:
    """`GET /assistants/{a}/graph`; ``xray`` is a depth or all."""

    graph_id: str
    xray: bool | int = False
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SubgraphsQuestion:
    """`GET /assistants/{a}/subgraphs[/{ns}]`."""

    graph_id: str
    namespace: str | None = None
    recurse: bool = False
    config: Mapping[str, Any] | None = None


Question = StateQuestion | HistoryQuestion | SchemasQuestion | DrawQuestion | SubgraphsQuestion
Update = StateUpdate | SuperstepsUpdate


@dataclass(frozen=True, kw_only=True, slots=True)
class Updated:
    """What a state update did: the client's answer, and what the thread's record must show."""

    answer: bytes
    values: bytes | None
    interrupts: bytes
    has_next: bool


class Runtime(Protocol):
    """Runs, wherever they are executed. Every method may raise a `GreenroomError`."""

    async def create(self, request: RunRequest) -> CreatedRun:
        """Admits a run: by the multitask strategy of its thread, durably.

        Raises:
            NotFound: the thread or assistant does not exist.
            Conflict: the thread is taken and the strategy is ``reject``.
        """
        ...

    async def cancel(self, request: CancelRequest, *, wait: bool) -> None:
        """Cancels a run; with ``wait`` returns when it has stopped.

        Raises:
            NotFound: no such run.
            Conflict: the run is over; the message names its status.
        """
        ...

    async def cancel_many(
        self, status: Literal["pending", "running", "all"], action: Literal["interrupt", "rollback"]
    ) -> int:
        """Cancels every run with a status; returns how many."""
        ...

    def events(
        self,
        run_id: str,
        *,
        placement: Placement | None,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
        resumable: bool,
    ) -> AsyncIterator[Batch]:
        """The run's events past ``after`` until its end, across attempts and actors.

        Yields a batch whenever there is something to send, and never an empty one; heartbeats are
        the caller's. The iterator ends when the run has ended and everything was read.

        Args:
            placement: where the run is, if the caller just created it; None asks the registry.
            after: a sequence number; 0 replays all that is there, `LIVE` skips to now.
            modes: stream modes to pass (``metadata`` too is dropped by a filter), None for all.
            with_ids: put ``id:`` lines into the frames.
            resumable: the events are kept durably, so also a finished run can be replayed.
        """
        ...

    def thread_events(
        self, thread_id: str, *, after: str | None, modes: frozenset[str]
    ) -> AsyncIterator[bytes]:
        """SSE frames of everything that happens on a thread; never ends by itself.

        The first item is empty, and says that nothing that begins from now on is missed.

        Args:
            modes: of ``run_modes``, ``lifecycle``, ``state_update``.
        """
        ...

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Outcome:
        """How the run ended; waits for it.

        Args:
            placement: where the run is, if the caller just created it; None asks the registry.
            over: it had ended before somebody asked, so the thread's values of now are wanted.

        Raises:
            NotFound: no such run, or it was rolled back.
        """
        ...

    async def ask(self, question: Question) -> bytes:
        """What the inspector answers, as JSON.

        Raises:
            BadRequest, InvalidRequest, NotFound: with a sentence for the client.
        """
        ...

    async def update_state(self, update: Update) -> bytes:
        """Changes a thread's state while no run is on it.

        Raises:
            Conflict: a run is in flight.
            BadRequest: the graph refuses the values or the node.
        """
        ...

    async def copy_thread(self, thread_id: str, copy_id: str) -> None:
        """Copies record and checkpoints to a new thread. Raises Conflict for an unknown thread."""
        ...

    async def delete_thread(self, thread_id: str) -> None:
        """Cancels the thread's runs, then deletes them, its state and itself. Raises NotFound."""
        ...

    async def prune_thread(self, thread_id: str) -> None:
        """Keeps only the newest checkpoints of a thread.

        Raises:
            Conflict: a run is in flight.
            BadRequest: the thread's state is rebuilt from older checkpoints.
        """
        ...

    async def delete_run(self, thread_id: str, run_id: str) -> None:
        """Cancels the run if it is not over, then deletes it and its checkpoints.

        Raises:
            NotFound: no such run.
        """
        ...

    async def info(self) -> dict[str, Any]:
        """Counts for ``/info`` and ``/metrics?format=json``: actors, slots, runs."""
        ...

    async def metrics(self) -> str:
        """Everything that is counted, in Prometheus' text format."""
        ...


JsonObject = dict[str, Any]
"""A record ready to be encoded; parts may be pre-encoded JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of a search, and whether there is more after it."""

    items: list[JsonObject]
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadFilter:
    """What `POST /threads/search` and ``/count`` select."""

    metadata: Mapping[str, Any] | None = None
    values: Mapping[str, Any] | None = None
    status: str | None = None
    ids: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AssistantFilter:
    """What `POST /assistants/search` and ``/count`` select."""

    metadata: Mapping[str, Any] | None = None
    graph_id: str | None = None
    name: str | None = None


class Records(Protocol):
    """The database, as the HTTP edge sees it. Records are dicts in the API's shape."""

    async def ready(self) -> None:
        """Raises DatabaseUnavailable with a sentence when the database cannot be reached."""
        ...

    # assistants
    async def get_assistant(self, assistant_id: str) -> JsonObject | None: ...
    async def search_assistants(
        self, where: AssistantFilter, *, limit: int, offset: int, sort_by: str, descending: bool
    ) -> Page: ...
    async def count_assistants(self, where: AssistantFilter) -> int: ...

    # threads
    async def create_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any],
        if_exists: Literal["raise", "do_nothing"],
        ttl: Mapping[str, Any] | None,
    ) -> JsonObject:
        """Raises Conflict when it exists and ``if_exists`` is ``raise``."""
        ...

    async def get_thread(self, thread_id: str) -> JsonObject | None: ...
    async def patch_thread(
        self, thread_id: str, *, metadata: Mapping[str, Any] | None, ttl: Mapping[str, Any] | None
    ) -> JsonObject | None: ...
    async def thread_storage(self, thread_id: str) -> JsonObject | None:
        """How much a thread keeps in the database, in the API's shape; None when there is none."""
        ...

    async def search_threads(
        self, where: ThreadFilter, *, limit: int, offset: int, sort_by: str, descending: bool
    ) -> Page: ...
    async def count_threads(self, where: ThreadFilter) -> int: ...

    # runs
    async def get_run(self, thread_id: str | None, run_id: str) -> JsonObject | None: ...
    async def list_runs(
        self, thread_id: str, *, limit: int | None, offset: int, status: str | None
    ) -> list[JsonObject] | None:
        """Newest first; None when the thread does not exist."""
        ...
