"""The tree of a run's graphs, from the lifecycle events of its log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from greenroom.core.ports import JsonObject
from greenroom.core.thread_log import LogEvent, LogPart
from greenroom.wire.encoding import loads


async def tree_of(log: AsyncIterator[LogPart], run_id: str, graph_id: str) -> JsonObject:
    """Returns the graphs of a run, each with its status and the graphs that it has called.

    Args:
        log: the log of the run's thread; it is read as far as it is written.
        graph_id: the graph of the run.
    """
    root = _node((), "started", graph_id)
    nodes: dict[tuple[str, ...], JsonObject] = {(): root}
    async with aclosing(cast(Any, log)) as parts:
        async for part in parts:
            for event in part.events:
                if event.run_id == run_id and event.method == "lifecycle":
                    _add(nodes, event)
            if part.caught_up:
                return root
    return root


def _add(nodes: dict[tuple[str, ...], JsonObject], event: LogEvent) -> None:
    data: JsonObject = loads(event.event.data)
    node = nodes.get(event.namespace)
    if node is None:
        name = data.get("graph_name") or event.namespace[-1].partition(":")[0]
        node = nodes[event.namespace] = _node(event.namespace, "started", str(name))
        parent = next(
            nodes[event.namespace[:length]]
            for length in range(len(event.namespace) - 1, -1, -1)
            if event.namespace[:length] in nodes
        )
        parent.setdefault("children", []).append(node)
    node["status"] = data["event"]


def _node(namespace: tuple[str, ...], status: str, name: str) -> JsonObject:
    return {"namespace": list(namespace), "status": status, "graph_name": name}
