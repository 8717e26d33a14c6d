"""ThreadActivity notes activity for watched threads only, and no watcher misses any of it."""

from __future__ import annotations

import asyncio

import pytest

from actors.registry.activity import FORGET_AFTER_S, KEPT, ThreadActivity

BOUND_S = 30.0


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def activity(clock: Clock) -> ThreadActivity:
    return ThreadActivity(clock, origin=0)


async def test_nothing_is_noted_for_threads_that_nobody_watches(activity: ThreadActivity) -> None:
    activity.note("t", "run", "a")
    assert activity.threads == {}
    (begin,) = await activity.after("t", None, 0)
    assert await activity.after("t", begin.number, 0) == []


async def test_whoever_watches_hears_what_began_since(activity: ThreadActivity) -> None:
    (begin,) = await activity.after("t", None, 0)
    activity.note("t", "run", "a")
    activity.note("other", "state")
    activity.note("t", "state")
    first, second = await activity.after("t", begin.number, 0)
    assert (first.kind, first.run_id, second.kind) == ("run", "a", "state")
    assert await activity.after("t", first.number, 0) == [second]


async def test_a_poll_is_woken_by_what_begins(activity: ThreadActivity) -> None:
    (begin,) = await activity.after("t", None, 0)
    polls = [asyncio.create_task(activity.after("t", begin.number, BOUND_S)) for _ in range(2)]
    await asyncio.sleep(0)
    activity.note("t", "state")
    for found in await asyncio.wait_for(asyncio.gather(*polls), BOUND_S):
        assert [each.kind for each in found] == ["state"]


async def test_polls_that_are_over_leave_nothing_behind(activity: ThreadActivity) -> None:
    (begin,) = await activity.after("t", None, 0)
    for _ in range(3):
        await activity.after("t", begin.number, 0)
    poll = asyncio.create_task(activity.after("t", begin.number, BOUND_S))
    await asyncio.sleep(0)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    assert activity.threads["t"].waiting == []


async def test_threads_that_nobody_asks_for_are_forgotten_though_nothing_happens_on_them(
    activity: ThreadActivity, clock: Clock
) -> None:
    await activity.after("quiet", None, 0)
    (begin,) = await activity.after("polled", None, 0)
    poll = asyncio.create_task(activity.after("polled", begin.number, BOUND_S))
    await asyncio.sleep(0)
    clock.now_s = FORGET_AFTER_S + 1
    await activity.after("new", None, 0)
    assert set(activity.threads) == {"polled", "new"}
    activity.note("polled", "state")
    assert len(await poll) == 1


async def joins_anew(activity: ThreadActivity, number: int) -> bool:
    return [each.kind for each in await activity.after("t", number, 0)] == ["joined"]


async def test_a_number_of_another_registry_is_answered_like_a_newcomer(clock: Clock) -> None:
    """The first registry had counted further, or not as far: either way it is not this one's."""
    for noted in (0, 5):
        first = ThreadActivity(clock)
        (begin,) = await first.after("t", None, 0)
        for _ in range(noted):
            first.note("t", "state")
        number = begin.number + noted
        second = ThreadActivity(clock)
        await second.after("t", None, 0)
        second.note("t", "run", "a")
        assert await joins_anew(second, number)


async def test_whoever_was_forgotten_is_told_so(activity: ThreadActivity, clock: Clock) -> None:
    (begin,) = await activity.after("t", None, 0)
    clock.now_s = FORGET_AFTER_S + 1
    await activity.after("other", None, 0)
    activity.note("t", "run", "a")
    activity.note("other", "state")
    assert await joins_anew(activity, begin.number)


async def test_whoever_is_further_behind_than_is_kept_is_told_so(activity: ThreadActivity) -> None:
    (begin,) = await activity.after("t", None, 0)
    for _ in range(KEPT + 1):
        activity.note("t", "state")
    assert await joins_anew(activity, begin.number)
    assert len(await activity.after("t", begin.number + 1, 0)) == KEPT
