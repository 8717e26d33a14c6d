"""The actor that executes runs: it owns their graph execution and their event logs.

It has three event loops, each on its own thread (`actors.spawn` assigns the methods):

    execute   graphs, checkpoints, reports. User code may block this loop.
    control   cancel and heartbeat only: these must work while user code blocks.
    read      long polls of gateways, the registry's death watch.

`actors.run.attempt` describes the life of an attempt, from its order until readers see its end.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable

from actors.calls.answers import repeatable
from actors.calls.directory import Handles
from actors.calls.rpc import RpcServer
from actors.common.actor_process import ActorProcess, here
from actors.common.garbage import freeze_startup_objects
from actors.common.guard import Guard
from actors.common.memory import watch_memory
from actors.common.placement import PoolSpec
from actors.common.setup import RunActorSetup, configuration_of
from actors.common.shipped import ShippedGraphs
from actors.run.attempt import Attempt
from actors.run.debugging import Debugging
from actors.run.deps import Deps
from actors.run.early import Early
from actors.run.looking import Looking
from actors.run.node_threads import NodeThreads, executing
from actors.run.readable import Readable
from actors.run.reading import Shelf
from actors.run.reports import Reporter
from actors.run.savers import saver_of
from actors.run.tail import EarlierTail
from greenroom import tracing
from greenroom.core.errors import Fenced, NotFound, Unavailable
from greenroom.core.runs import RunOrder
from greenroom.environment import SECRETS, forget_secrets
from greenroom.graphs.containment import contain
from greenroom.graphs.embedding import load_embedder
from greenroom.graphs.encryption import load_sealing
from greenroom.graphs.loading import LoadedGraph, load_graph
from greenroom.graphs.module_path import make_importable
from greenroom.persistence import run_inputs, tails
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.saving import Saving
from greenroom.persistence.serializing import StateSerializer
from greenroom.persistence.store import Store

log = logging.getLogger("greenroom.run")

EARLY_KEPT = 256
"""The number of remembered cancels, and of remembered notices, whose attempt has not arrived."""


class RunActor(Readable):
    """Executes up to ``runs_per_actor + overflow`` runs at once; the registry chooses them.

    `prepare` does the work that may fail: an actor whose ``__init__`` raises is dead for good.

    Args:
        setup: what the actor is told when it is made.
        deps: makes the `Deps` of an attempt of this actor; by default of what it has loaded.

    Attributes:
        shelf: the attempts and their events.
        cancelled_early: whether to keep the values, by run and attempt, of cancels that came before
            the start.
    """

    def __init__(
        self, setup: RunActorSetup, deps: Callable[[RunActor], Deps] | None = None
    ) -> None:
        # While a node computes, a control call waits for the interpreter's switch interval.
        sys.setswitchinterval(0.0005)
        self._setup = setup
        self._faults = setup.faults
        self._handles = Handles(setup.namespace)
        self._graphs: dict[str, LoadedGraph] = {}
        self._deps = deps or RunActor.deps
        self.shelf: Shelf[Attempt] = Shelf(setup.log_max_bytes, setup.actor_log_max_bytes)
        self._lives: set[asyncio.Task[None]] = set()
        # Starts and cancels arrive on different loops, in any order.
        self._arriving = threading.Lock()
        self.cancelled_early: Early[bool] = Early(EARLY_KEPT)
        self._said_early: Early[bool] = Early(EARLY_KEPT)
        self._hearing = threading.Lock()
        self._epoch = 0
        self._execute_loop: asyncio.AbstractEventLoop | None = None
        self._threads = NodeThreads()
        self._looking = Looking(self.shelf, self._threads)
        self._debugging = Debugging(setup.debug_port)
        self._pool: Pool | None = None
        self._place = here()
        self._shipped: ShippedGraphs | None = None
        self._reporter = Reporter(self._handles, setup.registry)
        self._rpc = RpcServer(
            {
                "read": self.shelf.read,
                "outcome": self.shelf.outcome,
                "start_many": self._start_from_here,
                "hear": self.hear,
                "nodes": self.nodes,
                "notes": self.notes,
                "look": self.look,
            }
        )
        # At once: if the registry dies right after it made this actor, no registry knows of it.
        self._guard = Guard(
            silence_s=setup.registry_silence_s,
            memory_mib=setup.spec.memory_mib,
            exhausted=self._say_exhausted,
        )

    # --- execute -------------------------------------------------------------------------------

    async def prepare(self) -> ActorProcess:
        """Loads the graphs and connects to the database; returns the process.

        Raises:
            ConfigurationError: a graph does not import; the message names it and the reason.
        """
        # Before the graphs: the logging set-up of their modules must come later.
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._setup.name)
        tracing.configure("actor", self._setup.name)
        loop = asyncio.get_running_loop()
        self._execute_loop = loop
        self._guard.watch_thread(threading.current_thread())
        contain(loop, executing.get)
        self._looking.begin()
        loop.set_default_executor(self._threads)
        configuration = configuration_of(self._setup)
        forget_secrets({*SECRETS, *configuration.webhooks.variables})
        os.environ.update(configuration.env_of_graphs)
        written = [name for name in self._setup.spec.graphs if name in configuration.graphs]
        for graph_id in written:
            self._graphs[graph_id] = load_graph(configuration, graph_id)
        processes = 1 if self._setup.spec.isolates else 4
        self._pool = await open_pool(
            self._setup.dsn,
            application_name=f"greenroom:{self._setup.name}",
            min_size=1,
            max_size=processes * 2,
        )
        self._sealing = load_sealing(configuration, self._setup.encryption_keys)
        self._saving = Saving(self._pool, self._sealing)
        self._serde = StateSerializer(configuration.keeping, sealing=self._sealing)
        self._store = Store(
            self._pool, configuration.store, load_embedder(configuration), sealing=self._sealing
        )
        if configuration.shipped_graphs:
            make_importable(configuration.import_paths)
            self._shipped = ShippedGraphs(self._pool)
            for graph_id in set(self._setup.spec.graphs).difference(written):
                self._graphs[graph_id] = await self._shipped.preload(graph_id)
        freeze_startup_objects()
        watch_memory(self._pool)
        self._place = here(dumps=self._looking.dumps, debug_port=self._debugging.listen())
        return self._place

    @repeatable
    async def start_many(self, epoch: int, orders: list[RunOrder]) -> None:
        """Starts attempts and returns at once. Idempotent per (run, attempt).

        Args:
            epoch: the caller's epoch.
            orders: one per attempt.

        Raises:
            Fenced: the caller is an older registry.
        """
        self._hear(epoch)
        for order in orders:
            if not self.shelf.has_had(order.run_id, order.attempt):
                self._start(order)

    def _start(self, order: RunOrder) -> None:
        loop = asyncio.get_running_loop()
        events = self.shelf.new_log(order.attempt, loop.call_soon)
        attempt = Attempt(order, events, self._deps(self))
        with self._arriving:
            self.shelf.add(attempt)
            keep_values = self.cancelled_early.take(order.run_id, order.attempt)
            was_said = self._said_early.take(order.run_id, order.attempt)
        if was_said:
            attempt.hear()
        if keep_values is not None:
            attempt.cancel(keep_values)
        # The loop holds its tasks only weakly.
        life = loop.create_task(attempt.run())
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    def deps(self) -> Deps:
        """Returns what an attempt uses of this actor."""
        pool = self._connections
        return Deps(
            actor=self._setup.name,
            isolated=self._setup.spec.isolates,
            timeouts_s=self._setup.timeouts_s,
            faults=self._faults,
            threads=self._threads,
            graph_of=self._graph_of,
            saver_of=functools.partial(saver_of, pool, self._saving, self._serde, self._faults),
            store=self._store,
            earlier=lambda order: EarlierTail(pool, order, self._sealing),
            append=functools.partial(tails.append, pool, sealing=self._sealing),
            sealing=self._sealing,
            save_values=self._saving.save_values,
            inputs_for=functools.partial(run_inputs.inputs_for, pool, sealing=self._sealing),
            note_input=functools.partial(run_inputs.note, self._saving),
            tell_waiting=self._reporter.tell_waiting,
            report=self._reporter.report,
            grown=self.shelf.trim,
            finished=self.finish,
            left=self.shelf.drop,
        )

    @repeatable
    async def drain(self) -> None:
        """Asks every attempt to stop after its superstep; another attempt continues the run."""
        for attempt in self.shelf.current:
            attempt.drain()

    def finish(self, attempt: Attempt) -> None:
        """Shows the end of an attempt to its readers."""
        with self._arriving:  # so that a cancel finds it either current or finished
            self.shelf.finish(attempt)

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
        """Asks an attempt to stop; its report shows whether it did.

        Args:
            run_id: the run.
            attempt: the attempt; a cancel that comes before its start is remembered.
            keep_values: False for a rollback: the thread's record keeps the values from before the
                run.
        """
        with self._arriving:
            if not self.shelf.has_had(run_id, attempt):
                # The start has not arrived: calls of different groups are not ordered.
                self.cancelled_early.note(run_id, attempt, keep_values)
            known = self.shelf.executing(run_id)
        if known is not None and known.order.attempt == attempt:
            known.cancel(keep_values)

    @repeatable
    async def hear(self, runs: list[tuple[str, int]]) -> None:
        """Has attempts look for what was said to their runs.

        Args:
            runs: ``(run, attempt)`` pairs. An attempt whose start has not arrived yet is remembered
                and looks when it begins.
        """
        for run_id, attempt in runs:
            with self._arriving:
                if not self.shelf.has_had(run_id, attempt):
                    self._said_early.note(run_id, attempt, True)
                known = self.shelf.executing(run_id)
            if known is not None and known.order.attempt == attempt:
                known.hear()

    @repeatable
    async def beat(self, epoch: int) -> None:
        """Receives the registry's heartbeat.

        Raises:
            Fenced: the caller is an older registry.
        """
        self._hear(epoch)

    @repeatable
    async def adopt(self, epoch: int) -> tuple[PoolSpec, ActorProcess, list[tuple[str, int]]]:
        """Accepts a new registry and describes this actor to it.

        Returns:
            the placement, the process, and the ``(run, attempt)`` pairs that this actor
            executes. They include attempts that have ended without an accepted report.

        Raises:
            Unavailable: the graphs are not loaded. The earlier registry may have died before it
                called `prepare`, so they may never be loaded.
            Fenced: the caller is an older registry.
        """
        self._hear(epoch)
        if self._pool is None:
            raise Unavailable("This actor has not loaded its graphs yet.")
        executing = [(each.order.run_id, each.order.attempt) for each in self.shelf.current]
        return self._setup.spec, self._place, executing

    def _hear(self, epoch: int) -> None:
        self._debugging.leave_alone()
        # Several loops call this: a late call must not bring an older epoch back.
        with self._hearing:
            if epoch < self._epoch:
                raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
            self._epoch = epoch
            self._guard.hear()

    @repeatable
    async def _start_from_here(self, epoch: int, orders: list[RunOrder]) -> None:
        """Calls `start_many` on the loop that executes."""
        assert self._execute_loop is not None
        started = asyncio.run_coroutine_threadsafe(
            self.start_many(epoch, orders), self._execute_loop
        )
        await asyncio.wrap_future(started)

    def _say_exhausted(self, resident_mib: int) -> None:
        note = self._handles.get(self._setup.registry).exhausted.remote(
            self._setup.name, resident_mib, self._setup.spec.memory_mib
        )
        del note
