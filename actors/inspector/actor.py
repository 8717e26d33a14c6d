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
from actors.common.memory import watch_memory
from actors.common.placement import PoolSpec
from actors.common.setup import InspectorSetup
from actors.inspector.asking import SETTLE_S, Replaced
from actors.inspector.lanes import Lanes
from actors.inspector.loaded import Loaded, Means, loaded
from greenroom import tracing
from greenroom.core.errors import (
    BadRequest,
    Fenced,
    NotFound,
    Unavailable,
)
from greenroom.core.ports import Question, Update
from greenroom.core.runs import Settled
from greenroom.core.store import Vectors
from greenroom.graphs import state as graph_state
from greenroom.graphs.embedding import Embedder
from greenroom.graphs.loading import LoadedGraph
from greenroom.graphs.state import Head
from greenroom.graphs.store_section import EMBED
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.json_columns import decode
from greenroom.persistence.values import store_values
from greenroom.sealing.runs import opened_run

log = logging.getLogger("greenroom.inspector")

T = TypeVar("T")


class Inspector:
    """Answers questions and settles threads.

    Args:
        setup: what the inspector is told when it is made.
        here: its graphs and connections; None: `prepare` loads them, which may fail, and an actor
            whose ``__init__`` raises is dead for good.

    Attributes:
        lanes: the threads of the graphs.
    """

    def __init__(self, setup: InspectorSetup, here: Loaded | None = None) -> None:
        # While user code computes, a control call waits for the interpreter's switch interval.
        sys.setswitchinterval(0.0005)
        self._setup = setup
        self._loaded = here
        self._epoch = 0
        self._stuck: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.lanes = Lanes(self._stuck)
        self._leaving = False
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
        self._loaded = await loaded(self._setup)
        freeze_startup_objects()
        watch_memory(self._loaded.pool)
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
                self._ready.pool,
                update.thread_id,
                done.values,
                held=held,
                sealing=self._ready.sealing,
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
                self._ready.pool, thread_id, head.values, held=held, sealing=self._ready.sealing
            )
        return Settled(
            interrupts=await self._sealed(head.interrupts),
            has_next=head.has_next,
            output_keys=head.output_keys,
        )

    async def _sealed(self, interrupts: bytes) -> bytes:
        """Seals interrupts for the thread's record, which the caller stores."""
        return await self._ready.sealing.apart(self._ready.sealing.seal_json, interrupts)

    @repeatable
    async def prune(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoint of each namespace. Runs no user code.

        Raises:
            BadRequest: the thread's state depends on older checkpoints.
            Replaced: the caller must ask another inspector.
        """
        with self._question():
            try:
                saver = PooledSaver(self._ready.pool, thread_id=thread_id)
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
        sealing = self._ready.sealing

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
        embedder = self._ready.embedder
        if embedder is None:
            raise NotFound("The configuration has no 'store.index'.")
        with self._question():
            try:
                return await self.lanes.do(
                    EMBED, self._ready, self._setup.inspect_s, lambda _: work(embedder)
                )
            finally:
                if embedder.is_hung:
                    self.lanes.note_stuck(EMBED)

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
        here = self._ready
        if graph_id not in here.graphs and not here.takes_shipped:
            raise NotFound(f"Graph '{graph_id}' is not served here.")

        def on_graph(means: Means) -> Awaitable[T]:
            return work(here.graphs.get(graph_id) or means.shipped.graph(graph_id), means)

        return await self.lanes.do(graph_id, here, within_s, on_graph)

    @property
    def _ready(self) -> Loaded:
        assert self._loaded is not None
        return self._loaded

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
        if self._loaded is None or self._stuck.done():
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
