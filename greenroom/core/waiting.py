"""Bounded waiting, and growing pauses between tries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterator
from typing import Any

CANCEL_AGAIN_S = 1.0


async def happens_within(wait_s: float, what: Awaitable[Any]) -> bool:
    """Waits for an awaitable; returns whether it finished in time.

    `asyncio.wait_for` loses a cancellation that comes with the wake-up on Python 3.11.

    Args:
        wait_s: the longest wait in seconds; 0 or less does not wait.
        what: the awaitable, e.g. a future or ``event.wait()``; cancelled when the time is over.
    """
    try:
        async with asyncio.timeout(max(0.0, wait_s)):
            await what
    except TimeoutError:
        return False
    return True


async def cancelled(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancels tasks and waits until they have ended.

    A task that goes on is cancelled again: it may have lost its cancel, as a task that waits for a
    connection of a pool does on Python 3.11 (`happens_within` has the reason).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        over, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in over:
            # Looked at, or asyncio tells of a failure that nobody asks for any more.
            _ = task.cancelled() or task.exception()


def growing_pauses(first_s: float, longest_s: float) -> Iterator[float]:
    """Yields seconds to wait before each next try: twice as long each time, up to ``longest_s``."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, longest_s)
