"""The reads of a registry that fires crons."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from greenroom.core.crons import OnRunCompleted
from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Pool
from greenroom.persistence.owning import is_of

_MAY_FIRE = "enabled AND (end_time IS NULL OR next_run_date <= end_time)"
"""The condition of the index ``crons_by_due``."""
_OWNER = "coalesce(thread_id, cron_id::text)"


@dataclass(frozen=True, kw_only=True, slots=True)
class DueCron:
    """A cron that is due, with its assistant.

    Attributes:
        due: the date.
        payload: JSON object, the body of its runs.
        assistant: the fields of the assistant's record that a run takes over.
        user: as in `Cron`.
        scope: `Scope.to_json` of that in `Cron`; None for everything.
        thread_id, schedule, timezone, end_time, on_run_completed, revision: as in `Cron`.
    """

    cron_id: str
    thread_id: str | None
    schedule: str
    timezone: str | None
    end_time: datetime | None
    on_run_completed: OnRunCompleted | None
    payload: str
    due: datetime
    revision: int
    assistant: dict[str, Any]
    user: str | None = None
    scope: str | None = None


async def due_crons(
    pool: Pool, now: datetime, *, but: Collection[str], limit: int, shard: Shard = WHOLE
) -> list[DueCron]:
    """Returns the shard's crons that are due, the longest due first.

    Args:
        now: what is due at this time is returned.
        but: the ids of crons to leave out.

    Raises:
        DatabaseUnavailable, psycopg.Error: the read failed.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute(
            f"""
            WITH found AS (
                SELECT * FROM greenroom.crons
                WHERE {_MAY_FIRE} AND next_run_date <= %s AND {is_of(shard, _OWNER)}
                    AND cron_id <> ALL (%s::uuid[])
                ORDER BY next_run_date, cron_id LIMIT %s)
            SELECT cron_id::text, thread_id, schedule, timezone, end_time, on_run_completed,
                payload::text, next_run_date AS due, found.revision,
                auth_user::text AS "user", scope::text AS scope,
                jsonb_build_object('assistant_id', a.assistant_id, 'graph_id', a.graph_id,
                    'config', a.config, 'context', a.context, 'metadata', a.metadata,
                    'version', a.version, 'revision', a.revision) AS assistant
            FROM found JOIN greenroom.assistants a USING (assistant_id)
            ORDER BY next_run_date, cron_id""",
            (now, list(but), limit),
        )
        return [DueCron(**row) for row in await cursor.fetchall()]


async def next_due(pool: Pool, *, but: Collection[str], shard: Shard = WHOLE) -> datetime | None:
    """Returns the earliest date at which a cron of the shard is due; None: there is no cron.

    Args:
        but: the ids of crons to leave out.

    Raises:
        DatabaseUnavailable, psycopg.Error: the read failed.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute(
            f"""
            SELECT next_run_date FROM greenroom.crons
            WHERE {_MAY_FIRE} AND {is_of(shard, _OWNER)} AND cron_id <> ALL (%s::uuid[])
            ORDER BY next_run_date, cron_id LIMIT 1""",
            (list(but),),
        )
        row = await cursor.fetchone()
        return row["next_run_date"] if row is not None else None
