"""Waits for what no event announces: asks again until the answer is true, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

BOUND_S = 60.0
"""How long a test waits for a server or another process; it does not say how soon that comes.

Tests without a server have shorter bounds of their own: the code falls back to something after 30 s
here and there, and a test would not notice that only this has helped.
"""
LESS_OFTEN = 16
"""A wait ends later than it could by one part in so many, at most."""

T = TypeVar("T")


async def until(
    found: Callable[[], Awaitable[T] | T], *, within_s: float = BOUND_S, every_s: float = 0.02
) -> T:
    """Waits until a question has an answer that is true; returns it.

    What takes long to answer is asked less often, and so is what has been asked for long: it is the
    machine's time that is waited for.
    """
    begun_s = time.monotonic()
    deadline_s = begun_s + within_s
    while True:
        asked_s = time.monotonic()
        answer = found()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > deadline_s:
            raise AssertionError(f"Not within {within_s:g} s: {found}")
        now_s = time.monotonic()
        await asyncio.sleep(max(every_s, 4 * (now_s - asked_s), (now_s - begun_s) / LESS_OFTEN))


def until_without_loop(
    found: Callable[[], T], *, within_s: float = BOUND_S, every_s: float = 0.01
) -> T:
    """The same as `until`, for a test that is no coroutine."""
    deadline_s = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < deadline_s, f"Not within {within_s:g} s: {found}"
        time.sleep(every_s)
    return answer
