"""Deliveries of webhooks, as `greenroom.persistence.outbox` keeps them; a registry sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.core.searches import DeliveryFilter, Page
from greenroom.persistence.database import timestamp
from greenroom.persistence.records.queries import (
    Conditions,
    Queries,
    Values,
    is_uuid,
    where_clause,
)
from greenroom.persistence.scoping import condition

_STATUS = (
    "CASE WHEN settled_at IS NULL THEN 'pending' WHEN delivered THEN 'delivered' ELSE 'failed' END"
)
# The receiver and not the URL, which may carry a secret.
_COLUMNS = (
    "run_id AS delivery_id, coalesce((push->>'task_id')::uuid, run_id) AS run_id,"
    f" thread_id, assistant_id, receiver, {_STATUS} AS status, status AS run_status,"
    " attempts, said AS answer, ended_at AS created_at, sent_at, settled_at,"
    " CASE WHEN settled_at IS NULL THEN due_at END AS next_attempt_at"
)
_TIMES = ("created_at", "sent_at", "settled_at", "next_attempt_at")


class DeliveryRecords(Queries):
    """The queries of deliveries."""

    async def get_delivery(self, delivery_id: str, *, scope: Scope) -> JsonObject | None:
        if not is_uuid(delivery_id):
            return None
        sql, params = where_clause([("run_id = %s", delivery_id), *_within(scope, None)])
        rows = await self.rows(f"SELECT {_COLUMNS} FROM greenroom.webhooks {sql}", params)
        return _delivery(rows[0]) if rows else None

    async def list_deliveries(
        self, where: DeliveryFilter, *, limit: int, offset: int, scope: Scope
    ) -> Page:
        conditions = _within(scope, where.metadata)
        if where.status is not None:
            conditions.append((f"({_STATUS}) = %s", where.status))
        if where.thread_id is not None:
            conditions.append(("thread_id = %s", where.thread_id))
        sql, params = where_clause(conditions)
        rows = await self.search(
            f"SELECT {_COLUMNS} FROM greenroom.webhooks {sql}"
            " ORDER BY ended_at DESC, run_id DESC LIMIT %s OFFSET %s",
            [*params, limit + 1, offset],
        )
        return Page(items=[_delivery(row) for row in rows[:limit]], has_more=len(rows) > limit)


def _within(scope: Scope, metadata: Mapping[str, Any] | None) -> Conditions:
    """Returns the conditions that a delivery is in a scope, and its metadata contain some.

    Its thread decides. That of a stateless run is gone, and a deleted thread's id may have become
    another thread's: then the metadata of the run decide, which its maker's handler has stamped.
    """
    if scope.is_everything and not metadata:
        return []
    sql, values = condition(scope, "{}.metadata")
    if metadata:
        sql, values = f"{sql} AND {{}}.metadata @> %s", [*values, Jsonb(metadata)]
    of_thread, of_run = (
        sql.replace("{}.metadata", of) for of in ("its.metadata", "webhooks.metadata::jsonb")
    )
    thread = (
        "FROM greenroom.threads its WHERE its.thread_id = webhooks.thread_id"
        " AND its.created_at <= webhooks.created_at"
    )
    either = (
        f"(EXISTS (SELECT 1 {thread} AND {of_thread})"
        f" OR (NOT EXISTS (SELECT 1 {thread}) AND {of_run}))"
    )
    return [(either, Values([*values, *values]))]


def _delivery(row: JsonObject) -> JsonObject:
    times = {name: row[name] and timestamp(row[name]) for name in _TIMES}
    ids = {name: str(row[name]) for name in ("delivery_id", "run_id", "assistant_id")}
    return {**row, **times, **ids}
