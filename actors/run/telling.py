"""What the readers of an attempt are told: its events, shown at once, or held until they are
durable."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from actors.run.deps import Deps
from actors.run.tail import TailWriter
from greenroom.core.events import EventLog
from greenroom.core.inputs import INPUT_EVENT
from greenroom.core.runs import Outcome, RunOrder
from greenroom.core.thread_log import END, QUESTION, RUNNING, begins_message, end_of
from greenroom.graphs.resume import Tail
from greenroom.wire.encoding import dumps

REEMITTED_MODES = frozenset({"values", "checkpoints", "debug", "@checkpoints", "@values"})
"""The stream modes that LangGraph emits again when an attempt resumes. For resumable runs their
events are shown only once they are durable, so the next attempt knows what readers have seen."""
TOLD_DURABLE = REEMITTED_MODES | {INPUT_EVENT}
"""The names of the events that the next attempt tells again unless they are durable."""
CHECKPOINTS = "@checkpoints"
"""The begin of the names of events that are not written at once: their values follow, so that one
write has both."""


class Telling:
    """Writes the events of one attempt.

    Args:
        event_log: the log of the attempt; this is its only writer.
        deps: the actor's parts.
        fenced: called when another attempt is the current one.

    Attributes:
        tail: makes the events of a resumable run durable; None for another run.
    """

    def __init__(
        self, order: RunOrder, event_log: EventLog, deps: Deps, fenced: Callable[[], None]
    ) -> None:
        self._order = order
        self._log = event_log
        self._deps = deps
        append = partial(deps.append, order.run_id, order.attempt)
        self.tail = TailWriter(event_log, append, fenced) if order.resumable else None

    @property
    def earlier(self) -> Tail | None:
        """The durable events of earlier attempts of a resumable run."""
        return self._deps.earlier(self._order) if self._order.resumable else None

    def emit(self, name: str, data: bytes) -> None:
        """Appends an event."""
        if name.startswith(QUESTION):
            # A client may answer at once, so the thread must wait for it by then.
            self.hold(name, data)
            return
        hidden = self.tail is not None and _is_told_durable(name, data)
        event = self._log.append(name, data, now_ms(), shown=not hidden)
        if self.tail is not None:
            self.tail.add(event, at_once=hidden and not name.startswith(CHECKPOINTS))
        self._deps.grown()

    def hold(self, name: str, data: bytes) -> None:
        """Has an event shown when the end is stored."""
        held = self._log.hold(name, data, now_ms())
        if self.tail is not None:
            self.tail.hold(held)

    async def flush(self) -> None:
        """Returns when all events of a resumable run are durable."""
        if self.tail is not None:
            await self.tail.flush()

    async def begin(self) -> None:
        """Says that the run has begun; in the log of a thread, unless an attempt before has."""
        order = self._order
        self.emit("metadata", dumps({"run_id": order.run_id, "attempt": order.attempt}))
        if not order.logged:
            return
        begun, earlier = self._lifecycle("running"), self._deps.earlier
        if order.attempt == 1 or not await earlier(order).has(RUNNING, begun, whole=True):
            self.emit(RUNNING, begun)

    def hold_end(self, outcome: Outcome) -> None:
        """Has the end of a run shown in the log of its thread when it is stored."""
        event, message = end_of(
            outcome.status, outcome.error, stopped=outcome.has_next or outcome.interrupts != b"{}"
        )
        self.hold(END, self._lifecycle(event, **({"error": message} if message else {})))

    def _lifecycle(self, event: str, **more: str) -> bytes:
        return dumps({"event": event, "graph_name": self._order.graph_id, **more})


def now_ms() -> int:
    """Returns Unix milliseconds."""
    return time.time_ns() // 1_000_000


def _is_told_durable(name: str, data: bytes) -> bool:
    """Whether readers get an event once it is durable: the next attempt must know of it. A message
    that is half streamed is taken back (`greenroom.graphs.taking_back`)."""
    return name.partition("|")[0] in TOLD_DURABLE or begins_message(name, data)
