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
from dataclasses import replace
from functools import partial

from langgraph.errors import GraphDrained

from actors.run.deps import Deps
from actors.run.hearing import Hearing
from actors.run.node_threads import executing
from actors.run.reports import Reports
from actors.run.telling import Telling
from greenroom import tracing
from greenroom.core.errors import Fenced, GreenroomError
from greenroom.core.events import EventLog
from greenroom.core.runs import Outcome, RunOrder, RunStatus, out_of_time
from greenroom.core.waiting import growing_pauses
from greenroom.graphs import execution as graph_execution
from greenroom.graphs import spans
from greenroom.graphs.inbox import RunInbox, current_inbox
from greenroom.graphs.nodes import NodeNotes, noting_nodes
from greenroom.graphs.outcomes import outcome_of_failure
from greenroom.graphs.taking import SteeredControl
from greenroom.logs import noting
from greenroom.sealing.runs import opened_run
from greenroom.wire.encoding import dumps

log = logging.getLogger("greenroom.run")

EXIT_FENCED = 75
INTERNAL_ERROR = {"error": "InternalError", "message": "An internal error occurred"}
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0


class Attempt:
    """One attempt of one run.

    Args:
        order: the registry's order.
        event_log: the log of the attempt's events; the attempt is its only writer.
        deps: the actor's parts.

    Attributes:
        outcome: the outcome, once the registry has committed it; else None.
        nodes: when its nodes began and ended.
    """

    def __init__(self, order: RunOrder, event_log: EventLog, deps: Deps) -> None:
        self.order = order
        self.log = event_log
        self.outcome: Outcome | None = None
        self._deps = deps
        self._reports = Reports(order, event_log, deps)
        note = partial(deps.note_input, (order.run_id, order.attempt))
        self._hearing = Hearing(
            order,
            RunInbox(order.attempt, note),
            deps.inputs_for,
            deps.tell_waiting,
            self._held,
        )
        self._control = SteeredControl(self._hearing.inbox, self._hearing.pauses)
        self._deadline = asyncio.timeout(None)
        self._left_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._graph_task: asyncio.Task[Outcome] | None = None
        self._saver = deps.saver_of(order, order.is_first)
        self._plain: RunOrder | None = None
        self._cancelled = self._superseded = False
        self._keeps_values = True
        self._said: Outcome | None = None
        self._told_end: Outcome | None = None
        self._accepted: Outcome | None = None
        self._telling = Telling(order, event_log, deps, self._step_down)
        self.nodes = NodeNotes()

    def cancel(self, keep_values: bool) -> None:
        """Asks the attempt to stop; its report shows whether it did. Thread-safe.

        Args:
            keep_values: False for a rollback: the thread's record keeps the values before the run.
        """
        self._keeps_values = keep_values
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        # If the graph's task does not exist yet, `_execute` finds the mark; both run on the loop.
        self._cancelled = True
        if self._graph_task is not None:
            self._graph_task.cancel()

    def hear(self) -> None:
        """Has the attempt look for what was said to its run. Thread-safe."""
        self._loop.call_soon_threadsafe(self._hearing.look)

    def drain(self) -> None:
        """Asks the attempt to stop after its superstep; another attempt continues the run."""
        self._control.request_drain("the server is stopping")
        self._hearing.pauses.drain()

    def _held(self, waits: bool) -> None:
        """Stops the clock of the graph's time-out while the run is paused."""
        if (when := self._deadline.when()) is not None and waits:
            self._left_s = when - self._loop.time()
            self._deadline.reschedule(None)
        elif not waits and self._left_s:
            self._deadline.reschedule(self._loop.time() + self._left_s)
            self._left_s = 0.0

    async def run(self) -> None:
        """Executes the attempt until its log is closed. A cancel reaches the graph's task only."""
        try:
            try:
                await self._execute()
            finally:
                self._hearing.end()
        except Fenced:
            self._step_down()
        except Exception:  # a bug of ours must end the run, or it stays running for ever
            log.exception("attempt failed outside its graph", extra={"run_id": self.order.run_id})
            await self._fail()

    async def _execute(self) -> None:
        order = self.order
        await self._telling.begin()
        executing.set(order.run_id)
        current_inbox.set(self._hearing.inbox)
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
        deps, telling = self._deps, self._telling
        try:
            order = await self._opened()
            if order.has_inputs:
                await self._hearing.begin(telling.emit, telling.earlier)
        except GreenroomError as error:
            return outcome_of_failure(error)
        await deps.faults.at("attempt" if order.attempt == 1 else "resume")
        timeout_s = deps.timeouts_s.get(order.graph_id)
        deadline = self._deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                with noting_nodes(self.nodes):
                    return await graph_execution.execute(
                        deps.graph_of(order.graph_id),
                        order,
                        emit=telling.emit,
                        checkpointer=self._saver,
                        all_written=self._all_written,
                        store=deps.store,
                        control=self._control,
                        inbox=self._hearing.inbox,
                        pauses=self._hearing.pauses,
                        flush=self._before_saving if order.resumable else None,
                        room=telling.tail.room if telling.tail is not None else None,
                        tail=telling.earlier,
                    )
        except TimeoutError:
            if not deadline.expired():
                raise
            # A node in a thread continues although its task is cancelled.
            self._hearing.inbox.close()  # a node on a thread may wait for something to be said
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

    async def _all_written(self, outcome: Outcome) -> None:
        """Returns when all checkpoints are committed."""
        if self._keeps_values:
            await self._reports.with_last_checkpoint(self._saver, outcome)
        else:
            await self._saver.all_written()

    async def _before_saving(self) -> None:
        await self._telling.flush()
        await self._deps.faults.at("saving")

    async def _after_cancel(self) -> Outcome:
        # A node in a thread continues although its task is cancelled: the run has not stopped yet.
        self._hearing.inbox.close()  # a node on a thread may wait for something to be said
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

    # --- the end -------------------------------------------------------------------------------

    async def _finish(self, outcome: Outcome) -> None:
        """Stores the thread's values, reports, and shows the end to readers once it is committed.

        Raises:
            Fenced: the attempt is not the current one.
        """
        if outcome.error is not None and self._said is None:
            self._telling.hold("error", outcome.error)
            self._said = outcome
        await self._telling.flush()
        if self.order.logged and self._told_end is not outcome:
            self._told_end = self._said = outcome
            self._telling.hold_end(outcome)
            await self._telling.flush()
        # Once the end is stored, the fence rejects what an execution that failed has left to write.
        await self._saver.settled()
        await self._reports.ended(outcome, keeps_values=self._keeps_values, notes=self.nodes.all)
        self._accepted = outcome
        await self._deps.faults.at("reported")
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
        await self._saver.settled()
        await self._telling.flush()
        await self._reports.handed_back(self.nodes.all)
        # Without an outcome: readers ask the registry for the next attempt.
        self._deps.left(self, whole=True)

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


def _failed(status: RunStatus, error: dict[str, str]) -> Outcome:
    return Outcome(status=status, output=dumps({"__error__": error}), error=dumps(error))
