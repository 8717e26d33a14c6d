"""What a registry asks inspectors: to settle, prune or change a thread.

The first registry keeps the inspectors (`actors.registry.inspecting`); every other one asks it for
their names.
"""

from __future__ import annotations

from typing import Any

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.calls.names import REGISTRY
from actors.inspector.asking import Asker, Duty, settle
from actors.registry.inspecting import Inspectors
from greenroom.core.errors import Unavailable, Unreachable
from greenroom.core.runs import Settled


class Inspections:
    """Asks inspectors for one registry.

    Args:
        inspectors: those that this registry keeps; None if another registry keeps them.
        held: the registry's epoch and its shard's number, by which inspectors fence what they
            write.
    """

    def __init__(
        self, handles: Handles, inspectors: Inspectors | None, held: tuple[int, int]
    ) -> None:
        self._handles = handles
        self._inspectors = inspectors
        self._held = held
        self._askers = {
            duty: Asker(handles, duty, name=self.inspector, apart=self.ask_apart) for duty in Duty
        }

    async def inspector(self, duty: Duty = Duty.READS) -> str:
        """The name of an inspector, once there is one.

        Raises:
            Unavailable: it does not come in time.
        """
        if self._inspectors is not None:
            return await self._inspectors.name(duty)
        return await self._ask_first("inspector", duty)

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector where nothing else is asked meanwhile: `Inspectors.ask_apart`."""
        if self._inspectors is not None:
            return await self._inspectors.ask_apart(duty, graph_id, method, args)
        return await self._ask_first("ask_apart", duty, graph_id, method, args)

    async def _ask_first(self, method: str, *args: Any) -> Any:
        """Asks the registry that keeps the inspectors."""
        try:
            return await self._handles.call(REGISTRY, method, *args)
        except (ActorGone, Unreachable):
            raise Unavailable("The server is restarting. Try again in a moment.") from None

    async def settle(self, graph_id: str, thread_id: str) -> Settled:
        """Has a thread's record brought in line with its checkpoints: `asking.settle`."""
        return await settle(self._askers[Duty.ENDS], graph_id, thread_id, self._held)

    async def prune(self, thread_id: str) -> None:
        """Has an inspector delete a thread's older checkpoints; may be repeated."""
        await self._askers[Duty.READS].ask("", "prune", thread_id)

    async def update(self, graph_id: str, update: Any) -> tuple[bytes, bytes, bool]:
        """Has an inspector change a thread's state.

        May be repeated: the inspector looks whether the update was applied before.

        Args:
            update: an ObjectRef.

        Returns:
            the answer for the client, the thread's interrupts, and whether it has a next step.

        Raises:
            Unanswered: the graph hangs, or ends the process that asks it.
        """
        return await self._askers[Duty.READS].ask(graph_id, "update", update, self._held)
