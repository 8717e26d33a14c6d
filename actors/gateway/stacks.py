"""The stacks of a run's process, as far as their reader may see them.

The actor is asked first; if it does not answer at once, code holds its interpreter, and the stacks
are written by a signal. Frames are shown to those who may read the run whose code they execute.
Where that is not known, as of a signal, they are shown to those who may read all runs of the
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set
from datetime import UTC, datetime
from typing import Any

from actors.calls.directory import Handles
from actors.gateway.machines import Machines
from actors.registry.executed_runs import Executed
from greenroom.core.errors import GreenroomError, Unavailable

LOOK_S = 0.07
"""How long an actor may take to show its stacks itself."""
SILENT = "The run's process does not answer, and wrote no stacks on a signal. Try again."

Row = dict[str, Any]


async def stacks(
    handles: Handles, machines: Machines, run_id: str, where: Executed, readable: Set[str]
) -> Row:
    """Returns the answer of ``.../stack``, without the ids of the run.

    Args:
        readable: the runs of the process that the caller may read.

    Raises:
        Unavailable: the process shows its stacks in no way.
    """
    sampling = asyncio.ensure_future(machines.sample({where.actor: where.process}))
    by = "actor"
    try:
        look: Row = await handles.call(where.actor, "look", within_s=LOOK_S)
    except GreenroomError:
        by, look = "signal", await _by_signal(machines, run_id, where)
    sample = (await sampling).get(where.actor)
    sees_all = readable >= where.threads.keys()

    def shown(each: Row) -> Row:
        owner: str = each.pop("owner")
        hidden = owner not in readable if owner else not (sees_all or where.isolated)
        if hidden:
            each = {**each, "frames": [], "hidden": True}
        return {**each, "of_this_run": owner == run_id}

    return {
        "attempt": where.attempt,
        "actor": where.actor,
        "host": where.process.host,
        "pid": where.process.pid,
        "taken_at": datetime.now(UTC).isoformat(),
        "by": by,
        "memory_bytes": None if sample is None else sample.memory_bytes,
        "cpu_percent": None if sample is None else sample.cpu_percent,
        "nodes": [_node(each) for each in look["nodes"].get(run_id, [])],
        "threads": [shown(each) for each in look["threads"]],
        "tasks": [shown(each) for each in look["tasks"]],
    }


async def _by_signal(machines: Machines, run_id: str, where: Executed) -> Row:
    if where.process.dumps < 0:
        raise Unavailable(SILENT)
    try:
        threads = await machines.stacks(where.process)
    except (OSError, GreenroomError):
        raise Unavailable(SILENT) from None
    if not threads:
        raise Unavailable(SILENT)
    for each in threads:
        if each["id"] == where.process.thread_id:
            each["name"] = each["name"] or "execute"
            each["owner"] = run_id if where.isolated else ""
    return {"nodes": {}, "threads": threads, "tasks": []}


def _node(each: Row) -> Row:
    since = datetime.fromtimestamp(each["since_ms"] / 1000, UTC).isoformat()
    return {
        "node": each["node"],
        "namespace": each["namespace"],
        "step": each["step"],
        "since": since,
    }
