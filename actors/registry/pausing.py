"""Pauses runs on behalf of clients (`greenroom.core.pausing`).

want ──commit──> notice to the actor, which reads what is wanted
the actor waits ──commit──> the run's record says since when
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

from actors.registry.context import Context
from actors.registry.enforcing import Enforcer
from actors.registry.followers import stored_run
from actors.registry.in_flight import Run
from actors.registry.inputs import Inputs
from actors.registry.pending import Pending, Remembered, answers
from greenroom.core.errors import RUN_NOT_FOUND, Conflict, GreenroomError, NotFound
from greenroom.core.pausing import BEFORE_ALL, Pause, PauseAnswer, PauseRequest, Waiting
from greenroom.persistence import journal
from greenroom.persistence.database import retrying

NOT_PAUSED = "The run is not paused. Pause it first."
NOT_YET = (
    "The run is still in the superstep in which it was told to pause. Say it again when its record"
    " has 'paused.since'."
)


class Pauses:
    """What is wanted of runs that are in flight; a repeated request gets the first answer."""

    def __init__(self, context: Context, enforcer: Enforcer, inputs: Inputs) -> None:
        self._runs = context.runs
        self._journal = context.journal
        self._database = context.database
        self._faults = context.setup.faults
        self._enforcer = enforcer
        self._inputs = inputs
        self._heard: Remembered[PauseAnswer] = Remembered()
        self.pending: Pending[PauseAnswer | Exception] = Pending(context.tasks.vital)

    async def want(self, requests: list[PauseRequest]) -> list[PauseAnswer | Exception | None]:
        """Takes requests, in order; the results are those of `RegistryActor.pause_many`."""
        return await answers([self._begin(request) for request in requests])

    def _begin(self, request: PauseRequest) -> asyncio.Task[PauseAnswer | Exception]:
        under_way = self.pending.get(request.name)
        if under_way is not None:
            return under_way
        return self.pending.begin(request.name, self._want(request))

    async def _want(self, request: PauseRequest) -> PauseAnswer | Exception:
        if (known := self._heard.find(request.name)) is not None:
            return known
        run = self._runs.find(request.run_id)
        if run is None or run.thread_id != request.thread_id:
            return await self._not_in_flight(request)
        before = run.pause
        if before is not None and before.name == request.name:
            return PauseAnswer(pause=before)  # an earlier registry has stored it
        after = self._after(run, request)
        if isinstance(after, GreenroomError):
            return await self._heard_before(request, run, after)
        answer = PauseAnswer(pause=after)
        self._heard.remember(request.name, answer)
        if after == before:
            return answer
        # Decided at once, so that the next request meets it; durable before it is answered.
        run.pause = after
        goes_on = before is not None and before.since is not None
        await self._journal.commit(
            journal.want_pause(run.run_id, after, run.attempt, goes_on=goes_on),
            journal.note_cancel(request.name),
            key=run.thread_id,
        )
        await self._faults.at("paused")
        if self._runs.find(run.run_id) is run:
            if goes_on and run.life.is_executed:
                self._enforcer.limit(run)
            self._inputs.tell(run)
        return answer

    def _after(self, run: Run, request: PauseRequest) -> Pause | GreenroomError | None:
        """Returns the pause that is wanted after a request, or why there is none."""
        before = run.pause
        if not run.can_hear:
            return Conflict(f"Run {run.run_id} is being cancelled, or ends.")
        if request.action == "pause":
            return before or Pause(name=request.name)
        if before is None:
            return Conflict(NOT_PAUSED)
        if request.action == "resume":
            return None
        if before.since is None:
            return Conflict(NOT_YET)
        last = BEFORE_ALL if before.step is None else before.step
        return Pause(name=request.name, target=last + 1)

    async def _heard_before(
        self, request: PauseRequest, run: Run | None, refusal: Exception
    ) -> PauseAnswer | Exception:
        """Returns the refusal of a request, unless an earlier registry has done what it asks."""
        name = request.name
        if await retrying(self._database, lambda conn: journal.was_cancel_heard(conn, name)):
            return PauseAnswer(pause=None if run is None else run.pause)
        return refusal

    async def _not_in_flight(self, request: PauseRequest) -> PauseAnswer | Exception:
        found = await stored_run(self._database, request.run_id)
        if found is None or found.thread_id != request.thread_id:
            return NotFound(RUN_NOT_FOUND)
        refusal = Conflict(
            f"Run {request.run_id} is over (status: {found.status}): nothing of it can be paused."
        )
        return await self._heard_before(request, None, refusal)

    async def note(self, waiting: Waiting) -> None:
        """Notes that an attempt waits, unless something else is wanted by now."""
        run = self._runs.find(waiting.run_id)
        if run is None or run.attempt != waiting.attempt or run.is_ending:
            return
        pause = run.pause
        if pause is None or pause.name != waiting.name:
            return
        if run.overdue is not None:
            run.overdue.cancel()  # the time-out of its graph does not count what it waits
        if pause.since is not None and pause.attempt == waiting.attempt:
            return
        run.pause = replace(
            pause,
            since=pause.since or datetime.now(UTC).isoformat(),
            next=waiting.next,
            step=waiting.step,
            attempt=waiting.attempt,
        )
        await self._journal.commit(journal.note_waiting(run.run_id, run.pause), key=run.thread_id)
