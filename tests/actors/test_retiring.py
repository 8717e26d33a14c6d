"""A run actor at the end of its life stays until what it executed last was read."""

from __future__ import annotations

import asyncio
import time

import pytest

from actors.run import reading
from actors.run.reading import Shelf
from tests.actors.doubles import BOUND_S
from tests.actors.test_reading import begin, end, read, shelf_of


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(reading, "LOOK_S", 0.001)
    monkeypatch.setattr(reading, "READ_AGAIN_S", 0.05)
    shelf = shelf_of()
    executed = begin(shelf, "a")
    executed.log.append("values", b"{}", 1)
    end(shelf, executed)
    return shelf


async def took_s(shelf: Shelf) -> float:
    begun_s = time.monotonic()
    await asyncio.wait_for(shelf.until_read(), BOUND_S)
    return time.monotonic() - begun_s


@pytest.mark.parametrize("how", ["read", "outcome"])
async def test_it_goes_when_the_end_was_given(shelf: Shelf, how: str) -> None:
    retiring = asyncio.create_task(shelf.until_read())
    await asyncio.sleep(0)
    assert not retiring.done()
    if how == "read":
        assert (await read(shelf, "a")).closed
    else:
        assert await shelf.outcome("a", 1, 1.0) is not None
    await asyncio.wait_for(retiring, BOUND_S)


async def test_who_has_begun_to_read_is_waited_for_and_not_for_ever(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNDELIVERED_S", 0.4)
    running = begin(shelf, "b")
    running.log.append("values", b"{}", 1)
    assert not (await read(shelf, "b")).closed
    await read(shelf, "a")
    assert await took_s(shelf) >= 0.4


async def test_what_nobody_asks_for_is_kept_for_a_moment(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "UNREAD_S", 0.2)
    monkeypatch.setattr(reading, "UNDELIVERED_S", 3600.0)
    assert await took_s(shelf) >= 0.2


async def test_nothing_is_kept_of_what_is_gone(shelf: Shelf) -> None:
    await read(shelf, "a")
    shelf.drop(begin(shelf, "b"), whole=False)
    await shelf.read("b", 2, 0, 0.0, None, False)
    assert set(shelf._readings) == {"a"}
