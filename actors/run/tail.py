"""The tail: the durable copy of a resumable run's events (``stream_resumable``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.calls.answers import repeat
from greenroom.core.errors import Fenced, Unavailable
from greenroom.core.events import Event, EventLog, first_seq
from greenroom.core.runs import RunOrder
from greenroom.core.units import MIB
from greenroom.core.waiting import happens_within
from greenroom.persistence import tails
from greenroom.persistence.database import Pool
from greenroom.sealing import UNSEALED, Sealing

log = logging.getLogger("greenroom.run")

T = TypeVar("T")

TAIL_INTERVAL_S = 0.05
TAIL_MAX_BYTES = 4 * MIB
"""The limit of events that are not durable yet; above it the run waits until they are."""
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0


class TailWriter:
    """Makes an attempt's events durable, within `TAIL_INTERVAL_S` or on `flush`.

    Args:
        event_log: shows hidden events once they are durable.
        append: stores events, all or none; may raise `Fenced` and `Unavailable`.
        fenced: called when the attempt is no longer the current one.
    """

    def __init__(
        self,
        event_log: EventLog,
        append: Callable[[list[Event]], Awaitable[None]],
        fenced: Callable[[], None],
    ) -> None:
        self._log = event_log
        self._append = append
        self._fenced = fenced
        self._events: list[Event] = []
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._hurry = asyncio.Event()

    def add(self, event: Event, *, at_once: bool = False) -> None:
        """Takes an event and has it written soon.

        Args:
            event: the event.
            at_once: write without the usual delay, because readers wait for the event.
        """
        self.hold(event)
        if at_once:
            self._hurry.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write())

    def hold(self, event: Event) -> None:
        """Takes an event; the next `flush` makes it durable."""
        self._events.append(event)
        self._bytes += len(event.data)

    async def room(self) -> None:
        """Waits until the events are durable if they exceed `TAIL_MAX_BYTES`.

        Raises:
            Fenced: as `flush`.
        """
        if self._bytes > TAIL_MAX_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Makes all events taken so far durable; waits while the database is unavailable.

        Raises:
            Fenced: the attempt is not the current one; nothing was written.
        """
        async with self._lock:
            self._hurry.clear()
            events = self._events[:]
            if not events:
                return
            await until_done(lambda: self._append(events))
            del self._events[: len(events)]
            self._bytes = sum(len(event.data) for event in self._events)
            self._log.reveal(events[-1].seq)

    async def _write(self) -> None:
        # Delayed, so that one transaction holds many tokens.
        try:
            while self._events:
                await happens_within(TAIL_INTERVAL_S, self._hurry.wait())
                await self.flush()
        except Fenced:
            self._fenced()
        except Exception:  # the next flush tries again; the attempt awaits the last one
            log.exception("tail not written")
        finally:
            self._task = None


@dataclass(frozen=True, slots=True)
class EarlierTail:
    """The durable events of the earlier attempts; implements `graphs.resume.Tail`."""

    pool: Pool
    order: RunOrder
    sealing: Sealing = UNSEALED

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        order = self.order
        before = first_seq(order.attempt)
        return await tails.has(
            self.pool,
            order.run_id,
            name,
            data,
            whole=whole,
            before=before,
            sealing=self.sealing,
        )

    async def newest(self, begin: str) -> list[tuple[str, bytes]]:
        order = self.order
        before = first_seq(order.attempt)
        return await tails.newest(
            self.pool, order.run_id, begin, before=before, sealing=self.sealing
        )


async def until_done(write: Callable[[], Awaitable[T]]) -> T:
    """Repeats a write while the database is unavailable, without a limit, so that a restart of
    PostgreSQL loses nothing of the run."""
    return await repeat(
        write, on=(Unavailable,), bound_s=None, pause_s=FIRST_PAUSE_S, longest_pause_s=MAX_PAUSE_S
    )
