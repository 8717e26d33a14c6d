"""An inspector's lane: the thread of one graph, with its own event loop and connections.

The embedding of the store has a lane, too.

A factory that blocks its thread delays only the questions about its own graph. A question that
exceeds its time-out is cancelled; a lane that stays blocked then is stuck for good.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.inspector.asking import subject_of
from actors.inspector.loaded import Loaded, Means
from greenroom.core.errors import DatabaseUnavailable, Unanswered
from greenroom.graphs.store_section import EMBED
from greenroom.persistence.database import Pool

log = logging.getLogger("greenroom.inspector")

CANCEL_S = 1.0
"""The seconds that cancelled code gets to end."""

MOST_LANES = 64
PROBE_S = 1.0
"""The seconds in which a database answers that answers at all."""

T = TypeVar("T")


class Lane:
    """The thread of one graph, with its event loop.

    Args:
        graph_id: the graph, or `EMBED`.
        means: makes the lane's `Means`; called on the lane's loop, again only after a failure.

    Attributes:
        is_stuck: whether the lane is blocked for good.
    """

    def __init__(self, graph_id: str, means: Callable[[], Awaitable[Means]]) -> None:
        self.graph_id = graph_id
        self.is_stuck = False
        self._asked = 0
        self._make_means = means
        self._means: asyncio.Future[Means] | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        name = f"lane-{graph_id}"
        threading.Thread(target=self._keep_on, name=name, daemon=True).start()

    @property
    def is_idle(self) -> bool:
        return not self._asked and not self.is_stuck

    async def do(self, work: Callable[[Means], Awaitable[T]], within_s: float) -> T:
        """Executes work on the lane's loop; returns its result.

        Args:
            work: the work; it is cancelled after the time-out.
            within_s: the time-out in seconds.

        Raises:
            Unanswered: the work exceeded its time-out and was cancelled, or the lane is stuck.
            Exception: the exception that the work raised.
        """
        if self.is_stuck:
            raise Unanswered(
                f"{subject_of(self.graph_id)} cannot be asked: its code hangs over an earlier"
                " question."
            )
        self._asked += 1
        try:
            doing = asyncio.run_coroutine_threadsafe(self._bounded(work, within_s), self._loop)
            answer = asyncio.wrap_future(doing)
            # `_bounded` keeps the time-out, unless the code blocks the loop or ignores its cancel.
            await asyncio.wait({answer}, timeout=within_s + CANCEL_S)
            if answer.done():
                return answer.result()
            self.is_stuck = True
            answer.cancel()
            raise self._late(within_s)
        finally:
            self._asked -= 1

    async def _bounded(self, work: Callable[[Means], Awaitable[T]], within_s: float) -> T:
        deadline = asyncio.timeout(within_s)
        try:
            async with deadline:
                return await work(await self._connected())
        except TimeoutError:
            if deadline.expired():
                raise self._late(within_s) from None
            raise  # the graph's own
        except BaseException as error:  # e.g. SystemExit would end the loop, not only the task
            if isinstance(error, Exception) or self._is_cancelled():
                raise
            raise Unanswered(
                f"{subject_of(self.graph_id)} raised {type(error).__name__} instead of an answer."
            ) from None

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _late(self, within_s: float) -> Unanswered:
        subject = subject_of(self.graph_id)
        if self.graph_id == EMBED:
            why = f"{subject} did not answer within {within_s:g} s."
        else:
            why = (
                f"{subject} did not answer within {within_s:g} s: its factory, or code of its"
                " state, takes longer."
            )
        return Unanswered(f"{why} GREENROOM_INSPECT_S bounds what is asked about a graph.")

    async def _connected(self) -> Means:
        if self._means is None or (self._means.done() and self._means.exception() is not None):
            self._means = asyncio.ensure_future(self._make_means())
        return await asyncio.shield(self._means)

    def _keep_on(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException:  # a SystemExit in a task of the graph leaves the loop
                log.exception("a lane's loop was left", extra={"graph_id": self.graph_id})
        self._loop.close()

    def close(self) -> None:
        """Ends the thread. Call it for an idle lane only."""

        async def end() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=CANCEL_S)
            if self._means is not None:
                await (await self._means).pool.close()
            self._closed = True
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)


class Lanes:
    """The lanes of an inspector; each is made for its first question.

    Args:
        stuck: gets done when a lane is stuck for good: the process is to be replaced.
    """

    def __init__(self, stuck: concurrent.futures.Future[None]) -> None:
        self._stuck = stuck
        self._lanes: dict[str, Lane] = {}
        self._probe: asyncio.Future[None] | None = None

    @property
    def names(self) -> list[str]:
        """The graphs that have a lane, in the order of their last questions."""
        return list(self._lanes)

    async def do(
        self, name: str, here: Loaded, within_s: float, work: Callable[[Means], Awaitable[T]]
    ) -> T:
        """Executes work in a lane; returns its result.

        Args:
            name: the graph, or `EMBED`.
            here: makes the lane's `Means`, and has a connection to the database.
            within_s, work: as of `Lane.do`.

        Raises:
            DatabaseUnavailable: the work exceeded its time-out, and PostgreSQL does not answer
                either.
            Unanswered, Exception: as of `Lane.do`.
        """
        lane = self._lane(name, here)
        try:
            return await lane.do(work, within_s)
        except Unanswered:
            if not await self._answers(here.pool):
                # The graph is not to blame: a repeated question gets its answer later.
                raise DatabaseUnavailable("PostgreSQL does not answer.") from None
            raise
        finally:
            if lane.is_stuck:
                self.note_stuck(name)

    def note_stuck(self, name: str) -> None:
        """Notes that the code of a lane does not come back."""
        if not self._stuck.done():
            log.error(
                "A graph's code does not come back: the inspector is to be replaced.",
                extra={"action": "inspector_stuck", "graph_id": name},
            )
            self._stuck.set_result(None)

    async def _answers(self, database: Pool) -> bool:
        async def ask() -> None:
            async with database.connection() as connection:
                await connection.execute("SELECT 1")

        # Not cancelled: the cancellation of a query needs the server, which may be down. Shared by
        # all questions: the probe holds a connection until the server is back.
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(ask())
        probe = self._probe
        await asyncio.wait({probe}, timeout=PROBE_S)
        return probe.done() and probe.exception() is None

    def _lane(self, name: str, here: Loaded) -> Lane:
        lane = self._lanes.pop(name, None) or Lane(name, here.means)
        self._lanes[name] = lane  # in the order of last use
        if len(self._lanes) > MOST_LANES:
            idle = next((each for each in self._lanes.values() if each.is_idle), None)
            if idle is not None and idle is not lane:
                del self._lanes[idle.graph_id]
                idle.close()
        return lane

    def close(self) -> None:
        """Ends the threads, also those that had been given up. Call it when none is at work."""
        for lane in self._lanes.values():
            lane.close()
