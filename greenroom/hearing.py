"""For graphs: hear what is said to a run while it is executed.

A graph that wants to take what is said itself is named so in ``langgraph.json``:

    graph = greenroom.listening(builder.compile())

Its nodes and tools ask ``greenroom.inbox()``. What a node takes belongs to that node: it is taken
for good with the node's writes, and a node that is executed again sees the same inputs again. For
agents of ``langchain`` there is `greenroom.SteeringMiddleware`, which does all of this.

Where a graph is not executed by Greenroom nobody says anything, and the same code runs.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, TypeVar

from greenroom.core.inputs import HeardInput
from greenroom.graphs.inbox import RunInbox, current_inbox
from greenroom.graphs.loading import LISTENS

G = TypeVar("G")


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """Something that was said to a run.

    Attributes:
        input_id: the id that its sender was answered.
        number: counts what was said to the run, from 1.
        update: the state update, as the sender gave it: JSON.
        said_at: the time, ISO 8601 with offset.
    """

    input_id: str
    number: int
    update: Any
    said_at: str


class Inbox:
    """What was said to the run that is executed, in order. `inbox` returns it."""

    def __init__(self, of_run: RunInbox | None) -> None:
        self._of_run = of_run

    def look(self) -> list[Said]:
        """Returns what no node has taken yet; takes nothing.

        Raises:
            RuntimeError: no node or tool calls this, or its graph is not `listening`.
        """
        return [] if self._of_run is None else _said(self._of_run.look())

    def take(self) -> list[Said]:
        """Takes all that waits; an empty list if nothing does. Raises as `look` does."""
        return [] if self._of_run is None else _said(self._of_run.take())

    def hear(self, timeout_s: float | None = None) -> list[Said]:
        """Waits until something was said, then takes it; for nodes and tools that are not async.

        Args:
            timeout_s: the longest wait in seconds; None: until something is said.

        Returns:
            what was said; an empty list after the time-out, or when the run is cancelled.

        Raises:
            RuntimeError: as of `look`; or nobody can ever say anything, and there is no time-out.
        """
        of_run = self._refuse_for_ever(timeout_s)
        if of_run is None:
            time.sleep(timeout_s or 0.0)
            return []
        of_run.look()  # refuses those who may not ask, and what an earlier try took waits again
        return self.take() if of_run.wait(timeout_s) else []

    async def ahear(self, timeout_s: float | None = None) -> list[Said]:
        """As `hear`, for nodes and tools that are async."""
        of_run = self._refuse_for_ever(timeout_s)
        if of_run is None:
            await asyncio.sleep(timeout_s or 0.0)
            return []
        of_run.look()
        return self.take() if await of_run.arrival(timeout_s) else []

    async def arrival(self) -> None:
        """Returns when something waits; takes nothing. Outside of a server it never returns."""
        if self._of_run is None:
            await asyncio.Event().wait()
            return
        self._of_run.look()
        await self._of_run.arrival(None)

    def _refuse_for_ever(self, timeout_s: float | None) -> RunInbox | None:
        if self._of_run is None and timeout_s is None:
            raise RuntimeError(
                "Nobody can say anything to this graph, since no server executes it, and this would"
                " wait for ever: give a timeout_s."
            )
        return self._of_run


def inbox() -> Inbox:
    """Returns the inbox of the run that is executed; for nodes and tools of a graph."""
    return Inbox(current_inbox.get())


def listening(graph: G) -> G:
    """Declares that a graph takes what is said to its runs itself (`inbox`); returns the graph.

    Otherwise a server applies it to the run's state between two supersteps.

    Args:
        graph: a compiled graph. Do this last: a copy, e.g. by ``with_config``, does not listen.
    """
    setattr(graph, LISTENS, True)
    return graph


def _said(heard: list[HeardInput]) -> list[Said]:
    return [
        Said(
            input_id=each.input_id,
            number=each.number,
            update=(each.command or {}).get("update") if each.update is None else each.update,
            said_at=each.said_at,
        )
        for each in heard
    ]
