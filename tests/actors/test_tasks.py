"""Background work is held on to, and its failures are heard."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from actors.common.tasks import Tasks
from greenroom.core.errors import Fenced


async def test_work_is_not_lost_to_the_garbage_collector_and_not_kept_when_done() -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        done.set()

    gate = asyncio.Event()
    tasks.spawn(work())
    await asyncio.sleep(0)
    gc.collect()
    gate.set()
    await asyncio.wait_for(done.wait(), 5)
    await asyncio.sleep(0)
    assert not tasks.running


@pytest.mark.parametrize(("error", "said"), [(ValueError("oops"), True), (Fenced("late"), False)])
async def test_a_failure_is_logged_unless_it_only_means_being_late(
    error: Exception, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise error

    with caplog.at_level(logging.ERROR, "greenroom.tasks"):
        tasks.spawn(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert bool(caplog.records) is said
    assert not tasks.running
