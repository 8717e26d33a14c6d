"""What was said to a run, as the attempt that executes it has it.

Two ways lead out of an inbox. A graph that does not listen takes what was said at its supersteps
(`greenroom.graphs.taking`). In a graph that *listens* a node takes it itself (`RunInbox.take`):
then the input belongs to the task of that node, and is taken for good once the task's writes are
stored. Until then another try of the node, or another attempt of the run, finds the same inputs
again.

The loop that executes the graph adds inputs; nodes read them there, or on threads.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

from langgraph.config import get_config
from langgraph.runtime import get_runtime

from greenroom.core.inputs import HeardInput, Taking


@dataclass(slots=True)
class _Claim:
    """What a task has taken, and in which try of its node.

    Attributes:
        tasks: the ids of the task and of those around it, the root's first.
        step: the superstep of the task.
    """

    tasks: tuple[str, ...]
    of_try: tuple[int, float | None]
    step: int | None
    inputs: list[HeardInput] = field(default_factory=list[HeardInput])


class RunInbox:
    """The inputs that an attempt has heard of and not taken for good.

    Args:
        attempt: the number of the attempt.
        refuse: stores that the state could not take an input.
        now_ms: returns the time in Unix milliseconds.
    """

    def __init__(
        self,
        attempt: int,
        refuse: Callable[[Taking], Awaitable[None]],
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.attempt = attempt
        self.refuse = refuse
        self.now_ms = now_ms
        self.listens = False
        self._lock = threading.Lock()
        self._waiting: list[HeardInput] = []
        self._known: set[str] = set()
        self._claims: dict[str, _Claim] = {}
        self._wakes: dict[Callable[[], None], None] = {}
        self._closed = False

    # --- the attempt ---------------------------------------------------------------------------

    def add(self, inputs: Iterable[HeardInput]) -> None:
        """Adds inputs, in the order in which they were said; known ones are left out."""
        with self._lock:
            new = [each for each in inputs if each.input_id not in self._known]
            self._known |= {each.input_id for each in new}
            self._waiting += new
            wakes = [*self._wakes] if new else []
        for wake in wakes:
            wake()

    def close(self) -> None:
        """Wakes those who wait: the run is cancelled or out of time, and nothing more comes."""
        with self._lock:
            self._closed = True
            wakes = [*self._wakes]
        for wake in wakes:
            wake()

    @property
    def is_due(self) -> bool:
        """Whether the next superstep has to take something."""
        return bool(self._waiting) and not self.listens

    def first(self) -> HeardInput | None:
        """Returns the oldest input that waits."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def remove(self, taken: HeardInput) -> None:
        """Removes an input that is taken for good, or refused."""
        with self._lock:
            self._waiting.remove(taken)

    def taking(self, taken: HeardInput, **more: Any) -> Taking:
        """Returns the note that this attempt takes an input now."""
        return Taking(
            input_id=taken.input_id,
            number=taken.number,
            at_ms=self.now_ms(),
            attempt=self.attempt,
            **more,
        )

    # --- nodes ---------------------------------------------------------------------------------

    def look(self) -> list[HeardInput]:
        """Returns the inputs that no node has taken, in their order.

        Raises:
            RuntimeError: no node calls this, or the graph does not listen.
        """
        self._refuse_unless_listening()
        self._forget_earlier_tries()
        with self._lock:
            return [*self._waiting]

    def take(self) -> list[HeardInput]:
        """Gives all inputs that wait to the task of the node that calls this.

        Raises:
            RuntimeError: as of `look`.
        """
        self._refuse_unless_listening()
        config = _config_of_node()
        self._forget_earlier_tries()
        with self._lock:
            taken, self._waiting = self._waiting, []
            if not taken:
                return []
            place = str(config["configurable"]["checkpoint_ns"])
            claim = self._claims.get(place)
            if claim is None:
                claim = self._claims[place] = _Claim(
                    tasks=_tasks_of(place),
                    of_try=_try(),
                    step=config.get("metadata", {}).get("langgraph_step"),
                )
            claim.inputs += taken
            return taken

    def _refuse_unless_listening(self) -> None:
        if not self.listens:
            raise RuntimeError(
                "This graph does not listen: what is said to its runs goes into their state. Name"
                " 'greenroom.listening(graph)' in langgraph.json to take it in a node."
            )

    def _forget_earlier_tries(self) -> None:
        """Has what an earlier try of this node took wait again."""
        config = _config_of_node()
        place, this = str(config["configurable"]["checkpoint_ns"]), _try()
        with self._lock:
            claim = self._claims.get(place)
            if claim is not None and claim.of_try != this:
                del self._claims[place]
                self._waiting = [*claim.inputs, *self._waiting]

    def wait(self, timeout_s: float | None) -> bool:
        """Blocks a thread until an input waits, or none can come; returns whether one does."""
        came = threading.Event()
        with self._waking(came.set):
            if not self._is_settled():
                came.wait(timeout_s)
        return self._has_waiting()

    async def arrival(self, timeout_s: float | None) -> bool:
        """Waits until an input waits, or none can come; returns whether one does."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(came.set)

        with self._waking(wake):
            if not self._is_settled():
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await came.wait()
        return self._has_waiting()

    def _is_settled(self) -> bool:
        with self._lock:
            return self._closed or bool(self._waiting)

    def _has_waiting(self) -> bool:
        with self._lock:
            return bool(self._waiting)

    def _waking(self, wake: Callable[[], None]) -> _Waking:
        return _Waking(self._wakes, self._lock, wake)

    # --- the saver -----------------------------------------------------------------------------

    def claimed_by(self, task_id: str, checkpoint_id: str | None) -> list[Taking]:
        """Returns the notes for what a task has taken, itself or in a graph within it; its writes
        are about to be stored."""
        with self._lock:
            places = [place for place, claim in self._claims.items() if task_id in claim.tasks]
            claims = [self._claims.pop(place) for place in places]
        return [
            self.taking(each, step=claim.step, checkpoint_id=checkpoint_id)
            for claim in claims
            for each in claim.inputs
        ]


class _Waking:
    """Registers a callback for the next input while it is entered."""

    def __init__(
        self, wakes: dict[Callable[[], None], None], lock: threading.Lock, wake: Callable[[], None]
    ) -> None:
        self._wakes = wakes
        self._lock = lock
        self._wake = wake

    def __enter__(self) -> None:
        with self._lock:
            self._wakes[self._wake] = None

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._wakes.pop(self._wake, None)


current_inbox: ContextVar[RunInbox | None] = ContextVar("greenroom_inbox", default=None)
"""The inbox of the run that is executed; None outside of a server."""


def _config_of_node() -> Mapping[str, Any]:
    """Raises RuntimeError outside of a node."""
    try:
        config: Mapping[str, Any] = cast(Any, get_config())
    except RuntimeError:
        config = dict[str, Any]()
    if not config.get("configurable", {}).get("checkpoint_ns"):
        raise RuntimeError("Only a node or a tool of a graph can read the inbox of its run.")
    return config


def _tasks_of(place: str) -> tuple[str, ...]:
    """Returns the ids in a namespace such as ``agent:1f2e…|tools:8a0c…``."""
    return tuple(part.rpartition(":")[2] for part in place.split("|"))


def _try() -> tuple[int, float | None]:
    """Identifies the execution of a node: a retry has another number, and so has a node within a
    node that is tried again another time."""
    info: Any = get_runtime().execution_info
    return (info.node_attempt, info.node_first_attempt_time) if info is not None else (1, None)
