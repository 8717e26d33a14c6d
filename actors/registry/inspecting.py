"""Keeps the inspectors, so that user code that hangs or kills its process affects no other graph.

There are two duties, each with its own process, because the end of a run must never wait behind a
client's question: ``reads`` answers clients, ``ends`` settles threads. A dead inspector is replaced
at once. An inspector that asks for its replacement (a graph hangs) leaves when the next one is
ready. In addition each duty has, on demand, an inspector *apart*, which answers one question at a
time (`actors.inspector.asking` says when).

The first registry keeps the inspectors; the other registries and the gateways ask it for names.
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
from actors.inspector.asking import (
    ARRIVAL_WAIT_S,
    RECONNECT_S,
    SETTLE_S,
    STILL_STARTING,
    Deadly,
    Duty,
    Replaced,
    subject_of,
)
from greenroom.core.errors import Fenced, GreenroomError, Unavailable
from greenroom.graphs.store_section import EMBED

log = logging.getLogger("greenroom.inspecting")

SILENT_S = 15.0
"""How long an inspector may leave a heartbeat unanswered before it is killed: a graph's code holds
the interpreter and blocks all questions."""
APART_IDLE_S = 60.0
"""How long an inspector apart stays without a question."""
PAUSE_S = 1.0
FAREWELL_S = 0.5


@dataclass(slots=True)
class _Post:
    """The position of one inspector.

    Attributes:
        prefix: the prefix of its inspectors' names.
        is_lasting: whether it always has an inspector, or only on demand.
        name: the name of the current inspector.
        is_filling: whether an inspector is starting.
        ready: set while there is an inspector.
        turn: held during a question, at a position apart.
        used_s: the time of the last question (monotonic seconds).
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
        handles: the directory of actors.
        tasks: runs the background work.
        spec: the inspectors' specification; an inspector with another one is not adopted.
        make: starts an inspector of the given name and waits until its graphs are loaded; returns
            the problem, or None.
        inspect_s: the time-out of a question in seconds.
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
        self._renewing = asyncio.Lock()
        self._together = {duty: _Post(f"{INSPECTOR}-{duty}", is_lasting=True) for duty in Duty}
        self._apart = {duty: _Post(f"{INSPECTOR}-apart-{duty}", is_lasting=False) for duty in Duty}

    @property
    def names(self) -> list[str]:
        """The names of the inspectors that are ready."""
        posts = (*self._together.values(), *self._apart.values())
        return [post.name for post in posts if post.name is not None]

    @property
    def is_there(self) -> bool:
        """Whether an inspector is ready for clients' questions."""
        return self._together[Duty.READS].name is not None

    def keep(self) -> None:
        """Makes the lasting inspectors in the background, one by one to save the start's CPU."""
        self._tasks.spawn(self._keep())

    async def _keep(self) -> None:
        for post in self._together.values():
            self._want(post)
            await post.ready.wait()

    async def adopt(self, name: str, epoch: int, within_s: float) -> None:
        """Adopts an inspector of an earlier registry, or kills it if it is not needed.

        Args:
            name: the inspector's name.
            epoch: this registry's epoch.
            within_s: how many seconds the inspector has to answer.

        Raises:
            Fenced: the inspector obeys a newer registry.
        """
        post = next((p for p in self._together.values() if name.startswith(f"{p.prefix}-")), None)
        try:
            handle = await self._handles.find(name)
            async with asyncio.timeout(within_s):
                spec, _, _ = await answer(handle.adopt.remote(epoch), name)
        except Fenced:
            raise
        except Exception:  # an actor of older code may raise any error
            log.warning("an inspector could not be adopted", extra={"actor": name}, exc_info=True)
            spec = None
        if post is None or post.name is not None or spec != self._spec:
            await self._kill(name)
        else:
            self._fill_with(post, name)

    async def renew(self) -> None:
        """Replaces the inspectors, since the code of the graphs has changed.

        Each goes when its replacement is ready; if that does not start, it stays.
        """
        async with self._renewing:
            await self._renew()

    async def _renew(self) -> None:
        for post in self._apart.values():
            if post.name is not None and not post.turn.locked():
                self._tasks.spawn(self._kill(post.name))
                post.empty()
        for post in self._together.values():
            old = post.name
            if old is None:
                continue  # the next one is starting
            name = self._new_name(post)
            problem = await self._make(name)
            if problem is not None:
                log.warning("an inspector was not renewed", extra={"reason": problem})
                return
            if post.name not in (old, None):
                self._tasks.spawn(self._kill(name))  # the old one died meanwhile, and was replaced
                continue
            self._fill_with(post, name)
            self._tasks.spawn(self._see_off(post, old))

    def beat(self, epoch: int) -> None:
        """Sends heartbeats; kills inspectors that do not answer or are no longer needed."""
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
        """Returns the name of the shared inspector of a duty; waits for it.

        Raises:
            Unavailable: the inspector is not ready within `ARRIVAL_WAIT_S`.
        """
        return await self._arrived(self._together[duty])

    async def ask_apart(self, duty: Duty, graph_id: str, method: str, args: tuple[Any, ...]) -> Any:
        """Asks the inspector apart, one question at a time.

        Args:
            duty: the duty of the inspector.
            graph_id: the graph that the question is about.
            method: a method of `actors.inspector.actor.Inspector`.
            args: the method's arguments.

        Raises:
            Deadly: the process died during the question.
            Unanswered: the question took too long.
            Unavailable: the inspector is not ready within `ARRIVAL_WAIT_S`.
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
                    f"{subject_of(graph_id)} cannot be asked: its code ends the process that"
                    " calls it."
                    if graph_id == EMBED
                    else f"{subject_of(graph_id)} cannot be asked: its factory, or code of its"
                    " state, ends the process that calls it."
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
            raise Unavailable(STILL_STARTING) from None
        return post.name

    # --- one post ------------------------------------------------------------------------------

    def _want(self, post: _Post) -> None:
        """Makes an inspector in the background unless there is one or one is starting."""
        if post.name is None and not post.is_filling:
            post.is_filling = True
            self._tasks.spawn(self._fill(post))

    async def _fill(self, post: _Post) -> None:
        while True:
            name = self._new_name(post)
            problem = await self._make(name)
            if problem is None:
                break
            log.error("an inspector did not start", extra={"actor": name, "reason": problem})
            await asyncio.sleep(PAUSE_S)
        post.is_filling = False
        self._fill_with(post, name)

    @staticmethod
    def _new_name(post: _Post) -> str:
        return f"{post.prefix}-{uuid.uuid4().hex[:12]}"

    def _fill_with(self, post: _Post, name: str) -> None:
        post.name = name
        post.used_s = time.monotonic()
        post.ready.set()
        self._tasks.spawn(self._watch(post, name))

    async def _watch(self, post: _Post, name: str) -> None:
        """Waits until the inspector is dead or asks for its replacement; then replaces it."""
        replaced = False
        while not replaced:
            try:
                handle = await self._handles.find(name)
                await answer(handle.alive.remote(), name)
                replaced = True
            except ActorGone:
                break
            except Exception:  # noqa: BLE001 - a connection error of Ray is not a death
                await asyncio.sleep(RECONNECT_S)
        self._handles.forget(name)
        if replaced or post.name == name:  # else another one had its position already
            action = "inspector_replaced" if replaced else "inspector_died"
            log.warning(
                "An inspector is replaced." if replaced else "An inspector has died.",
                extra={"action": action, "actor": name},
            )
        if post.name == name:
            post.empty()
            if post.is_lasting:
                self._want(post)
        if replaced:
            await self._see_off(post, name)

    async def _see_off(self, post: _Post, name: str) -> None:
        """Ends an inspector after it has answered its questions and the next one is ready."""
        if post.is_lasting:
            await post.ready.wait()
        with suppress(GreenroomError, TimeoutError):  # it may be dead, or hold the interpreter
            async with asyncio.timeout(max(self._inspect_s, SETTLE_S) + SILENT_S):
                handle = await self._handles.find(name)
                await answer(handle.leave.remote(), name)
                await asyncio.sleep(FAREWELL_S)  # its last answers leave the process first
        await self._kill(name)

    async def _kill(self, name: str) -> None:
        await asyncio.to_thread(self._handles.kill, name)
