"""Activity on watched threads: attempts that begin, and changes of a thread's state from outside.

The registry notes it (`ThreadActivity`). A gateway polls it, and makes the stream of the thread
from it (`actors.gateway.thread_streams`). Only memory holds the activity: after a restart of the
registry, or a long pause between polls, some may be missing, and the answer is ``joined``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from greenroom.persistence.logged_runs import LoggedRun

FORGET_AFTER_S = 120.0
KEPT = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity:
    """One activity on a thread.

    Attributes:
        number: its position among all activity of the registry; the next poll passes it.
        kind: ``run``: an attempt of a run begins; ``state``: the thread's state was changed from
            outside; ``joined``: later activity will be complete, earlier activity is unknown.
        run_id: the run, of the kind ``run``.
        logged: the run in the log of the thread, if it is there and has its number.
    """

    number: int
    kind: Literal["run", "state", "joined"]
    run_id: str | None = None
    logged: LoggedRun | None = None


@dataclass(slots=True)
class Watched:
    """A watched thread.

    Attributes:
        asked_s: the time of the last poll.
        since: all activity past this number is kept.
        noted: the kept activity, oldest first.
        waiting: the polls in progress.
    """

    asked_s: float
    since: int
    noted: deque[Activity] = field(default_factory=deque)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class ThreadActivity:
    """The activity on watched threads.

    Args:
        clock: returns seconds; a thread without a poll for `FORGET_AFTER_S` is no longer watched.
        origin: the number before the first one. The default is the start time of this registry in
            nanoseconds, so that no number of an earlier registry is valid here.

    Attributes:
        threads: the watched threads, by id.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, origin: int | None = None
    ) -> None:
        self._clock = clock
        self.threads: dict[str, Watched] = {}
        self._number = time.time_ns() if origin is None else origin
        self._looked_s = clock()

    def note(
        self,
        thread_id: str,
        kind: Literal["run", "state"],
        run_id: str | None = None,
        logged: LoggedRun | None = None,
    ) -> None:
        """Notes an activity, and answers the polls that wait for it."""
        watched = self.threads.get(thread_id)
        if watched is None:
            return
        self._number += 1
        watched.noted.append(Activity(number=self._number, kind=kind, run_id=run_id, logged=logged))
        if len(watched.noted) > KEPT:
            watched.since = watched.noted.popleft().number
        for future in watched.waiting:
            if not future.done():
                future.set_result(None)

    def _forget_the_unwatched(self) -> None:
        """Forgets threads without a recent poll; acts a few times in `FORGET_AFTER_S` at most."""
        now_s = self._clock()
        if now_s - self._looked_s < FORGET_AFTER_S / 4:
            return
        self._looked_s = now_s
        self.threads = {
            thread_id: watched
            for thread_id, watched in self.threads.items()
            if watched.waiting or now_s - watched.asked_s <= FORGET_AFTER_S
        }

    async def after(self, thread_id: str, number: int | None, wait_s: float) -> list[Activity]:
        """Long-polls the activity of a thread past a number.

        Args:
            number: of the last activity that the caller knows; None to begin.
            wait_s: how many seconds to wait for activity.

        Returns:
            the activity; empty if there was none in time. With None, and with a number past which
            this registry does not know everything, the answer comes at once: one ``joined``, with
            the number to continue from.
        """
        self._forget_the_unwatched()
        watched = self.threads.get(thread_id)
        if watched is None:
            watched = self.threads[thread_id] = Watched(self._clock(), self._number)
        watched.asked_s = self._clock()
        if number is None or not watched.since <= number <= self._number:
            return [Activity(number=self._number, kind="joined")]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watched.waiting.append(future)
        try:
            if not any(each.number > number for each in watched.noted):
                async with asyncio.timeout(wait_s):
                    await future
        except TimeoutError:
            return []
        finally:
            watched.waiting.remove(future)
            watched.asked_s = self._clock()
        return [each for each in watched.noted if each.number > number]
