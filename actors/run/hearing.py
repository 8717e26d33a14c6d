"""Reads what was said to a run while an attempt executes it.

The registry tells the actor only that something was said. What it was, and in which order, the
attempt reads from the database, so a notice may be lost, repeated or late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from greenroom.core.inputs import INPUT_EVENT
from greenroom.core.pausing import Waiting
from greenroom.core.runs import RunOrder
from greenroom.core.waiting import growing_pauses
from greenroom.graphs.inbox import RunInbox
from greenroom.graphs.messages import Emit
from greenroom.graphs.pausing import PauseGate
from greenroom.graphs.resume import Tail
from greenroom.graphs.taking import event_of
from greenroom.persistence.run_inputs import ForAttempt

log = logging.getLogger("greenroom.run")

FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 2.0


class Hearing:
    """Fills the inbox of one attempt. Its methods are called on the loop that executes graphs.

    Args:
        inbox: gets what is read.
        inputs_for: reads what was said to a run, and the pause that is wanted of it.
        tell, held: as of `PauseGate`.

    Attributes:
        pauses: where the attempt waits.
    """

    def __init__(
        self,
        order: RunOrder,
        inbox: RunInbox,
        inputs_for: Callable[[str], Awaitable[ForAttempt]],
        tell: Callable[[Waiting], Awaitable[None]],
        held: Callable[[bool], None],
    ) -> None:
        async def waits(name: str, names: tuple[str, ...], step: int | None) -> None:
            waiting = Waiting(
                run_id=order.run_id, attempt=order.attempt, name=name, next=names, step=step
            )
            await tell(waiting)

        self.pauses = PauseGate(waits, self.look, held)
        self.inbox = inbox
        self._order = order
        self._inputs_for = inputs_for
        self._looking: asyncio.Task[None] | None = None
        self._again = False

    async def begin(self, emit: Emit, tail: Tail | None) -> None:
        """Reads what was said before the attempt; emits what earlier attempts could not say.

        Args:
            emit: called with the ``input`` events that no client may have seen. Of a run whose
                events are not kept, clients may get one twice; it has the same id.
            tail: the durable events of earlier attempts.

        Raises:
            CannotOpen: it is sealed and cannot be opened.
        """
        found = await self._inputs_for(self._order.run_id)
        for taking in found.taken:
            data = event_of(taking)
            if tail is None or not await tail.has(INPUT_EVENT, data, whole=True):
                emit(INPUT_EVENT, data)
        self._add(found)

    def _add(self, found: ForAttempt) -> None:
        self.pauses.hear(found.pause)
        self.inbox.add(found.waiting)

    def look(self) -> None:
        """Looks for what was said since the last look."""
        if self._looking is not None and not self._looking.done():
            self._again = True
            return
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def end(self) -> None:
        """Ends a look that is under way: the attempt is over."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        pauses = growing_pauses(FIRST_PAUSE_S, MAX_PAUSE_S)
        while True:
            self._again = False
            try:
                found = await self._inputs_for(self._order.run_id)
            except Exception:  # the database is away, or a bug: what was said must be heard
                log.exception("inputs are not read yet", extra={"run_id": self._order.run_id})
                await asyncio.sleep(next(pauses))
                continue
            self._add(found)
            if not self._again:
                return
