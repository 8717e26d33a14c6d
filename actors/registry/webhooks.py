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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
import psycopg

from actors.common.setup import WebhookSettings
from actors.registry.signing import signed_headers
from greenroom.core.errors import Conflict, DatabaseUnavailable, NotFound
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


@dataclass(frozen=True, slots=True)
class _Clients:
    """HTTP clients for relative URLs and for all others."""

    own: httpx.AsyncClient
    others: httpx.AsyncClient


class WebhookSender:
    """Sends due deliveries.

    Args:
        pool: connections to the database.
        settings: time-outs and retries.
        shard: the shard whose threads' deliveries it sends; no other sender may send them, because
            only this process knows the deliveries in progress.
        open_stored: opens the parts of a delivery that are sealed; None: none is.

    Attributes:
        sending: the deliveries in progress, by their runs.
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
        self.sending: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._clients: _Clients | None = None
        self._opening = asyncio.Lock()

    def wake(self) -> None:
        """Makes the sender look for due deliveries now."""
        self._awake.set()

    async def send(self) -> None:
        """Sends deliveries as they become due; never ends."""
        while True:
            self._awake.clear()
            try:
                wait_s = await self.send_due()
            except (DatabaseUnavailable, psycopg.Error) as error:
                log.warning("webhooks wait for the database", extra={"reason": str(error)[:200]})
                wait_s = DATABASE_PAUSE_S
            # Not `wait_for`: on Python 3.11 that loses a cancellation that comes with the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()

    async def send_again(self, run_id: str) -> None:
        """Sends a delivery now, although it was sent before or is due later.

        Raises:
            NotFound: it does not exist any more.
            Conflict: its contents are not kept any more.
        """
        is_kept = await outbox.send_again(self._pool, run_id)
        if is_kept is None:
            raise NotFound("Delivery not found")
        if not is_kept:
            raise Conflict("The contents of this delivery are not kept any more.")
        self.wake()

    async def close(self) -> None:
        """Cancels the deliveries in progress; they stay in the database."""
        await cancelled(self.sending.values())
        if self._clients is not None:
            await self._clients.own.aclose()
            await self._clients.others.aclose()

    async def send_due(self) -> float:
        """Begins the due deliveries within the limits; returns the seconds until the next look."""
        while (free := MAX_AT_ONCE - len(self.sending)) > 0:
            found = await outbox.due(
                self._pool, free, but=self.sending, not_to=self._full(), shard=self._shard
            )
            if not found:
                due_in_s = await outbox.next_due_s(
                    self._pool, but=self.sending, not_to=self._full(), shard=self._shard
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
        self.sending[delivery.run_id] = task

        def done(_: asyncio.Task[None]) -> None:
            del self.sending[delivery.run_id]
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
                    self._pool,
                    delivery.run_id,
                    sent_at=datetime.now(UTC),
                    said="internal error",
                    delivered=False,
                )

    async def _try_once(self, run_id: str) -> None:
        clients = await self._opened()
        delivery = await outbox.find(self._pool, run_id)
        if delivery is None:
            return
        if self._open_stored is not None:
            delivery = await self._plain(delivery, self._open_stored)
        now = datetime.now(UTC)
        sent_at = delivery.sent_at or now
        from actors.registry.posting import post

        settings, body = self._settings, delivery.body(sent_at)
        signed = signed_headers(settings.secrets, message_id=run_id, at=now, body=body)
        # A relative URL is a path of this server, which needs no leave to call itself.
        own = delivery.url.startswith("/")
        answer = await post(
            clients.own if own else clients.others,
            settings.own_url + delivery.url if own else delivery.url,
            body,
            headers={**delivery.headers(settings.headers), **signed},
            timeout_s=settings.timeout_s,
        )
        tried = delivery.attempts + 1
        # The receiver and not the URL, which may carry a secret.
        where = {"run_id": run_id, "receiver": delivery.receiver, "attempt": tried}
        if answer.delivered or not answer.again or tried >= self._settings.max_attempts:
            await outbox.finish(
                self._pool,
                run_id,
                sent_at=sent_at,
                said=answer.said,
                delivered=answer.delivered,
            )
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

    async def _opened(self) -> _Clients:
        async with self._opening:
            if self._clients is None:
                # In a thread: `_open` imports httpx and reads certificates.
                self._clients = await asyncio.to_thread(self._open)
            return self._clients

    def _open(self) -> _Clients:
        from actors.registry.posting import open_client

        settings = self._settings
        return _Clients(
            own=open_client(allow_private=True, max_connections=MAX_AT_ONCE),
            others=open_client(
                allow_private=settings.allow_private,
                loopback=settings.loopback,
                max_connections=MAX_AT_ONCE,
            ),
        )
