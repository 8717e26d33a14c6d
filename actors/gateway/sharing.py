"""Shares reads, so that many readers of one run cost its actor and its gateway as much as one.

Readers at the same position of the same run get the same batch. Readers that come during a read
share it; readers that come later get its batch while another reader still holds it (for example to
send it to a slow client). The cache holds weak references: it keeps no batch alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from greenroom.core.runs import Batch


@dataclass(slots=True)
class _Reading:
    task: asyncio.Task[Batch]
    readers: int = 0


class SharedReads:
    """The reads in progress and the batches that a reader still holds.

    Attributes:
        batches: those batches, by their positions.
        under_way: those reads.
    """

    def __init__(self) -> None:
        self.batches: WeakValueDictionary[Hashable, Batch] = WeakValueDictionary()
        self.under_way: dict[Hashable, _Reading] = {}

    async def read(self, place: Hashable, read: Callable[[], Coroutine[Any, Any, Batch]]) -> Batch:
        """Returns the batch at a position.

        Args:
            place: the position: the run, the attempt, the cursor, and everything else that
                changes the batch.
            read: reads the batch. Its exception goes to every waiting reader; it is cancelled when
                the last one has left.
        """
        batch = self.batches.get(place)
        if batch is not None:
            return batch
        reading = self.under_way.get(place)
        if reading is None:
            task = asyncio.get_running_loop().create_task(self._kept(place, read))
            reading = self.under_way[place] = _Reading(task)
        reading.readers += 1
        try:
            return await asyncio.shield(reading.task)
        finally:
            reading.readers -= 1
            if not reading.readers and not reading.task.done():
                reading.task.cancel()
                if self.under_way.get(place) is reading:
                    del self.under_way[place]

    async def _kept(self, place: Hashable, read: Callable[[], Coroutine[Any, Any, Batch]]) -> Batch:
        task = asyncio.current_task()
        try:
            batch = await read()
        finally:
            reading = self.under_way.get(place)
            if reading is not None and reading.task is task:
                del self.under_way[place]
        if batch:
            self.batches[place] = batch
        return batch
