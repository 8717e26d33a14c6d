"""The registry: the one writer of run and thread status.

It performs what `greenroom.core.admission` decides. Every request is one synchronous step that
decides and reserves, then a commit (`greenroom.persistence.journal`, grouped), then the effects:
start, stop, answer. So what is acknowledged is durable, and what is executed was durable before.

    create ──decide──> lane, slot ──commit──> order to the actor, answer to the gateway
    finish ──decide──> next of the lane ──commit──> answer to the actor, which then closes the log
    death of an actor ──> the next attempt, or the end of a run that was being cancelled

A cancel is the exception to that order: the actor is told and its killer armed first, and the
commit goes beside it, so that a run stops also while the database does not answer.

What state a run is in says one table, `greenroom.core.lifecycle`, which is executed here. Whatever
follows a decision is *vital* (`actors.common.tasks`): it becomes durable, or it ends this process.
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
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import psycopg

from actors.calls.answers import long_poll, repeatable
from actors.calls.directory import Handles, rpc_host
from actors.calls.names import registry_name
from actors.calls.rpc import RpcAddress, RpcServer
from actors.common import metrics
from actors.common.garbage import spare_what_stays
from actors.common.metering import Counted, Labels, Meter
from actors.common.setup import RegistrySetup, configuration_of
from actors.common.tasks import Tasks, end_process
from actors.inspector.asking import Duty
from actors.registry.activity import Doing, Doings
from actors.registry.keeper import Keeper
from actors.registry.pending import Pending, answers
from actors.registry.sweeping import Sweeper
from actors.registry.thread_operations import Lanes, ThreadOperations
from actors.registry.webhooks import WebhookSender
from actors.spawn import Spawn
from greenroom import tracing
from greenroom.core.admission import Abandon, Drop, Effect, Lane, Place, Stop, Ticket
from greenroom.core.errors import (
    ConfigurationError,
    Conflict,
    DatabaseUnavailable,
    Fenced,
    GreenroomError,
    NotFound,
    Restarting,
    TooManyRequests,
    Unavailable,
)
from greenroom.core.lifecycle import Do, Event, Life, State
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
from greenroom.persistence import journal, outbox, shipped
from greenroom.persistence.bulk import AT_ONCE, Bulk, Operation
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
ANSWERS_KEPT = 10_000
"""Of how many creates and cancels the answer is remembered, should it be asked for again. Who asks
again does so within half a minute."""
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
        ticket: its place in its lane, and its state.
        resumes: it starts from checkpoints that are there, as far as is known.
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
    ticket: Ticket
    resumes: bool = True
    deaths: int = 0
    kwargs: bytes | None = None
    since_s: float | None = None
    ordered_s: float | None = None
    traceparent: str | None = None
    killer: asyncio.TimerHandle | None = None
    overdue: asyncio.TimerHandle | None = None
    out_of_time: bool = False

    @property
    def life(self) -> Life:
        return self.ticket.life

    @property
    def attempt(self) -> int:
        return self.life.attempt

    @property
    def actor(self) -> str | None:
        return self.life.actor

    @property
    def is_ending(self) -> bool:
        return self.life.state is State.ENDING

    def stop_timers(self) -> None:
        """Nobody has to end its process any more."""
        for timer in (self.killer, self.overdue):
            if timer is not None:
                timer.cancel()

    @property
    def placement(self) -> Placement | None:
        actor = self.life.actor
        if actor is None or not self.life.is_executed:
            return None
        return Placement(run_id=self.run_id, attempt=self.attempt, actor=actor)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recovered:
    """What a recovery found and opened, complete before anything of it is used."""

    embedded: Embedded | None
    setup: RegistrySetup
    takes_shipped: bool
    keeper: Keeper
    database: Pool
    epoch: int
    journal: Journal
    bulk: Bulk
    half_done: list[Operation]
    found: list[InFlight]
    abandoned: list[str]
    executed: Mapping[str, tuple[str, int]]


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
        self,
        setup: RegistrySetup,
        make_handles: Callable[[str], Handles] = Handles,
        make_spawn: Callable[[Handles], Spawn] = Spawn,
    ) -> None:
        self._setup = setup
        self._shard = setup.shard
        self._name = registry_name(setup.shard.number)
        self._faults = setup.faults
        self._make_handles = make_handles
        self._make_spawn = make_spawn
        self._lanes: dict[str, Lane] = {}
        self._runs: dict[str, _Run] = {}
        self._lately: dict[str, tuple[float, Placement]] = {}
        self._followers: dict[str, list[asyncio.Future[None]]] = {}
        self._queued: set[str] = set()
        most = setup.max_queued_runs
        self._most_queued = setup.shard.share(most) if most is not None else None
        self._tasks = Tasks(self._broken)
        self._creating: Pending[CreatedRun | Exception] = Pending(self._tasks.vital)
        self._cancelling: Pending[Exception | bool] = Pending(self._tasks.vital)
        self._hearing: Pending[bool] = Pending(self._tasks.vital)
        self._created: OrderedDict[str, CreatedRun] = OrderedDict()
        self._cancels_heard: OrderedDict[str, bool] = OrderedDict()
        self._doings = Doings()
        self._meter = Meter(metrics.ALL)
        self._epoch = 0
        self._draining = False
        self._relieved = False
        self._refusal: str | None = None
        self._recovered: asyncio.Event | None = None
        self._embedded: Embedded | None = None
        self._takes_shipped = False
        # Only once it has recovered.
        self._keeper: Keeper
        self._journal: Journal
        self._bulk: Bulk
        self._operations: ThreadOperations
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

    @repeatable
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
        await self._ready()
        return await self._keeper.is_warm(wait_s)

    @repeatable
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
        late = [run for run in self._runs.values() if run.life.is_executed and not run.is_ending]
        for run in late:
            run.life.on(Event.HANDED_BACK)
        if late:
            # By this registry: the next one would take it for the death of their processes.
            requeues = [
                self._journal.write(
                    journal.requeue(run.run_id, run.attempt, "cut off"),
                    key=run.thread_id,
                    patience_s=CUT_OFF_PATIENCE_S,
                )
                for run in late
            ]
            await asyncio.gather(*requeues)
        return len(late)

    async def _until_none_is_executed(self) -> None:
        while True:
            run_id = next((r.run_id for r in self._runs.values() if r.life.is_executed), None)
            if run_id is None:
                return
            await self._until_told(run_id)

    def _executing(self) -> int:
        return sum(1 for run in self._runs.values() if run.life.is_executed)

    async def _ready(self) -> None:
        if self._recovered is None:
            self._recovered = asyncio.Event()
            self._tasks.spawn(self._recover_until_done())
        if not self._recovered.is_set():
            try:
                async with asyncio.timeout(RECOVERY_WAIT_S):
                    await self._recovered.wait()
            except TimeoutError:
                raise Restarting("The server is still starting. Try again in a moment.") from None
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
                recovered = await self._recover()
                break
            except Superseded as error:  # before: to go would only have this one started again
                log.error("this registry stays out of it", extra={"reason": error.message})
                self._refusal = error.message
                self._recovered.set()
                return
            except Fenced:  # an actor has heard from a newer one
                self._superseded()
                raise
            except Exception:  # the database is away, or Ray: nothing but trying again helps
                log.exception("recovery failed, trying again")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)
        self._take_over(recovered)
        spare_what_stays()
        self._recovered.set()
        self._tasks.spawn(self._keeper.keep())
        self._tasks.spawn(self._webhooks.send())
        if self._setup.embedded is not None and self._shard.is_first:
            self._tasks.spawn(self._tend_embedded(self._setup.embedded))
        self._tasks.spawn(metrics.export(self._meter, self._measure))
        sweeper = Sweeper(self._database, self._setup, self._operations)
        self._tasks.spawn(sweeper.keep())

    async def _tend_embedded(self, directory: Path) -> None:
        """Starts the embedded database again when it is gone; to attach to it is cheap."""
        while True:
            await asyncio.sleep(TEND_INTERVAL_S)
            try:
                (await asyncio.to_thread(start_embedded, directory)).release()
            except ConfigurationError as error:
                log.error("the embedded database does not start", extra={"reason": str(error)})

    async def _recover(self) -> _Recovered:
        """Takes the epoch, then reads what the database and the living actors know.

        Changes nothing of this registry. If it fails, what it opened is closed: it is tried again
        for ever.
        """
        async with AsyncExitStack() as opened:
            setup, embedded = self._setup, None
            if setup.embedded is not None:
                # Attaches, or starts it again: it runs as long as one of its users does.
                embedded = await asyncio.to_thread(start_embedded, setup.embedded)
                opened.callback(embedded.release)
                setup = dataclasses.replace(setup, dsn=embedded.dsn)
            configuration = await asyncio.to_thread(configuration_of, setup)
            database = await open_pool(
                setup.dsn, application_name=f"greenroom:{self._name}", max_size=4 + AT_ONCE
            )
            opened.push_async_callback(database.close)
            shard = self._shard
            async with database.connection() as connection:
                epoch = await journal.take_epoch(connection, setup.generation, shard)
                found = await journal.in_flight(connection, shard)
                abandoned = await journal.abandoned_threads(connection, shard)
            pen = Journal(
                database,
                epoch,
                self._superseded,
                lambda seconds: self._meter.observe(metrics.COMMITS, seconds),
                shard=shard,
            )
            bulk = Bulk(database, epoch, self._superseded, shard=shard)
            handles = self._make_handles(setup.namespace)
            keeper = Keeper(
                handles,
                self._make_spawn(handles),
                configuration,
                setup,
                Tasks(self._broken),
                self._meter,
                granted=self._granted,
                lost=lambda run_id, actor, note: self._tasks.vital(self._lost(run_id, actor, note)),
                unstartable=lambda run_id, why: self._tasks.vital(self._unstartable(run_id, why)),
            )
            opened.push_async_callback(keeper.close)
            if configuration.shipped_graphs:
                await _learn_shipped(database, keeper)
            await pen.commit(journal.calm_abandoned(shard))
            half_done = await bulk.unfinished()
            executed = await keeper.adopt(epoch)
            opened.pop_all()
        return _Recovered(
            embedded=embedded,
            setup=setup,
            takes_shipped=configuration.shipped_graphs,
            keeper=keeper,
            database=database,
            epoch=epoch,
            journal=pen,
            bulk=bulk,
            half_done=half_done,
            found=found,
            abandoned=abandoned,
            executed=executed,
        )

    def _take_over(self, recovered: _Recovered) -> None:
        """Rebuilds lanes and runs; one synchronous step, so nobody sees half of it."""
        self._embedded = recovered.embedded
        self._setup = recovered.setup
        self._takes_shipped = recovered.takes_shipped
        self._keeper = recovered.keeper
        self._database = recovered.database
        self._epoch = recovered.epoch
        self._journal = recovered.journal
        self._bulk = recovered.bulk
        self._operations = ThreadOperations(
            Lanes(
                of=self._lane,
                tidy=self._tidy,
                perform=self._perform,
                thread_of=self._thread_of,
                until_over=self._until_over,
                until_told=self._until_told,
                tell=self._tell_followers,
            ),
            self._journal,
            self._bulk,
            self._keeper,
            self._doings,
            self._database,
            self._tasks,
            self._setup,
        )
        self._webhooks = WebhookSender(self._database, self._setup.webhooks, self._shard)
        for thread_id in recovered.abandoned:
            self._tasks.spawn(self._delete_remains(thread_id))
        effects: list[tuple[str, list[Effect]]] = []
        for found in recovered.found:
            try:
                effects.append((found.thread_id, self._take_up(found)))
            except Exception as error:  # one run must not be in the way of all others
                log.exception("a run cannot be taken up", extra={"run_id": found.run_id})
                self._tasks.vital(self._refuse_to_take_up(found, error))
        for run in list(self._runs.values()):
            actor = run.actor
            if actor is None:
                continue
            holds = self._keeper.holds(actor)
            if not holds or recovered.executed.get(run.run_id) != (actor, run.attempt):
                # An actor that lives and does not know the run never had the order.
                self._keeper.release(run.run_id, run.graph_id, actor)
                self._tasks.vital(self._lost(run.run_id, actor, None, died=not holds))
        self._operations.take_up(recovered.half_done)
        # What was displaced before the restart and had not ended is displaced now.
        for thread_id, displaced in effects:
            self._tasks.vital(self._performed(self._lane(thread_id), displaced))
        for run in list(self._runs.values()):
            if not self._keeper.knows(run.graph_id):
                reason = f"The graph '{run.graph_id}' is not served any more."
                self._tasks.vital(self._give_up(run, "GraphNotFound", reason))
        for lane in list(self._lanes.values()):
            self._tasks.vital(self._performed(lane, lane.resume()))

    async def _refuse_to_take_up(self, found: InFlight, problem: Exception) -> None:
        """Ends a run that cannot be restored, e.g. a second one that executes on a thread."""
        error = _error("RecoveryFailed", f"The run could not be taken up again: {problem}")
        lane = self._lanes.get(found.thread_id)
        busy = lane is not None and lane.has_runs
        writes = [journal.end_run(found.run_id, RunStatus.ERROR, error)]
        if not busy:
            rest = resting_status(RunStatus.ERROR, has_next=False)
            writes.append(journal.rest_thread(found.thread_id, rest, None, error))
        await self._journal.commit(*writes, key=found.thread_id)

    def _broken(self) -> None:
        """Ends the process: Ray starts it again, and recovery rebuilds what was decided."""
        end_process()

    def _superseded(self) -> None:
        log.warning("another registry has taken over")
        os._exit(EXIT_SUPERSEDED)

    def _take_up(self, found: InFlight) -> list[Effect]:
        """Puts a run of the database back into its lane.

        Raises:
            IllegalTransition: another one is active there.
        """
        running = found.status is RunStatus.RUNNING
        due_in_s = found.due_in_s or 0.0
        if running:
            state = State.RUNNING
        elif found.attempt:
            state = State.WAITING  # it lost its actor, and keeps the thread
        else:
            state = State.DELAYED if due_in_s > 0 else State.QUEUED
        life = Life(
            state=state,
            attempt=found.attempt,
            actor=found.actor if running else None,
            stored=found.attempt,
        )
        lane = self._lane(found.thread_id)
        effects = lane.restore(found.run_id, life, found.multitask_strategy)
        ticket = lane.find(found.run_id)
        assert ticket is not None
        run = self._runs[found.run_id] = _Run(
            run_id=found.run_id,
            thread_id=found.thread_id,
            assistant_id=found.assistant_id,
            graph_id=found.graph_id,
            temporary=found.temporary,
            resumable=found.resumable,
            webhook=found.webhook,
            ticket=ticket,
            deaths=found.deaths,
        )
        if running:
            self._limit(run)  # anew: the registry before took its clock along
        elif state is State.DELAYED:
            self._later(due_in_s, run.run_id)
        else:
            self._queued.add(run.run_id)
        if found.stop is not None:
            # It was cancelled with a registry before this one; perhaps its actor was not told.
            effects += lane.stop(run.run_id, found.stop)
        return effects

    def _lane(self, thread_id: str) -> Lane:
        lane = self._lanes.get(thread_id)
        if lane is None:
            lane = self._lanes[thread_id] = Lane(thread_id)
        return lane

    # --- create --------------------------------------------------------------------------------

    @repeatable
    async def create_many(self, requests: list[RunRequest]) -> list[CreatedRun | Exception | None]:
        """Admits runs, in order. A refusal is the result of its request, not of the call.

        None is the result of one that is still being stored: ask for that again.

        Raises:
            Restarting: another registry is about to take over; gateways ask that one.
            Misrouted: one of them is another registry's; then none is admitted.
        """
        await self._ready_for(*(request.thread_id for request in requests))
        if self._relieved:
            raise Restarting("The server is being replaced. Try again in a moment.")
        if self._takes_shipped and not all(self._keeper.knows(r.graph_id) for r in requests):
            await _learn_shipped(self._database, self._keeper)
        began_s = time.monotonic()
        # Each is on its way to the database before the next is decided: one order for both.
        answered = await answers([self._creation(request) for request in requests])
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "create")
        return answered

    def _creation(self, request: RunRequest) -> asyncio.Task[CreatedRun | Exception]:
        under_way = self._creating.get(request.run_id)
        if under_way is not None:
            return under_way
        return self._creating.begin(request.run_id, self._create(request, self._decide(request)))

    def _decide(self, request: RunRequest) -> _Admission | GreenroomError | None:
        """The synchronous step: it reserves lane and place. None: the run is known."""
        if self._draining:
            return Unavailable("The server is stopping. Try again in a moment.")
        if request.run_id in self._runs or request.run_id in self._created:
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
        ticket = lane.find(request.run_id)
        assert ticket is not None
        run = self._runs[request.run_id] = _Run(
            run_id=request.run_id,
            thread_id=request.thread_id,
            assistant_id=request.assistant_id,
            graph_id=request.graph_id,
            temporary=request.temporary,
            resumable=request.resumable,
            webhook=request.webhook,
            ticket=ticket,
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
        rows = self._journal.write(*writes, key=run.thread_id, patience_s=ADMISSION_PATIENCE_S)
        return _Admission(run=run, actor=actor, rows=rows)

    def _assign(self, run: _Run, actor: str) -> None:
        """The next attempt is this actor's; durable a moment later."""
        run.life.on(Event.GRANTED, actor=actor)
        self._queued.discard(run.run_id)

    async def _create(
        self, request: RunRequest, admission: _Admission | GreenroomError | None
    ) -> CreatedRun | Exception:
        if request.run_id in self._created:
            return self._created[request.run_id]
        if isinstance(admission, Conflict):
            # Perhaps it was admitted when it was asked for first, and the answer was lost.
            return await self._created_before(request, admission)
        if isinstance(admission, GreenroomError):
            return admission
        if admission is None:
            refusal = Unavailable("The run could not be stored. Try again.")
            return await self._created_before(request, refusal)
        run = admission.run
        try:
            await self._faults.at("admit")
            rows, *_ = await admission.rows
            await self._faults.at("admitted")
        except Superseded:
            raise
        except DatabaseUnavailable as error:
            # It may have been stored before the connection was lost.
            self._tasks.vital(self._take_back(run))
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
        elif self._runs.get(run.run_id) is run and not run.is_ending:
            if admission.actor is None and request.after_s > 0:
                self._later(request.after_s, run.run_id)
            elif admission.actor is not None:
                self._stored_start(run, admission.actor, 1, request.kwargs, is_first=is_first)
            lane = self._lane(run.thread_id)
            await self._perform(lane, lane.admitted(run.run_id))
        created = CreatedRun(
            run_id=run.run_id,
            thread_id=run.thread_id,
            created_at=created_at.isoformat(),
            placement=run.placement,
        )
        _remember(self._created, run.run_id, created)
        return created

    async def _created_before(
        self, request: RunRequest, refusal: GreenroomError
    ) -> CreatedRun | Exception:
        """The answer to a create that is asked for again; its admission may be on its way to the
        database, and the journal keeps the order. The refusal, if it was not admitted."""
        (rows,) = await self._journal.commit(
            journal.created(request.run_id),
            key=request.thread_id,
            patience_s=ADMISSION_PATIENCE_S,
        )
        if not rows:
            return refusal
        run = self._runs.get(request.run_id)
        return CreatedRun(
            run_id=request.run_id,
            thread_id=request.thread_id,
            created_at=rows[0][0].isoformat(),
            placement=run.placement if run is not None else None,
        )

    async def _take_back(self, run: _Run) -> None:
        """Who asked for the run was told that it is not stored: so it must not be."""
        run.life.on(Event.GIVE_UP)
        await self._journal.commit(*journal.delete_run(run.run_id), key=run.thread_id)
        await self._withdraw(run)
        if run.temporary and not self._lane(run.thread_id).has_runs:
            await self._journal.commit(journal.leave_thread(run.thread_id), key=run.thread_id)
            self._follow_up(run)

    async def _withdraw(self, run: _Run) -> None:
        """The run was not admitted after all; the run that waited behind it moves up."""
        run.life.on(Event.GIVE_UP)
        if self._runs.get(run.run_id) is run:
            self._forget(run)
        lane = self._lane(run.thread_id)
        effects = lane.ended(run.run_id)
        if not lane.has_runs:
            # A run that ended meanwhile left the thread busy for the run that did not come.
            await self._journal.commit(journal.calm_thread(run.thread_id), key=run.thread_id)
        await self._performed(lane, effects)

    def _later(self, delay_s: float, run_id: str) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, lambda: self._tasks.vital(self._due(run_id)))

    async def _due(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            self._queued.add(run_id)
            lane = self._lane(run.thread_id)
            await self._performed(lane, lane.due(run_id))

    # --- effects -------------------------------------------------------------------------------

    async def _perform(self, lane: Lane, effects: Sequence[Effect], *writes: Write) -> None:
        """Performs effects and makes them durable, also if the caller leaves meanwhile."""
        if effects or writes:
            work = self._tasks.vital(self._performed(lane, effects, *writes))
            await asyncio.shield(work)
        else:
            self._tidy(lane)

    async def _performed(self, lane: Lane, effects: Sequence[Effect], *writes: Write) -> None:
        """Tells actors to stop their runs, makes all effects durable, then performs the others.

        Vital: what it is given was decided.
        """
        stops = [effect for effect in effects if isinstance(effect, Stop | Abandon)]
        for effect in effects:
            if isinstance(effect, Stop) and effect.run_id in self._runs:
                self._stop(self._runs[effect.run_id], effect.action)
        written = [
            *self._drop_writes(effects),
            *(journal.tell_stop(stop.run_id, stop.action) for stop in stops),
            *writes,
        ]
        if written:
            await self._journal.commit(*written, key=lane.thread_id)
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
                case Abandon():
                    self._keeper.release(run.run_id, run.graph_id, None)
                    self._tasks.vital(self._end_unexecuted(run))
                case Place():
                    # Perhaps it was stopped while the effects before it became durable.
                    if self._keeper.knows(run.graph_id) and lane.is_waiting(run.run_id):
                        actor = self._keeper.claim(run.run_id, run.graph_id)
                        if actor is not None:
                            self._granted(run.run_id, actor)
                case Stop():
                    pass  # its actor was told at once
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
            if effect.delete:
                writes.append(outbox.announce(run.run_id, rolled_back=True))
                writes += journal.delete_run(run.run_id)
            else:
                writes.append(journal.end_run(run.run_id, RunStatus.INTERRUPTED, None))
                writes.append(outbox.announce(run.run_id))
            if not self._lane(run.thread_id).has_runs:
                rest = journal.leave_thread if run.temporary else journal.calm_thread
                writes.append(rest(run.thread_id))
        return writes

    def _granted(self, run_id: str, actor: str) -> None:
        run = self._runs.get(run_id)
        if run is None or not self._lane(run.thread_id).is_waiting(run_id):
            # Stopped while it stood in line: the slot is the next one's.
            self._keeper.vacate(run_id, actor)
            return
        self._assign(run, actor)
        self._tasks.vital(self._start(run, actor, run.attempt))

    async def _start(self, run: _Run, actor: str, attempt: int) -> None:
        """Stores that the attempt is running, then orders it."""
        await self._faults.at("start")
        heads = [journal.keep_heads(run.run_id)] if run.resumes else []
        rows, *_ = await self._journal.commit(
            journal.start(run.run_id, attempt, actor), *heads, key=run.thread_id
        )
        await self._faults.at("started")
        if rows:
            ((kwargs, is_first),) = rows
            self._stored_start(run, actor, attempt, kwargs.encode(), is_first=is_first)
        elif run.life.on(Event.GIVE_UP, attempt=attempt, actor=actor):
            # There is no such run in the database that is not over.
            await self._withdraw(run)

    def _stored_start(
        self, run: _Run, actor: str, attempt: int, kwargs: bytes, *, is_first: bool
    ) -> None:
        """The attempt is durable: its actor gets the order, unless it was lost meanwhile."""
        effects = run.life.on(Event.STORED, attempt=attempt, actor=actor) or ()
        if Do.ORDER not in effects:
            return
        run.kwargs = kwargs
        self._order(run, is_first=is_first)
        self._tell_followers(run.run_id)
        if run.life.stop is not None:
            self._tell_actor(run, run.life.stop)

    def _order(self, run: _Run, *, is_first: bool = False) -> None:
        assert run.actor is not None
        assert run.kwargs is not None
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
        run.ordered_s = time.monotonic()
        if run.since_s is not None and run.attempt == 1:
            waited_s = max(0.0, run.ordered_s - run.since_s)
            self._meter.observe(metrics.QUEUE_WAIT, waited_s, run.graph_id)
            if run.traceparent is not None:
                begun_ns = time.time_ns() - int(waited_s * 1e9)
                tracing.passed(
                    "queue", parent=run.traceparent, begun_ns=begun_ns, run_id=run.run_id
                )
        self._doings.note(run.thread_id, "run", run.run_id)
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
            if run.life.on(Event.OVERDUE, attempt=attempt, actor=actor):
                run.out_of_time = True
                self._tasks.spawn(self._keeper.kill(actor))

        run.overdue = asyncio.get_running_loop().call_later(
            timeout_s + self._setup.cancel_grace_s, kill
        )

    # --- stop ----------------------------------------------------------------------------------

    @repeatable
    async def cancel_many(self, requests: list[CancelRequest]) -> list[Exception | bool | None]:
        """Cancels runs; one that is executed may still be stopping when this returns.

        A refusal is the result of its request, True that of one that is heard, and None that of one
        that is still being stored: its actor is told already; ask for it again, by the same name.
        """
        await self._ready_for(*(request.thread_id for request in requests))
        return await answers([self._cancellation(request) for request in requests])

    def _cancellation(self, request: CancelRequest) -> asyncio.Task[Exception | bool]:
        under_way = self._cancelling.get(request.name)
        if under_way is not None:
            return under_way
        return self._cancelling.begin(request.name, self._cancel(request))

    async def _cancel(self, request: CancelRequest) -> Exception | bool:
        if request.name in self._cancels_heard:
            return True
        run = self._runs.get(request.run_id)
        if run is None or run.thread_id != request.thread_id:
            return await self._not_cancellable(request)
        lane = self._lane(run.thread_id)
        effects = lane.stop(run.run_id, request.action)
        _remember(self._cancels_heard, request.name, True)
        await self._perform(lane, effects, journal.note_cancel(request.name))
        return True

    async def _not_cancellable(self, request: CancelRequest) -> Exception | bool:
        name = request.name
        if await retrying(self._database, lambda conn: journal.was_cancel_heard(conn, name)):
            return True  # and the answer was lost
        found = await self._stored(request.run_id)
        if found is None or found.thread_id != request.thread_id:
            return NotFound("Run ID not found")
        return Conflict(f"Run ID is not cancellable (status: {found.status})")

    async def _stored(self, run_id: str) -> InFlight | None:
        return await retrying(self._database, lambda conn: journal.find_run(conn, run_id))

    @repeatable
    async def cancel_all(
        self, status: Literal["pending", "running", "all"], action: CancelAction
    ) -> int:
        """Stops every run of its own with the status; returns how many."""
        await self._ready()
        chosen = [
            run
            for run in self._runs.values()
            if status == "all" or (status == "running") == run.life.is_executed
        ]
        lanes = [self._lane(run.thread_id) for run in chosen]
        await asyncio.gather(
            *(
                self._perform(lane, lane.stop(run.run_id, action))
                for run, lane in zip(chosen, lanes, strict=True)
            )
        )
        return len(chosen)

    def _stop(self, run: _Run, action: CancelAction) -> None:
        """Tells the actor; kills it when it does not obey in time."""
        actor, attempt = run.actor, run.attempt
        if actor is None or run.is_ending:
            return
        self._tell_actor(run, action)

        def kill() -> None:
            if run.life.on(Event.GRACE_OVER, attempt=attempt, actor=actor):
                log.warning(
                    "the run ignores its cancellation; its process is killed",
                    extra={"run_id": run.run_id, "actor": actor},
                )
                self._tasks.spawn(self._keeper.kill(actor))

        run.killer = asyncio.get_running_loop().call_later(self._setup.cancel_grace_s, kill)

    def _tell_actor(self, run: _Run, action: CancelAction) -> None:
        assert run.actor is not None
        keeps = action == "interrupt"
        self._tasks.spawn(
            self._keeper.cancel(run.actor, run.run_id, run.attempt, keep_values=keeps)
        )

    # --- end -----------------------------------------------------------------------------------

    @repeatable
    async def finished_many(self, reports: list[Report]) -> list[bool | None]:
        """Attempts that ended, as their actors report them.

        The result is True for one that is heard, False for one that is not current, and None for
        one whose end is still being stored: report it again.
        """
        await self._ready()
        began_s = time.monotonic()
        answered = await answers([self._hearing_of(report) for report in reports])
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "finish")
        return answered

    def _hearing_of(self, report: Report) -> asyncio.Task[bool]:
        key = (report.run_id, report.attempt, report.actor)
        under_way = self._hearing.get(key)
        return (
            under_way if under_way is not None else self._hearing.begin(key, self._finished(report))
        )

    async def _finished(self, report: Report) -> bool:
        run = self._runs.get(report.run_id)
        if run is None:
            self._keeper.vacate(report.run_id, report.actor)
            return await self._was_heard(report)
        handed_back = report.status is RunStatus.PENDING
        event = Event.HANDED_BACK if handed_back else Event.REPORTED
        actor = run.actor
        effects = run.life.on(event, attempt=report.attempt, actor=report.actor)
        if effects is None:
            if actor != report.actor:
                self._keeper.vacate(report.run_id, report.actor)
            return False
        if Do.REQUEUE in effects:
            await self._handed_back(run, report.actor)
            return True
        if Do.END not in effects:
            await self._until_over(run.run_id)  # it is being written
            return True
        self._meter.count(metrics.EVENTS, run.graph_id, by=report.events)
        if report.first_event_s is not None:
            self._meter.observe(metrics.FIRST_EVENT, report.first_event_s, run.graph_id)
        await self._end(run, report.status, report.has_next, report.interrupts, report.error)
        return True

    async def _was_heard(self, report: Report) -> bool:
        """Whether a run that is not in flight ended as reported, perhaps with a registry that died
        after its commit. One that is gone (temporary, rolled back, deleted) was heard: it was
        deleted after its end, and no other attempt follows."""
        found = await self._stored(report.run_id)
        if found is None:
            return True
        return found.attempt == report.attempt and found.status.is_terminal

    async def _end(
        self,
        run: _Run,
        status: RunStatus,
        has_next: bool,
        interrupts: bytes | None,
        error: bytes | None,
    ) -> None:
        """The end of a run: its status and its thread's, as one. Its state is `State.ENDING`."""
        lane = self._lane(run.thread_id)
        if run.life.stop == "rollback":
            await self._faults.at("roll_back")
            status, error = RunStatus.INTERRUPTED, None
            graph_id = run.graph_id
            try:
                await self._bulk.roll_back(run.run_id, run.thread_id)
            except (DatabaseUnavailable, psycopg.Error) as problem:  # the thread must go on
                log.error("a run was not rolled back", exc_info=True, extra={"run_id": run.run_id})
                status, error = (
                    RunStatus.ERROR,
                    _error("RollbackFailed", str(problem).strip().partition("\n")[0]),
                )
            else:
                *_, newest = await self._journal.commit(
                    outbox.announce(run.run_id, rolled_back=True),
                    *journal.delete_run(run.run_id),
                    journal.newest_graph(run.thread_id),
                    key=run.thread_id,
                )
                graph_id = newest[0][0] if newest else graph_id
            await self._faults.at("rolled_back")
            interrupts, has_next = await self._keeper.settle(graph_id, run.thread_id)
        await self._faults.at("end")
        effects = lane.ended(run.run_id)
        if run.actor is not None:
            # The start of the next run on this actor goes into the same commit.
            self._keeper.hand_on(run.run_id, run.actor)
        try:
            await self._store_end(run, status, has_next, interrupts, error, busy=lane.has_runs)
        except psycopg.Error as problem:
            # Something of the report cannot be stored; its end must be.
            log.exception("an end cannot be stored as reported", extra={"run_id": run.run_id})
            status = RunStatus.ERROR
            reason = f"How the run ended cannot be stored ({type(problem).__name__})."
            error = _error("EndNotStored", reason)
            await self._store_end(run, status, False, None, error, busy=lane.has_runs)
        await self._faults.at("ended")
        self._meter.count(metrics.RUNS, run.graph_id, status.value)
        if run.ordered_s is not None:
            took_s = time.monotonic() - run.ordered_s
            self._meter.observe(metrics.RUN_TIME, took_s, run.graph_id)
        self._forget(run)
        self._tasks.vital(self._performed(lane, effects))
        self._follow_up(run)

    async def _store_end(
        self,
        run: _Run,
        status: RunStatus,
        has_next: bool,
        interrupts: bytes | None,
        error: bytes | None,
        *,
        busy: bool,
    ) -> None:
        rest = resting_status(status, has_next=has_next)
        await self._journal.commit(
            journal.end_run(run.run_id, status, error),
            journal.leave_thread(run.thread_id)
            if run.temporary and not busy
            else journal.rest_thread(run.thread_id, rest, interrupts, error, busy=busy),
            *([outbox.announce(run.run_id)] if run.webhook else []),
            key=run.thread_id,
        )

    def _forget(self, run: _Run) -> None:
        """The run is over: its place is free, and who follows it learns that."""
        self._runs.pop(run.run_id, None)
        self._queued.discard(run.run_id)
        self._remember(run)
        run.stop_timers()
        self._keeper.release(run.run_id, run.graph_id, run.actor)
        self._tell_followers(run.run_id)

    def _remember(self, run: _Run) -> None:
        """Who was about to ask where the run is asks its actor how it ended: its output is there,
        and its last events."""
        now_s = time.monotonic()
        while self._lately:
            oldest = next(iter(self._lately))
            if self._lately[oldest][0] > now_s - LATELY_S:
                break
            del self._lately[oldest]
        if run.placement is not None:
            self._lately[run.run_id] = now_s, run.placement

    def _follow_up(self, run: _Run) -> None:
        """What comes after an end and must not delay it."""
        if run.webhook:
            self._webhooks.wake()
        if run.temporary:
            self._tasks.spawn(self._delete_remains(run.thread_id))

    async def _delete_remains(self, thread_id: str) -> None:
        # Whoever waits for the run asks its actor; if that died, its outcome is found in these.
        await asyncio.sleep(LATELY_S)
        await self._operations.delete_remains(thread_id)

    # --- death of an actor ---------------------------------------------------------------------

    @repeatable
    async def exhausted(self, actor: str, resident_mib: int, limit_mib: int) -> None:
        """An actor says why it is about to end itself: it outgrew its placement's memory limit."""
        self._keeper.note(
            actor,
            f"The run's process used {resident_mib} MiB of memory; its graph's memory_mib allows"
            f" {limit_mib}.",
        )

    async def _handed_back(self, run: _Run, actor: str) -> None:
        """A run's actor is draining: another attempt goes on from the last checkpoint."""
        self._queued.add(run.run_id)
        run.stop_timers()
        await self._journal.commit(
            journal.requeue(run.run_id, run.attempt, "drained"), key=run.thread_id
        )
        self._keeper.release(run.run_id, run.graph_id, actor)
        if run.life.stop is not None:
            await self._end_cancelled(run)
        elif self._requeued(run):
            self._claim_again(run)

    def _requeued(self, run: _Run) -> bool:
        """The next attempt may follow; False if the run was decided otherwise meanwhile."""
        effects = run.life.on(Event.REQUEUED, attempt=run.attempt) or ()
        if Do.PLACE_AGAIN not in effects:
            return False
        self._meter.count(metrics.RECOVERIES, run.graph_id)
        self._tell_followers(run.run_id)
        return True

    def _claim_again(self, run: _Run) -> None:
        granted = self._keeper.claim_again(run.run_id, run.graph_id)
        if granted is not None:
            self._granted(run.run_id, granted)

    async def _lost(self, run_id: str, dead: str, note: str | None, *, died: bool = True) -> None:
        """A run's actor is gone: the next attempt, or the end.

        Args:
            dead: which actor; it counts only if the run is still its.
            note: why it died, if that is known.
            died: False when the actor lives, and never had the order.
        """
        run = self._runs.get(run_id)
        if run is None or Do.REQUEUE not in (run.life.on(Event.LOST, actor=dead) or ()):
            return
        run.deaths += int(died)
        self._queued.add(run_id)
        log.warning(
            "A run has lost its actor." if died else "A run's order has not reached its actor.",
            extra={
                "action": "run_lost",
                "run_id": run_id,
                "thread_id": run.thread_id,
                "attempt": run.attempt,
                "actor": dead,
            },
        )
        if died:
            await self._end_backends(dead)
        await self._faults.at("requeue")
        because = "died" if died else "not ordered"
        await self._journal.commit(journal.requeue(run_id, run.attempt, because), key=run.thread_id)
        await self._faults.at("requeued")
        run.stop_timers()
        if run.life.stop is not None:
            await self._end_cancelled(run)
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
        if not self._requeued(run):
            return
        # The first attempt after a death, or after none, begins at once.
        step = max(1, min(run.deaths, len(RETRY_BACKOFF_S)))
        await asyncio.sleep(RETRY_BACKOFF_S[step - 1])
        if self._runs.get(run_id) is run and self._lane(run.thread_id).is_waiting(run_id):
            self._claim_again(run)

    async def _end_cancelled(self, run: _Run) -> None:
        """The end of a run that was cancelled and lost its actor before it said that it stopped."""
        if Do.END in (run.life.on(Event.GIVE_UP) or ()):
            await self._end_unexecuted(run)

    async def _end_unexecuted(self, run: _Run) -> None:
        """The end of a cancelled run that no actor executes; it may have left something."""
        interrupts, has_next = await self._keeper.settle(run.graph_id, run.thread_id)
        await self._end(run, RunStatus.INTERRUPTED, has_next, interrupts, None)

    async def _unstartable(self, run_id: str, reason: str | None) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            await self._give_up(run, "ActorStartFailed", f"No actor starts for its graph: {reason}")

    async def _give_up(
        self, run: _Run, name: str, message: str, status: RunStatus = RunStatus.ERROR
    ) -> None:
        if Do.END not in (run.life.on(Event.GIVE_UP) or ()):
            return
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

    @long_poll
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

    @long_poll
    async def doings(self, thread_id: str, number: int | None, wait_s: float) -> list[Doing]:
        """What begins on a thread, past ``number``; see `Doings.after`."""
        await self._ready_for(thread_id)
        return await self._doings.after(thread_id, number, wait_s)

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

    @repeatable
    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """The name of the inspector for a duty; waits for it while it starts."""
        await self._ready()
        return await self._keeper.inspector(duty)

    @repeatable
    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector where nothing else is asked: what may have ended the usual one."""
        await self._ready()
        return await self._keeper.ask_apart(duty, graph_id, method, args)

    @repeatable
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

    @repeatable
    async def counted(self) -> Counted:
        """Everything that is counted here."""
        await self._ready()
        self._measure()
        return self._meter.counted()

    def _measure(self) -> None:
        """Sets what is true now rather than counted."""
        runs: dict[Labels, float] = {}
        for run in self._runs.values():
            status = RunStatus.RUNNING if run.life.is_executed else RunStatus.PENDING
            labels = (run.graph_id, status.value)
            runs[labels] = runs.get(labels, 0) + 1
        self._meter.set(metrics.RUNS_NOW, runs)
        self._keeper.measure()

    # --- exclusive operations ------------------------------------------------------------------

    @repeatable
    async def update_state(self, thread_id: str, update: list[Any]) -> bytes:
        """`ThreadOperations.update_state`."""
        await self._ready_for(thread_id)
        return await self._operations.update_state(thread_id, update)

    @repeatable
    async def copy_thread(self, thread_id: str, copy_id: str) -> None:
        """`ThreadOperations.copy`."""
        await self._ready_for(thread_id)
        await self._operations.copy(thread_id, copy_id)

    @repeatable
    async def delete_thread(self, thread_id: str) -> None:
        """`ThreadOperations.delete`."""
        await self._ready_for(thread_id)
        await self._operations.delete(thread_id)

    @repeatable
    async def prune_thread(self, thread_id: str) -> None:
        """`ThreadOperations.prune`."""
        await self._ready_for(thread_id)
        await self._operations.prune(thread_id)

    @repeatable
    async def delete_run(self, thread_id: str, run_id: str) -> None:
        """`ThreadOperations.delete_run`."""
        await self._ready_for(thread_id)
        await self._operations.delete_run(thread_id, run_id)

    def _thread_of(self, run_id: str) -> str | None:
        run = self._runs.get(run_id)
        return run.thread_id if run is not None else None


async def _learn_shipped(database: Pool, keeper: Keeper) -> None:
    """Graphs may have been shipped since the last look, by whoever has the database."""
    for graph_id, placement in (await shipped.placements(database)).items():
        keeper.serve(GraphSpec(graph_id=graph_id, target="", placement=PlacementSpec(**placement)))


def _remember(answers_given: OrderedDict[str, T], name: str, answer: T) -> None:
    answers_given[name] = answer
    if len(answers_given) > ANSWERS_KEPT:
        answers_given.popitem(last=False)


def _error(name: str, message: str) -> bytes:
    return json.dumps({"error": name, "message": message}).encode()
