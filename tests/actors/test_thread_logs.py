"""The log of a thread as a gateway reads it: from the database, then as the registry tells."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from actors.gateway.streams import Streams
from actors.gateway.thread_logs import ThreadLogs, Watches
from actors.registry.activity import Activity
from greenroom.core.errors import Unavailable
from greenroom.core.events import Event, first_seq
from greenroom.core.runs import Batch, Placement, RunStatus
from greenroom.core.scopes import SERVER, Equals, Scope
from greenroom.core.thread_log import END, LogPart, place_of, position
from greenroom.persistence import journal, logged_runs, tails
from greenroom.persistence.database import Pool
from greenroom.persistence.journal import Journal
from greenroom.persistence.logged_runs import LoggedRun, LoggedRuns, OpenedLog
from tests.actors.doubles import until
from tests.actors.test_journal import new_journal, request

BOUND_S = 30.0


@pytest.fixture
async def pen(pool: Pool) -> Journal:
    return await new_journal(pool)


def joined(number: int = 0) -> Activity:
    return Activity(number=number, kind="joined")


class Registry:
    """A registry whose polls are answered by hand."""

    def __init__(self) -> None:
        self.polls: list[tuple[int | None, asyncio.Future[list[Activity]]]] = []

    async def poll(self, thread_id: str, number: int | None) -> list[Activity]:
        future: asyncio.Future[list[Activity]] = asyncio.get_running_loop().create_future()
        self.polls.append((number, future))
        return await future

    async def tell(self, *told: Activity | Exception) -> None:
        await until(lambda: self.polls and not self.polls[-1][1].done())
        future = self.polls[-1][1]
        if isinstance(told[0], Exception):
            future.set_exception(told[0])
        else:
            future.set_result(cast("list[Activity]", [*told]))


async def test_readers_of_a_thread_share_a_poll_and_the_last_one_ends_it() -> None:
    registry = Registry()
    watches = Watches(registry.poll)
    async with watches.of("t") as first:
        await registry.tell(joined())
        assert await asyncio.wait_for(first.get(), BOUND_S) == []
        async with watches.of("t") as second:
            assert await asyncio.wait_for(second.get(), BOUND_S) == []
            await registry.tell(Activity(number=1, kind="run", run_id="r"))
            for news in (first, second):
                assert await asyncio.wait_for(news.get(), BOUND_S) == []
        await registry.tell(Activity(number=2, kind="state"))
        await until(lambda: len(registry.polls) == 4)
        assert first.empty()
    assert [number for number, _ in registry.polls] == [None, 0, 1, 2]
    assert len(watches) == 0
    await until(registry.polls[-1][1].cancelled)


async def test_a_registry_that_does_not_answer_breaks_every_reader() -> None:
    registry = Registry()
    watches = Watches(registry.poll)
    async with watches.of("t") as news:
        await registry.tell(Unavailable("away"))
        assert isinstance(await asyncio.wait_for(news.get(), BOUND_S), Unavailable)
        async with watches.of("t"):  # whoever comes now asks anew
            await until(lambda: len(registry.polls) == 2)


# --- numbers --------------------------------------------------------------------------------------


async def begin(pen: Journal, thread: str, *, actor: str | None = "x", logged: bool = True) -> str:
    asked = request(thread_id=thread, create_thread=True, logged=logged)
    await pen.commit(journal.admit(asked, actor=actor))
    return asked.run_id


async def numbers(pool: Pool, thread: str, scope: Scope = SERVER) -> list[tuple[int, str]]:
    found = await LoggedRuns(pool, thread, scope=scope).numbered_from(0)
    return [(run.number, run.run_id) for run in found]


async def opened(pool: Pool, thread: str) -> OpenedLog:
    return await LoggedRuns(pool, thread, scope=SERVER).opened(0)


async def end(pen: Journal, run_id: str, status: RunStatus = RunStatus.SUCCESS) -> None:
    await pen.commit(journal.end_run(run_id, status, None))


async def test_runs_are_numbered_when_they_begin(pen: Journal, pool: Pool) -> None:
    thread = str(uuid.uuid4())
    first = await begin(pen, thread)
    waits = await begin(pen, thread, actor=None)
    assert await numbers(pool, thread) == [(1, first)]
    await end(pen, first)
    later = await begin(pen, thread)
    assert await numbers(pool, thread) == [(1, first), (2, later)]
    for attempt in (1, 2):  # a further attempt has the same number
        await pen.commit(journal.start(waits, attempt, "x", log_of=thread))
        assert await numbers(pool, thread) == [(1, first), (2, later), (3, waits)]


async def test_a_run_that_never_begins_is_numbered_when_it_ends(pen: Journal, pool: Pool) -> None:
    thread = str(uuid.uuid4())
    waits = await begin(pen, thread, actor=None)
    for _ in range(2):
        await pen.commit(journal.number_run(waits, thread))
    await end(pen, waits, RunStatus.INTERRUPTED)
    ((number, _),) = await numbers(pool, thread)
    (run,) = await LoggedRuns(pool, thread, scope=SERVER).numbered_from(number)
    assert run.is_over
    assert run.placement is None


async def test_the_number_of_a_run_that_was_rolled_back_is_not_given_again(
    pen: Journal, pool: Pool
) -> None:
    thread = str(uuid.uuid4())
    gone = await begin(pen, thread)
    await pen.commit(*journal.delete_run(gone))
    await begin(pen, thread)
    assert [number for number, _ in await numbers(pool, thread)] == [2]


async def test_a_thread_without_a_log_gets_one_from_its_first_reader(
    pen: Journal, pool: Pool
) -> None:
    thread = str(uuid.uuid4())
    await begin(pen, thread, logged=False)
    assert await numbers(pool, thread) == []
    assert await opened(pool, thread) == OpenedLog()
    asked = request(thread_id=thread, create_thread=True)
    ((*_, logged, _),) = (await pen.commit(journal.admit(asked, actor="x")))[0]
    assert logged
    assert [run for _, run in await numbers(pool, thread)] == [asked.run_id]
    assert [run.run_id for run in (await opened(pool, thread)).runs] == [asked.run_id]


async def test_what_somebody_else_owns_has_no_log(pen: Journal, pool: Pool) -> None:
    thread = str(uuid.uuid4())
    await begin(pen, thread)
    stranger = LoggedRuns(pool, thread, scope=Scope(Equals("owner", '"nobody"')))
    assert await stranger.numbered_from(0) == []
    assert await stranger.opened(0) == OpenedLog()


# --- the bound ------------------------------------------------------------------------------------


async def write(pool: Pool, run_id: str, *sizes: int) -> None:
    events = [
        Event(first_seq(1) + index, 1, "values", b"x" * size) for index, size in enumerate(sizes)
    ]
    await tails.append(pool, run_id, 1, events)


async def kept(pool: Pool, run_id: str) -> list[int]:
    return [event.seq - first_seq(1) for event in await tails.read(pool, run_id, 0, 100)]


async def test_the_oldest_events_of_a_large_log_are_dropped_and_that_is_noted(
    pen: Journal, pool: Pool
) -> None:
    thread, small = str(uuid.uuid4()), str(uuid.uuid4())
    first = await begin(pen, thread)
    await write(pool, first, 40, 40)
    await end(pen, first)
    second = await begin(pen, thread)
    await write(pool, second, 40, 40, 10)
    other = await begin(pen, small)
    await write(pool, other, 90)
    assert await logged_runs.trim(pool, 100, within_s=60, max_runs=10) == 1
    assert (await kept(pool, first), await kept(pool, second)) == ([], [0, 1, 2])
    assert await kept(pool, other) == [0]
    dropped = (await opened(pool, thread)).dropped
    assert place_of(dropped) == (1, first_seq(1) + 1)
    assert await logged_runs.trim(pool, 60, within_s=60, max_runs=10) == 2
    assert (await kept(pool, second), await kept(pool, other)) == ([1, 2], [])
    assert (await opened(pool, thread)).dropped == position(2, first_seq(1))


async def test_old_runs_leave_the_log_and_that_is_noted(pen: Journal, pool: Pool) -> None:
    thread = str(uuid.uuid4())
    first = await begin(pen, thread)
    await write(pool, first, 1)
    await end(pen, first)
    assert await tails.delete_expired(pool, 0) == 0  # that is about other runs
    assert await tails.delete_expired(pool, 0, logged=True) == 1
    runs = LoggedRuns(pool, thread, scope=SERVER)
    assert await runs.opened(0) == OpenedLog(dropped=position(2, 0) - 1)
    assert await runs.numbered_from(0) == []
    second = await begin(pen, thread)
    assert [run.run_id for run in await runs.numbered_from(0)] == [second]


# --- reading --------------------------------------------------------------------------------------


class Runs:
    """The streams of runs, by script: `events` by run; a run that is not over waits at its gate."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Placement | None, int, bool]] = []
        self.gates: dict[str, asyncio.Event] = {}

    async def logged(
        self, run_id: str, *, placement: Placement | None, after: int, is_over: bool
    ) -> AsyncIterator[Batch]:
        self.asked.append((run_id, placement, after, is_over))
        begun = Event(first_seq(1) + 1, 1, "values", b"{}")
        if after < begun.seq:
            yield Batch(body=b"", events=(begun,), cursor=begun.seq, closed=False)
        if not is_over:
            await self.gates.setdefault(run_id, asyncio.Event()).wait()
        ended = Event(first_seq(1) + 2, 1, END, b"{}")
        yield Batch(body=b"", events=(ended,), cursor=ended.seq, closed=True)


