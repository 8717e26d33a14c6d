"""Runs: lookups, and the list of a thread's runs."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from greenroom.core.pausing import pause_of
from greenroom.core.ports import (
    JsonObject,
)
from greenroom.core.scopes import Scope
from greenroom.core.searches import (
    Page,
    RunFilter,
)
from greenroom.persistence.database import timestamp
from greenroom.persistence.records.queries import (
    Conditions,
    Queries,
    and_within,
    is_uuid,
    of_thread,
    order_clause,
    where_clause,
)
from greenroom.sealing.runs import opened_run

_COLUMNS = (
    "run_id, thread_id, assistant_id, metadata, status, kwargs, multitask_strategy, created_at,"
    " updated_at, assistant_version, pause"
)
_ORDERS = frozenset({"created_at"})
NOT_DELETED = (
    "NOT EXISTS (SELECT 1 FROM greenroom.operations WHERE subject = runs.thread_id)"
    " AND (NOT temporary"
    " OR EXISTS (SELECT 1 FROM greenroom.threads t WHERE t.thread_id = runs.thread_id))"
)
"""Hides the runs of a thread that is being deleted, and stateless runs that are over."""


class RunRecords(Queries):
    """The queries of runs."""

    async def get_run(
        self, thread_id: str | None, run_id: str, *, scope: Scope
    ) -> JsonObject | None:
        if not is_uuid(run_id):
            return None
        sql, params = where_clause([("run_id = %s", run_id), *of_thread(scope, "runs.thread_id")])
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.runs {sql} AND {NOT_DELETED}", params
        )
        if not rows or thread_id not in (None, rows[0]["thread_id"]):
            return None
        return (await self._shown_runs(rows))[0]

    async def list_runs(
        self, thread_id: str, *, limit: int | None, offset: int, status: str | None, scope: Scope
    ) -> list[JsonObject] | None:
        conditions: Conditions = [("thread_id = %s", thread_id)]
        conditions += of_thread(scope, "runs.thread_id")
        if status is not None:
            conditions.append(("status = %s", status))
        sql, params = where_clause(conditions)
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.runs {sql} AND {NOT_DELETED}"
            " ORDER BY created_at DESC, run_id DESC"
            " LIMIT %s OFFSET %s",
            [*params, limit, offset],
        )
        if not rows:
            sql, values = and_within(scope)
            known = f"SELECT 1 FROM greenroom.threads WHERE thread_id = %s{sql}"
            if not await self.rows(known, [thread_id, *values]):
                return None
        return await self._shown_runs(rows)

    async def search_runs(
        self, where: RunFilter, *, limit: int, offset: int, descending: bool, scope: Scope
    ) -> Page:
        sql, params = where_clause(_of_runs(where, scope))
        order = order_clause("run_id", "created_at", _ORDERS, descending)
        rows = await self.search(
            f"SELECT {_COLUMNS} FROM greenroom.runs {_and_there(sql)} {order} LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=await self._shown_runs(rows[:limit]), has_more=len(rows) > limit)

    async def _shown_runs(self, rows: list[JsonObject]) -> list[JsonObject]:
        return [_run(row) for row in await self.opened(rows, "kwargs", by=opened_run)]

    async def count_runs(self, where: RunFilter, *, scope: Scope) -> int:
        sql, params = where_clause(_of_runs(where, scope))
        return await self.counted(f"greenroom.runs {_and_there(sql)}", params)


def _of_runs(where: RunFilter, scope: Scope) -> Conditions:
    columns = {
        "thread_id": where.thread_id,
        "assistant_id": where.assistant_id,
        "status": where.status,
    }
    conditions: Conditions = [
        (f"{name} = %s", value) for name, value in columns.items() if value is not None
    ]
    if where.metadata:
        conditions.append(("metadata @> %s", Jsonb(dict(where.metadata))))
    return conditions + of_thread(scope, "runs.thread_id")


def _and_there(where: str) -> str:
    return f"{where} AND {NOT_DELETED}" if where else f"WHERE {NOT_DELETED}"


def _run(row: JsonObject) -> JsonObject:
    pause = pause_of(row.pop("pause"))
    return {
        **row,
        **({"paused": pause.shown()} if pause is not None else {}),
        "run_id": str(row["run_id"]),
        "assistant_id": str(row["assistant_id"]),
        "created_at": timestamp(row["created_at"]),
        "updated_at": timestamp(row["updated_at"]),
        "langsmith_session_name": None,
    }
