"""The interfaces that the HTTP edge uses, so that it depends on neither Ray nor PostgreSQL.

`Runtime` holds the requests to the registry and the actors. `core.records.Records` holds the
requests to the database. `actors.gateway.runtime` and `persistence.records` implement them.

Whatever asks about the records of callers takes a `Scope`, and there is no default: what is outside
of it does not exist, and is answered as if it did not. `events`, `outcome` and `ask` have none:
their callers name a run or a thread that a scope has shown them before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol

from greenroom.core.crons import Cron
from greenroom.core.inputs import NewInput, SaidInput
from greenroom.core.nodes import NodeNote
from greenroom.core.pausing import Pause, PauseRequest
from greenroom.core.questions import DrawQuestion as DrawQuestion
from greenroom.core.questions import HistoryQuestion as HistoryQuestion
from greenroom.core.questions import InputQuestion as InputQuestion
from greenroom.core.questions import Question as Question
from greenroom.core.questions import SchemasQuestion as SchemasQuestion
from greenroom.core.questions import StateQuestion as StateQuestion
from greenroom.core.questions import StateUpdate as StateUpdate
from greenroom.core.questions import SubgraphsQuestion as SubgraphsQuestion
from greenroom.core.questions import SuperstepsUpdate as SuperstepsUpdate
from greenroom.core.questions import Update as Update
from greenroom.core.questions import Updated as Updated
from greenroom.core.runs import Batch, CancelRequest, CreatedRun, Outcome, Placement, RunRequest
from greenroom.core.scopes import Scope
from greenroom.core.store import Embedding
from greenroom.core.thread_log import LogPart


class Runtime(Embedding, Protocol):
    """The runs and threads of the server. Every method may raise a `GreenroomError`."""

    async def create(self, request: RunRequest) -> CreatedRun:
        """Admits a run by its multitask strategy; the admission is durable on return.

        Raises:
            NotFound: the thread or assistant does not exist.
            Conflict: the thread is taken and the strategy is ``reject``.
        """
        ...

    async def cancel(self, request: CancelRequest, *, wait: bool, scope: Scope) -> None:
        """Cancels a run.

        Args:
            wait: return only when the run has ended.
            scope: of the run's thread.

        Raises:
            NotFound: the run does not exist.
            Conflict: the run is over; the message names its status.
        """
        ...

    async def say(self, new: NewInput, *, scope: Scope) -> SaidInput:
        """Says something to a run; it is durable on return.

        Args:
            scope: of the run's thread.

        Raises:
            NotFound: the run does not exist.
            Conflict: the run is over, and ``if_over`` is ``reject``.
        """
        ...

    async def pause(self, request: PauseRequest, *, scope: Scope) -> Pause | None:
        """Pauses, steps or resumes a run; what is wanted is durable on return.

        Args:
            scope: of the run's thread.

        Returns:
            the pause that is wanted from now on, or None.

        Raises:
            NotFound: the run does not exist.
            Conflict: the run is over, or the request does not fit what is wanted of it.
        """
        ...

    async def cancel_many(
        self,
        status: Literal["pending", "running", "all"],
        action: Literal["interrupt", "rollback"],
        *,
        scope: Scope,
    ) -> int:
        """Cancels every run with a status on a thread of the scope; returns their number."""
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
        """Yields the run's events after a cursor until its end, across attempts and actors.

        Batches are never empty; the caller sends heartbeats. The iterator ends when the run has
        ended and all its events are read.

        Args:
            placement: the run's placement, if the caller just created it; None asks the registry.
            after: a sequence number; 0 replays all kept events, `LIVE` skips to now.
            modes: the stream modes to pass (a filter drops ``metadata`` too); None passes all.
            with_ids: put ``id:`` lines into the frames.
            resumable: the events are kept durably, so a finished run can be replayed as well.
        """
        ...

    def thread_events(
        self, thread_id: str, *, after: str | None, modes: frozenset[str], scope: Scope
    ) -> AsyncIterator[bytes]:
        """Yields SSE frames of all activity on a thread; never ends by itself.

        The first item is empty: all activity that begins after it is yielded.

        Args:
            after: the id of the last event that the client has; None starts now.
            modes: a subset of ``run_modes``, ``lifecycle``, ``state_update``.
            scope: outside of it nothing is yielded, as for a thread that does not exist yet.
        """
        ...

    def thread_log(self, thread_id: str, *, since: int, scope: Scope) -> AsyncIterator[LogPart]:
        """Yields the log of a thread after a position; never ends by itself.

        The first part has no events: all that happens after it is yielded. It may say that events
        after the position are not kept any more.

        Args:
            since: a position in the log; 0 for all kept events.
            scope: outside of it nothing is yielded, as for a thread that does not exist yet.
        """
        ...

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Outcome:
        """Waits for the run's end and returns its outcome.

        Args:
            placement: the run's placement, if the caller just created it; None asks the registry.
            over: the run had already ended: return the thread's current values instead of the run's
                own output.

        Raises:
            NotFound: the run does not exist, or was rolled back.
        """
        ...

    async def ask(self, question: Question) -> bytes:
        """Asks the inspector; returns its answer as JSON.

        Raises:
            BadRequest, InvalidRequest, NotFound: with a message for the client.
        """
        ...

    async def update_state(self, update: Update, *, scope: Scope) -> bytes:
        """Changes a thread's state; returns the answer as JSON.

        Raises:
            NotFound: the thread is outside the scope.
            Conflict: a run is in flight.
            BadRequest: the graph rejects the values or the node.
        """
        ...

    async def copy_thread(
        self, thread_id: str, copy_id: str, *, metadata: Mapping[str, Any], scope: Scope
    ) -> None:
        """Copies a thread's record and checkpoints to a new thread.

        Args:
            metadata: the copy's own, over those of the thread.
            scope: of the thread that is copied.

        Raises:
            Conflict: the thread does not exist.
        """
        ...

    async def delete_thread(self, thread_id: str, *, scope: Scope) -> None:
        """Cancels the thread's runs, then deletes the runs, the checkpoints and the thread.

        Raises:
            NotFound: the thread does not exist.
        """
        ...

    async def prune_thread(self, thread_id: str, *, scope: Scope) -> None:
        """Keeps only the newest checkpoints of a thread.

        Raises:
            NotFound: the thread is outside the scope.
            Conflict: a run is in flight.
            BadRequest: the thread's state is rebuilt from older checkpoints.
        """
        ...

    async def delete_assistant(
        self, assistant_id: str, *, threads: Scope | None, scope: Scope
    ) -> None:
        """Deletes an assistant with its versions, and stops its runs. Durable on return.

        Args:
            threads: delete the threads of this scope whose latest run used the assistant, too;
                None deletes none.
            scope: of the assistant.

        Raises:
            BadRequest: ``threads`` is a scope that cannot be stored with the deletion.
            NotFound: the assistant does not exist.
        """
        ...

    async def delete_run(self, thread_id: str, run_id: str, *, scope: Scope) -> None:
        """Cancels the run if it is not over, then deletes it and its checkpoints.

        Args:
            scope: of the thread.

        Raises:
            NotFound: the run does not exist.
        """
        ...

    async def save_cron(self, cron: Cron) -> bool:
        """Stores a new cron, or a change of one; it is durable on return, and fires from then on.

        Returns:
            False for a new cron whose thread or assistant does not exist, and for a change that
            another change, or the deletion, came before.
        """
        ...

    async def delete_cron(self, cron_id: str, owner: str) -> None:
        """Deletes a cron; a firing that is not stored yet does not happen any more.

        Args:
            owner: as of `Cron.owner`.
        """
        ...

    async def send_again(self, delivery_id: str, thread_id: str) -> None:
        """Makes a webhook due now; it is durable on return.

        Raises:
            NotFound: the delivery does not exist any more.
            Conflict: its contents are not kept any more.
        """
        ...

    async def overview(self, *, scope: Scope) -> JsonObject:
        """Returns pools, actors, queue, totals and what has happened lately (``/runtime``).

        Args:
            scope: rows of runs are those of its threads; numbers are of all runs.
        """
        ...

    async def stack(self, thread_id: str, run_id: str, *, scope: Scope) -> JsonObject:
        """Returns the threads and the asyncio tasks of the process that executes a run.

        Args:
            scope: of the run's thread; frames of other runs are those of its threads, too.

        Raises:
            NotFound: the run does not exist.
            Conflict: no process executes it.
            Unavailable: its process shows nothing.
        """
        ...

    async def notes(self, run_id: str, attempt: int, actor: str) -> list[NodeNote] | None:
        """Returns the notes of the nodes of an attempt that an actor executes; None if it does not,
        or does not answer at once.

        Args:
            run_id, attempt, actor: as a record has shown them within a scope.
        """
        ...

    async def info(self) -> dict[str, Any]:
        """Returns counts of actors, slots and runs (``/info``, ``/metrics?format=json``)."""
        ...

    async def metrics(self) -> str:
        """Returns all metrics in Prometheus' text format."""
        ...


JsonObject = dict[str, Any]
"""A record before its encoding; parts may be pre-encoded JSON."""
