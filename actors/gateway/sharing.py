"""Many readers of one run cost its actor and its gateway as much as one.

Readers that stand at the same place of the same run get the same batch: one read for all who ask
while it is under way, and again that batch for who asks while somebody still has it (a client that
reads slowly, above all). Nothing is kept for its own sake: a batch that nobody holds is gone.
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
    """Reads that are under way, and batches that somebody still has."""

    def __init__(self) -> None:
        self._batches: WeakValueDictionary[Hashable, Batch] = WeakValueDictionary()
        self._under_way: dict[Hashable, _Reading] = {}

    async def read(self, place: Hashable, read: Callable[[], Coroutine[Any, Any, Batch]]) -> Batch:
        """What is at a place: a run, an attempt, a cursor, and whatever else changes the batch.

        Args:
            read: reads it; raises to everybody who waits for it, and is cancelled when the last of
                them has left.
        """
        batch = self._batches.get(place)
        if batch is not None:
            return batch
        reading = self._under_way.get(place)
        if reading is None:
            task = asyncio.get_running_loop().create_task(self._kept(place, read))
            reading = self._under_way[place] = _Reading(task)
        reading.readers += 1
        try:
            return await asyncio.shield(reading.task)
        finally:
            reading.readers -= 1
            if not reading.readers and not reading.task.done():
                reading.task.cancel()
                if self._under_way.get(place) is reading:
                    del self._under_way[place]

    async def _kept(self, place: Hashable, read: Callable[[], Coroutine[Any, Any, Batch]]) -> Batch:
        task = asyncio.current_task()
        try:
            batch = await read()
        finally:
            reading = self._under_way.get(place)
            if reading is not None and reading.task is task:
                del self._under_way[place]
        if batch.body:
            self._batches[place] = batch
        return batch
