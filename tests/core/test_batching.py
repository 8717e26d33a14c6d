"""Batcher: one call at a time, everything that gathered meanwhile in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from greenroom.core.batching import Batcher

BOUND_S = 30.0


class Gate:
    """A `send` that lets each call through when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def send(self, items: list[int]) -> Sequence[int | Exception]:
        self.calls.append(items)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.entered.set()
        await self.open.wait()
        self.under_way -= 1
        return [item * 10 for item in items]


async def bounded(*futures: asyncio.Future[int]) -> list[int | BaseException]:
    async with asyncio.timeout(BOUND_S):
        return await asyncio.gather(*futures, return_exceptions=True)


async def test_what_comes_during_a_call_goes_as_one_call_in_order() -> None:
    gate = Gate()
    batcher = Batcher(gate.send)
    first = batcher.put(1)
    await gate.entered.wait()
    rest = [batcher.put(n) for n in range(2, 8)]
    gate.open.set()
    assert await bounded(first, *rest) == [10, 20, 30, 40, 50, 60, 70]
    assert gate.calls == [[1], [2, 3, 4, 5, 6, 7]]


async def test_items_of_one_step_go_in_one_call() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate.send)
    assert await bounded(*(batcher.put(n) for n in range(3))) == [0, 10, 20]
    assert gate.calls == [[0, 1, 2]]


async def test_there_are_never_two_calls_at_once_and_batches_grow_with_the_load() -> None:
    gate = Gate()
    batcher = Batcher(gate.send)
    futures: list[asyncio.Future[int]] = []
    for round_ in range(1, 6):
        futures += [batcher.put(n) for n in range(round_ * 10)]
        gate.entered.clear()
        gate.open.set()
        async with asyncio.timeout(BOUND_S):
            await gate.entered.wait()
        gate.open.clear()
    gate.open.set()
    await bounded(*futures)
    assert gate.most_under_way == 1
    sizes = [len(call) for call in gate.calls]
    assert sizes == sorted(sizes)
    assert sum(sizes) == 150


async def test_a_call_carries_at_most_max_items() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate.send, max_items=2)
    assert await bounded(*(batcher.put(n) for n in range(5))) == [0, 10, 20, 30, 40]
    assert gate.calls == [[0, 1], [2, 3], [4]]


async def test_an_exception_among_the_results_is_its_items_alone() -> None:
    async def send(items: list[int]) -> Sequence[int | Exception]:
        return [KeyError(item) if item == 2 else item for item in items]

    batcher: Batcher[int, int] = Batcher(send)
    one, two, three = await bounded(*(batcher.put(n) for n in (1, 2, 3)))
    assert (one, three) == (1, 3)
    assert isinstance(two, KeyError)


async def test_a_call_that_fails_fails_all_of_its_batch_and_none_of_the_next() -> None:
    fails = [True]

    async def send(items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0)
        if fails.pop() if fails else False:
            raise ConnectionError
        return items

    batcher: Batcher[int, int] = Batcher(send, max_items=2)
    answers = await bounded(*(batcher.put(n) for n in (1, 2, 3)))
    assert [type(answer) for answer in answers] == [ConnectionError, ConnectionError, int]
    assert await bounded(batcher.put(4)) == [4]


async def test_a_call_with_the_wrong_number_of_results_leaves_nobody_waiting() -> None:
    async def send(items: list[int]) -> Sequence[int | Exception]:
        return items[1:]

    batcher: Batcher[int, int] = Batcher(send)
    answers = await bounded(*(batcher.put(n) for n in (1, 2)))
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    assert batcher.is_idle


async def test_a_sender_that_is_cancelled_takes_nobody_along() -> None:
    gate = Gate()
    batcher = Batcher(gate.send)
    senders = [asyncio.create_task(batcher.submit(n)) for n in (1, 2)]
    await gate.entered.wait()
    queued = [asyncio.create_task(batcher.submit(n)) for n in (3, 4)]
    await asyncio.sleep(0)
    senders[0].cancel()
    queued[0].cancel()
    await asyncio.sleep(0)
    gate.open.set()
    answers = await bounded(*senders, *queued)
    assert [type(answer) for answer in answers] == [
        asyncio.CancelledError,
        int,
        asyncio.CancelledError,
        int,
    ]
    # What was asked for is done: the other side may have had it already.
    assert gate.calls == [[1, 2], [3, 4]]


async def test_nothing_is_kept_when_all_is_answered() -> None:
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate.send)
    await bounded(*(batcher.put(n) for n in range(10)))
    await asyncio.sleep(0)
    assert batcher.is_idle