class Reader:
    def __init__(self, pool: Pool, thread: str, *, since: int = 0, scope: Scope = SERVER) -> None:
        self.registry, self.runs = Registry(), Runs()
        logs = ThreadLogs(pool, cast(Streams, self.runs), self.registry.poll)
        self.parts = cast(Any, logs.read(thread, since=since, scope=scope))

    async def next(self) -> LogPart:
        return await asyncio.wait_for(anext(self.parts), BOUND_S)

    async def some(self, count: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        while len(found) < count:
            part = await self.next()
            if part.caught_up:
                found.append(("", "caught up"))
            found += [(event.run_id, event.event.name) for event in part.events]
        return found


async def test_earlier_runs_come_first_then_the_one_that_goes_on_then_later_ones(
    pen: Journal, pool: Pool
) -> None:
    thread = str(uuid.uuid4())
    first = await begin(pen, thread)
    await end(pen, first)
    second = await begin(pen, thread, actor="a2")
    reader = Reader(pool, thread)
    async with aclosing(reader.parts):
        opening = asyncio.create_task(reader.next())
        await reader.registry.tell(joined())
        assert await opening == LogPart()
        assert await reader.some(4) == [
            (first, "values"),
            (first, END),
            (second, "values"),
            ("", "caught up"),
        ]
        await end(pen, second)
        third = await begin(pen, thread)
        await reader.registry.tell(Activity(number=1, kind="run", run_id=third))
        reader.runs.gates.setdefault(second, asyncio.Event()).set()
        assert await reader.some(2) == [(second, END), (third, "values")]
        assert [asked[0] for asked in reader.runs.asked] == [first, second, third]
        placement = Placement(run_id=second, attempt=1, actor="a2")
        assert reader.runs.asked[1][1:] == (placement, 0, False)


async def test_a_run_that_the_registry_tells_of_is_read_without_a_question(
    pen: Journal, pool: Pool
) -> None:
    """A question would delay its first event. Here the database knows nothing of the run."""
    reader = Reader(pool, str(uuid.uuid4()))
    async with aclosing(reader.parts):
        opening = asyncio.create_task(reader.next())
        await reader.registry.tell(joined())
        await opening
        assert await reader.some(1) == [("", "caught up")]
        told = LoggedRun(run_id="r", number=1, attempt=1, actor="a", is_over=False)
        await reader.registry.tell(Activity(number=1, kind="run", run_id="r", logged=told))
        assert await reader.some(1) == [("r", "values")]


async def test_a_reader_goes_on_after_its_position(pen: Journal, pool: Pool) -> None:
    thread = str(uuid.uuid4())
    first = await begin(pen, thread)
    await end(pen, first)
    second = await begin(pen, thread)
    await end(pen, second)
    reader = Reader(pool, thread, since=position(2, first_seq(1) + 1))
    async with aclosing(reader.parts):
        opening = asyncio.create_task(reader.next())
        await reader.registry.tell(joined())
        await opening
        assert await reader.some(2) == [(second, END), ("", "caught up")]
        assert [asked[2] for asked in reader.runs.asked] == [first_seq(1) + 1]


@pytest.mark.parametrize("since", [1, position(2, first_seq(1))])
async def test_whoever_asks_for_what_is_dropped_is_told(
    pen: Journal, pool: Pool, since: int
) -> None:
    thread = str(uuid.uuid4())
    first = await begin(pen, thread)
    await write(pool, first, 1)
    await end(pen, first)
    await tails.delete_expired(pool, 0, logged=True)
    await begin(pen, thread)
    reader = Reader(pool, thread, since=since)
    async with aclosing(reader.parts):
        opening = asyncio.create_task(reader.next())
        await reader.registry.tell(joined())
        assert (await opening).dropped_to == (position(2, 0) - 1 if since == 1 else 0)
