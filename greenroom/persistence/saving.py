"""What the executions of a process save: gathered, and written as one statement with its fences.

LangGraph saves in small pieces, a checkpoint here and the writes of a task there, and a round trip
costs a process more than what it carries. So there is one write under way in a process, and what
comes meanwhile is the next one (`greenroom.core.batching`). The database's `greenroom.save` checks
each run's fence and writes, all in one statement: there is no moment between fence and write in
which this process could be stopped while it holds a lock.

One run's trouble is its own. What a run may not write any more (`Fenced`), or what the database
refuses, is found out by sending it alone.

Writes are keyed, so they are sent again when the connection is lost. An attempt that was superseded
meanwhile meets the fence then.
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

# %b: bytea as bytes, not as hex.
_SAVE = "SELECT greenroom.save(%s::uuid[], %s::int[], %s, %b::bytea[]) AS held"
MAX_ITEMS = 200
LOCKED_PATIENCE_S = 600.0
"""How long a run waits with a checkpoint while somebody has a table locked."""
LARGE = 256 * KIB
"""Bytes that other runs should not wait for to be parsed."""

Owner = tuple[str, int]
"""A run and its attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One thing to save.

    Attributes:
        owner: who must be current for it; None when the registry keeps runs away.
        key: two of one key never go into the same statement, as their order counts.
        rows: by the names that `greenroom.save` knows. Which of ``blobs`` is a row's counts from 0,
            which is what a row without ``blob`` has.
        blobs: binary parts, or None for SQL's null.
    """

    owner: Owner | None
    key: tuple[str, ...]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    blobs: Sequence[bytes | None] = ()


class Saving:
    """One write at a time, of everything that has gathered.

    Args:
        pool: a connection of it is held during a write.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._saves: Batcher[Save, bool] = Batcher(self._send, MAX_ITEMS)

    async def save(self, item: Save) -> None:
        """Saves it, with whatever else there is.

        Raises:
            Fenced: its owner is not the current attempt; nothing was written.
            DatabaseUnavailable: PostgreSQL does not come back within the pool's time-out, or has
                the tables locked for longer than `LOCKED_PATIENCE_S`.
        """
        if await self._saves.submit(item):
            return
        # Not in the batch: who waits for a lock must not have the others wait.
        (refusal,) = await self._together([item])
        if isinstance(refusal, Exception):
            raise refusal

    async def save_values(self, owner: Owner, thread_id: str, values: bytes) -> None:
        """The thread's values, JSON, after an attempt.

        Raises:
            Fenced: it is not the current one.
            DatabaseUnavailable: try again.
        """
        facets = (
            await asyncio.to_thread(facets_of, values) if len(values) > LARGE else facets_of(values)
        )
        rows = {"values": [{"thread": thread_id, "facets": facets}]}
        try:
            await self.save(
                Save(owner=owner, key=("values", thread_id), rows=rows, blobs=(values,))
            )
        except psycopg.Error as error:
            if may_pass(error):
                raise DatabaseUnavailable(f"The database is away: {error}") from None
            raise

    async def all_written(self) -> None:
        """Returns when everything that was given before is written or refused, also what nobody
        waits for any more: a run was cancelled, and what it leaves is looked at."""
        await self.save(Save(owner=None, key=("all written",)))

    async def _send(self, items: list[Save]) -> list[bool | Exception]:
        """Whether each was written; if not, it has to be sent alone."""
        results: list[bool | Exception] = []
        while items:
            part = _distinct(items)
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
        except Exception as error:  # noqa: BLE001 - it belongs to whoever saved what cannot be
            if len(groups) == 1:
                return [error] * len(items)
            return [False] * len(items)
        if len(groups) == 1 and not held[items[0].owner]:
            assert items[0].owner is not None, "what nobody owns meets no fence"
            return [superseded(*items[0].owner)] * len(items)
        return [held[item.owner] for item in items]

    async def _write(self, groups: dict[Owner | None, list[Save]]) -> dict[Owner | None, bool]:
        owners = [owner for owner in groups if owner is not None]
        rows: dict[str, list[dict[str, Any]]] = {}
        blobs: list[bytes | None] = []
        for owner, group in groups.items():
            place = owners.index(owner) + 1 if owner is not None else None
            for item in group:
                first = len(blobs) + 1
                blobs.extend(item.blobs)
                for name, given in item.rows.items():
                    rows.setdefault(name, []).extend(
                        {**row, "owner": place, "blob": first + row.get("blob", 0)} for row in given
                    )
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


def _distinct(items: list[Save]) -> list[Save]:
    """The first of the items, up to one that changes what another of them has written."""
    keys: set[tuple[str, ...]] = set()
    for n, item in enumerate(items):
        if item.key in keys:
            return items[:n]
        keys.add(item.key)
    return items
