"""The outbox of webhooks: deliveries are written with the end of their run, and kept until sent.

A row is the delivery as the receiver gets it, independent of later changes to the run and its
thread. `announce` inserts it in the transaction that ends the run, so a delivery exists exactly
when the run is over; `actors.registry.webhooks` sends the due ones. A row is *finished* when it is
delivered or given up. It then stays a while without its contents, so that a repeated announcement
(the journal may commit twice) makes no second delivery.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence import pushes
from greenroom.persistence.database import Pool, rows_of, timestamp
from greenroom.persistence.journal import Write
from greenroom.persistence.owning import is_of

_CANCELLED = {
    action: json.dumps(
        {
            "error": name,
            "message": f"{action} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel",
        }
    )
    for action, name in (("interrupt", "UserInterrupt"), ("rollback", "UserRollback"))
}
"""The error of a run that was cancelled (platform API, section 7); the placeholders are literal."""


def announce(run_id: str, *, rolled_back: bool = False) -> Write:
    """Returns the write that inserts a run's delivery, if the run has a webhook. May be repeated.

    It belongs after the writes that end the run; for a rolled-back run, before those that delete
    the run.
    """
    return Write(
        """
        INSERT INTO greenroom.webhooks (run_id, url, thread_id, assistant_id, metadata, status,
            kwargs, multitask_strategy, created_at, started_at, ended_at, "values", error,
            assistant_version)
        SELECT r.run_id, r.webhook, r.thread_id, r.assistant_id, r.metadata::json,
            CASE WHEN r.status IN ('pending', 'running') THEN 'interrupted' ELSE r.status END,
            r.kwargs, r.multitask_strategy, r.created_at,
            -- A run that starts at its admission may have been started microseconds before.
            CASE WHEN r.started_at IS NOT NULL THEN greatest(r.started_at, r.created_at) END,
            CASE WHEN r.status IN ('pending', 'running') THEN clock_timestamp()
                ELSE r.updated_at END,
            CASE WHEN NOT r.temporary THEN greenroom.output_of(t."values", r.output_keys) END,
            coalesce(r.error, CASE WHEN r.status IN ('pending', 'running', 'interrupted')
                THEN %(cancelled)s::json END),
            r.assistant_version
        FROM greenroom.runs r LEFT JOIN greenroom.threads t USING (thread_id)
        WHERE r.run_id = %(run)s AND r.webhook IS NOT NULL
        ON CONFLICT (run_id) DO NOTHING""",
        {"run": run_id, "cancelled": _CANCELLED["rollback" if rolled_back else "interrupt"]},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A delivery that is due, and its receiver's host and port."""

    run_id: str
    receiver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """The content of a webhook's request.

    Attributes:
        attempts: the number of earlier tries.
        sent_at: the time of the first try, or None.
    """

    run_id: str
    url: str
    receiver: str
    attempts: int
    sent_at: datetime | None
    about: dict[str, Any]

    def headers(self) -> dict[str, str]:
        """Returns the headers beside those of every delivery."""
        return pushes.headers(self.about) if self.about["push"] is not None else {}

    def body(self, sent_at: datetime) -> bytes:
        """Returns JSON of the run and its outcome, or of a task; the same for every try."""
        row = self.about
        if row["push"] is not None:
            return pushes.body(row)
        delivery = {
            "run_id": self.run_id,
            "thread_id": row["thread_id"],
            "assistant_id": str(row["assistant_id"]),
            "metadata": row["metadata"],
            "status": row["status"],
            "kwargs": row["kwargs"],
            "multitask_strategy": row["multitask_strategy"],
            "created_at": timestamp(row["created_at"]),
            "updated_at": timestamp(row["ended_at"]),
            "langsmith_session_name": None,
            "assistant_version": row["assistant_version"],
            "run_started_at": row["started_at"] and timestamp(row["started_at"]),
            "run_ended_at": timestamp(row["ended_at"]),
            "webhook_sent_at": timestamp(self.sent_at or sent_at),
            "values": row["values"],
        }
        if row["error"] is not None:
            delivery["error"] = row["error"]
        return orjson.dumps(delivery)


