"""Holds an execution between two supersteps of its root graph (`greenroom.core.pausing`).

LangGraph ends the execution before its next superstep, as for what is said to a run
(`greenroom.graphs.taking`). Here it waits, and then it goes on from the checkpoint. What is said
meanwhile is taken when it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained

from greenroom.core.pausing import Pause
from greenroom.core.waiting import happens_within
from greenroom.graphs.loading import Graph

LOOK_S = 5.0
"""How often an execution that waits asks for what is wanted: the notice may have been lost."""

Tell = Callable[[str, tuple[str, ...], int | None], Awaitable[None]]
"""Tells the registry that the attempt waits: the name of the pause, `Pause.next`, `Pause.step`."""


class PauseGate:
    """Where one attempt waits. On the loop that executes graphs.

    Args:
        tell: as `Tell`; returns when it is stored.
        look: asks for what is wanted; `hear` gets it.
        held: called with True when the attempt waits, and with False when it goes on.
    """

    def __init__(self, tell: Tell, look: Callable[[], None], held: Callable[[bool], None]) -> None:
        self._tell = tell
        self._look = look
        self._held = held
        self._wanted: Pause | None = None
        self._released = ""
        self._is_draining = False
        self._changed = asyncio.Event()

    @property
    def is_due(self) -> bool:
        """Whether the execution waits before its next superstep."""
        return self._wanted is not None

    def hear(self, wanted: Pause | None) -> None:
        """Takes what is wanted now."""
        self._wanted = wanted
        self._changed.set()

    def drain(self) -> None:
        """Ends the wait, and the attempt with it; the next attempt waits."""
        self._is_draining = True
        self._changed.set()

    async def wait(self, graph: Graph, config: RunnableConfig, *, has_begun: bool) -> bool:
        """Waits while a pause is wanted; returns whether one superstep is to be executed, after
        which the run waits again.

        Args:
            graph: opened for the run.
            config: of the execution that would follow.
            has_begun: whether a checkpoint of the run is there.

        Raises:
            GraphDrained: the actor drains.
        """
        if self._wanted is None:
            return False
        names, step = await _place(graph, config, has_begun=has_begun)
        told = ""
        self._held(True)
        try:
            while (wanted := self._now()) is not None:
                if self._is_draining:
                    raise GraphDrained("the server is stopping")
                if not self._waits(wanted, step):
                    self._released = wanted.name
                    return True
                self._changed.clear()
                if told != wanted.name:
                    told = wanted.name
                    await self._tell(told, names, step)
                elif not await happens_within(LOOK_S, self._changed.wait()):
                    self._look()
            return False
        finally:
            self._held(False)

    def _now(self) -> Pause | None:
        return self._wanted

    def _waits(self, wanted: Pause, step: int | None) -> bool:
        if wanted.target is None or self._released == wanted.name:
            return True
        return step is not None and step >= wanted.target


async def _place(
    graph: Graph, config: RunnableConfig, *, has_begun: bool
) -> tuple[tuple[str, ...], int | None]:
    """Returns the nodes of the next superstep, and the number of the last one; all before it is
    durable."""
    snapshot = await graph.aget_state(config)
    metadata = snapshot.metadata or {}
    # An input that was taken counts as a step, too, and executes nothing.
    step = metadata.get("step") if has_begun and metadata.get("source") == "loop" else None
    return tuple(snapshot.next) or ("__start__",), step
