"""An inspector's lane: the thread of one graph, with its own event loop and connections.

The embedding of the store has a lane, too.

A factory that blocks its thread delays only the questions about its own graph. A question that
exceeds its time-out is cancelled; a lane that stays blocked then is stuck for good.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.common.shipped import ShippedGraphs
from actors.inspector.asking import subject_of
from greenroom.core.errors import Unanswered
from greenroom.graphs.store_section import EMBED
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.saving import Saving
from greenroom.persistence.serializing import StateSerializer
from greenroom.persistence.store import Store

log = logging.getLogger("greenroom.inspector")

CANCEL_S = 1.0
"""The seconds that cancelled code gets to end."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Means:
    """A lane's connections, saver and stores; all of them belong to the lane's loop."""

    pool: Pool
    saving: Saving
    serde: StateSerializer
    store: Store
    shipped: ShippedGraphs

    def saver(self, thread_id: str) -> PooledSaver:
        """Returns a saver for a thread; the id is empty for a question about a graph."""
        return PooledSaver(self.pool, self.saving, thread_id=thread_id, serde=self.serde)


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
