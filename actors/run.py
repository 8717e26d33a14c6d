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
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.store.postgres.aio import AsyncPostgresStore

from actors.calls import NO_ANSWER, long_poll, repeat, repeatable
from actors.garbage import spare_what_stays
from actors.handles import Handles, rpc_host
from actors.pool import PoolSpec
from actors.reading import Shelf, waker
from actors.rpc import RpcAddress, RpcServer
from actors.setup import RunActorSetup, configuration_of
from actors.shipped import ShippedGraphs
from greenroom import tracing
from greenroom.core.batching import Batcher
from greenroom.core.errors import BadRequest, Fenced, GreenroomError, NotFound, Unavailable
from greenroom.core.events import Event, EventLog, first_seq
from greenroom.core.faults import Faults
from greenroom.core.ports import Question, Update
from greenroom.core.runs import Batch, Ending, Report, RunOrder, RunStatus, out_of_time
from greenroom.graphs import execution as graph_execution
from greenroom.graphs import spans
from greenroom.graphs import state as graph_state
from greenroom.graphs.containment import contain
from greenroom.graphs.loading import LoadedGraph, load_graph, make_importable
from greenroom.logs import noting
from greenroom.persistence import tails
from greenroom.persistence.checkpoints import FencedSaver, PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.journal import store_values
from greenroom.persistence.saving import Saving
from greenroom.wire.encoding import dumps

log = logging.getLogger("greenroom.run")

