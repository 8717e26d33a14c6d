"""The actor that executes runs: it owns their graph execution and their event logs.

Three loops, each on its own thread (`actors.handles` assigns them):

    execute   the graphs, their checkpoints, the report of the end. User code may block it.
    control   cancel and heartbeat, nothing else: what must work while user code blocks.
    read      long polls of gateways, the registry's death watch.

`actors.attempt` has the life of an attempt, from its order until readers see its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import resource
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.store.postgres.aio import AsyncPostgresStore

from actors.attempt import Attempt, Deps
from actors.garbage import spare_what_stays
from actors.handles import ActorGone, Handles, rpc_host
from actors.node_threads import NodeThreads, waker
from actors.pool import PoolSpec
from actors.rpc import RpcAddress, RpcServer
from actors.setup import RunActorSetup, configuration_of
from actors.shipped import ShippedGraphs
from actors.tail import EarlierTail
from greenroom import tracing
from greenroom.core.batching import Batcher
from greenroom.core.errors import BadRequest, Fenced, GreenroomError, NotFound, Unavailable
from greenroom.core.events import LIVE, EventLog
from greenroom.core.faults import Faults
from greenroom.core.ports import Question, Update
from greenroom.core.runs import Batch, Ending, Report, RunOrder
from greenroom.graphs import state as graph_state
from greenroom.graphs.containment import contain
from greenroom.graphs.loading import LoadedGraph, load_graph, make_importable
from greenroom.persistence import tails
from greenroom.persistence.checkpoints import FencedSaver, PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.journal import store_values
from greenroom.persistence.saving import Saving
from greenroom.wire import sse

log = logging.getLogger("greenroom.run")

ARRIVAL_WAIT_S = 5.0
"""How long a read waits for a run whose start is still on its way (Ray orders calls per caller)."""

FINISHED_KEPT = 256
EXIT_SILENCE = 76
EXIT_MEMORY = 77
EXIT_LOOP = 78


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
        self._current: dict[str, Attempt] = {}
        self._finished: OrderedDict[str, Attempt] = OrderedDict()
        self._finished_bytes = 0
        self._lives: set[asyncio.Task[None]] = set()
        # Starts and cancels come on loops of their own, in any order.
        self._arriving = threading.Lock()
        self._cancelled_early: OrderedDict[tuple[str, int], bool] = OrderedDict()
        self._arrivals: dict[str, list[Callable[[], None]]] = {}
        self._hearing = threading.Lock()
        self._epoch = 0
        self._heard_s = time.monotonic()
        self._execute_loop: asyncio.AbstractEventLoop | None = None
        self._execute_thread: threading.Thread | None = None
        self._threads = NodeThreads()
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

    async def start_many(self, epoch: int, orders: list[RunOrder]) -> None:
        """Starts attempts, and returns at once. Idempotent per (run, attempt)."""
        self._hear(epoch)
        for order in orders:
            known = self._current.get(order.run_id) or self._finished.get(order.run_id)
            if known is not None and known.order.attempt >= order.attempt:
                continue
            self._start(order)

    def _start(self, order: RunOrder) -> None:
        event_log = EventLog(order.attempt, self._setup.log_max_bytes)
        attempt = Attempt(order, event_log, self._deps())
        with self._arriving:
            self._current[order.run_id] = attempt
            keep_values = self._cancelled_early.pop((order.run_id, order.attempt), None)
        if keep_values is not None:
            attempt.cancel(keep_values)
        # The loop alone would not keep a task.
        life = asyncio.get_running_loop().create_task(attempt.run())
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)
        for wake in self._arrivals.pop(order.run_id, []):
            wake()

    def _deps(self) -> Deps:
        pool = self._connections
        return Deps(
            actor=self._setup.name,
            isolated=self._setup.spec.runs_per_actor == 1,
            timeouts_s=self._setup.timeouts_s,
            faults=self._faults,
            threads=self._threads,
            graph_of=self._graph_of,
            saver_of=self._saver,
            store=self._store,
            earlier=lambda order: EarlierTail(pool, order),
            append=functools.partial(tails.append, pool),
            settled=self._saving.settled,
            save_values=self._saving.save_values,
            report=self._reports.submit,
            finished=self._close,
            left=self._left,
        )

    def _saver(self, order: RunOrder, is_first: bool) -> Any:
        return _Saver(
            self._connections,
            self._saving,
            run_id=order.run_id,
            attempt=order.attempt,
            thread_id=order.thread_id,
            is_first=is_first,
            faults=self._faults,
        )

    async def drain(self) -> None:
        """Asks every run to stop after its superstep and to be taken up by another attempt."""
        for attempt in [*self._current.values()]:
            attempt.drain()

    async def _send_reports(self, reports: list[Report]) -> list[bool | Exception]:
        registry = self._setup.registry
        while True:
            try:
                return await self._handles.call(registry, "finished_many", reports)
            except (ActorGone, Unavailable):
                # It restarts, or a newer one takes over; the report waits for it.
                self._handles.forget(registry)
                await asyncio.sleep(0.1)

    def _left(self, attempt: Attempt) -> None:
        """The attempt is over; a later one of its run may be here already."""
        if self._current.get(attempt.order.run_id) is attempt:
            del self._current[attempt.order.run_id]

    def _close(self, attempt: Attempt) -> None:
        """Shows the end of an attempt to its readers."""
        run_id = attempt.order.run_id
        with self._arriving:  # a cancel finds it in one of the two
            earlier = self._finished.pop(run_id, None)
            self._finished[run_id] = attempt
            self._left(attempt)
        attempt.log.close()
        # From here on no log of these changes its size.
        self._finished_bytes += attempt.log.size_bytes
        if earlier is not None:
            self._finished_bytes -= earlier.log.size_bytes
        while len(self._finished) > FINISHED_KEPT or (
            self._finished_bytes > self._setup.log_max_bytes and len(self._finished) > 1
        ):
            _, oldest = self._finished.popitem(last=False)
            self._finished_bytes -= oldest.log.size_bytes

    async def ask(self, question: Question) -> bytes:
        """Answers a question about a graph or a thread's state (the inspector's work)."""
        return await graph_state.answer(
            self._graph_of(question.graph_id),
            question,
            checkpointer=self._bound_saver(getattr(question, "thread_id", "")),
            store=self._store,
        )

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

    async def cancel(self, run_id: str, attempt: int, keep_values: bool) -> None:
        """Asks an attempt to stop; whether it does shows in its report.

        Args:
            keep_values: False when the run is to be rolled back, so that the thread's record keeps
                the values from before it.
        """
        with self._arriving:
            known = self._current.get(run_id) or self._finished.get(run_id)
            if known is None or known.order.attempt < attempt:
                # The start is still on its way: calls of different groups are not ordered.
                self._cancelled_early[run_id, attempt] = keep_values
                while len(self._cancelled_early) > FINISHED_KEPT:
                    self._cancelled_early.popitem(last=False)
                return
        if known.order.attempt == attempt:
            known.cancel(keep_values)

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
        # Heard on several loops: one that is late must not bring an older epoch back.
        with self._hearing:
            if epoch < self._epoch:
                raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
            self._epoch = epoch
            self._heard_s = time.monotonic()

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
        deadline_s = time.monotonic() + wait_s
        while execution.ending is None:
            if execution.log.closed:
                raise NotFound(f"Run {run_id} is not here.")
            if not await _appended(execution.log, execution.log.end, deadline_s - time.monotonic()):
                return None
        return execution.ending

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

    async def _arrived(self, run_id: str, attempt: int) -> Attempt | None:
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
            wake = waker(loop, future)
            waiting.append(wake)
            # The run may have come between the look and the registration.
            if run_id in self._current or run_id in self._finished:
                remaining_s = 0.001
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining_s):
                    await future

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


async def _appended(event_log: EventLog, after: int, wait_s: float) -> bool:
    """Waits until the log has something past the cursor or is closed; False when the time is up."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    wake = waker(loop, future)
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
