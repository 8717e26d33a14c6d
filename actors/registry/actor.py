"""The registry: the one writer of run and thread status.

It performs the decisions of `greenroom.core.admission`. Each request is one synchronous step that
decides and reserves, then a commit (`greenroom.persistence.journal`, grouped), then the effects:
start, cancel, answer. So everything that is acknowledged is durable, and a run is durable before
an actor executes it.

    create ──decide──> lane, slot ──commit──> order to the actor, answer to the gateway
    finish ──decide──> next of the lane ──commit──> answer to the actor, which then closes the log
    death of an actor ──> the next attempt, or the end of a run that was being cancelled

A cancel is the exception: the registry first tells the actor and arms the timer that kills it; the
commit follows in parallel. So a run also stops while the database does not answer.

This module has the methods that Ray calls. `actors.registry.readiness` says when they may be
called; the parts of the registry (`actors.registry.parts`) do the work. One table defines the
states of a run, `greenroom.core.lifecycle`, and the parts execute it. All work that follows a
decision is *vital* (`actors.common.tasks`): it becomes durable, or it ends this process. The
registry can rebuild its whole memory (`actors.registry.recovery`). The constructor keeps its
arguments and begins the recovery, which is a task: an actor whose ``__init__`` raises is dead for
good. The recovery is repeated without a limit; calls wait for it for a bounded time. It does not
wait for the first call: a registry that Ray has restarted at night has crons to fire.

This process does not import LangGraph, because that import would lengthen every restart by a
second.

There may be several registries. Each has its own threads (`greenroom.core.sharding`), epoch,
journal and actors. They share only the inspectors, which the first one keeps.
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
from actors.registry.handing_back import hand_back
from actors.registry.overview import overview
from actors.registry.readiness import Readiness, measure
from actors.registry.thread_methods import ThreadMethods
from actors.spawn import Spawn
from greenroom.core.crons import Cron
from greenroom.core.inputs import NewInput, SaidInput
from greenroom.core.pausing import PauseAnswer, PauseRequest, Waiting
from greenroom.core.runs import (
    CancelAction,
    CancelRequest,
    CreatedRun,
    Report,
    RunLocation,
    RunRequest,
)

log = logging.getLogger("greenroom.registry")

EXIT_SUPERSEDED = 75
"""The exit code of a registry that another one has taken over from."""


class RegistryActor(ThreadMethods):
    """Admits runs, has actors execute them, and records how they end.

    Args:
        make_handles: makes the directory of a namespace's actors.
        make_spawn: makes the object that makes actors.

    Attributes:
        tasks: all its work.
        readiness: has the registry's parts once it has recovered.
    """

    def __init__(
        self,
        setup: RegistrySetup,
        make_handles: Callable[[str], Handles] = Handles,
        make_spawn: Callable[[Handles], Spawn] = Spawn,
    ) -> None:
        self._shard = setup.shard
        self.tasks = Tasks(self._broken)
        self._meter = Meter(metrics.ALL)
        self.readiness = Readiness(
            setup,
            self.tasks,
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
                "say_many": self.say_many,
                "pause_many": self.pause_many,
                "note_waiting": self.note_waiting,
                "finished_many": self.finished_many,
                "follow": self.follow,
                "activity": self.activity,
            }
        )
        self.readiness.begin()

    def _broken(self) -> None:
        """Ends the process. Ray starts it again, and recovery rebuilds all decisions."""
        end_process()

    def _superseded(self) -> None:
        log.warning("another registry has taken over")
        os._exit(EXIT_SUPERSEDED)

    # --- life ----------------------------------------------------------------------------------

    @repeatable
    async def hello(self) -> dict[str, Any]:
        """Describes this registry to other processes; answers once it has recovered."""
        context = (await self.readiness.parts()).context
        setup = context.setup
        return {
            "url": setup.url,
            "version": setup.version,
            "generation": setup.generation,
            "shards": self._shard.of,
            "epoch": context.epoch,
            "pid": os.getpid(),
        }

    @repeatable
    async def dsn(self) -> str:
        """Returns the database, which may have a password: never part of a log line or a page."""
        return (await self.readiness.parts()).context.setup.dsn

    @repeatable
    async def address(self) -> RpcAddress | None:
        """Returns the address for calls without Ray, or None."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    @repeatable
    async def is_warm(self, wait_s: float) -> bool:
        """Waits until every pool has a free actor, or as many actors as it may have.

        Raises:
            ConfigurationError: an actor cannot be started; the message names the reason.
        """
        parts = await self.readiness.parts()
        return await parts.context.keeper.is_warm(wait_s)

    @repeatable
    async def renew(self) -> list[str]:
        """Has the next runs executed by the code of the graphs as it is now: `Renewals.renew`."""
        parts = await self.readiness.parts()
        return await parts.context.keeper.renewals.renew()

    @repeatable
    async def drain(self, wait_s: float, *, relieved: bool = False) -> int:
        """Starts no more attempts, and waits until running runs have stopped after their superstep.

        Args:
            wait_s: the longest wait in seconds.
            relieved: whether another registry follows at once, so that new runs wait for it.

        Returns:
            the number of runs that did not stop in time. Their processes cannot write any more, and
            the next server continues the runs from their last checkpoint.
        """
        parts = await self.readiness.parts()
        context = parts.context
        parts.admissions.end(relieved=relieved)
        await context.keeper.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await parts.followers.until_none_is_executed()
        return await hand_back(context)

    # --- runs ----------------------------------------------------------------------------------

    @repeatable
    async def create_many(self, requests: list[RunRequest]) -> list[CreatedRun | Exception | None]:
        """Admits runs, in order. A refusal is the result of its request, not of the call.

        The result None means that the admission is still being stored: send that request again.

        Raises:
            Restarting: another registry is about to take over; the gateway calls that one.
            Misrouted: a request belongs to another registry; no request was admitted.
        """
        parts = await self._ready_for(*(request.thread_id for request in requests))
        return await parts.admissions.create(requests)

    @repeatable
    async def cancel_many(self, requests: list[CancelRequest]) -> list[Exception | bool | None]:
        """Cancels runs; a run may still be stopping when this returns.

        The result is True for an accepted cancel and an exception for a refused one. None means
        that the cancel is still being stored: its actor knows it already; send the cancel again by
        the same name.
        """
        parts = await self._ready_for(*(request.thread_id for request in requests))
        return await parts.cancellations.cancel(requests)

    @repeatable
    async def say_many(self, said: list[NewInput]) -> list[SaidInput | Exception | None]:
        """Takes what is said to runs, in order; it is durable on return.

        A refusal is the result of its input. None means that it is still being stored: send it
        again by the same id.
        """
        parts = await self._ready_for(*(each.thread_id for each in said))
        return await parts.inputs.say(said)

    @repeatable
    async def pause_many(
        self, requests: list[PauseRequest]
    ) -> list[PauseAnswer | Exception | None]:
        """Pauses, steps and resumes runs; what is wanted is durable on return.

        A refusal is the result of its request. None means that it is still being stored: send it
        again by the same name.
        """
        parts = await self._ready_for(*(request.thread_id for request in requests))
        return await parts.pauses.want(requests)

    @repeatable
    async def note_waiting(self, waiting: Waiting) -> None:
        """`Pauses.note`."""
        parts = await self.readiness.parts()
        await parts.pauses.note(waiting)

    @repeatable
    async def cancel_all(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        """Cancels all runs of this registry with the status; returns their number."""
        parts = await self.readiness.parts()
        return await parts.cancellations.cancel_all(status, action)

    @repeatable
    async def delete_assistant(self, name: str, wait_s: float) -> bool:
        """`AssistantDeletions.carry_out`, for the runs and threads of this registry."""
        parts = await self.readiness.parts()
        return await parts.assistant_deletions.carry_out(name, wait_s)

    @repeatable
    async def finished_many(self, reports: list[Report]) -> list[bool | None]:
        """Takes the reports of attempts that ended.

        The result is True for an accepted report, False if the attempt is not the current one, and
        None if the end is still being stored: send that report again.
        """
        parts = await self.readiness.parts()
        return await parts.reports.take(reports)

    @repeatable
    async def exhausted(self, actor: str, resident_mib: int, limit_mib: int) -> None:
        """Notes that an actor will end itself, because it exceeds its placement's memory limit."""
        parts = await self.readiness.parts()
        parts.context.keeper.note(
            actor,
            f"The run's process used {resident_mib} MiB of memory; its graph's memory_mib allows"
            f" {limit_mib}.",
        )

    # --- crons ---------------------------------------------------------------------------------

    @repeatable
    async def save_cron(self, cron: Cron) -> bool:
        """`Crons.save`."""
        parts = await self._ready_for(cron.owner)
        return await parts.crons.save(cron)

    @repeatable
    async def delete_cron(self, cron_id: str, owner: str) -> None:
        """`Crons.delete`."""
        parts = await self._ready_for(owner)
        await parts.crons.delete(cron_id, owner)

    @repeatable
    async def send_again(self, run_id: str, thread_id: str) -> None:
        """`WebhookSender.send_again`."""
        parts = await self._ready_for(thread_id)
        await parts.context.webhooks.send_again(run_id)

    # --- questions -----------------------------------------------------------------------------

    @long_poll
    async def follow(self, run_id: str, attempt: int, wait_s: float) -> RunLocation | None:
        """Returns the location of the attempt after ``attempt``, or the end: `Followers.follow`."""
        parts = await self.readiness.parts()
        return await parts.followers.follow(run_id, attempt, wait_s)

    @long_poll
    async def activity(self, thread_id: str, number: int | None, wait_s: float) -> list[Activity]:
        """Long-polls the activity of a thread past a number: `ThreadActivity.after`."""
        parts = await self._ready_for(thread_id)
        return await parts.context.activity.after(thread_id, number, wait_s)

    @repeatable
    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """Returns the name of the inspector of a duty; waits while the inspector starts."""
        parts = await self.readiness.parts()
        return await parts.context.inspections.inspector(duty)

    @repeatable
    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks the inspector apart a question that may have ended the usual inspector."""
        parts = await self.readiness.parts()
        return await parts.context.inspections.ask_apart(duty, graph_id, method, args)

    @repeatable
    async def info(self) -> dict[str, Any]:
        """Returns the numbers of runs, actors and slots."""
        context = (await self.readiness.parts()).context
        running = len(context.runs.executed())
        recent = context.runs.recent_placements()
        return {
            "running": running,
            "pending": len(context.runs) - running,
            **context.keeper.counts(),
            "recent": [dataclasses.asdict(placement) for placement in recent],
        }

    @repeatable
    async def overview(self) -> dict[str, Any]:
        """`actors.registry.overview.overview` of this registry."""
        return overview((await self.readiness.parts()).context)

    @repeatable
    async def counted(self) -> Counted:
        """Returns all metrics of this registry."""
        measure((await self.readiness.parts()).context)
        return self._meter.counted()
