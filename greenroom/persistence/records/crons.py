"""Crons: lookups and searches; a registry changes them."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import Scope
from greenroom.core.searches import (
    CronFilter,
    Page,
)
from greenroom.persistence.database import timestamp
from greenroom.persistence.records.queries import (
    Conditions,
    Queries,
    and_within,
    is_uuid,
    order_clause,
    where_clause,
    within,
)
from greenroom.sealing.runs import opened_run

_COLUMNS = (
    "cron_id, assistant_id, thread_id, user_id, end_time, schedule, timezone, payload,"
    " next_run_date, metadata, on_run_completed, enabled, created_at, updated_at"
)
_ORDERS = frozenset(
    {
        "cron_id",
        "assistant_id",
        "thread_id",
        "next_run_date",
        "end_time",
        "created_at",
        "updated_at",
    }
)


class CronRecords(Queries):
    """The queries of crons."""

    async def get_cron(self, cron_id: str, *, scope: Scope) -> tuple[JsonObject, int] | None:
        if not is_uuid(cron_id):
            return None
        sql, values = and_within(scope)
        rows = await self.rows(
            f"SELECT {_COLUMNS}, revision FROM greenroom.crons WHERE cron_id = %s{sql}",
            [cron_id, *values],
        )
        return ((await self._shown_crons(rows))[0], rows[0]["revision"]) if rows else None

    async def search_crons(
        self,
        where: CronFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page:
        order = order_clause("cron_id", sort_by, _ORDERS, descending)
        sql, params = where_clause(_of_crons(where) + within(scope))
        rows = await self.search(
            f"SELECT {_COLUMNS} FROM greenroom.crons {sql} {order} LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=await self._shown_crons(rows[:limit]), has_more=len(rows) > limit)

    async def _shown_crons(self, rows: list[JsonObject]) -> list[JsonObject]:
        return [_cron(row) for row in await self.opened(rows, "payload", by=opened_run)]

    async def count_crons(self, where: CronFilter, *, scope: Scope) -> int:
        sql, params = where_clause(_of_crons(where) + within(scope))
        return await self.counted(f"greenroom.crons {sql}", params)


def _of_crons(where: CronFilter) -> Conditions:
    conditions: Conditions = []
    if where.assistant_id is not None:
        conditions.append(("assistant_id = %s", where.assistant_id))
    if where.thread_id is not None:
        conditions.append(("thread_id = %s", where.thread_id))
    if where.enabled is not None:
        conditions.append(("enabled = %s", where.enabled))
    if where.metadata:
        conditions.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    return conditions


def _cron(row: JsonObject) -> JsonObject:
    end_time = row["end_time"]
    return {
        **{key: value for key, value in row.items() if key != "revision"},
        "cron_id": str(row["cron_id"]),
        "assistant_id": str(row["assistant_id"]),
        "end_time": end_time.isoformat() if end_time is not None else None,
        "next_run_date": row["next_run_date"].isoformat(),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
    }
