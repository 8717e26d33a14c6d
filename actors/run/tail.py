"""The events of a run that are kept (``stream_resumable``): gathered, and made durable in time."""

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

log = logging.getLogger("greenroom.run")

T = TypeVar("T")

TAIL_INTERVAL_S = 0.05
TAIL_MAX_BYTES = 4 * MIB
"""Of events that are not durable yet; a run that has emitted more waits until they are."""
FIRST_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0


class TailWriter:
    """Makes an attempt's events durable, a little after they were emitted or when asked to.

    Args:
        event_log: shows events that were not shown, once they are durable.
        append: stores events, all or none; may raise `Fenced` and `Unavailable`.
        fenced: told when the attempt is not the current one any more.
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
        """Takes an event; ``at_once``: readers wait for it."""
        self.hold(event)
        if at_once:
            self._hurry.set()
        if self._task is None:
            self._task = asyncio.create_task(self._write())

    def hold(self, event: Event) -> None:
        """Takes an event that the next `flush` makes durable."""
        self._events.append(event)
        self._bytes += len(event.data)

    async def room(self) -> None:
        """Returns at once, unless too much is not durable yet: then when it is."""
        if self._bytes > TAIL_MAX_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Makes durable everything that was taken so far; waits while the database is away.

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
        # A little later, so that a token is not a transaction.
        try:
            while self._events:
                await happens_within(TAIL_INTERVAL_S, self._hurry.wait())
                await self.flush()
        except Fenced:
            self._fenced()
        except Exception:  # the next flush tries again; the last one is awaited by the attempt
            log.exception("tail not written")
        finally:
            self._task = None


@dataclass(frozen=True, slots=True)
class EarlierTail:
    """What the attempts before this one have made durable: `graphs.resume.Tail`."""

    pool: Pool
    order: RunOrder

    async def has(self, name: str, data: bytes, *, whole: bool) -> bool:
        order = self.order
        before = first_seq(order.attempt)
        return await tails.has(self.pool, order.run_id, name, data, whole=whole, before=before)


async def until_done(write: Callable[[], Awaitable[T]]) -> T:
    """Repeats a write while the database is away, so that a restart loses nothing of the run."""
    return await repeat(
        write, on=(Unavailable,), bound_s=None, pause_s=FIRST_PAUSE_S, longest_pause_s=MAX_PAUSE_S
    )
