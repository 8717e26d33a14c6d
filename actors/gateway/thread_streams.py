"""The stream of a whole thread: which runs begin on it, and that its state was changed.

The registry notes what begins (`actors.registry.activity`); a gateway polls that and reads each
run's events where they are. Runs of a thread never overlap, so one after the other is the thread's
order.

When the registry says "joined", it may have missed something. The gateway then looks up in
PostgreSQL which runs began since the last one that it has shown. A client that comes back with the
id of its last event is served in the same way: the id names the run, by when it began
(`BegunRun.started_us`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.registry.activity import Activity
from greenroom.core.events import LIVE
from greenroom.core.runs import Batch
from greenroom.persistence.thread_runs import BegunRun
from greenroom.wire import sse
from greenroom.wire.encoding import dumps

TOLD = 1
"""A sequence number before every event of a run: that it began was told, and nothing else."""
DONE = 2**62
"""A sequence number past every event of a run: its end was told."""
EARLIEST_US = 10**15
"""In the year 2001. What is smaller was not given by a thread's stream of ours: `0-0`, and ids that
begin with milliseconds."""


class Poll(Protocol):
    """Polls the registry for activity past a number; None begins."""

    async def __call__(self, number: int | None) -> list[Activity]: ...


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
    begun: asyncio.Queue[Activity | Exception] = asyncio.Queue()
    asking = asyncio.create_task(_ask_on(poll, begun))
    position: int | None = None
    try:
        while True:
            activity = await begun.get()
            if isinstance(activity, Exception):
                raise activity
            shown: list[_Shown] = []
            changed = activity.kind == "state"
            if activity.kind == "run" and activity.run_id is not None:
                run = await runs.find(activity.run_id)
                shown = [_Shown(run)] if run is not None else []
            elif activity.kind == "joined" and position is None:
                position, shown = await _beginning(runs, after)
                yield b""  # the registry knows of this watcher
            elif activity.kind == "joined" and position is not None:
                shown = [_Shown(run) for run in await runs.begun_from(position + 1)]
                changed = True  # perhaps: whether it was, nobody remembers
            assert position is not None
            for each in shown:
                started_us = each.run.started_us
                if started_us <= position and activity.kind == "run":
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


async def _ask_on(poll: Poll, begun: asyncio.Queue[Activity | Exception]) -> None:
    """Keeps asking, also while a run is followed for hours: whoever falls silent is forgotten by
    the registry."""
    number: int | None = None
    try:
        while True:
            for activity in await poll(number):
                number = activity.number
                begun.put_nowait(activity)
    except Exception as error:  # noqa: BLE001 - it is raised where the stream is read
        begun.put_nowait(error)
