"""Keeps the inspectors, so that user code which hangs or dies concerns nobody else.

There are two duties, each with a process of its own, since the end of a run must never wait behind
somebody who reads: ``reads`` answers clients' questions, ``ends`` settles threads. An inspector
that dies is made again; one that asks to be replaced (a graph of it hangs) leaves when the next one
is there. Beside them there is one *apart* for each duty, while somebody needs it: who asks there
asks alone (`actors.inspector.asking` says when).

Of several registries the first one keeps the inspectors; the others and the gateways ask it for
their names.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from actors.calls.answers import ActorGone, answer
from actors.calls.directory import Handles
from actors.calls.names import INSPECTOR
from actors.common.placement import PoolSpec
from actors.common.tasks import Tasks
from actors.inspector.asking import ARRIVAL_WAIT_S, RECONNECT_S, SETTLE_S, Deadly, Duty, Replaced
from greenroom.core.errors import Fenced, GreenroomError, Unavailable

log = logging.getLogger("greenroom.inspecting")

SILENT_S = 15.0
"""An inspector that does not even say that it is there is killed: code of a graph holds the
interpreter, so that nobody is answered."""
APART_IDLE_S = 60.0
"""How long a process for questions apart stays without one."""
PAUSE_S = 1.0
FAREWELL_S = 0.5


@dataclass(slots=True)
class _Post:
    """A place for one inspector.

    Attributes:
        prefix: of the names of its inspectors.
        is_lasting: there is always one; else only while somebody needs one.
        name: of the inspector that is asked now.
        turn: of a place apart: who asks there.
        used_s: when something was asked here last.
    """

    prefix: str
    is_lasting: bool
    name: str | None = None
    is_filling: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_s: float = 0.0

    def empty(self) -> None:
        self.name = None
        self.ready.clear()


class Inspectors:
    """The inspectors of a server.

    Args:
        spec: what they load; one with another is not taken over.
        make: starts a process of this name and has it load its graphs; the problem, or None.
        inspect_s: what a question may take.
    """

    def __init__(
        self,
        handles: Handles,
        tasks: Tasks,
        *,
        spec: PoolSpec,
        make: Callable[[str], Awaitable[str | None]],
        inspect_s: float,
    ) -> None:
        self._handles = handles
        self._tasks = tasks
        self._spec = spec
        self._make = make
        self._inspect_s = inspect_s
        self._together = {duty: _Post(f"{INSPECTOR}-{duty}", is_lasting=True) for duty in Duty}
        self._apart = {duty: _Post(f"{INSPECTOR}-apart-{duty}", is_lasting=False) for duty in Duty}

    @property
    def is_there(self) -> bool:
        """Whether clients' questions can be answered."""
        return self._together[Duty.READS].name is not None

    def keep(self) -> None:
        """Has those made that should always be there, one by one: a start is busy enough."""
        self._tasks.spawn(self._keep())

    async def _keep(self) -> None:
        for post in self._together.values():
            self._want(post)
            await post.ready.wait()

    async def adopt(self, name: str, epoch: int, within_s: float) -> None:
        """Takes over an inspector that an earlier registry has made, or ends it.

        Raises:
            Fenced: its registry is newer than this one.
        """
        post = next((p for p in self._together.values() if name.startswith(f"{p.prefix}-")), None)
        try:
            handle = await self._handles.find(name)
            async with asyncio.timeout(within_s):
                spec, _, _ = await answer(handle.adopt.remote(epoch), name)
        except Fenced:
            raise
        except Exception:  # an actor of older code may answer anything
            log.warning("an inspector could not be adopted", extra={"actor": name}, exc_info=True)
            spec = None
        if post is None or post.name is not None or spec != self._spec:
            await self._kill(name)
        else:
            self._fill_with(post, name)

    def beat(self, epoch: int) -> None:
        """Tells them that the registry is there; kills who does not answer or is not needed."""
        for post in (*self._together.values(), *self._apart.values()):
            if post.name is None:
                continue
            idle = not post.is_lasting and not post.turn.locked()
            if idle and time.monotonic() - post.used_s > APART_IDLE_S:
                self._tasks.spawn(self._kill(post.name))
                post.empty()
            else:
                self._tasks.spawn(self._beat(post.name, epoch))

    async def _beat(self, name: str, epoch: int) -> None:
        with suppress(GreenroomError):
            try:
                async with asyncio.timeout(SILENT_S):
                    handle = await self._handles.find(name)
                    await answer(handle.beat.remote(epoch), name)
            except TimeoutError:
                log.error("An inspector does not answer; it is killed.", extra={"actor": name})
                await self._kill(name)

    async def name(self, duty: Duty) -> str:
        """Who is asked together with others.

        Raises:
            Unavailable: it does not come in time.
        """
        return await self._arrived(self._together[duty])

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks where nothing else is asked meanwhile.

        Raises:
            Deadly: it ended that process.
            Unanswered: it took too long.
            Unavailable: the process does not come in time.
        """
        post = self._apart[duty]
        async with post.turn:
            name = await self._arrived(post)
            try:
                handle = await self._handles.find(name)
                return await answer(getattr(handle, method).remote(*args), name)
            except (ActorGone, Replaced):
                if post.name == name:
                    post.empty()
                log.error(
                    "A graph ends the process that asks about it.",
                    extra={"action": "inspector_killed", "graph_id": graph_id, "actor": name},
                )
                raise Deadly(
                    f"Graph '{graph_id}' cannot be asked: its factory, or code of its state, ends"
                    " the process that calls it."
                ) from None
            finally:
                post.used_s = time.monotonic()

    async def _arrived(self, post: _Post) -> str:
        self._want(post)
        try:
            async with asyncio.timeout(ARRIVAL_WAIT_S):
                while post.name is None:
                    await post.ready.wait()
        except TimeoutError:
            raise Unavailable("The inspector is still starting. Try again in a moment.") from None
        return post.name

    # --- one post ------------------------------------------------------------------------------

    def _want(self, post: _Post) -> None:
        """Has its inspector made, unless it is there or on its way."""
        if post.name is None and not post.is_filling:
            post.is_filling = True
            self._tasks.spawn(self._fill(post))

    async def _fill(self, post: _Post) -> None:
        while True:
            name = f"{post.prefix}-{uuid.uuid4().hex[:12]}"
            problem = await self._make(name)
            if problem is None:
                break
            log.error("an inspector did not start", extra={"actor": name, "reason": problem})
            await asyncio.sleep(PAUSE_S)
        post.is_filling = False
        self._fill_with(post, name)

    def _fill_with(self, post: _Post, name: str) -> None:
        post.name = name
        post.used_s = time.monotonic()
        post.ready.set()
        self._tasks.spawn(self._watch(post, name))

    async def _watch(self, post: _Post, name: str) -> None:
        """Until it is dead, or has left for another one."""
        replaced = False
        while not replaced:
            try:
                handle = await self._handles.find(name)
                await answer(handle.alive.remote(), name)
                replaced = True
            except ActorGone:
                break
            except Exception:  # noqa: BLE001 - whatever Ray says of a connection, it is no death
                await asyncio.sleep(RECONNECT_S)
        log.warning(
            "An inspector is replaced." if replaced else "An inspector has died.",
            extra={"action": "inspector_replaced" if replaced else "inspector_died", "actor": name},
        )
        self._handles.forget(name)
        if post.name == name:
            post.empty()
            if post.is_lasting:
                self._want(post)
        if replaced:
            await self._see_off(post, name)

    async def _see_off(self, post: _Post, name: str) -> None:
        """Ends an inspector without ending a question; it answers until the next one is there."""
        if post.is_lasting:
            await post.ready.wait()
        with suppress(GreenroomError, TimeoutError):  # it may be dead, or hold the interpreter
            async with asyncio.timeout(max(self._inspect_s, SETTLE_S) + SILENT_S):
                handle = await self._handles.find(name)
                await answer(handle.leave.remote(), name)
                await asyncio.sleep(FAREWELL_S)  # lets its last answers leave before it does
        await self._kill(name)

    async def _kill(self, name: str) -> None:
        await asyncio.to_thread(self._handles.kill, name)
