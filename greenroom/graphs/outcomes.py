"""Makes the outcome of an attempt from its stream, or from the exception of user code."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.errors import GraphDrained

from greenroom.core.errors import Fenced
from greenroom.core.raised import Escaped, told
from greenroom.core.runs import Outcome, RunStatus
from greenroom.graphs.containment import has_escaped
from greenroom.graphs.loading import Graph
from greenroom.graphs.outputs import output_keys
from greenroom.graphs.resume import INTERRUPT
from greenroom.graphs.state import head_state
from greenroom.wire.encoding import dumps

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """The facts of an attempt's stream from which its outcome is made.

    Attributes:
        values: the root's last state before an interrupt.
        seen: whether the stream had a state.
        encoded: ``values`` as JSON, if they were emitted.
        interrupts: every interrupt that the root raised.
        stopped: the attempt stopped at an interrupt or a breakpoint.
    """

    values: Any = None
    seen: bool = False
    encoded: bytes | None = None
    interrupts: list[Any] = field(default_factory=list[Any])
    stopped: bool = False

    def note(self, payload: Any) -> None:
        """Records a payload of the root's ``values`` stream."""
        if isinstance(payload, dict) and INTERRUPT in payload:
            self.interrupts.extend(cast(dict[str, Any], payload)[INTERRUPT])
            self.stopped = True
        elif not self.interrupts:
            # Values after an interrupt include the results of parallel tasks. The ``wait`` of
            # LangGraph's server answers without them; they are in the thread's state.
            self.values, self.seen, self.encoded = payload, True, None


async def success(graph: Graph, config: RunnableConfig, progress: Progress) -> Outcome:
    streamed = (progress.encoded or dumps(progress.values)) if progress.seen else None
    if streamed and not progress.stopped and not _forgets(graph) and output_keys(graph) is None:
        # The graph finished, so the state is the last streamed one, and no step is next.
        return Outcome(status=RunStatus.SUCCESS, output=streamed, values=streamed)
    head = await head_state(graph, config)
    output = streamed or head.output or b"null"
    if progress.interrupts:
        shown: Any = progress.values
        known = cast(dict[str, Any], shown) if isinstance(shown, dict) else {}
        output = dumps({**known, INTERRUPT: progress.interrupts})
    return Outcome(
        status=RunStatus.SUCCESS,
        output=output,
        values=head.values,
        interrupts=head.interrupts,
        has_next=head.has_next,
        output_keys=head.output_keys,
    )


def _forgets(graph: Graph) -> bool:
    """Returns whether the graph has channels that are streamed but not saved."""
    channels: dict[str, Any] = cast(Any, graph).channels
    return any(isinstance(channel, UntrackedValue) for channel in channels.values())


async def failure(graph: Graph, config: RunnableConfig, error: BaseException) -> Outcome:
    outcome = outcome_of_failure(error)
    try:
        head = await head_state(graph, config)
    except BaseException as second:
        # The first error is reported; often it is also the reason why the state is unreadable.
        reraise_signals(second)
        log.warning(
            "the state after a failed run could not be read",
            extra={"action": "state_unreadable"},
            exc_info=True,
        )
        return outcome
    return Outcome(
        status=outcome.status,
        output=outcome.output,
        values=head.values,
        interrupts=head.interrupts,
        has_next=head.has_next,
        output_keys=head.output_keys,
        error=outcome.error,
    )


def outcome_of_failure(error: BaseException) -> Outcome:
    encoded = dumps(told(_escaped_within(error) or error))
    return Outcome(status=RunStatus.ERROR, output=b'{"__error__":' + encoded + b"}", error=encoded)


def _escaped_within(error: BaseException) -> Escaped | None:
    """Returns the `Escaped` within an exception group of a user's tasks. Without containment,
    asyncio would have raised the original instead of the group."""
    if isinstance(error, Escaped):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    group = cast("BaseExceptionGroup[BaseException]", error)
    return next(filter(None, map(_escaped_within, group.exceptions)), None)


def reraise_signals(error: BaseException) -> None:
    """Raises ``error`` again if it is a signal that ends no run: the close of this coroutine, a
    cancellation, a drain, or a fence within it."""
    if isinstance(error, GeneratorExit) and not has_escaped(error):
        raise error
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    if isinstance(error, GraphDrained):
        raise error
    # A fence may be wrapped, since background tasks in task groups write the checkpoints.
    found = _fence(error, set())
    if found is not None:
        raise found


def _fence(error: BaseException | None, seen: set[int]) -> BaseException | None:
    if error is None or id(error) in seen:
        return None
    seen.add(id(error))
    if isinstance(error, Fenced):
        return error
    inner: Sequence[BaseException] = ()
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
    for candidate in (*inner, error.__cause__, error.__context__):
        if (found := _fence(candidate, seen)) is not None:
            return found
    return None
