"""The time of day, as a parameter: tests give their own clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from greenroom.core.waiting import happens_within

LONGEST_SLEEP_S = 60.0
"""How long a sleep may rely on the clock of asyncio, which does not follow changes of the time."""


class Clock(Protocol):
    """The present time, and waiting for a later one."""

    def now(self) -> datetime:
        """Returns the present time, with a time zone."""
        ...

    async def sleep(self, until: datetime | None, awake: asyncio.Event) -> None:
        """Returns at a time, or when the event is set; it may return earlier.

        Args:
            until: None waits for the event only.
        """
        ...


@dataclass(frozen=True, slots=True)
class WallClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, until: datetime | None, awake: asyncio.Event) -> None:
        if until is None:
            await awake.wait()
            return
        wait_s = (until - self.now()).total_seconds()
        await happens_within(min(wait_s, LONGEST_SLEEP_S), awake.wait())


WALL_CLOCK: Clock = WallClock()
