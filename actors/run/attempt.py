"""One attempt of one run on its actor, from the order until readers see the end.

    metadata event → graph (last events held back) → values written (fenced) → report → log closed

The log closes only after the registry has committed the report, because clients read the run's
record right after its stream ends.

If the database or the registry answers that the attempt is not the current one (`Fenced`), another
attempt has replaced it and it steps down: an isolated actor ends its process, a dense one drops
that execution. An attempt that was drained stops after its superstep and hands the run back.

Everything here runs on the loop that executes graphs, except the thread-safe `Attempt.cancel`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from actors.run.node_threads import NodeThreads, executing
from actors.run.tail import TailWriter, until_done
from greenroom import tracing
from greenroom.core.errors import Fenced, GreenroomError
from greenroom.core.events import Event, EventLog
from greenroom.core.faults import Faults
from greenroom.core.runs import Outcome, Report, RunOrder, RunStatus, out_of_time
from greenroom.core.thread_log import END, QUESTION, RUNNING, end_of
from greenroom.core.waiting import growing_pauses
from greenroom.graphs import execution as graph_execution
from greenroom.graphs import spans
from greenroom.graphs.loading import LoadedGraph
from greenroom.graphs.outcomes import outcome_of_failure
from greenroom.graphs.resume import Tail
from greenroom.logs import noting
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.saving import Owner
from greenroom.sealing import UNSEALED, Sealing
from greenroom.sealing.runs import opened_run
from greenroom.wire.encoding import dumps

log = logging.getLogger("greenroom.run")

EXIT_FENCED = 75
REEMITTED_MODES = frozenset({"values", "checkpoints", "debug", "@checkpoints", "@values"})
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
    """The parts of the actor that an attempt uses.

    Attributes:
        actor: the actor's name.
        isolated: whether the actor executes one run at a time.
        timeouts_s: the time-out of an attempt in seconds, by graph; an absent graph has none.
        threads: the threads of synchronous nodes.
        graph_of: returns the graph of an id; may raise `NotFound`.
        saver_of: returns the fenced saver of an attempt; with True, the thread has no checkpoint.
        store: the graphs' store.
        earlier: returns the durable events of the earlier attempts.
        append: stores events of a run and its attempt; may raise `Fenced` and `Unavailable`.
        save_values: stores the thread's values; may raise `Fenced` and `Unavailable`.
        sealing: opens what a run was given, and seals what its record gets.
        report: reports to the registry; returns False if the attempt is not the current one.
        grown: called after each append to a log.
        finished: called when the report was accepted; shows the end to readers and closes the log.
        left: called when the attempt leaves this actor without an outcome; closes the log. With
            ``whole=True`` all emitted events are shown first.
        leave_process: ends the process with an exit code.
    """

    actor: str
    isolated: bool
    timeouts_s: Mapping[str, float | None]
    faults: Faults
    threads: NodeThreads
    graph_of: Callable[[str], LoadedGraph]
    saver_of: Callable[[RunOrder, bool], FencedSaver]
    store: Any
    earlier: Callable[[RunOrder], Tail]
    append: Callable[[str, int, list[Event]], Awaitable[None]]
    save_values: Callable[[Owner, str, bytes], Awaitable[None]]
    sealing: Sealing = UNSEALED
    report: Callable[[Report], Awaitable[bool]]
    grown: Callable[[], None]
    finished: Callable[[Attempt], None]
    left: Left
    leave_process: Callable[[int], Any] = os._exit


class Attempt:
    """One attempt of one run.

    Args:
        order: the registry's order.
        event_log: the log of the attempt's events; the attempt is its only writer.
        deps: the actor's parts.

    Attributes:
        outcome: the outcome, once the registry has committed it; else None.
    """

    def __init__(self, order: RunOrder, event_log: EventLog, deps: Deps) -> None:
        self.order = order
        self.log = event_log
        self.outcome: Outcome | None = None
        self._deps = deps
        self._control = RunControl()
        self._loop = asyncio.get_running_loop()
        self._graph_task: asyncio.Task[Outcome] | None = None
        self._saver = deps.saver_of(order, order.is_first)
        self._plain: RunOrder | None = None
        self._cancelled = False
        self._keeps_values = True
        self._superseded = False
        self._said: Outcome | None = None
        self._told_end: Outcome | None = None
        self._accepted: Outcome | None = None
        append = partial(deps.append, order.run_id, order.attempt)
        self._tail = TailWriter(event_log, append, self._step_down) if order.resumable else None

    def cancel(self, keep_values: bool) -> None:
        """Asks the attempt to stop; its report shows whether it did. Thread-safe.

        Args:
            keep_values: False for a rollback: the thread's record keeps the values from before the
                run.
        """
        self._keeps_values = keep_values
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # If the graph's task does not exist yet, `_execute` finds the mark; both run on the loop.
        self._cancelled = True
        if self._graph_task is not None:
            self._graph_task.cancel()

    def drain(self) -> None:
        """Asks the attempt to stop after its superstep; another attempt continues the run."""
        self._control.request_drain("the server is stopping")

    async def run(self) -> None:
        """Executes the attempt until its log is closed. A cancel reaches the graph's task only."""
        try:
            await self._execute()
        except Fenced:
            self._step_down()
        except Exception:  # a bug of ours must end the run, or it stays running for ever
            log.exception("attempt failed outside its graph", extra={"run_id": self.order.run_id})
            await self._fail()

    async def _execute(self) -> None:
        order = self.order
        self._emit("metadata", dumps({"run_id": order.run_id, "attempt": order.attempt}))
        if order.logged:
            await self._tell_begin()
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

    async def _tell_begin(self) -> None:
        """Says that the run has begun, unless an attempt before has said so."""
        begun, earlier = self._lifecycle("running"), self._deps.earlier
        if self.order.attempt == 1 or not await earlier(self.order).has(RUNNING, begun, whole=True):
            self._emit(RUNNING, begun)

    async def _fail(self) -> None:
        """Ends the run in spite of an internal error; retries without a limit."""
        pauses = growing_pauses(FIRST_PAUSE_S, MAX_PAUSE_S)
        while True:
            try:
                if self._accepted is not None:
                    self._show(self._accepted)
                    return
                # If the log already holds an error as its last event, that is the outcome.
                await self._finish(self._said or _failed(RunStatus.ERROR, INTERNAL_ERROR))
                return
            except Fenced:
                self._step_down()
                return
            except Exception:  # the same or another bug; giving up would leave the run running
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
        deps = self._deps
        try:
            order = await self._opened()
        except GreenroomError as error:
            return outcome_of_failure(error)
        await deps.faults.at("attempt" if order.attempt == 1 else "resume")
        timeout_s = deps.timeouts_s.get(order.graph_id)
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await graph_execution.execute(
                    deps.graph_of(order.graph_id),
                    order,
                    emit=self._emit,
                    checkpointer=self._saver,
                    all_written=self._saver.all_written,
                    store=deps.store,
                    control=self._control,
                    flush=self._before_saving if order.resumable else None,
                    room=self._tail.room if self._tail is not None else None,
                    tail=deps.earlier(order) if order.resumable else None,
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            # A node in a thread continues although its task is cancelled.
            await deps.threads.quiet(order.run_id)
            message = out_of_time(timeout_s or 0.0)
            outcome = _failed(RunStatus.TIMEOUT, {"error": "TimeoutError", "message": message})
            return await self._with_state(outcome)

    async def _opened(self) -> RunOrder:
        """Returns the order as the graph needs it.

        Raises:
            CannotOpen: what the run was given is sealed and cannot be opened.
        """
        if self._plain is None:
            order, sealing = self.order, self._deps.sealing
            kwargs = await sealing.apart(opened_run, sealing, order.kwargs)
            facts = order.facts
            if facts.user is not None:
                user = await sealing.apart(sealing.open_json, facts.user.encode())
                facts = replace(facts, user=user.decode())
            self._plain = replace(order, kwargs=kwargs, facts=facts)
        return self._plain

    async def _before_saving(self) -> None:
        await self._flush()
        await self._deps.faults.at("saving")

    async def _after_cancel(self) -> Outcome:
        # A node in a thread continues although its task is cancelled: the run has not stopped yet.
        await self._deps.threads.quiet(self.order.run_id)
        return await self._with_state(Outcome(status=RunStatus.INTERRUPTED))

    async def _with_state(self, outcome: Outcome) -> Outcome:
        order, deps = await self._opened(), self._deps
        await self._saver.settled()
        head = await graph_execution.state_after(
            deps.graph_of(order.graph_id),
            order,
            checkpointer=deps.saver_of(order, False),
            store=deps.store,
        )
        return Outcome(
            status=outcome.status,
            output=outcome.output if outcome.error is not None else head.output or b"null",
            values=head.values,
            interrupts=head.interrupts,
            has_next=head.has_next,
            output_keys=head.output_keys,
            error=outcome.error,
        )

    # --- events --------------------------------------------------------------------------------

    def _emit(self, name: str, data: bytes) -> None:
        if name.startswith(QUESTION):
            # A client may answer at once, so the thread must wait for it by then.
            self._hold(name, data)
            return
        repeated = self._tail is not None and name.partition("|")[0] in REEMITTED_MODES
        event = self.log.append(name, data, _now_ms(), shown=not repeated)
        if self._tail is not None:
            self._tail.add(event, at_once=repeated)
        self._deps.grown()

    def _lifecycle(self, event: str, **more: str) -> bytes:
        return dumps({"event": event, "graph_name": self.order.graph_id, **more})

    def _end_of(self, outcome: Outcome) -> bytes:
        event, message = end_of(
            outcome.status, outcome.error, stopped=outcome.has_next or outcome.interrupts != b"{}"
        )
        return self._lifecycle(event, **({"error": message} if message else {}))

    def _hold(self, name: str, data: bytes) -> None:
        """Has an event shown when the end is stored."""
        held = self.log.hold(name, data, _now_ms())
        if self._tail is not None:
            self._tail.hold(held)

    async def _flush(self) -> None:
        if self._tail is not None:
            await self._tail.flush()

    # --- the end -------------------------------------------------------------------------------

    async def _finish(self, outcome: Outcome) -> None:
        """Stores the thread's values, reports, and shows the end to readers once it is committed.

        Raises:
            Fenced: the attempt is not the current one.
        """
        order, deps = self.order, self._deps
        if outcome.error is not None and self._said is None:
            self._hold("error", outcome.error)
            self._said = outcome
        await self._flush()
        keeps = outcome.values is not None and not order.temporary and self._keeps_values
        if keeps:
            values, owner = outcome.values, (order.run_id, order.attempt)
            assert values is not None
            await deps.faults.at("values")
            await until_done(lambda: deps.save_values(owner, order.thread_id, values))
        if order.logged and self._told_end is not outcome:
            self._told_end = self._said = outcome
            self._hold(END, self._end_of(outcome))
            await self._flush()
        await deps.faults.at("report")
        interrupts, error = outcome.interrupts, outcome.error
        if (sealing := deps.sealing).is_on:
            interrupts = await sealing.apart(sealing.seal_json, interrupts)
            error = error and await sealing.apart(sealing.seal_json, error)
        accepted = await deps.report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=deps.actor,
                status=outcome.status,
                has_next=outcome.has_next,
                interrupts=interrupts,
                error=error,
                events=self.log.count,
                first_event_s=self.log.first_event_s,
                output_keys=outcome.output_keys,
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
        await self._saver.settled()
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
        # Without an outcome: readers ask the registry for the next attempt.
        deps.left(self, whole=True)

    def _step_down(self) -> None:
        """Stops the execution and its events, because another attempt owns the run."""
        if self._superseded:
            return
        self._superseded = True
        log.warning("attempt was superseded", extra={"run_id": self.order.run_id})
        if self._deps.isolated:
            self._deps.leave_process(EXIT_FENCED)
        if self._graph_task is not None:
            self._graph_task.cancel()
        # Readers then ask the registry for the current attempt.
        self._deps.left(self, whole=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _failed(status: RunStatus, error: dict[str, str]) -> Outcome:
    return Outcome(status=status, output=dumps({"__error__": error}), error=dumps(error))
