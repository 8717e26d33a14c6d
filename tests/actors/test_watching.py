"""What begins on a thread: noted only for who watches, missed by nobody who does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from actors.watching import FORGET_AFTER_S, Doing, Doings, thread_frames
from greenroom.core.runs import Batch, Placement

BOUND_S = 5.0


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def doings(clock: Clock) -> Doings:
    return Doings(clock)


def placement(run_id: str) -> Placement:
    return Placement(run_id=run_id, attempt=1, actor="x")


async def test_nothing_is_noted_for_threads_that_nobody_watches(doings: Doings) -> None:
    doings.note("t", "run", placement("a"))
    assert doings._threads == {}
    (begin,) = await doings.after("t", None, 0)
    assert await doings.after("t", begin.number, 0) == []


async def test_whoever_watches_hears_what_began_since(doings: Doings) -> None:
    (begin,) = await doings.after("t", None, 0)
    doings.note("t", "run", placement("a"))
    doings.note("other", "state")
    doings.note("t", "state")
    first, second = await doings.after("t", begin.number, 0)
    assert (first.kind, first.placement, second.kind) == ("run", placement("a"), "state")
    assert await doings.after("t", first.number, 0) == [second]


async def test_a_poll_is_woken_by_what_begins(doings: Doings) -> None:
    (begin,) = await doings.after("t", None, 0)
    polls = [asyncio.create_task(doings.after("t", begin.number, BOUND_S)) for _ in range(2)]
    await asyncio.sleep(0)
    doings.note("t", "state")
    for found in await asyncio.wait_for(asyncio.gather(*polls), BOUND_S):
        assert [doing.kind for doing in found] == ["state"]


async def test_polls_that_are_over_leave_nothing_behind(doings: Doings) -> None:
    (begin,) = await doings.after("t", None, 0)
    for _ in range(3):
        await doings.after("t", begin.number, 0)
    poll = asyncio.create_task(doings.after("t", begin.number, BOUND_S))
    await asyncio.sleep(0)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    assert doings._threads["t"].waiting == []


async def test_threads_that_nobody_asks_for_are_forgotten_though_nothing_happens_on_them(
    doings: Doings, clock: Clock
) -> None:
    await doings.after("quiet", None, 0)
    (begin,) = await doings.after("polled", None, 0)
    poll = asyncio.create_task(doings.after("polled", begin.number, BOUND_S))
    await asyncio.sleep(0)
    clock.now_s = FORGET_AFTER_S + 1
    await doings.after("new", None, 0)
    assert set(doings._threads) == {"polled", "new"}
    doings.note("polled", "state")
    assert len(await poll) == 1


class World:
    """A registry and runs, for `thread_frames`."""

    def __init__(self) -> None:
        self.polls: list[asyncio.Future[list[Doing]]] = []
        self.numbers: list[int | None] = []
        self.running = asyncio.Event()

    async def poll(self, number: int | None) -> list[Doing]:
        self.numbers.append(number)
        future: asyncio.Future[list[Doing]] = asyncio.get_running_loop().create_future()
        self.polls.append(future)
        return await future

    async def follow(
        self, placement: Placement, *, after: int, resumable: bool
    ) -> AsyncIterator[Batch]:
        yield Batch(body=b"begin %b" % placement.run_id.encode(), cursor=1, closed=False)
        await self.running.wait()
        yield Batch(body=b"end", cursor=2, closed=True)

    async def ended(self, run_id: str) -> None:
        await self.running.wait()

    async def state(self) -> bytes:
        return b"{}"

    def frames(self, *modes: str) -> AsyncIterator[bytes]:
        return thread_frames(
            self.poll,
            self.follow,
            self.ended,
            self.state,
            "t",
            after=None,
            modes=frozenset(modes),
        )


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)


def run(number: int, run_id: str) -> Doing:
    return Doing(number=number, kind="run", at_ms=1, placement=placement(run_id))


async def test_whoever_follows_a_long_run_keeps_asking_and_misses_nothing() -> None:
    """The registry forgets who is silent; a run may take longer than that."""
    world = World()
    frames = aiter(world.frames("run_modes"))
    first = asyncio.create_task(anext(frames))
    await until(lambda: world.polls)
    world.polls[0].set_result([run(1, "a")])
    assert await asyncio.wait_for(first, BOUND_S) == b"begin a"
    for number in range(1, 4):
        await until(lambda: len(world.polls) == number + 1)  # noqa: B023
        world.polls[number].set_result([run(2, "b")] if number == 3 else [])
    world.running.set()
    seen = [await asyncio.wait_for(anext(frames), BOUND_S) for _ in range(3)]
    assert seen[0] == b"end"
    assert b"run_done" in seen[1]
    assert seen[2] == b"begin b"
    assert world.numbers[:4] == [None, 1, 1, 1]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_that_leaves_takes_its_poll_along() -> None:
    world = World()
    frames = aiter(world.frames("state_update"))
    first = asyncio.create_task(anext(frames))
    await until(lambda: world.polls)
    world.polls[0].set_result([Doing(number=1, kind="state", at_ms=1)])
    assert b"state_update" in await asyncio.wait_for(first, BOUND_S)
    await until(lambda: len(world.polls) == 2)
    await frames.aclose()  # type: ignore[attr-defined]
    await until(world.polls[1].cancelled)


async def test_a_poll_that_fails_ends_the_stream_with_its_error() -> None:
    world = World()
    first = asyncio.create_task(anext(aiter(world.frames("lifecycle"))))
    await until(lambda: world.polls)
    world.polls[0].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(first, BOUND_S)
