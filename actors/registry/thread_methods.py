"""The methods of a registry about whole threads; `RegistryActor` has the others."""

from __future__ import annotations

from typing import Any

from actors.calls.answers import repeatable
from actors.registry.executed_runs import Executed, executed
from actors.registry.parts import Parts
from actors.registry.readiness import Readiness
from greenroom.core.sharding import Misrouted, Shard


class ThreadMethods:
    """Finds the registry's parts for a thread, and has its parts work on it."""

    readiness: Readiness
    _shard: Shard

    async def _ready_for(self, *thread_ids: str) -> Parts:
        """Raises Misrouted unless all the threads belong to this registry.

        A gateway may still use the number of registries from before the last redeploy.
        """
        parts = await self.readiness.parts()
        if not all(map(self._shard.has, thread_ids)):
            raise Misrouted("Another registry decides about this thread.", self._shard.of)
        return parts

    @repeatable
    async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
        """`ThreadOperations.update_state`."""
        parts = await self._ready_for(thread_id)
        return await parts.operations.update_state(thread_id, update)

    @repeatable
    async def copy_thread(self, thread_id: str, copy_id: str, metadata: str = "{}") -> None:
        """`ThreadOperations.copy`."""
        parts = await self._ready_for(thread_id)
        await parts.operations.copy(thread_id, copy_id, metadata)

    @repeatable
    async def delete_thread(self, thread_id: str) -> None:
        """`ThreadOperations.delete`."""
        parts = await self._ready_for(thread_id)
        await parts.operations.delete(thread_id)

    @repeatable
    async def prune_thread(self, thread_id: str) -> None:
        """`ThreadOperations.prune`."""
        parts = await self._ready_for(thread_id)
        await parts.operations.prune(thread_id)

    @repeatable
    async def delete_run(self, thread_id: str, run_id: str) -> None:
        """`ThreadOperations.delete_run`."""
        parts = await self._ready_for(thread_id)
        await parts.operations.delete_run(thread_id, run_id)

    @repeatable
    async def executed(self, thread_id: str, run_id: str) -> Executed:
        """`actors.registry.executed_runs.executed`."""
        parts = await self._ready_for(thread_id)
        return await executed(parts.context, thread_id, run_id)
