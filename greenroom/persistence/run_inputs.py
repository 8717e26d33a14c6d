"""What was said to runs: the reads of attempts, registries and clients (`greenroom.core.inputs`).

The registry's writes are in `greenroom.persistence.journal.input_writes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from greenroom.core.inputs import TAKEN, HeardInput, InputStatus, Taking
from greenroom.core.pausing import Pause, pause_of
from greenroom.core.runs import RunFacts
from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Connection, Pool, retrying, rows_of, timestamp
from greenroom.persistence.owning import is_of
from greenroom.persistence.saving import Owner, Save, Saving
from greenroom.sealing import UNSEALED, Sealing
from greenroom.sealing.runs import opened_run

if TYPE_CHECKING:  # a registry does not load LangGraph
    from langchain_core.runnables import RunnableConfig


def row_of(taking: Taking) -> dict[str, Any]:
    """Returns a note as a row of `greenroom.save`."""
    return {
        "id": taking.input_id,
        "at_ms": taking.at_ms,
        "attempt": taking.attempt,
        "step": taking.step,
        "checkpoint": taking.checkpoint_id,
        "reason": taking.reason,
    }


def notes_of(config: RunnableConfig) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows that note which inputs a checkpoint, or a task, contains."""
    takings: list[Taking] = config.get("configurable", {}).get(TAKEN) or []
    return {"taken": [row_of(taking) for taking in takings]} if takings else {}


async def note(saving: Saving, owner: Owner, taking: Taking) -> None:
    """Stores a note that belongs to no checkpoint.

    Raises:
        Fenced: the attempt is not the current one.
        DatabaseUnavailable: as of `Saving.save`.
    """
    rows = {"taken": [row_of(taking)]}
    await saving.save(Save(owner=owner, key=("taken", taking.input_id), rows=rows))


# --- for an attempt -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ForAttempt:
    """What was said to a run.

    Attributes:
        waiting: what it has not taken, in order.
        taken: the notes of what its earlier attempts have taken, in order.
        pause: the pause that is wanted of it, or None.
    """

    waiting: list[HeardInput]
    taken: list[Taking]
    pause: Pause | None = None


async def inputs_for(pool: Pool, run_id: str, sealing: Sealing = UNSEALED) -> ForAttempt:
    """Reads what a run is to take; repeats while the database is unavailable.

    Raises:
        CannotOpen: it is sealed and cannot be opened.
    """
    rows = await rows_of(
        pool,
        """
        SELECT input_id::text, number, content::text, as_node, said_at, status, attempt, step,
            checkpoint_id, (extract(epoch FROM taken_at) * 1000)::bigint AS at_ms
        FROM greenroom.run_inputs WHERE for_run = %s AND status IN ('waiting', 'taken')
        ORDER BY position""",
        [run_id],
    )
    waiting: list[HeardInput] = []
    for row in rows:
        if row["status"] != InputStatus.WAITING:
            continue
        content = await sealing.apart(opened_run, sealing, row["content"].encode())
        given: dict[str, Any] = orjson.loads(content)
        waiting.append(
            HeardInput(
                input_id=row["input_id"],
                number=row["number"],
                update=given.get("input"),
                command=given.get("command"),
                as_node=row["as_node"],
                said_at=timestamp(row["said_at"]),
            )
        )
    taken = [
        Taking(
            input_id=row["input_id"],
            number=row["number"],
            at_ms=row["at_ms"],
            attempt=row["attempt"],
            step=row["step"],
            checkpoint_id=row["checkpoint_id"],
        )
        for row in rows
        if row["status"] == InputStatus.TAKEN and row["attempt"] is not None
    ]
    wanted = await rows_of(pool, "SELECT pause FROM greenroom.runs WHERE run_id = %s", [run_id])
    pause = pause_of(wanted[0]["pause"]) if wanted else None
    return ForAttempt(waiting=waiting, taken=taken, pause=pause)


# --- for a registry -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Addressed:
    """A run to which something can be said, in flight or over.

    Attributes:
        kwargs, metadata: JSON, as the run's record has them.
        caller: as of `RunRequest`.
    """

    facts: RunFacts
    status: str
    kwargs: bytes
    metadata: bytes
    caller: str | None


async def addressed_run(pool: Pool, run_id: str) -> Addressed | None:
    """Reads the run from which a next one is made; None if it does not exist."""

    async def read(connection: Connection) -> Addressed | None:
        cursor = await connection.execute(
            """
            SELECT run_id::text, thread_id, assistant_id::text, graph_id, temporary, resumable,
                webhook, assistant_version, auth_user::text AS "user", status,
                kwargs::text AS kwargs, metadata::text AS metadata, caller
            FROM greenroom.runs WHERE run_id = %s""",
            (run_id,),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        status, caller = row.pop("status"), row.pop("caller")
        kwargs, metadata = row.pop("kwargs").encode(), row.pop("metadata").encode()
        return Addressed(
            facts=RunFacts(**row), status=status, kwargs=kwargs, metadata=metadata, caller=caller
        )

    return await retrying(pool, read)


async def runs_with_inputs(connection: Connection, shard: Shard = WHOLE) -> list[tuple[str, bool]]:
    """Returns the runs in flight to which something was said, and those that are over and have not
    taken all of it; with each, whether it is over."""
    cursor = await connection.execute(
        f"""
        SELECT run_id::text, false AS is_over FROM greenroom.runs r
        WHERE status IN ('pending', 'running') AND {is_of(shard)} AND EXISTS (
            SELECT 1 FROM greenroom.run_inputs i WHERE i.for_run = r.run_id)
        UNION ALL SELECT run_id::text, true FROM greenroom.runs r
        WHERE status NOT IN ('pending', 'running') AND {is_of(shard)} AND run_id IN (
            SELECT for_run FROM greenroom.run_inputs WHERE status = 'waiting')"""
    )
    return [(row["run_id"], row["is_over"]) for row in await cursor.fetchall()]
