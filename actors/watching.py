"""The stream of a whole thread: which runs begin on it, and that its state was changed.

The registry notes what begins (`Doings`), only for threads that somebody watches; a gateway polls
that and reads each run's events where they are (`thread_frames`). Runs of a thread never overlap, so
one after the other is the thread's order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from greenroom.core.events import LIVE
from greenroom.core.runs import Batch, Placement
from greenroom.wire import sse
from greenroom.wire.encoding import dumps

FORGET_AFTER_S = 120.0
KEPT = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """Something that began on a thread.

    Attributes:
        number: position among everything that the registry noted.
        kind: a run's attempt, or a change of the thread's state from outside.
        placement: of the run.
        resumable: of the run.
        at_ms: when, Unix milliseconds.
        joined: it had begun before the watcher came.
    """

    number: int
    kind: Literal["run", "state"]
    at_ms: int
    placement: Placement | None = None
    resumable: bool = False
    joined: bool = False


@dataclass(slots=True)
class _Watched:
    doings: deque[Doing] = field(default_factory=lambda: deque(maxlen=KEPT))
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    asked_s: float = field(default_factory=time.monotonic)


class Doings:
    """What begins on the threads that are watched; the registry's side."""

    def __init__(self) -> None:
        self._threads: dict[str, _Watched] = {}
        self._number = 0

    def note(
        self,
        thread_id: str,
        kind: Literal["run", "state"],
        placement: Placement | None = None,
        *,
        resumable: bool = False,
    ) -> None:
        """Something has begun; tells who waits for it."""
        watched = self._threads.get(thread_id)
        if watched is None:
            return
        if not watched.waiting and time.monotonic() - watched.asked_s > FORGET_AFTER_S:
            del self._threads[thread_id]
            return
        self._number += 1
        watched.doings.append(
            Doing(
                number=self._number,
                kind=kind,
                at_ms=time.time_ns() // 1_000_000,
                placement=placement,
                resumable=resumable,
            )
        )
        for future in watched.waiting:
            if not future.done():
                future.set_result(None)
        watched.waiting.clear()

    async def after(self, thread_id: str, number: int | None, wait_s: float) -> list[Doing]:
        """What has begun past ``number``; a long poll. None: from now on.

        With None the answer comes at once and tells only the number to continue from.
        """
        watched = self._threads.setdefault(thread_id, _Watched())
        watched.asked_s = time.monotonic()
        if number is None:
            return [Doing(number=self._number, kind="state", at_ms=0, joined=True)]
        deadline_s = time.monotonic() + wait_s
        while True:
            found = [doing for doing in watched.doings if doing.number > number]
            if found:
                return found
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            watched.waiting.append(future)
            try:
                await asyncio.wait_for(future, max(0.0, deadline_s - time.monotonic()))
            except TimeoutError:
                return []
            finally:
                watched.asked_s = time.monotonic()


class Poll(Protocol):
    """Asks the registry for doings past a number; None begins."""

    async def __call__(self, number: int | None) -> list[Doing]: ...


class Follow(Protocol):
    """The events of one run, from a cursor."""

    def __call__(
        self, placement: Placement, *, after: int, resumable: bool
    ) -> AsyncIterator[Batch]: ...


async def thread_frames(
    poll: Poll,
    follow: Follow,
    ended: Callable[[str], Awaitable[object]],
    state: Callable[[], Awaitable[bytes]],
    thread_id: str,
    *,
    after: str | None,
    modes: frozenset[str],
) -> AsyncIterator[bytes]:
    """SSE frames of a thread; never ends by itself.

    Args:
        ended: returns when a run is over.
        state: JSON of the thread's state.
        after: a ``Last-Event-ID``; of a run that is executed, what came later is sent again.
        modes: of ``run_modes``, ``lifecycle``, ``state_update``.
    """
    number: int | None = None
    seen_ms, _, seen_seq = (after or "").partition("-")
    while True:
        for doing in await poll(number):
            number = doing.number
            if doing.kind == "run" and doing.placement is not None:
                placement = doing.placement
                if "run_modes" in modes:
                    cursor = 0
                    if doing.joined:
                        later = after is not None and int(seen_ms) >= doing.at_ms
                        cursor = LIVE if after is None else int(seen_seq) if later else 0
                    async for batch in follow(placement, after=cursor, resumable=doing.resumable):
                        yield batch.body
                elif "lifecycle" in modes:
                    if not doing.joined:
                        begun = {"run_id": placement.run_id, "attempt": placement.attempt}
                        yield _frame("metadata", dumps(begun))
                    await ended(placement.run_id)
                if modes & {"run_modes", "lifecycle"}:
                    done = {"status": "run_done", "run_id": placement.run_id}
                    yield _frame("metadata", dumps(done))
            elif not doing.joined and "state_update" in modes:
                body = b'{"state":%b,"thread_id":%b}' % (await state(), dumps(thread_id))
                yield _frame("state_update", body)


def _frame(name: str, data: bytes) -> bytes:
    now_ns = time.time_ns()
    # The nanoseconds keep ids of one millisecond apart.
    return sse.event_frame(name, data, f"{now_ns // 1_000_000}-{now_ns % 1_000_000}")
