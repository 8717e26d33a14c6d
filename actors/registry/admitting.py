"""Admits runs: decides, stores the admission, then starts the runs that have a slot.

    create ──decide──> lane, slot ──commit──> order to the actor, answer to the gateway

`Admissions._decide` decides in one synchronous step. The admissions of a call go to the database
in the order in which they were decided.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.common import metrics
from actors.registry.attempts import Attempts
from actors.registry.context import Context
from actors.registry.effects import Effects
from actors.registry.in_flight import Run
from actors.registry.injecting import Injections
from actors.registry.inputs import Inputs
from actors.registry.pending import Pending, Remembered, answers
from actors.registry.pools import ActorPools
from greenroom.core.admission import Claim
from greenroom.core.crons import Firing
from greenroom.core.errors import (
    THREAD_OR_ASSISTANT_NOT_FOUND,
    AssistantChanged,
    Conflict,
    DatabaseUnavailable,
    GreenroomError,
    NotFound,
    Restarting,
    TooManyRequests,
    Unavailable,
)
from greenroom.core.lifecycle import Event
from greenroom.core.runs import CreatedRun, RunRequest
from greenroom.graphs.configuration import GraphSpec, PlacementSpec
from greenroom.persistence import journal, shipped
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Superseded, Write

log = logging.getLogger("greenroom.registry")

ADMISSION_PATIENCE_S = 30.0
"""How long a create waits for the database; then its caller is told that the run was not stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Admission:
    """A decided admission that is not stored yet.

    Attributes:
        actor: the actor of the run, if a slot was free; None if the run waits.
        rows: the result of `journal.admit`.
    """

    run: Run
    actor: str | None
    rows: asyncio.Future[list[list[journal.Row]]]


