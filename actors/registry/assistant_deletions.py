"""Carries out deletions of assistants: stops their runs, and deletes their threads if asked.

The record of the assistant is gone before (`greenroom.persistence.assistant_deletions`). An
admission that read it earlier is in this registry's memory by now, and one that comes later is
refused by the database. So the runs in memory are all that there will ever be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import psycopg

from actors.registry.cancelling import Cancellations
from actors.registry.context import Context
from actors.registry.in_flight import Run
from actors.registry.thread_operations import ThreadOperations
from greenroom.core.errors import DatabaseUnavailable, GreenroomError
from greenroom.persistence import assistant_deletions
from greenroom.persistence.assistant_deletions import Deletion

log = logging.getLogger("greenroom.registry")

BATCH = 100
AT_ONCE = 8
"""The number of threads that are deleted at once; each may wait for a run to stop."""


class AssistantDeletions:
    """The deletions of assistants, as far as this registry's runs and threads are concerned.

    Attributes:
        under_way: those that delete threads, by name.
    """

    def __init__(
        self, context: Context, cancellations: Cancellations, operations: ThreadOperations
    ) -> None:
        self._database = context.database
        self._shard = context.setup.shard
        self._tasks = context.tasks
        self._cancellations = cancellations
        self._operations = operations
        self.under_way: dict[str, asyncio.Task[bool]] = {}

    async def carry_out(self, name: str, wait_s: float) -> bool:
        """Stops the runs of a deleted assistant, and deletes its threads if that was asked for.

        Repeatable. The cancels are durable on return, and runs may still be stopping.

        Args:
            name: the deletion's name.
            wait_s: the longest wait for threads that are deleted. The work goes on afterwards.

        Returns:
            whether all its threads are deleted.

        Raises:
            DatabaseUnavailable, psycopg.Error: the database fails.
        """
        found = await assistant_deletions.unfinished(self._database, name)
        await self._stop_runs(found)
        for deletion in found:
            if not deletion.delete_threads:
                continue
            deleting = self._deleting(deletion)
            await asyncio.wait((deleting,), timeout=wait_s)
            if not deleting.done() or not deleting.result():
                return False
        return True

    async def sweep(self) -> None:
        """Continues the deletions that are not finished; threads are deleted in the background.

        Raises:
            DatabaseUnavailable, psycopg.Error: the database fails.
        """
        found = await assistant_deletions.unfinished(self._database)
        await self._stop_runs(found)
        for deletion in found:
            if deletion.delete_threads:
                self._deleting(deletion)

    async def take_up(self) -> None:
        """Continues what an earlier registry has left; the next sweep does what fails."""
        try:
            await self.sweep()
        except (DatabaseUnavailable, psycopg.Error) as error:
            log.warning("deletions of assistants wait", extra={"reason": str(error)[:200]})

    async def _stop_runs(self, deletions: Sequence[Deletion]) -> None:
        last: dict[str, Deletion] = {each.assistant_id: each for each in deletions}  # oldest first

        def has_it(run: Run) -> bool:
            deletion = last.get(run.assistant_id)
            return deletion is not None and deletion.covers(run.assistant_revision)

        stopped = await self._cancellations.cancel_each(has_it, "interrupt")
        if stopped:
            log.info(
                "Runs are stopped, since their assistant was deleted.",
                extra={"action": "assistant_deleted", "runs": stopped},
            )

    def _deleting(self, deletion: Deletion) -> asyncio.Task[bool]:
        """Returns the one task that deletes the threads of a deletion."""
        task = self.under_way.get(deletion.name)
        if task is None:
            task = self._tasks.spawn(self._delete_threads(deletion))
            self.under_way[deletion.name] = task
            task.add_done_callback(lambda _: self.under_way.pop(deletion.name, None))
        return task

    async def _delete_threads(self, deletion: Deletion) -> bool:
        """Deletes the threads; returns whether all are gone."""
        while True:
            found = await assistant_deletions.threads_of(
                self._database, deletion, limit=BATCH, shard=self._shard
            )
            if not found:
                return True
            one_of = asyncio.Semaphore(AT_ONCE)
            if not any(await asyncio.gather(*(self._delete(one_of, each) for each in found))):
                return False

    async def _delete(self, one_of: asyncio.Semaphore, thread_id: str) -> bool:
        async with one_of:
            try:
                await self._operations.delete(thread_id)
            except GreenroomError as error:  # the next sweep tries again
                log.warning(
                    "a thread of a deleted assistant is still there",
                    extra={"thread_id": thread_id, "reason": str(error)},
                )
                return False
            return True
