"""What a gateway answers about runs that are executed, for people: overview, stack, pauses."""

from __future__ import annotations

from typing import Any

from actors.calls.directory import Handles
from actors.gateway.machines import Machines
from actors.gateway.overview import put_together, threads_of
from actors.gateway.routing import Registries
from actors.gateway.stacks import stacks
from actors.registry.executed_runs import Executed
from greenroom.core.errors import RUN_NOT_FOUND, GreenroomError, NotFound
from greenroom.core.nodes import NodeNote, unpacked
from greenroom.core.pausing import Pause, PauseAnswer, PauseRequest
from greenroom.core.scopes import Scope
from greenroom.core.sharding import hash_slot_of_thread
from greenroom.persistence.database import Pool
from greenroom.persistence.scoped import is_thread, threads_within

NOTES_S = 1.0
"""How long an actor may take to say what an attempt has executed."""


class Watched:
    """The part of `greenroom.core.ports.Runtime` for people who watch a server."""

    _handles: Handles
    _machines: Machines
    _registries: Registries
    _database: Pool

    async def overview(self, *, scope: Scope) -> dict[str, Any]:
        parts = await self._registries.every("overview")
        readable = None
        if not scope.is_everything:
            readable = await threads_within(self._database, threads_of(parts), scope)
        return await put_together(parts, self._handles, self._machines, readable)

    async def notes(self, run_id: str, attempt: int, actor: str) -> list[NodeNote] | None:
        try:
            found = await self._handles.call(actor, "notes", run_id, attempt, within_s=NOTES_S)
        except GreenroomError:
            return None
        return None if found is None else [unpacked(note) for note in found]

    async def pause(self, request: PauseRequest, *, scope: Scope) -> Pause | None:
        is_within = scope.is_everything or await is_thread(self._database, request.thread_id, scope)
        if not is_within:
            raise NotFound(RUN_NOT_FOUND)
        answer: PauseAnswer = await self._registries.answered(
            request.thread_id, "pause_many", request
        )
        return answer.pause

    async def stack(self, thread_id: str, run_id: str, *, scope: Scope) -> dict[str, Any]:
        if not scope.is_everything and not await is_thread(self._database, thread_id, scope):
            raise NotFound(RUN_NOT_FOUND)
        where: Executed = await self._registries.call(
            hash_slot_of_thread(thread_id), "executed", thread_id, run_id
        )
        readable = {run_id, *where.threads}
        if not scope.is_everything:
            threads = await threads_within(self._database, {*where.threads.values()}, scope)
            readable = {run for run, thread in where.threads.items() if thread in threads}
        return await stacks(self._handles, self._machines, run_id, where, readable)
