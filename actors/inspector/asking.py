"""Asks the inspectors, and finds the question that kills an inspector.

When a process dies over several questions, the cause is unknown. So each question whose inspector
died is asked *apart*: in a process that answers one question at a time. If that process dies too,
its question is the cause. It is asked apart once more, behind the waiting questions; after a second
death its caller gets `Deadly`. The other questions get their answers.

    together ──dies──> apart, alone ──dies──> apart, alone ──dies──> `Deadly`
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any

from actors.calls.answers import ActorGone, answer, repeat
from actors.calls.directory import Handles
from greenroom.core.errors import (
    DatabaseUnavailable,
    GreenroomError,
    Unanswered,
    Unavailable,
    Unreachable,
)
from greenroom.core.runs import Settled
from greenroom.graphs.store_section import EMBED

log = logging.getLogger("greenroom.asking")

SETTLE_S = 10.0
"""The time-out of a graph's code that settles a thread; then the run ends without it."""
ARRIVAL_WAIT_S = 60.0
"""How long a question waits for an inspector that starts. After a redeploy on a small node it
starts together with all actors of the graphs."""
STILL_STARTING = "The inspector is still starting. Try again in a moment."
MOST_APART = 2
"""The number of times that a question is asked apart if it ends the process each time."""
SUSPECT_S = 60.0
"""How long after a graph ended a process its questions are asked apart only, and once."""
RECONNECT_S = 0.1


class Duty(StrEnum):
    """The duty of an inspector: to answer clients (``reads``) or to settle threads (``ends``)."""

    READS = "reads"
    ENDS = "ends"


class Replaced(GreenroomError):
    """This inspector takes no more questions; its replacement does."""


class Deadly(Unanswered):
    """The graph ends the process that asks about it."""


def subject_of(graph_id: str) -> str:
    """Returns the beginning of a sentence about a graph, or about the embedding (`EMBED`)."""
    return "The embedding of the store" if graph_id == EMBED else f"Graph '{graph_id}'"


class Asker:
    """Asks the inspectors of one duty.

    Args:
        handles: the directory of actors.
        duty: the duty of the inspectors to ask.
        name: returns the name of the shared inspector; waits until there is one, with a bound.
        apart: asks apart; takes duty, graph, method and arguments.
    """

    def __init__(
        self,
        handles: Handles,
        duty: Duty,
        *,
        name: Callable[[Duty], Awaitable[str]],
        apart: Callable[[Duty, str, str, tuple[Any, ...]], Awaitable[Any]],
    ) -> None:
        self._handles = handles
        self._duty = duty
        self._ask_name = name
        self._ask_apart = apart
        self._known: str | None = None
        self._suspects: dict[str, float] = {}

    async def ask(self, graph_id: str, method: str, *args: Any) -> Any:
        """Asks a repeatable question.

        Args:
            graph_id: the graph that the question is about; `EMBED` for the embedding.
            method: a method of `actors.inspector.actor.Inspector`.

        Raises:
            Unanswered: the graph hangs; `Deadly`: the graph ends the process that asks it.
            Unavailable: there is no inspector, or it cannot be reached.
            Exception: any other error of the inspector or of the graph.
        """
        suspect = self._is_suspect(graph_id)
        if not suspect:
            with suppress(ActorGone):
                return await self._ask_together(method, *args)
        left = 1 if suspect else MOST_APART
        while True:
            try:
                replied = await self._ask_apart(self._duty, graph_id, method, args)
            except Deadly:
                left -= 1
                if not left:
                    self._suspects[graph_id] = time.monotonic() + SUSPECT_S
                    raise
            else:
                self._suspects.pop(graph_id, None)
                return replied

    async def _ask_together(self, method: str, *args: Any) -> Any:
        """Asks the shared inspector.

        Raises:
            ActorGone: the inspector died during the question.
            Exception: as `ask`.
        """
        left: set[str] = set()
        while True:
            handle, name = await self._living(left)
            asked = getattr(handle, method)
            try:
                return await repeat(
                    lambda: answer(asked.remote(*args), name),  # noqa: B023 - asked at once
                    on=(Unreachable,),
                    bound_s=ARRIVAL_WAIT_S,
                )
            except (ActorGone, Replaced) as gone:
                self._handles.forget(name)
                if self._known == name:
                    self._known = None
                if isinstance(gone, ActorGone):
                    raise
                left.add(name)

    async def _living(self, left: set[str]) -> tuple[Any, str]:
        give_up_s: float | None = None
        while give_up_s is None or time.monotonic() < give_up_s:
            # This waits for the registry, and then for the inspector, each with a bound.
            name = self._known or await self._ask_name(self._duty)
            if name not in left:
                with suppress(ActorGone):
                    handle = await self._handles.find(name)
                    self._known = name
                    return handle, name
            # The registry does not know yet that this inspector is dead or leaving.
            self._known = None
            give_up_s = give_up_s or time.monotonic() + ARRIVAL_WAIT_S
            await asyncio.sleep(RECONNECT_S)
        raise Unavailable(STILL_STARTING)

    def _is_suspect(self, graph_id: str) -> bool:
        until_s = self._suspects.get(graph_id)
        if until_s is None:
            return False
        if time.monotonic() < until_s:
            return True
        del self._suspects[graph_id]
        return False


async def settle(asker: Asker, graph_id: str, thread_id: str, held: tuple[int, int]) -> Settled:
    """Brings a thread's record in line with its checkpoints, through an inspector.

    Never fails, because the end of a run waits for it. If the graph fails or takes too long, the
    record stays unchanged. While the database is unavailable, it repeats.

    Args:
        asker: asks the inspectors.
        graph_id: the thread's graph.
        thread_id: the thread.
        held: the registry's epoch and shard number.
    """
    give_up_s = time.monotonic() + ARRIVAL_WAIT_S
    while True:
        try:
            return await asker.ask(graph_id, "settle", graph_id, thread_id, held)
        except DatabaseUnavailable:
            # The graph is not to blame, and the run's end could not be stored either.
            give_up_s = time.monotonic() + ARRIVAL_WAIT_S
        except Exception as error:  # a factory may raise any error; the graph may be gone
            if not isinstance(error, Unavailable | Unreachable) or time.monotonic() > give_up_s:
                log.error(
                    "A thread could not be settled; its run ends with what is known.",
                    extra={"action": "settle_failed", "thread_id": thread_id},
                    exc_info=error,
                )
                return Settled()
        await asyncio.sleep(RECONNECT_S)
