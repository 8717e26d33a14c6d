"""The nodes that an attempt executes, and has executed: what is noted of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NO_NODES = b"[]"
"""No attempt has reported its nodes: the empty form of `Report.nodes`."""
MOST_NOTED = 1_000
"""How many nodes of an attempt are noted; of a longer one the last."""


def is_of_the_graph(name: str) -> bool:
    """Whether somebody has written a node: LangGraph itself has ``__start__``."""
    return not name.startswith("__")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeNote:
    """A task of a superstep: one node with one input.

    Attributes:
        namespace: of the graph that has the node; empty for the root.
        step: the superstep.
        task_id: LangGraph's id of the task.
        start_ms, end_ms: Unix milliseconds; without an end it runs, or was cut off.
        error: the name and the text of the error that it raised.
    """

    name: str
    namespace: str
    step: int
    task_id: str
    start_ms: int
    end_ms: int | None = None
    error: str | None = None

    def packed(self) -> list[Any]:
        """Returns the note as a short JSON array."""
        whole = [self.name, self.namespace, self.step, self.task_id, self.start_ms, self.end_ms]
        return [*whole, self.error] if self.error is not None else whole


def unpacked(packed: list[Any]) -> NodeNote:
    """Returns what `NodeNote.packed` has packed."""
    name, namespace, step, task_id, start_ms, end_ms, *error = packed
    return NodeNote(
        name=name,
        namespace=namespace,
        step=step,
        task_id=task_id,
        start_ms=start_ms,
        end_ms=end_ms,
        error=error[0] if error else None,
    )
