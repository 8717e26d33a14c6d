"""The actor that answers questions about graphs and states, and executes no run.

A question executes user code: the graph's factory and the code of its state. That code may hang,
block its thread or end the process, and must not affect other graphs. So

    each graph has a *lane*       a thread with its own event loop and connections: a factory that
                                  blocks delays only the questions about its own graph
    each question has a time-out  awaited code is then cancelled. If the lane stays blocked, it is
                                  given up, and the process asks for a replacement (`alive` answers)

Questions about other graphs continue meanwhile: `actors.registry.inspecting` first makes another
process, then calls `leave` here. That module also handles the death of an inspector.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig

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
from greenroom.core.runs import Settled
from greenroom.core.store import StoreSpec, Vectors
from greenroom.graphs import state as graph_state
from greenroom.graphs.embedding import Embedder, load_embedder
from greenroom.graphs.encryption import load_sealing
from greenroom.graphs.loading import LoadedGraph, load_graph
from greenroom.graphs.module_path import make_importable
from greenroom.graphs.state import Head
from greenroom.graphs.store_section import EMBED
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool, decode, open_pool
from greenroom.persistence.records import name_assistants
from greenroom.persistence.saving import Saving
from greenroom.persistence.serializing import StateSerializer
from greenroom.persistence.store import Store
from greenroom.persistence.values import store_values
from greenroom.sealing import UNSEALED
from greenroom.sealing.runs import opened_run

log = logging.getLogger("greenroom.inspector")

LANE_CONNECTIONS = 4
"""The limit of one lane's connections; an unused lane closes them after some minutes."""
MOST_LANES = 64
PROBE_S = 1.0

T = TypeVar("T")


