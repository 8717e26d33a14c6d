"""Deletions of assistants: what is left to do once the record is gone.

    begin              the record goes, and a mark says what is to follow (one transaction)
    unfinished         the marks, which registries read: each stops the runs of its own threads
    threads_of         the threads that go too, if that was asked for
    delete_finished    removes marks

A registry that starts treats the runs of a deleted assistant as cancelled (`OF_DELETED_ASSISTANT`),
so a deletion survives the death of every process.

Rows of other tables that are an assistant's own (its versions, and whatever else refers to it) go
in the first transaction, by ``ON DELETE CASCADE``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from greenroom.core.errors import BadRequest
from greenroom.core.scopes import Scope
from greenroom.core.sharding import WHOLE, Shard
from greenroom.persistence.database import Pool, rows_of
from greenroom.persistence.owning import is_of
from greenroom.persistence.scoping import document, named_condition

KEPT_S = 60.0
"""How long a mark is kept at least. An admission that did not see it yet is over by then: a
transaction may take half of it."""

OF_DELETED_ASSISTANT = """EXISTS (
        SELECT 1 FROM greenroom.assistant_deletions d WHERE d.assistant_id = runs.assistant_id
            AND coalesce(runs.assistant_revision, 0) <= d.revision)"""
"""An SQL condition on ``greenroom.runs``: the run's assistant was deleted."""

_BEGIN = """
WITH gone AS (
    DELETE FROM greenroom.assistants WHERE assistant_id = %(assistant)s AND {scope}
    RETURNING assistant_id, revision)
INSERT INTO greenroom.assistant_deletions (name, assistant_id, revision, delete_threads, threads)
SELECT %(name)s, assistant_id, revision, %(delete_threads)s, %(threads)s::jsonb FROM gone
RETURNING true"""

_MARKED = "SELECT 1 FROM greenroom.assistant_deletions WHERE name = %(name)s"

_ITS_THREADS = """t.metadata @> jsonb_build_object('assistant_id', d.assistant_id)
    AND t.metadata @> d.threads
    AND t.created_at <= d.deleted_at
    AND NOT EXISTS (SELECT 1 FROM greenroom.runs r WHERE r.thread_id = t.thread_id
        AND r.assistant_id = d.assistant_id AND r.assistant_revision > d.revision)"""
"""An SQL condition on a thread ``t`` and a deletion ``d``: the thread's latest run used the
assistant, as its metadata say, and no assistant that was made again under the id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """The mark of a deletion.

    Attributes:
        name: the request's.
        revision: the last state of the assistant. A run of a later one belongs to an assistant that
            was made again under the id.
        delete_threads: the threads whose latest run used the assistant go, too.
    """

    name: str
    assistant_id: str
    revision: int
    delete_threads: bool

    def covers(self, revision: int | None) -> bool:
        """Returns whether a run with the assistant in this state is to be stopped."""
        return (revision or 0) <= self.revision


async def begin(
    pool: Pool, name: str, assistant_id: str, *, threads: Scope | None, scope: Scope
) -> bool:
    """Deletes an assistant's record, and marks what is to follow. Repeatable by its name.

    Args:
        threads: the scope of the threads that go, too; None: none do.
        scope: of the assistant.

    Returns:
        whether there was such an assistant.

    Raises:
        BadRequest: ``threads`` is more than one object of metadata says.
    """
    sql, values = named_condition(scope)
    contained = document(threads) if threads is not None else {}
    if contained is None:
        raise BadRequest(
            "delete_threads cannot be used with the filter that decides which threads are yours;"
            " delete the assistant without it, and the threads one by one."
        )
    given = {
        **values,
        "name": name,
        "assistant": assistant_id,
        "delete_threads": threads is not None,
        "threads": json.dumps(contained),
    }
    return bool(await rows_of(pool, _BEGIN.replace("{scope}", sql), given)) or bool(
        await rows_of(pool, _MARKED, given)
    )


async def unfinished(pool: Pool, name: str | None = None, *, limit: int = 1000) -> list[Deletion]:
    """Returns the deletions that may not be finished, the oldest first.

    Args:
        name: only the one with this name.
    """
    rows = await rows_of(
        pool,
        "SELECT name::text, assistant_id::text, revision, delete_threads"
        " FROM greenroom.assistant_deletions"
        " WHERE %(name)s::uuid IS NULL OR name = %(name)s::uuid"
        " ORDER BY deleted_at LIMIT %(limit)s",
        {"name": name, "limit": limit},
    )
    return [Deletion(**row) for row in rows]


async def threads_of(
    pool: Pool, deletion: Deletion, *, limit: int, shard: Shard = WHOLE
) -> list[str]:
    """Returns threads of the shard that a deletion has not reached yet."""
    rows = await rows_of(
        pool,
        "SELECT thread_id FROM greenroom.assistant_deletions d JOIN greenroom.threads t"
        f" ON {_ITS_THREADS} WHERE d.name = %(name)s AND {is_of(shard)} LIMIT %(limit)s",
        {"name": deletion.name, "limit": limit},
    )
    return [row["thread_id"] for row in rows]


async def delete_finished(pool: Pool, *, older_than_s: float = KEPT_S, max_rows: int = 100) -> int:
    """Removes the marks of deletions that every registry has carried out; returns their number."""
    rows = await rows_of(
        pool,
        f"""
        DELETE FROM greenroom.assistant_deletions WHERE name IN (
            SELECT d.name FROM greenroom.assistant_deletions d
            WHERE d.deleted_at < now() - make_interval(secs => %(older_than_s)s)
                AND NOT EXISTS (
                    SELECT 1 FROM greenroom.runs WHERE status IN ('pending', 'running')
                        AND runs.assistant_id = d.assistant_id
                        AND coalesce(runs.assistant_revision, 0) <= d.revision)
                AND NOT (d.delete_threads AND EXISTS (
                    SELECT 1 FROM greenroom.threads t WHERE {_ITS_THREADS}))
            LIMIT %(max_rows)s)
        RETURNING name""",
        {"older_than_s": older_than_s, "max_rows": max_rows},
    )
    return len(rows)
