"""The methods of a run actor for those who read what it executes; `RunActor` has the others."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.calls.answers import long_poll, repeatable
from actors.calls.directory import rpc_host
from actors.calls.rpc import RpcAddress, RpcServer
from actors.run.attempt import Attempt
from actors.run.debugging import Debugging
from actors.run.looking import Looking
from actors.run.reading import Shelf
from greenroom.core.runs import Batch, Outcome


class Readable:
    """Reads the logs of attempts, and looks at the process.

    Attributes:
        shelf: the attempts and their events.
    """

    shelf: Shelf[Attempt]
    _looking: Looking
    _debugging: Debugging
    _rpc: RpcServer

    @long_poll
    async def read(self, *args: Any) -> Batch:
        """`Shelf.read`, for a gateway without a socket connection."""
        return await self.shelf.read(*args)

    @long_poll
    async def outcome(self, *args: Any) -> Outcome | None:
        """`Shelf.outcome`, for a gateway without a socket connection."""
        return await self.shelf.outcome(*args)

    @long_poll
    async def retire(self) -> None:
        """Returns when readers have read all ended runs to their end, or have stopped asking."""
        await self.shelf.until_read()

    @repeatable
    async def address(self) -> RpcAddress | None:
        """Returns the address of this actor's RPC server; None where Ray encrypts its traffic."""
        host = rpc_host()
        return await self._rpc.address(host) if host else None

    @repeatable
    async def nodes(self) -> dict[str, list[dict[str, Any]]]:
        """`Looking.nodes`."""
        return self._looking.nodes()

    @repeatable
    async def notes(self, run_id: str, attempt: int) -> list[list[Any]] | None:
        """`Looking.notes`."""
        return self._looking.notes(run_id, attempt)

    @repeatable
    async def look(self) -> dict[str, Any]:
        """`Looking.look`."""
        return self._looking.look()

    @repeatable
    async def alive(self) -> None:
        """Never answers; the failure of this call tells the registry of this process's death."""
        self._debugging.leave_alone()
        await asyncio.Event().wait()
