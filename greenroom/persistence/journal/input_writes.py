"""Writes about what is said to runs (`greenroom.core.inputs`)."""

from __future__ import annotations

from collections.abc import Sequence

from greenroom.core.inputs import InputStatus, NewInput
from greenroom.persistence.journal.group_commit import Write

# --- SQL under names ------------------------------------------------------------------------------

_SAY = """
WITH known AS (
    SELECT for_run::text, number, status, said_at FROM greenroom.run_inputs
    WHERE input_id = %(input)s),
made AS (
    INSERT INTO greenroom.run_inputs (input_id, run_id, number, thread_id, for_run, content,
        as_node, if_over, status, reason, taken_at)
    SELECT %(input)s, %(run)s, 1 + coalesce((
            SELECT max(number) FROM greenroom.run_inputs WHERE run_id = %(run)s), 0),
        %(thread)s, %(for_run)s, %(content)s::json, %(as_node)s, %(if_over)s, %(status)s,
        %(reason)s, CASE WHEN %(status)s = 'started' THEN clock_timestamp() END
    WHERE NOT EXISTS (SELECT 1 FROM known) AND EXISTS (
        SELECT 1 FROM greenroom.runs WHERE run_id = %(for_run)s AND thread_id = %(thread)s)
    RETURNING for_run::text, number, status, said_at)
SELECT * FROM made UNION ALL SELECT * FROM known"""

_FIND = """
SELECT for_run::text, number, status, said_at FROM greenroom.run_inputs
WHERE input_id = %(input)s"""

_UNSAY = "DELETE FROM greenroom.run_inputs WHERE input_id = %(input)s AND status = 'waiting'"

_WAITING = """
SELECT input_id::text, if_over, as_node, content::text FROM greenroom.run_inputs
WHERE for_run = %(run)s AND status = 'waiting' ORDER BY position"""

_DROP = """
UPDATE greenroom.run_inputs SET status = 'dropped', reason = %(reason)s
WHERE input_id = ANY(%(inputs)s::uuid[]) AND status = 'waiting'"""

_HAND_ON = """
UPDATE greenroom.run_inputs SET for_run = %(next)s,
    status = CASE WHEN input_id = %(first)s THEN %(status)s ELSE status END,
    taken_at = CASE WHEN input_id = %(first)s AND %(status)s = 'started'
        THEN clock_timestamp() END
WHERE for_run = %(run)s AND status = 'waiting'
    AND EXISTS (SELECT 1 FROM greenroom.runs WHERE run_id = %(next)s)"""


# --- writes ---------------------------------------------------------------------------------------


def say(
    new: NewInput,
    *,
    for_run: str | None = None,
    status: InputStatus = InputStatus.WAITING,
    reason: str | None = None,
) -> Write:
    """Adds an input. The write gives ``(for_run, number, status, said_at)``, also of one that is
    there already; no row if there is no such run on the thread.

    Args:
        for_run: the run that takes it; None: the one that it is said to.
        status, reason: what becomes of it at once.
    """
    return Write(
        _SAY,
        {
            "input": new.input_id,
            "run": new.run_id,
            "for_run": for_run or new.run_id,
            "thread": new.thread_id,
            "content": new.content.decode(),
            "as_node": new.as_node,
            "if_over": new.if_over,
            "status": status,
            "reason": reason,
        },
    )


def find_input(input_id: str) -> Write:
    """Reads an input that may be there, as `say` gives it. It is a write because it must see all
    earlier writes."""
    return Write(_FIND, {"input": input_id})


def unsay(input_id: str) -> Write:
    """Deletes an input whose sender was told that it is not stored, unless it is taken already."""
    return Write(_UNSAY, {"input": input_id})


def waiting_inputs(run_id: str) -> Write:
    """Reads what a run has not taken: ``(input_id, if_over, as_node, content)``, in order. A write
    as `find_input` is one."""
    return Write(_WAITING, {"run": run_id})


def drop_inputs(input_ids: Sequence[str], reason: str) -> Write:
    """Notes that nobody takes these inputs."""
    return Write(_DROP, {"inputs": list(input_ids), "reason": reason})


def hand_on_inputs(run_id: str, next_id: str, first: str, status: InputStatus) -> Write:
    """Gives all that a run has not taken to the next run, which is added in the same commit.

    Args:
        first: the oldest of these inputs.
        status: of that one: ``started`` if it is the next run's input, else ``waiting``.
    """
    return Write(_HAND_ON, {"run": run_id, "next": next_id, "first": first, "status": status})
