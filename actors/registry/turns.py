"""Turns: of all work on one subject, one piece at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class Turns:
    """The subjects that are worked on."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def __contains__(self, subject: str) -> bool:
        return subject in self._turns

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def of(self, subject: str) -> AsyncIterator[None]:
        """Excludes other work on the same subject."""
        turn = self._turns.setdefault(subject, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[subject]


@dataclass(slots=True)
class _Turn:
    """The work on one subject.

    Attributes:
        users: those who have the lock or wait for it; while there are any, all use this lock.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
