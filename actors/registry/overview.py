"""What a registry knows at a moment, for people who look at a server.

The gateway adds what only the machines of the actors know, and leaves out what its caller may not
read (`actors.gateway.overview`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.calls.names import registry_name
from actors.common.actor_process import here
from actors.registry.context import Context
from actors.registry.in_flight import Run
from actors.registry.members import MemberState
from actors.registry.pool import ActorPool
from greenroom.core.lifecycle import State


def overview(context: Context) -> dict[str, Any]:
    """Returns pools, actors with their runs, the queue, totals, and what has happened lately.

    Times are ISO 8601; ``place`` is that of an actor's process, or None.
    """
    runs = [*context.runs]
    executed = [run for run in runs if run.life.is_executed]
    pools = context.keeper.pools.distinct
    return {
        "pools": [_pool(pool) for pool in pools],
        "actors": _actors(context),
        "queue": [_queued(context, run) for run in runs if not run.life.is_executed],
        "totals": {"running": len(executed), "pending": len(runs) - len(executed)},
        "pulse": context.keeper.pulse.shown(),
        "problem": next((pool.problem for pool in pools if pool.problem), ""),
    }


def _pool(pool: ActorPool) -> dict[str, Any]:
    members = [*pool.members.values()]
    ready = [each for each in members if each.state is not MemberState.STARTING]
    busy = sum(1 for each in ready if each.runs)
    return {
        "name": pool.label,
        "graphs": [*pool.spec.graphs],
        "runs_per_actor": pool.spec.runs_per_actor,
        "overflow": pool.spec.overflow,
        "overflowing": pool.overflowing,
        "actors": len(members),
        "idle": len(ready) - busy,
        "busy": busy,
        "starting": pool.starts,
        "limit": pool.spec.max_actors,
    }


def _actors(context: Context) -> list[dict[str, Any]]:
    keeper = context.keeper
    of_registry = registry_name(context.shard.number)
    found = [
        {
            "name": of_registry,
            "kind": "registry",
            "pool": None,
            "state": "ready",
            "place": here(),
            "runs": [],
        }
    ]
    for pool in keeper.pools.distinct:
        for member in pool.members.values():
            runs = (context.runs.find(run_id) for run_id in sorted(member.runs))
            found.append(
                {
                    "name": member.name,
                    "kind": "run",
                    "pool": pool.label,
                    "state": str(member.state),
                    "place": keeper.processes.get(member.name),
                    "runs": [_executed(run) for run in runs if run is not None],
                }
            )
    names = keeper.inspectors.names if keeper.inspectors is not None else []
    inspector = {"kind": "inspector", "pool": None, "state": "ready", "place": None, "runs": []}
    return [*found, *({"name": name, **inspector} for name in names)]


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "graph_id": run.graph_id,
    }


def _executed(run: Run) -> dict[str, Any]:
    since = None
    if run.ordered_s is not None:
        since = _iso(time.time() - (time.monotonic() - run.ordered_s))
    paused = run.pause is not None and run.pause.since is not None
    return {**_facts(run), "attempt": run.attempt, "since": since, "paused": paused}


def _queued(context: Context, run: Run) -> dict[str, Any]:
    made = UUID(run.run_id)
    since = _iso((made.int >> 80) / 1000) if made.version == 7 else None  # it begins with its time
    return {**_facts(run), "since": since, "waits_for": _waits_for(context, run)}


def _waits_for(context: Context, run: Run) -> dict[str, Any]:
    match run.life.state:
        case State.DELAYED:
            return {"kind": "time", "until": None if run.due_s is None else _iso(run.due_s)}
        case State.QUEUED:
            lane = context.lanes.find(run.thread_id)
            active = lane.active if lane is not None else None
            return {"kind": "run", "run_id": None if active is None else active.run_id}
        case _:
            return {"kind": "slot"}


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()
