"""What people say about runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from greenroom.core.errors import Conflict
from greenroom.core.ports import JsonObject
from greenroom.persistence.database import timestamp
from greenroom.persistence.records.queries import Queries, is_uuid

MOST = 1000
"""The most feedback about one run: its address needs no key."""

_COLUMNS = "feedback_id, run_id, key, content, created_at"
_RUN = "SELECT 1 FROM greenroom.runs WHERE run_id = %(run)s"
_ADD = f"""
INSERT INTO greenroom.feedback (feedback_id, run_id, key, content)
SELECT %(id)s, run_id, %(key)s, %(content)s FROM greenroom.runs
WHERE run_id = %(run)s AND NOT EXISTS (
    SELECT 1 FROM greenroom.feedback WHERE run_id = %(run)s OFFSET {MOST - 1})
ON CONFLICT (feedback_id) DO NOTHING RETURNING {_COLUMNS}"""


class FeedbackRecords(Queries):
    """The queries of feedback, and its writes."""

    async def add_feedback(
        self, run_id: str, feedback_id: str, key: str, content: Mapping[str, Any]
    ) -> JsonObject | None:
        if not is_uuid(run_id):
            return None
        given = {"run": run_id, "id": feedback_id, "key": key, "content": Jsonb(dict(content))}
        rows = await self.rows(_ADD, given)
        if not rows:
            known = f"SELECT {_COLUMNS} FROM greenroom.feedback WHERE feedback_id = %(id)s"
            rows = await self.rows(known, given)
        if not rows:
            if not await self.rows(_RUN, given):
                return None
            raise Conflict(f"The run has {MOST} entries of feedback, and gets no more.")
        return _feedback(rows[0])

    async def list_feedback(self, run_id: str, *, limit: int, offset: int) -> list[JsonObject]:
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.feedback WHERE run_id = %s"
            " ORDER BY created_at, feedback_id LIMIT %s OFFSET %s",
            [run_id, limit, offset],
        )
        return [_feedback(row) for row in rows]


def _feedback(row: JsonObject) -> JsonObject:
    return {
        "feedback_id": str(row["feedback_id"]),
        "run_id": str(row["run_id"]),
        "key": row["key"],
        "score": None,
        "value": None,
        "comment": None,
        "correction": None,
        **row["content"],
        "created_at": timestamp(row["created_at"]),
    }
