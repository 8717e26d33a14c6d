"""Puts together what all registries know, and what the machines of their actors know."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from actors.calls.directory import Handles
from actors.common.actor_process import ActorProcess
from actors.common.neighbours import Sample
from actors.gateway.machines import Machines
from greenroom.core.errors import GreenroomError

NODES_S = 0.25
"""How long an actor may take to say which nodes run; code that holds its interpreter is silent."""
ROW_S = 10
ROWS = 60
DEATHS_SHOWN = 50

Row = dict[str, Any]


async def put_together(
    parts: list[Row], handles: Handles, machines: Machines, readable: set[str] | None
) -> Row:
    """Returns the answer of ``/runtime``.

    Args:
        parts: the overviews of the registries.
        readable: the threads of which the caller may read; None for all.
    """
    at = datetime.now(UTC)
    actors = [actor for part in parts for actor in part["actors"]]
    busy = [actor["name"] for actor in actors if actor["runs"]]
    processes = {actor["name"]: actor["place"] for actor in actors if actor["place"] is not None}
    sampling = asyncio.ensure_future(machines.sample(processes))
    nodes = await asyncio.gather(*(_nodes(handles, name) for name in busy))
    samples = await sampling
    running: dict[str, list[Row]] = {}
    for of_actor in nodes:
        running |= of_actor
    totals = {name: sum(part["totals"][name] for part in parts) for name in ("running", "pending")}
    return {
        "at": at.isoformat(),
        "pools": _pools(parts),
        "actors": [_actor(each, samples, running, readable) for each in actors],
        "queue": [
            each
            for part in parts
            for each in part["queue"]
            if readable is None or each["thread_id"] in readable
        ],
        "totals": totals,
        "rates": _rates(parts, at),
        "latency": {
            "first_event_ms": _percentiles(parts, "first_event_s"),
            "queued_ms": _percentiles(parts, "queued_s"),
        },
        "deaths": _deaths(parts, readable),
        "problem": next((part["problem"] for part in parts if part["problem"]), None),
    }


def threads_of(parts: Iterable[Row]) -> set[str]:
    """Returns the threads that rows of the overviews name."""
    found: set[str] = set()
    for part in parts:
        found |= {run["thread_id"] for actor in part["actors"] for run in actor["runs"]}
        found |= {run["thread_id"] for run in part["queue"]}
        found |= {death.thread_id for death in part["pulse"]["deaths"] if death.thread_id}
    return found


async def _nodes(handles: Handles, actor: str) -> dict[str, list[Row]]:
    try:
        return await handles.call(actor, "nodes", within_s=NODES_S)
    except GreenroomError:
        return {}


def _pools(parts: list[Row]) -> list[Row]:
    found: dict[str, Row] = {}
    for each in (pool for part in parts for pool in part["pools"]):
        known = found.get(each["name"])
        if known is None:
            found[each["name"]] = dict(each)
            continue
        for number in ("actors", "idle", "busy", "starting", "limit", "overflowing"):
            known[number] += each[number]
    return [*found.values()]


def _actor(
    actor: Row,
    samples: Mapping[str, Sample],
    running: Mapping[str, list[Row]],
    readable: set[str] | None,
) -> Row:
    place: ActorProcess | None = actor["place"]
    sample = samples.get(actor["name"])
    return {
        "name": actor["name"],
        "kind": actor["kind"],
        "pool": actor["pool"],
        "state": actor["state"],
        "pid": None if place is None else place.pid,
        "host": None if place is None else place.host,
        "since": None if place is None else _iso(place.since_s),
        "debug_port": None if place is None else place.debug_port,
        "memory_bytes": None if sample is None else sample.memory_bytes,
        "cpu_percent": None if sample is None else sample.cpu_percent,
        "runs_total": len(actor["runs"]),
        "runs": [
            {**run, "node": _innermost(running.get(run["run_id"]))}
            for run in actor["runs"]
            if readable is None or run["thread_id"] in readable
        ],
    }


def _innermost(nodes: list[Row] | None) -> str | None:
    """Returns the node that began last: a node of a subgraph runs within one of its graph."""
    return nodes[-1]["node"] if nodes else None


def _rates(parts: list[Row], at: datetime) -> list[Row]:
    newest = int(at.timestamp()) // ROW_S * ROW_S
    counted = {newest - ROW_S * n: [0, 0, 0] for n in range(ROWS)}
    for row_at, *numbers in (row for part in parts for row in part["pulse"]["rows"]):
        if row_at in counted:
            counted[row_at] = [a + b for a, b in zip(counted[row_at], numbers, strict=True)]
    return [
        {"at": _iso(row_at), "started": started, "ended": ended, "failed": failed}
        for row_at, (started, ended, failed) in sorted(counted.items())
    ]


def _percentiles(parts: list[Row], name: str) -> Row:
    took = sorted(seconds for part in parts for seconds in part["pulse"][name])
    if not took:
        return {"p50": None, "p95": None}
    last = len(took) - 1
    return {f"p{n}": round(took[round(last * n / 100)] * 1000, 1) for n in (50, 95)}


def _deaths(parts: list[Row], readable: set[str] | None) -> list[Row]:
    found = sorted(
        (death for part in parts for death in part["pulse"]["deaths"]),
        key=lambda death: death.at_s,
        reverse=True,
    )
    return [
        {
            "at": _iso(death.at_s),
            "actor": death.actor,
            "what": death.what,
            **(
                {"run_id": death.run_id, "thread_id": death.thread_id}
                if readable is None or death.thread_id in readable
                else {"run_id": None, "thread_id": None}
            ),
        }
        for death in found[:DEATHS_SHOWN]
    ]


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat()