class Admissions:
    """Admits runs, and puts delayed runs into the queue when they are due."""

    def __init__(
        self, context: Context, attempts: Attempts, effects: Effects, inputs: Inputs
    ) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._meter = context.meter
        self._tasks = context.tasks
        self._pools = context.keeper.pools
        self._slots = context.keeper.slots
        self._journal = context.journal
        self._database = context.database
        self._faults = context.setup.faults
        self._webhooks = not context.setup.webhooks.disabled
        self._takes_shipped = context.takes_shipped
        self._attempts = attempts
        self._effects = effects
        self._created: Remembered[CreatedRun] = Remembered()
        self._injections = Injections(context, inputs, self._created)
        self._draining = False
        self._relieved = False
        self.pending: Pending[CreatedRun | Exception] = Pending(self._tasks.vital)

    def end(self, *, relieved: bool) -> None:
        """Ends all admissions.

        Args:
            relieved: whether another registry follows at once, so that new runs wait for it.
        """
        self._draining = True
        self._relieved = relieved

    @property
    def has_ended(self) -> bool:
        """Whether this registry admits no more runs."""
        return self._draining

    async def create(self, requests: list[RunRequest]) -> list[CreatedRun | Exception | None]:
        """Admits runs, in order; the results are those of `RegistryActor.create_many`.

        Raises:
            Restarting: another registry is about to take over.
        """
        if self._relieved:
            raise Restarting("The server is being replaced. Try again in a moment.")
        if self._takes_shipped and not all(self._pools.knows(r.graph_id) for r in requests):
            await learn_shipped(self._database, self._pools)
        requests = [self._with_webhook(request) for request in requests]
        began_s = time.monotonic()
        # Each is on its way to the database before the next is decided: one order for both.
        answered = await answers([self._pending(request) for request in requests])
        self._meter.observe(metrics.REGISTRY_CALLS, time.monotonic() - began_s, "create")
        return answered

    async def fire(self, request: RunRequest, firing: Firing) -> CreatedRun | Exception:
        """Admits the run of a cron, in one commit with the cron's next date.

        Returns:
            the refusal, if the run is not admitted: then the date stays, unless the caller takes it
            off. `NotFound` is also the refusal for a cron that is not due any more.
        """
        if self._takes_shipped and not self._pools.knows(request.graph_id):
            await learn_shipped(self._database, self._pools)
        request = self._with_webhook(request)
        decided = self._decide(request, firing)
        if decided is None:
            return Conflict("It has fired at this date already.")
        if isinstance(decided, GreenroomError):
            return decided
        return await self.pending.begin(request.run_id, self._create(request, decided))

    async def follow(self, request: RunRequest, writes: Sequence[Write]) -> CreatedRun | Exception:
        """Admits the run that takes over what another run of the thread has not taken.

        Args:
            writes: for the same commit. They may be about the run.
        """
        decided = self._decide(request, more=writes)
        if isinstance(decided, GreenroomError):
            return decided
        if decided is not None and (run := self._runs.find(request.run_id)) is not None:
            run.has_inputs = True
        return await self.pending.begin(request.run_id, self._create(request, decided))

    def _with_webhook(self, request: RunRequest) -> RunRequest:
        """The run without its webhook, where ``http.disable_webhooks`` says so; its record keeps
        it."""
        if self._webhooks or request.webhook is None:
            return request
        return replace(request, facts=replace(request.facts, webhook=None))

    def _pending(self, request: RunRequest) -> asyncio.Task[CreatedRun | Exception]:
        under_way = self.pending.get(request.run_id)
        if under_way is not None:
            return under_way
        if (run := self._injections.listener(request)) is not None:
            return self.pending.begin(request.run_id, self._injections.inject(request, run))
        return self.pending.begin(request.run_id, self._create(request, self._decide(request)))

    def _decide(
        self,
        request: RunRequest,
        firing: Firing | None = None,
        *,
        more: Sequence[Write] | None = None,
    ) -> _Admission | GreenroomError | None:
        """Reserves lane and slot in one synchronous step; returns None if the run is known.

        Args:
            more: writes for the commit of a run that is decided already: what it takes over was
                acknowledged.
        """
        if self._draining:
            return Unavailable("The server is stopping. Try again in a moment.")
        if request.run_id in self._runs or request.run_id in self._created:
            return None
        if not self._pools.knows(request.graph_id):
            return NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
        delayed = request.after_s > 0
        if not delayed and more is None and self._runs.is_full:
            return TooManyRequests(
                f"{self._runs.most_queued} runs are waiting already (max_queued_runs)."
                " Try again in a moment."
            )
        lane = self._lanes.of(request.thread_id)
        try:
            effects = lane.admit(request.run_id, request.multitask_strategy, delayed=delayed)
        except GreenroomError as error:
            self._lanes.tidy(lane)
            return error
        ticket = lane.find(request.run_id)
        assert ticket is not None
        since_s = time.monotonic() + request.after_s
        # A thread's metadata name no task, so only the request's may.
        may_be_task = b'"a2a"' in request.metadata
        run = Run(facts=request.facts, ticket=ticket, since_s=since_s, may_be_task=may_be_task)
        self._runs.add(run)
        if not delayed:
            self._runs.queue(run.run_id)
        actor = None
        if Claim(run.run_id) in effects:
            actor = self._slots.claim(run.run_id, run.graph_id)
            if actor is not None:
                self._attempts.assign(run, actor)
        begin = None if actor is None else self._attempts.begun(run, actor)
        writes = [journal.admit(request, actor=actor, firing=firing, begin=begin)]
        if actor is not None and run.resumes:
            writes.append(journal.keep_heads(run.run_id))
        # Nobody waits for the answer to a firing: it is decided, and becomes durable.
        patience_s = ADMISSION_PATIENCE_S
        if firing is not None:
            writes.append(journal.advance_cron(firing, request.run_id))
            patience_s = None
        if more is not None:
            writes += more
            patience_s = None
        rows = self._journal.write(*writes, key=run.thread_id, patience_s=patience_s)
        return _Admission(run=run, actor=actor, rows=rows)

    async def _create(
        self, request: RunRequest, admission: _Admission | GreenroomError | None
    ) -> CreatedRun | Exception:
        """Waits until the admission is stored, then starts the run; returns the create's answer."""
        if (known := self._created.find(request.run_id)) is not None:
            return known
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
            self._tasks.vital(self._take_back(run, request))
            return Unavailable(f"The run was not stored: {error.message} Try again in a moment.")
        except Exception as error:  # whatever the database says: the run was not admitted
            log.exception("admission not written", extra={"run_id": run.run_id})
            await self._effects.withdraw(run)
            return Unavailable(f"The run could not be stored: {type(error).__name__}. Try again.")
        if not rows:
            await self._effects.withdraw(run)
            if request.injection is not None:
                # Perhaps it was said to a run when it was asked for first.
                find = journal.find_input(request.injection.input_id)
                (said,) = await self._journal.commit(find, key=request.thread_id)
                if said:
                    return await self._injections.answer(request, said[0][0])
            return NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
        ((created_at, is_current, is_first, metadata, logged, log_number),) = rows
        if created_at is None:
            await self._effects.withdraw(run)
            return AssistantChanged("The assistant is being changed. Try again in a moment.")
        if logged:
            run.facts = replace(run.facts, logged=True, resumable=True)
            run.log_number = log_number
        if not is_current:
            # A retried create of a run that is over by now: the same answer, nothing happens again.
            await self._effects.withdraw(run)
        elif self._runs.find(run.run_id) is run and not run.is_ending:
            if admission.actor is None and request.after_s > 0:
                self.delay(request.after_s, run.run_id)
            elif admission.actor is not None:
                kwargs = request.kwargs_with(metadata.encode())
                self._attempts.stored(run, admission.actor, 1, kwargs, is_first=is_first)
            lane = self._lanes.of(run.thread_id)
            await self._effects.perform(lane, lane.admitted(run.run_id))
        created = CreatedRun(
            run_id=run.run_id,
            thread_id=run.thread_id,
            created_at=created_at.isoformat(),
            metadata=metadata.encode(),
            placement=run.placement,
        )
        self._created.remember(run.run_id, created)
        return created

    async def _created_before(
        self, request: RunRequest, refusal: GreenroomError
    ) -> CreatedRun | Exception:
        """Returns the answer to a repeated create: the admission, or its refusal.

        The first admission may still be on its way to the database; the journal keeps the order.
        """
        (rows,) = await self._journal.commit(
            journal.created(request.run_id),
            key=request.thread_id,
            patience_s=ADMISSION_PATIENCE_S,
        )
        if not rows:
            return refusal
        ((created_at, metadata),) = rows
        run = self._runs.find(request.run_id)
        return CreatedRun(
            run_id=request.run_id,
            thread_id=request.thread_id,
            created_at=created_at.isoformat(),
            metadata=metadata.encode(),
            placement=run.placement if run is not None else None,
        )

    async def _take_back(self, run: Run, request: RunRequest) -> None:
        """Deletes an admission whose caller was told that the run is not stored."""
        run.life.on(Event.GIVE_UP)
        await self._journal.commit(*journal.take_back(request), key=run.thread_id)
        await self._effects.withdraw(run)
        if run.temporary and not self._lanes.has_runs(run.thread_id):
            await self._journal.commit(journal.leave_thread(run.thread_id), key=run.thread_id)
            self._effects.follow_up(run)

    # --- delayed runs --------------------------------------------------------------------------

    def delay(self, delay_s: float, run_id: str) -> None:
        """Puts a delayed run into the queue after a number of seconds."""
        loop = asyncio.get_running_loop()
        if (run := self._runs.find(run_id)) is not None:
            run.due_s = time.time() + delay_s
        loop.call_later(delay_s, lambda: self._tasks.vital(self._due(run_id)))

    async def _due(self, run_id: str) -> None:
        run = self._runs.find(run_id)
        if run is not None:
            self._runs.queue(run_id)
            lane = self._lanes.of(run.thread_id)
            await self._effects.performed(lane, lane.due(run_id))


async def learn_shipped(database: Pool, pools: ActorPools) -> None:
    """Makes the registry serve the graphs that were shipped to the database since the last look."""
    for graph_id, placement in (await shipped.placements(database)).items():
        pools.serve(GraphSpec(graph_id=graph_id, target="", placement=PlacementSpec(**placement)))
