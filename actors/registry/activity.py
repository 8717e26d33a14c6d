"""What begins on the threads that somebody watches: runs, and changes of a thread's state.

The registry notes it (`Doings`); a gateway polls that and makes the stream of the thread of it
(`actors.gateway.thread_streams`). What is noted lives in memory, so it may be missing something:
after the registry's death, or when nobody has asked for long. It then says "joined".
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

FORGET_AFTER_S = 120.0
KEPT = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """Something that began on a thread.

    Attributes:
        number: position among everything that the registry noted; poll past it.
        kind: a run's attempt; a change of the thread's state from outside; or ``joined``: from here
            on nothing is missed, of what was before nothing is known.
        run_id: of a run.
    """

    number: int
    kind: Literal["run", "state", "joined"]
    run_id: str | None = None


@dataclass(slots=True)
class _Watched:
    """
    Attributes:
        since: everything past this number is kept.
    """

    asked_s: float
    since: int
    doings: deque[Doing] = field(default_factory=deque)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Doings:
    """What begins on the threads that are watched.

    Args:
        clock: seconds; whoever has not asked for `FORGET_AFTER_S` of them watches no more.
        origin: the number before the first one. By default it is the time at which this registry
            started (nanoseconds), so that a number of an earlier registry is never taken for one of
            this one.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, origin: int | None = None
    ) -> None:
        self._clock = clock
        self._threads: dict[str, _Watched] = {}
        self._number = time.time_ns() if origin is None else origin
        self._looked_s = clock()

    def note(
        self, thread_id: str, kind: Literal["run", "state"], run_id: str | None = None
    ) -> None:
        """Something has begun; tells who waits for it."""
        watched = self._threads.get(thread_id)
        if watched is None:
            return
        self._number += 1
        watched.doings.append(Doing(number=self._number, kind=kind, run_id=run_id))
        if len(watched.doings) > KEPT:
            watched.since = watched.doings.popleft().number
        for future in watched.waiting:
            if not future.done():
                future.set_result(None)

    def _forget_the_unwatched(self) -> None:
        """Now and then; threads that nothing happens on any more are forgotten too."""
        now_s = self._clock()
        if now_s - self._looked_s < FORGET_AFTER_S / 4:
            return
        self._looked_s = now_s
        self._threads = {
            thread_id: watched
            for thread_id, watched in self._threads.items()
            if watched.waiting or now_s - watched.asked_s <= FORGET_AFTER_S
        }

    async def after(self, thread_id: str, number: int | None, wait_s: float) -> list[Doing]:
        """What has begun past ``number``; a long poll. None: from now on.

        With None, and with a number past which this registry does not know everything, the answer
        comes at once and is only ``joined``, with the number to continue from.
        """
        self._forget_the_unwatched()
        watched = self._threads.get(thread_id)
        if watched is None:
            watched = self._threads[thread_id] = _Watched(self._clock(), self._number)
        watched.asked_s = self._clock()
        if number is None or not watched.since <= number <= self._number:
            return [Doing(number=self._number, kind="joined")]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched.waiting.append(future)
        try:
            if not any(doing.number > number for doing in watched.doings):
                async with asyncio.timeout(wait_s):
                    await future
        except TimeoutError:
            return []
        finally:
            watched.waiting.remove(future)
            watched.asked_s = self._clock()
        return [doing for doing in watched.doings if doing.number > number]
