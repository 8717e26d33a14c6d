"""The saver of one attempt: its writes pass the fence, in their order."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow

from greenroom.persistence.checkpoints import PooledSaver, thread_of
from greenroom.persistence.database import Pool
from greenroom.persistence.ordered_writes import OrderedWrites
from greenroom.persistence.saving import LARGE, Save, Saving


class FencedSaver(PooledSaver):
    """The saver of one attempt of one run. Reads are free, writes pass the fence.

    A write may raise `Fenced`, for itself or for an earlier one. With LangGraph's durability
    ``async`` it may return before it is committed (`OrderedWrites`): reads wait for that, and
    `all_written` is called at the end.

    Args:
        is_first: the thread has no checkpoint, so the saver reads none before the first write.
    """

    def __init__(
        self,
        pool: Pool,
        saving: Saving | None = None,
        *,
        run_id: str,
        attempt: int,
        thread_id: str | None = None,
        is_first: bool = False,
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(pool, saving, thread_id=thread_id, serde=serde)
        self._owner = (run_id, attempt)
        # One of each for all copies of a saver.
        self._writes = OrderedWrites(self._saving)
        self._written = threading.Event()
        if not is_first:
            self._written.set()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if not self._written.is_set() and self.is_own(thread_of(config)):
            return None
        return await super().aget_tuple(config)

    @asynccontextmanager
    async def _cursor(
        self, *, pipeline: bool = False
    ) -> AsyncGenerator[AsyncCursor[DictRow], None]:
        await self._writes.settled()
        async with super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    async def settled(self) -> None:
        """Returns when no write is under way, also none whose caller was cancelled."""
        await self._writes.settled()

    async def all_written(self) -> None:
        """Returns when all writes are committed.

        Raises:
            Exception: why one was not, for example `Fenced`.
        """
        await self._writes.all_written()

    async def put_values(self, thread_id: str, values: bytes) -> bool:
        """Has the thread's values written in one commit with the last checkpoints, if some are
        still to be written and the values are not large.

        Args:
            values: JSON.

        Returns:
            whether they are taken; `all_written` then returns when they are committed.

        Raises:
            Exception: as `all_written`.
        """
        if self._owner is None or self._writes.is_idle or len(values) > LARGE:
            return False
        item = await self._saving.values_item(self._owner, thread_id, values)
        await self._writes.write(item, wait=False)
        return True

    async def _save(self, item: Save, *, wait: bool) -> None:
        await self._writes.write(item, wait=wait)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._written.set()
        return await super().aput(config, checkpoint, metadata, new_versions)
