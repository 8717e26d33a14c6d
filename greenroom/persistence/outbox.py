"""Webhooks on their way: written with the end of their run, kept until they are delivered.

A row is the delivery as the receiver gets it, whatever becomes of the run and its thread meanwhile.
`announce` puts it there in the transaction that ends the run, so there is one exactly when the run
is over; `actors.registry.webhooks` sends what is due. A row is *finished* when it is delivered or
given up. It stays a while after that, without its contents, so that an announcement that is
repeated (the journal may commit twice) is not a second delivery.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Pool, rows_of, timestamp
from greenroom.persistence.journal import Write
from greenroom.persistence.owning import is_of

_STOPPED = {
    action: json.dumps(
        {
            "error": name,
            "message": f"{action} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel",
        }
    )
    for action, name in (("interrupt", "UserInterrupt"), ("rollback", "UserRollback"))
}
"""The error of a run that was stopped (platform API, section 7); the placeholders are literal."""


def announce(run_id: str, *, rolled_back: bool = False) -> Write:
    """The delivery about a run that has just ended, if it names a webhook. May be repeated.

    Belongs behind the writes that end the run; of a run that is rolled back, before those that
    delete it.
    """
    return Write(
        """
        INSERT INTO greenroom.webhooks (run_id, url, thread_id, assistant_id, metadata, status,
            kwargs, multitask_strategy, created_at, started_at, ended_at, "values", error)
        SELECT r.run_id, r.webhook, r.thread_id, r.assistant_id, r.metadata::json,
            CASE WHEN r.status IN ('pending', 'running') THEN 'interrupted' ELSE r.status END,
            r.kwargs, r.multitask_strategy, r.created_at,
            -- A run that starts at its admission may have been started microseconds before.
            CASE WHEN r.started_at IS NOT NULL THEN greatest(r.started_at, r.created_at) END,
            CASE WHEN r.status IN ('pending', 'running') THEN clock_timestamp()
                ELSE r.updated_at END,
            CASE WHEN NOT r.temporary THEN t."values" END,
            coalesce(r.error, CASE WHEN r.status IN ('pending', 'running', 'interrupted')
                THEN %(stopped)s::json END)
        FROM greenroom.runs r LEFT JOIN greenroom.threads t USING (thread_id)
        WHERE r.run_id = %(run)s AND r.webhook IS NOT NULL
        ON CONFLICT (run_id) DO NOTHING""",
        {"run": run_id, "stopped": _STOPPED["rollback" if rolled_back else "interrupt"]},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A delivery that is to be sent now, and to whom: host and port."""

    run_id: str
    receiver: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """What is posted.

    Attributes:
        attempts: how often it was tried before.
        sent_at: when it was tried first, or None.
    """

    run_id: str
    url: str
    receiver: str
    attempts: int
    sent_at: datetime | None
    about: dict[str, Any]

    def body(self, sent_at: datetime) -> bytes:
        """JSON of the run with what became of it; the same at every attempt."""
        row = self.about
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
    """Deliveries whose time has come, the oldest first.

    Args:
        but: runs whose deliveries are being sent.
        not_to: receivers that have enough on their hands.
        shard: whose threads' deliveries.
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
    """Seconds until a delivery is due (negative: one is); None when none is waiting."""
    rows = await rows_of(
        pool,
        "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 AS due_in_s"
        " FROM greenroom.webhooks WHERE settled_at IS NULL AND run_id <> ALL(%s::uuid[])"
        f" AND receiver <> ALL(%s::text[]) AND {is_of(shard)}",
        (list(but), list(not_to)),
    )
    return rows[0]["due_in_s"]


async def find(pool: Pool, run_id: str) -> Delivery | None:
    """A delivery that is not finished."""
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
    """An attempt failed; the next one is due in ``delay_s``."""
    await rows_of(
        pool,
        "UPDATE greenroom.webhooks SET attempts = attempts + 1, said = %s,"
        " sent_at = coalesce(sent_at, %s),"
        " due_at = clock_timestamp() + make_interval(secs => %s)"
        " WHERE run_id = %s AND settled_at IS NULL RETURNING 1",
        (said, sent_at, delay_s, run_id),
    )


async def finish(pool: Pool, run_id: str, *, sent_at: datetime, said: str) -> None:
    """The delivery was delivered, or given up; its contents go."""
    await rows_of(
        pool,
        "UPDATE greenroom.webhooks SET attempts = attempts + 1, said = %s,"
        " sent_at = coalesce(sent_at, %s), settled_at = clock_timestamp(),"
        """ kwargs = '{}', "values" = NULL WHERE run_id = %s AND settled_at IS NULL RETURNING 1""",
        (said, sent_at, run_id),
    )


async def delete_finished(pool: Pool, older_than_s: float, *, max_rows: int = 1000) -> int:
    """Deletes deliveries that were finished before; ``max_rows`` means that there may be more."""
    return len(
        await rows_of(
            pool,
            "DELETE FROM greenroom.webhooks WHERE run_id IN (SELECT run_id FROM greenroom.webhooks"
            " WHERE settled_at < now() - make_interval(secs => %s) LIMIT %s)"
            " RETURNING run_id",
            (older_than_s, max_rows),
        )
    )
