"""Sends webhooks after the ends of runs, at least once, without delaying runs.

    registry: end of a run + `outbox.announce`, one transaction ──> wake
    sender:   due deliveries ──> one task each ──> delivered, given up, or due again later

The database holds the deliveries, so a restart continues with them. Only this process knows the
deliveries *in progress*: after a crash they are sent once more. Each receiver (host and port) may
have `MAX_PER_RECEIVER` deliveries at once, fewer than all receivers together (`MAX_AT_ONCE`), so a
slow receiver delays only its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import psycopg

from actors.common.setup import WebhookSettings
from greenroom.core.errors import DatabaseUnavailable
from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.waiting import cancelled
from greenroom.persistence import outbox
from greenroom.persistence.database import Pool
from greenroom.persistence.outbox import Delivery, Due

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("greenroom.webhooks")

OpenStored = Callable[[Mapping[str, bytes]], Awaitable[Mapping[str, bytes]]]

MAX_AT_ONCE = 32
MAX_PER_RECEIVER = 4
IDLE_S = 60.0
"""How often an idle sender looks for deliveries without a `wake`."""
DATABASE_PAUSE_S = 1.0


class WebhookSender:
    """Sends due deliveries.

    Args:
        pool: connections to the database.
        settings: time-outs and retries.
        shard: the shard whose threads' deliveries it sends; no other sender may send them, because
            only this process knows the deliveries in progress.
        open_stored: opens the parts of a delivery that are sealed; None: none is.
    """

    def __init__(
        self,
        pool: Pool,
        settings: WebhookSettings,
        shard: Shard = WHOLE,
        *,
        open_stored: OpenStored | None = None,
    ) -> None:
        self._open_stored = open_stored
        self._pool = pool
        self._settings = settings
        self._shard = shard
        self._most_per_receiver = shard.share(MAX_PER_RECEIVER)
        self._awake = asyncio.Event()
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    def wake(self) -> None:
        """Makes the sender look for due deliveries now."""
        self._awake.set()

    async def send(self) -> None:
        """Sends deliveries as they become due; never ends."""
        while True:
            self._awake.clear()
            try:
                wait_s = await self._send_due()
            except (DatabaseUnavailable, psycopg.Error) as error:
                log.warning("webhooks wait for the database", extra={"reason": str(error)[:200]})
                wait_s = DATABASE_PAUSE_S
            # Not `wait_for`: on Python 3.11 that loses a cancellation that comes with the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()

    async def close(self) -> None:
        """Cancels the deliveries in progress; they stay in the database."""
        await cancelled(self._sending.values())
        if self._client is not None:
            await self._client.aclose()

    async def _send_due(self) -> float:
        """Begins the due deliveries within the limits; returns the seconds until the next look."""
        while (free := MAX_AT_ONCE - len(self._sending)) > 0:
            found = await outbox.due(
                self._pool, free, but=self._sending, not_to=self._full(), shard=self._shard
            )
            if not found:
                due_in_s = await outbox.next_due_s(
                    self._pool, but=self._sending, not_to=self._full(), shard=self._shard
                )
                return IDLE_S if due_in_s is None else min(max(due_in_s, 0.0), IDLE_S)
            for each in found:
                if self._busy[each.receiver] < self._most_per_receiver:
                    self._begin(each)
        return IDLE_S  # the end of a delivery wakes the sender

    def _full(self) -> list[str]:
        return [name for name, busy in self._busy.items() if busy >= self._most_per_receiver]

    def _begin(self, delivery: Due) -> None:
        self._busy[delivery.receiver] += 1
        task = asyncio.get_running_loop().create_task(self._deliver(delivery))
        self._sending[delivery.run_id] = task

        def done(_: asyncio.Task[None]) -> None:
            del self._sending[delivery.run_id]
            self._busy[delivery.receiver] -= 1
            if not self._busy[delivery.receiver]:
                del self._busy[delivery.receiver]
            self.wake()

        task.add_done_callback(done)

    async def _deliver(self, delivery: Due) -> None:
        try:
            await self._try_once(delivery.run_id)
        except (DatabaseUnavailable, psycopg.Error) as error:
            log.warning("webhook not noted, it is sent again", extra={"reason": str(error)[:200]})
            await asyncio.sleep(DATABASE_PAUSE_S)
        except Exception:  # a failure of one delivery must not stop the others
            log.exception("webhook failed", extra={"run_id": delivery.run_id})
            with contextlib.suppress(DatabaseUnavailable, psycopg.Error):
                await outbox.finish(
                    self._pool, delivery.run_id, sent_at=datetime.now(UTC), said="internal error"
                )

    async def _try_once(self, run_id: str) -> None:
        client = await self._opened()
        delivery = await outbox.find(self._pool, run_id)
        if delivery is None:
            return
        if self._open_stored is not None:
            delivery = await self._plain(delivery, self._open_stored)
        sent_at = delivery.sent_at or datetime.now(UTC)
        from actors.registry.posting import post

        answer = await post(
            client,
            delivery.url,
            delivery.body(sent_at),
            headers=delivery.headers(),
            timeout_s=self._settings.timeout_s,
        )
        tried = delivery.attempts + 1
        # The receiver and not the URL, which may carry a secret.
        where = {"run_id": run_id, "receiver": delivery.receiver, "attempt": tried}
        if answer.delivered or not answer.again or tried >= self._settings.max_attempts:
            await outbox.finish(self._pool, run_id, sent_at=sent_at, said=answer.said)
            if answer.delivered:
                log.info("webhook delivered", extra={"action": "webhook_delivered", **where})
            else:
                extra = {"action": "webhook_given_up", "reason": answer.said, **where}
                log.warning("webhook given up", extra=extra)
            return
        delay_s = self._settings.first_retry_s * 2**delivery.attempts
        await outbox.postpone(
            self._pool, run_id, sent_at=sent_at, delay_s=delay_s, said=answer.said
        )

    @staticmethod
    async def _plain(delivery: Delivery, open_stored: OpenStored) -> Delivery:
        about = delivery.about
        sealed = {
            name: orjson.dumps(about[name])
            for name in ("kwargs", "values", "error")
            if about[name] is not None
        }
        opened = {name: orjson.Fragment(each) for name, each in (await open_stored(sealed)).items()}
        return replace(delivery, about={**about, **opened})

    async def _opened(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                # In a thread: `_open` imports httpx and reads certificates.
                self._client = await asyncio.to_thread(self._open)
            return self._client

    def _open(self) -> httpx.AsyncClient:
        from actors.registry.posting import open_client

        return open_client(allow_private=self._settings.allow_private, max_connections=MAX_AT_ONCE)
