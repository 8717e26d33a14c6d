"""Waiting with a bound, and pauses that grow."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from greenroom.core import waiting
from greenroom.core.waiting import cancelled, growing_pauses, happens_within


async def test_what_has_happened_is_seen_without_any_time() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert not await happens_within(-1, future)
    assert future.cancelled()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    assert await happens_within(0, done)


async def test_what_happens_in_time_is_waited_for() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(happens_within(60, event.wait()))
    await asyncio.sleep(0)
    event.set()
    async with asyncio.timeout(20):
        assert await waiting


async def test_a_cancellation_that_comes_with_the_wake_up_is_not_lost() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(happens_within(60, future))
    await asyncio.sleep(0)
    future.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_pauses_double_up_to_the_longest() -> None:
    assert [*itertools.islice(growing_pauses(0.1, 0.5), 5)] == [0.1, 0.2, 0.4, 0.5, 0.5]


async def test_who_loses_a_cancel_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `asyncio.wait_for` of Python 3.11 does, if its result comes at the same time."""
    monkeypatch.setattr(waiting, "CANCEL_AGAIN_S", 0.01)
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 2:
                    raise

    tasks = [asyncio.create_task(work())]
    await asyncio.sleep(0)
    await asyncio.wait_for(cancelled(tasks), 30)
    assert lost == 3
    assert tasks[0].cancelled()
    await cancelled([])
