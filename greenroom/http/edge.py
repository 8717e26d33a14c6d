"""The context of every route: the ports, the settings, and the mount of the request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection, Request

from greenroom.core.access import OPEN, Gate
from greenroom.core.errors import Conflict, NotFound
from greenroom.core.identity import system_assistant_id
from greenroom.core.ports import Runtime
from greenroom.core.records import Records
from greenroom.core.scopes import SERVER
from greenroom.core.store import StoreSpec
from greenroom.core.webhook_rules import UrlPolicy
from greenroom.http.mounting import path_within
from greenroom.http.settings import HttpSettings
from greenroom.http.usage import CallerUsage
from greenroom.sealing import UNSEALED, Sealing
from greenroom.wire.dialects import GATEWAY, PLATFORM, Dialect

log = logging.getLogger(__name__)

EDGE = "greenroom.edge"
"""Where the scope of a request has its own `Edge`."""


class Connections:
    """The open answers, and the remaining work for clients that disconnected."""

    def __init__(self) -> None:
        self._open: set[asyncio.Future[bool]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.draining = False

    def enter(self, leaving: asyncio.Future[bool]) -> None:
        """Registers an open answer.

        Args:
            leaving: resolved when the answer must end early: True when the client disconnected,
                False when the server drains.
        """
        self._open.add(leaving)
        self._is_idle.clear()
        if self.draining:
            leaving.set_result(False)

    def leave(self, leaving: asyncio.Future[bool]) -> None:
        self._open.discard(leaving)
        self._note_idle()

    def drain(self) -> None:
        """Breaks off every open answer without cancelling its run, so that clients reconnect."""
        self.draining = True
        for leaving in list(self._open):
            if not leaving.done():
                leaving.set_result(False)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs ``work`` to its end, independently of its request."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._tasks.add(task)
        self._is_idle.clear()
        task.add_done_callback(self._done)
        return task

    async def until_idle(self) -> None:
        """Waits until no answer is open and no spawned work is left."""
        await self._is_idle.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._note_idle()

    def _note_idle(self) -> None:
        if not len(self):
            self._is_idle.set()

    def __len__(self) -> int:
        return len(self._open) + len(self._tasks)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (NotFound, Conflict):
        return  # the run was over before its client disconnected
    except Exception:  # no caller awaits this task: an error that is not logged here is lost
        log.exception("What was to be done after a client left failed.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """The application's context for its routes; one per app, in ``app.state.edge``. With ``auth``
    each request has its own, which differs in the gate."""

    runtime: Runtime
    records: Records
    graphs: tuple[str, ...]
    default_graph: str | None
    settings: HttpSettings
    shipped_graphs: bool = False
    broken_graphs: Mapping[str, str] = field(default_factory=dict[str, str])
    store: StoreSpec = field(default_factory=StoreSpec)
    webhooks: UrlPolicy = field(default_factory=UrlPolicy)
    sealing: Sealing = UNSEALED
    connections: Connections = field(default_factory=Connections)
    gate: Gate = OPEN
    authenticates: bool = False
    usage: CallerUsage = field(default_factory=CallerUsage)

    async def serves(self, graph_id: str) -> bool:
        """Returns whether the graph exists, in the configuration or as a shipped graph."""
        if graph_id in self.graphs:
            return True
        if not self.shipped_graphs:
            return False
        # Not a question about a caller's records: graphs are the same for all.
        assistant_id = system_assistant_id(graph_id)
        return await self.records.assistant_of_run(assistant_id, scope=SERVER) is not None


def edge_of(request: HTTPConnection) -> Edge:
    return request.scope.get(EDGE) or request.app.state.edge


def dialect_of(request: HTTPConnection) -> Dialect:
    """Returns the dialect of the request's mount."""
    return GATEWAY if path_within(request.scope).startswith("/api/") else PLATFORM


def base_url(request: Request) -> str:
    """Returns the address under which the client reached the mount."""
    url = request.url
    # A proxy that ends TLS tells the scheme in this header.
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    scheme = told if told in ("http", "https") else url.scheme
    return f"{scheme}://{url.netloc}{dialect_of(request).prefix}"
