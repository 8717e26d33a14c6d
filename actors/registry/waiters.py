"""Callers that wait until a key is told: a run, a thread, an operation."""

from __future__ import annotations

import asyncio


class Waiters:
    """Futures by key. A key without waiting callers is forgotten."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        """The number of keys with waiting callers."""
        return len(self._waiting)

    async def until_told(self, key: str, within_s: float | None = None) -> None:
        """Waits until `tell` is called for the key.

        Args:
            within_s: the longest wait in seconds; None for no limit.

        Raises:
            TimeoutError: the wait is over.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        try:
            if within_s is None:
                await future
            else:
                async with asyncio.timeout(within_s):
                    await future
        finally:
            self._leave(key, future)

    def tell(self, key: str) -> None:
        """Wakes all callers that wait for the key."""
        for future in self._waiting.pop(key, []):
            if not future.done():
                future.set_result(None)

    def _leave(self, key: str, future: asyncio.Future[None]) -> None:
        """Removes one caller: a run may be polled for days before it ends."""
        waiting = self._waiting.get(key, [])
        if future in waiting:
            waiting.remove(future)
            if not waiting:
                del self._waiting[key]
