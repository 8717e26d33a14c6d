"""One attempt of one run on its actor: from the order to the end that readers see.

    metadata event → graph (last events held back) → values written (fenced) → report → log closed

The log closes only after the registry has heard the report and committed it: clients read the run
right after a stream ends.

An attempt that the database or the registry tells that it is not the current one (`Fenced`) was
replaced and steps down: an isolated actor ends its process, a dense one drops that execution. An
attempt that ``control`` asked to stop after its superstep hands the run back.

Everything here runs on the loop that executes graphs, except `Attempt.cancel`, which any thread
may call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from actors.run.node_threads import NodeThreads, executing
from actors.run.tail import TailWriter, until_done
from greenroom import tracing
from greenroom.core.errors import Fenced
from greenroom.core.events import Event, EventLog
from greenroom.core.faults import Faults
from greenroom.core.runs import Outcome, Report, RunOrder, RunStatus, out_of_time
from greenroom.core.waiting import growing_pauses
from greenroom.graphs import execution as graph_execution
from greenroom.graphs import spans
from greenroom.graphs.loading import LoadedGraph, Saver
from greenroom.graphs.resume import Tail
from greenroom.logs import noting
from greenroom.persistence.saving import Owner
from greenroom.wire.encoding import dumps

log = logging.getLogger("greenroom.run")

EXIT_FENCED = 75
REEMITTED_MODES = frozenset({"values", "checkpoints", "debug"})
"""The stream modes that LangGraph emits again when an attempt resumes. For resumable runs their
events are shown only once they are durable, so the next attempt knows what readers have seen."""

INTERNAL_ERROR = {"error": "InternalError", "message": "An internal error occurred"}
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0


class Left(Protocol):
    """See `Deps.left`."""

    def __call__(self, attempt: Attempt, /, *, whole: bool) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Deps:
    """What an attempt needs of its actor.

    Attributes:
        actor: its name.
        isolated: it executes one run at a time.
        timeouts_s: by graph; a graph that is absent has none.
        threads: of synchronous nodes.
        graph_of: the graph by its id; may raise `NotFound`.
        saver_of: the fenced saver of an attempt; with True, the thread has no checkpoint.
        store: the graphs' store.
        earlier: what attempts before this one have made durable.
        append: stores events of a run and its attempt; may raise `Fenced` and `Unavailable`.
        all_written: returns when no write is under way, also none that nobody waits for.
        save_values: stores the thread's values; may raise `Fenced` and `Unavailable`.
        report: tells the registry; False: the attempt is not the current one.
        grown: called after whatever makes a log grow.
        finished: told when the report was accepted; shows the end to readers and closes the log.
        left: told when the attempt is over here without an end; closes the log. With True all that
            was emitted is shown.
        leave_process: ends the process, with an exit code.
    """

    actor: str
    isolated: bool
    timeouts_s: Mapping[str, float | None]
    faults: Faults
    threads: NodeThreads
    graph_of: Callable[[str], LoadedGraph]
    saver_of: Callable[[RunOrder, bool], Saver]
    store: Any
    earlier: Callable[[RunOrder], Tail]
    append: Callable[[str, int, list[Event]], Awaitable[None]]
    all_written: Callable[[], Awaitable[None]]
    save_values: Callable[[Owner, str, bytes], Awaitable[None]]
    report: Callable[[Report], Awaitable[bool]]
    grown: Callable[[], None]
    finished: Callable[[Attempt], None]
    left: Left
    leave_process: Callable[[int], Any] = os._exit


class Attempt:
    """One attempt of one run.

    Args:
        order: what to execute.
        event_log: takes the attempt's events; nobody else writes to it.

    Attributes:
        outcome: how it ended, once the registry has committed that.
    """

    def __init__(self, order: RunOrder, event_log: EventLog, deps: Deps) -> None:
        self.order = order
        self.log = event_log
        self.outcome: Outcome | None = None
        self._deps = deps
        self._control = RunControl()
        self._loop = asyncio.get_running_loop()
        self._graph_task: asyncio.Task[Outcome] | None = None
        self._cancelled = False
        self._keeps_values = True
        self._superseded = False
        self._said: Outcome | None = None
        self._accepted: Outcome | None = None
        append = partial(deps.append, order.run_id, order.attempt)
        self._tail = TailWriter(event_log, append, self._step_down) if order.resumable else None

    def cancel(self, keep_values: bool) -> None:
        """Asks it to stop; whether it does shows in its report. From any thread.

        Args:
            keep_values: False when the run is to be rolled back, so that the thread's record keeps
                the values from before it.
        """
        self._keeps_values = keep_values
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # Before the graph's task is there, `run` finds the mark; both are on the loop.
        self._cancelled = True
        if self._graph_task is not None:
            self._graph_task.cancel()

    def drain(self) -> None:
        """Asks it to stop after its superstep, so that another attempt takes the run up."""
        self._control.request_drain("the server is stopping")

    async def run(self) -> None:
        """From metadata to closed log. Never cancelled itself; only the graph is."""
        try:
            await self._execute()
        except Fenced:
            self._step_down()
        except Exception:  # a bug of ours must end the run, not leave it running for ever
            log.exception("attempt failed outside its graph", extra={"run_id": self.order.run_id})
            await self._fail()

    async def _execute(self) -> None:
        order = self.order
        self._emit("metadata", dumps({"run_id": order.run_id, "attempt": order.attempt}))
        executing.set(order.run_id)
        noting(run_id=order.run_id, thread_id=order.thread_id, attempt=order.attempt)
        self._graph_task = asyncio.create_task(self._traced())
        if self._cancelled:
            self._graph_task.cancel()
        try:
            outcome = await self._graph_task
        except asyncio.CancelledError:
            if self._superseded:
                return
            outcome = await self._after_cancel()
        except GraphDrained:
            await self._hand_back()
            return
        await self._finish(outcome)

    async def _fail(self) -> None:
        """Ends the run although something of ours does not work; tries for as long as it takes."""
        pauses = growing_pauses(FIRST_PAUSE_S, MAX_PAUSE_S)
        while True:
            try:
                if self._accepted is not None:
                    self._show(self._accepted)
                    return
                # What the log already holds as its last event is what became of the run.
                await self._finish(self._said or _failed(RunStatus.ERROR, INTERNAL_ERROR))
                return
            except Fenced:
                self._step_down()
                return
            except Exception:  # the same or another bug; who gave up would leave the run as it is
                log.exception("end not reported", extra={"run_id": self.order.run_id})
                await asyncio.sleep(next(pauses))

    # --- the graph -----------------------------------------------------------------------------

    async def _traced(self) -> Outcome:
        order = self.order
        if not tracing.is_on():
            return await self._graph()
        ids = {"run_id": order.run_id, "thread_id": order.thread_id, "graph_id": order.graph_id}
        name, parent = f"run {order.graph_id}", order.traceparent
        with tracing.span(name, parent=parent, attempt=order.attempt, **ids) as span:
            with spans.of_nodes(span):
                outcome = await self._graph()
            if outcome.error is not None:
                tracing.failed(span, outcome.error.decode())
            return outcome

    async def _graph(self) -> Outcome:
        order, deps = self.order, self._deps
        await deps.faults.at("attempt" if order.attempt == 1 else "resume")
        timeout_s = deps.timeouts_s.get(order.graph_id)
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await graph_execution.execute(
                    deps.graph_of(order.graph_id),
                    order,
                    emit=self._emit,
                    checkpointer=deps.saver_of(order, order.is_first),
                    store=deps.store,
                    control=self._control,
                    flush=self._before_saving if order.resumable else None,
                    room=self._tail.room if self._tail is not None else None,
                    tail=deps.earlier(order) if order.resumable else None,
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            # A node in a thread goes on although its task is cancelled.
            await deps.threads.quiet(order.run_id)
            message = out_of_time(timeout_s or 0.0)
            outcome = _failed(RunStatus.TIMEOUT, {"error": "TimeoutError", "message": message})
            return await self._with_state(outcome)

    async def _before_saving(self) -> None:
        await self._flush()
        await self._deps.faults.at("saving")

    async def _after_cancel(self) -> Outcome:
        # A node in a thread goes on although its task is cancelled: the run has not stopped yet.
        await self._deps.threads.quiet(self.order.run_id)
        return await self._with_state(Outcome(status=RunStatus.INTERRUPTED))

    async def _with_state(self, outcome: Outcome) -> Outcome:
        order, deps = self.order, self._deps
        # A write whose caller was cancelled may still be on its way.
        await deps.all_written()
        values, interrupts, has_next = await graph_execution.state_after(
            deps.graph_of(order.graph_id),
            order,
            checkpointer=deps.saver_of(order, False),
            store=deps.store,
        )
        return Outcome(
            status=outcome.status,
            output=outcome.output if outcome.error is not None else values or b"null",
            values=values,
            interrupts=interrupts,
            has_next=has_next,
            error=outcome.error,
        )

    # --- events --------------------------------------------------------------------------------

    def _emit(self, name: str, data: bytes) -> None:
        repeated = self._tail is not None and name.partition("|")[0] in REEMITTED_MODES
        event = self.log.append(name, data, _now_ms(), shown=not repeated)
        if self._tail is not None:
            self._tail.add(event, at_once=repeated)
        self._deps.grown()

    async def _flush(self) -> None:
        if self._tail is not None:
            await self._tail.flush()

    # --- the end -------------------------------------------------------------------------------

    async def _finish(self, outcome: Outcome) -> None:
        """Stores what the run left, reports, and lets readers see the end once it is committed."""
        order, deps = self.order, self._deps
        if outcome.error is not None and self._said is None:
            held = self.log.hold("error", outcome.error, _now_ms())
            if self._tail is not None:
                self._tail.hold(held)
            self._said = outcome
        await self._flush()
        keeps = outcome.values is not None and not order.temporary and self._keeps_values
        if keeps:
            values, owner = outcome.values, (order.run_id, order.attempt)
            assert values is not None
            await deps.faults.at("values")
            await until_done(lambda: deps.save_values(owner, order.thread_id, values))
        await deps.faults.at("report")
        accepted = await deps.report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=deps.actor,
                status=outcome.status,
                has_next=outcome.has_next,
                interrupts=outcome.interrupts,
                error=outcome.error,
                events=self.log.count,
                first_event_s=self.log.first_event_s,
            )
        )
        if not accepted:
            raise Fenced(order.run_id)
        self._accepted = outcome
        await deps.faults.at("reported")
        self._show(outcome)

    def _show(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._deps.finished(self)
        log.info(
            "A run has ended.",
            extra={
                "action": "run_ended",
                "graph_id": self.order.graph_id,
                "status": outcome.status.value,
                "events": self.log.count,
            },
        )

    async def _hand_back(self) -> None:
        order, deps = self.order, self._deps
        await self._flush()
        await deps.report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=deps.actor,
                status=RunStatus.PENDING,
                has_next=True,
                interrupts=b"{}",
                error=None,
            )
        )
        # Without an outcome: readers ask the registry for the attempt that follows.
        deps.left(self, whole=True)

    def _step_down(self) -> None:
        """Another attempt owns the run: nothing more may be executed or said here."""
        if self._superseded:
            return
        self._superseded = True
        log.warning("attempt was superseded", extra={"run_id": self.order.run_id})
        if self._deps.isolated:
            self._deps.leave_process(EXIT_FENCED)
        if self._graph_task is not None:
            self._graph_task.cancel()
        # Readers are sent to the registry, which knows the attempt that is current.
        self._deps.left(self, whole=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _failed(status: RunStatus, error: dict[str, str]) -> Outcome:
    return Outcome(status=status, output=dumps({"__error__": error}), error=dumps(error))
