"""LangGraph's saver over a shared pool, with the fence.

The saver of langgraph-checkpoint-postgres serialises everything behind one lock, also over a pool,
because one instance is meant for a whole process. Here every execution has its own light instance:
it knows its run and attempt, and each of its writes is one pipeline, i.e. one implicit transaction,
whose first statement is the fence. Either this attempt still owns the run and keeps it until the
write is committed, or nothing is written and `Fenced` is raised.

Writes are keyed, so they are sent again when the connection is lost. An attempt that was superseded
meanwhile meets the fence then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot  # pyright: ignore[reportPrivateUsage]
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from greenroom.persistence.database import Connection, Pool, patiently
from greenroom.persistence.fence import fenced

T = TypeVar("T")


class PooledSaver(AsyncPostgresSaver):
    """A saver without a lock of its own, and without a fence: for the inspector.

    Args:
        pool: shared; an instance holds a connection only during a call.
    """

    def __init__(self, pool: Pool, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(pool, serde=serde)  # pyright: ignore[reportArgumentType]
        self._pool = pool

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self._pool.connection() as conn:
            async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                if pipeline:
                    async with self._writing(conn):
                        yield cursor
                else:
                    yield cursor

    @asynccontextmanager
    async def _writing(self, conn: Connection) -> AsyncIterator[None]:
        async with conn.pipeline():
            yield

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._pool.timeout, work)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        get = super().aget_tuple
        return await self._patiently(lambda: get(config))

    # The statements are those of AsyncPostgresSaver.aput (MIT). It holds the transaction open while
    # it serialises, and fails on a NUL in a string and on a NaN, which JSON in PostgreSQL does not
    # take: these become blobs here, as every value that is not plain.
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config.get("configurable", {})
        thread_id = configurable["thread_id"]
        checkpoint_ns = configurable["checkpoint_ns"]
        inline: dict[str, Any] = {}
        apart: dict[str, Any] = {}
        for channel, value in checkpoint["channel_values"].items():
            if isinstance(value, _DeltaSnapshot):
                inline[channel], apart[channel] = True, value
            elif _is_plain(value):
                inline[channel] = value
            else:
                apart[channel] = value
        versions = {name: version for name, version in new_versions.items() if name in apart}
        blobs: Sequence[Any] = ()
        if versions:
            blobs = await asyncio.to_thread(
                self._dump_blobs, thread_id, checkpoint_ns, apart, versions
            )
        row = (
            thread_id,
            checkpoint_ns,
            checkpoint["id"],
            configurable.get("checkpoint_id"),
            Jsonb({**checkpoint, "channel_values": inline}),
            Jsonb(get_serializable_checkpoint_metadata(config, metadata)),
        )

        async def write() -> None:
            async with self._cursor(pipeline=True) as cursor:
                if blobs:
                    await cursor.executemany(self.UPSERT_CHECKPOINT_BLOBS_SQL, blobs)
                await cursor.execute(self.UPSERT_CHECKPOINTS_SQL, row)

        await self._patiently(write)
        return {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": checkpoint_ns,
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        put = super().aput_writes
        await self._patiently(lambda: put(config, writes, task_id, task_path))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copies every checkpoint of a thread to another one, in one transaction."""

        async def copy() -> None:
            async with self._cursor(pipeline=True) as cursor:
                for statement in COPY_THREAD:
                    await cursor.execute(
                        statement, {"source": source_thread_id, "target": target_thread_id}
                    )

        await self._patiently(copy)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Deletes the checkpoints of runs, in all namespaces, while their records exist."""

        async def delete() -> None:
            async with self._cursor(pipeline=True) as cursor:
                await cursor.execute(
                    "SELECT greenroom.delete_run_state(run_id, thread_id) FROM greenroom.runs"
                    " WHERE run_id = ANY(%s::uuid[])",
                    (list(run_ids),),
                )

        await self._patiently(delete)


class FencedSaver(PooledSaver):
    """The saver of one attempt of one run. Reads are free, writes pass the fence.

    Every write may raise `Fenced`.
    """

    def __init__(
        self, pool: Pool, *, run_id: str, attempt: int, serde: SerializerProtocol | None = None
    ) -> None:
        super().__init__(pool, serde=serde)
        self.run_id = run_id
        self.attempt = attempt

    @asynccontextmanager
    async def _writing(self, conn: Connection) -> AsyncIterator[None]:
        async with fenced(conn, self.run_id, self.attempt):
            yield


def _is_plain(value: object) -> bool:
    """Whether a value comes back from jsonb as it was."""
    if value is None or type(value) in (bool, int):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:
        return "\0" not in value and (value.isascii() or not _has_surrogates(value))
    return False


def _has_surrogates(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


COPY_THREAD = (
    "INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
    " SELECT %(target)s, checkpoint_ns, channel, version, type, blob"
    " FROM checkpoint_blobs WHERE thread_id = %(source)s ON CONFLICT DO NOTHING",
    "INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path,"
    " idx, channel, type, blob)"
    " SELECT %(target)s, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob"
    " FROM checkpoint_writes WHERE thread_id = %(source)s ON CONFLICT DO NOTHING",
    "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
    " checkpoint, metadata)"
    " SELECT %(target)s, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint,"
    " metadata FROM checkpoints WHERE thread_id = %(source)s ON CONFLICT DO NOTHING",
)


async def save_head_writes(
    conn: AsyncConnection[Any], run_id: str, thread_id: str, checkpoint_id: str | None = None
) -> None:
    """Copies the writes that a run of this thread may change, so that it can be rolled back.

    Once per run, in the transaction that starts its first attempt: a queued run starts from other
    checkpoints than those of its admission. Needed when the input is a command, null or a
    checkpoint; the run's record must exist.

    Args:
        checkpoint_id: the checkpoint that the run names, when it does not start from the newest.
    """
    await conn.execute(
        "SELECT greenroom.save_heads(%s, %s, %s)", (run_id, thread_id, checkpoint_id)
    )


async def roll_back_run(conn: AsyncConnection[Any], run_id: str, thread_id: str) -> None:
    """Undoes what a run did to its thread's checkpoints; one statement, one transaction.

    Nothing may run on the thread. The run's record must still exist, as the copy goes with it.
    """
    await conn.execute("SELECT greenroom.roll_back(%s, %s)", (run_id, thread_id))
