"""The logs of threads, for clients of event streaming.

A reader gets the events of the thread's logged runs, one run after the other: all that are kept,
then the later ones as they come. The registry says when a run of the thread begins, or ends without
having begun (`actors.registry.activity`); what there is to read says PostgreSQL.

All readers of a thread share one long poll, and readers at the same position share their reads
(`actors.gateway.sharing`). So a reader that waits costs its connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from actors.gateway.streams import Streams
from actors.registry.activity import Activity
from greenroom.core.scopes import Scope
from greenroom.core.thread_log import LogEvent, LogPart, place_of
from greenroom.persistence.database import Pool
from greenroom.persistence.logged_runs import LoggedRun, LoggedRuns

Poll = Callable[[str, int | None], Awaitable[list[Activity]]]
"""Long-polls the registry for the activity of a thread past a number; None begins."""
News = asyncio.Queue[Exception | list[LoggedRun]]
"""Something has happened on a thread, among it the begin of these runs; or why nobody will say so
any more."""


@dataclass(slots=True)
class _Watch:
    """A watched thread.

    Attributes:
        readers: what is told that something has happened.
        joined: whether the registry watches the thread.
    """

    readers: set[News] = field(default_factory=set[News])
    joined: bool = False
    task: asyncio.Task[None] | None = None

    def tell(self, news: Exception | list[LoggedRun]) -> None:
        for reader in self.readers:
            reader.put_nowait(news)


class Watches:
    """The threads whose activity somebody of this gateway waits for."""

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._watches: dict[str, _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    @asynccontextmanager
    async def of(self, thread_id: str) -> AsyncGenerator[News]:
        """Watches a thread; the first news says that the registry does, too."""
        watch = self._watches.get(thread_id)
        if watch is None:
            watch = self._watches[thread_id] = _Watch()
            watch.task = asyncio.create_task(self._ask_on(thread_id, watch))
        news: News = asyncio.Queue()
        watch.readers.add(news)
        if watch.joined:
            news.put_nowait([])
        try:
            yield news
        finally:
            watch.readers.discard(news)
            if not watch.readers:
                self._end(thread_id, watch)

    def _end(self, thread_id: str, watch: _Watch) -> None:
        if watch.task is not None:
            watch.task.cancel()
        if self._watches.get(thread_id) is watch:
            del self._watches[thread_id]

    async def _ask_on(self, thread_id: str, watch: _Watch) -> None:
        number: int | None = None
        try:
            while True:
                found = await self._poll(thread_id, number)
                if found:
                    number = found[-1].number
                    watch.joined = True
                    begun = [each.logged for each in found if each.kind != "state"]
                    if begun:
                        # Of a run without a number the database knows more.
                        watch.tell([each for each in begun if each] if all(begun) else [])
        except Exception as error:  # noqa: BLE001 - the readers raise it
            if self._watches.get(thread_id) is watch:
                del self._watches[thread_id]
            watch.tell(error)


class ThreadLogs:
    """Reads the logs of threads for a gateway.

    Args:
        database: has the numbers of the logged runs.
        streams: reads the events of a run.
        poll: long-polls the registry.
    """

    def __init__(self, database: Pool, streams: Streams, poll: Poll) -> None:
        self._database = database
        self._streams = streams
        self.watches = Watches(poll)

    async def read(self, thread_id: str, *, since: int, scope: Scope) -> AsyncIterator[LogPart]:
        """As `ports.Runtime.thread_log`."""
        runs = LoggedRuns(self._database, thread_id, scope=scope)
        first, seq = place_of(since)
        shown = first - 1 if seq else first
        async with self.watches.of(thread_id) as news:
            await _heard(news)
            opened = await runs.opened(shown + 1)
            yield LogPart(dropped_to=opened.dropped if 0 < since < opened.dropped else 0)
            is_replay = True
            begun = opened.runs
            while True:
                for run in begun:
                    if run.number <= shown:
                        continue
                    after = seq if run.number == first else 0
                    async for part in self._run(run, after):
                        yield part
                        if is_replay and not run.is_over:
                            is_replay = False  # what follows had not happened
                            yield LogPart(caught_up=True)
                    shown = run.number
                if is_replay:
                    is_replay = False
                    yield LogPart(caught_up=True)
                begun = await _heard(news)
                if not (scope.is_everything and _follow_on(begun, shown)):
                    begun = await runs.numbered_from(shown + 1)

    async def _run(self, run: LoggedRun, after: int) -> AsyncIterator[LogPart]:
        batches = self._streams.logged(
            run.run_id, placement=run.placement, after=after, is_over=run.is_over
        )
        async for batch in batches:
            events = [
                LogEvent(number=run.number, run_id=run.run_id, event=event)
                for event in batch.events
            ]
            yield LogPart(events=events)


async def _heard(news: News) -> list[LoggedRun]:
    told = await news.get()
    if isinstance(told, Exception):
        raise told
    return told


def _follow_on(runs: list[LoggedRun], shown: int) -> bool:
    """Whether runs, of which the registry has told, are all that follow a number: then the database
    need not be asked, which would delay a run's first event."""
    later = [run.number for run in runs if run.number > shown]
    return bool(later) and later == [*range(shown + 1, shown + 1 + len(later))]
