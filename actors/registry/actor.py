"""The registry: the one writer of run and thread status.

It performs what `greenroom.core.admission` decides. Every request is one synchronous step that
decides and reserves, then a commit (`greenroom.persistence.journal`, grouped), then the effects:
start, cancel, answer. So what is acknowledged is durable, and what is executed was durable before.

    create ──decide──> lane, slot ──commit──> order to the actor, answer to the gateway
    finish ──decide──> next of the lane ──commit──> answer to the actor, which then closes the log
    death of an actor ──> the next attempt, or the end of a run that was being cancelled

A cancel is the exception to that order: the actor is told and its killer armed first, and the
commit goes beside it, so that a run stops also while the database does not answer.

This module has what Ray calls. When it may be called says `actors.registry.readiness`; the work is
done by the parts of the registry (`actors.registry.parts`). One table says what state a run is in,
`greenroom.core.lifecycle`, and the parts execute it. Whatever follows a decision is *vital*
(`actors.common.tasks`): it becomes durable, or it ends this process. Nothing here cannot be rebuilt
(`actors.registry.recovery`). The constructor only keeps its arguments (an actor whose ``__init__``
raises is dead for good); recovery is a task that retries for ever, and calls wait for it, bounded.

Nothing of LangGraph is imported here: that would be a second of every restart.

There may be several registries, each with threads of its own (`greenroom.core.sharding`), an epoch,
a journal and actors of its own. They share nothing but the inspector, which is the first one's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from actors.calls.answers import long_poll, repeatable
from actors.calls.directory import Handles, rpc_host
from actors.calls.rpc import RpcAddress, RpcServer
from actors.common import metrics
from actors.common.metering import Counted, Meter
from actors.common.setup import RegistrySetup
from actors.common.tasks import Tasks, end_process
from actors.inspector.asking import Duty
from actors.registry.activity import Activity
from actors.registry.parts import Parts
from actors.registry.readiness import Readiness, measure
from actors.spawn import Spawn
from greenroom.core.lifecycle import Event
from greenroom.core.runs import (
    CancelAction,
    CancelRequest,
    CreatedRun,
    Report,
    RunLocation,
    RunRequest,
)
from greenroom.core.sharding import Misrouted
from greenroom.persistence import journal

log = logging.getLogger("greenroom.registry")

EXIT_SUPERSEDED = 75
"""The exit code of a registry that another one has taken over from."""
CUT_OFF_PATIENCE_S = 1.0
"""How long a draining registry waits for the database to store that runs were cut off."""


class RegistryActor:
    """Admits runs, has them executed, hears how they ended.

    Args:
        make_handles: calls actors of a namespace.
        make_spawn: makes actors.
    """

    def __init__(
        self,
        setup: RegistrySetup,
        make_handles: Callable[[str], Handles] = Handles,
        make_spawn: Callable[[Handles], Spawn] = Spawn,
    ) -> None:
        self._shard = setup.shard
        self._tasks = Tasks(self._broken)
        self._meter = Meter(metrics.ALL)
        self._readiness = Readiness(
            setup,
            self._tasks,
            self._meter,
            make_handles=make_handles,
            make_spawn=make_spawn,
            broken=self._broken,
            superseded=self._superseded,
        )
        self._rpc = RpcServer(
            {
                "create_many": self.create_many,
                "cancel_many": self.cancel_many,
                "finished_many": self.finished_many,
                "follow": self.follow,
                "activity": self.activity,
            }
        )

    async def _ready_for(self, *thread_ids: str) -> Parts:
        """Raises Misrouted unless all the threads are its own.

        A gateway may still count as many registries as there were before the last redeploy.
        """
        parts = await self._readiness.parts()
        if not all(map(self._shard.has, thread_ids)):
            raise Misrouted("Another registry decides about this thread.", self._shard.of)
        return parts

    def _broken(self) -> None:
        """Ends the process: Ray starts it again, and recovery rebuilds what was decided."""
        end_process()

    def _superseded(self) -> None:
        log.warning("another registry has taken over")
        os._exit(EXIT_SUPERSEDED)

    # --- life ----------------------------------------------------------------------------------

    @repeatable
    async def hello(self) -> dict[str, Any]:
        """What everyone else learns from the registry; answers once it has recovered."""
        context = (await self._readiness.parts()).context
        setup = context.setup
        return {
            "dsn": setup.dsn,
            "url": setup.url,
            "version": setup.version,
            "generation": setup.generation,
            "shards": self._shard.of,
            "epoch": context.epoch,
            "pid": os.getpid(),
        }

    @repeatable
    async def address(self) -> RpcAddress | None:
        """Where the registry is called without Ray; None if nowhere."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    @repeatable
    async def is_warm(self, wait_s: float) -> bool:
        """Whether every pool has a free actor, or as many as it may have; waits for it.

        Raises:
            ConfigurationError: an actor cannot be started; the sentence says why.
        """
        parts = await self._readiness.parts()
        return await parts.context.keeper.is_warm(wait_s)

    @repeatable
    async def drain(self, wait_s: float, *, relieved: bool = False) -> int:
        """Starts nothing any more, and waits for running runs to stop after their superstep.

        Args:
            relieved: another registry follows at once, and new runs wait for it.

        Returns:
            how many did not stop in time. They are cut off: their processes cannot write any
            more, and a next server takes them up from their last checkpoint.
        """
        parts = await self._readiness.parts()
        context = parts.context
        parts.admissions.end(relieved=relieved)
        await context.keeper.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await parts.followers.until_none_is_executed()
        late = [run for run in context.runs.executed() if not run.is_ending]
        for run in late:
            run.life.on(Event.HANDED_BACK)
        if late:
            # By this registry: the next one would take it for the death of their processes.
            requeues = [
                context.journal.write(
                    journal.requeue(run.run_id, run.attempt, "cut off"),
                    key=run.thread_id,
                    patience_s=CUT_OFF_PATIENCE_S,
                )
                for run in late
            ]
            await asyncio.gather(*requeues)
        return len(late)

    # --- runs ----------------------------------------------------------------------------------

    @repeatable
    async def create_many(self, requests: list[RunRequest]) -> list[CreatedRun | Exception | None]:
        """Admits runs, in order. A refusal is the result of its request, not of the call.

        None is the result of one that is still being stored: ask for that again.

        Raises:
            Restarting: another registry is about to take over; gateways ask that one.
            Misrouted: one of them is another registry's; then none is admitted.
        """
        parts = await self._ready_for(*(request.thread_id for request in requests))
        return await parts.admissions.create(requests)

    @repeatable
    async def cancel_many(self, requests: list[CancelRequest]) -> list[Exception | bool | None]:
        """Cancels runs; one that is executed may still be stopping when this returns.

        A refusal is the result of its request, True that of one that is heard, and None that of one
        that is still being stored: its actor is told already; ask for it again, by the same name.
        """
        parts = await self._ready_for(*(request.thread_id for request in requests))
        return await parts.cancellations.cancel(requests)

    @repeatable
    async def cancel_all(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        """Cancels every run of its own with the status; returns how many."""
        parts = await self._readiness.parts()
        return await parts.cancellations.cancel_all(status, action)

    @repeatable
    async def finished_many(self, reports: list[Report]) -> list[bool | None]:
        """Attempts that ended, as their actors report them.

        The result is True for one that is heard, False for one that is not current, and None for
        one whose end is still being stored: report it again.
        """
        parts = await self._readiness.parts()
        return await parts.reports.take(reports)

    @repeatable
    async def exhausted(self, actor: str, resident_mib: int, limit_mib: int) -> None:
        """An actor says why it is about to end itself: it outgrew its placement's memory limit."""
        parts = await self._readiness.parts()
        parts.context.keeper.note(
            actor,
            f"The run's process used {resident_mib} MiB of memory; its graph's memory_mib allows"
            f" {limit_mib}.",
        )

    # --- questions -----------------------------------------------------------------------------

    @long_poll
    async def follow(self, run_id: str, attempt: int, wait_s: float) -> RunLocation | None:
        """Where the run's attempt after ``attempt`` is, or how it ended: `Followers.follow`."""
        parts = await self._readiness.parts()
        return await parts.followers.follow(run_id, attempt, wait_s)

    @long_poll
    async def activity(self, thread_id: str, number: int | None, wait_s: float) -> list[Activity]:
        """Long-polls the activity of a thread past a number: `ThreadActivity.after`."""
        parts = await self._ready_for(thread_id)
        return await parts.context.activity.after(thread_id, number, wait_s)

    @repeatable
    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """The name of the inspector for a duty; waits for it while it starts."""
        parts = await self._readiness.parts()
        return await parts.context.inspections.inspector(duty)

    @repeatable
    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector where nothing else is asked: what may have ended the usual one."""
        parts = await self._readiness.parts()
        return await parts.context.inspections.ask_apart(duty, graph_id, method, args)

    @repeatable
    async def info(self) -> dict[str, Any]:
        """Counts of runs, actors and slots."""
        context = (await self._readiness.parts()).context
        running = len(context.runs.executed())
        recent = context.runs.recent_placements()
        return {
            "running": running,
            "pending": len(context.runs) - running,
            **context.keeper.counts(),
            "recent": [dataclasses.asdict(placement) for placement in recent],
        }

    @repeatable
    async def counted(self) -> Counted:
        """Everything that is counted here."""
        measure((await self._readiness.parts()).context)
        return self._meter.counted()

    # --- exclusive operations ------------------------------------------------------------------

    @repeatable
    async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
        """`ThreadOperations.update_state`."""
        parts = await self._ready_for(thread_id)
        return await parts.operations.update_state(thread_id, update)

    @repeatable
    async def copy_thread(self, thread_id: str, copy_id: str) -> None:
        """`ThreadOperations.copy`."""
        parts = await self._ready_for(thread_id)
        await parts.operations.copy(thread_id, copy_id)

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
