"""Requests with the strategy ``inject``: the active run of the thread takes their input."""

from __future__ import annotations

import asyncio

from actors.registry.context import Context
from actors.registry.in_flight import Run
from actors.registry.inputs import Inputs
from actors.registry.pending import Remembered
from greenroom.core.errors import THREAD_OR_ASSISTANT_NOT_FOUND, Conflict, InvalidRequest, NotFound
from greenroom.core.inputs import NewInput
from greenroom.core.runs import CreatedRun, RunRequest
from greenroom.persistence import journal


class Injections:
    """Says to runs what new runs would begin with.

    Args:
        created: the answers that were given; this adds its own.
    """

    def __init__(self, context: Context, inputs: Inputs, created: Remembered[CreatedRun]) -> None:
        self._runs = context.runs
        self._lanes = context.lanes
        self._journal = context.journal
        self._inputs = inputs
        self._created = created

    def listener(self, request: RunRequest) -> Run | None:
        """Returns the run that takes a request with the strategy ``inject``, or None."""
        if request.injection is None or request.run_id in self._created:
            return None
        lane = self._lanes.find(request.thread_id)
        if lane is None or lane.active is None or lane.closing:
            return None
        run = self._runs.find(lane.active.run_id)
        return run if run is not None and run.can_hear and run.run_id != request.run_id else None

    async def inject(self, request: RunRequest, run: Run) -> CreatedRun | Exception:
        """Says what a new run would begin with to the active run of its thread."""
        injection = request.injection
        assert injection is not None
        if run.assistant_id != request.assistant_id:
            return Conflict(
                "The thread's run is of another assistant, which cannot take this input. Name that"
                " assistant, or choose a different multitask strategy."
            )
        if injection.refusal is not None:
            return InvalidRequest(injection.refusal)
        new = NewInput(
            input_id=injection.input_id,
            thread_id=run.thread_id,
            run_id=run.run_id,
            content=injection.content,
        )
        said = await asyncio.shield(self._inputs.begin(new))
        return said if isinstance(said, Exception) else await self.answer(request, said.run_id)

    async def answer(self, request: RunRequest, run_id: str) -> CreatedRun | Exception:
        """Returns the answer to a request that was said to a run, which may be over by now."""
        assert request.injection is not None
        (rows,) = await self._journal.commit(journal.created(run_id), key=request.thread_id)
        if not rows:
            return NotFound(THREAD_OR_ASSISTANT_NOT_FOUND)
        ((created_at, metadata),) = rows
        run = self._runs.find(run_id)
        created = CreatedRun(
            run_id=run_id,
            thread_id=request.thread_id,
            created_at=created_at.isoformat(),
            metadata=metadata.encode(),
            placement=run.placement if run is not None else None,
            injected=request.injection.input_id,
        )
        self._created.remember(request.run_id, created)
        return created
