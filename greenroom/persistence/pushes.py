"""Push notifications of A2A tasks: deliveries of the outbox that tell the state of a task.

`announce` inserts one for each configuration of a run's task, in the transaction that ends the run.
A client may configure them while the run ends: `PUT` locks the task's runs, so either the end sees
the configuration, or the configuration sees the end.
"""

from __future__ import annotations

from typing import Any

import orjson

from greenroom.persistence.database import timestamp
from greenroom.persistence.journal import Write

TOKEN = "x-a2a-notification-token"

_STATES = {
    "success": "completed",
    "error": "failed",
    "timeout": "failed",
    "interrupted": "canceled",
}

_DELIVERIES = """
INSERT INTO greenroom.webhooks (run_id, url, thread_id, assistant_id, metadata, status, kwargs,
    multitask_strategy, created_at, ended_at, push)
SELECT md5(r.run_id::text || ':' || p.config_id)::uuid, p.content->>'url', r.thread_id,
    r.assistant_id, r.metadata::json, r.status, '{}', r.multitask_strategy,
    r.created_at, r.updated_at,
    jsonb_build_object('task_id', p.task_id, 'content', p.content, 'waits',
        coalesce(t.interrupts::text NOT IN ('{}', 'null'), false))
"""
_OVER = "r.status NOT IN ('pending', 'running')"
_ONCE = "ON CONFLICT (run_id) DO NOTHING"

_ANNOUNCE = f"""{_DELIVERIES}
FROM greenroom.runs r
JOIN greenroom.a2a_pushes p ON p.thread_id = r.thread_id
    AND p.task_id = CASE WHEN r.metadata->'a2a'->>'task_id'
        ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
        THEN (r.metadata->'a2a'->>'task_id')::uuid END
LEFT JOIN greenroom.threads t ON t.thread_id = r.thread_id
WHERE r.run_id = %(run)s AND {_OVER} {_ONCE}"""

PUT = f"""
WITH locked AS (
    SELECT * FROM greenroom.runs WHERE thread_id = %(thread)s
        AND metadata @> jsonb_build_object('a2a', jsonb_build_object('task_id', %(task)s::text))
    FOR SHARE),
put AS (
    INSERT INTO greenroom.a2a_pushes AS p (task_id, config_id, thread_id, content)
    SELECT %(task)s::uuid, %(config)s, %(thread)s, %(content)s::jsonb
    WHERE EXISTS (SELECT 1 FROM locked)
    ON CONFLICT (task_id, config_id) DO UPDATE SET content = excluded.content
    RETURNING task_id, config_id, content),
told AS ({_DELIVERIES}
    FROM (SELECT * FROM locked ORDER BY created_at DESC, run_id DESC LIMIT 1) r
    CROSS JOIN put p LEFT JOIN greenroom.threads t ON t.thread_id = r.thread_id
    WHERE %(tells)s AND {_OVER} {_ONCE})
SELECT content FROM put"""
"""Stores a configuration; with ``tells``, a run that is over by now is told as well."""


def announce(run_id: str) -> Write:
    """Returns the write that inserts the deliveries for a run of a task. May be repeated.

    It belongs after the writes that end the run and rest its thread.
    """
    return Write(_ANNOUNCE, {"run": run_id})


def body(row: dict[str, Any]) -> bytes:
    """Returns the JSON of a delivery: the task, in the words of the configuration's version."""
    push = row["push"]
    state = _STATES[row["status"]]
    if state == "completed" and push["waits"]:
        state = "input-required"
    task: dict[str, Any] = {"id": push["task_id"], "contextId": row["thread_id"]}
    status = {"state": state, "timestamp": timestamp(row["ended_at"])}
    if push["content"]["version"] == "0.3":
        return orjson.dumps({"kind": "task", **task, "status": status})
    status["state"] = f"TASK_STATE_{state.upper().replace('-', '_')}"
    return orjson.dumps({"task": {**task, "status": status}})


def headers(row: dict[str, Any]) -> dict[str, str]:
    """Returns the headers that the client wanted: its token, its credentials."""
    content = row["push"]["content"]
    found: dict[str, str] = {}
    if content.get("token"):
        found[TOKEN] = content["token"]
    if content.get("credentials"):
        found["authorization"] = f"{content.get('scheme') or 'Bearer'} {content['credentials']}"
    return found
