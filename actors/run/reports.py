"""What the registry and the thread's record are told of an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from actors.calls.answers import NO_ANSWER, repeat
from actors.calls.directory import Handles
from actors.run.deps import Deps
from actors.run.tail import until_done
from greenroom.core.batching import Batcher
from greenroom.core.errors import Fenced, Unavailable
from greenroom.core.events import EventLog
from greenroom.core.nodes import NO_NODES, NodeNote
from greenroom.core.pausing import Waiting
from greenroom.core.runs import Outcome, Report, RunOrder, RunStatus
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.saving import LARGE
from greenroom.wire.encoding import dumps


class Reports:
    """Stores the values of an attempt, and reports it.

    Args:
        order: the order of the attempt.
        event_log: its events; the report has their number.
        deps: the actor's parts.
    """

    def __init__(self, order: RunOrder, event_log: EventLog, deps: Deps) -> None:
        self._order = order
        self._log = event_log
        self._deps = deps
        self._put: Outcome | None = None
        self._storing: asyncio.Future[None] | None = None

    async def with_last_checkpoint(self, saver: FencedSaver, outcome: Outcome) -> None:
        """Returns when all checkpoints are committed. The thread's values are stored in the same
        commit, if they are small and a checkpoint is still to be written; large ones beside it.

        Args:
            saver: that of the attempt.
            outcome: the outcome, if nothing goes wrong any more.

        Raises:
            Exception: a checkpoint was not committed.
        """
        values, owner = outcome.values, (self._order.run_id, self._order.attempt)
        if values is None or self._order.temporary:
            await saver.all_written()
            return
        await self._deps.faults.at("values")
        is_put = await saver.put_values(self._order.thread_id, values)
        if len(values) > LARGE:
            storing = self._deps.save_values(owner, self._order.thread_id, values)
            self._storing = asyncio.ensure_future(storing)
        await saver.all_written()
        if is_put or await self._have_stored():
            self._put = outcome

    async def _have_stored(self) -> bool:
        """Waits until no values are being stored; returns whether some were."""
        if self._storing is None:
            return False
        await asyncio.wait([self._storing])
        storing, self._storing = self._storing, None
        # What went wrong does so again when it is stored at the end, or has passed.
        return storing.exception() is None

    async def ended(
        self, outcome: Outcome, *, keeps_values: bool, notes: Sequence[NodeNote] = ()
    ) -> None:
        """Stores the thread's values, then reports the outcome; it is committed on return.

        Args:
            keeps_values: False: the thread's record keeps the values from before the run.
            notes: of the attempt's nodes.

        Raises:
            Fenced: the attempt is not the current one.
        """
        await self._have_stored()
        order, deps = self._order, self._deps
        is_stored = outcome is self._put or not keeps_values or order.temporary
        if outcome.values is not None and not is_stored:
            values, owner = outcome.values, (order.run_id, order.attempt)
            await deps.faults.at("values")
            await until_done(lambda: deps.save_values(owner, order.thread_id, values))
        await deps.faults.at("report")
        interrupts, error = outcome.interrupts, outcome.error
        if (sealing := deps.sealing).is_on:
            interrupts = await sealing.apart(sealing.seal_json, interrupts)
            error = error and await sealing.apart(sealing.seal_json, error)
        accepted = await deps.report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=deps.actor,
                status=outcome.status,
                has_next=outcome.has_next,
                interrupts=interrupts,
                error=error,
                events=self._log.count,
                first_event_s=self._log.first_event_s,
                output_keys=outcome.output_keys,
                nodes=self._packed(notes),
            )
        )
        if not accepted:
            raise Fenced(order.run_id)

    async def handed_back(self, notes: Sequence[NodeNote] = ()) -> None:
        """Reports that the attempt stopped after a superstep; another one continues the run."""
        order = self._order
        await self._deps.report(
            Report(
                run_id=order.run_id,
                attempt=order.attempt,
                actor=self._deps.actor,
                status=RunStatus.PENDING,
                has_next=True,
                interrupts=b"{}",
                error=None,
                nodes=self._packed(notes),
            )
        )

    def _packed(self, notes: Sequence[NodeNote]) -> bytes:
        if not notes:
            return NO_NODES
        if self._deps.sealing.is_on:  # the text of an error may be a part of the state
            notes = [
                replace(note, error=note.error and note.error.partition(":")[0]) for note in notes
            ]
        return dumps([[self._order.attempt, [note.packed() for note in notes]]])


class Reporter:
    """Sends the reports of all attempts of an actor, several in one call.

    Args:
        registry: the name of the registry.
    """

    def __init__(self, handles: Handles, registry: str) -> None:
        self._handles = handles
        self._registry = registry
        self._reports: Batcher[Report, bool | None] = Batcher(self._send)

    async def report(self, report: Report) -> bool:
        """Reports an attempt's end; returns, once it is stored, whether the attempt is current."""
        while True:
            heard = await self._reports.submit(report)
            if heard is not None:  # None: the registry is still storing it
                return heard

    async def _send(self, reports: list[Report]) -> list[bool | None]:
        # Without a bound: the registry restarts, a newer one takes over, or its database is
        # unavailable. A run whose report is lost never ends.
        return await repeat(
            lambda: self._handles.call(self._registry, "finished_many", reports),
            on=(*NO_ANSWER, Unavailable),
            bound_s=None,
        )

    async def tell_waiting(self, waiting: Waiting) -> None:
        """Tells that an attempt waits; it is stored on return."""
        # Without a bound, as above: the record must say that the run waits.
        await repeat(
            lambda: self._handles.call(self._registry, "note_waiting", waiting),
            on=(*NO_ANSWER, Unavailable),
            bound_s=None,
        )
