"""What was said to runs, as clients see it."""

from __future__ import annotations

from typing import Any

import orjson

from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.persistence.database import timestamp
from greenroom.persistence.records.queries import Queries, is_uuid, of_thread, where_clause
from greenroom.sealing.runs import opened_run

_COLUMNS = (
    "input_id, run_id, number, for_run, content, as_node, if_over, status, reason, said_at,"
    " taken_at, attempt, step, checkpoint_id"
)


class InputRecords(Queries):
    """The queries of inputs of runs."""

    async def list_inputs(
        self, thread_id: str, run_id: str, *, scope: Scope
    ) -> list[JsonObject] | None:
        if not is_uuid(run_id):
            return None
        sql, params = where_clause(
            [
                ("run_id = %s", run_id),
                ("thread_id = %s", thread_id),
                *of_thread(scope, "runs.thread_id"),
            ]
        )
        if not await self.rows(f"SELECT 1 FROM greenroom.runs {sql}", params):
            return None
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.run_inputs"
            " WHERE thread_id = %s AND (run_id = %s OR for_run = %s) ORDER BY position",
            [thread_id, run_id, run_id],
        )
        return [_input(row) for row in await self.opened(rows, "content", by=opened_run)]


def _plain(value: Any) -> dict[str, Any]:
    """Returns JSON of a column, which may be encoded."""
    return orjson.loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def _input(row: JsonObject) -> JsonObject:
    content = _plain(row["content"])
    taken = None
    if row["taken_at"] is not None and row["status"] != "refused":
        taken = {
            "at": timestamp(row["taken_at"]),
            "run_id": str(row["for_run"]),
            "attempt": row["attempt"],
            "step": row["step"],
            "checkpoint_id": row["checkpoint_id"],
        }
    return {
        "input_id": str(row["input_id"]),
        "run_id": str(row["run_id"]),
        "number": row["number"],
        "status": row["status"],
        "for_run_id": str(row["for_run"]),
        "said_at": timestamp(row["said_at"]),
        "input": content.get("input"),
        "command": content.get("command"),
        "as_node": row["as_node"],
        "if_over": row["if_over"],
        "taken": taken,
        "reason": row["reason"],
    }
