"""Takes what is said to runs, and hands on what they have not taken when they end.

say ──commit──> notice to the actor, which reads what was said
end of a run with inputs ──> next run of the thread, in one commit with what it takes over
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import psycopg

from actors.registry.context import Context
from actors.registry.following_runs import request_after
from actors.registry.in_flight import Run
from actors.registry.pending import Pending, answers
from greenroom.core.errors import (
    RUN_NOT_FOUND,
    Conflict,
    DatabaseUnavailable,
    GreenroomError,
    NotFound,
    Unavailable,
)
from greenroom.core.inputs import InputStatus, NewInput, SaidInput, survives
from greenroom.core.runs import CreatedRun, RunRequest, RunStatus
from greenroom.persistence import journal
from greenroom.persistence.journal import Row, Write
from greenroom.persistence.run_inputs import Addressed, addressed_run

log = logging.getLogger("greenroom.registry")

SAY_PATIENCE_S = 30.0
"""How long what is said waits for the database; then its sender is told that it is not stored."""

Admit = Callable[[RunRequest, Sequence[Write]], Coroutine[Any, Any, CreatedRun | Exception]]
"""Admits a run that takes over inputs, in one commit with further writes."""


class Inputs:
    """What is said to the runs of a registry.

    Args:
        admit: as `Admit`.
    """

    def __init__(self, context: Context, *, admit: Admit) -> None:
        self._runs = context.runs
        self._tasks = context.tasks
        self._journal = context.journal
        self._database = context.database
        self._deliveries = context.keeper.deliveries
        self._faults = context.setup.faults
        self._admit = admit
        self.pending: Pending[SaidInput | Exception] = Pending(context.tasks.vital)

    async def say(self, said: list[NewInput]) -> list[SaidInput | Exception | None]:
        """Takes inputs, in order; the results are those of `RegistryActor.say_many`."""
        return await answers([self.begin(each) for each in said])

    def begin(self, new: NewInput) -> asyncio.Task[SaidInput | Exception]:
        """Takes an input; a repeated call waits for the same work."""
        under_way = self.pending.get(new.input_id)
        if under_way is not None:
            return under_way
        run = self._runs.find(new.run_id)
        if run is not None and run.thread_id == new.thread_id and run.can_hear:
            # From here on, the run's end looks for it.
            run.has_inputs = True
            return self.pending.begin(new.input_id, self._say(new, run))
        return self.pending.begin(new.input_id, self._say_late(new))

    async def _say(self, new: NewInput, run: Run) -> SaidInput | Exception:
        try:
            (rows,) = await self._journal.commit(
                journal.say(new), key=new.thread_id, patience_s=SAY_PATIENCE_S
            )
        except DatabaseUnavailable as error:
            # It may have been stored before the connection was lost.
            self._tasks.vital(self._journal.commit(journal.unsay(new.input_id), key=new.thread_id))
            return Unavailable(f"It was not stored: {error.message} Try again in a moment.")
        except psycopg.Error as error:
            return _not_stored(new, error)
        if not rows:
            return NotFound(RUN_NOT_FOUND)
        await self._faults.at("said")
        if self._runs.find(run.run_id) is run:
            self.tell(run)
        return _said(new, rows[0])

    def tell(self, run: Run) -> None:
        """Tells the run's actor that something was said; an attempt that begins looks by itself."""
        if run.actor is not None and run.life.is_executed and not run.is_ending:
            self._deliveries.hear(run.actor, run.run_id, run.attempt)

    async def _say_late(self, new: NewInput) -> SaidInput | Exception:
        """Takes an input for a run that is over, that is being cancelled, or that is not there."""
        (rows,) = await self._journal.commit(journal.find_input(new.input_id), key=new.thread_id)
        if rows:
            return _said(new, rows[0])
        found = await addressed_run(self._database, new.run_id)
        if found is None or found.facts.thread_id != new.thread_id:
            return NotFound(RUN_NOT_FOUND)
        if new.if_over == "drop":
            dropped = journal.say(new, status=InputStatus.DROPPED, reason="The run was over.")
            (rows,) = await self._journal.commit(dropped, key=new.thread_id)
            return _said(new, rows[0]) if rows else NotFound(RUN_NOT_FOUND)
        if new.if_over == "reject":
            over = RunStatus(found.status).is_terminal
            state = f"is over (status: {found.status})" if over else "is being cancelled, or ends"
            return Conflict(
                f"Run {new.run_id} {state}. Create a run, or say it with if_over 'enqueue'."
            )
        return await self._say_by_next_run(new, found)

    async def _say_by_next_run(self, new: NewInput, found: Addressed) -> SaidInput | Exception:
        if found.facts.temporary:
            return Conflict("The run is over, and its thread with it: no run can follow on it.")
        request = request_after(found, new.input_id, new.content, new.as_node)
        status = InputStatus.STARTED if new.as_node is None else InputStatus.WAITING
        answer = await self._admit(
            request, [journal.say(new, for_run=request.run_id, status=status)]
        )
        if isinstance(answer, Exception):
            return answer
        (rows,) = await self._journal.commit(journal.find_input(new.input_id), key=new.thread_id)
        return _said(new, rows[0]) if rows else NotFound(RUN_NOT_FOUND)

    # --- what runs have not taken --------------------------------------------------------------

    async def hand_on(self, run: Run) -> None:
        """Hands on what a run has not taken. Called before the run's end is stored, so that the
        thread is not at rest in between."""
        if run.has_inputs:
            await self._hand_on(run.run_id, run.thread_id, cancelled=run.life.cancel is not None)

    async def take_up(self, run_id: str) -> None:
        """Hands on what a run has not taken that ended with an earlier registry."""
        found = await addressed_run(self._database, run_id)
        if found is not None:
            cancelled = found.status == RunStatus.INTERRUPTED
            await self._hand_on(run_id, found.facts.thread_id, cancelled=cancelled)

    async def _hand_on(self, run_id: str, thread_id: str, *, cancelled: bool) -> None:
        (rows,) = await self._journal.commit(journal.waiting_inputs(run_id), key=thread_id)
        if not rows:
            return
        await self._faults.at("hand_on")
        lost = [row[0] for row in rows if not survives(row[1], cancelled=cancelled)]
        why = "The run was cancelled." if cancelled else "The run was over."
        writes = [journal.drop_inputs(lost, why)] if lost else []
        kept = [row for row in rows if row[0] not in lost]
        found = await addressed_run(self._database, run_id) if kept else None
        if found is None or found.facts.temporary:
            gone = [row[0] for row in kept]
            writes += [journal.drop_inputs(gone, "The run's thread is gone.")] if gone else []
            await self._journal.commit(*writes, key=thread_id)
            return
        first, _, as_node, content = kept[0]
        request = request_after(found, first, content.encode(), as_node)
        status = InputStatus.STARTED if as_node is None else InputStatus.WAITING
        writes.append(journal.hand_on_inputs(run_id, request.run_id, first, status))
        answer = await self._admit(request, writes)
        if isinstance(answer, Unavailable):
            # This server stops, or the next registry finds them waiting.
            log.warning("inputs wait for the next registry", extra={"run_id": run_id})
        elif isinstance(answer, Exception):
            reason = answer.message if isinstance(answer, GreenroomError) else repr(answer)
            nobody = journal.drop_inputs([row[0] for row in rows], f"No run follows: {reason}")
            await self._journal.commit(nobody, key=thread_id)


def _said(new: NewInput, row: Row) -> SaidInput:
    for_run, number, status, said_at = row
    return SaidInput(
        input_id=new.input_id,
        run_id=for_run,
        number=number,
        status=InputStatus(status),
        said_at=said_at.isoformat(),
    )


def _not_stored(new: NewInput, error: psycopg.Error) -> GreenroomError:
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        return NotFound(RUN_NOT_FOUND)
    log.error("an input cannot be stored", exc_info=error, extra={"run_id": new.run_id})
    return Unavailable(f"It could not be stored: {type(error).__name__}. Try again.")
