"""Bounded waiting, and growing pauses between tries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any


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


def growing_pauses(first_s: float, longest_s: float) -> Iterator[float]:
    """Yields seconds to wait before each next try: twice as long each time, up to ``longest_s``."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, longest_s)
