"""Writes about runs: admission, attempts, cancels, ends."""

from __future__ import annotations

import json
import time
from typing import Literal

from greenroom.core.crons import Firing
from greenroom.core.nodes import NO_NODES
from greenroom.core.runs import CancelAction, RunRequest, RunStatus
from greenroom.core.timeline import Entry
from greenroom.persistence.journal.group_commit import Write
from greenroom.persistence.making_once import FORGET, HELD, MAY_MAKE, NOTED, params_of
from greenroom.persistence.scoping import named_condition

Requeued = Literal["died", "not ordered", "drained", "cut off"]
"""Why a run is pending again: its process died; its actor never had the order, since the registry
died in between; its actor handed it back; it did not reach the end of a superstep in time."""

# --- SQL under names ------------------------------------------------------------------------------

# A run belongs to the log of its thread if it asks for that, or if the thread has a log. It is
# numbered when it begins. A thread has a log from its first logged run on.
_NEXT_IN_LOG = """log_runs = threads.log_runs + CASE
            WHEN %(logged)s AND threads.log_runs = 0 THEN 1
            WHEN %(actor)s::text IS NOT NULL AND threads.log_runs > 0 THEN 1 ELSE 0 END"""

_MADE_THREAD = f"""
    INSERT INTO greenroom.threads (thread_id, status, metadata, config, log_runs)
    SELECT %(thread)s, 'busy', %(run_metadata)s::jsonb || %(thread_metadata)s::jsonb,
        %(config)s::jsonb, CASE WHEN %(logged)s THEN 1 ELSE 0 END
    FROM fresh WHERE NOT EXISTS (SELECT 1 FROM known)
    ON CONFLICT (thread_id) DO UPDATE SET status = 'busy',
        metadata = threads.metadata || %(thread_metadata)s::jsonb,
        config = threads.config || %(config)s::jsonb,
        updated_at = clock_timestamp(), {_NEXT_IN_LOG}
    WHERE {{scope}}
    RETURNING thread_id, metadata, log_runs"""

_FOUND_THREAD = f"""
    UPDATE greenroom.threads SET status = 'busy',
        metadata = threads.metadata || %(thread_metadata)s::jsonb,
        config = threads.config || %(config)s::jsonb,
        updated_at = clock_timestamp(), {_NEXT_IN_LOG}
    WHERE thread_id = %(thread)s AND NOT EXISTS (SELECT 1 FROM known)
        AND EXISTS (SELECT 1 FROM fresh) AND {{scope}}
    RETURNING thread_id, metadata, log_runs"""

_ADMIT = """
WITH known AS (
    SELECT created_at, status IN ('pending', 'running') AS is_current, metadata, logged, log_number
    FROM greenroom.runs WHERE run_id = %(run)s),
fresh AS (
    SELECT WHERE %(state)s::bigint IS NULL OR EXISTS (
        SELECT 1 FROM greenroom.assistants
        WHERE assistant_id = %(assistant)s AND revision = %(state)s::bigint)),
thread AS ({thread}),
merged AS (
    SELECT thread_id, %(defaults)s::jsonb
        || (metadata - '{thread_id,run_id,graph_id,assistant_id}'::text[])
        || %(run_metadata)s::jsonb AS metadata, log_runs, %(logged)s OR log_runs > 0 AS logged
    FROM thread),
made AS (
    INSERT INTO greenroom.runs (run_id, thread_id, assistant_id, graph_id, status, attempt,
        actor, kwargs, metadata, multitask_strategy, temporary, resumable, resumes, webhook,
        due_at, started_at, assistant_version, assistant_revision, caller,
        auth_user, logged, log_number, history)
    SELECT %(run)s, thread_id, %(assistant)s, %(graph)s, %(status)s, %(attempt)s, %(actor)s,
        (%(kwargs)s::text || coalesce(metadata::text || %(more_kwargs)s::text, ''))::json,
        metadata, %(strategy)s, %(temporary)s, %(resumable)s OR logged,
        %(resumes)s, %(webhook)s,
        CASE WHEN %(after_s)s::float8 > 0
            THEN clock_timestamp() + make_interval(secs => %(after_s)s::float8) END,
        CASE WHEN %(actor)s::text IS NOT NULL THEN clock_timestamp() END,
        %(version)s, %(state)s, %(caller)s, %(user)s::json, logged,
        CASE WHEN logged AND %(actor)s::text IS NOT NULL THEN log_runs END, %(history)s::jsonb
    FROM merged
    ON CONFLICT (run_id) DO NOTHING
    RETURNING created_at, metadata, logged, log_number)
SELECT created_at, true, NOT EXISTS (
    SELECT 1 FROM checkpoints WHERE thread_id = %(thread)s), metadata::text, logged,
    log_number FROM made
UNION ALL SELECT created_at, is_current, false, metadata::text, logged, log_number FROM known
UNION ALL SELECT NULL, false, false, NULL, false, NULL WHERE NOT EXISTS (SELECT 1 FROM fresh)
    AND NOT EXISTS (SELECT 1 FROM known)"""
