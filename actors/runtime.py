"""The gateway's way to registry and run actors: `greenroom.core.ports.Runtime` on Ray.

A stream is one outstanding long poll that follows its run: from the line, to its actor, to the
actor of the next attempt, to the durable tail when there is no actor any more. A reader's cursor
is a sequence number that only grows, also across attempts, so each hop continues where the last one
ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, LiteralString, TypeVar

import ray

from actors import metrics
from actors.asking import Asker, Duty
from actors.handles import REGISTRY, ActorGone, Handles, registry_name
from actors.registry import ANY_ATTEMPT, Whereabouts
from actors.watching import Doing, thread_frames
from greenroom import tracing
from greenroom.core import metering
from greenroom.core.batching import Batcher
from greenroom.core.errors import NotFound, Unavailable
from greenroom.core.events import LIVE, Event, first_seq
from greenroom.core.ports import HistoryQuestion, Question, StateQuestion, Update
from greenroom.core.runs import (
    Batch,
    CancelAction,
    CancelRequest,
    CreatedRun,
    Ending,
    Placement,
    RunRequest,
    RunStatus,
)
from greenroom.core.sharding import Misrouted, slot_of_run, slot_of_thread
from greenroom.persistence import tails
from greenroom.persistence.database import Connection, Pool, retrying
from greenroom.wire import sse
from greenroom.wire.encoding import dumps, loads

log = logging.getLogger("greenroom.runtime")

REGISTRY_PATIENCE_S = 30.0
HELLO_WAIT_S = 1.0
REPLAY_PAGE = 1000
UNREACHABLE_PAUSE_S = 0.2
SHAPES_KEPT = 500

T = TypeVar("T")


class RayRuntime:
    """Runs as Ray actors.

    Args:
        handles: of the server's namespace.
        database: for the durable events of resumable runs, and the outcome of runs long over.
        shards: how many registries there are.
        read_wait_s: how long one long poll waits.
        fixed_graphs: those whose code cannot be replaced while the server runs.
    """

    def __init__(
        self,
        handles: Handles,
        database: Pool,
        *,
        shards: int,
        read_wait_s: float,
        fixed_graphs: frozenset[str],
    ) -> None:
        self._handles = handles
        self._database = database
        self._shards = shards
        self._read_wait_s = read_wait_s
        self._fixed_graphs = fixed_graphs
        self._batchers: dict[tuple[int, str], Batcher[Any, Any]] = {}
        self._asker = Asker(
            handles,
            Duty.READS,
            name=lambda duty: self._shard(0, "inspector", duty),
            apart=lambda *asked: self._shard(0, "ask_apart", *asked),
        )
        self._shapes: dict[str, bytes] = {}

    # --- registries ----------------------------------------------------------------------------

    async def _registry(self, slot: int, method: str, *args: Any) -> Any:
        """Calls the registry that has a slot."""
        return await self._routed(slot, lambda shard: self._shard(shard, method, *args))

    async def _gathered(self, thread_id: str, method: str, item: Any) -> Any:
        """Sends an item to its thread's registry, with whatever else there is for that."""

        async def send(shard: int) -> Any:
            batcher = self._batchers.get((shard, method))
            if batcher is None:
                batcher = self._batchers[shard, method] = Batcher(
                    lambda items: self._shard(shard, method, items)
                )
            return await batcher.submit(item)

        return await self._routed(slot_of_thread(thread_id), send)

    async def _every(self, method: str, *args: Any) -> list[Any]:
        """Calls every registry."""
        while True:
            calls = (self._shard(shard, method, *args) for shard in range(self._shards))
            try:
                return await asyncio.gather(*calls)
            except Misrouted as error:
                self._shards = error.shards

    async def _routed(self, slot: int, call: Callable[[int], Awaitable[T]]) -> T:
        while True:
            try:
                return await call(slot % self._shards)
            except Misrouted as error:
                # A later start has another number of registries, or the run's id told nothing.
                self._shards = error.shards
                slot = slot if error.slot is None else error.slot

    async def _shard(self, shard: int, method: str, *args: Any) -> Any:
        """Calls a registry, again while it restarts: every call is repeatable.

        Raises:
            Misrouted: there are not as many registries any more.
        """
        name = registry_name(shard)
        deadline_s = asyncio.get_running_loop().time() + REGISTRY_PATIENCE_S
        while True:
            try:
                return await self._handles.call(name, method, *args)
            except (ActorGone, Unavailable) as error:
                self._handles.forget(name)
                if asyncio.get_running_loop().time() > deadline_s:
                    raise Unavailable("The server is restarting. Try again in a moment.") from error
                await asyncio.sleep(0.1)
            if shard:
                await self._refuse_unless_there(shard)

    async def _refuse_unless_there(self, shard: int) -> None:
        # Bounded: the first one may be restarting for longer than this one.
        with suppress(ActorGone, Unavailable, TimeoutError):
            async with asyncio.timeout(HELLO_WAIT_S):
                hello = await self._handles.call(REGISTRY, "hello")
            if shard >= hello["shards"]:
                raise Misrouted("There is no such registry any more.", hello["shards"])

    # --- runs ----------------------------------------------------------------------------------

    async def create(self, request: RunRequest) -> CreatedRun:
        with tracing.span("create", kind="client", run_id=request.run_id):
            return await self._gathered(request.thread_id, "create_many", request)

    async def cancel(self, request: CancelRequest, *, wait: bool) -> None:
        await self._gathered(request.thread_id, "cancel_many", request)
        if wait:
            await self._until_over(request.run_id)

    async def cancel_many(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        return sum(await self._every("cancel_all", status, action))

    async def _follow(self, run_id: str, attempt: int) -> Whereabouts:
        while True:
            found = await self._registry(
                slot_of_run(run_id), "follow", run_id, attempt, self._wait_s()
            )
            if found is not None:
                return found

    async def _until_over(self, run_id: str) -> RunStatus | None:
        return (await self._follow(run_id, ANY_ATTEMPT)).status

    def _wait_s(self) -> float:
        # Jitter: streams that began together must not ask again together for ever.
        return self._read_wait_s * random.uniform(0.8, 1.2)

    async def events(
        self,
        run_id: str,
        *,
        placement: Placement | None,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
        resumable: bool,
    ) -> AsyncIterator[Batch]:
        attempt = 0
        while True:
            if placement is None:
                found = await self._follow(run_id, attempt)
                if found.placement is None:
                    break
                placement = found.placement
            attempt = placement.attempt
            if resumable and after != LIVE:
                # An earlier attempt's events are in the tail only, and no actor has them.
                async for batch in self._replayed(run_id, after, modes, with_ids, before=attempt):
                    after = batch.cursor
                    if batch.body:
                        yield batch
            async for batch in self._live(run_id, placement, after, modes, with_ids):
                after = batch.cursor
                if batch.body:
                    yield batch
                if batch.closed and batch.known:
                    return
            placement = None
        if resumable and after != LIVE:
            async for batch in self._replayed(run_id, after, modes, with_ids, before=ANY_ATTEMPT):
                after = batch.cursor
                if batch.body:
                    yield batch
        if resumable or attempt:
            batch = await self._untold_error(run_id, after, modes, with_ids)
            if batch is not None:
                yield batch

    async def _live(
        self,
        run_id: str,
        placement: Placement,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
    ) -> AsyncIterator[Batch]:
        """What one attempt's actor has; ends with its log, or with the actor."""
        try:
            while True:
                wait_s = self._wait_s()
                try:
                    batch: Batch = await self._handles.call(
                        placement.actor,
                        "read",
                        *(run_id, placement.attempt, after, wait_s, modes, with_ids),
                    )
                except Unavailable:
                    # Its node was lost, perhaps: Ray's notice of that takes longer than the
                    # connection. A read may be repeated, and the stream's heartbeats go on.
                    await asyncio.sleep(UNREACHABLE_PAUSE_S)
                    continue
                after = batch.cursor
                yield batch
                if batch.closed:
                    return
        except ActorGone:
            self._handles.forget(placement.actor)

    async def _replayed(
        self,
        run_id: str,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
        *,
        before: int,
    ) -> AsyncIterator[Batch]:
        """The durable events of the attempts before ``before``.

        An ``error`` that something follows was no end: its attempt died before it was reported.
        """
        error: list[Event] = []
        while True:
            page = await tails.read(self._database, run_id, after, REPLAY_PAGE)
            events = [event for event in page if event.attempt < before]
            if not events:
                break
            after = events[-1].seq
            error = [events[-1]] if events[-1].name == "error" else []
            yield _batch([e for e in events if e.name != "error"], after, modes, with_ids)
        if error and before == ANY_ATTEMPT:
            yield _batch(error, after, modes, with_ids)

    async def _untold_error(
        self, run_id: str, after: int, modes: frozenset[str] | None, with_ids: bool
    ) -> Batch | None:
        """The ``error`` event of a run that failed without an actor to say so."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT attempt, error::text AS error,
                    (extract(epoch FROM updated_at) * 1000)::bigint AS at_ms
                FROM greenroom.runs WHERE run_id = %s AND status IN ('error', 'timeout')""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None or row["error"] is None:
            return None
        error = row["error"].encode()
        # After everything that the last attempt can have said.
        seq = first_seq(row["attempt"] + 1)
        if after >= seq or await tails.has(
            self._database, run_id, "error", error, whole=True, before=seq
        ):
            return None
        return _batch([Event(seq, row["at_ms"], "error", error)], seq, modes, with_ids)

    async def thread_events(
        self, thread_id: str, *, after: str | None, modes: frozenset[str]
    ) -> AsyncIterator[bytes]:
        async def poll(number: int | None) -> list[Doing]:
            slot = slot_of_thread(thread_id)
            return await self._registry(slot, "doings", thread_id, number, self._wait_s())

        def follow(placement: Placement, *, after: int, resumable: bool) -> AsyncIterator[Batch]:
            return self.events(
                placement.run_id,
                placement=placement,
                after=after,
                modes=None,
                with_ids=True,
                resumable=resumable,
            )

        async def state() -> bytes:
            async with self._database.connection() as connection:
                cursor = await connection.execute(
                    "SELECT metadata->>'graph_id' AS graph_id FROM greenroom.threads"
                    " WHERE thread_id = %s",
                    (thread_id,),
                )
                row = await cursor.fetchone()
            graph_id = (row or {}).get("graph_id")
            return await self.ask(StateQuestion(graph_id=str(graph_id), thread_id=thread_id))

        async for frames in thread_frames(
            poll, follow, self._until_over, state, thread_id, after=after, modes=modes
        ):
            yield frames

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Ending:
        if over:
            return await self._stored_outcome(run_id)
        attempt = 0
        while True:
            if placement is None:
                found = await self._follow(run_id, attempt)
                if found.placement is None:
                    return await self._stored_outcome(run_id)
                placement = found.placement
            attempt = placement.attempt
            try:
                while True:
                    wait_s = self._wait_s()
                    try:
                        ending: Ending | None = await self._handles.call(
                            placement.actor, "outcome", run_id, attempt, wait_s
                        )
                    except Unavailable:
                        await asyncio.sleep(UNREACHABLE_PAUSE_S)
                        continue
                    if ending is not None:
                        return ending
            except ActorGone:
                self._handles.forget(placement.actor)
            except NotFound:
                pass  # the actor has forgotten it, or handed it on
            placement = None

    async def _stored_outcome(self, run_id: str) -> Ending:
        """How a run ended that no actor remembers: from its record and its thread's."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                """
                SELECT r.status, r.error::text AS error, t."values"::text AS "values",
                    t.interrupts::text AS interrupts, t.status AS thread_status
                FROM greenroom.runs r LEFT JOIN greenroom.threads t USING (thread_id)
                WHERE r.run_id = %s""",
                (run_id,),
            )
            row = await cursor.fetchone()
        if row is None:
            raise NotFound("Run not found")
        values = (row["values"] or "null").encode()
        error = row["error"].encode() if row["error"] is not None else None
        interrupts = (row["interrupts"] or "{}").encode()
        return Ending(
            status=RunStatus(row["status"]),
            output=(
                b'{"__error__": %b}' % error
                if error is not None
                else _with_interrupts(values, interrupts)
            ),
            values=values,
            interrupts=interrupts,
            has_next=row["thread_status"] == "interrupted",
            error=error,
        )

    # --- graphs and state ----------------------------------------------------------------------

    async def ask(self, question: Question) -> bytes:
        asks_state = isinstance(question, StateQuestion | HistoryQuestion)
        if asks_state or question.graph_id not in self._fixed_graphs:
            return await self._ask(question)
        # What a graph looks like does not change while its code is loaded.
        key = repr(question)
        if key not in self._shapes:
            if len(self._shapes) >= SHAPES_KEPT:
                self._shapes.clear()
            self._shapes[key] = await self._ask(question)
        return self._shapes[key]

    async def _ask(self, question: Question) -> bytes:
        return await self._asker.ask(question.graph_id, "ask", question)

    async def update_state(self, update: Update) -> bytes:
        # By reference: the registry orders the update among the runs, its values need not pass it.
        reference = ray.put(update)
        slot = slot_of_thread(update.thread_id)
        return await self._registry(slot, "update_state", update.thread_id, [reference])

    async def copy_thread(self, thread_id: str, copy_id: str) -> None:
        await self._registry(slot_of_thread(thread_id), "copy_thread", thread_id, copy_id)

    async def delete_thread(self, thread_id: str) -> None:
        # Asked here, since a deletion whose answer got lost is asked for again.
        if not await self._is_there("threads WHERE thread_id = %s", thread_id):
            raise NotFound(f"Thread with ID {thread_id} not found")
        await self._registry(slot_of_thread(thread_id), "delete_thread", thread_id)

    async def prune_thread(self, thread_id: str) -> None:
        await self._registry(slot_of_thread(thread_id), "prune_thread", thread_id)

    async def delete_run(self, thread_id: str, run_id: str) -> None:
        if not await self._is_there("runs WHERE thread_id = %s AND run_id = %s", thread_id, run_id):
            raise NotFound("Run not found")
        await self._registry(slot_of_thread(thread_id), "delete_run", thread_id, run_id)

    async def _is_there(self, which: LiteralString, *ids: str) -> bool:
        async def select(connection: Connection) -> bool:
            cursor = await connection.execute(f"SELECT 1 FROM greenroom.{which}", ids)
            return await cursor.fetchone() is not None

        return await retrying(self._database, select)

    async def info(self) -> dict[str, Any]:
        first, *others = await self._every("info")
        for info in others:
            # Counts add up, lists have all.
            first = {key: value + info[key] for key, value in first.items()}
        return first

    async def metrics(self) -> str:
        return metering.text(metrics.ALL, await self._every("counted"))


def _batch(events: list[Event], cursor: int, modes: frozenset[str] | None, with_ids: bool) -> Batch:
    frames = (sse.frame(event, with_ids) for event in events if sse.passes(event.name, modes))
    return Batch(body=b"".join(frames), cursor=cursor, closed=False)


def _with_interrupts(values: bytes, interrupts: bytes) -> bytes:
    """What ``wait`` answers of a thread's record: its values, and what it waits for."""
    waiting = [one for of_task in loads(interrupts).values() for one in of_task]
    if not waiting:
        return values
    state = loads(values)
    return dumps({**(state if isinstance(state, dict) else {}), "__interrupt__": waiting})
