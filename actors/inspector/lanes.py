"""A lane: the thread of one graph, with an event loop and connections of its own.

A factory that blocks its thread holds up the questions about its own graph only. A question that
takes too long is cancelled; a lane that does not come free then is stuck, for good.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from langgraph.store.postgres.aio import AsyncPostgresStore

from actors.common.shipped import ShippedGraphs
from greenroom.core.errors import Unanswered
from greenroom.persistence.checkpoints import PooledSaver
from greenroom.persistence.database import Pool
from greenroom.persistence.saving import Saving

log = logging.getLogger("greenroom.inspector")

CANCEL_S = 1.0
"""What awaited code gets to end once it was cancelled."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Means:
    """What a lane's questions are answered with; all of it belongs to the lane's loop."""

    pool: Pool
    saving: Saving
    store: AsyncPostgresStore
    shipped: ShippedGraphs

    def saver(self, thread_id: str) -> PooledSaver:
        """For a question about a thread; empty for one about a graph."""
        return PooledSaver(self.pool, self.saving, thread_id=thread_id)


class Lane:
    """The thread of one graph: an event loop, and what belongs to it.

    Args:
        means: makes what its questions are answered with; called once, on the lane's loop.
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
        """Does something on the lane's loop; what it raises is raised here.

        Raises:
            Unanswered: not done in time. Then it has ended, or the lane is stuck for good.
        """
        if self.is_stuck:
            raise Unanswered(
                f"Graph '{self.graph_id}' cannot be asked: its code hangs over an earlier question."
            )
        self._asked += 1
        try:
            doing = asyncio.run_coroutine_threadsafe(self._bounded(work, within_s), self._loop)
            answer = asyncio.wrap_future(doing)
            # The bound holds on the lane, unless its code blocks it or takes no cancellation.
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
        except BaseException as error:  # SystemExit and the like would end the loop, not the task
            if isinstance(error, Exception) or self._is_cancelled():
                raise
            raise Unanswered(
                f"Graph '{self.graph_id}' raised {type(error).__name__} instead of an answer."
            ) from None

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def _late(self, within_s: float) -> Unanswered:
        return Unanswered(
            f"Graph '{self.graph_id}' did not answer within {within_s:g} s: its factory, or code"
            " of its state, takes longer. GREENROOM_INSPECT_S bounds what is asked about a graph."
        )

    async def _connected(self) -> Means:
        if self._means is None or (self._means.done() and self._means.exception() is not None):
            self._means = asyncio.ensure_future(self._make_means())
        return await asyncio.shield(self._means)

    def _keep_on(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException:  # a SystemExit in a task of the graph's own goes through the loop
                log.exception("a lane's loop was left", extra={"graph_id": self.graph_id})
        self._loop.close()

    def close(self) -> None:
        """Ends the thread; only of an idle lane."""

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
