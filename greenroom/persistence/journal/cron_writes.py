"""Writes about crons: what clients want of them, and their next dates."""

from __future__ import annotations

from greenroom.core.crons import Cron, Firing
from greenroom.persistence.journal.group_commit import Write
from greenroom.persistence.making_once import HELD, MAY_MAKE, NOTED, params_of

# --- SQL under names ------------------------------------------------------------------------------

_STORE = """
WITH made AS (
    INSERT INTO greenroom.crons (cron_id, assistant_id, thread_id, schedule, timezone, end_time,
        enabled, on_run_completed, payload, metadata, next_run_date, created_at, updated_at,
        user_id, auth_user, scope)
    SELECT %(cron)s, a.assistant_id, %(thread)s::text, %(schedule)s, %(timezone)s, %(end)s,
        %(enabled)s, %(on_run_completed)s, %(payload)s::json, %(metadata)s::jsonb, %(next)s, t, t,
        %(user_id)s, %(user)s::json, %(scope)s::json
    FROM greenroom.assistants a, (SELECT clock_timestamp() AS t) AS now
    WHERE a.assistant_id = %(assistant)s AND (%(thread)s::text IS NULL
        OR EXISTS (SELECT 1 FROM greenroom.threads WHERE thread_id = %(thread)s))
    ON CONFLICT (cron_id) DO NOTHING
    RETURNING cron_id)
SELECT cron_id FROM made UNION ALL SELECT cron_id FROM greenroom.crons WHERE cron_id = %(cron)s"""

_STORE_ONCE = (
    _STORE.replace("WITH made", f"{HELD}, made")
    .replace("ON CONFLICT", f"AND {MAY_MAKE} ON CONFLICT")
    .replace("RETURNING cron_id)", f"RETURNING cron_id), {NOTED}")
)

_CHANGE = """
UPDATE greenroom.crons SET schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end)s,
    enabled = %(enabled)s, on_run_completed = %(on_run_completed)s, payload = %(payload)s::json,
    metadata = %(metadata)s::jsonb, next_run_date = coalesce(%(next)s, next_run_date),
    revision = revision + 1, updated_at = clock_timestamp()
WHERE cron_id = %(cron)s AND revision = %(revision)s RETURNING cron_id"""

_DELETE = "DELETE FROM greenroom.crons WHERE cron_id = %(cron)s"

_IS_DUE = "cron_id = %(cron)s AND next_run_date = %(due)s AND revision = %(revision)s"
_ADVANCE = f"UPDATE greenroom.crons SET next_run_date = %(next)s WHERE {_IS_DUE} RETURNING cron_id"
_ADVANCE_WITH_RUN = _ADVANCE.replace(
    " RETURNING", " AND EXISTS (SELECT 1 FROM greenroom.runs WHERE run_id = %(run)s) RETURNING"
)
_DISABLE = f"""
UPDATE greenroom.crons SET enabled = false, revision = revision + 1, updated_at = clock_timestamp()
WHERE {_IS_DUE}"""


# --- writes ---------------------------------------------------------------------------------------


def store_cron(cron: Cron) -> Write:
    """Adds a new cron. The write gives its id, or no row without its thread or its assistant.

    A cron with an ``Idempotency-Key`` is only added while the key is reserved and has not made it
    before.
    """
    if cron.once is None:
        return Write(_STORE, _params(cron))
    return Write(_STORE_ONCE, _params(cron) | params_of(cron.once, cron.cron_id))


def change_cron(cron: Cron) -> Write:
    """Changes a cron. The write gives its id, or no row if another change came first."""
    return Write(_CHANGE, _params(cron))


def delete_cron(cron_id: str) -> Write:
    """Deletes a cron."""
    return Write(_DELETE, {"cron": cron_id})


def advance_cron(firing: Firing, run_id: str | None = None) -> Write:
    """Takes a due date off a cron. The write gives its id, or no row if that was done already.

    Args:
        run_id: the run of the firing, which the same commit adds; without it the date stays, since
            the admission was refused. None: the date is taken off without a run.
    """
    params = {"cron": firing.cron_id, "due": firing.due, "revision": firing.revision}
    sql = _ADVANCE if run_id is None else _ADVANCE_WITH_RUN
    return Write(sql, params | {"next": firing.next_run_date, "run": run_id})


def disable_cron(cron_id: str, due: object, revision: int) -> Write:
    """Disables a cron whose next date cannot be found."""
    return Write(_DISABLE, {"cron": cron_id, "due": due, "revision": revision})


def _params(cron: Cron) -> dict[str, object]:
    return {
        "cron": cron.cron_id,
        "assistant": cron.assistant_id,
        "thread": cron.thread_id,
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "end": cron.end_time,
        "enabled": cron.enabled,
        "on_run_completed": cron.on_run_completed,
        "payload": cron.payload.decode(),
        "metadata": cron.metadata.decode(),
        "next": cron.next_run_date,
        "revision": cron.revision,
        "user_id": cron.user_id,
        "user": cron.user,
        "scope": None if cron.scope.is_everything else cron.scope.to_json(),
    }
