"""What is stored of a run's life, for `greenroom.core.timeline`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from greenroom.core.nodes import NodeNote, unpacked
from greenroom.core.runs import RunStatus
from greenroom.core.scopes import Scope
from greenroom.core.timeline import SavedStep, StoredLife
from greenroom.persistence.records.inputs import InputRecords
from greenroom.persistence.records.queries import is_uuid, of_thread, where_clause
from greenroom.persistence.records.runs import NOT_DELETED

_COLUMNS = (
    "run_id::text, thread_id, assistant_id::text, graph_id, status, error, attempt, actor,"
    " created_at, started_at, updated_at, history, nodes"
)
_MOST_STEPS = 2_000
_STEPS = """
SELECT c.checkpoint_ns AS namespace, c.checkpoint->>'ts' AS at,
    (c.metadata->>'step')::int AS step, (c.metadata->>'run_attempt')::int AS attempt,
    ARRAY(
        SELECT seen.key FROM jsonb_each(c.checkpoint->'versions_seen') AS seen
        WHERE left(seen.key, 2) <> '__'
            AND p.checkpoint->'versions_seen'->seen.key IS DISTINCT FROM seen.value) AS names
FROM checkpoints c LEFT JOIN checkpoints p ON p.thread_id = c.thread_id
    AND p.checkpoint_ns = c.checkpoint_ns AND p.checkpoint_id = c.parent_checkpoint_id
WHERE c.thread_id = %s AND c.metadata->>'run_id' = %s AND c.metadata->>'source' = 'loop'
    AND (c.metadata->>'run_attempt')::int = ANY(%s)
ORDER BY c.checkpoint_id LIMIT %s"""


class TimelineRecords(InputRecords):
    """The query of a run's life."""

    async def stored_life(self, thread_id: str, run_id: str, *, scope: Scope) -> StoredLife | None:
        if not is_uuid(run_id):
            return None
        conditions = [("run_id = %s", run_id), ("thread_id = %s", thread_id)]
        sql, params = where_clause([*conditions, *of_thread(scope, "runs.thread_id")])
        rows = await self.rows(
            f"SELECT {_COLUMNS} FROM greenroom.runs {sql} AND {NOT_DELETED}", params
        )
        inputs = await self.list_inputs(thread_id, run_id, scope=scope) if rows else None
        if not rows or inputs is None:
            return None
        (row,) = rows
        history = _plain(row["history"]) or _from_record(row)
        notes: dict[int, Sequence[NodeNote]] = {
            attempt: [unpacked(note) for note in packed] for attempt, packed in _plain(row["nodes"])
        }
        is_over = RunStatus(row["status"]).is_terminal
        ended_ms = next((entry[1] for entry in history if entry[0] == "end"), None)
        unnoted = [entry[2] for entry in history if entry[0] == "start" and entry[2] not in notes]
        (opened,) = await self.opened([{"error": row["error"]}], "error")
        return StoredLife(
            record={
                **{name: row[name] for name in ("run_id", "thread_id", "assistant_id", "graph_id")},
                "status": row["status"],
                "error": _plain(opened["error"]),
            },
            created_ms=_ms(row["created_at"]),
            ended_ms=(ended_ms or _ms(row["updated_at"])) if is_over else None,
            history=history,
            notes=notes,
            steps=await self._steps(thread_id, run_id, unnoted) if unnoted else (),
            inputs=inputs,
        )

    async def _steps(self, thread_id: str, run_id: str, attempts: list[int]) -> list[SavedStep]:
        rows = await self.rows(_STEPS, [thread_id, run_id, attempts, _MOST_STEPS])
        return [
            SavedStep(
                attempt=row["attempt"],
                namespace=row["namespace"],
                step=row["step"],
                at_ms=_ms(datetime.fromisoformat(row["at"])),
                names=row["names"],
            )
            for row in rows
            if row["at"] is not None and row["step"] is not None
        ]


def _from_record(row: dict[str, Any]) -> list[list[Any]]:
    """Returns the history of a run that an older server has begun, as far as its record has it."""
    if row["started_at"] is None or not row["attempt"]:
        return []
    actor = row["actor"] or ""
    return [["start", _ms(row["started_at"]), row["attempt"], actor, None, None]]


def _plain(value: Any) -> Any:
    """Returns JSON of a column, which may be encoded."""
    return orjson.loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else value


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
