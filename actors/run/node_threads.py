"""The threads of synchronous nodes, counted per run: a cancelled run may still occupy one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

executing: ContextVar[str] = ContextVar("greenroom_run_id", default="")
"""The id of the run whose code runs in this context; empty for the actor's own code."""


class NodeThreads(ThreadPoolExecutor):
    """The executor of the loop that executes graphs; counts the busy threads of each run."""

    def __init__(self) -> None:
        super().__init__(max_workers=64, thread_name_prefix="node")
        self._busy: dict[str, int] = {}
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._of_thread: dict[int, str] = {}

    def run_of(self, thread_id: int) -> str:
        """Returns the run for which a thread works now; empty for none."""
        return self._of_thread.get(thread_id, "")

    def _work(self, run_id: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        me = threading.get_ident()
        self._of_thread[me] = run_id
        try:
            return fn(*args, **kwargs)
        finally:
            self._of_thread.pop(me, None)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        run_id = executing.get()
        with self._lock:
            self._busy[run_id] = self._busy.get(run_id, 0) + 1
        try:
            future = super().submit(self._work, run_id, fn, *args, **kwargs)
        except RuntimeError:
            self._left(run_id)
            raise
        future.add_done_callback(lambda _: self._left(run_id))
        return future

    def _left(self, run_id: str) -> None:
        with self._lock:
            self._busy[run_id] -= 1
            if self._busy[run_id]:
                return
            del self._busy[run_id]
            waiting = self._waiting.pop(run_id, [])
        for wake in waiting:
            wake()

    async def quiet(self, run_id: str) -> None:
        """Waits until no thread works for the run. If one never ends, the registry kills the actor.

        Args:
            run_id: the run.
        """
        while True:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            with self._lock:
                if not self._busy.get(run_id):
                    return
                self._waiting.setdefault(run_id, []).append(waker(loop, future))
            await future


def waker(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> Callable[[], None]:
    """Returns a thread-safe callback that resolves the future on its loop."""

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no task waits any more
            loop.call_soon_threadsafe(resolve)

    return wake
