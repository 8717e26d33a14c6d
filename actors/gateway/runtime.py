"""The gateway's calls of registries and actors: `greenroom.core.ports.Runtime` on Ray.

`actors.gateway.streams` describes how a gateway reads a run across its attempts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import ray

from actors.calls.answers import CALL_S, LONG_CALL_S, POLL_MARGIN_S, repeat
from actors.calls.directory import Handles
from actors.common import metering
from actors.gateway.machines import Machines
from actors.gateway.routing import REGISTRY_PATIENCE_S, Registries
from actors.gateway.streams import Streams
from actors.gateway.thread_logs import ThreadLogs
from actors.gateway.thread_streams import thread_frames
from actors.gateway.watched import Watched
from actors.inspector.asking import Asker, Duty
from actors.registry.activity import Activity
from greenroom import tracing
from greenroom.core.crons import Cron
from greenroom.core.errors import (
    RUN_NOT_FOUND,
    THREAD_OR_ASSISTANT_NOT_FOUND,
    Conflict,
    DatabaseUnavailable,
    NotFound,
    Unavailable,
)
from greenroom.core.inputs import NewInput, SaidInput
from greenroom.core.ports import HistoryQuestion, InputQuestion, Question, StateQuestion, Update
from greenroom.core.runs import (
    UNTIL_END,
    Batch,
    CancelAction,
    CancelRequest,
    CreatedRun,
    Outcome,
    Placement,
    RunLocation,
    RunRequest,
    RunStatus,
)
from greenroom.core.scopes import SERVER, Scope
from greenroom.core.sharding import hash_slot_of_run, hash_slot_of_thread
from greenroom.core.store import Vectors
from greenroom.core.thread_log import LogPart
from greenroom.graphs.store_section import EMBED
from greenroom.persistence import assistant_deletions
from greenroom.persistence.database import Pool
from greenroom.persistence.scoped import graph_of, is_run, is_thread, runs_in_flight
from greenroom.persistence.thread_runs import BegunRun, StoredRuns
from greenroom.sealing import UNSEALED, Sealing

log = logging.getLogger("greenroom.runtime")

SHAPES_KEPT = 500
THREADS_WAIT_S = 30.0
"""How long a client waits for the deletion of an assistant's threads, which then goes on."""


