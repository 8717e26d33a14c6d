"""The registry: the one writer of run and thread status.

It performs what `greenroom.core.admission` decides. Every request is one synchronous step that
decides and reserves, then a commit (`greenroom.persistence.journal`, grouped), then the effects:
start, stop, answer. So what is acknowledged is durable, and what is executed was durable before.

    create ──decide──> lane, place ──commit──> order to the actor, answer to the gateway
    finish ──decide──> next of the lane ──commit──> answer to the actor, which then closes the log
    death of an actor ──> the next attempt, or the end of a run that was being stopped

Nothing here cannot be rebuilt: `_recover` reads the runs that are not over and asks the actors that
are alive what they execute. The constructor only keeps its arguments (an actor whose ``__init__``
raises is dead for good); recovery is a task that retries for ever, and calls wait for it, bounded.

Nothing of LangGraph is imported here: that would be a second of every restart.

There may be several registries, each with threads of its own (`greenroom.core.sharding`), an epoch,
a journal and actors of its own. They share nothing but the inspector, which is the first one's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from actors import metrics
from actors.asking import Duty
from actors.garbage import spare_what_stays
from actors.handles import Handles, registry_name, rpc_host
from actors.keeper import Keeper
from actors.rpc import RpcAddress, RpcServer
from actors.setup import RegistrySetup, configuration_of
from actors.sweeping import Sweeper
from actors.tasks import Tasks
from actors.watching import Doing, Doings
from actors.webhooks import WebhookSender
from greenroom import tracing
from greenroom.core.admission import Abandon, Drop, Effect, Lane, Place, Stage, Stop
from greenroom.core.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    Fenced,
    GreenroomError,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from greenroom.core.metering import Counted, Labels, Meter
from greenroom.core.runs import (
    CancelAction,
    CancelRequest,
    CreatedRun,
    Placement,
    Report,
    RunOrder,
    RunRequest,
    RunStatus,
    out_of_time,
)
from greenroom.core.sharding import Misrouted, slot_of_thread
from greenroom.core.threads import resting_status
from greenroom.graphs.configuration import GraphSpec, PlacementSpec
from greenroom.persistence import journal, outbox, shipped, upkeep
from greenroom.persistence.database import Pool, open_pool, retrying, terminate_backends
from greenroom.persistence.embedded import Embedded, start_embedded
from greenroom.persistence.journal import InFlight, Journal, Superseded, Write

log = logging.getLogger("greenroom.registry")

RECOVERY_WAIT_S = 30.0
TEND_INTERVAL_S = 1.0
RETRY_BACKOFF_S = (0.0, 0.1, 0.5, 1.0, 2.0)
ADMISSION_PATIENCE_S = 30.0
"""How long a create waits for the database. Whoever asked hears then that it was not stored."""
LATELY_S = 10.0
"""How long it is remembered who executed a run that is over."""
RECENT_SHOWN = 1000
"""Of those that have just ended, how many `info` names, with their actors."""
EXIT_SUPERSEDED = 75
CUT_OFF_PATIENCE_S = 1.0
ANY_ATTEMPT = 1 << 30
"""An attempt that never comes: who follows it hears only of the end."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """What `follow` answers: where a run is, or that it is over.

    Attributes:
        status: None when there is no such run (any more).
        placement: while it is executed.
    """

    status: RunStatus | None
    placement: Placement | None = None


@dataclass(slots=True)
class _Run:
    """A run that is not over.

    Attributes:
        resumes: it starts from checkpoints that are there, as far as is known.
        attempt: the attempt that is executed, or was last; 0 before the first.
        actor: who executes it, or is about to.
        started: the attempt is durable, so its actor may be named.
        ending: its end is being written; nothing else may end it.
        deaths: how many of its actors died; also in the database.
        since_s: when it began to wait (monotonic), None for one that an earlier registry admitted.
        ordered_s: when its attempt was ordered, None likewise.
        traceparent: where in a trace it was asked for, None likewise.
        kwargs: on the way from the request, or the database, to the actor.
        killer: ends the process when it ignores its cancellation.
        overdue: ends it when it ignores its graph's ``timeout_s``.
        out_of_time: it did.
    """

    run_id: str
    thread_id: str
    assistant_id: str
    graph_id: str
    temporary: bool
    resumable: bool
    webhook: str | None
    resumes: bool = True
    attempt: int = 0
    actor: str | None = None
    started: bool = False
    ending: bool = False
    deaths: int = 0
    kwargs: bytes | None = None
    ordered_ms: int = 0
    since_s: float | None = None
    ordered_s: float | None = None
    traceparent: str | None = None
    killer: asyncio.TimerHandle | None = None
    overdue: asyncio.TimerHandle | None = None
    out_of_time: bool = False

    def stop_timers(self) -> None:
        """Nobody has to end its process any more."""
        for timer in (self.killer, self.overdue):
            if timer is not None:
                timer.cancel()

    @property
    def placement(self) -> Placement | None:
        if self.actor is None or not self.started:
            return None
        return Placement(run_id=self.run_id, attempt=self.attempt, actor=self.actor)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Admission:
    """A run on its way into the database.

    Attributes:
        actor: who executes it as soon as it is stored, if a place was free.
        rows: what `journal.admit` gives.
    """

    run: _Run
    actor: str | None
    rows: asyncio.Future[list[list[journal.Row]]]


class RegistryActor:
    """Admits runs, has them executed, hears how they ended."""

    def __init__(
        self, setup: RegistrySetup, make_handles: Callable[[str], Handles] = Handles
    ) -> None:
        self._setup = setup
        self._shard = setup.shard
        self._name = registry_name(setup.shard.number)
        self._faults = setup.faults
        self._make_handles = make_handles
        self._lanes: dict[str, Lane] = {}
        self._runs: dict[str, _Run] = {}
        self._lately: dict[str, tuple[float, Placement]] = {}
        self._followers: dict[str, list[asyncio.Future[None]]] = {}
        self._queued: set[str] = set()
        most = setup.max_queued_runs
        self._most_queued = setup.shard.share(most) if most is not None else None
        self._tasks = Tasks()
        self._doings = Doings()
        self._meter = Meter(metrics.ALL)
        self._epoch = 0
        self._draining = False
        self._relieved = False
        self._refusal: str | None = None
        self._recovered: asyncio.Event | None = None
        self._embedded: Embedded | None = None
        self._takes_shipped = False
        self._keeper: Keeper
        self._journal: Journal
        self._database: Pool
        self._webhooks: WebhookSender
        self._rpc = RpcServer(
            {
                "create_many": self.create_many,
                "cancel_many": self.cancel_many,
                "finished_many": self.finished_many,
                "follow": self.follow,
                "doings": self.doings,
            }
        )

    # --- life ----------------------------------------------------------------------------------

    async def hello(self) -> dict[str, Any]:
        """What everyone else learns from the registry; answers once it has recovered."""
        await self._ready()
        return {
            "dsn": self._setup.dsn,
            "url": self._setup.url,
            "version": self._setup.version,
            "generation": self._setup.generation,
            "shards": self._shard.of,
            "epoch": self._epoch,
            "pid": os.getpid(),
        }

    async def address(self) -> RpcAddress | None:
        """Where the registry is called without Ray; None if nowhere."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    async def is_warm(self, wait_s: float) -> bool:
        """Whether every pool has a free actor, or as many as it may have; waits for it.

        Raises:
            ConfigurationError: an actor cannot be started; the sentence says why.
        """
        await self._ready()
        return await self._keeper.is_warm(wait_s)

    async def drain(self, wait_s: float, *, relieved: bool = False) -> int:
        """Starts nothing any more, and waits for running runs to stop after their superstep.

        Args:
            relieved: another registry follows at once, and new runs wait for it.

        Returns:
            how many did not stop in time. They are cut off: their processes cannot write any
            more, and a next server takes them up from their last checkpoint.
        """
        await self._ready()
        self._draining = True
        self._relieved = relieved
        await self._keeper.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._until_none_is_executed()
        late = [run for run in self._runs.values() if run.started and not run.ending]
        for run in late:
            run.actor, run.started = None, False
        if late:
            # By this registry: the next one would take it for the death of their processes.
            writes = [journal.requeue(run.run_id, run.attempt, died=False) for run in late]
            await self._journal.commit(*writes, patience_s=CUT_OFF_PATIENCE_S)
        return len(late)

    async def _until_none_is_executed(self) -> None:
        while True:
            run_id = next((run.run_id for run in self._runs.values() if run.started), None)
            if run_id is None:
                return
            await self._until_told(run_id)

    def _executing(self) -> int:
        return sum(1 for run in self._runs.values() if run.started)

    async def _ready(self) -> None:
        if self._recovered is None:
            self._recovered = asyncio.Event()
            self._tasks.spawn(self._recover_until_done())
        if not self._recovered.is_set():
            try:
                async with asyncio.timeout(RECOVERY_WAIT_S):
                    await self._recovered.wait()
            except TimeoutError:
                raise Unavailable("The server is still starting. Try again in a moment.") from None
        if self._refusal is not None:
            raise Unavailable(self._refusal)

    async def _ready_for(self, *thread_ids: str) -> None:
        """Raises Misrouted unless all the threads are its own.

        A gateway may still count as many registries as there were before the last redeploy.
        """
        await self._ready()
        if not all(map(self._shard.has, thread_ids)):
            raise Misrouted("Another registry decides about this thread.", self._shard.of)

    async def _recover_until_done(self) -> None:
        if self._setup.logs is not None:
            self._setup.logs.apply(actor=self._name)
        tracing.configure("registry")
        pause_s = 0.1
        assert self._recovered is not None
        while True:
            try:
                await self._recover()
                break
            except Superseded as error:  # before: to go would only have this one started again
                log.error("this registry stays out of it", extra={"reason": error.message})
                self._refusal = error.message
                self._recovered.set()
                await self._database.close()
                return
            except Fenced:  # an actor has heard from a newer one
                self._superseded()
                raise
            except Exception:  # the database is away, or Ray: nothing but trying again helps
                log.exception("recovery failed, trying again")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
        spare_what_stays()
        self._recovered.set()
        self._tasks.spawn(self._keeper.keep())
        self._tasks.spawn(self._webhooks.send())
        if self._setup.embedded is not None and self._shard.is_first:
            self._tasks.spawn(self._tend_embedded(self._setup.embedded))
        self._tasks.spawn(metrics.export(self._meter, self._measure))
        sweeper = Sweeper(self._database, self._setup, self._delete_expired)
        self._tasks.spawn(sweeper.keep())

    async def _tend_embedded(self, directory: Path) -> None:
        """Starts the embedded database again when it is gone; to attach to it is cheap."""
        while True:
            await asyncio.sleep(TEND_INTERVAL_S)
            try:
                (await asyncio.to_thread(start_embedded, directory)).release()
            except ConfigurationError as error:
                log.error("the embedded database does not start", extra={"reason": str(error)})

    async def _recover(self) -> None:
        """Takes the epoch, then rebuilds lanes and pools from the database and living actors."""
        self._lanes.clear()
        self._runs.clear()
        self._queued.clear()
        if self._setup.embedded is not None:
            # Attaches, or starts it again: it runs as long as one of its users does.
            self._embedded = await asyncio.to_thread(start_embedded, self._setup.embedded)
            self._setup = dataclasses.replace(self._setup, dsn=self._embedded.dsn)
        configuration = await asyncio.to_thread(configuration_of, self._setup)
        self._takes_shipped = configuration.shipped_graphs
        self._keeper = Keeper(
            self._make_handles(self._setup.namespace),
            configuration,
            self._setup,
            Tasks(),
            self._meter,
            granted=self._granted,
            lost=lambda run_id, actor, note: self._tasks.spawn(self._lost(run_id, actor, note)),
            unstartable=lambda run_id, reason: self._tasks.spawn(self._unstartable(run_id, reason)),
        )
        self._database = await open_pool(
            self._setup.dsn, application_name=f"greenroom:{self._name}", max_size=4
        )
        shard = self._shard
        async with self._database.connection() as connection:
            self._epoch = await journal.take_epoch(connection, self._setup.generation, shard)
            found = await journal.in_flight(connection, shard)
            abandoned = await journal.abandoned_threads(connection, shard)
        self._journal = Journal(
            self._database,
            self._epoch,
            self._superseded,
            lambda seconds: self._meter.observe(metrics.COMMITS, seconds),
            shard=shard,
        )
        await self._learn_shipped()
        for thread_id in abandoned:
            # Its run had ended; the registry before died over the deletion.
            self._tasks.spawn(self._delete_temporary(thread_id, 0.0))
        self._webhooks = WebhookSender(self._database, self._setup.webhooks, shard)
        await self._journal.commit(journal.calm_abandoned(shard))
        executed = await self._keeper.adopt(self._epoch)
        effects = [(each.thread_id, self._take_up(each)) for each in found]
        for run in list(self._runs.values()):
            if run.actor is None or not run.started:
                continue
            if executed.get(run.run_id) != (run.actor, run.attempt):
                self._keeper.release(run.run_id, run.graph_id, run.actor)
                self._tasks.spawn(self._lost(run.run_id, run.actor, None))
        # What was displaced before the restart and had not ended is displaced now.
        for thread_id, displaced in effects:
            self._tasks.spawn(self._perform(self._lane(thread_id), displaced))
        for run in list(self._runs.values()):
            if not self._keeper.knows(run.graph_id):
                reason = f"The graph '{run.graph_id}' is not served any more."
                self._tasks.spawn(self._give_up(run, "GraphNotFound", reason))
        for lane in list(self._lanes.values()):
            self._tasks.spawn(self._perform(lane, lane.resume()))

    def _superseded(self) -> None:
        log.warning("another registry has taken over")
        os._exit(EXIT_SUPERSEDED)

    def _take_up(self, found: InFlight) -> list[Effect]:
        """Puts a run of the database back into its lane."""
        running = found.status is RunStatus.RUNNING
        run = _Run(
            run_id=found.run_id,
            thread_id=found.thread_id,
            assistant_id=found.assistant_id,
            graph_id=found.graph_id,
            temporary=found.temporary,
            resumable=found.resumable,
            webhook=found.webhook,
            attempt=found.attempt,
            actor=found.actor if running else None,
            started=running,
            deaths=found.deaths,
        )
        self._runs[run.run_id] = run
        due_in_s = found.due_in_s or 0.0
        if running:
            stage = Stage.RUNNING
            self._limit(run)  # anew: who was before us took its clock along
        elif found.attempt:
            stage = Stage.WAITING  # it lost its actor, and keeps the thread
        elif due_in_s > 0:
            stage = Stage.DELAYED
            self._later(due_in_s, run.run_id)
        else:
            stage = Stage.QUEUED
        if stage in (Stage.WAITING, Stage.QUEUED):
            self._queued.add(run.run_id)
        lane = self._lane(run.thread_id)
        has_run = found.attempt > 0
        effects = lane.restore(run.run_id, stage, found.multitask_strategy, has_run=has_run)
        if found.stop is not None:
            # It was told so by a registry before this one; perhaps nobody heard it.
            effects += lane.stop(run.run_id, found.stop)
        return effects

    def _lane(self, thread_id: str) -> Lane:
        lane = self._lanes.get(thread_id)
        if lane is None:
            lane = self._lanes[thread_id] = Lane(thread_id)
        return lane

    # --- create --------------------------------------------------------------------------------

    async def create_many(self, requests: list[RunRequest]) -> list[CreatedRun | Exception]:
        """Admits runs, in order. A refusal is the result of its request, not of the call.

        Raises:
            Unavailable: another registry is about to take over; gateways ask that one.
            Misrouted: one of them is another registry's; then none is admitted.
        """
        await self._ready_for(*(request.thread_id for request in requests))
        if self._relieved:
            raise Unavailable("The server is being replaced. Try again in a moment.")
        if not all(self._keeper.knows(request.graph_id) for request in requests):
            await self._learn_shipped()
        began_s = time.monotonic()
        # Each is on its way to the database before the next is decided: one order for both.
        admissions = [self._decide(request) for request in requests]
        answers = await asyncio.gather(
            *(
                self._create(request, admission)
                for request, admission in zip(requests, admissions, strict=True)
            )
        )
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "create")
        return answers

    async def _learn_shipped(self) -> None:
        """Graphs may have been shipped since the last look, by whoever has the database."""
        if self._takes_shipped:
            for graph_id, placement in (await shipped.placements(self._database)).items():
                self._keeper.serve(
                    GraphSpec(graph_id=graph_id, target="", placement=PlacementSpec(**placement))
                )

    def _decide(self, request: RunRequest) -> _Admission | GreenroomError | None:
        """The synchronous step: it reserves lane and place. None: the run is known."""
        if self._draining:
            return Unavailable("The server is stopping. Try again in a moment.")
        if request.run_id in self._runs:
            return None
        if not self._keeper.knows(request.graph_id):
            return NotFound("Thread or assistant not found.")
        limit = self._most_queued
        delayed = request.after_s > 0
        if limit is not None and not delayed and len(self._queued) >= limit:
            return TooManyRequests(
                f"{limit} runs are waiting already (max_queued_runs). Try again in a moment."
            )
        lane = self._lane(request.thread_id)
        try:
            effects = lane.admit(request.run_id, request.multitask_strategy, delayed=delayed)
        except GreenroomError as error:
            self._tidy(lane)
            return error
        run = self._runs[request.run_id] = _Run(
            run_id=request.run_id,
            thread_id=request.thread_id,
            assistant_id=request.assistant_id,
            graph_id=request.graph_id,
            temporary=request.temporary,
            resumable=request.resumable,
            webhook=request.webhook,
            resumes=request.resumes,
            since_s=time.monotonic() + request.after_s,
            traceparent=request.traceparent,
        )
        if not delayed:
            self._queued.add(run.run_id)
        actor = None
        if Place(run.run_id) in effects:
            actor = self._keeper.claim(run.run_id, run.graph_id)
            if actor is not None:
                self._assign(run, actor)
        writes = [journal.admit(request, actor=actor)]
        if actor is not None and request.resumes:
            writes.append(journal.keep_heads(run.run_id))
        rows = self._journal.write(*writes, patience_s=ADMISSION_PATIENCE_S)
        return _Admission(run=run, actor=actor, rows=rows)

    def _assign(self, run: _Run, actor: str) -> None:
        """The next attempt is this actor's; durable a moment later."""
        run.actor = actor
        run.attempt += 1
        self._queued.discard(run.run_id)
        self._lane(run.thread_id).placed(run.run_id)

    async def _create(
        self, request: RunRequest, admission: _Admission | GreenroomError | None
    ) -> CreatedRun | Exception:
        if isinstance(admission, GreenroomError):
            return admission
        if admission is None:
            return await self._created_before(request)
        run = admission.run
        try:
            await self._faults.at("admit")
            rows, *_ = await admission.rows
            await self._faults.at("admitted")
        except Superseded:
            raise
        except DatabaseUnavailable as error:
            # It may have been stored before the connection was lost.
            self._tasks.spawn(self._take_back(run))
            return Unavailable(f"The run was not stored: {error.message} Try again in a moment.")
        except Exception as error:  # whatever the database says: the run was not admitted
            log.exception("admission not written", extra={"run_id": run.run_id})
            await self._withdraw(run)
            return Unavailable(f"The run could not be stored: {type(error).__name__}. Try again.")
        if not rows:
            await self._withdraw(run)
            return NotFound("Thread or assistant not found.")
        ((created_at, is_current, is_first),) = rows
        if not is_current:
            # A retried create of a run that is over by now: the same answer, nothing happens again.
            await self._withdraw(run)
        elif self._runs.get(run.run_id) is run and not run.ending:
            if admission.actor is None and request.after_s > 0:
                self._later(request.after_s, run.run_id)
            elif run.actor is not None and run.actor == admission.actor:
                run.kwargs = request.kwargs
                self._order(run, is_first=is_first)
            lane = self._lane(run.thread_id)
            await self._perform(lane, lane.admitted(run.run_id))
        return CreatedRun(
            run_id=run.run_id,
            thread_id=run.thread_id,
            created_at=created_at.isoformat(),
            placement=run.placement,
        )

    async def _created_before(self, request: RunRequest) -> CreatedRun | Exception:
        """The answer to a retried create of a run that is not over; its admission may be on its way
        to the database, and the journal keeps the order."""
        (rows,) = await self._journal.commit(
            journal.created(request.run_id), patience_s=ADMISSION_PATIENCE_S
        )
        if not rows:
            return Unavailable("The run could not be stored. Try again.")
        run = self._runs.get(request.run_id)
        return CreatedRun(
            run_id=request.run_id,
            thread_id=request.thread_id,
            created_at=rows[0][0].isoformat(),
            placement=run.placement if run is not None else None,
        )

    async def _take_back(self, run: _Run) -> None:
        """Who asked for the run was told that it is not stored: so it must not be."""
        run.ending = True
        await self._journal.commit(*journal.delete_run(run.run_id))
        await self._withdraw(run)
        if run.temporary:
            await self._delete_temporary(run.thread_id, 0.0)

    async def _withdraw(self, run: _Run) -> None:
        """The run was not admitted after all; who waited behind it moves up."""
        if self._runs.get(run.run_id) is run:
            self._forget(run)
        lane = self._lane(run.thread_id)
        effects = lane.ended(run.run_id)
        if not lane.has_runs:
            # Who ended meanwhile left the thread busy for the run that did not come.
            await self._journal.commit(journal.calm_thread(run.thread_id))
        await self._perform(lane, effects)

    def _later(self, delay_s: float, run_id: str) -> None:
        def due() -> None:
            run = self._runs.get(run_id)
            if run is not None:
                self._queued.add(run_id)
                lane = self._lane(run.thread_id)
                self._tasks.spawn(self._perform(lane, lane.due(run_id)))

        asyncio.get_running_loop().call_later(delay_s, due)

    # --- effects -------------------------------------------------------------------------------

    async def _perform(self, lane: Lane, effects: Sequence[Effect]) -> None:
        """Makes effects durable, then performs them."""
        writes = self._drop_writes(effects)
        stops = [effect for effect in effects if isinstance(effect, Stop | Abandon)]
        writes += [journal.tell_stop(stop.run_id, stop.action) for stop in stops]
        if writes:
            await self._journal.commit(*writes)
        if stops:
            await self._faults.at("stop")
        self._perform_written(lane, effects)

    def _perform_written(self, lane: Lane, effects: Sequence[Effect]) -> None:
        for effect in effects:
            run = self._runs.get(effect.run_id)
            if run is None:
                continue
            match effect:
                case Drop():
                    self._meter.count(metrics.RUNS, run.graph_id, RunStatus.INTERRUPTED.value)
                    self._forget(run)
                    self._follow_up(run)
                case Stop():
                    self._stop(run, effect.action)
                case Abandon():
                    self._keeper.release(run.run_id, run.graph_id, None)
                    self._tasks.spawn(self._end_stopped(run))
                case Place():
                    # Perhaps it was stopped while the effects before it became durable.
                    known = self._keeper.knows(run.graph_id)
                    if known and lane.is_waiting(run.run_id) and not run.ending:
                        actor = self._keeper.claim(run.run_id, run.graph_id)
                        if actor is not None:
                            self._granted(run.run_id, actor)
        self._tidy(lane)

    def _tidy(self, lane: Lane) -> None:
        if lane.is_empty and self._lanes.get(lane.thread_id) is lane:
            del self._lanes[lane.thread_id]

    def _drop_writes(self, effects: Sequence[Effect]) -> list[Write]:
        """What makes dropped runs durable: they end interrupted, or are gone."""
        writes: list[Write] = []
        for effect in effects:
            if not isinstance(effect, Drop):
                continue
            run = self._runs[effect.run_id]
            run.ending = True
            if effect.delete:
                writes.append(outbox.announce(run.run_id, rolled_back=True))
                writes += journal.delete_run(run.run_id)
            else:
                writes.append(journal.end_run(run.run_id, RunStatus.INTERRUPTED, None))
                writes.append(outbox.announce(run.run_id))
            if not self._lane(run.thread_id).has_runs:
                writes.append(journal.calm_thread(run.thread_id))
        return writes

    def _granted(self, run_id: str, actor: str) -> None:
        run = self._runs.get(run_id)
        if run is None or run.ending or not self._lane(run.thread_id).is_waiting(run_id):
            # Stopped while it stood in line: the place is the next one's.
            self._keeper.vacate(run_id, actor)
            return
        self._assign(run, actor)
        self._tasks.spawn(self._start(run, actor, run.attempt))

    async def _start(self, run: _Run, actor: str, attempt: int) -> None:
        """Stores that the attempt is running, then orders it."""
        await self._faults.at("start")
        heads = [journal.keep_heads(run.run_id)] if run.resumes else []
        rows, *_ = await self._journal.commit(journal.start(run.run_id, attempt, actor), *heads)
        await self._faults.at("started")
        if not rows or run.attempt != attempt or run.actor != actor:
            return  # withdrawn, or lost its actor, in the meantime
        ((kwargs, is_first),) = rows
        run.kwargs = kwargs.encode()
        self._order(run, is_first=is_first)
        self._tell_followers(run.run_id)

    def _order(self, run: _Run, *, is_first: bool = False) -> None:
        assert run.actor is not None
        assert run.kwargs is not None
        run.started = True
        order = RunOrder(
            run_id=run.run_id,
            thread_id=run.thread_id,
            assistant_id=run.assistant_id,
            graph_id=run.graph_id,
            attempt=run.attempt,
            kwargs=run.kwargs,
            temporary=run.temporary,
            resumable=run.resumable,
            is_first=is_first,
            traceparent=run.traceparent,
        )
        run.kwargs = None  # a later attempt reads them from the database
        run.ordered_ms = time.time_ns() // 1_000_000
        run.ordered_s = time.monotonic()
        if run.since_s is not None and run.attempt == 1:
            waited_s = max(0.0, run.ordered_s - run.since_s)
            self._meter.observe(metrics.QUEUE_WAIT, waited_s, run.graph_id)
            if run.traceparent is not None:
                begun_ns = time.time_ns() - int(waited_s * 1e9)
                tracing.passed(
                    "queue", parent=run.traceparent, begun_ns=begun_ns, run_id=run.run_id
                )
        self._doings.note(run.thread_id, "run", run.placement, resumable=run.resumable)
        self._keeper.start(run.actor, order)
        self._limit(run)

    def _limit(self, run: _Run) -> None:
        """The actor ends an attempt that is out of time; one that is not heard of a little later is
        in a node that does not let it, and its process is killed."""
        timeout_s = self._keeper.timeout_s(run.graph_id)
        actor, attempt = run.actor, run.attempt
        if not timeout_s or actor is None:
            return

        def kill() -> None:
            current = run.actor == actor and run.attempt == attempt and not run.ending
            if self._runs.get(run.run_id) is run and current:
                run.out_of_time = True
                self._tasks.spawn(self._keeper.kill(actor))

        run.overdue = asyncio.get_running_loop().call_later(
            timeout_s + self._setup.cancel_grace_s, kill
        )

    # --- stop ----------------------------------------------------------------------------------

    async def cancel_many(self, requests: list[CancelRequest]) -> list[Exception | None]:
        """Stops runs; a run that is executed may still be stopping when this returns."""
        await self._ready_for(*(request.thread_id for request in requests))
        return [await self._cancel(request) for request in requests]

    async def _cancel(self, request: CancelRequest) -> Exception | None:
        run = self._runs.get(request.run_id)
        if run is None or run.thread_id != request.thread_id:
            return await self._not_cancellable(request)
        lane = self._lane(run.thread_id)
        await self._perform(lane, lane.stop(run.run_id, request.action))
        return None

    async def _not_cancellable(self, request: CancelRequest) -> Exception:
        found = await self._stored(request.run_id)
        if found is None or found.thread_id != request.thread_id:
            return NotFound("Run ID not found")
        return Conflict(f"Run ID is not cancellable (status: {found.status})")

    async def _stored(self, run_id: str) -> InFlight | None:
        return await retrying(self._database, lambda conn: journal.find_run(conn, run_id))

    async def cancel_all(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        """Stops every run of its own with the status; returns how many."""
        await self._ready()
        chosen = [
            run
            for run in self._runs.values()
            if status == "all" or (status == "running") == run.started
        ]
        for run in chosen:
            lane = self._lane(run.thread_id)
            await self._perform(lane, lane.stop(run.run_id, action))
        return len(chosen)

    def _stop(self, run: _Run, action: CancelAction) -> None:
        """Tells the actor; kills it when it does not obey in time."""
        actor, attempt = run.actor, run.attempt
        if actor is None or run.ending:
            return
        self._tasks.spawn(
            self._keeper.cancel(actor, run.run_id, attempt, keep_values=action == "interrupt")
        )

        def kill() -> None:
            if self._runs.get(run.run_id) is run and run.actor == actor and not run.ending:
                log.warning(
                    "the run ignores its cancellation; its process is killed",
                    extra={"run_id": run.run_id, "actor": actor},
                )
                self._tasks.spawn(self._keeper.kill(actor))

        run.killer = asyncio.get_running_loop().call_later(self._setup.cancel_grace_s, kill)

    # --- end -----------------------------------------------------------------------------------

    async def finished_many(self, reports: list[Report]) -> list[bool]:
        """Attempts that ended, as their actors report them; False for one that is not current."""
        await self._ready()
        began_s = time.monotonic()
        answers = await asyncio.gather(*(self._finished(report) for report in reports))
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "finish")
        return answers

    async def _finished(self, report: Report) -> bool:
        run = self._runs.get(report.run_id)
        if run is None:
            # Perhaps heard before, by a registry that died after its commit.
            self._keeper.vacate(report.run_id, report.actor)
            found = await self._stored(report.run_id)
            if found is None or found.attempt != report.attempt:
                return False
            return found.status.is_terminal
        if run.attempt != report.attempt or run.actor != report.actor:
            if run.actor != report.actor:
                self._keeper.vacate(report.run_id, report.actor)
            return False
        if report.status is RunStatus.PENDING:
            await self._handed_back(run)
            return True
        self._meter.count(metrics.EVENTS, run.graph_id, by=report.events)
        if report.first_event_s is not None:
            self._meter.observe(metrics.FIRST_EVENT, report.first_event_s, run.graph_id)
        await self._end(run, report.status, report.has_next, report.interrupts, report.error)
        return True

    async def _end(
        self,
        run: _Run,
        status: RunStatus,
        has_next: bool,
        interrupts: bytes | None,
        error: bytes | None,
    ) -> None:
        """The end of a lane's active run: its status and its thread's, as one."""
        if run.ending:
            await self._until_over(run.run_id)
            return
        run.ending = True
        lane = self._lane(run.thread_id)
        ticket = lane.find(run.run_id)
        if ticket is not None and ticket.stop == "rollback":
            await self._faults.at("roll_back")
            status, error = RunStatus.INTERRUPTED, None
            graph_id = run.graph_id
            try:
                *_, newest = await self._journal.commit(
                    journal.roll_back(run.run_id, run.thread_id),
                    outbox.announce(run.run_id, rolled_back=True),
                    *journal.delete_run(run.run_id),
                    journal.newest_graph(run.thread_id),
                )
                graph_id = newest[0][0] if newest else graph_id
            except DatabaseUnavailable as problem:  # it takes too long; the thread must go on
                log.error("a run was not rolled back", extra={"run_id": run.run_id})
                status, error = RunStatus.ERROR, _error("RollbackFailed", problem.message)
            await self._faults.at("rolled_back")
            interrupts, has_next = await self._keeper.settle(graph_id, run.thread_id)
        await self._faults.at("end")
        effects = lane.ended(run.run_id)
        rest = resting_status(status, has_next=has_next)
        if run.actor is not None:
            # The start of the next run on this actor goes into the same commit.
            self._keeper.hand_on(run.run_id, run.actor)
        await self._journal.commit(
            journal.end_run(run.run_id, status, error),
            journal.rest_thread(run.thread_id, rest, interrupts, error, busy=lane.has_runs),
            *([outbox.announce(run.run_id)] if run.webhook else []),
        )
        await self._faults.at("ended")
        self._meter.count(metrics.RUNS, run.graph_id, status.value)
        if run.ordered_s is not None:
            took_s = time.monotonic() - run.ordered_s
            self._meter.observe(metrics.RUN_TIME, took_s, run.graph_id)
        self._forget(run)
        self._tasks.spawn(self._perform(lane, effects))
        self._follow_up(run, error)

    def _forget(self, run: _Run) -> None:
        """The run is over: its place is free, and who follows it learns that."""
        self._runs.pop(run.run_id, None)
        self._queued.discard(run.run_id)
        self._remember(run)
        run.stop_timers()
        self._keeper.release(run.run_id, run.graph_id, run.actor)
        self._tell_followers(run.run_id)

    def _remember(self, run: _Run) -> None:
        """Who was about to ask where the run is may ask its actor how it ended: of a temporary run
        nothing else is left."""
        now_s = time.monotonic()
        while self._lately:
            oldest = next(iter(self._lately))
            if self._lately[oldest][0] > now_s - LATELY_S:
                break
            del self._lately[oldest]
        if run.placement is not None:
            self._lately[run.run_id] = now_s, run.placement

    def _follow_up(self, run: _Run, error: bytes | None = None) -> None:
        """What comes after an end and must not delay it."""
        if run.webhook:
            self._webhooks.wake()
        if run.temporary:
            # Whoever waits for the run asks its actor, which still has log and output. If it has
            # none, how it ended is only in its record.
            keep_s = LATELY_S if error is not None and run.placement is None else 0.0
            self._tasks.spawn(self._delete_temporary(run.thread_id, keep_s))

    async def _delete_temporary(self, thread_id: str, keep_s: float) -> None:
        if keep_s:
            await asyncio.sleep(keep_s)
        await self._journal.commit(*journal.delete_thread(thread_id))

    # --- death of an actor ---------------------------------------------------------------------

    async def exhausted(self, actor: str, resident_mib: int, limit_mib: int) -> None:
        """An actor says why it is about to end itself: it outgrew its placement's memory limit."""
        self._keeper.note(
            actor,
            f"The run's process used {resident_mib} MiB of memory; its graph's memory_mib allows"
            f" {limit_mib}.",
        )

    async def _handed_back(self, run: _Run) -> None:
        """A run's actor is draining: another attempt goes on from the last checkpoint."""
        lane = self._lane(run.thread_id)
        actor, run.actor, run.started = run.actor, None, False
        self._queued.add(run.run_id)
        await self._journal.commit(journal.requeue(run.run_id, run.attempt, died=False))
        self._keeper.release(run.run_id, run.graph_id, actor)
        ticket = lane.find(run.run_id)
        if ticket is not None and ticket.stage is Stage.STOPPING:
            interrupts, has_next = await self._keeper.settle(run.graph_id, run.thread_id)
            await self._end(run, RunStatus.INTERRUPTED, has_next, interrupts, None)
            return
        lane.requeued(run.run_id)
        self._meter.count(metrics.RECOVERIES, run.graph_id)
        self._tell_followers(run.run_id)
        self._claim_again(run)

    def _claim_again(self, run: _Run) -> None:
        granted = self._keeper.claim_again(run.run_id, run.graph_id)
        if granted is not None:
            self._granted(run.run_id, granted)

    async def _lost(self, run_id: str, dead: str, note: str | None) -> None:
        """A run's actor is dead: the next attempt, or the end."""
        run = self._runs.get(run_id)
        if run is None or run.ending or run.actor != dead:
            return
        lane = self._lane(run.thread_id)
        run.actor, run.started = None, False
        run.deaths += 1
        self._queued.add(run_id)
        log.warning(
            "A run has lost its actor.",
            extra={
                "action": "run_lost",
                "run_id": run_id,
                "thread_id": run.thread_id,
                "attempt": run.attempt,
                "actor": dead,
            },
        )
        await self._end_backends(dead)
        await self._faults.at("requeue")
        await self._journal.commit(journal.requeue(run_id, run.attempt, died=True))
        await self._faults.at("requeued")
        run.stop_timers()
        ticket = lane.find(run_id)
        if ticket is None or ticket.stage is Stage.STOPPING:
            await self._end_stopped(run)
            return
        if run.out_of_time:
            message = out_of_time(self._keeper.timeout_s(run.graph_id))
            await self._give_up(run, "TimeoutError", message, RunStatus.TIMEOUT)
            return
        if note is not None:
            await self._give_up(run, "MemoryLimitExceeded", note)
            return
        if run.deaths >= self._keeper.max_attempts(run.graph_id):
            reason = (
                f"The run's process died {run.deaths} times; it is not started again"
                " (max_attempts of its graph)."
            )
            await self._give_up(run, "ActorDied", reason)
            return
        lane.requeued(run_id)
        self._meter.count(metrics.RECOVERIES, run.graph_id)
        await asyncio.sleep(RETRY_BACKOFF_S[min(run.deaths, len(RETRY_BACKOFF_S)) - 1])
        if self._runs.get(run_id) is run and not run.ending and lane.is_waiting(run_id):
            self._claim_again(run)

    async def _end_stopped(self, run: _Run) -> None:
        """The end of a run that was told to stop and that nobody executes any more."""
        interrupts, has_next = await self._keeper.settle(run.graph_id, run.thread_id)
        await self._end(run, RunStatus.INTERRUPTED, has_next, interrupts, None)

    async def _unstartable(self, run_id: str, reason: str | None) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            await self._give_up(run, "ActorStartFailed", f"No actor starts for its graph: {reason}")

    async def _give_up(
        self, run: _Run, name: str, message: str, status: RunStatus = RunStatus.ERROR
    ) -> None:
        error = _error(name, message)
        interrupts, has_next = (
            await self._keeper.settle(run.graph_id, run.thread_id) if run.attempt else (None, False)
        )
        await self._end(run, status, has_next, interrupts, error)

    async def _end_backends(self, actor: str) -> None:
        """Ends what a dead, or presumed dead, actor still has open in the database."""
        while True:
            try:
                await retrying(self._database, lambda conn: terminate_backends(conn, actor))
                return
            except Unavailable:
                # The run hangs on it: whatever the database's absence lasts, it goes on after it.
                log.warning("the database is away, trying again", extra={"actor": actor})

    # --- questions -----------------------------------------------------------------------------

    async def follow(self, run_id: str, attempt: int, wait_s: float) -> Whereabouts | None:
        """Where the run's attempt after ``attempt`` is executed, or how the run ended.

        A long poll: None when neither is known in time.

        Raises:
            Misrouted: its thread is another registry's, which its id did not tell.
        """
        await self._ready()
        deadline_s = time.monotonic() + wait_s
        while True:
            run = self._runs.get(run_id)
            if run is None:
                _, placement = self._lately.get(run_id, (0.0, None))
                if placement is not None and placement.attempt > attempt:
                    return Whereabouts(status=RunStatus.RUNNING, placement=placement)
                found = await self._stored(run_id)
                if found is None:
                    return Whereabouts(status=None)
                if not self._shard.has(found.thread_id):
                    slot = slot_of_thread(found.thread_id)
                    raise Misrouted("Another registry has this run.", self._shard.of, slot)
                return Whereabouts(status=found.status)
            if run.placement is not None and run.attempt > attempt:
                return Whereabouts(status=RunStatus.RUNNING, placement=run.placement)
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._followers.setdefault(run_id, []).append(future)
            try:
                async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                    await future
            except TimeoutError:
                return None
            finally:
                self._leave(run_id, future)

    async def doings(self, thread_id: str, number: int | None, wait_s: float) -> list[Doing]:
        """What begins on a thread, past ``number``; None begins, with the run that is executed."""
        await self._ready_for(thread_id)
        found = await self._doings.after(thread_id, number, wait_s)
        lane = self._lanes.get(thread_id)
        if number is not None or lane is None or lane.active is None:
            return found
        run = self._runs[lane.active.run_id]
        if run.placement is None:
            return found
        active = Doing(
            number=found[0].number,
            kind="run",
            at_ms=run.ordered_ms,
            placement=run.placement,
            resumable=run.resumable,
            joined=True,
        )
        return [*found, active]

    def _leave(self, run_id: str, future: asyncio.Future[None]) -> None:
        """A follower does not wait any more: a run may be polled for days before it ends."""
        waiting = self._followers.get(run_id, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._followers[run_id]

    def _tell_followers(self, run_id: str) -> None:
        for future in self._followers.pop(run_id, []):
            if not future.done():
                future.set_result(None)

    async def _until_told(self, key: str) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._followers.setdefault(key, []).append(future)
        try:
            await future
        finally:
            self._leave(key, future)

    async def _until_over(self, run_id: str) -> None:
        while run_id in self._runs:
            await self.follow(run_id, ANY_ATTEMPT, 1.0)

    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """The name of the inspector for a duty; waits for it while it starts."""
        await self._ready()
        return await self._keeper.inspector(duty)

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector where nothing else is asked: what may have ended the usual one."""
        await self._ready()
        return await self._keeper.ask_apart(duty, graph_id, method, args)

    async def info(self) -> dict[str, Any]:
        """Counts of runs, actors and places."""
        await self._ready()
        running = self._executing()
        recent = [placement for _, placement in self._lately.values()][-RECENT_SHOWN:]
        return {
            "running": running,
            "pending": len(self._runs) - running,
            **self._keeper.counts(),
            "recent": [dataclasses.asdict(placement) for placement in recent],
        }

    async def counted(self) -> Counted:
        """Everything that is counted here."""
        await self._ready()
        self._measure()
        return self._meter.counted()

    def _measure(self) -> None:
        """Sets what is true now rather than counted."""
        runs: dict[Labels, float] = {}
        for run in self._runs.values():
            status = RunStatus.RUNNING if run.started else RunStatus.PENDING
            labels = (run.graph_id, status.value)
            runs[labels] = runs.get(labels, 0) + 1
        self._meter.set(metrics.RUNS_NOW, runs)
        self._keeper.measure()

    # --- exclusive operations ------------------------------------------------------------------

    async def _exclusively(self, thread_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Does ``work`` while no run is on the thread.

        Raises:
            Conflict: a run is in flight, or another operation.
        """
        lane = self._lane(thread_id)
        operation = os.urandom(8).hex()
        lane.begin_exclusive(operation)
        try:
            return await work()
        finally:
            await self._perform(lane, lane.end_exclusive(operation))
            self._tell_followers(operation)

    async def _rest(self, thread_id: str, interrupts: bytes | None, *, has_next: bool) -> None:
        """What the thread's record shows after its state was changed from outside."""
        rest = resting_status(RunStatus.SUCCESS, has_next=has_next)
        busy = self._lane(thread_id).has_runs  # admitted meanwhile; it waits for this
        await self._journal.commit(
            journal.rest_thread(thread_id, rest, interrupts, None, busy=busy)
        )

    async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
        """Changes a thread's state. ``update`` is a list of one ObjectRef: the values may be large,
        so only their reference passes through here."""
        await self._ready_for(thread_id)

        async def work() -> bytes:
            reply, interrupts, has_next = await self._keeper.update(update[0])
            await self._rest(thread_id, interrupts, has_next=has_next)
            self._doings.note(thread_id, "state")
            return reply

        return await self._exclusively(thread_id, work)

    async def copy_thread(self, thread_id: str, copy_id: str) -> None:
        """Copies a thread's record and checkpoints. Raises Conflict when there is none.

        The copy may be another registry's thread: nobody knows its id yet.
        """
        await self._ready_for(thread_id)

        async def work() -> None:
            rows, *_ = await self._journal.commit(*journal.copy_thread(thread_id, copy_id))
            if not rows:
                raise Conflict("Conflict")

        await self._exclusively(thread_id, work)

    async def delete_thread(self, thread_id: str) -> None:
        """Stops the thread's runs, waits for that, then deletes everything of it.

        May be repeated: a thread that is not there (any more) is deleted.
        """
        await self._ready_for(thread_id)
        lane = self._lane(thread_id)
        while lane.closing:
            # Perhaps for the same request: it is asked again when an answer was lost.
            await self._until_told(thread_id)
            lane = self._lane(thread_id)
        effects = lane.close()
        active = lane.active.run_id if lane.active is not None else None
        try:
            await self._perform(lane, effects)
            if active is not None:
                await self._until_over(active)
            while (operation := lane.exclusive) is not None:
                await self._until_told(operation)
            await self._journal.commit(*journal.delete_thread(thread_id))
        finally:
            lane.reopen()
            self._tidy(lane)
            self._tell_followers(thread_id)

    async def _delete_expired(self, thread_id: str) -> bool:
        """Deletes a thread whose time to live is over; not one that was used again meanwhile.

        Raises:
            Conflict: a run is in flight, or another operation.
        """
        lane = self._lane(thread_id)

        async def work() -> bool:
            ttl_s = self._setup.thread_ttl_s
            if not await upkeep.is_expired(self._database, thread_id, ttl_s) or lane.has_runs:
                return False
            lane.close()
            try:
                await self._journal.commit(*journal.delete_thread(thread_id))
            finally:
                lane.reopen()
                self._tell_followers(thread_id)
            return True

        return await self._exclusively(thread_id, work)

    async def prune_thread(self, thread_id: str) -> None:
        """Deletes all but the newest checkpoints. Raises Conflict while a run is in flight."""
        await self._ready_for(thread_id)
        await self._exclusively(thread_id, lambda: self._keeper.prune(thread_id))

    async def delete_run(self, thread_id: str, run_id: str) -> None:
        """Stops the run if it is not over, then deletes it and its checkpoints.

        May be repeated: a run that is not there (any more) is deleted.

        Raises:
            NotFound: it is another thread's.
            Conflict: it is over, and another one is in flight on its thread.
        """
        await self._ready_for(thread_id)
        run = self._runs.get(run_id)
        stopped = run is not None and run.thread_id == thread_id
        if stopped:
            lane = self._lane(thread_id)
            # A rollback deletes it at its end, before the next run of the thread starts.
            await self._perform(lane, lane.stop(run_id, "rollback"))
            await self._until_over(run_id)
        found = await self._stored(run_id)
        if found is None:
            return
        if found.thread_id != thread_id:
            raise NotFound("Run not found")
        if not found.attempt:
            # Never executed, so it left nothing and is in nobody's way.
            await self._journal.commit(*journal.delete_run(run_id))
            return
        graph_id = found.graph_id

        async def work() -> None:
            ((is_newest,),), *_, left = await self._journal.commit(
                journal.forget_run(run_id, thread_id),
                *journal.delete_run(run_id),
                journal.newest_graph(thread_id),
            )
            if is_newest:
                newest = left[0][0] if left else graph_id
                interrupts, has_next = await self._keeper.settle(newest, thread_id)
                await self._rest(thread_id, interrupts, has_next=has_next)

        await self._exclusively(thread_id, work)


def _error(name: str, message: str) -> bytes:
    return json.dumps({"error": name, "message": message}).encode()
