"""Gathers the saves of a process's executions, and writes each batch as one fenced statement.

LangGraph saves small pieces, such as a checkpoint or the writes of a task, and a round trip costs a
process more than its content. So one write is under way in a process, and saves that arrive
meanwhile form the next one (`greenroom.core.batching`). The database's `greenroom.save` checks each
run's fence and writes, all in one statement: this process cannot be stopped between fence and write
while it holds a lock.

A failure affects only its own run. A save that is fenced off (`Fenced`), or that the database
rejects, is found by sending it alone.

Writes are keyed, so they are sent again when the connection is lost. An attempt that was superseded
meanwhile is then fenced off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from greenroom.core.batching import Batcher
from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.units import KIB
from greenroom.persistence.database import Connection, Pool, retrying
from greenroom.persistence.facets import facets_of
from greenroom.persistence.fence import superseded
from greenroom.persistence.journal import may_pass
from greenroom.sealing import UNSEALED, Sealing

# %b: bytea as bytes, not as hex.
_SAVE = "SELECT greenroom.save(%s::uuid[], %s::int[], %s, %b::bytea[]) AS held"
MAX_ITEMS = 200
MOST_LARGE = 2
"""How many large items are sent at once: each holds a connection."""
LOCKED_PATIENCE_S = 600.0
"""How long a run waits to save a checkpoint while another transaction has locked a table."""
LARGE = 256 * KIB
"""The size from which values are parsed without blocking other runs."""

Owner = tuple[str, int]
"""A run and its attempt."""

Rows = dict[str, list[dict[str, Any]]]
"""Rows by their table, as `greenroom.save` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One item to save.

    Attributes:
        owner: the attempt that must be current; None when the registry keeps runs away.
        key: items with the same key never go into the same statement, as their order counts.
        rows: rows with the field names of `greenroom.save`. A row's ``blob`` is an index into
            ``blobs``, from 0; a missing one means 0.
        blobs: binary parts, or None for SQL's null.
        size_bytes: about the size of the item.
        ends_superstep: it is a checkpoint.
    """

    owner: Owner | None
    key: tuple[str, ...]
    rows: Rows = field(default_factory=dict[str, list[dict[str, Any]]])
    blobs: Sequence[bytes | None] = ()
    size_bytes: int = 0
    ends_superstep: bool = False

    def add_to(
        self, rows: Rows, blobs: list[bytes | None], *, counted_from: int = 0, **more: Any
    ) -> None:
        """Adds the item's rows and blobs to those of other items.

        Args:
            counted_from: the index of the first of ``blobs``.
            more: fields that each row gets, too.
        """
        places = [counted_from + _place_of(blob, blobs) for blob in self.blobs] or [counted_from]
        for name, given in self.rows.items():
            rows.setdefault(name, []).extend(
                {**row, **more, "blob": places[row.get("blob", 0)]} for row in given
            )


def _place_of(blob: bytes | None, blobs: list[bytes | None]) -> int:
    """Adds a blob to others, unless it is a large one of them; returns its index."""
    if blob is not None and len(blob) > LARGE:
        for place, other in enumerate(blobs):
            if other is blob:
                return place
    blobs.append(blob)
    return len(blobs) - 1


class Saving:
    """Writes gathered saves, one batch at a time.

    Args:
        pool: one of its connections is held during a write.
        sealing: seals the values of threads. What a saver saves is sealed already.
    """

    def __init__(self, pool: Pool, sealing: Sealing = UNSEALED) -> None:
        self._pool = pool
        self._sealing = sealing
        self._saves: Batcher[Save, bool] = Batcher(self._send, MAX_ITEMS)
        self._large = asyncio.Semaphore(MOST_LARGE)

    async def save(self, item: Save) -> None:
        """Saves an item in the next batch.

        Raises:
            Fenced: the item's owner is not the current attempt; nothing was written.
            DatabaseUnavailable: PostgreSQL does not return within the pool's time-out, or has the
                tables locked for longer than `LOCKED_PATIENCE_S`.
        """
        # Apart from the batch, if it is large or waits for a lock: it must not delay the others.
        if item.size_bytes > LARGE:
            async with self._large:
                (refusal,) = await self._together([item])
        elif await self._saves.submit(item):
            return
        else:
            (refusal,) = await self._together([item])
        if isinstance(refusal, Exception):
            raise refusal

    async def save_values(self, owner: Owner, thread_id: str, values: bytes) -> None:
        """Saves the thread's values after an attempt.

        Args:
            values: JSON.

        Raises:
            Fenced: the attempt is not the current one.
            DatabaseUnavailable: the values are not saved; the caller may retry.
        """
        item = await self.values_item(owner, thread_id, values)
        try:
            await self.save(item)
        except psycopg.Error as error:
            if may_pass(error):
                raise DatabaseUnavailable(f"The database is away: {error}") from None
            raise

    async def values_item(self, owner: Owner, thread_id: str, values: bytes) -> Save:
        """Returns the item that saves a thread's values, given as JSON."""
        facets: dict[str, Any] = {}
        if self._sealing.is_on:
            values = await self._sealing.apart(self._sealing.seal_json, values)
        elif len(values) > LARGE:
            facets = await asyncio.to_thread(facets_of, values)
        else:
            facets = facets_of(values)
        return Save(
            owner=owner,
            key=("values", thread_id),
            rows={"values": [{"thread": thread_id, "facets": facets}]},
            blobs=(values,),
            size_bytes=len(values),
        )

    async def _send(self, items: list[Save]) -> list[bool | Exception]:
        """Returns for each item whether it was written; the others must be sent alone."""
        results: list[bool | Exception] = []
        while items:
            part = distinct(items)
            results.extend(await self._together(part))
            items = items[len(part) :]
        return results

    async def _together(self, items: list[Save]) -> list[bool | Exception]:
        groups: dict[Owner | None, list[Save]] = {}
        for item in items:
            groups.setdefault(item.owner, []).append(item)
        try:
            held = await self._write(groups)
        except DatabaseUnavailable as error:
            return [error] * len(items)
        except Exception as error:  # noqa: BLE001 - the error belongs to the sender of the item
            if len(groups) == 1:
                return [error] * len(items)
            return [False] * len(items)
        if len(groups) == 1 and not held[items[0].owner]:
            assert items[0].owner is not None, "what nobody owns meets no fence"
            return [superseded(*items[0].owner)] * len(items)
        return [held[item.owner] for item in items]

    async def _write(self, groups: dict[Owner | None, list[Save]]) -> dict[Owner | None, bool]:
        owners = [owner for owner in groups if owner is not None]
        rows: Rows = {}
        blobs: list[bytes | None] = []
        for owner, group in groups.items():
            place = owners.index(owner) + 1 if owner is not None else None
            for item in group:
                # PostgreSQL counts from 1.
                item.add_to(rows, blobs, counted_from=1, owner=place)
        held: dict[Owner | None, bool] = dict.fromkeys(groups, True)
        if not rows:
            return held
        runs, attempts = [run for run, _ in owners], [attempt for _, attempt in owners]

        async def write(conn: Connection) -> list[bool]:
            cursor = await conn.execute(_SAVE, (runs, attempts, Jsonb(rows), blobs))
            row = await cursor.fetchone()
            assert row is not None
            return row["held"]

        # A run has time, and is lost when it cannot save.
        saved = await retrying(
            self._pool, write, short_s=self._pool.timeout, locked_s=LOCKED_PATIENCE_S
        )
        held.update(zip(owners, saved, strict=True))
        return held


def distinct(items: list[Save]) -> list[Save]:
    """Returns the items before the first one that changes a row of an earlier one."""
    keys: set[tuple[str, ...]] = set()
    for n, item in enumerate(items):
        if item.key in keys:
            return items[:n]
        keys.add(item.key)
    return items
