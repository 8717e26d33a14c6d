"""Takes what was said to a run between two of its supersteps.

The run pauses as for a drain: LangGraph ends the execution before the next superstep, when the
checkpoint of the last one is saved. Each input becomes a checkpoint of its own, by the rules of
``update_state``, and the execution goes on from there.

    without as_node   the reducers apply the update; the next nodes are those that were next before
    as_node           as ``update_state`` has it: the node's edges decide what is next
    command.goto      the named nodes are next as well

A run pauses between supersteps of the root graph only. A pause within a subgraph would execute the
node around it again. And it does not pause before its first superstep. In a state graph that one
applies the run's own input. Where an attempt goes on from a checkpoint, tasks of that superstep may
have stored writes already, under ids that follow from the checkpoint, and so may a command.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.runtime import RunControl
from langgraph.types import StateUpdate as NodeUpdate

from greenroom.core.inputs import INPUT_EVENT, TAKEN, HeardInput, Taking
from greenroom.core.raised import message_of
from greenroom.graphs.inbox import RunInbox
from greenroom.graphs.instructions import parse_command
from greenroom.graphs.loading import Graph, Saver
from greenroom.graphs.messages import Emit
from greenroom.graphs.outcomes import reraise_signals
from greenroom.graphs.pausing import PauseGate
from greenroom.graphs.savers import allowing
from greenroom.langgraph_internals import INPUT, TASKS, map_command
from greenroom.wire.encoding import dumps

log = logging.getLogger(__name__)


class SteeredControl(RunControl):
    """Ends an execution after its superstep: for a drain, for a pause, or because something is to
    be taken."""

    __slots__ = ("_inbox", "_pauses", "_spares_next")

    def __init__(self, inbox: RunInbox | None = None, pauses: PauseGate | None = None) -> None:
        super().__init__()
        self._inbox = inbox
        self._pauses = pauses
        self._spares_next = False

    def spare_first(self) -> None:
        """Does not end before the first superstep of the execution that begins."""
        self._spares_next = True

    @property
    def is_draining(self) -> bool:
        """Whether the execution ends for another reason than what was said."""
        return self._drain_reason is not None

    @property
    def drain_requested(self) -> bool:
        # LangGraph asks once before each superstep, of subgraphs as well.
        if self.is_draining:
            return True
        if self._inbox is None or self._pauses is None or _is_within_node():
            return False
        if self._spares_next:
            self._spares_next = False
            return False
        return self._inbox.is_due or self._pauses.is_due


def _is_within_node() -> bool:
    config: Any = var_child_runnable_config.get()
    return bool(config and config.get("configurable", {}).get("checkpoint_ns"))


# --- between two supersteps -----------------------------------------------------------------------


async def take_all(graph: Graph, config: RunnableConfig, inbox: RunInbox, emit: Emit) -> None:
    """Applies all inputs that wait to the state of the run's thread, in order.

    Args:
        graph: opened for the run, whose execution is paused.
        config: of the run.
        emit: called with an ``input`` event for each input that is taken, when that is durable.

    Raises:
        Fenced: the attempt is not the current one.
    """
    while (heard := inbox.first()) is not None:
        taking = inbox.taking(heard)
        try:
            written = await _apply(graph, config, heard, taking)
        except BaseException as error:
            # User code ran: reducers, and the edges of a node.
            reraise_signals(error)
            log.warning(
                "An input was refused by the state of its run.",
                extra={"action": "input_refused", "input_id": heard.input_id},
                exc_info=True,
            )
            refused = inbox.taking(heard, reason=f"The state cannot take it: {message_of(error)}")
            await inbox.refuse(refused)
            inbox.remove(heard)
            continue
        inbox.remove(heard)
        emit(INPUT_EVENT, event_of(written))


async def _apply(graph: Graph, config: RunnableConfig, heard: HeardInput, taking: Taking) -> Taking:
    values, channels = _values(graph, heard)
    written = _Written(taking)
    steered: Any = copy.copy(graph)
    steered.checkpointer = noting(cast(Any, graph).checkpointer, written)
    node = heard.as_node
    if node is None:
        # LangGraph gives a graph's input to its input channels, and leaves alone what is next.
        steered.input_channels = channels
        node = INPUT
    await steered.abulk_update_state(config, [[NodeUpdate(values, node, None)]])
    return written.taking


def _values(graph: Graph, heard: HeardInput) -> tuple[Any, str | list[str]]:
    """Returns an input as values of channels, and the channels."""
    channels = graph.stream_channels_asis
    names = channels if isinstance(channels, str) else [*channels]
    if heard.command is None:
        return heard.update, names
    values: dict[str, Any] = {}
    for _, channel, value in map_command(parse_command(heard.command)):
        if channel == TASKS:
            values.setdefault(channel, []).append(value)
        else:
            values[channel] = value
    return values, [*values]


class _Written:
    """The note of an input, completed by the saver that writes its checkpoint."""

    def __init__(self, taking: Taking) -> None:
        self.taking = taking


def noting(saver: Saver, written: _Written) -> Saver:
    """Returns a saver that stores the note of an input together with the checkpoint."""
    noted = copy.copy(saver)

    async def put(config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        step = metadata.get("step")
        written.taking = replace(written.taking, step=step, checkpoint_id=checkpoint["id"])
        metadata = {**metadata, "source": "update"}
        with_note = _with(config, [written.taking])
        return await saver.aput(with_note, checkpoint, metadata, new_versions)

    # On the instance, since a wrapper class would have to repeat the whole interface.
    setattr(noted, "aput", put)  # noqa: B010 - pyright rejects the plain assignment
    allowing(noted, saver, lambda inner: noting(inner, written))
    return noted


# --- what nodes take ------------------------------------------------------------------------------


def taking_of_nodes(saver: Saver, inbox: RunInbox, emit: Emit) -> Saver:
    """Returns a saver that stores what a node has taken together with the node's writes.

    Args:
        emit: called with an ``input`` event for each input that is taken, when that is durable.
    """
    keeper = copy.copy(saver)

    async def put_writes(config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        is_done = not all(channel in WRITES_IDX_MAP for channel, _ in writes)
        checkpoint_id = config["configurable"].get("checkpoint_id")
        takings = inbox.claimed_by(task_id, checkpoint_id) if is_done else []
        await saver.aput_writes(_with(config, takings), writes, task_id, task_path)
        for taking in takings:
            emit(INPUT_EVENT, event_of(taking))

    setattr(keeper, "aput_writes", put_writes)  # noqa: B010 - as above
    allowing(keeper, saver, lambda inner: taking_of_nodes(inner, inbox, emit))
    return keeper


def _with(config: Mapping[str, Any], takings: list[Taking]) -> Any:
    """Returns a config that tells the saver which inputs its checkpoint contains."""
    if not takings:
        return config
    return {**config, "configurable": {**config["configurable"], TAKEN: takings}}


def event_of(taking: Taking) -> bytes:
    """Returns the data of the ``input`` event for an input that was taken."""
    return dumps(
        {
            "input_id": taking.input_id,
            "number": taking.number,
            "taken_at": datetime.fromtimestamp(taking.at_ms / 1000, UTC).isoformat(),
            "attempt": taking.attempt,
            "step": taking.step,
            "checkpoint_id": taking.checkpoint_id,
        }
    )
