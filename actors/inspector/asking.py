"""Asks the inspectors: whose answer it is that does not come, and who is to blame for a death.

Who was it, when a process ends over several questions? Nobody can say. So a question whose
inspector died is asked *apart*: in a process where nothing else is asked at the time. What ends
that one is the culprit; it is asked once more, behind those that wait there, and then told so. The
others get their answers.

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

log = logging.getLogger("greenroom.asking")

SETTLE_S = 10.0
"""What the code of a graph gets to settle a thread; then its run ends with what is known."""
ARRIVAL_WAIT_S = 30.0
"""How long a question waits for an inspector that starts."""
MOST_APART = 2
"""How often a question is asked apart that ends the process there."""
SUSPECT_S = 60.0
"""How long a graph that ended a process is asked apart at once."""
RECONNECT_S = 0.1


class Duty(StrEnum):
    """What an inspector is for."""

    READS = "reads"
    ENDS = "ends"


class Replaced(GreenroomError):
    """This inspector takes no more questions: the one that has come for it is to be asked."""


class Deadly(Unanswered):
    """The graph ends the process that asks about it."""


class Asker:
    """Asks inspectors for somebody who does not keep them.

    Args:
        name: gives the inspector that is asked together with others; waits for it.
        apart: asks apart: duty, graph, method, arguments.
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
        """Asks what may be asked again.

        Args:
            graph_id: the graph that the question is about.
            method: of `actors.inspector.actor.Inspector`.

        Raises:
            Unanswered: the graph hangs; `Deadly`: it ends the process that asks it.
            Unavailable: there is no inspector, or it cannot be reached.
            GreenroomError: what the inspector says; and whatever the graph raises.
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
        """Asks the inspector that everybody asks.

        Raises:
            ActorGone: the inspector died over it.
            GreenroomError: as `ask`.
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
        try:
            async with asyncio.timeout(ARRIVAL_WAIT_S):
                while True:
                    name = self._known or await self._ask_name(self._duty)
                    if name not in left:
                        with suppress(ActorGone):
                            handle = await self._handles.find(name)
                            self._known = name
                            return handle, name
                    # Its keeper has not heard yet that it is dead, or about to leave.
                    self._known = None
                    await asyncio.sleep(RECONNECT_S)
        except TimeoutError:
            raise Unavailable("The inspector is still starting. Try again in a moment.") from None

    def _is_suspect(self, graph_id: str) -> bool:
        until_s = self._suspects.get(graph_id)
        if until_s is None:
            return False
        if time.monotonic() < until_s:
            return True
        del self._suspects[graph_id]
        return False


async def settle(
    asker: Asker, graph_id: str, thread_id: str, held: tuple[int, int]
) -> tuple[bytes | None, bool]:
    """Has a thread's record brought in line with its checkpoints.

    Never fails: the end of a run hangs on it. What the graph refuses, or does not do in time, stays
    as it is.

    Args:
        held: of the registry: its epoch and its shard's number.

    Returns:
        the thread's interrupts as JSON (None leaves them), and whether it has a next step.
    """
    give_up_s = time.monotonic() + ARRIVAL_WAIT_S
    while True:
        try:
            return await asker.ask(graph_id, "settle", graph_id, thread_id, held)
        except DatabaseUnavailable:
            # No graph is to blame, and the end could not be stored either.
            give_up_s = time.monotonic() + ARRIVAL_WAIT_S
        except Exception as error:  # a graph's factory raises anything; a graph may be gone by now
            if not isinstance(error, Unavailable | Unreachable) or time.monotonic() > give_up_s:
                log.error(
                    "A thread could not be settled; its run ends with what is known.",
                    extra={"action": "settle_failed", "thread_id": thread_id},
                    exc_info=error,
                )
                return None, False
        await asyncio.sleep(RECONNECT_S)