class Inspector:
    """Answers questions and settles threads.

    `prepare` does the work that may fail: an actor whose ``__init__`` raises is dead for good.
    """

    def __init__(self, setup: InspectorSetup) -> None:
        # While user code computes, a control call waits for the interpreter's switch interval.
        sys.setswitchinterval(0.0005)
        self._setup = setup
        self._graphs: dict[str, LoadedGraph] = {}
        self._takes_shipped = False
        self._store_spec = StoreSpec()
        self._embedder: Embedder | None = None
        self._sealing = UNSEALED
        self._serde = StateSerializer()
        self._lanes: dict[str, Lane] = {}
        self._pool: Pool | None = None
        self._epoch = 0
        self._stuck: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._leaving = False
        self._probe: asyncio.Future[None] | None = None
        self._under_way = 0
        # At once: if the registry dies right after it made this actor, no registry knows of it.
        self._guard = Guard(silence_s=setup.registry_silence_s)

    # --- questions -----------------------------------------------------------------------------

    async def prepare(self) -> int:
        """Loads the graphs and connects to the database; returns the process id.

        Raises:
            ConfigurationError: a graph does not import; the message names it and the reason.
        """
        # Before the graphs: the logging set-up of their modules must come later.
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._setup.name)
        tracing.configure("actor", self._setup.name)
        configuration = configuration_of(self._setup)
        os.environ.update(configuration.env)
        for graph_id in self._setup.spec.graphs:
            self._graphs[graph_id] = load_graph(configuration, graph_id)
        self._store_spec = configuration.store
        self._embedder = load_embedder(configuration)
        if configuration.shipped_graphs:
            make_importable(configuration.import_paths)
        self._takes_shipped = configuration.shipped_graphs
        self._sealing = load_sealing(configuration, self._setup.encryption_keys)
        self._serde = StateSerializer(configuration.keeping, sealing=self._sealing)
        self._pool = await self._open_pool(min_size=1)
        await name_assistants(
            self._pool, {graph_id: graph.title for graph_id, graph in self._graphs.items()}
        )
        freeze_startup_objects()
        return os.getpid()

    @repeatable
    async def ask(self, question: Question) -> bytes:
        """Answers a question about a graph or a thread's state.

        Returns:
            the answer as JSON.

        Raises:
            Unanswered: the graph did not answer within the time-out.
            DatabaseUnavailable: the same, and PostgreSQL does not answer either.
            NotFound: the graph is not served here.
            Replaced: the caller must ask another inspector.
        """

        def answer(graph: LoadedGraph, means: Means) -> Awaitable[bytes]:
            saver = means.saver(getattr(question, "thread_id", ""))
            return graph_state.answer(graph, question, checkpointer=saver, store=means.store)

        with self._question():
            return await self._in_lane(question.graph_id, self._setup.inspect_s, answer)

    @repeatable
    async def update(self, update: Update, held: tuple[int, int]) -> tuple[bytes, bytes, bool]:
        """Changes a thread's state while the registry keeps runs off it; stores the new values.

        Repeatable: it looks for the update's id before it applies the update.

        Args:
            update: the change, with its id.
            held: the calling registry's epoch and shard number. If a newer registry has superseded
                the caller, the values are not stored.

        Returns:
            the answer for the client, the thread's interrupts as JSON, and whether the thread has
            a next step.

        Raises:
            Unanswered: the time-out is over; the change may or may not have been made.
            DatabaseUnavailable: the same, and PostgreSQL does not answer either.
            Replaced: the caller must ask another inspector; nothing was changed.
        """

        def write(graph: LoadedGraph, means: Means) -> Awaitable[Any]:
            saver = means.saver(update.thread_id)
            return graph_state.update(graph, update, checkpointer=saver, store=means.store)

        with self._question():
            done = await self._in_lane(update.graph_id, self._setup.inspect_s, write)
            await store_values(
                self._connections, update.thread_id, done.values, held=held, sealing=self._sealing
            )
        return done.answer, await self._sealed(done.interrupts), done.has_next

    @repeatable
    async def settle(self, graph_id: str, thread_id: str, held: tuple[int, int]) -> Settled:
        """Brings a thread's record in line with its checkpoints, e.g. after a kill or a rollback.

        Args:
            held: as in `update`.

        Raises:
            Unanswered: the graph takes longer than `SETTLE_S`; nothing is written, also not later.
            DatabaseUnavailable: the same, and PostgreSQL does not answer either.
            Replaced: the caller must ask another inspector.
        """
        config: RunnableConfig = {"configurable": {"thread_id": thread_id, "graph_id": graph_id}}

        async def read(graph: LoadedGraph, means: Means) -> Head:
            opened = graph.open(config, checkpointer=means.saver(thread_id), store=means.store)
            async with opened as ready:
                return await graph_state.head_state(ready, config)

        with self._question():
            head = await self._in_lane(graph_id, SETTLE_S, read)
            # Outside the lane: there user code could delay it until the next run has begun.
            await store_values(
                self._connections, thread_id, head.values, held=held, sealing=self._sealing
            )
        return Settled(
            interrupts=await self._sealed(head.interrupts),
            has_next=head.has_next,
            output_keys=head.output_keys,
        )

    async def _sealed(self, interrupts: bytes) -> bytes:
        """Seals interrupts for the thread's record, which the caller stores."""
        return await self._sealing.apart(self._sealing.seal_json, interrupts)

    @repeatable
    async def prune(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoint of each namespace. Runs no user code.

        Raises:
            BadRequest: the thread's state depends on older checkpoints.
            Replaced: the caller must ask another inspector.
        """
        with self._question():
            try:
                saver = PooledSaver(self._connections, thread_id=thread_id)
                await saver.aprune([thread_id], strategy="keep_latest")
            except NotImplementedError as error:
                raise BadRequest(str(error)) from None

    @repeatable
    async def open_stored(self, parts: Mapping[str, bytes]) -> dict[str, bytes]:
        """Opens sealed JSON of a delivery, which leaves the server.

        Args:
            parts: encoded JSON; ``kwargs`` are a run's.

        Raises:
            CannotOpen: a part is sealed and cannot be opened.
            Replaced: the caller must ask another inspector.
        """
        sealing = self._sealing

        def opened() -> dict[str, bytes]:
            return {
                name: opened_run(sealing, text) if name == "kwargs" else sealing.open_json(text)
                for name, text in parts.items()
            }

        with self._question():
            return await sealing.apart(opened)

    @repeatable
    async def embed_item(self, value: bytes, fields: Sequence[str] | None) -> Vectors:
        """Returns the vectors of an item of the store, for a client of the HTTP routes.

        Args:
            value: the item's value as JSON.
            fields: the paths to embed; None: those of the configuration.

        Raises:
            Unanswered: the embedding failed, hangs or exceeds the time-out.
            Replaced: the caller must ask another inspector.
        """

        async def embed(embedder: Embedder) -> Vectors:
            return await embedder.of_item(decode(value), fields)

        return await self._embedded(embed)

    @repeatable
    async def embed_query(self, text: str) -> list[float] | None:
        """Returns the vector of a query; None for a zero vector. Raises as `embed_item` does."""
        return await self._embedded(lambda embedder: embedder.of_query(text))

    async def _embedded(self, work: Callable[[Embedder], Awaitable[T]]) -> T:
        embedder = self._embedder
        if embedder is None:
            raise NotFound("The configuration has no 'store.index'.")
        with self._question():
            try:
                return await self._done_in_lane(
                    EMBED, self._setup.inspect_s, lambda _: work(embedder)
                )
            finally:
                self._note_stuck(EMBED, is_stuck=embedder.is_hung)

    @contextmanager
    def _question(self) -> Generator[None, None, None]:
        """Counts a question in progress; `leave` waits for it.

        Raises:
            Replaced: this inspector takes no more questions.
        """
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
        return await self._done_in_lane(
            graph_id, within_s, lambda means: work(self._graph(graph_id, means), means)
        )

    async def _done_in_lane(
        self, name: str, within_s: float, work: Callable[[Means], Awaitable[T]]
    ) -> T:
        lane = self._lane(name)
        try:
            return await lane.do(work, within_s)
        except Unanswered:
            if not await self._database_answers():
                # The graph is not to blame: a repeated question gets its answer later.
                raise DatabaseUnavailable("PostgreSQL does not answer.") from None
            raise
        finally:
            self._note_stuck(name, is_stuck=lane.is_stuck)

    def _note_stuck(self, graph_id: str, *, is_stuck: bool) -> None:
        if is_stuck and not self._stuck.done():
            log.error(
                "A graph's code does not come back: the inspector is to be replaced.",
                extra={"action": "inspector_stuck", "graph_id": graph_id},
            )
            self._stuck.set_result(None)

    async def _database_answers(self) -> bool:
        async def ask() -> None:
            async with self._connections.connection() as connection:
                await connection.execute("SELECT 1")

        # Not cancelled: the cancellation of a query needs the server, which may be down. Shared by
        # all questions: the probe holds a connection until the server is back.
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(ask())
        probe = self._probe
        await asyncio.wait({probe}, timeout=PROBE_S)
        return probe.done() and probe.exception() is None

    def _graph(self, graph_id: str, means: Means) -> LoadedGraph:
        return self._graphs.get(graph_id) or means.shipped.graph(graph_id)

    def _lane(self, graph_id: str) -> Lane:
        lane = self._lanes.pop(graph_id, None) or Lane(graph_id, self._means)
        self._lanes[graph_id] = lane  # in the order of last use
        if len(self._lanes) > MOST_LANES:
            idle = next((each for each in self._lanes.values() if each.is_idle), None)
            if idle is not None and idle is not lane:
                del self._lanes[idle.graph_id]
                idle.close()
        return lane

    async def _means(self) -> Means:
        pool = await self._open_pool(min_size=0)
        store = Store(pool, self._store_spec, self._embedder, sealing=self._sealing)
        return Means(pool, Saving(pool, self._sealing), self._serde, store, ShippedGraphs(pool))

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
        """Receives the registry's heartbeat.

        Raises:
            Fenced: the caller is an older registry.
        """
        if epoch < self._epoch:
            raise Fenced(f"registry epoch {epoch} was superseded by {self._epoch}")
        self._epoch = epoch
        self._guard.hear()

    @repeatable
    async def adopt(self, epoch: int) -> tuple[PoolSpec, int, list[tuple[str, int]]]:
        """Accepts a new registry and describes this inspector to it.

        Returns:
            the placement, the process id, and no runs.

        Raises:
            Unavailable: this inspector has not loaded its graphs, or needs a replacement.
            Fenced: the caller is an older registry.
        """
        await self.beat(epoch)
        if self._pool is None or self._stuck.done():
            raise Unavailable("This inspector cannot be taken over.")
        return self._setup.spec, os.getpid(), []

    @long_poll
    async def alive(self) -> None:
        """Answers when this process needs a replacement; fails when the process dies."""
        await asyncio.shield(asyncio.wrap_future(self._stuck))

    @repeatable
    async def leave(self) -> None:
        """Takes no more questions; returns when those in progress are answered."""
        self._leaving = True
        while self._under_way:  # noqa: ASYNC110 - they end on another loop
            await asyncio.sleep(0.05)