async def due(
    pool: Pool,
    limit: int,
    *,
    but: Collection[str] = (),
    not_to: Collection[str] = (),
    shard: Shard = WHOLE,
) -> list[Due]:
    """Returns the due deliveries, the oldest first.

    Args:
        but: runs to leave out, since their deliveries are being sent.
        not_to: receivers to leave out, since they have enough deliveries under way.
        shard: the shard whose threads' deliveries are returned.
    """
    rows = await rows_of(
        pool,
        "SELECT run_id::text, receiver FROM greenroom.webhooks WHERE settled_at IS NULL"
        " AND due_at <= now() AND run_id <> ALL(%s::uuid[])"
        f" AND receiver <> ALL(%s::text[]) AND {is_of(shard)} ORDER BY due_at LIMIT %s",
        (list(but), list(not_to), limit),
    )
    return [Due(**row) for row in rows]


async def next_due_s(
    pool: Pool,
    *,
    but: Collection[str] = (),
    not_to: Collection[str] = (),
    shard: Shard = WHOLE,
) -> float | None:
    """Returns the seconds until a delivery is due (negative: overdue); None without a delivery."""
    rows = await rows_of(
        pool,
        "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 AS due_in_s"
        " FROM greenroom.webhooks WHERE settled_at IS NULL AND run_id <> ALL(%s::uuid[])"
        f" AND receiver <> ALL(%s::text[]) AND {is_of(shard)}",
        (list(but), list(not_to)),
    )
    return rows[0]["due_in_s"]


async def find(pool: Pool, run_id: str) -> Delivery | None:
    """Returns a run's delivery; None when it does not exist or is finished."""
    rows = await rows_of(
        pool,
        "SELECT * FROM greenroom.webhooks WHERE run_id = %s AND settled_at IS NULL",
        (run_id,),
    )
    if not rows:
        return None
    row = rows[0]
    return Delivery(
        run_id=run_id,
        url=row["url"],
        receiver=row["receiver"],
        attempts=row["attempts"],
        sent_at=row["sent_at"],
        about=row,
    )


async def postpone(
    pool: Pool, run_id: str, *, sent_at: datetime, delay_s: float, said: str
) -> None:
    """Records a failed try; the next one is due in ``delay_s`` seconds."""
    await rows_of(
        pool,
        "UPDATE greenroom.webhooks SET attempts = attempts + 1, said = %s,"
        " sent_at = coalesce(sent_at, %s),"
        " due_at = clock_timestamp() + make_interval(secs => %s)"
        " WHERE run_id = %s AND settled_at IS NULL RETURNING 1",
        (said, sent_at, delay_s, run_id),
    )


async def finish(pool: Pool, run_id: str, *, sent_at: datetime, said: str) -> None:
    """Records that a delivery was delivered or given up, and deletes its contents."""
    await rows_of(
        pool,
        "UPDATE greenroom.webhooks SET attempts = attempts + 1, said = %s,"
        " sent_at = coalesce(sent_at, %s), settled_at = clock_timestamp(),"
        """ kwargs = '{}', "values" = NULL, push = NULL"""
        " WHERE run_id = %s AND settled_at IS NULL RETURNING 1",
        (said, sent_at, run_id),
    )


async def delete_finished(pool: Pool, older_than_s: float, *, max_rows: int = 1000) -> int:
    """Deletes deliveries finished more than ``older_than_s`` seconds ago; returns their number.

    A result of ``max_rows`` means that more may be left.
    """
    return len(
        await rows_of(
            pool,
            "DELETE FROM greenroom.webhooks WHERE run_id IN (SELECT run_id FROM greenroom.webhooks"
            " WHERE settled_at < now() - make_interval(secs => %s) LIMIT %s)"
            " RETURNING run_id",
            (older_than_s, max_rows),
        )
    )
