"""Operations on a whole thread while no run is on it: update, copy, prune, delete.

Each operation occupies the thread's lane, as a run does. Large work happens outside the registry's
commit (`greenroom.persistence.bulk`). A new registry continues unfinished operations
(`ThreadOperations.take_up`); until they are finished, no run starts on the thread.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from actors.registry.context import Context
from actors.registry.effects import Effects
from actors.registry.exclusion import Exclusion
from actors.registry.followers import Followers, stored_run
from actors.registry.turns import Turns
from greenroom.core.admission import Lane
from greenroom.core.errors import RUN_NOT_FOUND, BadRequest, Conflict, GreenroomError, NotFound
from greenroom.core.runs import RunStatus
from greenroom.core.threads import resting_status
from greenroom.persistence import journal, upkeep
from greenroom.persistence.bulk import Operation, operation_done

log = logging.getLogger("greenroom.thread_operations")


class ThreadOperations:
    """Performs the operations on a registry's threads.

    Attributes:
        turns: the operations under way.
    """

    def __init__(self, context: Context, effects: Effects, followers: Followers) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._waiters = context.waiters
        self._journal = context.journal
        self._bulk = context.bulk
        self._inspections = context.inspections
        self._activity = context.activity
        self._database = context.database
        self._tasks = context.tasks
        self._thread_ttl_s = context.setup.thread_ttl_s
        self._effects = effects
        self._followers = followers
        self._exclusion = Exclusion(context, effects)
        self.turns = Turns()

    async def _rest(
        self, thread_id: str, interrupts: bytes | None, *writes: journal.Write, has_next: bool
    ) -> None:
        """Updates the thread's record after a change of its state from outside."""
        rest = resting_status(RunStatus.SUCCESS, has_next=has_next)
        busy = self._lanes.has_runs(thread_id)  # a run admitted meanwhile waits for this
        await self._journal.commit(
            journal.rest_thread(thread_id, rest, interrupts, None, busy=busy),
            *writes,
            key=thread_id,
        )

    # --- update, copy, prune -------------------------------------------------------------------

    async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
        """Changes a thread's state.

        Args:
            thread_id: the thread.
            update: an ObjectRef of the change (its values may be large and need not pass through
                the registry), the id of the graph that applies it, and the id of the change.

        Returns:
            the answer for the client.

        Raises:
            Conflict: a run or another operation is in progress.
            Unanswered: the graph hangs, or ends the process that asks it.
        """

        # A repeated update waits for the same one, instead of being refused because of it.
        reference, graph_id, *update_id = update

        async def work() -> bytes:
            reply, interrupts, has_next = await self._inspections.update(graph_id, reference)
            await self._rest(thread_id, interrupts, has_next=has_next)
            self._activity.note(thread_id, "state")
            return reply

        async with self.turns.of(f"update {next(iter(update_id), object())}"):
            return await self._exclusion.during(thread_id, work)

    async def copy(self, thread_id: str, copy_id: str, metadata: str) -> None:
        """Copies a thread's record and checkpoints; the copy appears when it is complete.

        Repeatable. The copy may belong to another registry: no client knows its id yet.

        Args:
            thread_id: the thread.
            copy_id: the id of the new thread.
            metadata: JSON object, the new thread's own.

        Raises:
            Conflict: the thread does not exist, or a run or another operation is in progress.
            DatabaseUnavailable: the database is unavailable for longer than a client waits.
        """

        async def work() -> None:
            async with self.turns.of(copy_id):
                if not await self._bulk.copy_thread(thread_id, copy_id, metadata):
                    raise Conflict("Conflict")

        async with self.turns.of(f"copy {copy_id}"):  # as in `update_state`
            await self._exclusion.during(thread_id, work)

    async def prune(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoint of each namespace. Repeatable.

        Raises:
            Conflict: a run or another operation is in progress.
            BadRequest: the thread's state depends on older checkpoints.
        """
        await self._exclusion.during(thread_id, lambda: self._inspections.prune(thread_id))

    # --- delete --------------------------------------------------------------------------------

    async def delete(self, thread_id: str) -> None:
        """Cancels the thread's runs, waits for their end, then deletes the thread and its data.

        Repeatable: deleting a missing thread succeeds.
        """
        lane = self._lanes.of(thread_id)
        while lane.closing:
            # A request whose answer was lost is repeated, so this may be the same deletion.
            await self._waiters.until_told(thread_id)
            lane = self._lanes.of(thread_id)
        effects = lane.close()
        active = lane.active.run_id if lane.active is not None else None
        try:
            await self._effects.perform(lane, effects)
            if active is not None:
                await self._followers.until_over(active)
            while (operation := lane.exclusive) is not None:
                await self._waiters.until_told(operation)
            await self._delete_closed(thread_id)
        finally:
            self._reopen(lane)

    async def delete_expired(self, thread_id: str) -> bool:
        """Deletes a thread whose time to live is over, unless it was used again meanwhile.

        Returns:
            whether the thread was deleted.

        Raises:
            Conflict: a run or another operation is in progress.
        """
        lane = self._lanes.of(thread_id)

        async def work() -> bool:
            ttl_s = self._thread_ttl_s
            if not await upkeep.is_expired(self._database, thread_id, ttl_s) or lane.has_runs:
                return False
            lane.close()
            try:
                await self._delete_closed(thread_id)
            finally:
                self._reopen(lane)
            return True

        return await self._exclusion.during(thread_id, work)

    async def prune_expired(self, thread_id: str) -> str | None:
        """Prunes a thread whose time to live is over, unless it was used again meanwhile.

        A thread whose state is rebuilt from older checkpoints keeps them, and is not tried again
        before its next change.

        Returns:
            ``pruned``, ``refused``, or None if the thread is not expired any more.

        Raises:
            Conflict: a run or another operation is in progress.
        """
        lane = self._lanes.of(thread_id)

        async def work() -> str | None:
            expired = await upkeep.is_expired(self._database, thread_id, None, "keep_latest")
            if not expired or lane.has_runs:
                return None
            outcome = "pruned"
            try:
                await self._inspections.prune(thread_id)
            except BadRequest:
                outcome = "refused"
            await self._journal.commit(journal.note_pruned(thread_id), key=thread_id)
            return outcome

        return await self._exclusion.during(thread_id, work)

    async def delete_remains(self, thread_id: str) -> None:
        """Deletes the remains of a stateless run; its thread's record went with the run's end."""
        ((is_gone,),), *_ = await self._journal.commit(
            journal.delete_remains(thread_id), key=thread_id
        )
        if not is_gone:
            await self.delete(thread_id)

    async def _delete_closed(self, thread_id: str) -> None:
        ((is_gone,),), *_ = await self._journal.commit(
            journal.delete_thread(thread_id), key=thread_id
        )
        if not is_gone:
            async with self.turns.of(thread_id):
                await self._bulk.delete_thread(thread_id)

    def _reopen(self, lane: Lane) -> None:
        lane.reopen()
        self._lanes.tidy(lane)
        self._waiters.tell(lane.thread_id)

    async def delete_run(self, thread_id: str, run_id: str) -> None:
        """Cancels the run if it is not over, then deletes it and its checkpoints.

        Repeatable: deleting a missing run succeeds.

        Raises:
            NotFound: the run belongs to another thread.
            Conflict: the run is over, and another run or operation is in progress on its thread.
        """
        run = self._runs.find(run_id)
        if run is not None and run.thread_id == thread_id:
            lane = self._lanes.of(thread_id)
            # A rollback deletes the run at its end, before the next run of the thread starts.
            await self._effects.perform(lane, lane.cancel(run_id, "rollback"))
            await self._followers.until_over(run_id)
        found = await stored_run(self._database, run_id)
        if found is None:
            return
        if found.thread_id != thread_id:
            raise NotFound(RUN_NOT_FOUND)
        if not found.attempt:
            # Never executed, so it has no checkpoints and needs no lane.
            await self._journal.commit(*journal.delete_run(run_id), key=thread_id)
            return
        graph_id = found.graph_id
        await self._exclusion.during(thread_id, lambda: self._forget(thread_id, run_id, graph_id))

    async def _forget(self, thread_id: str, run_id: str, graph_id: str) -> None:
        async with self.turns.of(run_id):
            is_newest = await self._bulk.forget_run(run_id, thread_id, graph_id)
            *_, left = await self._journal.commit(
                *journal.delete_run(run_id), journal.newest_graph(thread_id), key=thread_id
            )
            if not is_newest:
                await self._journal.commit(operation_done(run_id), key=thread_id)
                return
            newest = left[0][0] if left else graph_id
            settled = await self._inspections.settle(newest, thread_id)
            done = operation_done(run_id)
            await self._rest(thread_id, settled.interrupts, done, has_next=settled.has_next)

    # --- unfinished operations -----------------------------------------------------------------

    def take_up(self, half_done: Sequence[Operation]) -> None:
        """Continues unfinished operations. A registry calls it before it places runs."""
        for operation in half_done:
            lane = self._lanes.of(operation.thread_id)
            if operation.kind == "delete":
                lane.closing = True
            elif operation.kind == "forget":
                lane.exclusive = operation.subject
            self._tasks.spawn(self._go_on(operation, lane))

    async def sweep(self) -> None:
        """Continues operations that no task performs any more: deletes the rest of a failed copy,
        repeats a deletion that the database has refused.

        Raises:
            DatabaseUnavailable, psycopg.Error: the database fails.
        """
        for operation in await self._bulk.unfinished():
            if operation.subject in self.turns:
                continue
            try:
                match operation.kind:
                    case "delete":
                        await self.delete(operation.thread_id)
                    case "copy":
                        await self._delete_copy(operation.subject)
                    case "forget":
                        await self.delete_run(operation.thread_id, operation.subject)
            except GreenroomError as error:  # the thread is in use: the next sweep tries again
                log.debug("not done yet", extra={"reason": str(error)})

    async def _go_on(self, operation: Operation, lane: Lane) -> None:
        subject, thread_id = operation.subject, operation.thread_id
        log.info(
            "Going on with what was half done.",
            extra={"action": f"{operation.kind}_resumed", "thread_id": thread_id},
        )
        match operation.kind:
            case "delete":
                try:
                    async with self.turns.of(subject):
                        await self._bulk.delete_thread(subject)
                finally:
                    self._reopen(lane)
            case "copy":
                await self._delete_copy(subject)
            case "forget":
                graph_id = operation.graph_id or ""
                await self._exclusion.go_on(
                    lane, subject, lambda: self._forget(thread_id, subject, graph_id)
                )

    async def _delete_copy(self, copy_id: str) -> None:
        async with self.turns.of(copy_id):
            await self._bulk.delete_thread(copy_id)
