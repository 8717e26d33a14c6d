"""The stream of a whole thread: which runs begin on it, and that its state was changed.

The registry notes what begins (`Doings`), only for threads that somebody watches; a gateway polls
that and reads each run's events where they are (`thread_frames`). Runs of a thread never overlap,
so one after the other is the thread's order.

What the registry notes lives in its memory, so it may be missing something: after its death, or
when nobody has asked for long. It then says "joined", and the gateway looks up in PostgreSQL which
runs began since the last one that it has shown. A client that comes back with the id of its last
event is served in the same way: the id names the run, by when it began (`BegunRun.started_us`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from greenroom.core.events import LIVE
from greenroom.core.runs import Batch
from greenroom.persistence.thread_runs import BegunRun
from greenroom.wire import sse
from greenroom.wire.encoding import dumps

FORGET_AFTER_S = 120.0
KEPT = 256
TOLD = 1
"""A sequence number before every event of a run: that it began was told, and nothing else."""
DONE = 2**62
"""A sequence number past every event of a run: its end was told."""
EARLIEST_US = 10**15
"""In the year 2001. What is smaller was not given by a thread's stream of ours: `0-0`, and ids that
begin with milliseconds."""


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
    """What begins on the threads that are watched; the registry's side.

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


class Poll(Protocol):
    """Asks the registry for doings past a number; None begins."""

    async def __call__(self, number: int | None) -> list[Doing]: ...


class ThreadRuns(Protocol):
    """The thread's runs in PostgreSQL: `StoredRuns`."""

    async def find(self, run_id: str) -> BegunRun | None: ...
    async def begun_from(self, started_us: int) -> Sequence[BegunRun]: ...
    async def newest(self) -> BegunRun | None: ...
    async def now_us(self) -> int: ...


class Follow(Protocol):
    """The events of one run, from a cursor."""

    def __call__(self, run: BegunRun, *, after: int) -> AsyncIterator[Batch]: ...


@dataclass(frozen=True, slots=True)
class _Shown:
    """A run to show, and from where."""

    run: BegunRun
    cursor: int = 0


async def thread_frames(
    poll: Poll,
    runs: ThreadRuns,
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
        after: a ``Last-Event-ID``. Of the run that it names what came later is sent, as far as it
            is kept, and every run that began after that one.
        modes: of ``run_modes``, ``lifecycle``, ``state_update``.
    """
    begun: asyncio.Queue[Doing | Exception] = asyncio.Queue()
    asking = asyncio.create_task(_ask_on(poll, begun))
    position: int | None = None
    try:
        while True:
            doing = await begun.get()
            if isinstance(doing, Exception):
                raise doing
            shown: list[_Shown] = []
            changed = doing.kind == "state"
            if doing.kind == "run" and doing.run_id is not None:
                run = await runs.find(doing.run_id)
                shown = [_Shown(run)] if run is not None else []
            elif doing.kind == "joined" and position is None:
                position, shown = await _beginning(runs, after)
                yield b""  # the registry knows of this watcher
            elif doing.kind == "joined" and position is not None:
                shown = [_Shown(run) for run in await runs.begun_from(position + 1)]
                changed = True  # perhaps: whether it was, nobody remembers
            assert position is not None
            for each in shown:
                started_us = each.run.started_us
                if started_us <= position and doing.kind == "run":
                    continue  # a further attempt of a run that was followed to its end
                position = max(position, started_us)
                async for frame in _run_frames(each, follow, ended, modes):
                    yield frame
            if changed and "state_update" in modes:
                body = b'{"state":%b,"thread_id":%b}' % (await state(), dumps(thread_id))
                yield sse.event_frame("state_update", body, f"{position}-{DONE}")
    finally:
        asking.cancel()


async def _beginning(runs: ThreadRuns, after: str | None) -> tuple[int, list[_Shown]]:
    """Where a watcher begins: the run that counts as shown last, and the runs to show first."""
    started_us, _, seq = (after or "0-0").partition("-")
    position = int(started_us)
    if position >= EARLIEST_US:
        since = await runs.begun_from(position)
        return position, [
            _Shown(run, int(seq) if run.started_us == position else 0) for run in since
        ]
    newest = await runs.newest()
    if newest is None:
        return await runs.now_us(), []
    if newest.is_over:
        return newest.started_us, []
    return newest.started_us, [_Shown(newest, LIVE if after is None else 0)]


async def _run_frames(
    shown: _Shown,
    follow: Follow,
    ended: Callable[[str], Awaitable[object]],
    modes: frozenset[str],
) -> AsyncIterator[bytes]:
    run, cursor = shown.run, shown.cursor
    if cursor >= DONE or not modes & {"run_modes", "lifecycle"}:
        return
    if "run_modes" in modes:
        async for batch in follow(run, after=cursor):
            yield batch.body
    else:
        if cursor == 0:
            start = dumps({"run_id": run.run_id, "attempt": run.attempt})
            yield sse.event_frame("metadata", start, f"{run.started_us}-{TOLD}")
        if not run.is_over:
            await ended(run.run_id)
    done = dumps({"status": "run_done", "run_id": run.run_id})
    yield sse.event_frame("metadata", done, f"{run.started_us}-{DONE}")


async def _ask_on(poll: Poll, begun: asyncio.Queue[Doing | Exception]) -> None:
    """Keeps asking, also while a run is followed for hours: whoever falls silent is forgotten by
    the registry."""
    number: int | None = None
    try:
        while True:
            for doing in await poll(number):
                number = doing.number
                begun.put_nowait(doing)
    except Exception as error:  # noqa: BLE001 - it is raised where the stream is read
        begun.put_nowait(error)
