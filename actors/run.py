"""The actor that executes runs: it owns their graph execution and their event logs.

Three loops, each on its own thread (`actors.handles` assigns them):

    execute   the graphs, their checkpoints, the report of the end. User code may block it.
    control   cancel and heartbeat, nothing else: what must work while user code blocks.
    read      long polls of gateways, the registry's death watch.

The attempt's life: start_many → `_Execution` (metadata event, graph, last events held back) →
values written (fenced) → registry hears the report and commits → only then the log closes and
readers see the end: clients read the run right after a stream ends.

An attempt that is told by the database that it is not the current one (`Fenced`) has been replaced.
It stops executing at once: an isolated actor ends its process, a dense one drops that execution.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.store.postgres.aio import AsyncPostgresStore

from actors.garbage import spare_what_stays
from actors.guard import Guard
from actors.handles import ActorGone, Handles, rpc_host
from actors.pool import PoolSpec
from actors.rpc import RpcAddress, RpcServer
from actors.setup import RunActorSetup, configuration_of
from actors.shipped import ShippedGraphs
from greenroom import tracing
from greenroom.core.batching import Batcher
from greenroom.core.errors import Fenced, NotFound, Unavailable
from greenroom.core.events import LIVE, Event, EventLog, first_seq
from greenroom.core.faults import Faults
from greenroom.core.runs import Batch, Ending, Report, RunOrder, RunStatus, out_of_time
from greenroom.graphs import execution as graph_execution
from greenroom.graphs import spans
from greenroom.graphs.loading import LoadedGraph, load_graph, make_importable
from greenroom.logs import noting
from greenroom.persistence import tails
from greenroom.persistence.checkpoints import FencedSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.saving import Saving
from greenroom.wire import sse
from greenroom.wire.encoding import dumps

log = logging.getLogger("greenroom.run")

ARRIVAL_WAIT_S = 5.0
"""How long a read waits for a run whose start is still on its way (Ray orders calls per caller)."""

UNREAD_S = 2.0
UNDELIVERED_S = 10.0
READ_AGAIN_S = 1.0
"""How long an actor that retires waits for who reads a run that has ended: after it was looked for
first, if nobody has asked yet, and after the last question, if its end was not given and if it was.
"""

RETIRE_LOOK_S = 0.1

FINISHED_KEPT = 256
TAIL_INTERVAL_S = 0.05
REPEATED = frozenset({"values", "checkpoints", "debug"})
"""What LangGraph says again when another attempt goes on. Whether readers were told must be known
then: of a run whose events are kept, they see these only once they are durable."""
EXIT_FENCED = 75

_executing: ContextVar[str] = ContextVar("greenroom_run_id", default="")


@dataclass(slots=True)
class _Execution:
    """One attempt of one run, on this actor."""

    order: RunOrder
    log: EventLog
    control: RunControl = field(default_factory=RunControl)
    task: asyncio.Task[Ending] | None = None
    cancelled: bool = False
    keeps_values: bool = True
    ending: Ending | None = None
    tail: list[Event] = field(default_factory=list)
    tail_task: asyncio.Task[None] | None = None
    tail_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    asked_s: float | None = None
    delivered: bool = False

    def is_awaited(self, since_s: float, now_s: float) -> bool:
        """Whether somebody may still want what is in here, at the end of its actor's life.

        Args:
            since_s: when that was looked for first.
        """
        if self.delivered:
            patience_s = READ_AGAIN_S
        else:
            patience_s = UNREAD_S if self.asked_s is None else UNDELIVERED_S
        return now_s - max(since_s, self.asked_s or 0.0) < patience_s


class RunActor:
    """Executes up to ``spec.runs_per_actor`` runs at once; the registry decides which.

    The constructor only keeps its arguments: an actor whose ``__init__`` raises is dead for good.
    """

    def __init__(self, setup: RunActorSetup) -> None:
        # A control call beside a node that computes waits for the interpreter's switch interval.
        sys.setswitchinterval(0.0005)
        self._setup = setup
        self._faults = setup.faults
        self._handles = Handles(setup.namespace)
        self._graphs: dict[str, LoadedGraph] = {}
        self._current: dict[str, _Execution] = {}
        self._finished: OrderedDict[str, _Execution] = OrderedDict()
        self._finished_bytes = 0
        self._cancelled_early: set[tuple[str, int]] = set()
        self._arrivals: dict[str, list[Callable[[], None]]] = {}
        self._epoch = 0
        self._execute_loop: asyncio.AbstractEventLoop | None = None
        self._threads = _CountingExecutor()
        self._pool: Pool | None = None
        self._shipped: ShippedGraphs | None = None
        self._reports: Batcher[Report, bool] = Batcher(self._send_reports)
        self._rpc = RpcServer(
            {
                "read": self.read,
                "outcome": self.outcome,
                "start_many": self._start_from_here,
            }
        )
        # From the first moment: a registry that dies right after it made us knows nothing of us.
        self._guard = Guard(
            silence_s=setup.registry_silence_s,
            memory_mib=setup.spec.memory_mib,
            exhausted=self._say_exhausted,
        )

    # --- execute -------------------------------------------------------------------------------

    async def prepare(self) -> int:
        """Loads the graphs and connects; returns the process id.

        Raises:
            ConfigurationError: a graph does not import; the sentence says which and why.
        """
        # Before the graphs: what their modules set up themselves comes after it.
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._setup.name)
        tracing.configure("actor", self._setup.name)
        loop = asyncio.get_running_loop()
        self._execute_loop = loop
        loop.set_default_executor(self._threads)
        configuration = configuration_of(self._setup)
        os.environ.update(configuration.env)
        written = [name for name in self._setup.spec.graphs if name in configuration.graphs]
        for graph_id in written:
            self._graphs[graph_id] = load_graph(
                configuration.graph(graph_id), configuration.root, configuration.import_paths
            )
        places = 1 if self._setup.spec.runs_per_actor == 1 else 4
        self._pool = await open_pool(
            self._setup.dsn,
            application_name=f"greenroom:{self._setup.name}",
            min_size=1,
            max_size=places * 2,
        )
        self._saving = Saving(self._pool)
        self._store = AsyncPostgresStore(self._pool)  # type: ignore[arg-type]
        if configuration.shipped_graphs:
            for path in configuration.import_paths:
                make_importable(path)
            self._shipped = ShippedGraphs(self._pool)
            for graph_id in set(self._setup.spec.graphs).difference(written):
                self._graphs[graph_id] = await self._shipped.preload(graph_id)
        spare_what_stays()
        return os.getpid()

    async def start_many(self, epoch: int, orders: list[RunOrder]) -> None:
        """Starts attempts, and returns at once. Idempotent per (run, attempt)."""
        self._hear(epoch)
        for order in orders:
            known = self._current.get(order.run_id) or self._finished.get(order.run_id)
            if known is not None and known.order.attempt >= order.attempt:
                continue
            execution = _Execution(order, EventLog(order.attempt, self._setup.log_max_bytes))
            self._current[order.run_id] = execution
            asyncio.get_running_loop().create_task(self._attempt(execution))
            for wake in self._arrivals.pop(order.run_id, []):
                wake()

    async def _attempt(self, execution: _Execution) -> None:
        """One attempt from metadata to closed log. Never cancelled itself; only the graph is."""
        order = execution.order
        try:
            begun = dumps({"run_id": order.run_id, "attempt": order.attempt})
            self._emit(execution, "metadata", begun)
            _executing.set(order.run_id)
            noting(run_id=order.run_id, thread_id=order.thread_id, attempt=order.attempt)
            execution.task = asyncio.create_task(self._traced(execution))
            if execution.cancelled or (order.run_id, order.attempt) in self._cancelled_early:
                self._cancelled_early.discard((order.run_id, order.attempt))
                execution.cancelled = True
                execution.task.cancel()
            try:
                ending = await execution.task
            except asyncio.CancelledError:
                ending = await self._after_cancel(execution)
            except GraphDrained:
                await self._hand_back(execution)
                return
            await self._finish(execution, ending)
        except Fenced:
            self._step_down(execution)
        except Exception:  # a bug of ours must end the run, not leave it running for ever
            log.exception("attempt failed outside its graph", extra={"run_id": order.run_id})
            error = {"error": "InternalError", "message": "An internal error occurred"}
            try:
                await self._finish(execution, _failed(RunStatus.ERROR, error))
            except Fenced:
                self._step_down(execution)

    async def _traced(self, execution: _Execution) -> Ending:
        order = execution.order
        if not tracing.is_on():
            return await self._graph(execution)
        ids = {"run_id": order.run_id, "thread_id": order.thread_id, "graph_id": order.graph_id}
        name, parent = f"run {order.graph_id}", order.traceparent
        with tracing.span(name, parent=parent, attempt=order.attempt, **ids) as span:
            with spans.of_nodes(span):
                ending = await self._graph(execution)
            if ending.error is not None:
                tracing.failed(span, ending.error.decode())
            return ending

    async def _graph(self, execution: _Execution) -> Ending:
        order = execution.order

        async def flush() -> None:
            await self._flush_tail(execution)
            await self._faults.at("saving")

        await self._faults.at("attempt" if order.attempt == 1 else "resume")
        timeout_s = self._setup.timeouts_s.get(order.graph_id)
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                return await graph_execution.execute(
                    self._graph_of(order.graph_id),
                    order,
                    emit=lambda name, data: self._emit(execution, name, data),
                    checkpointer=self._saver(order, is_first=order.is_first),
                    store=self._store,
                    control=execution.control,
                    flush=flush if order.resumable else None,
                    tail=_Tail(self._connections, order) if order.resumable else None,
                )
        except TimeoutError:
            if not deadline.expired():
                raise
            # A node in a thread goes on although its task is cancelled.
            await self._threads.quiet(order.run_id)
            message = out_of_time(timeout_s or 0.0)
            ending = _failed(RunStatus.TIMEOUT, {"error": "TimeoutError", "message": message})
            return await self._with_state(execution, ending)

    async def _after_cancel(self, execution: _Execution) -> Ending:
        # A node in a thread goes on although its task is cancelled: the run has not stopped yet.
        await self._threads.quiet(execution.order.run_id)
        return await self._with_state(execution, Ending(status=RunStatus.INTERRUPTED))

    async def _with_state(self, execution: _Execution, ending: Ending) -> Ending:
        order = execution.order
        # A write whose caller was cancelled may still be on its way.
        await self._saving.settled()
        values, interrupts, has_next = await graph_execution.state_after(
            self._graph_of(order.graph_id),
            order,
            checkpointer=self._saver(order),
            store=self._store,
        )
        return Ending(
            status=ending.status,
            output=ending.output if ending.error is not None else values or b"null",
            values=values,
            interrupts=interrupts,
            has_next=has_next,
            error=ending.error,
        )

    def _saver(self, order: RunOrder, *, is_first: bool = False) -> Any:
        return _Saver(
            self._connections,
            self._saving,
            run_id=order.run_id,
            attempt=order.attempt,
            is_first=is_first,
            faults=self._faults,
        )

    def _emit(self, execution: _Execution, name: str, data: bytes) -> None:
        at_ms = time.time_ns() // 1_000_000
        if not execution.order.resumable:
            execution.log.append(name, data, at_ms)
            return
        repeated = name.partition("|")[0] in REPEATED
        execution.tail.append(execution.log.append(name, data, at_ms, shown=not repeated))
        if repeated:
            execution.hurry.set()
        if execution.tail_task is None:
            execution.tail_task = asyncio.create_task(self._write_tail(execution))

    async def _write_tail(self, execution: _Execution) -> None:
        """Stores what has gathered, a little later, so that a token is not a transaction."""
        try:
            while execution.tail:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TAIL_INTERVAL_S):
                        await execution.hurry.wait()
                await self._flush_tail(execution)
        except Fenced:
            self._step_down(execution)
        except Exception:  # the next flush tries again; the last one is awaited by `_finish`
            log.exception("tail not written", extra={"run_id": execution.order.run_id})
        finally:
            execution.tail_task = None

    async def _flush_tail(self, execution: _Execution) -> None:
        """Makes durable everything emitted so far; waits while the database is away."""
        order = execution.order
        async with execution.tail_lock:
            execution.hurry.clear()
            events = execution.tail[:]
            if not events:
                return
            pool = self._connections
            await _until_done(lambda: tails.append(pool, order.run_id, order.attempt, events))
            del execution.tail[: len(events)]
            execution.log.reveal(events[-1].seq)

    async def _finish(self, execution: _Execution, ending: Ending) -> None:
        """Stores what the run left, reports, and lets readers see the end once it is committed."""
        order = execution.order
        if ending.error is not None:
            held = execution.log.hold("error", ending.error, time.time_ns() // 1_000_000)
            if order.resumable:
                execution.tail.append(held)
        if order.resumable:
            await self._flush_tail(execution)
        keeps = ending.values is not None and not order.temporary and execution.keeps_values
        if keeps:
            values, owner = ending.values, (order.run_id, order.attempt)
            assert values is not None
            await self._faults.at("values")
            await _until_done(lambda: self._saving.save_values(owner, order.thread_id, values))
        await self._faults.at("report")
        accepted = await self._reports.submit(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=self._setup.name,
                status=ending.status,
                has_next=ending.has_next,
                interrupts=ending.interrupts,
                error=ending.error,
                has_values=keeps,
                events=execution.log.count,
                first_event_s=execution.log.first_event_s,
            )
        )
        if not accepted:
            raise Fenced(order.run_id)
        await self._faults.at("reported")
        self._close(execution, ending)
        log.info(
            "A run has ended.",
            extra={
                "action": "run_ended",
                "graph_id": order.graph_id,
                "status": ending.status.value,
                "events": execution.log.count,
            },
        )

    async def drain(self) -> None:
        """Asks every run to stop after its superstep and to be taken up by another attempt."""
        for execution in [*self._current.values()]:
            execution.control.request_drain("the server is stopping")

    async def _hand_back(self, execution: _Execution) -> None:
        order = execution.order
        if order.resumable:
            await self._flush_tail(execution)
        await self._reports.submit(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=self._setup.name,
                status=RunStatus.PENDING,
                has_next=True,
                interrupts=b"{}",
                error=None,
                has_values=False,
            )
        )
        self._current.pop(order.run_id, None)
        # Closed without an ending: readers ask the registry for the attempt that follows.
        execution.log.close()

    async def _send_reports(self, reports: list[Report]) -> list[bool | Exception]:
        registry = self._setup.registry
        while True:
            try:
                return await self._handles.call(registry, "finished_many", reports)
            except (ActorGone, Unavailable):
                # It restarts, or a newer one takes over; the report waits for it.
                self._handles.forget(registry)
                await asyncio.sleep(0.1)

    def _close(self, execution: _Execution, ending: Ending) -> None:
        run_id = execution.order.run_id
        execution.ending = ending
        self._current.pop(run_id, None)
        earlier = self._finished.pop(run_id, None)
        self._finished[run_id] = execution
        execution.log.close()
        # From here on no log of these changes its size.
        self._finished_bytes += execution.log.size_bytes
        if earlier is not None:
            self._finished_bytes -= earlier.log.size_bytes
        while len(self._finished) > FINISHED_KEPT or (
            self._finished_bytes > self._setup.log_max_bytes and len(self._finished) > 1
        ):
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= oldest.log.size_bytes

    def _step_down(self, execution: _Execution) -> None:
        """Another attempt owns the run: nothing more may be executed or said here."""
        log.warning("attempt was superseded", extra={"run_id": execution.order.run_id})
        if self._setup.spec.runs_per_actor == 1:
            os._exit(EXIT_FENCED)
        if execution.task is not None:
            execution.task.cancel()
        self._current.pop(execution.order.run_id, None)
        # Readers are sent to the registry, which knows the attempt that is current.
        execution.log.close(whole=False)

    def _graph_of(self, graph_id: str) -> LoadedGraph:
        graph = self._graphs.get(graph_id)
        if graph is None and self._shipped is not None:
            graph = self._graphs[graph_id] = self._shipped.graph(graph_id)
        if graph is None:
            raise NotFound(f"Graph '{graph_id}' is not served here.")
        return graph

    @property
    def _connections(self) -> Pool:
        assert self._pool is not None
        return self._pool

    # --- control -------------------------------------------------------------------------------

    async def cancel(self, run_id: str, attempt: int, keep_values: bool) -> None:
        """Asks an attempt to stop; whether it does shows in its report.

        Args:
            keep_values: False when the run is to be rolled back, so that the thread's record keeps
                the values from before it.
        """
        execution = self._current.get(run_id)
        if execution is None or execution.order.attempt != attempt:
            # The start is still on its way: calls of different groups are not ordered.
            if run_id not in self._finished:
                self._cancelled_early.add((run_id, attempt))
            return
        execution.cancelled = True
        execution.keeps_values = keep_values
        if execution.task is not None and self._execute_loop is not None:
            self._execute_loop.call_soon_threadsafe(execution.task.cancel)

    async def beat(self, epoch: int) -> None:
        """The registry is there."""
        self._hear(epoch)

    async def adopt(self, epoch: int) -> tuple[PoolSpec, int, list[tuple[str, int]]]:
        """A registry that has just started asks who is here (placement, process id) and executes
        what: ``(run, attempt)``.

        Includes attempts that have ended and whose report has not been heard.

        Raises:
            Unavailable: the graphs are not loaded. The registry that had them loaded is gone, and
                perhaps died before it asked for it: nobody can say that they ever will be.
        """
        self._hear(epoch)
        if self._pool is None:
            raise Unavailable("This actor has not loaded its graphs yet.")
        executing = [(each.order.run_id, each.order.attempt) for each in [*self._current.values()]]
        return self._setup.spec, os.getpid(), executing

    def _hear(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
        self._epoch = epoch
        self._guard.hear()

    # --- read ----------------------------------------------------------------------------------

    async def read(
        self,
        run_id: str,
        attempt: int,
        after: int,
        wait_s: float,
        modes: frozenset[str] | None,
        with_ids: bool,
    ) -> Batch:
        """All events of a run past a cursor, framed; waits for one if there is none.

        Args:
            attempt: the attempt that the caller expects here.
            after: a sequence number, 0 or `LIVE`.
            wait_s: the longest that the call waits; then the batch is empty.
            modes: as in `ports.Runtime.events`.
        """
        execution = await self._arrived(run_id, attempt)
        if execution is None:
            return Batch(body=b"", cursor=after, closed=True, known=False)
        execution.asked_s = time.monotonic()
        deadline_s = time.monotonic() + wait_s
        if after == LIVE:
            # Told at once where it stands, a reader misses nothing should this process die.
            return Batch(body=b"", cursor=execution.log.end, closed=False)
        while True:
            part = execution.log.read(after)
            frames = [
                sse.frame(event, with_ids) for event in part.events if sse.passes(event.name, modes)
            ]
            if frames or part.closed:
                # A log that was closed without an ending belongs to a superseded attempt.
                known = execution.ending is not None or not part.closed
                execution.delivered |= part.closed
                return Batch(
                    body=b"".join(frames), cursor=part.cursor, closed=part.closed, known=known
                )
            after = part.cursor
            if not await _appended(execution.log, after, deadline_s - time.monotonic()):
                return Batch(body=b"", cursor=after, closed=False)

    async def outcome(self, run_id: str, attempt: int, wait_s: float) -> Ending | None:
        """How an attempt ended, once that is committed; None when it has not ended in time.

        Raises:
            NotFound: the attempt is not here (any more).
        """
        execution = await self._arrived(run_id, attempt)
        if execution is None:
            raise NotFound(f"Run {run_id} is not here.")
        execution.asked_s = time.monotonic()
        deadline_s = time.monotonic() + wait_s
        while execution.ending is None:
            if execution.log.closed:
                raise NotFound(f"Run {run_id} is not here.")
            if not await _appended(execution.log, execution.log.end, deadline_s - time.monotonic()):
                return None
        execution.delivered = True
        return execution.ending

    async def retire(self) -> None:
        """Returns when what has ended here was read to its end, or nobody asks for it any more."""
        since_s = time.monotonic()
        while any(  # noqa: ASYNC110 - mostly it is time that it waits for
            each.is_awaited(since_s, time.monotonic())
            for each in (*[*self._current.values()], *[*self._finished.values()])
        ):
            await asyncio.sleep(RETIRE_LOOK_S)

    async def address(self) -> RpcAddress | None:
        """Where this actor is called without Ray; None if nowhere."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    async def _start_from_here(self, epoch: int, orders: list[RunOrder]) -> None:
        """`start_many`, on its loop."""
        assert self._execute_loop is not None
        started = asyncio.run_coroutine_threadsafe(
            self.start_many(epoch, orders), self._execute_loop
        )
        await asyncio.wrap_future(started)

    async def alive(self) -> None:
        """Never answers; that it fails is how the registry hears of this process's death."""
        await asyncio.Event().wait()

    async def _arrived(self, run_id: str, attempt: int) -> _Execution | None:
        deadline_s = time.monotonic() + ARRIVAL_WAIT_S
        while True:
            known = self._current.get(run_id) or self._finished.get(run_id)
            if known is not None and known.order.attempt >= attempt:
                return known
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return None
            waiting = self._arrivals.setdefault(run_id, [])
            loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
            wake = _waker(loop, future)
            waiting.append(wake)
            # The run may have come between the look and the registration.
            if run_id in self._current or run_id in self._finished:
                remaining_s = 0.001
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await future

    def _say_exhausted(self, resident_mib: int) -> None:
        note = self._handles.get(self._setup.registry).exhausted.remote(
            self._setup.name, resident_mib, self._setup.spec.memory_mib
        )
        del note