TAIL_INTERVAL_S = 0.05
TAIL_MAX_BYTES = 4 * 1024 * 1024
"""Of events that are not durable yet; a run that has emitted more waits until they are."""
REPEATED = frozenset({"values", "checkpoints", "debug"})
"""What LangGraph says again when another attempt goes on. Whether readers were told must be known
then: of a run whose events are kept, they see these only once they are durable."""
EXIT_FENCED = 75
EXIT_SILENCE = 76
EXIT_MEMORY = 77
EXIT_LOOP = 78

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
    tail_bytes: int = 0
    tail_task: asyncio.Task[None] | None = None
    tail_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)


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
        self._shelf: Shelf[_Execution] = Shelf(setup.log_max_bytes, setup.actor_log_max_bytes)
        self._cancelled_early: set[tuple[str, int]] = set()
        self._epoch = 0
        self._heard_s = time.monotonic()
        self._execute_loop: asyncio.AbstractEventLoop | None = None
        self._execute_thread: threading.Thread | None = None
        self._threads = _CountingExecutor()
        self._pool: Pool | None = None
        self._shipped: ShippedGraphs | None = None
        self._reports: Batcher[Report, bool | None] = Batcher(self._send_reports)
        self._rpc = RpcServer(
            {
                "read": self._shelf.read,
                "outcome": self._shelf.outcome,
                "start_many": self._start_from_here,
            }
        )
        # From the first moment: a registry that dies right after it made us knows nothing of us.
        threading.Thread(target=self._watch, name="greenroom-watch", daemon=True).start()

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
        self._execute_thread = threading.current_thread()
        contain(loop)
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

    @repeatable
    async def start_many(self, epoch: int, orders: list[RunOrder]) -> None:
        """Starts attempts, and returns at once. Idempotent per (run, attempt)."""
        self._hear(epoch)
        for order in orders:
            if self._shelf.has_had(order.run_id, order.attempt):
                continue
            execution = _Execution(order, self._shelf.new_log(order.attempt))
            asyncio.get_running_loop().create_task(self._attempt(execution))
            self._shelf.add(execution)

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

        async def room() -> None:
            if execution.tail_bytes > TAIL_MAX_BYTES:
                await self._flush_tail(execution)

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
                    room=room if order.resumable else None,
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
            thread_id=order.thread_id,
            is_first=is_first,
            faults=self._faults,
        )

    def _emit(self, execution: _Execution, name: str, data: bytes) -> None:
        at_ms = time.time_ns() // 1_000_000
        if not execution.order.resumable:
            execution.log.append(name, data, at_ms)
            self._shelf.trim()
            return
        repeated = name.partition("|")[0] in REPEATED
        execution.tail.append(execution.log.append(name, data, at_ms, shown=not repeated))
        execution.tail_bytes += len(data)
        self._shelf.trim()
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
            execution.tail_bytes = sum(len(event.data) for event in execution.tail)
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
        accepted = await self._report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=self._setup.name,
                status=ending.status,
                has_next=ending.has_next,
                interrupts=ending.interrupts,
                error=ending.error,
                events=execution.log.count,
                first_event_s=execution.log.first_event_s,
            )
        )
        if not accepted:
            raise Fenced(order.run_id)
        await self._faults.at("reported")
        execution.ending = ending
        self._shelf.finish(execution)
        log.info(
            "A run has ended.",
            extra={
                "action": "run_ended",
                "graph_id": order.graph_id,
                "status": ending.status.value,
                "events": execution.log.count,
            },
        )

    @repeatable
    async def drain(self) -> None:
        """Asks every run to stop after its superstep and to be taken up by another attempt."""
        for execution in self._shelf.current:
            execution.control.request_drain("the server is stopping")

    async def _hand_back(self, execution: _Execution) -> None:
        order = execution.order
        if order.resumable:
            await self._flush_tail(execution)
        await self._report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=self._setup.name,
                status=RunStatus.PENDING,
                has_next=True,
                interrupts=b"{}",
                error=None,
            )
        )
        # Without an ending: readers ask the registry for the attempt that follows.
        self._shelf.drop(execution, whole=True)

    async def _report(self, report: Report) -> bool:
        """Whether the attempt is the current one, once the registry has stored how it ended."""
        while True:
            heard = await self._reports.submit(report)
            if heard is not None:  # else it is still being stored
                return heard

    async def _send_reports(self, reports: list[Report]) -> list[bool | None]:
        # Without a bound: the registry restarts, or a newer one takes over, or its database is
        # away; a run whose report is not heard never ends.
        return await repeat(
            lambda: self._handles.call(self._setup.registry, "finished_many", reports),
            on=(*NO_ANSWER, Unavailable),
            bound_s=None,
        )

    def _step_down(self, execution: _Execution) -> None:
        """Another attempt owns the run: nothing more may be executed or said here."""
        log.warning("attempt was superseded", extra={"run_id": execution.order.run_id})
        if self._setup.spec.runs_per_actor == 1:
            os._exit(EXIT_FENCED)
        if execution.task is not None:
            execution.task.cancel()
        # Readers are sent to the registry, which knows the attempt that is current.
        self._shelf.drop(execution, whole=False)

    @repeatable
    async def ask(self, question: Question) -> bytes:
        """Answers a question about a graph or a thread's state (the inspector's work)."""
        return await graph_state.answer(
            self._graph_of(question.graph_id),
            question,
            checkpointer=self._bound_saver(getattr(question, "thread_id", "")),
            store=self._store,
        )

    @repeatable
    async def update(self, update: Update) -> tuple[bytes, bytes, bool]:
        """Changes a thread's state while the registry keeps runs off it; stores the new values.

        Returns:
            the answer for the client, the thread's interrupts, and whether it has a next step.
        """
        done = await graph_state.update(
            self._graph_of(update.graph_id),
            update,
            checkpointer=self._bound_saver(update.thread_id),
            store=self._store,
        )
        await store_values(self._connections, update.thread_id, done.values)
        return done.answer, done.interrupts, done.has_next

    @repeatable
    async def settle(self, graph_id: str, thread_id: str) -> tuple[bytes, bool]:
        """Brings a thread's record in line with its checkpoints, after a kill or a rollback.

        Returns:
            the thread's interrupts, and whether it has a next step.
        """
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "graph_id": graph_id}}
        opened = self._graph_of(graph_id).open(
            config, checkpointer=self._bound_saver(thread_id), store=self._store
        )
        async with opened as graph:
            values, interrupts, has_next = await graph_state.head_state(graph, config)
        await store_values(self._connections, thread_id, values)
        return interrupts, has_next

    @repeatable
    async def prune(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoint of each namespace (the inspector's work).

        Raises:
            BadRequest: the thread's state is rebuilt from older checkpoints.
        """
        try:
            await self._bound_saver(thread_id).aprune([thread_id], strategy="keep_latest")
        except NotImplementedError as error:
            raise BadRequest(str(error)) from None

    def _bound_saver(self, thread_id: str) -> PooledSaver:
        """For questions about a thread; empty for those about a graph."""
        return PooledSaver(self._connections, self._saving, thread_id=thread_id)

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

    @repeatable
    async def cancel(self, run_id: str, attempt: int, keep_values: bool) -> None:
        """Asks an attempt to stop; whether it does shows in its report.

        Args:
            keep_values: False when the run is to be rolled back, so that the thread's record keeps
                the values from before it.
        """
        execution = self._shelf.executing(run_id)
        if execution is None or execution.order.attempt != attempt:
            # The start is still on its way: calls of different groups are not ordered.
            if not self._shelf.has_had(run_id, attempt):
                self._cancelled_early.add((run_id, attempt))
            return
        execution.cancelled = True
        execution.keeps_values = keep_values
        if execution.task is not None and self._execute_loop is not None:
            self._execute_loop.call_soon_threadsafe(execution.task.cancel)

    @repeatable
    async def beat(self, epoch: int) -> None:
        """The registry is there."""
        self._hear(epoch)

    @repeatable
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
        executing = [(each.order.run_id, each.order.attempt) for each in self._shelf.current]
        return self._setup.spec, os.getpid(), executing

    def _hear(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
        self._epoch = epoch
        self._heard_s = time.monotonic()

    # --- read ----------------------------------------------------------------------------------

    @long_poll
    async def read(self, *args: Any) -> Batch:
        """`Shelf.read`, for a gateway that has no connection."""
        return await self._shelf.read(*args)

    @long_poll
    async def outcome(self, *args: Any) -> Ending | None:
        """`Shelf.outcome`, likewise."""
        return await self._shelf.outcome(*args)

    @repeatable
    async def address(self) -> RpcAddress | None:
        """Where this actor is called without Ray; None if nowhere."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    @repeatable
    async def _start_from_here(self, epoch: int, orders: list[RunOrder]) -> None:
        """`start_many`, on its loop."""
        assert self._execute_loop is not None
        started = asyncio.run_coroutine_threadsafe(
            self.start_many(epoch, orders), self._execute_loop
        )
        await asyncio.wrap_future(started)

    @repeatable
    async def alive(self) -> None:
        """Never answers; that it fails is how the registry hears of this process's death."""
        await asyncio.Event().wait()

    # --- watch ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """A thread that ends the process when it outgrows its limit, no registry is left, or the
        loop that executes runs has stopped."""
        limit_bytes = self._setup.spec.memory_mib * 1024 * 1024
        page_bytes = resource.getpagesize()
        while True:
            time.sleep(0.25)
            if time.monotonic() - self._heard_s > self._setup.registry_silence_s:
                os._exit(EXIT_SILENCE)
            if self._execute_thread is not None and not self._execute_thread.is_alive():
                # User code stopped the loop: nothing here would ever go on.
                os._exit(EXIT_LOOP)
            if limit_bytes:
                resident = int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes
                if resident > limit_bytes:
                    self._say_exhausted(resident)
                    os._exit(EXIT_MEMORY)

    def _say_exhausted(self, resident_bytes: int) -> None:
        with contextlib.suppress(GreenroomError):
            note = self._handles.get(self._setup.registry).exhausted.remote(
                self._setup.name, resident_bytes // (1024 * 1024), self._setup.spec.memory_mib
            )
            del note
            time.sleep(0.1)  # lets the message leave before the process does


class _Saver(FencedSaver):
    """The saver of an attempt, with the places where tests stop it."""

    def __init__(
        self,
        pool: Pool,
        saving: Saving,
        *,
        run_id: str,
        attempt: int,
        thread_id: str,
        is_first: bool,
        faults: Faults,
    ) -> None:
        super().__init__(
            pool,
            saving,
            run_id=run_id,
            attempt=attempt,
            thread_id=thread_id,
            is_first=is_first,
        )
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
                self._waiting.setdefault(run_id, []).append(waker(loop, future))
            await future


async def _until_done(write: Callable[[], Any]) -> None:
    """Repeats a write while the database is away, so that a restart loses nothing of the run."""
    return await repeat(write, on=(Unavailable,), bound_s=None, longest_pause_s=1.0)


def _failed(status: RunStatus, error: dict[str, str]) -> Ending:
    return Ending(status=status, output=dumps({"__error__": error}), error=dumps(error))
