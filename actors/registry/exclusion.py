"""Keeps runs off a thread during an operation on it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.registry.context import Context
from actors.registry.effects import Effects
from greenroom.core.admission import Lane

T = TypeVar("T")


class Exclusion:
    """Gives a thread's lane to one operation, and back to the runs that wait for it."""

    def __init__(self, context: Context, effects: Effects) -> None:
        self._lanes = context.lanes
        self._waiters = context.waiters
        self._effects = effects

    async def during(self, thread_id: str, work: Callable[[], Awaitable[T]]) -> T:
        """Performs ``work`` while no run is on the thread.

        Raises:
            Conflict: a run or another operation is in progress.
        """
        lane = self._lanes.of(thread_id)
        operation = os.urandom(8).hex()
        lane.begin_exclusive(operation)
        return await self.go_on(lane, operation, work)

    async def go_on(self, lane: Lane, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        """Performs ``work`` of an operation that has the lane already, then gives it back."""
        try:
            return await work()
        finally:
            await self._effects.perform(lane, lane.end_exclusive(operation))
            self._waiters.tell(operation)
