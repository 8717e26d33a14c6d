"""The reads of a registry at its start, and for a run that it does not hold.

Reads take a connection: the journal writes only, and holds no connection between commits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.pausing import Pause, pause_of
from greenroom.core.runs import CancelAction, MultitaskStrategy, OfRun, RunFacts, RunStatus
from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.assistant_deletions import OF_DELETED_ASSISTANT
from greenroom.persistence.database import Connection
from greenroom.persistence.owning import is_of


@dataclass(frozen=True, kw_only=True, slots=True)
class InFlight(OfRun):
    """A run's record in the database.

    Attributes:
        deaths: how often the run's process died.
        cancel: how it was cancelled; also if its assistant was deleted.
        pause: the pause that is wanted, or None.
        due_in_s: seconds until a delayed run is due; None or negative: the run is due.
    """

    facts: RunFacts
    status: RunStatus
    attempt: int
    deaths: int
    actor: str | None
    multitask_strategy: MultitaskStrategy
    cancel: CancelAction | None
    pause: Pause | None
    due_in_s: float | None


_FACTS = (
    "run_id",
    "thread_id",
    "assistant_id",
    "graph_id",
    "temporary",
    "resumable",
    "resumes",
    "webhook",
    "assistant_version",
    "assistant_revision",
    "user",
    "logged",
)
_IN_FLIGHT = f"""
SELECT run_id::text, thread_id, assistant_id::text, graph_id, status, attempt, deaths, actor,
    temporary, resumable, resumes, webhook, assistant_version, assistant_revision,
    auth_user::text AS "user", logged,
    multitask_strategy, pause,
    coalesce(stop, CASE WHEN {OF_DELETED_ASSISTANT} THEN 'interrupt' END) AS cancel,
    extract(epoch FROM due_at - clock_timestamp())::float8 AS due_in_s
FROM greenroom.runs"""


async def in_flight(connection: Connection, shard: Shard = WHOLE) -> list[InFlight]:
    """Returns every unfinished run of the shard's threads, in the order of admission."""
    cursor = await connection.execute(
        f"{_IN_FLIGHT} WHERE status IN ('pending', 'running') AND {is_of(shard)} ORDER BY admitted"
    )
    return [_found(row) for row in await cursor.fetchall()]


async def threads_with_remains(connection: Connection, shard: Shard = WHOLE) -> list[str]:
    """Returns the ids of the shard's threads that were deleted with their stateless run, but still
    have data."""
    cursor = await connection.execute(
        f"""
        SELECT DISTINCT thread_id FROM greenroom.runs r
        WHERE temporary AND status NOT IN ('pending', 'running') AND {is_of(shard)}
            AND NOT EXISTS (SELECT 1 FROM greenroom.threads t WHERE t.thread_id = r.thread_id)"""
    )
    return [row["thread_id"] for row in await cursor.fetchall()]


async def find_run(connection: Connection, run_id: str) -> InFlight | None:
    """Returns one run, over or not; None if it does not exist."""
    cursor = await connection.execute(f"{_IN_FLIGHT} WHERE run_id = %s", (run_id,))
    row = await cursor.fetchone()
    return _found(row) if row is not None else None


async def was_cancel_heard(connection: Connection, name: str) -> bool:
    """Returns whether a cancel with this name was noted (`note_cancel`)."""
    cursor = await connection.execute("SELECT 1 FROM greenroom.cancels WHERE name = %s", (name,))
    return await cursor.fetchone() is not None


def _found(row: dict[str, Any]) -> InFlight:
    values: dict[str, Any] = {
        **row,
        "status": RunStatus(row["status"]),
        "pause": pause_of(row["pause"]),
    }
    facts = RunFacts(**{name: values.pop(name) for name in _FACTS})
    return InFlight(facts=facts, **values)
