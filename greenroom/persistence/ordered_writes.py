"""The writes of one attempt in their order, while its execution does not wait for them.

With LangGraph's durability ``async`` an execution continues while a checkpoint is written; but
LangGraph passes the next checkpoint to the saver only after the previous one is written, so a short
run pays for one commit after the other. Here the saver takes a checkpoint at once, up to a limit of
bytes: an attempt has one write in progress, and all items that the saver took meanwhile are the
next write. Before the first one it waits for `GATHER_S`, unless somebody waits for it: a run that
is over by then makes one commit.

After a failed write, no later one is made: a checkpoint without its predecessors could not be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from greenroom.core.batching import Batcher
from greenroom.core.units import KIB
from greenroom.persistence.saving import Rows, Save, Saving, distinct

WAITING_BYTES = 256 * KIB
"""The bytes of an attempt that may wait to be written while its execution goes on."""
GATHER_S = 0.01
"""How long an item waits for others while nothing of the attempt is being written."""
LARGE_GATHER_S = 0.05
"""The same for large writes of a task: the checkpoint that follows may have the same bytes."""


class OrderedWrites:
    """The writes of one attempt.

    Args:
        saving: makes the writes.
    """

    def __init__(self, saving: Saving) -> None:
        self._saving = saving
        self._waiting: Batcher[Save, None] = Batcher(self._send)
        self._waiting_bytes = 0
        self._gathered: list[Save] = []
        self._begun = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._last: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    async def write(self, item: Save, *, wait: bool) -> None:
        """Takes an item to write.

        Args:
            wait: return when the item is written; else at once, unless `WAITING_BYTES` wait.

        Raises:
            Fenced: the attempt is not the current one.
            DatabaseUnavailable: see `Saving.save`.
            psycopg.Error: PostgreSQL refuses the item, or an earlier one of the attempt.
        """
        if self._failure is not None:
            raise self._failure
        self._waiting_bytes += item.size_bytes
        self._gathered.append(item)
        self._begun.clear()
        is_over = self._waiting_bytes > WAITING_BYTES
        if wait or not self._waiting.is_idle or (is_over and item.ends_superstep):
            self._begin()
        else:
            self._begin_within(LARGE_GATHER_S if is_over else GATHER_S, anew=is_over)
        if wait or is_over:
            await self._begun.wait()
            if self._last is not None:
                await asyncio.shield(self._last)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be written."""
        return not self._gathered and self._waiting.is_idle

    def _begin_within(self, seconds: float, *, anew: bool) -> None:
        if self._timer is not None:
            if not anew:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)

    def _begin(self) -> None:
        """Has everything written that was taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, []
        self._begun.set()
        for item in gathered:
            self._last = self._waiting.put(item)
            self._last.add_done_callback(_heard)

    async def settled(self) -> None:
        """Waits until every item is written, or none will be any more."""
        self._begin()
        if self._last is not None and not self._last.done():
            await asyncio.wait([self._last])

    async def all_written(self) -> None:
        """Waits until every item is written.

        Raises:
            Exception: an item was not written; the exception is that of `write`.
        """
        await self.settled()
        if self._failure is not None:
            raise self._failure

    async def _send(self, items: list[Save]) -> list[Exception | None]:
        results: list[Exception | None] = []
        while items:
            part = distinct(items)
            if self._failure is None:
                try:
                    await self._saving.save(_joined(part))
                except Exception as error:  # noqa: BLE001 - the error belongs to the execution
                    self._failure = error
            results.extend([self._failure] * len(part))
            self._waiting_bytes -= sum(item.size_bytes for item in part)
            items = items[len(part) :]
        return results


def _heard(written: asyncio.Future[None]) -> None:
    # Otherwise asyncio reports a failure that `all_written` raises as an unhandled one.
    if not written.cancelled():
        written.exception()


def _joined(items: Sequence[Save]) -> Save:
    if len(items) == 1:
        return items[0]
    rows: Rows = {}
    blobs: list[bytes | None] = []
    for item in items:
        item.add_to(rows, blobs)
    # Only one write of an attempt is under way, so its first key tells it from others' writes.
    return Save(
        owner=items[0].owner,
        key=items[0].key,
        rows=rows,
        blobs=blobs,
        size_bytes=sum(item.size_bytes for item in items),
    )