class _Saver(FencedSaver):
    """The saver of an attempt, with the places where tests stop it."""

    def __init__(
        self,
        pool: Pool,
        saving: Saving,
        *,
        run_id: str,
        attempt: int,
        is_first: bool,
        faults: Faults,
    ) -> None:
        super().__init__(pool, saving, run_id=run_id, attempt=attempt, is_first=is_first)
        self._faults = faults

    async def aput(
        self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        await self._faults.at("save")
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        await self._faults.at("saved")
        return saved


@dataclass(frozen=True, slots=True)
class _Tail:
    """What the attempts before this one have made durable: `graphs.resume.Tail`."""

    pool: Pool
    order: RunOrder

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        order = self.order
        before = first_seq(order.attempt)
        return await tails.has(self.pool, order.run_id, name, data, whole=whole, before=before)


class _CountingExecutor(ThreadPoolExecutor):
    """The threads of synchronous nodes, counted by run: a cancelled run may still occupy one."""

    def __init__(self) -> None:
        super().__init__(max_workers=64, thread_name_prefix="node")
        self._busy: dict[str, int] = {}
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        run_id = _executing.get()
        with self._lock:
            self._busy[run_id] = self._busy.get(run_id, 0) + 1
        try:
            future = super().submit(fn, *args, **kwargs)
        except RuntimeError:
            self._left(run_id)
            raise
        future.add_done_callback(lambda _: self._left(run_id))
        return future

    def _left(self, run_id: str) -> None:
        with self._lock:
            self._busy[run_id] -= 1
            if self._busy[run_id]:
                return
            del self._busy[run_id]
            waiting = self._waiting.pop(run_id, [])
        for wake in waiting:
            wake()

    async def quiet(self, run_id: str) -> None:
        """Waits until no thread works for the run. May never come: the registry then kills us."""
        while True:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            with self._lock:
                if not self._busy.get(run_id):
                    return
                self._waiting.setdefault(run_id, []).append(_waker(loop, future))
            await future


def _waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """A callback for any thread that resolves the future on its loop."""

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(resolve)

    return wake


async def _appended(event_log: EventLog, after: int, wait_s: float) -> bool:
    """Waits until the log has something past the cursor or is closed; False when the time is up."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    wake = _waker(loop, future)
    if not event_log.wait(after, wake):
        return True
    try:
        async with asyncio.timeout(max(wait_s, 0)):
            await future
    except TimeoutError:
        return False
    finally:
        event_log.leave(wake)
    return True


async def _until_done(write: Callable[[], Any]) -> None:
    """Repeats a write while the database is away, so that a restart loses nothing of the run."""
    pause_s = 0.05
    while True:
        try:
            return await write()
        except Unavailable:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)


def _failed(status: RunStatus, error: dict[str, str]) -> Ending:
    return Ending(status=status, output=dumps({"__error__": error}), error=dumps(error))
