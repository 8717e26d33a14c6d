"""The frames of a thread's stream, made from a registry's activity and from the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.gateway.thread_streams import DONE, EARLIEST_US, thread_frames
from actors.registry.activity import Activity
from greenroom.core.events import LIVE
from greenroom.core.runs import Batch
from greenroom.persistence.thread_runs import BegunRun
from tests.actors.doubles import until

BOUND_S = 30.0


def begun(run_id: str, at: int, *, over: bool = False) -> BegunRun:
    return BegunRun(
        run_id=run_id,
        started_us=EARLIEST_US + at,
        attempt=1,
        actor="x",
        resumable=False,
        is_over=over,
    )


class World:
    """A registry and runs, for `thread_frames`."""

    def __init__(self) -> None:
        self.polls: list[asyncio.Future[list[Activity]]] = []
        self.numbers: list[int | None] = []
        self.running = asyncio.Event()
        self.runs: list[BegunRun] = []
        self.followed: list[tuple[str, int]] = []

    async def poll(self, number: int | None) -> list[Activity]:
        self.numbers.append(number)
        future: asyncio.Future[list[Activity]] = asyncio.get_running_loop().create_future()
        self.polls.append(future)
        return await future

    async def follow(self, run: BegunRun, *, after: int) -> AsyncIterator[Batch]:
        self.followed.append((run.run_id, after))
        yield Batch(body=b"begin %b" % run.run_id.encode(), cursor=1, closed=False)
        await self.running.wait()
        yield Batch(body=b"end", cursor=2, closed=True)

    async def ended(self, run_id: str) -> None:
        await self.running.wait()

    async def state(self) -> bytes:
        return b"{}"

    # the database

    async def find(self, run_id: str) -> BegunRun | None:
        return next((run for run in self.runs if run.run_id == run_id), None)

    async def begun_from(self, started_us: int) -> list[BegunRun]:
        return [run for run in self.runs if run.started_us >= started_us]

    async def newest(self) -> BegunRun | None:
        return self.runs[-1] if self.runs else None

    async def now_us(self) -> int:
        return EARLIEST_US

    async def frames(self, *modes: str, after: str | None = None) -> AsyncIterator[bytes]:
        """From its first poll on, which is answered."""
        frames = thread_frames(
            self.poll,
            self,
            self.follow,
            self.ended,
            self.state,
            "t",
            after=after,
            modes=frozenset(modes),
        )
        first = asyncio.ensure_future(anext(frames))
        await self.tell(Activity(number=0, kind="joined"))
        assert await asyncio.wait_for(first, BOUND_S) == b""
        return frames

    async def tell(self, *told: Activity) -> None:
        """Answers the poll that is under way."""
        await until(lambda: self.polls and not self.polls[-1].done())
        self.polls[-1].set_result(list(told))


async def some(frames: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await asyncio.wait_for(anext(frames), BOUND_S) for _ in range(count)]


def run(number: int, run_id: str) -> Activity:
    return Activity(number=number, kind="run", run_id=run_id)


async def test_whoever_follows_a_long_run_keeps_asking_and_misses_nothing() -> None:
    """The registry forgets who is silent; a run may take longer than that."""
    world = World()
    frames = await world.frames("run_modes")
    world.runs = [begun("a", 1), begun("b", 2)]
    await world.tell(run(1, "a"))
    assert await some(frames, 1) == [b"begin a"]
    for number in range(1, 4):
        await until(lambda: len(world.polls) == number + 2)  # noqa: B023
        await world.tell(*([run(2, "b")] if number == 3 else []))
    world.running.set()
    seen = await some(frames, 3)
    assert seen[0] == b"end"
    assert b"run_done" in seen[1]
    assert seen[2] == b"begin b"
    assert world.numbers[:5] == [None, 0, 1, 1, 1]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_a_further_attempt_of_a_run_is_not_another_run() -> None:
    world = World()
    world.running.set()
    frames = await world.frames("run_modes")
    world.runs = [begun("a", 1), begun("b", 2)]
    await world.tell(run(1, "a"), run(2, "a"), run(3, "b"))
    await some(frames, 5)
    assert world.followed == [("a", 0), ("b", 0)]
    await frames.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("modes", [("run_modes",), ("lifecycle",)])
async def test_what_began_and_ended_while_the_registry_was_dead_is_shown(
    modes: tuple[str, ...],
) -> None:
    """Run a is followed; the registry dies; b, c and d begin, d still goes on; a poll is answered
    by the next registry, which knows of nothing but has noted d once more."""
    world = World()
    world.running.set()
    frames = await world.frames(*modes)
    world.runs = [begun("a", 1)]
    await world.tell(run(1, "a"))
    each = 3 if modes == ("run_modes",) else 2
    await some(frames, each)
    world.runs += [begun("b", 2, over=True), begun("c", 3, over=True), begun("d", 4)]
    await world.tell(Activity(number=100, kind="joined"), run(101, "d"))
    seen = b"".join(await some(frames, 3 * each))
    assert [seen.count(b'"status":"run_done","run_id":"%b"' % r) for r in (b"b", b"c", b"d")] == [
        *(1, 1, 1)
    ]
    await world.tell(run(102, "e"))
    await until(lambda: len(world.numbers) == 5)
    assert world.numbers == [None, 0, 1, 101, 102]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_after_a_registrys_death_the_state_is_told_again_since_it_may_have_changed() -> None:
    world = World()
    frames = await world.frames("state_update")
    await world.tell(Activity(number=7, kind="joined"))
    assert b"state_update" in (await some(frames, 1))[0]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_whoever_comes_sees_the_run_that_goes_on_from_now_and_none_that_is_over() -> None:
    for runs, followed in (
        ([begun("a", 1, over=True), begun("b", 2)], [("b", LIVE)]),
        ([begun("a", 1, over=True)], []),
    ):
        world = World()
        world.runs = runs
        frames = await world.frames("run_modes")
        world.runs = [*runs, begun("c", 3)]
        world.running.set()
        await world.tell(run(1, "c"))
        await some(frames, 3 * len(followed) + 3)
        assert world.followed == [*followed, ("c", 0)]
        await frames.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("after", "followed"),
    [
        (f"{EARLIEST_US + 1}-77", [("a", 77), ("b", 0), ("c", 0)]),
        (f"{EARLIEST_US + 1}-{DONE}", [("b", 0), ("c", 0)]),
        (f"{EARLIEST_US + 2}-5", [("b", 5), ("c", 0)]),
        # An id that names no run, of another server or of a version before this one: the run that
        # goes on, from its beginning.
        ("1795331102595-4294967299", [("c", 0)]),
        ("0-0", [("c", 0)]),
    ],
)
async def test_an_id_is_applied_to_the_run_that_it_names_and_to_no_other(
    after: str, followed: list[tuple[str, int]]
) -> None:
    world = World()
    world.running.set()
    world.runs = [begun("a", 1, over=True), begun("b", 2, over=True), begun("c", 3)]
    frames = await world.frames("run_modes", after=after)
    await some(frames, 3 * len(followed))
    assert world.followed == followed
    await frames.aclose()  # type: ignore[attr-defined]


async def test_ids_name_the_run_also_where_the_gateway_makes_them() -> None:
    world = World()
    world.running.set()
    frames = await world.frames("lifecycle", "state_update")
    world.runs = [begun("a", 1)]
    await world.tell(run(1, "a"), Activity(number=2, kind="state"))
    ids = [frame.split(b"id: ")[1].strip().decode() for frame in await some(frames, 3)]
    assert ids == [f"{EARLIEST_US + 1}-1", *[f"{EARLIEST_US + 1}-{DONE}"] * 2]
    await frames.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_that_leaves_takes_its_poll_along() -> None:
    world = World()
    frames = await world.frames("state_update")
    await world.tell(Activity(number=1, kind="state"))
    assert b"state_update" in (await some(frames, 1))[0]
    await until(lambda: len(world.polls) == 3)
    await frames.aclose()  # type: ignore[attr-defined]
    await until(world.polls[2].cancelled)


async def test_a_poll_that_fails_ends_the_stream_with_its_error() -> None:
    world = World()
    frames = await world.frames("lifecycle")
    first = asyncio.ensure_future(anext(frames))
    await until(lambda: len(world.polls) == 2)
    world.polls[1].set_exception(ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(first, BOUND_S)
