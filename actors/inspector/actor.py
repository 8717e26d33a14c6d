"""The actor that answers questions about graphs and states, and executes no run.

A question executes user code: the graph's factory, and what its state is made of. That code may
hang, block its thread or end the process, and none of this may concern another graph. So

    each graph has a *lane*   a thread with an event loop and connections of its own: a factory that
                              blocks holds up the questions about its own graph only
    each question has a time  awaited code is cancelled then. A lane that does not come free is
                              given up, and the process asks to be replaced (`alive` answers)

The questions of others go on meanwhile: `actors.registry.inspecting` makes another process first,
then has this one `leave`. What ends the process is dealt with there as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.store.postgres.aio import AsyncPostgresStore

from actors.calls.answers import long_poll, repeatable
from actors.common.garbage import freeze_startup_objects
from actors.common.guard import Guard
from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup, configuration_of
from actors.common.shipped import ShippedGraphs
from actors.inspector.asking import SETTLE_S, Replaced
from actors.inspector.lanes import Lane, Means
from greenroom import tracing
from greenroom.core.errors import (
    BadRequest,
    DatabaseUnavailable,
    Fenced,
    NotFound,
    Unanswered,
    Unavailable,
)
from greenroom.core.ports import Question, Update
from greenroom.graphs import state as graph_state
from greenroom.graphs.importing import make_importable
from greenroom.graphs.loading import LoadedGraph, load_graph
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool, open_pool
from greenroom.persistence.saving import Saving
from greenroom.persistence.values import store_values

log = logging.getLogger("greenroom.inspector")

LANE_CONNECTIONS = 4
"""The most of one lane; it has none while nothing is asked of it for minutes."""
MOST_LANES = 64
PROBE_S = 1.0

T = TypeVar("T")


class Inspector:
    """Answers questions, settles threads.

    The constructor only keeps its arguments: an actor whose ``__init__`` raises is dead for good.
    """

    def __init__(self, setup: InspectorSetup) -> None:
        # A control call beside code that computes waits for the interpreter's switch interval.
        sys.setswitchinterval(0.0005)
        self._setup = setup
        self._graphs: dict[str, LoadedGraph] = {}
        self._takes_shipped = False
        self._lanes: dict[str, Lane] = {}
        self._pool: Pool | None = None
        self._epoch = 0
        self._stuck: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._leaving = False
        self._probe: asyncio.Future[None] | None = None
        self._under_way = 0
        # From the first moment: a registry that dies right after it made us knows nothing of us.
        self._guard = Guard(silence_s=setup.registry_silence_s)

    # --- questions -----------------------------------------------------------------------------

    async def prepare(self) -> int:
        """Loads the graphs and connects; returns the process id.

        Raises:
            ConfigurationError: a graph does not import; the sentence says which and why.
        """
        # Before the graphs: what their modules set up themselves comes after it.
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._setup.name)
        tracing.configure("actor", self._setup.name)
        configuration = configuration_of(self._setup)
        os.environ.update(configuration.env)
        for graph_id in self._setup.spec.graphs:
            self._graphs[graph_id] = load_graph(
                configuration.graph(graph_id), configuration.root, configuration.import_paths
            )
        if configuration.shipped_graphs:
            for path in configuration.import_paths:
                make_importable(path)
        self._takes_shipped = configuration.shipped_graphs
        self._pool = await self._open_pool(min_size=1)
        freeze_startup_objects()
        return os.getpid()

    @repeatable
    async def ask(self, question: Question) -> bytes:
        """Answers a question about a graph or a thread's state.

        Raises:
            Unanswered: not within its time.
            DatabaseUnavailable: likewise, and PostgreSQL does not answer either.
            Replaced: another inspector is to be asked.
        """

        def answer(graph: LoadedGraph, means: Means) -> Awaitable[bytes]:
            saver = means.saver(getattr(question, "thread_id", ""))
            return graph_state.answer(graph, question, checkpointer=saver, store=means.store)

        with self._question():
            return await self._in_lane(question.graph_id, self._setup.inspect_s, answer)

    @repeatable
    async def update(self, update: Update, held: tuple[int, int]) -> tuple[bytes, bytes, bool]:
        """Changes a thread's state while the registry keeps runs off it; stores the new values.

        Args:
            held: of the registry that asks: its epoch and its shard's number. Once it is
                superseded, its values are not stored.

        Returns:
            the answer for the client, the thread's interrupts, and whether it has a next step.

        May be repeated: the update's id is looked for before it is applied.

        Raises:
            Unanswered: not within its time; it may or may not have been done.
            Replaced: another inspector is to be asked; nothing was done.
        """

        def write(graph: LoadedGraph, means: Means) -> Awaitable[Any]:
            saver = means.saver(update.thread_id)
            return graph_state.update(graph, update, checkpointer=saver, store=means.store)

        with self._question():
            done = await self._in_lane(update.graph_id, self._setup.inspect_s, write)
            await store_values(self._connections, update.thread_id, done.values, held=held)
        return done.answer, done.interrupts, done.has_next

    @repeatable
    async def settle(
        self, graph_id: str, thread_id: str, held: tuple[int, int]
    ) -> tuple[bytes, bool]:
        """Brings a thread's record in line with its checkpoints, after a kill or a rollback.

        Args:
            held: as for `update`.

        Returns:
            the thread's interrupts, and whether it has a next step.

        Raises:
            Unanswered: the graph takes longer than `SETTLE_S`; nothing was written, nor will be.
            DatabaseUnavailable: likewise, and PostgreSQL does not answer either.
            Replaced: another one is to be asked.
        """
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "graph_id": graph_id}}

        async def read(graph: LoadedGraph, means: Means) -> tuple[bytes | None, bytes, bool]:
            opened = graph.open(config, checkpointer=means.saver(thread_id), store=means.store)
            async with opened as ready:
                return await graph_state.head_state(ready, config)

        with self._question():
            values, interrupts, has_next = await self._in_lane(graph_id, SETTLE_S, read)
            # Not in the lane, where user code could delay it until another run is on the thread.
            await store_values(self._connections, thread_id, values, held=held)
        return interrupts, has_next

    @repeatable
    async def prune(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoint of each namespace. No user code, so no lane.

        Raises:
            BadRequest: the thread's state is rebuilt from older checkpoints.
        """
        with self._question():
            try:
                saver = PooledSaver(self._connections, thread_id=thread_id)
                await saver.aprune([thread_id], strategy="keep_latest")
            except NotImplementedError as error:
                raise BadRequest(str(error)) from None

    @contextmanager
    def _question(self) -> Generator[None, None, None]:
        """Around everything that the process must not leave before it is answered."""
        if self._leaving:
            raise Replaced(self._setup.name)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _in_lane(
        self,
        graph_id: str,
        within_s: float,
        work: Callable[[LoadedGraph, Means], Awaitable[T]],
    ) -> T:
        if graph_id not in self._graphs and not self._takes_shipped:
            raise NotFound(f"Graph '{graph_id}' is not served here.")
        lane = self._lane(graph_id)
        try:
            return await lane.do(lambda means: work(self._graph(graph_id, means), means), within_s)
        except Unanswered:
            if not await self._database_answers():
                # No graph is to blame, and who asks again is answered in the end.
                raise DatabaseUnavailable("PostgreSQL does not answer.") from None
            raise
        finally:
            if lane.is_stuck and not self._stuck.done():
                log.error(
                    "A graph's code does not come back: the inspector is to be replaced.",
                    extra={"action": "inspector_stuck", "graph_id": graph_id},
                )
                self._stuck.set_result(None)

    async def _database_answers(self) -> bool:
        async def ask() -> None:
            async with self._connections.connection() as connection:
                await connection.execute("SELECT 1")

        # Not cancelled: to cancel a query takes the server, which is what may be missing. And one
        # for all: it holds a connection until the server is back.
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(ask())
        probe = self._probe
        await asyncio.wait({probe}, timeout=PROBE_S)
        return probe.done() and probe.exception() is None

    def _graph(self, graph_id: str, means: Means) -> LoadedGraph:
        return self._graphs.get(graph_id) or means.shipped.graph(graph_id)

    def _lane(self, graph_id: str) -> Lane:
        lane = self._lanes.pop(graph_id, None) or Lane(graph_id, self._means)
        self._lanes[graph_id] = lane  # the last used is the last
        if len(self._lanes) > MOST_LANES:
            idle = next((each for each in self._lanes.values() if each.is_idle), None)
            if idle is not None and idle is not lane:
                del self._lanes[idle.graph_id]
                idle.close()
        return lane

    async def _means(self) -> Means:
        pool = await self._open_pool(min_size=0)
        store: Any = pool
        return Means(pool, Saving(pool), AsyncPostgresStore(store), ShippedGraphs(pool))

    async def _open_pool(self, *, min_size: int) -> Pool:
        return await open_pool(
            self._setup.dsn,
            application_name=f"greenroom:{self._setup.name}",
            min_size=min_size,
            max_size=LANE_CONNECTIONS,
        )

    @property
    def _connections(self) -> Pool:
        assert self._pool is not None
        return self._pool

    # --- control -------------------------------------------------------------------------------

    @repeatable
    async def beat(self, epoch: int) -> None:
        """The registry is there."""
        if epoch < self._epoch:
            raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
        self._epoch = epoch
        self._guard.hear()

    @repeatable
    async def adopt(self, epoch: int) -> tuple[PoolSpec, int, list[tuple[str, int]]]:
        """A registry that has just started asks who is here: placement, process id, no runs.

        Raises:
            Unavailable: it has not loaded its graphs, or was to be replaced.
        """
        await self.beat(epoch)
        if self._pool is None or self._stuck.done():
            raise Unavailable("This inspector cannot be taken over.")
        return self._setup.spec, os.getpid(), []

    @long_poll
    async def alive(self) -> None:
        """Answers when this process should be replaced; fails when it is dead."""
        await asyncio.shield(asyncio.wrap_future(self._stuck))

    @repeatable
    async def leave(self) -> None:
        """Takes no more questions; returns when those under way are answered."""
        self._leaving = True
        while self._under_way:  # noqa: ASYNC110 - they end on another loop
            await asyncio.sleep(0.05)
