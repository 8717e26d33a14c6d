"""A tracing span for each node that a graph executes, with the nodes of subgraphs below it.

LangGraph reports every node to callbacks as a chain that begins and ends. A context variable passes
the handler on, so neither the graph nor its configuration changes.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from langgraph.errors import GraphBubbleUp

from greenroom import tracing
from greenroom.core.raised import message_of

_handler: ContextVar[BaseCallbackHandler | None] = ContextVar("greenroom_spans", default=None)
register_configure_hook(_handler, inheritable=True)


@contextmanager
def of_nodes(run: Any) -> Generator[None, None, None]:
    """Makes spans for the nodes that are executed within the block.

    Args:
        run: the parent span; None makes no spans.
    """
    if run is None:
        yield
        return
    handler = _NodeSpans(run)
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)
        handler.close()


class _NodeSpans(BaseCallbackHandler):
    # In order, and on the loop: a thread of its own might tell the end before the beginning.
    run_inline = True

    def __init__(self, run: Any) -> None:
        self._run = run
        self._open: dict[UUID, Any] = {}
        self._above: dict[UUID, Any] = {}

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **_: Any,
    ) -> None:
        above = self._above.get(parent_run_id, self._run) if parent_run_id else self._run
        node = (metadata or {}).get("langgraph_node")
        if node is None or name != node:
            # A chain that is not a node, such as a graph, a sequence or a branch, has no span.
            self._above[run_id] = above
            return
        step = (metadata or {}).get("langgraph_step", 0)
        self._open[run_id] = self._above[run_id] = tracing.start(
            f"node {node}", above, node=node, step=step
        )

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._end(run_id, error)

    def _end(self, run_id: UUID, error: BaseException | None) -> None:
        self._above.pop(run_id, None)
        span = self._open.pop(run_id, None)
        if span is None:
            return
        # An interrupt leaves a node as an exception, but is not an error.
        if error is not None and not isinstance(error, GraphBubbleUp):
            try:
                tracing.failed(span, error)
            except BaseException:  # noqa: BLE001 - the error's `__str__` is user code
                tracing.failed(span, message_of(error))
        span.end()

    def close(self) -> None:
        """Ends the spans of nodes that were cut off."""
        for span in self._open.values():
            span.end()