_ADMIT_MAKING_THREAD = _ADMIT.replace("{thread}", _MADE_THREAD)
_ADMIT_ON_THREAD = _ADMIT.replace("{thread}", _FOUND_THREAD)

_NEW = "NOT EXISTS (SELECT 1 FROM known)"
_NEW_AND_DUE = f"""{_NEW} AND EXISTS (SELECT 1 FROM greenroom.crons
    WHERE cron_id = %(cron)s AND next_run_date = %(due)s AND revision = %(revision)s)"""
_FIRE_MAKING_THREAD = _ADMIT_MAKING_THREAD.replace(_NEW, _NEW_AND_DUE)
_FIRE_ON_THREAD = _ADMIT_ON_THREAD.replace(_NEW, _NEW_AND_DUE)

_NEW_AND_NOT_SAID = f"""{_NEW} AND NOT EXISTS (
    SELECT 1 FROM greenroom.run_inputs WHERE input_id = %(injected)s)"""

_ONCE_MAKING_THREAD, _ONCE_ON_THREAD = (
    sql.replace(_NEW, f"{_NEW} AND {MAY_MAKE}")
    .replace("WITH known", f"{HELD}, known")
    .replace(
        "RETURNING created_at, metadata, logged, log_number)\nSELECT",
        f"RETURNING created_at, metadata, logged, log_number),{NOTED}\nSELECT",
    )
    for sql in (_ADMIT_MAKING_THREAD, _ADMIT_ON_THREAD)
)

_CREATED = "SELECT created_at, metadata::text FROM greenroom.runs WHERE run_id = %(run)s"

_START = """
UPDATE greenroom.runs SET status = 'running', attempt = %(attempt)s, actor = %(actor)s,
    started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp(),
    history = history || %(history)s::jsonb
WHERE run_id = %(run)s AND status IN ('pending', 'running') AND attempt <= %(attempt)s
RETURNING kwargs::text, attempt = 1 AND NOT EXISTS (
    SELECT 1 FROM checkpoints WHERE checkpoints.thread_id = runs.thread_id)"""

_NUMBERED = """
WITH numbered AS (
    UPDATE greenroom.threads SET log_runs = log_runs + 1
    WHERE thread_id = %(thread)s AND EXISTS (
        SELECT 1 FROM greenroom.runs WHERE run_id = %(run)s AND log_number IS NULL)
    RETURNING log_runs)
"""
_START_LOGGED = (
    _NUMBERED
    + _START.strip().replace(
        "SET status",
        "SET log_number = coalesce(log_number, (SELECT log_runs FROM numbered)), status",
    )
    + ", log_number"
)
_NUMBER = f"""{_NUMBERED}
UPDATE greenroom.runs SET log_number = (SELECT log_runs FROM numbered)
WHERE run_id = %(run)s AND log_number IS NULL"""

_STORE_CANCEL = "UPDATE greenroom.runs SET stop = coalesce(stop, %(stop)s) WHERE run_id = %(run)s"

_REQUEUE = """
UPDATE greenroom.runs SET status = 'pending', actor = NULL, deaths = deaths + %(deaths)s,
    requeued_because = %(because)s, updated_at = clock_timestamp(),
    history = history || %(history)s::jsonb, nodes = nodes || %(nodes)s::jsonb
WHERE run_id = %(run)s AND status = 'running' AND attempt = %(attempt)s"""

_NOTE_CANCEL = "INSERT INTO greenroom.cancels (name) VALUES (%(name)s) ON CONFLICT DO NOTHING"

