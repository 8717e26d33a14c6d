"""Writes about threads: the record after a run, deletion."""

from __future__ import annotations

from greenroom.core.sharding import WHOLE, Shard
from greenroom.core.threads import ThreadStatus
from greenroom.core.units import MIB
from greenroom.persistence.journal.group_commit import Write
from greenroom.persistence.owning import is_of

SMALL_ROWS = 500
SMALL_BYTES = 2 * MIB
"""The most bytes that one write deletes; this takes about as long as any commit."""

# --- SQL under names ------------------------------------------------------------------------------

_REST = """
UPDATE greenroom.threads SET status = %(status)s, resting = %(resting)s, error = %(error)s,
    interrupts = coalesce(%(interrupts)s::json, interrupts), ever_ran = true,
    updated_at = clock_timestamp()
WHERE thread_id = %(thread)s"""

_LEAVE = "DELETE FROM greenroom.threads WHERE thread_id = %(thread)s"

_RESET_STATUS = """
UPDATE greenroom.threads SET status = resting, updated_at = clock_timestamp()
WHERE thread_id = %(thread)s"""

_RESET_STATUSES = """
UPDATE greenroom.threads t SET updated_at = clock_timestamp(), status = resting
WHERE status = 'busy' AND {is_of} AND NOT EXISTS (
    SELECT 1 FROM greenroom.runs r
    WHERE r.thread_id = t.thread_id AND r.status IN ('pending', 'running'))"""

_NEWEST_GRAPH = """
SELECT graph_id FROM greenroom.runs WHERE thread_id = %(thread)s AND attempt > 0
ORDER BY admitted DESC LIMIT 1"""

_DELETE = "SELECT greenroom.delete_thread(%(thread)s, %(rows)s, %(bytes)s)"

_DELETE_REMAINS = """
SELECT CASE WHEN EXISTS (SELECT 1 FROM greenroom.threads WHERE thread_id = %(thread)s)
    THEN true ELSE greenroom.delete_thread(%(thread)s, %(rows)s, %(bytes)s) END"""


_NOTE_PRUNED = """
UPDATE greenroom.threads SET pruned_at = greatest(clock_timestamp(), updated_at)
WHERE thread_id = %(thread)s"""

# --- writes ---------------------------------------------------------------------------------------


def rest_thread(
    thread_id: str,
    resting: ThreadStatus,
    interrupts: bytes | None,
    error: bytes | None,
    *,
    busy: bool = False,
) -> Write:
    """Updates a thread's record after a run's end.

    Args:
        thread_id: the thread.
        resting: the thread's status while it has no run.
        interrupts: JSON; None keeps the present ones.
        error: JSON.
        busy: another run is waiting already.
    """
    return Write(
        _REST,
        {
            "thread": thread_id,
            "status": ThreadStatus.BUSY if busy else resting,
            "resting": resting,
            "interrupts": interrupts.decode() if interrupts is not None else None,
            "error": error.decode() if error is not None else None,
        },
    )


def note_pruned(thread_id: str) -> Write:
    """Notes that a thread was pruned; it expires again after its next change."""
    return Write(_NOTE_PRUNED, {"thread": thread_id})


def leave_thread(thread_id: str) -> Write:
    """Deletes the thread's record when its stateless run ends.

    The run's data on the thread stays for a client that waits for the outcome, until
    `delete_remains`.
    """
    return Write(_LEAVE, {"thread": thread_id})


def reset_thread_status(thread_id: str) -> Write:
    """Gives a thread whose pending run was dropped the status that it had before."""
    return Write(_RESET_STATUS, {"thread": thread_id})


def reset_thread_statuses(shard: Shard = WHOLE) -> Write:
    """Gives each ``busy`` thread without a run the status that it had before.

    A registry commits this at its start, after unfinished work of the previous registry.
    """
    return Write(_RESET_STATUSES.format(is_of=is_of(shard)), {})


def newest_graph(thread_id: str) -> Write:
    """Reads the graph of the thread's newest run that was executed.

    The write gives ``(graph_id,)``, or no row.
    """
    return Write(_NEWEST_GRAPH, {"thread": thread_id})


def delete_thread(thread_id: str) -> Write:
    """Deletes a thread's events, runs, record and checkpoints.

    The write gives ``(is_gone,)``. For a thread that is larger than `SMALL_ROWS` or `SMALL_BYTES`,
    it deletes only the record and marks the rest: ``is_gone`` is false, and
    `bulk.Bulk.delete_thread` deletes the rest.
    """
    return Write(_DELETE, {"thread": thread_id, "rows": SMALL_ROWS, "bytes": SMALL_BYTES})


def delete_remains(thread_id: str) -> Write:
    """Deletes the data of stateless runs on a deleted thread; like `delete_thread`.

    A thread that a client created again under the same id, or still uses, keeps its data.
    """
    return Write(_DELETE_REMAINS, {"thread": thread_id, "rows": SMALL_ROWS, "bytes": SMALL_BYTES})
