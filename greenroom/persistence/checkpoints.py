"""LangGraph's saver over a shared pool, with the fence.

The saver of langgraph-checkpoint-postgres serialises everything behind one lock, also over a pool,
because one instance is meant for a whole process. Here every execution has its own light instance:
it knows its run, attempt and thread, reads on a connection of its own, and writes through
`greenroom.persistence.saving`, behind the fence: either this attempt still owns the run until the
write is committed, or nothing is written and `Fenced` is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from orjson import Fragment
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from greenroom.core.errors import ForeignThread, NotKept
from greenroom.langgraph_internals import CONFIG_KEY_DURABILITY, DeltaSnapshot
from greenroom.persistence.apart import Apart, is_long
from greenroom.persistence.checkpoint_metadata import KNOWN, metadata_of
from greenroom.persistence.database import Pool, patiently
from greenroom.persistence.json_columns import encode
from greenroom.persistence.listing import checkpoint_rows
from greenroom.persistence.run_inputs import notes_of
from greenroom.persistence.saving import LARGE, Owner, Save, Saving
from greenroom.persistence.serializing import StateSerializer, is_plain, storable
from greenroom.sealing import UNSEALED, Sealing

T = TypeVar("T")

HEAVY_S = 0.002
"""After a serialisation of this duration, the next ones run in a thread."""


class Dumped(NamedTuple):
    """A serialised value."""

    kind: str
    data: bytes


class PooledSaver(AsyncPostgresSaver):
    """A saver without a lock of its own, and without a fence: for the inspector.

    Args:
        pool: shared; an instance holds a connection only during a call.
        saving: gathers the writes of all executions of a process; None makes one for this saver.
        thread_id: the only thread that the saver accesses; empty: none of the server's threads;
            None: all threads, for the server's own code only.

    Every method that takes a thread may raise `ForeignThread`.
    """

    _owner: Owner | None = None

    def __init__(
        self,
        pool: Pool,
        saving: Saving | None = None,
        *,
        thread_id: str | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        serde = serde or StateSerializer()
        super().__init__(pool, serde=serde)  # pyright: ignore[reportArgumentType]
        self._sealing: Sealing = getattr(serde, "sealing", UNSEALED)
        self._apart = Apart()
        self._pool = pool
        self._thread_id = thread_id
        self._saving = saving or Saving(pool)
        self._heavy = False
        self._large: list[bytes] = []

    @asynccontextmanager
    async def _cursor(
        self, *, pipeline: bool = False
    ) -> AsyncGenerator[AsyncCursor[DictRow], None]:
        async with self._pool.connection() as conn:
            async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                if pipeline:
                    async with conn.pipeline():
                        yield cursor
                else:
                    yield cursor

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        return await patiently(self._pool.timeout, work)

    def is_own(self, thread_id: Any) -> bool:
        return self._thread_id is None or thread_id == self._thread_id

    async def _refuse_foreign(self, *thread_ids: Any) -> None:
        others = [str(thread_id) for thread_id in thread_ids if not self.is_own(thread_id)]
        if not others:
            return
        # The server writes a UUID in lower case; a graph may write it differently.
        spellings = list({*others, *(each.lower() for each in others)})

        async def look() -> DictRow | None:
            async with self._cursor() as cursor:
                await cursor.execute(_FOREIGN, (spellings,))
                return await cursor.fetchone()

        found = await self._patiently(look)
        if found is not None:
            own = f"thread {self._thread_id}" if self._thread_id else "no thread"
            raise ForeignThread(
                f"This execution is on {own} and may neither read nor write thread "
                f"{found['thread_id']}, which is another one of this server. State that a graph "
                "keeps for itself needs a thread_id that is no thread of the server."
            )

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        await self._refuse_foreign(thread_of(config))
        get = super().aget_tuple
        return await self._patiently(lambda: get(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        thread_id = thread_of(config or {})
        if thread_id is None and self._thread_id is not None:
            # Without a thread, the query would return the checkpoints of all threads.
            own = {**(config or {}).get("configurable", {}), "thread_id": self._thread_id}
            config = {"configurable": own}
        else:
            await self._refuse_foreign(thread_id)
        where, params = self._search_where(config, filter, before)

        async def read() -> list[DictRow]:
            async with self._cursor() as cursor:
                return await checkpoint_rows(cursor, where, params, limit)

        rows = await self._patiently(read)
        if any(row["checkpoint"]["v"] < 4 for row in rows):  # an older LangGraph's, to be migrated
            async for found in super().alist(config, filter=filter, before=before, limit=limit):
                yield found
            return
        for row in rows:
            yield await self._load_checkpoint_tuple(row)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        await self._refuse_foreign(thread_of(config))
        return await super().aget_delta_channel_history(config=config, channels=channels)

    async def adelete_thread(self, thread_id: str) -> None:
        await self._refuse_foreign(thread_id)
        await super().adelete_thread(thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._refuse_foreign(*thread_ids)
        await super().aprune(thread_ids, strategy=strategy)

    # As AsyncPostgresSaver.aput; but that fails on a NUL in a string and on a NaN, which JSON in
    # PostgreSQL does not take: these become blobs here, as every value that is not plain.
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        configurable = config.get("configurable", {})
        await self._refuse_foreign(configurable["thread_id"])
        place = {"thread": configurable["thread_id"], "ns": configurable["checkpoint_ns"]}
        inline: dict[str, Any] = {}
        apart: dict[str, Any] = {}
        for channel, value in checkpoint["channel_values"].items():
            if isinstance(value, DeltaSnapshot):
                inline[channel], apart[channel] = True, value
            elif is_plain(value) and not self._sealing.is_on and not is_long(value):
                inline[channel] = value
            else:
                apart[channel] = value
        versions = [(name, version) for name, version in new_versions.items() if name in apart]
        versions += self._apart.missing(place["ns"], checkpoint, new_versions, apart)
        dumped = await self._dumped([(name, apart[name]) for name, _ in versions])
        dumped = [(kind, self._as_written(blob)) for kind, blob in dumped]
        encoded = encode({**checkpoint, "channel_values": inline})
        stored = metadata_of(config, metadata)
        if self._sealing.is_on:
            # LangGraph puts what a client gave in `configurable` there.
            given = {k: stored[k] for k in configurable if k in stored and k not in KNOWN}
            stored = {**stored, **await self._sealing.apart(self._sealing.seal_values, given)}
        rows: dict[str, list[dict[str, Any]]] = {
            "checkpoints": [
                {
                    **place,
                    "id": checkpoint["id"],
                    "parent": configurable.get("checkpoint_id"),
                    "checkpoint": Fragment(encoded),
                    "metadata": Fragment(encode(stored)),
                }
            ]
        }
        if versions:
            rows["blobs"] = [
                {**place, "channel": name, "version": version, "type": kind, "blob": n}
                for n, ((name, version), (kind, _)) in enumerate(zip(versions, dumped, strict=True))
            ]
        rows |= notes_of(config)
        item = Save(
            owner=self._owner,
            key=("checkpoint", *place.values(), checkpoint["id"]),
            rows=rows,
            blobs=[blob for _, blob in dumped],
            size_bytes=len(encoded) + sum(len(blob) for _, blob in dumped),
            ends_superstep=True,
        )
        self._large.clear()
        await self._save(item, wait=_is_awaited(config))
        return {
            "configurable": {
                "thread_id": place["thread"],
                "checkpoint_ns": place["ns"],
                "checkpoint_id": checkpoint["id"],
            }
        }

    # As AsyncPostgresSaver.aput_writes.
    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        configurable = config.get("configurable", {})
        await self._refuse_foreign(configurable["thread_id"])
        place = {
            "thread": configurable["thread_id"],
            "ns": configurable["checkpoint_ns"],
            "id": configurable["checkpoint_id"],
            "task": task_id,
        }
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        dumped = await self._dumped([(name, storable(value)) for name, value in writes])
        self._large += [blob for _, blob in dumped if len(blob) > LARGE]
        rows = [
            {
                **place,
                "path": task_path,
                "idx": WRITES_IDX_MAP.get(channel, n),
                "channel": channel,
                "type": kind,
                "blob": n,
            }
            for n, ((channel, _), (kind, _)) in enumerate(zip(writes, dumped, strict=True))
        ]
        item = Save(
            owner=self._owner,
            key=("writes", *place.values()),
            rows={"upserts" if special else "inserts": rows, **notes_of(config)},
            blobs=[blob for _, blob in dumped],
            size_bytes=sum(len(blob) for _, blob in dumped),
        )
        await self._save(item, wait=_is_awaited(config))

    def _as_written(self, blob: bytes) -> bytes:
        """Returns the bytes that a task of this superstep has written, if they are equal: what is
        sent in the same statement is sent once."""
        if len(blob) <= LARGE:
            return blob
        return next((written for written in self._large if written == blob), blob)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        if self._sealing.is_on:
            opened = await self._sealing.apart(self._sealing.open_values, value["metadata"])
            value = {**value, "metadata": opened}
        blobs: list[bytes | None] = [part[2] for part in value["channel_values"] or ()]
        blobs += [part[3] for part in value["pending_writes"] or ()]
        # LangGraph reads what tasks have written in a thread, which costs more than most of them,
        # and the channels on the loop, however large they are.
        if self._sealing.is_slow or sum(len(blob or b"") for blob in blobs) > LARGE:
            return await asyncio.to_thread(self._loaded, value)
        return self._loaded(value)

    def _loaded(self, value: DictRow) -> CheckpointTuple:
        place = {"thread_id": value["thread_id"], "checkpoint_ns": value["checkpoint_ns"]}
        checkpoint: Any = value["checkpoint"]
        parent_id = value["parent_checkpoint_id"]
        channels: dict[str, Any] = checkpoint.get("channel_values") or {}
        channels = {**channels, **self._load_blobs(value["channel_values"])}
        return CheckpointTuple(
            {"configurable": {**place, "checkpoint_id": value["checkpoint_id"]}},
            cast(Checkpoint, {**checkpoint, "channel_values": channels}),
            value["metadata"],
            {"configurable": {**place, "checkpoint_id": parent_id}} if parent_id else None,
            self._load_writes(value["pending_writes"]),
        )

    async def _save(self, item: Save, *, wait: bool) -> None:
        await self._saving.save(item)

    async def _dumped(self, values: list[tuple[str, Any]]) -> list[tuple[str, bytes]]:
        """Serialises values here, or in a thread once that has taken long, so that other runs go
        on. Most values cost less than a thread does.

        Args:
            values: names of channels with their values.

        Raises:
            NotKept: a value would not come back; the message names the channel.
        """

        def dump() -> list[tuple[str, bytes]]:
            return [self._dump(name, value) for name, value in values]

        if not values:
            return []
        if self._heavy or self._sealing.is_slow:
            return await asyncio.to_thread(dump)
        begun_s = time.perf_counter()
        dumped = dump()
        self._heavy = time.perf_counter() - begun_s > HEAVY_S
        return dumped

    async def dumped(self, writes: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Serialises a task's writes; `aput_writes` takes the result, and serialises no more.

        Raises:
            NotKept: a value would not come back; the message names the channel.
        """
        pairs = await self._dumped([(name, storable(value)) for name, value in writes])
        return [(name, Dumped(*pair)) for (name, _), pair in zip(writes, pairs, strict=True)]

    def _dump(self, name: str, value: Any) -> tuple[str, bytes]:
        if isinstance(value, Dumped):
            return value
        try:
            return self.serde.dumps_typed(value)
        except NotKept as error:
            raise NotKept(f"The value of {name!r} {error.message}") from error.__cause__


def _is_awaited(config: RunnableConfig) -> bool:
    """Whether an execution waits until what it saves is committed: always, if that is what a client
    said to the run, since it is told that it was taken."""
    is_async = config.get("configurable", {}).get(CONFIG_KEY_DURABILITY) == "async"
    return not is_async or bool(notes_of(config))


_FOREIGN = "SELECT thread_id FROM greenroom.threads WHERE thread_id = ANY(%s) LIMIT 1"


def thread_of(config: RunnableConfig) -> Any:
    return config.get("configurable", {}).get("thread_id")