_END = """
UPDATE greenroom.runs SET status = %(status)s, error = %(error)s, due_at = NULL,
    output_keys = %(output_keys)s::jsonb, updated_at = clock_timestamp(), pause = NULL,
    history = history || jsonb_build_array(jsonb_build_array('end', %(at_ms)s::bigint, attempt)),
    nodes = nodes || %(nodes)s::jsonb
WHERE run_id = %(run)s AND status IN ('pending', 'running')"""

_DELETE_EVENTS = "DELETE FROM greenroom.run_events WHERE run_id = %(run)s"
_DELETE = "DELETE FROM greenroom.runs WHERE run_id = %(run)s"

_DELETE_NOT_OVER = f"{_DELETE} AND status IN ('pending', 'running')"
_FORGET_RUN = f"{FORGET} AND NOT EXISTS (SELECT 1 FROM greenroom.runs WHERE run_id = %(run)s)"

_KEEP_HEADS = """
SELECT greenroom.save_heads(run_id, thread_id,
    kwargs->'config'->'configurable'->>'checkpoint_id')
FROM greenroom.runs WHERE run_id = %(run)s AND resumes"""


# --- writes ---------------------------------------------------------------------------------------


def admit(
    request: RunRequest,
    *,
    actor: str | None,
    firing: Firing | None = None,
    begin: Entry | None = None,
) -> Write:
    """Adds a new run and makes its thread ``busy``.

    The write gives ``(created_at, is_current, is_first, metadata, logged, number)``, or no row when
    the thread does not exist, or is outside the request's scope. A run that is there already stays
    as it is, and so does its thread; ``is_current`` is false if that run is over. ``is_first`` says
    that the thread has no checkpoint. ``metadata`` is the run's: what it was given over its
    thread's, over the request's ``defaults``. ``logged`` says whether it belongs to the log of its
    thread, and ``number`` is its number there, if it has one. A row whose ``created_at`` is None
    says that the assistant is not any more in the state that the request was made from; nothing was
    added.

    Args:
        request: the run.
        actor: the actor that executes the run in attempt 1, at once; None: the run is pending.
        firing: the due date of a cron that the run is for. The run is added only if the cron is
            still due then; the caller commits `cron_writes.advance_cron` with it.
        begin: the entry of attempt 1 in the run's history.

    A run with an ``Idempotency-Key`` is only added while the key is reserved and has not made it
    before, and one with an injection only if it was not said to another run before; otherwise the
    write gives no row.
    """
    thread_metadata = (
        {}
        if request.temporary
        else {"graph_id": request.graph_id, "assistant_id": request.assistant_id}
    )
    kwargs, more_kwargs = request.kwargs_around()
    scope, values = named_condition(request.scope, "threads.metadata")
    making, finding = _ADMIT_MAKING_THREAD, _ADMIT_ON_THREAD
    due: dict[str, object] = {}
    if firing is not None:
        making, finding = _FIRE_MAKING_THREAD, _FIRE_ON_THREAD
        due = {"cron": firing.cron_id, "due": firing.due, "revision": firing.revision}
    if request.once is not None:
        making, finding = _ONCE_MAKING_THREAD, _ONCE_ON_THREAD
        due = params_of(request.once, request.run_id)
    sql = making if request.create_thread else finding
    if request.injection is not None:
        sql = sql.replace(_NEW, _NEW_AND_NOT_SAID)
        due["injected"] = request.injection.input_id
    return Write(
        sql.replace("{scope}", scope),
        {
            **due,
            **values,
            "user": request.user,
            "run": request.run_id,
            "thread": request.thread_id,
            "assistant": request.assistant_id,
            "version": request.assistant_version,
            "state": request.assistant_revision,
            "graph": request.graph_id,
            "status": RunStatus.RUNNING if actor else RunStatus.PENDING,
            "attempt": 1 if actor else 0,
            "actor": actor,
            "kwargs": str(kwargs, "utf-8"),
            "more_kwargs": None if more_kwargs is None else str(more_kwargs, "utf-8"),
            "defaults": request.defaults.decode(),
            "run_metadata": request.metadata.decode(),
            "config": request.thread_config.decode(),
            "thread_metadata": json.dumps(thread_metadata),
            "strategy": request.multitask_strategy,
            "temporary": request.temporary,
            "resumable": request.resumable,
            "resumes": request.resumes,
            "webhook": request.webhook,
            "after_s": request.after_s,
            "caller": request.caller,
            "logged": request.logged,
            "history": _entries(begin),
        },
    )