class RayRuntime(Watched):
    """Runs as Ray actors.

    Args:
        handles: the directory of the server's namespace.
        database: holds the durable events of resumable runs, and the outcomes of old runs.
        shards: the number of registries.
        read_wait_s: the wait of one long poll in seconds, before jitter.
        fixed_graphs: the graphs whose code cannot be replaced while the server runs.
        sealing: opens what is stored sealed.
    """

    def __init__(
        self,
        handles: Handles,
        database: Pool,
        *,
        shards: int,
        read_wait_s: float,
        fixed_graphs: frozenset[str],
        sealing: Sealing = UNSEALED,
    ) -> None:
        self._database = database
        self._handles = handles
        self._machines = Machines()
        self._registries = Registries(handles, shards)
        self._read_wait_s = read_wait_s
        self._fixed_graphs = fixed_graphs
        self._streams = Streams(
            handles, database, self._follow, self._wait_s, self._state, sealing=sealing
        )
        self._logs = ThreadLogs(database, self._streams, self._activity)
        self._asker = Asker(
            handles,
            Duty.READS,
            name=lambda duty: self._registries.shard(0, "inspector", duty),
            apart=lambda *asked: self._registries.shard(0, "ask_apart", *asked),
        )
        self._shapes: dict[str, bytes] = {}

    # --- runs ----------------------------------------------------------------------------------

    async def create(self, request: RunRequest) -> CreatedRun:
        with tracing.span("create", kind="client", run_id=request.run_id):
            if not request.temporary and not await self._is_free(request.thread_id, request.scope):
                # Before the registry decides: a busy thread of somebody else is not there either.
                raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
            return await self._registries.answered(request.thread_id, "create_many", request)

    async def cancel(self, request: CancelRequest, *, wait: bool, scope: Scope) -> None:
        if not await self._is_within(request.thread_id, scope):
            raise NotFound(RUN_NOT_FOUND)
        await self._registries.answered(request.thread_id, "cancel_many", request)
        if wait:
            await self.until_over(request.run_id)

    async def say(self, new: NewInput, *, scope: Scope) -> SaidInput:
        if not await self._is_within(new.thread_id, scope):
            raise NotFound(RUN_NOT_FOUND)
        return await self._registries.answered(new.thread_id, "say_many", new)

    async def cancel_many(
        self,
        status: Literal["pending", "running", "all"],
        action: CancelAction,
        *,
        scope: Scope,
    ) -> int:
        if not scope.is_everything:
            return await self._cancel_within(status, action, scope)
        return sum(await self._registries.every("cancel_all", status, action))

    async def _cancel_within(
        self, status: Literal["pending", "running", "all"], action: CancelAction, scope: Scope
    ) -> int:
        found = await runs_in_flight(self._database, status, scope)
        wanted = [
            CancelRequest(thread_id=thread_id, run_id=run_id, action=action)
            for thread_id, run_id in found
        ]
        outcomes = await asyncio.gather(
            *(self._registries.answered(one.thread_id, "cancel_many", one) for one in wanted),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, NotFound | Conflict):
                raise outcome
        return sum(not isinstance(outcome, BaseException) for outcome in outcomes)

    async def delete_assistant(
        self, assistant_id: str, *, threads: Scope | None, scope: Scope
    ) -> None:
        name = str(uuid.uuid4())
        if not await assistant_deletions.begin(
            self._database, name, assistant_id, threads=threads, scope=scope
        ):
            raise NotFound(f"Assistant with ID {assistant_id} not found")
        try:
            await self._registries.every("delete_assistant", name, THREADS_WAIT_S)
        except Unavailable as error:
            # It is durable, and a registry that comes back finds it by itself. A refusal would be
            # repeated, and then meet no assistant.
            log.warning("a registry is told later", extra={"reason": error.message})

    async def _follow(self, run_id: str, attempt: int) -> RunLocation:
        while True:
            found = await self._polled(hash_slot_of_run(run_id), "follow", run_id, attempt)
            if found is not None:
                return found

    async def _polled(self, hash_slot: int, method: str, *args: Any) -> Any:
        """Long-polls a registry; repeats while the database is unavailable, within
        `REGISTRY_PATIENCE_S`."""
        wait_s = self._wait_s()
        within_s = wait_s + POLL_MARGIN_S + CALL_S
        return await repeat(
            lambda: self._registries.call(hash_slot, method, *args, wait_s, within_s=within_s),
            on=(DatabaseUnavailable,),
            bound_s=REGISTRY_PATIENCE_S,
        )

    async def until_over(self, run_id: str) -> RunStatus | None:
        return (await self._follow(run_id, UNTIL_END)).status

    def _wait_s(self) -> float:
        # Jitter: streams that began together must not poll together for ever.
        return self._read_wait_s * random.uniform(0.8, 1.2)

    def events(
        self,
        run_id: str,
        *,
        placement: Placement | None,
        after: int,
        modes: frozenset[str] | None,
        with_ids: bool,
        resumable: bool,
    ) -> AsyncIterator[Batch]:
        return self._streams.events(
            run_id,
            placement=placement,
            after=after,
            modes=modes,
            with_ids=with_ids,
            resumable=resumable,
        )

    def thread_events(
        self, thread_id: str, *, after: str | None, modes: frozenset[str], scope: Scope
    ) -> AsyncIterator[bytes]:
        async def poll(number: int | None) -> list[Activity]:
            return await self._activity(thread_id, number)

        def follow(run: BegunRun, *, after: int) -> AsyncIterator[Batch]:
            placement = None
            if run.actor is not None:
                # Also if the run is over: its actor may still have its log.
                placement = Placement(run_id=run.run_id, attempt=run.attempt, actor=run.actor)
            return self._streams.events(
                run.run_id,
                placement=placement,
                after=after,
                modes=None,
                with_ids=True,
                resumable=run.resumable,
                started_us=run.started_us,
            )

        async def state() -> bytes | None:
            graph_id = await graph_of(self._database, thread_id, scope)
            return None if graph_id is None else await self._state(graph_id, thread_id)

        return thread_frames(
            poll,
            StoredRuns(self._database, thread_id, scope=scope),
            follow,
            self.until_over,
            state,
            thread_id,
            after=after,
            modes=modes,
        )

    async def _activity(self, thread_id: str, number: int | None) -> list[Activity]:
        return await self._polled(hash_slot_of_thread(thread_id), "activity", thread_id, number)

    def thread_log(self, thread_id: str, *, since: int, scope: Scope) -> AsyncIterator[LogPart]:
        return self._logs.read(thread_id, since=since, scope=scope)

    async def outcome(
        self, run_id: str, placement: Placement | None, *, over: bool = False
    ) -> Outcome:
        return await self._streams.outcome(run_id, placement, over=over)

    # --- graphs and state ----------------------------------------------------------------------

    async def ask(self, question: Question) -> bytes:
        asks_state = isinstance(question, StateQuestion | HistoryQuestion | InputQuestion)
        if asks_state or question.graph_id not in self._fixed_graphs:
            return await self._ask(question)
        # The shape of a graph does not change while its code is loaded.
        key = repr(question)
        if key not in self._shapes:
            if len(self._shapes) >= SHAPES_KEPT:
                self._shapes.clear()
            self._shapes[key] = await self._ask(question)
        return self._shapes[key]

    async def _state(self, graph_id: str, thread_id: str) -> bytes:
        return await self.ask(StateQuestion(graph_id=graph_id, thread_id=thread_id))

    async def _ask(self, question: Question) -> bytes:
        return await self._asker.ask(question.graph_id, "ask", question)

    async def embed_item(self, value: bytes, fields: Sequence[str] | None) -> Vectors:
        return await self._asker.ask(EMBED, "embed_item", value, fields)

    async def embed_query(self, text: str) -> list[float] | None:
        return await self._asker.ask(EMBED, "embed_query", text)

    async def update_state(self, update: Update, *, scope: Scope) -> bytes:
        await self._refuse_outside(update.thread_id, scope)
        # The id makes the update repeatable: the inspector looks for it before it applies it.
        update = dataclasses.replace(update, update_id=update.update_id or uuid.uuid4().hex)
        # By reference: the registry only orders the update among the runs and needs no values.
        reference = ray.put(update)
        hash_slot = hash_slot_of_thread(update.thread_id)
        return await self._registries.call(
            hash_slot,
            "update_state",
            update.thread_id,
            [reference, update.graph_id, update.update_id],
            within_s=LONG_CALL_S,
        )

    async def copy_thread(
        self, thread_id: str, copy_id: str, *, metadata: Mapping[str, Any], scope: Scope
    ) -> None:
        await self._refuse_outside(thread_id, scope)
        asked = [thread_id, copy_id, *([json.dumps(metadata)] if metadata else [])]
        await self._registries.call(
            hash_slot_of_thread(thread_id), "copy_thread", *asked, within_s=LONG_CALL_S
        )

    async def delete_thread(self, thread_id: str, *, scope: Scope) -> None:
        # Checked here, because the registry answers a repeated deletion as done.
        if not await is_thread(self._database, thread_id, scope):
            raise NotFound(f"Thread with ID {thread_id} not found")
        await self._registries.call(
            hash_slot_of_thread(thread_id), "delete_thread", thread_id, within_s=LONG_CALL_S
        )

    async def prune_thread(self, thread_id: str, *, scope: Scope) -> None:
        await self._refuse_outside(thread_id, scope)
        await self._registries.call(
            hash_slot_of_thread(thread_id), "prune_thread", thread_id, within_s=LONG_CALL_S
        )

    async def delete_run(self, thread_id: str, run_id: str, *, scope: Scope) -> None:
        if not await is_run(self._database, thread_id, run_id, scope):
            raise NotFound(RUN_NOT_FOUND)
        await self._registries.call(
            hash_slot_of_thread(thread_id), "delete_run", thread_id, run_id, within_s=LONG_CALL_S
        )

    async def save_cron(self, cron: Cron) -> bool:
        return await self._registries.call(hash_slot_of_thread(cron.owner), "save_cron", cron)

    async def delete_cron(self, cron_id: str, owner: str) -> None:
        await self._registries.call(hash_slot_of_thread(owner), "delete_cron", cron_id, owner)

    async def send_again(self, delivery_id: str, thread_id: str) -> None:
        await self._registries.call(
            hash_slot_of_thread(thread_id), "send_again", delivery_id, thread_id
        )

    async def _is_within(self, thread_id: str, scope: Scope) -> bool:
        """Returns whether a thread is in the scope; asks nobody if everything is."""
        return scope.is_everything or await is_thread(self._database, thread_id, scope)

    async def _is_free(self, thread_id: str, scope: Scope) -> bool:
        """Returns whether a thread does not exist, or is in the scope."""
        return await self._is_within(thread_id, scope) or not await is_thread(
            self._database, thread_id, SERVER
        )

    async def _refuse_outside(self, thread_id: str, scope: Scope) -> None:
        if not await self._is_within(thread_id, scope):
            raise NotFound(f"Thread with ID {thread_id} not found")

    async def info(self) -> dict[str, Any]:
        first, *others = await self._registries.every("info")
        for info in others:
            # Adds numbers and concatenates lists.
            first = {key: value + info[key] for key, value in first.items()}
        return first

    async def metrics(self) -> str:
        return metering.text(await self._registries.every("counted"))
