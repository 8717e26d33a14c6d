"""The stream of a whole thread: the events of its runs, and the changes of its state.

The registry notes the activity of watched threads (`actors.registry.activity`); a gateway polls it
and reads each run's events. Runs of a thread never overlap, so the gateway shows them in order, one
after the other.

The answer "joined" means that the registry may have missed activity. The gateway then looks up in
PostgreSQL the runs that began after the last one that it has shown. It serves a client that
reconnects with the id of its last event in the same way: the id names the run by its start
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
"""A sequence number before every event of a run: the client knows only that the run began."""
DONE = 2**62
"""A sequence number past every event of a run: the client knows that the run ended."""
EARLIEST_US = 10**15
"""A time in 2001. A smaller number is not from an id of a thread's stream: `0-0`, or an id that
begins with milliseconds."""


class Poll(Protocol):
    """Long-polls the registry for activity past a number; None begins."""

    async def __call__(self, number: int | None) -> list[Activity]: ...


class ThreadRuns(Protocol):
    """The thread's runs in PostgreSQL: `StoredRuns`."""

    async def find(self, run_id: str) -> BegunRun | None: ...
    async def begun_from(self, started_us: int) -> Sequence[BegunRun]: ...
    async def newest(self) -> BegunRun | None: ...
    async def now_us(self) -> int: ...


class Follow(Protocol):
    """Yields the events of one run past a cursor."""

    def __call__(self, run: BegunRun, *, after: int) -> AsyncIterator[Batch]: ...


@dataclass(frozen=True, slots=True)
class _Shown:
    """A run to show, and the cursor to show it from."""

    run: BegunRun
    cursor: int = 0


async def thread_frames(
    poll: Poll,
    runs: ThreadRuns,
    follow: Follow,
    ended: Callable[[str], Awaitable[object]],
    state: Callable[[], Awaitable[bytes | None]],
    thread_id: str,
    *,
    after: str | None,
    modes: frozenset[str],
) -> AsyncIterator[bytes]:
    """Yields the SSE frames of a thread; never ends by itself. The first frame is empty, as the
    port requires.

    Args:
        poll: long-polls the registry.
        runs: the thread's runs in PostgreSQL.
        follow: yields the events of a run.
        ended: waits until a run is over.
        state: returns the thread's state as JSON; None if the thread does not exist.
        after: a ``Last-Event-ID``. The stream continues with the later events of the run that the
            id names, as far as they are kept, and with every later run.
        modes: some of ``run_modes``, ``lifecycle``, ``state_update``.
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
                yield b""  # the registry now watches the thread
            elif activity.kind == "joined" and position is not None:
                shown = [_Shown(run) for run in await runs.begun_from(position + 1)]
                changed = True  # the state may have changed in the time that the registry missed
            assert position is not None
            for each in shown:
                started_us = each.run.started_us
                if started_us <= position and activity.kind == "run":
                    continue  # a later attempt of a run that was shown to its end
                position = max(position, started_us)
                async for frame in _run_frames(each, follow, ended, modes):
                    yield frame
            if changed and "state_update" in modes and (now := await state()) is not None:
                body = b'{"state":%b,"thread_id":%b}' % (now, dumps(thread_id))
                yield sse.event_frame("state_update", body, f"{position}-{DONE}")
    finally:
        asking.cancel()


async def _beginning(runs: ThreadRuns, after: str | None) -> tuple[int, list[_Shown]]:
    """Returns a watcher's start: the start time of the run that counts as shown last (in
    microseconds), and the runs to show first."""
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
    """Polls without a pause, also while the stream shows a run for hours: the registry forgets a
    thread that no gateway polls."""
    number: int | None = None
    try:
        while True:
            for activity in await poll(number):
                number = activity.number
                begun.put_nowait(activity)
    except Exception as error:  # noqa: BLE001 - the stream's reader raises it
        begun.put_nowait(error)
