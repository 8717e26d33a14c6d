"""The stream of a whole thread: which runs begin on it, and that its state was changed.

The registry notes what begins (`Doings`), only for threads that somebody watches; a gateway polls
that and reads each run's events where they are (`thread_frames`). Runs of a thread never overlap,
so one after the other is the thread's order.
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
    asked_s: float
    doings: deque[Doing] = field(default_factory=lambda: deque(maxlen=KEPT))
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class Doings:
    """What begins on the threads that are watched; the registry's side.

    Args:
        clock: seconds; whoever has not asked for `FORGET_AFTER_S` of them watches no more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._threads: dict[str, _Watched] = {}
        self._number = 0
        self._looked_s = clock()

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

        With None the answer comes at once and tells only the number to continue from.
        """
        self._forget_the_unwatched()
        watched = self._threads.get(thread_id)
        if watched is None:
            watched = self._threads[thread_id] = _Watched(self._clock())
        watched.asked_s = self._clock()
        if number is None:
            return [Doing(number=self._number, kind="state", at_ms=0, joined=True)]
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
    """SSE frames of a thread; never ends by itself. The first one is empty, as the port says.

    Args:
        ended: returns when a run is over.
        state: JSON of the thread's state.
        after: a ``Last-Event-ID``; of a run that is executed, what came later is sent again.
        modes: of ``run_modes``, ``lifecycle``, ``state_update``.
    """
    seen_ms, _, seen_seq = (after or "").partition("-")
    begun: asyncio.Queue[Doing | Exception] = asyncio.Queue()
    asking = asyncio.create_task(_ask_on(poll, begun))
    followed = ""
    try:
        while True:
            doing = await begun.get()
            if isinstance(doing, Exception):
                raise doing
            if doing.kind == "state" and doing.joined:
                yield b""  # the registry knows of this watcher
                continue
            if doing.kind == "run" and doing.placement is not None:
                placement = doing.placement
                if placement.run_id == followed:
                    continue  # a further attempt of a run that was followed to its end
                followed = placement.run_id
                if "run_modes" in modes:
                    cursor = 0
                    if doing.joined:
                        later = after is not None and int(seen_ms) >= doing.at_ms
                        cursor = LIVE if after is None else int(seen_seq) if later else 0
                    async for batch in follow(placement, after=cursor, resumable=doing.resumable):
                        yield batch.body
                elif "lifecycle" in modes:
                    if not doing.joined:
                        start = {"run_id": placement.run_id, "attempt": placement.attempt}
                        yield _frame("metadata", dumps(start))
                    await ended(placement.run_id)
                if modes & {"run_modes", "lifecycle"}:
                    done = {"status": "run_done", "run_id": placement.run_id}
                    yield _frame("metadata", dumps(done))
            elif "state_update" in modes:
                body = b'{"state":%b,"thread_id":%b}' % (await state(), dumps(thread_id))
                yield _frame("state_update", body)
    finally:
        asking.cancel()


async def _ask_on(poll: Poll, begun: asyncio.Queue[Doing | Exception]) -> None:
    """Keeps asking, also while a run is followed for hours: whoever falls silent is forgotten by
    the registry, and would miss the run after that one."""
    number: int | None = None
    try:
        while True:
            for doing in await poll(number):
                number = doing.number
                begun.put_nowait(doing)
    except Exception as error:  # noqa: BLE001 - it is raised where the stream is read
        begun.put_nowait(error)


def _frame(name: str, data: bytes) -> bytes:
    now_ns = time.time_ns()
    # The nanoseconds keep ids of one millisecond apart.
    return sse.event_frame(name, data, f"{now_ns // 1_000_000}-{now_ns % 1_000_000}")
