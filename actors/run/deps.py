"""The parts of a run actor that an attempt uses; `actors.run.actor` puts them together."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from actors.run.node_threads import NodeThreads
from greenroom.core.events import Event
from greenroom.core.faults import Faults
from greenroom.core.inputs import Taking
from greenroom.core.pausing import Waiting
from greenroom.core.runs import Report, RunOrder
from greenroom.graphs.loading import LoadedGraph
from greenroom.graphs.resume import Tail
from greenroom.persistence.fenced_saver import FencedSaver
from greenroom.persistence.run_inputs import ForAttempt
from greenroom.persistence.saving import Owner
from greenroom.sealing import UNSEALED, Sealing

if TYPE_CHECKING:
    from actors.run.attempt import Attempt


class Left(Protocol):
    """See `Deps.left`."""

    def __call__(self, attempt: Attempt, /, *, whole: bool) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Deps:
    """The parts of the actor that an attempt uses.

    Attributes:
        actor: the actor's name.
        isolated: whether the actor never executes more than one run at a time.
        timeouts_s: the time-out of an attempt in seconds, by graph; an absent graph has none.
        threads: the threads of synchronous nodes.
        graph_of: returns the graph of an id; may raise `NotFound`.
        saver_of: returns the fenced saver of an attempt; with True, the thread has no checkpoint.
        store: the graphs' store.
        earlier: returns the durable events of the earlier attempts.
        append: stores events of a run and its attempt; may raise `Fenced` and `Unavailable`.
        save_values: stores the thread's values; may raise `Fenced` and `Unavailable`.
        sealing: opens what a run was given, and seals what its record gets.
        inputs_for: reads what was said to a run.
        note_input: stores that the state refused an input; may raise `Fenced` and `Unavailable`.
        tell_waiting: tells the registry that an attempt waits; returns when that is stored.
        report: reports to the registry; returns False if the attempt is not the current one.
        grown: called after each append to a log.
        finished: called when the report was accepted; shows the end to readers and closes the log.
        left: called when the attempt leaves this actor without an outcome; closes the log. With
            ``whole=True`` all emitted events are shown first.
        leave_process: ends the process with an exit code.
    """

    actor: str
    isolated: bool
    timeouts_s: Mapping[str, float | None]
    faults: Faults
    threads: NodeThreads
    graph_of: Callable[[str], LoadedGraph]
    saver_of: Callable[[RunOrder, bool], FencedSaver]
    store: Any
    earlier: Callable[[RunOrder], Tail]
    append: Callable[[str, int, list[Event]], Awaitable[None]]
    save_values: Callable[[Owner, str, bytes], Awaitable[None]]
    inputs_for: Callable[[str], Awaitable[ForAttempt]]
    note_input: Callable[[Owner, Taking], Awaitable[None]]
    sealing: Sealing = UNSEALED
    tell_waiting: Callable[[Waiting], Awaitable[None]]
    report: Callable[[Report], Awaitable[bool]]
    grown: Callable[[], None]
    finished: Callable[[Attempt], None]
    left: Left
    leave_process: Callable[[int], Any] = os._exit
