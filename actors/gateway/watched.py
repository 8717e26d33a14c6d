"""What a gateway answers about runs that are executed, for people: overview, stack, pauses."""

from __future__ import annotations

from typing import Any

from actors.calls.directory import Handles
from actors.gateway.machines import Machines
from actors.gateway.overview import put_together, threads_of
from actors.gateway.routing import Registries
from greenroom.core.scopes import Scope
from greenroom.persistence.database import Pool
from greenroom.persistence.scoped import threads_within


class Watched:
    """The part of `greenroom.core.ports.Runtime` for people who watch a server."""

    _handles: Handles
    _machines: Machines
    _registries: Registries
    _database: Pool

    async def overview(self, *, scope: Scope) -> dict[str, Any]:
        parts = await self._registries.every("overview")
        readable = None
        if not scope.is_everything:
            readable = await threads_within(self._database, threads_of(parts), scope)
        return await put_together(parts, self._handles, self._machines, readable)
