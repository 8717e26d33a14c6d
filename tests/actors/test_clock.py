"""The clock of the machine: a sleep ends at its time, or when somebody wakes it."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

import pytest

from actors.common.clock import WALL_CLOCK

BOUND_S = 30.0


@pytest.mark.parametrize("late_s", [-5.0, 0.02])
async def test_a_sleep_ends_at_its_time(late_s: float) -> None:
    until = WALL_CLOCK.now() + timedelta(seconds=late_s)
    await asyncio.wait_for(WALL_CLOCK.sleep(until, asyncio.Event()), BOUND_S)
    assert WALL_CLOCK.now() - until > timedelta(milliseconds=-5)
    assert WALL_CLOCK.now().tzinfo is UTC


@pytest.mark.parametrize("later_s", [None, 3600.0])
async def test_an_event_ends_a_sleep(later_s: float | None) -> None:
    awake = asyncio.Event()
    until = None if later_s is None else WALL_CLOCK.now() + timedelta(seconds=later_s)
    sleep = asyncio.create_task(WALL_CLOCK.sleep(until, awake))
    await asyncio.sleep(0)
    assert not sleep.done()
    awake.set()
    await asyncio.wait_for(sleep, BOUND_S)
