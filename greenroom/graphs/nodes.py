"""Notes when the nodes of an attempt begin and end, those of subgraphs as well.

LangGraph reports every node to callbacks as a chain that begins and ends, as for
`greenroom.graphs.spans`. A note is an entry in a dict; nothing is written for it while the graph
executes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from langgraph.errors import GraphBubbleUp

from greenroom.core.nodes import MOST_NOTED, NodeNote, is_of_the_graph
from greenroom.core.raised import message_of

_handler: ContextVar[BaseCallbackHandler | None] = ContextVar("greenroom_nodes", default=None)
register_configure_hook(_handler, inheritable=True)

ERROR_CHARACTERS = 300


class NodeNotes(BaseCallbackHandler):
    """The notes of one attempt. Nodes report on the loop, or on threads of their own."""

    # In order: a thread of its own might tell the end before the beginning.
    run_inline = True

    def __init__(self) -> None:
        self._open: dict[UUID, NodeNote] = {}
        self._done: deque[NodeNote] = deque(maxlen=MOST_NOTED)

    # A model's tokens and the events of tools are no nodes, and many.
    @property
    def ignore_llm(self) -> bool:
        return True

    @property
    def ignore_chat_model(self) -> bool:
        return True

    @property
    def ignore_agent(self) -> bool:
        return True

    @property
    def ignore_retriever(self) -> bool:
        return True

    @property
    def ignore_custom_event(self) -> bool:
        return True

    @property
    def running(self) -> list[NodeNote]:
        """The nodes that run now, in the order in which they began."""
        return [*self._open.copy().values()]

    @property
    def all(self) -> list[NodeNote]:
        """The nodes that have ended, and after them those that run, or were cut off."""
        return [*self._done.copy(), *self.running][-MOST_NOTED:]

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **others: Any,
    ) -> None:
        if metadata is None or name is None or metadata.get("langgraph_node") != name:
            return  # a graph, a sequence or a branch
        if not is_of_the_graph(name):
            return
        namespace: str = metadata.get("langgraph_checkpoint_ns", "")
        above, _, own = namespace.rpartition("|")
        self._open[run_id] = NodeNote(
            name=name,
            namespace=above,
            step=metadata.get("langgraph_step", 0),
            task_id=own.rpartition(":")[2],
            start_ms=_now_ms(),
        )

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        self._ended(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        if not isinstance(error, asyncio.CancelledError):  # else it was cut off
            self._ended(run_id, error)

    def _ended(self, run_id: UUID, error: BaseException | None) -> None:
        note = self._open.pop(run_id, None)
        if note is None:
            return
        said = None
        # An interrupt leaves a node as an exception, but is not an error.
        if error is not None and not isinstance(error, GraphBubbleUp):
            said = f"{type(error).__name__}: {message_of(error)}"[:ERROR_CHARACTERS]
            said = said.replace("\x00", "")  # no JSON of PostgreSQL has it
        self._done.append(replace(note, end_ms=_now_ms(), error=said))


@contextmanager
def noting_nodes(notes: NodeNotes) -> Generator[None, None, None]:
    """Notes the nodes that are executed within the block."""
    token = _handler.set(notes)
    try:
        yield
    finally:
        _handler.reset(token)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
