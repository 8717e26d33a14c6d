"""Waiting with a bound, and pauses that grow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any


async def happens_within(wait_s: float, what: Awaitable[Any]) -> bool:
    """Waits for something; returns whether it happened in time.

    Not `asyncio.wait_for`: on Python 3.11 that loses a cancellation that comes with the wake-up.

    Args:
        wait_s: seconds; with 0 or less only what has happened already is seen.
        what: e.g. a future that somebody resolves, or ``event.wait()``. It is cancelled when the
            time is over.
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
