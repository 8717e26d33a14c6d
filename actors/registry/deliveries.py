"""Delivers orders, cancels and heartbeats to run actors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from actors.calls.answers import ActorGone, repeat
from actors.calls.directory import Handles
from actors.common.tasks import Tasks
from greenroom.core.batching import Batcher
from greenroom.core.errors import GreenroomError, Unavailable, Unreachable
from greenroom.core.runs import RunOrder

BEAT_S = 5.0
DRAIN_WAIT_S = 1.0
ASK_WAIT_S = 1.0
"""The time in which an actor must confirm a cancel."""
RECONNECT_S = 0.1
"""The pause before an actor is called again that was not reached."""


class Deliveries:
    """Calls run actors on behalf of one registry.

    Args:
        holds: whether an actor belongs to this registry and is not known to be dead.
        cancel_s: for how many seconds a cancel is delivered again; the grace of a cancelled run.

    Attributes:
        starters: what gathers the orders of an actor, by its name.
    """

    def __init__(
        self, handles: Handles, tasks: Tasks, *, holds: Callable[[str], bool], cancel_s: float
    ) -> None:
        self._handles = handles
        self._tasks = tasks
        self._holds = holds
        self._cancel_s = cancel_s
        self.starters: dict[str, Batcher[RunOrder, None]] = {}
        self._tellers: dict[str, Batcher[tuple[str, int], None]] = {}
        self.epoch = 0

    def __len__(self) -> int:
        """The number of live actors that have received orders."""
        return len(self.starters)

    def start(self, actor: str, order: RunOrder) -> None:
        """Delivers an order. If the actor dies meanwhile, the keeper's ``lost`` reports it."""
        self._tasks.spawn(self._start(actor, order))

    async def _start(self, actor: str, order: RunOrder) -> None:
        if not self._holds(actor):
            return  # it died, and `lost` was told
        starter = self.starters.get(actor)
        if starter is None:
            starter = self.starters[actor] = Batcher(lambda orders: self._start_many(actor, orders))
        with suppress(ActorGone):
            await starter.submit(order)

    async def _start_many(self, actor: str, orders: list[RunOrder]) -> list[None]:
        # Without a bound: a broken connection is not a death, and an attempt starts once however
        # often it is ordered, while an order that got lost would leave its run running for ever.
        await repeat(
            lambda: self._handles.call(actor, "start_many", self.epoch, orders),
            on=(Unreachable, Unavailable),
            bound_s=None,
            pause_s=RECONNECT_S,
        )
        return [None] * len(orders)

    def hear(self, actor: str, run_id: str, attempt: int) -> None:
        """Tells an actor that something was said to a run; the attempt reads it."""
        self._tasks.spawn(self._hear(actor, run_id, attempt))

    async def _hear(self, actor: str, run_id: str, attempt: int) -> None:
        if not self._holds(actor):
            return  # the next attempt looks by itself
        teller = self._tellers.get(actor)
        if teller is None:
            teller = self._tellers[actor] = Batcher(lambda runs: self._hear_many(actor, runs))
        with suppress(ActorGone):
            await teller.submit((run_id, attempt))

    async def _hear_many(self, actor: str, runs: list[tuple[str, int]]) -> list[None]:
        # Without a bound, as an order: the sender was told that the run takes it.
        await repeat(
            lambda: self._handles.call(actor, "hear", runs),
            on=(Unreachable, Unavailable),
            bound_s=None,
            pause_s=RECONNECT_S,
        )
        return [None] * len(runs)

    async def cancel(self, actor: str, run_id: str, attempt: int, *, keep_values: bool) -> None:
        """Asks an actor to stop an attempt; an actor that does not react is killed after its grace.

        Args:
            keep_values: whether the thread keeps what the run has written: True for an interrupt,
                False for a rollback.
        """
        with suppress(ActorGone, Unavailable, Unreachable):
            await repeat(
                lambda: self._handles.call(
                    actor, "cancel", run_id, attempt, keep_values, within_s=ASK_WAIT_S
                ),
                on=(Unreachable,),
                bound_s=self._cancel_s,
                pause_s=RECONNECT_S,
            )

    async def beat(self, actor: str) -> None:
        """Sends a heartbeat; after a failure the next one follows soon."""
        with suppress(GreenroomError):
            await self._handles.call(actor, "beat", self.epoch, within_s=BEAT_S)

    async def drain(self, actor: str) -> None:
        """Asks an actor to stop its runs after their superstep."""
        with suppress(GreenroomError):
            await self._handles.call(actor, "drain", within_s=DRAIN_WAIT_S)

    async def until_read(self, actor: str, within_s: float) -> None:
        """Waits until readers have received the end of an actor's last run."""
        with suppress(GreenroomError):
            await self._handles.call(actor, "retire", within_s=within_s)

    def forget(self, actor: str) -> None:
        """Forgets a dead actor."""
        self.starters.pop(actor, None)
        self._tellers.pop(actor, None)