def created(run_id: str) -> Write:
    """Reads of a run that may be there: the write gives ``(created_at, metadata)``, or no row.

    It is a write because it must see all earlier writes.
    """
    return Write(_CREATED, {"run": run_id})


def start(
    run_id: str,
    attempt: int,
    actor: str,
    *,
    log_of: str | None = None,
    begin: Entry | None = None,
) -> Write:
    """Begins an attempt of a run on an actor. The write gives ``(kwargs, is_first)``.

    Args:
        log_of: the thread to whose log the run belongs, if it does: the run is numbered there, and
            the write gives its number as well.
        begin: the entry of the attempt in the run's history.

    ``is_first`` says that the thread has no checkpoint. It is false for each later attempt: the
    attempt before may have written a checkpoint while this statement waited for it.
    """
    given = {"run": run_id, "attempt": attempt, "actor": actor, "history": _entries(begin)}
    if log_of is not None:
        return Write(_START_LOGGED, {**given, "thread": log_of})
    return Write(_START, given)


def number_run(run_id: str, thread_id: str) -> Write:
    """Numbers a run of its thread's log that ends without having begun; does nothing otherwise."""
    return Write(_NUMBER, {"run": run_id, "thread": thread_id})


def store_cancel(run_id: str, action: CancelAction) -> Write:
    """Records the cancel of a run; the first action stays."""
    return Write(_STORE_CANCEL, {"run": run_id, "stop": action})


def requeue(run_id: str, attempt: int, because: Requeued, nodes: bytes = NO_NODES) -> Write:
    """Makes a run pending again after the loss of its attempt.

    From now on the fence rejects all writes of that attempt.

    Args:
        run_id: the run.
        attempt: the lost attempt; a run in a later attempt does not change.
        because: the reason for the run's record; only ``died`` counts as a death.
        nodes: as of `Report.nodes`.
    """
    return Write(
        _REQUEUE,
        {
            "run": run_id,
            "attempt": attempt,
            "because": because,
            "deaths": int(because == "died"),
            "history": _entries(["lost", _now_ms(), attempt, because]),
            "nodes": nodes.decode(),
        },
    )


def note_cancel(name: str) -> Write:
    """Notes that a cancel, or a request to pause, was accepted: its repetition may arrive after the
    run's end, or at another registry."""
    return Write(_NOTE_CANCEL, {"name": name})


def end_run(
    run_id: str,
    status: RunStatus,
    error: bytes | None,
    output_keys: bytes | None = None,
    nodes: bytes = NO_NODES,
) -> Write:
    """Ends a run that is not over.

    Args:
        run_id: the run.
        status: a terminal status.
        error: JSON.
        output_keys: JSON, as in `Outcome`; by them the thread's values become the run's output.
        nodes: as of `Report.nodes`.
    """
    return Write(
        _END,
        {
            "run": run_id,
            "status": status,
            "error": error.decode() if error is not None else None,
            "output_keys": output_keys.decode() if output_keys is not None else None,
            "at_ms": _now_ms(),
            "nodes": nodes.decode(),
        },
    )


def delete_run(run_id: str) -> tuple[Write, Write]:
    """Deletes the run's record and its durable events."""
    return Write(_DELETE_EVENTS, {"run": run_id}), Write(_DELETE, {"run": run_id})


def take_back(request: RunRequest) -> list[Write]:
    """Deletes a run that was not started, and forgets that its key has made it.

    A run that is over stays: its create was repeated.
    """
    writes = [Write(_DELETE_NOT_OVER, {"run": request.run_id})]
    if request.once is not None:
        writes.append(
            Write(_FORGET_RUN, {**params_of(request.once, request.run_id), "run": request.run_id})
        )
    return writes


def keep_heads(run_id: str) -> Write:
    """Copies the checkpoints that a run which resumes may write onto, for a rollback.

    The registry commits this with the start of the run.
    """
    return Write(_KEEP_HEADS, {"run": run_id})


def _entries(entry: Entry | None) -> str:
    """Returns what is appended to the history of a run (`greenroom.core.timeline`)."""
    return json.dumps([] if entry is None else [entry])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
