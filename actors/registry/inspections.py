"""A registry's requests to inspectors: settle, prune or change a thread.

The first registry keeps the inspectors (`actors.registry.inspecting`); the other registries ask it
for their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.calls.answers import ActorGone
from actors.calls.directory import Handles
from actors.calls.names import REGISTRY
from actors.inspector.asking import Asker, Duty, settle
from actors.registry.inspecting import Inspectors
from greenroom.core.errors import Unavailable, Unreachable
from greenroom.core.runs import Settled


class Inspections:
    """Asks inspectors on behalf of one registry.

    Args:
        inspectors: the inspectors of this registry; None if another registry keeps them.
        held: the registry's epoch and its shard's number; inspectors fence their writes with them.
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
        """Returns the name of an inspector; waits for it.

        Raises:
            Unavailable: the inspector is not ready in time.
        """
        if self._inspectors is not None:
            return await self._inspectors.name(duty)
        return await self._ask_first("inspector", duty)

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks an inspector that answers no other question meanwhile: `Inspectors.ask_apart`."""
        if self._inspectors is not None:
            return await self._inspectors.ask_apart(duty, graph_id, method, args)
        return await self._ask_first("ask_apart", duty, graph_id, method, args)

    async def _ask_first(self, method: str, *args: Any) -> Any:
        """Calls the registry that keeps the inspectors."""
        try:
            return await self._handles.call(REGISTRY, method, *args)
        except (ActorGone, Unreachable):
            raise Unavailable("The server is restarting. Try again in a moment.") from None

    async def settle(self, graph_id: str, thread_id: str) -> Settled:
        """Brings a thread's record in line with its checkpoints: `asking.settle`."""
        return await settle(self._askers[Duty.ENDS], graph_id, thread_id, self._held)

    async def open_stored(self, parts: Mapping[str, bytes]) -> dict[str, bytes]:
        """Opens sealed JSON that leaves the server, through an inspector. Repeatable.

        Raises:
            CannotOpen: a part is sealed and cannot be opened.
        """
        return await self._askers[Duty.READS].ask("", "open_stored", parts)

    async def prune(self, thread_id: str) -> None:
        """Deletes a thread's older checkpoints, through an inspector. Repeatable."""
        await self._askers[Duty.READS].ask("", "prune", thread_id)

    async def update(self, graph_id: str, update: Any) -> tuple[bytes, bytes, bool]:
        """Changes a thread's state, through an inspector.

        Repeatable: the inspector checks whether it has applied the update before.

        Args:
            update: an ObjectRef.

        Returns:
            the answer for the client, the thread's interrupts, and whether the thread has a next
            step.

        Raises:
            Unanswered: the graph hangs, or ends the process that asks it.
        """
        return await self._askers[Duty.READS].ask(graph_id, "update", update, self._held)
